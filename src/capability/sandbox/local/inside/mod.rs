//! Everything that runs as a process of the sandbox: the launcher, the init process, and its helpers; and the fork server
//! that launchers come from.
//!
//! These processes have one thread, no runtime and no environment. They take orders over an inherited socket and must
//! never hold a secret longer than it takes to hand it to the command it belongs to.

mod files;
mod fork_server;
mod guest;
mod gvisor;
mod halt;
mod init;
mod landlock;
mod launcher;
mod mounts;
mod relay;
mod seccomp;
mod shim;
mod sys;
mod tree;

use crate::step::ErrorKind;
use std::ffi::CStr;
use std::fmt::Display;

/// First argument that makes the harvest binary a process of a sandbox instead of the command line.
pub const ENTRY: &str = "__sandbox";
const ENTRY_C: &CStr = c"__sandbox";

/// Runs the process that launchers come from and never returns. `main` calls it first of all when the first argument is
/// [`ENTRY`]: before any thread starts, because only a process with one thread can make a user namespace.
pub fn sandbox_main() -> ! {
    if std::env::args_os().nth(2).is_some_and(|second| second == init::AGAIN)
        && rustix::process::getpid().is_init()
    {
        init::go_on();
    }
    if std::env::args_os().nth(2).is_some_and(|second| second == guest::GUEST)
        && rustix::process::getpid().is_init()
    {
        guest::run(&std::env::args().skip(3).collect::<Vec<_>>());
    }
    let code = fork_server::run();
    std::process::exit(code)
}

/// Why something inside did not work, ready to be sent to the host.
#[derive(Debug)]
struct Failure {
    kind: ErrorKind,
    message: String,
}

impl Failure {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A failure of the machine to isolate: `missing` names the feature and the remedy.
    fn unavailable(missing: &str, error: impl Display) -> Self {
        Self::new(
            ErrorKind::UNAVAILABLE,
            format!("this machine cannot isolate a sandbox: {missing} ({error})"),
        )
    }

    /// A fork that failed.
    fn too_many_processes(error: &std::io::Error) -> Self {
        let limit = super::cgroup::PROCESS_LIMIT;
        Self::new(
            ErrorKind::QUOTA,
            format!(
                "the sandbox has reached its limit of {limit} processes and threads ({error}): end some of them"
            ),
        )
    }

    fn io(doing: impl Display, error: impl Into<std::io::Error>) -> Self {
        let error = crate::capability::CapabilityError::io(doing, &error.into());
        Self::new(error.kind, error.message)
    }
}
