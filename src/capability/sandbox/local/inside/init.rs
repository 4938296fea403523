//! The init process of a sandbox: builds the file tree, gives up its powers, then forks a helper per request.
//!
//! It never reads the details of a request, so no secret passes through its memory. When the host closes the socket it
//! exits, and the kernel kills every process of the sandbox with it.

use super::super::plan::{Ids, Plan, Reply, Request};
use super::super::wire;
use super::{Failure, files, gvisor, halt, landlock, mounts, relay, seccomp, shim, sys, tree};
use crate::step::ErrorKind;
use rustix::fs::{Mode, OFlags};
use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// chown, dac_override, fowner, fsetid, kill, setgid, setuid, net_bind_service, sys_chroot, setfcap.
pub(super) const CAPABILITIES: u64 =
    1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 18 | 1 << 31;

/// Second argument of the init process where it is executed anew.
pub(super) const AGAIN: &str = "init";
/// Number of the first descriptor that it then finds: replies about the start, the launcher's gate, signals, the plan.
const FIRST: i32 = 3;

/// Runs the init process in its new namespaces, with the host's socket at standard input. Ends with the process. `tasks`
/// are the files of groups that it is to move itself to.
pub(super) fn begin(plan: &Plan, fds: [&OwnedFd; 4], tasks: Vec<File>) -> ! {
    let [boot, gate, signals, _] = fds;
    let ready = join(tasks).and_then(|()| wait_for_ids(gate));
    if let (Ok(()), Some(runtime)) = (&ready, &plan.runtime) {
        gvisor::run(plan, runtime, [boot, gate, signals]);
    }
    let result = ready.and_then(|()| match plan.ids {
        Ids::Range => build(plan, gate),
        // A user's sandbox has the user's own id, and could overwrite this very binary by way of `/proc/self/exe` in the
        // first line of a script. Executed from a read-only mount, the binary cannot be opened for writing.
        Ids::Emulated { .. } => again(fds),
    });
    finish(result, boot, signals)
}

/// Goes on after [`again`].
pub(super) fn go_on() -> ! {
    // SAFETY: `again` has put descriptors at these numbers, and nothing else has used them since.
    let [boot, gate, signals, details] = [0, 1, 2, 3].map(|n| unsafe { OwnedFd::from_raw_fd(FIRST + n) });
    sys::close_on_exec();
    let result = wire::recall::<Plan>(&details)
        .map_err(|error| Failure::io("read the plan of the sandbox", error))
        .and_then(|plan| build(&plan, &gate));
    drop((gate, details));
    finish(result, &boot, &signals)
}

fn finish(result: Result<(), Failure>, boot: &OwnedFd, signals: &OwnedFd) -> ! {
    if let Err(failure) = result {
        let reply = Reply::Failed { kind: failure.kind, message: failure.message };
        drop(wire::send(boot.as_fd(), &reply, &[]));
        sys::exit(1);
    }
    // The host keeps the file tree mounted a little longer than there are processes: `lingering.rs` says why.
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let handed: Vec<_> = root.iter().map(AsFd::as_fd).collect();
    drop(wire::send(boot.as_fd(), &Reply::Ready, &handed));
    serve(signals.as_fd())
}

/// Moves this process, which has one thread, to groups by their files of tasks.
fn join(tasks: Vec<File>) -> Result<(), Failure> {
    // To the kernel, 0 is whoever writes.
    let join = |mut file: File| file.write_all(b"0");
    tasks.into_iter().try_for_each(join).map_err(|error| Failure::io("join the sandbox's cgroup", error))
}

/// Waits until the launcher has mapped the ids.
fn wait_for_ids(gate: &OwnedFd) -> Result<(), Failure> {
    match wire::receive::<()>(gate.as_fd()) {
        Ok(Some(_)) => Ok(()),
        _ => Err(Failure::new(ErrorKind::UNAVAILABLE, "the launcher ended before the sandbox was up")),
    }
}

/// Executes this binary once more, from a read-only mount. Comes back only to say why not.
fn again(fds: [&OwnedFd; 4]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::io("execute harvest from a read-only mount", error);
    let path = std::fs::read_link("/proc/self/exe").map_err(failed)?;
    mounts::separate()?;
    let binary = mounts::take(rustix::fs::CWD, &path, true).map_err(failed)?;
    // High numbers first, so that none is overwritten before it has moved.
    let high = fds.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, FIRST + 8));
    for (number, fd) in (FIRST..).zip(high) {
        sys::place(fd.map_err(|errno| failed(errno.into()))?.as_fd(), number).map_err(failed)?;
    }
    Err(failed(sys::execute(binary.as_fd(), &[c"harvest", super::ENTRY_C, c"init"])))
}

