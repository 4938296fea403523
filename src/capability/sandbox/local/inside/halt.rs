//! Stops every process of the sandbox until the host lets go, so that its files can be copied as of one moment.

use super::super::plan::Reply;
use super::super::wire;
use super::{Failure, sys};
use crate::step::ErrorKind;
use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Milliseconds to wait for processes to stop before looking again.
const PAUSE_MS: i32 = 2;
/// Looks after which all are let go and stopped anew. A parent in vfork waits for its child, and cannot be stopped as long
/// as that one is.
const PATIENCE: u32 = 100;

/// Stops all but the init process and this one. Descriptors: details, replies.
pub(super) fn hold(fds: &[OwnedFd]) -> Result<(), Failure> {
    let [_, host, ..] = fds else {
        return Err(Failure::new(ErrorKind::INVALID, "a freeze came without a socket"));
    };
    let mut stopped = HashSet::new();
    if stop_all(host.as_fd(), &mut stopped) {
        drop(wire::send(host.as_fd(), &Reply::Done, &[]));
        // The host says nothing more: it closes the socket when it has copied, or when it dies.
        while !sys::poll([host.as_fd()], -1)[0] {}
    }
    for pid in stopped {
        sys::signal(pid, libc::SIGCONT);
    }
    Ok(())
}

/// Stops processes until a look finds none that could move; `false` where the host did not wait for that. One look is
/// not enough: a process may be forked, or set going by another one, while the rest is being stopped.
fn stop_all(host: BorrowedFd<'_>, stopped: &mut HashSet<libc::pid_t>) -> bool {
    for look in 1_u32.. {
        let moving = moving();
        if moving.is_empty() {
            return true;
        }
        if look.is_multiple_of(PATIENCE) {
            stopped.drain().for_each(|pid| sys::signal(pid, libc::SIGCONT));
        }
        for pid in moving {
            // Those that were stopped before are not among them, and stay so afterwards.
            sys::signal(pid, libc::SIGSTOP);
            stopped.insert(pid);
        }
        if sys::poll([host], PAUSE_MS)[0] {
            break;
        }
    }
    false
}

/// Processes with a thread that is neither stopped nor dead.
fn moving() -> Vec<libc::pid_t> {
    let own = std::process::id();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|pid| ![1, own].contains(pid) && moves(*pid)).map(|pid| pid as libc::pid_t).collect()
}

/// A process whose first thread has ended looks dead, and its others may live on.
fn moves(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut states = threads.filter_map(|thread| state(&fs::read(thread.path().join("stat")).ok()?));
    states.any(|state| !matches!(state, b'T' | b't' | b'Z' | b'X'))
}

/// The state out of `/proc/PID/stat`. The name before it is chosen by the process and may hold anything.
fn state(stat: &[u8]) -> Option<u8> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    stat[after..].iter().copied().find(|byte| *byte != b' ')
}

#[cfg(test)]
mod tests {
    use super::{moves, state};

    #[test]
    fn a_process_cannot_forge_its_state_with_its_name() {
        assert_eq!(state(b"7 (x) T 1 (y) R 42 7"), Some(b'R'));
        assert_eq!(state(b"7 (no end"), None);
        assert!(moves(std::process::id()), "whoever asks is running");
    }
}
