//! The fork server: loads the binary once, and becomes the launcher of each sandbox by a fork, which takes a fraction of the
//! time that starting a program does.
//!
//! Launchers are children of the host as if it had started them: it waits for them, and they end with it.

use super::super::wire;
use super::{launcher, sys};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Serves orders of the socket at standard input, each with the socket of one launcher, until the host closes it.
pub(super) fn run() -> i32 {
    if sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong).is_err() {
        return launcher::NOT_FOR_PEOPLE;
    }
    let orders = io::stdin();
    let mut served = false;
    while let Ok(Some(((), mut fds))) = wire::receive(orders.as_fd()) {
        served = true;
        let Some(socket) = fds.pop() else { break };
        let answer: Result<i32, Option<i32>> = match sys::fork_sibling() {
            Ok(Some(pid)) => Ok(pid),
            Ok(None) => return become_launcher(socket),
            Err(error) => Err(error.raw_os_error()),
        };
        if wire::send(orders.as_fd(), &answer, &[]).is_err() {
            break;
        }
    }
    if served {
        return 0;
    }
    eprintln!("this is how harvest starts sandboxes; it is not for people: try `harvest exec -- CMD`");
    launcher::NOT_FOR_PEOPLE
}

fn become_launcher(socket: OwnedFd) -> i32 {
    // Ctrl-C at the terminal is for harvest to handle, not for its sandboxes.
    let own_group = rustix::process::setpgid(None, None);
    if own_group.is_err() || sys::place(socket.as_fd(), 0).is_err() {
        return launcher::NOT_FOR_PEOPLE;
    }
    drop(socket);
    launcher::run()
}
