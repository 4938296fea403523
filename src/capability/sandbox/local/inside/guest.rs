//! The first process of a sandbox whose root directory another program has made, such as gVisor's: the init process
//! without the building.

use super::super::plan::Reply;
use super::super::wire;
use super::{Failure, init, seccomp, sys};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};

/// Second argument of this process.
pub(super) const GUEST: &str = "guest";
/// Further argument where only one user id is mapped.
pub(super) const EMULATED: &str = "emulated";
/// Further argument where it is not started with the host's sockets, but finds one at [`SOCKET`].
pub(super) const CONNECT: &str = "connect";
/// Where that socket is.
const SOCKET: &str = "/dev/.harvest/run/socket";

/// Takes requests from the host's socket, after a word about the start.
pub(super) fn run(arguments: &[String]) -> ! {
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let emulated = has(EMULATED);
    let (boot, signals) = match begin(has(CONNECT)) {
        Ok(both) => both,
        // Without the socket there is nobody to tell.
        Err(_) => sys::exit(1),
    };
    let reply = match give_up_powers(emulated) {
        Ok(()) => Reply::Ready,
        Err(Failure { kind, message }) => Reply::Failed { kind, message },
    };
    let told = wire::send(boot.as_fd(), &reply, &[]);
    if told.is_err() || reply != Reply::Ready {
        sys::exit(1);
    }
    drop(boot);
    init::serve(signals.as_fd())
}

/// Has the host's socket at standard input, and returns the one for the start with a descriptor of signals.
fn begin(connect: bool) -> std::io::Result<(OwnedFd, OwnedFd)> {
    let boot = if connect {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(SOCKET)?)?;
        sys::place(socket.as_fd(), 0)?;
        socket
    } else {
        // Off standard output, where a command would inherit it.
        rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?
    };
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for number in [1, 2] {
        sys::place(null.as_fd(), number)?;
    }
    Ok((boot, sys::signals()?))
}

/// The capabilities are those that the runtime was told to leave.
fn give_up_powers(emulated: bool) -> Result<(), Failure> {
    let step = |doing: &'static str| move |error: std::io::Error| Failure::io(doing, error);
    // Without it, nobody could say what a command has started.
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
        .map_err(|error| Failure::unavailable("gVisor is too old and knows no subreapers", error))?;
    sys::prctl(libc::PR_SET_DUMPABLE, 0).map_err(step("hide the init process"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    sys::limit_resource(libc::RLIMIT_CORE, 0).map_err(step("switch off core dumps"))?;
    sys::new_session();
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(step("give up new privileges"))?;
    sys::install_filter(&seccomp::program(emulated))
        .map_err(|error| Failure::unavailable("seccomp filters are refused", error))
}
