//! A process in the background that carries on whatever nobody drives, and what it tells whoever started it.

use super::Failure;
use crate::config::Home;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Bytes of its complaint that are passed on.
const COMPLAINT_MAX: u64 = 8 * 1024;

/// Starts it, and returns once it has the journal. Fails with what it says where it ends before that: the run is kept.
pub(super) fn start(home: &Home) -> Result<(), Failure> {
    let mut command = Command::new(std::env::current_exe().map_err(|error| refused(4, &error.to_string()))?);
    command.arg("--home").arg(home.path()).args(["--quiet", "resume", "--background"]);
    hand_over(command)
}

/// Starts a command and waits until it is at work.
fn hand_over(mut command: Command) -> Result<(), Failure> {
    let failed = |error: io::Error| refused(4, &error.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut ready = [0];
    if stdout.is_some_and(|mut stdout| stdout.read_exact(&mut ready).is_ok()) {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(stderr) = stderr {
        stderr.take(COMPLAINT_MAX).read_to_string(&mut said).map_err(failed)?;
    }
    let code = child.wait().map_err(failed)?.code();
    Err(refused(
        code.and_then(|code| code.try_into().ok()).unwrap_or(4),
        said.trim().trim_start_matches("error: "),
    ))
}

/// Says, in that process, that it is at work, and lets go of what it shared with whoever started it.
pub(super) fn at_work() -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure { exit_code: 4, message: format!("cannot go to the background: {error}") };
    let mut stdout = io::stdout();
    stdout.write_all(b"\n").and_then(|()| stdout.flush()).map_err(failed)?;
    let nothing = std::fs::OpenOptions::new().write(true).open("/dev/null").map_err(failed)?;
    for shared in [libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: both are numbers of open descriptors; stdout and stderr stay open, to another file.
        if unsafe { libc::dup2(nothing.as_raw_fd(), shared) } < 0 {
            return Err(failed(io::Error::last_os_error()));
        }
    }
    Ok(())
}

fn refused(exit_code: u8, why: &str) -> Failure {
    let message = format!(
        "cannot start a background process: {why}; the run is kept, and `harvest resume` runs it here"
    );
    Failure { exit_code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        command
    }

    #[test]
    fn what_ends_before_it_is_at_work_is_told_with_its_own_words() {
        let failure = hand_over(script("echo 'error: the journal is busy' >&2; exit 3")).unwrap_err();
        assert_eq!(failure.exit_code, 3);
        insta::assert_snapshot!(failure.message, @"cannot start a background process: the journal is busy; the run is kept, and `harvest resume` runs it here");
        assert_eq!(hand_over(script("kill -9 $$")).unwrap_err().exit_code, 4);
    }

    #[test]
    fn what_is_at_work_is_left_alone() {
        // It ends when its stdin, which is none, has ended.
        assert!(hand_over(script("echo; exec cat >/dev/null 2>&1")).is_ok());
    }
}
