//! Kills trees of processes, also those that fork as fast as they are killed. Never touches a process outside the tree.

use super::sys;
use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;

/// Milliseconds to wait for deaths before looking again.
const PAUSE_MS: i32 = 2;

/// Kills every descendant of this process except `spared` children and what is below them. Returns the pids and wait
/// statuses of the children that died meanwhile.
pub(super) fn kill_descendants(
    signals: BorrowedFd<'_>,
    spared: &HashSet<libc::pid_t>,
) -> Vec<(libc::pid_t, libc::c_int)> {
    let mut reaped = Vec::new();
    let mut stopped = HashSet::new();
    loop {
        let doomed = descendants(spared);
        let fresh: Vec<_> = doomed.iter().copied().filter(|pid| !stopped.contains(pid)).collect();
        if !fresh.is_empty() {
            // A stopped process forks no more, so this ends once every fork under way has been seen.
            for pid in fresh {
                sys::signal(pid, libc::SIGSTOP);
                stopped.insert(pid);
            }
            continue;
        }
        // Zombies are sent the signal too: a process whose first thread has ended looks like one and lives on.
        for pid in &doomed {
            sys::signal(*pid, libc::SIGKILL);
        }
        let childless = loop {
            match sys::reap() {
                Ok(Some(child)) => {
                    stopped.remove(&child.0);
                    reaped.push(child);
                }
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        // Every descendant hangs below some child of this subreaper. Without children there is none, whatever a scan
        // that raced with forks has seen.
        if childless || (doomed.is_empty() && !spared.is_empty()) {
            return reaped;
        }
        sys::poll([signals], PAUSE_MS);
        while sys::next_signal(signals).is_some() {}
    }
}

/// Descendants of this process, without `spared` children and what is below them.
fn descendants(spared: &HashSet<libc::pid_t>) -> Vec<libc::pid_t> {
    let mut children: HashMap<libc::pid_t, Vec<libc::pid_t>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent_of(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut waiting = vec![std::process::id() as libc::pid_t];
    while let Some(parent) = waiting.pop() {
        for pid in children.remove(&parent).unwrap_or_default() {
            if !spared.contains(&pid) {
                found.push(pid);
                waiting.push(pid);
            }
        }
    }
    found
}

/// The parent out of `/proc/PID/stat`. The name before it is chosen by the process and may hold anything.
fn parent_of(stat: &[u8]) -> Option<libc::pid_t> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parent_of;

    #[test]
    fn a_process_cannot_forge_its_parent_with_its_name() {
        assert_eq!(parent_of(b"7 (x) R 1 (y) S 42 7 7 0"), Some(42));
        assert_eq!(parent_of(b"7 (no end"), None);
    }
}
