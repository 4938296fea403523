//! What the limits of a sandbox have done to its commands: counted by kernel and watchdogs, read when a command has ended
//! badly, so that its error names the limit and not the signal.

use super::cgroup::{self, Limits};
use crate::capability::CapabilityError;
use crate::step::ErrorKind;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Kills at the limits of one sandbox.
#[derive(Debug)]
pub(super) struct Strikes {
    limits: Limits,
    /// Where the kernel counts those at the limit of memory.
    kernel: Option<PathBuf>,
    memory: AtomicU64,
    disk: AtomicU64,
    /// Its longest life, once that is over.
    expired: OnceLock<Duration>,
}

/// How many there were at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    memory: u64,
    disk: u64,
}

impl Strikes {
    /// None yet. `kernel` is the file in which the kernel counts those at the limit of memory.
    pub(super) fn new(limits: Limits, kernel: Option<PathBuf>) -> Self {
        let (memory, disk) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { limits, kernel, memory, disk, expired: OnceLock::new() }
    }

    /// Counts a process that is about to be killed at the limit of memory.
    pub(super) fn memory(&self) {
        self.memory.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts commands that are about to be killed at the limit of disk space.
    pub(super) fn disk(&self) {
        self.disk.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes that the sandbox is about to be ended at its longest life.
    pub(super) fn expire(&self, life: Duration) {
        let _ = self.expired.set(life);
    }

    /// What to say of a sandbox that has ended at its longest life.
    pub(super) fn expired(&self) -> Option<CapabilityError> {
        let life = self.expired.get()?;
        let message = format!(
            "the sandbox was ended at its longest life of {} s: write a longer `timeout` in the sandbox",
            life.as_secs_f64()
        );
        Some(CapabilityError::new(ErrorKind::SANDBOX_LOST, message))
    }

    pub(super) fn count(&self) -> Count {
        let by_kernel = self.kernel.as_deref().and_then(cgroup::kills).unwrap_or_default();
        Count {
            memory: self.memory.load(Ordering::SeqCst) + by_kernel,
            disk: self.disk.load(Ordering::SeqCst),
        }
    }

    /// The limit at which there were kills since then.
    pub(super) fn since(&self, then: Count) -> Option<CapabilityError> {
        let now = self.count();
        let reached = |what: &str, key: &str, limit: Option<u64>, killed: &str| {
            let limit = limit.unwrap_or_default();
            let message = format!(
                "the sandbox reached its limit of {what}, {}, and {killed} was killed: write `{key}: {}` or more in the \
                 sandbox, or use less",
                size(limit),
                size(limit.saturating_mul(2)),
            );
            Some(CapabilityError::new(ErrorKind::QUOTA, message))
        };
        if now.disk > then.disk {
            return reached("disk space", "disk", self.limits.disk, "what ran in it");
        }
        if now.memory > then.memory {
            return reached("memory", "memory", self.limits.memory, "its largest process");
        }
        None
    }
}

/// Bytes as workflow files write them.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_killed_is_named_with_the_line_to_write() {
        let limits = Limits { memory: Some(100 << 20), cpu: None, disk: Some(1 << 30) };
        let strikes = Strikes::new(limits, None);
        let start = strikes.count();
        assert_eq!(strikes.since(start), None);
        strikes.memory();
        insta::assert_snapshot!(strikes.since(start).unwrap(), @"the sandbox reached its limit of memory, 100MiB, and its largest process was killed: write `memory: 200MiB` or more in the sandbox, or use less");
        let later = strikes.count();
        assert_eq!(strikes.since(later), None, "what was killed before is no business of a later command");
        strikes.disk();
        insta::assert_snapshot!(strikes.since(later).unwrap(), @"the sandbox reached its limit of disk space, 1GiB, and what ran in it was killed: write `disk: 2GiB` or more in the sandbox, or use less");
    }

    #[test]
    fn sizes_are_those_that_files_take() {
        for (bytes, text) in
            [(1 << 30, "1GiB"), (1536 << 20, "1536MiB"), (4096, "4KiB"), (1000, "1000B"), (0, "0B")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