fn build(plan: &Plan, gate: &OwnedFd) -> Result<(), Failure> {
    let step = |doing: &'static str| move |error: std::io::Error| Failure::io(doing, error);
    // Opened while still the host's user: the state directory is closed to the ids of the sandbox.
    let tree = mounts::Tree::open(plan)?;
    settle(plan, gate)?;
    tree.build(plan)?;
    sys::limit_resource(libc::RLIMIT_CORE, 0).map_err(step("switch off core dumps"))?;
    sys::new_session();
    sys::limit_capabilities(CAPABILITIES).map_err(step("give up capabilities"))?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(step("give up new privileges"))?;
    landlock::enclose()?;
    sys::install_filter(&seccomp::program(plan.ids != Ids::Range))
        .map_err(|error| Failure::unavailable("seccomp filters are refused", error))
}

/// Makes the new namespaces the sandbox's own: its ids, its loopback, its name, its limit of processes, and its end with
/// the launcher.
pub(super) fn settle(plan: &Plan, gate: &OwnedFd) -> Result<(), Failure> {
    let step = |doing: &'static str| move |error: std::io::Error| Failure::io(doing, error);
    if plan.ids == Ids::Range {
        sys::become_user(0, 0, &[]).map_err(step("take on the ids of the sandbox"))?;
    }
    // Only now: changing ids clears the setting.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong)
        .map_err(step("tie the sandbox to its launcher"))?;
    // The launcher holds the other end for as long as it lives.
    if sys::poll([gate.as_fd()], 0)[0] {
        return Err(Failure::new(ErrorKind::UNAVAILABLE, "the launcher ended before the sandbox was up"));
    }
    sys::prctl(libc::PR_SET_DUMPABLE, 0).map_err(step("hide the init process"))?;
    if plan.isolate_network {
        sys::raise_loopback().map_err(step("raise the loopback interface"))?;
    }
    sys::set_hostname("sandbox").map_err(step("name the sandbox"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if let Some(limit) = plan.process_limit {
        sys::limit_resource(libc::RLIMIT_NPROC, limit).map_err(step("limit the number of processes"))?;
    }
    Ok(())
}

/// Takes requests until the host closes the socket.
pub(super) fn serve(signals: BorrowedFd<'_>) -> ! {
    let stdin = std::io::stdin();
    let host = stdin.as_fd();
    let mut helpers = HashSet::new();
    loop {
        let [request, signal] = sys::poll([host, signals], -1);
        if signal {
            while sys::next_signal(signals).is_some() {}
            reap(&mut helpers, signals);
        }
        if request {
            match wire::receive::<Request>(host) {
                Ok(Some((request, fds))) => helpers.extend(start(request, fds)),
                _ => sys::exit(0),
            }
        }
    }
}

/// Forks the helper for one request and returns its pid.
fn start(request: Request, fds: Vec<OwnedFd>) -> Option<libc::pid_t> {
    if fds.len() < 2 {
        return None;
    }
    match sys::fork() {
        Ok(Some(pid)) => Some(pid),
        Ok(None) => {
            let result = match request {
                Request::Exec => shim::run(&fds),
                Request::Read => files::read(&fds),
                Request::Write => files::write(&fds),
                Request::Listen => files::listen(&fds),
                Request::Freeze => halt::hold(&fds),
                Request::Relay => relay::listen(&fds),
            };
            if let Err(failure) = result {
                let reply = Reply::Failed { kind: failure.kind, message: failure.message };
                drop(wire::send(fds[1].as_fd(), &reply, &[]));
            }
            sys::exit(0)
        }
        Err(error) => {
            let Failure { kind, message } = Failure::too_many_processes(&error);
            let reply = Reply::Failed { kind, message };
            drop(wire::send(fds[1].as_fd(), &reply, &[]));
            None
        }
    }
}

/// Reaps the dead. Where a helper was killed from inside the sandbox, what it watched over ends up here and is killed.
fn reap(helpers: &mut HashSet<libc::pid_t>, signals: BorrowedFd<'_>) {
    let mut dead = Vec::new();
    while let Ok(Some(child)) = sys::reap() {
        dead.push(child);
    }
    while let Some((pid, status)) = dead.pop() {
        if helpers.remove(&pid) && !(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0) {
            dead.extend(tree::kill_descendants(signals, helpers));
        }
    }
}
