//! Whether the processes of a sandbox live on though nobody holds its lock.
//!
//! A launcher holds the lock until the last process is gone, unless it is killed itself. Then the kernel ends the sandbox by
//! way of its init process, which takes a moment, and in that moment the lock is free. So the launcher leaves a note in the
//! lock's file of who the init process is: a pid, and when it started, for pids are used again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// Most bytes of a note: two numbers.
const NOTE: usize = 64;

/// Notes the init process before it does anything.
pub(super) fn note(lock: &File, init: libc::pid_t) -> io::Result<()> {
    let started = start_of(init).ok_or_else(|| io::Error::other("the init process ended at once"))?;
    let note = format!("{init} {started}\n");
    lock.write_all_at(format!("{note:<NOTE$}").as_bytes(), 0)
}

/// Whether the init process that was noted last is still there, dying perhaps.
pub(super) fn lives(lock: &File) -> bool {
    let mut bytes = [0; NOTE];
    let Ok(length) = lock.read_at(&mut bytes, 0) else { return false };
    let text = String::from_utf8_lossy(&bytes[..length]);
    let mut numbers = text.split_whitespace();
    let (Some(pid), Some(started)) = (numbers.next(), numbers.next()) else { return false };
    pid.parse().is_ok_and(|pid| start_of(pid).is_some_and(|start| start.to_string() == started))
}

/// When a process started, in ticks since the machine did; `None` where it is gone. An init process is a zombie only when
/// all others of its pid namespace are gone.
fn start_of(pid: libc::pid_t) -> Option<u64> {
    const STATE: usize = 0;
    const START: usize = 19;
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name before chooses itself and may hold anything.
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields: Vec<_> = std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace().collect();
    let gone = matches!(fields.get(STATE), None | Some(&("Z" | "X")));
    if gone { None } else { fields.get(START)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::{lives, note};
    use std::process::{Command, Stdio};

    #[test]
    fn who_was_noted_lives_until_it_ends() {
        let lock = tempfile::tempfile().expect("a file");
        assert!(!lives(&lock), "nobody was noted");
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("starts");
        note(&lock, child.id().cast_signed()).expect("noted");
        assert!(lives(&lock));
        child.kill().expect("killed");
        let kept = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), kept).expect("ends");
        assert!(!lives(&lock), "a zombie");
        child.wait().expect("reaped");
        assert!(!lives(&lock));
    }

    #[test]
    fn a_pid_that_is_used_again_is_somebody_else() {
        let lock = tempfile::tempfile().expect("a file");
        let own = std::process::id().cast_signed();
        note(&lock, own).expect("noted");
        assert!(lives(&lock));
        std::os::unix::fs::FileExt::write_all_at(&lock, format!("{own} 1\n").as_bytes(), 0).expect("written");
        assert!(!lives(&lock));
    }
}
