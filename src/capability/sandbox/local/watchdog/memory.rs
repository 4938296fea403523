//! The memory of a tree of processes, and what is killed where that is too much. First the resident sets are added up,
//! which is cheap and counts shared pages several times; only where that is too much, the kernel is asked for the shares.

use super::super::strikes::Strikes;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::HashSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Most processes that are looked at: more than a sandbox may have.
const PROCESSES_LIMIT: usize = 4096;
/// How far commands are below the launcher: below it is the init process, below that their supervisors.
const COMMAND_DEPTH: usize = 3;

/// Whether the kernel tells who descends from whom (`CONFIG_PROC_CHILDREN`).
pub(in super::super) fn works() -> bool {
    Path::new("/proc/thread-self/children").exists()
}

/// A process of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    /// Generations below the launcher.
    depth: usize,
}

/// Kills the largest commands below `launcher` until the rest fits into `limit` bytes. Each is counted first, so that
/// whoever sees its end can know why.
pub(super) fn hold(launcher: u32, limit: u64, strikes: &Strikes) {
    let resident: u64 = descendants(launcher).iter().map(|process| resident(process.pid)).sum();
    if resident <= limit {
        return;
    }
    let mut all: Vec<_> =
        descendants(launcher).into_iter().map(|process| (share(process.pid), process)).collect();
    let mut used: u64 = all.iter().map(|(bytes, _)| bytes).sum();
    all.retain(|(_, process)| process.depth >= COMMAND_DEPTH);
    all.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    for (bytes, process) in all {
        if used <= limit {
            return;
        }
        let Some(handle) = handle(process.pid) else { continue };
        // Its number may have gone to somebody else since; what the handle stands for cannot change any more.
        if descendants(launcher).contains(&process) {
            strikes.memory();
            // One that has just ended needs no killing.
            let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
        }
        used = used.saturating_sub(bytes);
    }
}

fn handle(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Everything that descends from a process, without it.
fn descendants(root: u32) -> Vec<Process> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut open = vec![Process { pid: root, depth: 0 }];
    while let Some(parent) = open.pop() {
        // Threads have children of their own.
        for thread in fs::read_dir(format!("/proc/{}/task", parent.pid)).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                if found.len() < PROCESSES_LIMIT && seen.insert(pid) {
                    let child = Process { pid, depth: parent.depth + 1 };
                    found.push(child);
                    open.push(child);
                }
            }
        }
    }
    found
}

/// Bytes of memory that a process has in use, those it shares included; 0 where it is gone.
fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * page_size()
}

fn page_size() -> u64 {
    // SAFETY: asks for a constant of the machine.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Bytes of memory of its own, and its share of what it has together with others. Pages of files do not count: they can
/// be had again.
fn share(pid: u32) -> u64 {
    match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        Ok(text) => shares(&text),
        // Not for us to see: then all that it uses.
        Err(_) => resident(pid),
    }
}

fn shares(rollup: &str) -> u64 {
    let kilobytes = |key: &str| -> u64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
    };
    (kilobytes("Pss_Anon:") + kilobytes("Pss_Shmem:")) << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_found_with_its_generations() {
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "exec 3<&0; sh -c 'read line; true' <&3 & wait; true"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let own = std::process::id();
        let inner = loop {
            let all = descendants(own);
            let outer = all.iter().find(|process| process.pid == shell.id());
            if outer.is_some_and(|outer| outer.depth == 1)
                && let Some(inner) = descendants(shell.id()).first().copied()
            {
                assert!(descendants(own).contains(&Process { depth: 2, ..inner }));
                break inner;
            }
        };
        assert!(resident(inner.pid) > 0 && resident(u32::MAX) == 0);
        shell.kill().unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn pages_of_files_do_not_count() {
        let rollup = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss: 9000 kB\nPss: 5000 kB\nPss_Anon:            300 kB\n\
                      Pss_File:           4600 kB\nPss_Shmem:           100 kB\nShared_Clean: 1 kB\n";
        assert_eq!(shares(rollup), 400 << 10);
    }
}
