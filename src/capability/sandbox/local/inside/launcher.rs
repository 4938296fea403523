//! The launcher: makes the namespaces of one sandbox, maps its ids, and waits for its init process.
//!
//! It holds the sandbox's lock until the last process of the sandbox is gone, so a lock that is free means an idle
//! sandbox; should it be killed, its note in the lock's file says whose end to wait for. It dies with the host (PDEATHSIG,
//! and the init process sees the closed socket) and the sandbox dies with it.

use super::super::holder;
use super::super::plan::{Ids, Plan, RANGE_BASE, RANGE_COUNT, Reply};
use super::super::wire;
use super::{Failure, init, sys};
use crate::step::ErrorKind;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Exit code of what was started by hand or whose host is gone.
pub(super) const NOT_FOR_PEOPLE: i32 = 64;

/// How much sooner than others, in thousandths of the machine's memory.
const OOM_SCORE: &str = "500";

/// Runs the launcher on the socket at standard input and returns its exit code.
pub(super) fn run() -> i32 {
    // SIGTERM instead of SIGKILL: the launcher must outlive its init process to keep the lock until all is gone.
    let Ok(signals) = sys::signals() else { return NOT_FOR_PEOPLE };
    if sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong).is_err() {
        return NOT_FOR_PEOPLE;
    }
    let stdin = std::io::stdin();
    let Ok(Some(((), mut fds))) = wire::receive(stdin.as_fd()) else { return NOT_FOR_PEOPLE };
    if fds.len() != 3 {
        return NOT_FOR_PEOPLE;
    }
    let (Some(lock), Some(boot), Some(details)) = (fds.pop(), fds.pop(), fds.pop()) else {
        return NOT_FOR_PEOPLE;
    };
    let lock = fs::File::from(lock);
    let plan: Plan = match wire::recall(&details) {
        Ok(plan) => plan,
        Err(_) => return NOT_FOR_PEOPLE,
    };
    sys::close_on_exec();
    // Out of memory, the kernel should end what runs in a sandbox before anything of the host. All of it inherits this.
    drop(fs::write("/proc/self/oom_score_adj", OOM_SCORE));
    match launch(&plan, &lock, &details, &boot, &signals) {
        Ok((pid, _alive)) => wait(pid, signals.as_fd()),
        Err(failure) => {
            let reply = Reply::Failed { kind: failure.kind, message: failure.message };
            drop(wire::send(boot.as_fd(), &reply, &[]));
        }
    }
    // The host does the same, where it is still there.
    for group in &plan.cgroups {
        drop(fs::remove_dir(group));
    }
    drop(lock);
    0
}

/// Starts the init process and lets it go on once its ids are mapped. It sees by the returned socket whether the launcher
/// still lives.
fn launch(
    plan: &Plan,
    lock: &fs::File,
    details: &OwnedFd,
    boot: &OwnedFd,
    signals: &OwnedFd,
) -> Result<(libc::pid_t, OwnedFd), Failure> {
    let mut namespaces = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    if plan.isolate_network {
        namespaces |= libc::CLONE_NEWNET;
    }
    let (go, gate) = wire::pair().map_err(|error| Failure::io("make a socket pair", error))?;
    let Entries { unified, tasks } = Entries::open(&plan.cgroups)?;
    let unified = unified.as_ref().map(AsFd::as_fd);
    let child = sys::clone_into(namespaces, unified).map_err(|error| explain_clone(&error))?;
    let Some(pid) = child else {
        drop(go);
        init::begin(plan, [boot, &gate, signals, details], tasks);
    };
    drop(gate);
    let started = holder::note(lock, pid)
        .map_err(|error| Failure::io("note the init process", error))
        .and_then(|()| map_ids(pid, plan.ids))
        .and_then(|()| {
            wire::send(go.as_fd(), &(), &[]).map_err(|error| Failure::io("start the init process", error))
        });
    if let Err(failure) = started {
        sys::signal(pid, libc::SIGKILL);
        return Err(failure);
    }
    Ok((pid, go))
}

/// Ways into the groups of a sandbox that cost nothing: a process that is moved from outside has the kernel wait for all
/// processors, which takes up to ten milliseconds.
#[derive(Default)]
struct Entries {
    /// The group of the unified hierarchy, in which a process can begin.
    unified: Option<OwnedFd>,
    /// Files of the others, by which a thread moves itself.
    tasks: Vec<fs::File>,
}

impl Entries {
    fn open(cgroups: &[PathBuf]) -> Result<Self, Failure> {
        let mut entries = Self::default();
        for cgroup in cgroups {
            let failed = |error| Failure::io("open the sandbox's cgroup", error);
            match fs::OpenOptions::new().write(true).open(cgroup.join("tasks")) {
                Ok(file) => entries.tasks.push(file),
                // The unified hierarchy has no such file.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    entries.unified = Some(fs::File::open(cgroup).map_err(failed)?.into());
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(entries)
    }
}

fn map_ids(pid: libc::pid_t, ids: Ids) -> Result<(), Failure> {
    let write = |file: &str, content: String| {
        fs::write(format!("/proc/{pid}/{file}"), content).map_err(|error| {
            Failure::unavailable(&format!("writing {file} of a new user namespace was refused"), error)
        })
    };
    match ids {
        Ids::Range => {
            write("uid_map", format!("0 {RANGE_BASE} {RANGE_COUNT}"))?;
            write("gid_map", format!("0 {RANGE_BASE} {RANGE_COUNT}"))
        }
        Ids::Emulated { uid, gid } => {
            if uid == 0 {
                return Err(Failure::new(ErrorKind::UNAVAILABLE, "user 0 of the host is never mapped"));
            }
            write("setgroups", "deny".into())?;
            write("uid_map", format!("0 {uid} 1"))?;
            write("gid_map", format!("0 {gid} 1"))
        }
    }
}

fn explain_clone(error: &std::io::Error) -> Failure {
    let missing = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "user namespaces are refused; on Ubuntu `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, on Debian \
             `sysctl kernel.unprivileged_userns_clone=1`, in a container allow them in its seccomp profile"
        }
        Some(libc::ENOSPC) => {
            "the limit of user namespaces is reached; raise `sysctl user.max_user_namespaces`"
        }
        Some(libc::EACCES | libc::EBUSY | libc::EOPNOTSUPP) => {
            "the sandbox's cgroup cannot be entered; where it belongs to somebody else, run harvest in a scope of its own"
        }
        Some(libc::EAGAIN) => {
            return Failure::new(ErrorKind::QUOTA, "cannot fork: the machine's process limit is reached");
        }
        Some(libc::ENOSYS | libc::EINVAL) => {
            "the kernel lacks a namespace or clone3: Linux 5.14 or later is needed, and in a container a seccomp profile \
             that allows both (Docker: --security-opt seccomp=unconfined)"
        }
        _ => "new namespaces cannot be made",
    };
    Failure::unavailable(missing, error)
}

/// Waits until the init process, and with it every process of the sandbox, is gone.
fn wait(pid: libc::pid_t, signals: BorrowedFd<'_>) {
    loop {
        match sys::reap() {
            Ok(Some((dead, _))) if dead == pid => return,
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return,
            _ => {}
        }
        sys::poll([signals], -1);
        while let Some(signal) = sys::next_signal(signals) {
            if signal == libc::SIGTERM {
                sys::signal(pid, libc::SIGKILL);
            }
        }
    }
}
