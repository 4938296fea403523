//! Watches over one command: starts it, reports its end, and kills its tree when told or when the host lets go.
//!
//! As a subreaper it stays the ancestor of everything the command starts, daemons included.

use super::super::super::ExitStatus;
use super::super::plan::{Command, Order, Reply};
use super::super::wire;
use super::{Failure, sys, tree};
use crate::step::ErrorKind;
use rustix::process::Resource;
use std::collections::HashSet;
use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Most bytes of `/etc/passwd` and `/etc/group` that are read.
const ACCOUNTS_LIMIT: u64 = 1 << 20;

/// Files that a program inside can open unless it asks for more: what programs expect that wait with select(2), which
/// knows no descriptor beyond.
const OPEN_FILES: u64 = 1024;

/// Runs one command to the end of its tree. Descriptors: details, replies, stdout, stderr, stdin where wanted.
pub(super) fn run(fds: &[OwnedFd]) -> Result<(), Failure> {
    let [details, host, stdout, stderr, stdin @ ..] = fds else {
        return Err(Failure::new(ErrorKind::INVALID, "an exec came without its streams"));
    };
    let command: Command = wire::recall(details).map_err(|error| Failure::io("read the command", error))?;
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
        .map_err(|error| Failure::io("watch over the command", error))?;
    // One of its own: gVisor gives the signals of the process that has made the descriptor, not of the one that reads it.
    let signals = sys::signals().map_err(|error| Failure::io("watch over the command", error))?;
    let main = start(&command, [stdout.as_fd(), stderr.as_fd()], stdin.first().map(AsFd::as_fd))?;
    drop(command);
    // The host reads the end of a stream only when nobody else holds it; these copies belong to the command now.
    for fd in fds.iter().filter(|fd| !std::ptr::eq(*fd, host)) {
        // SAFETY: the descriptors are not used again, and the process ends by `_exit`, which runs no destructors.
        unsafe { libc::close(std::os::fd::AsRawFd::as_raw_fd(fd)) };
    }
    reply(host, &Reply::Started);
    watch(main, host.as_fd(), signals.as_fd());
    Ok(())
}

fn reply(host: &impl AsFd, reply: &Reply) {
    // A host that is gone reads nothing; the next look at the socket ends the tree.
    drop(wire::send(host.as_fd(), reply, &[]));
}

/// Follows the command until its tree is gone or the host lets go of it.
fn watch(main: libc::pid_t, host: BorrowedFd<'_>, signals: BorrowedFd<'_>) {
    let mut running = true;
    loop {
        let childless = loop {
            match sys::reap() {
                Ok(Some((pid, status))) if pid == main => {
                    running = false;
                    reply(&host, &Reply::Exited(exit_status(status)));
                }
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        if childless {
            return;
        }
        let [order, signal] = sys::poll([host, signals], -1);
        if signal {
            while sys::next_signal(signals).is_some() {}
        }
        if !order {
            continue;
        }
        match wire::receive::<Order>(host) {
            Ok(Some((Order::Signal(number), _))) => {
                if running {
                    sys::signal(main, number);
                }
            }
            Ok(Some((Order::Kill, _))) | Ok(None) | Err(_) => {
                for (pid, status) in tree::kill_descendants(signals, &HashSet::new()) {
                    if pid == main {
                        reply(&host, &Reply::Exited(exit_status(status)));
                    }
                }
                return;
            }
        }
    }
}

fn exit_status(status: libc::c_int) -> ExitStatus {
    if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(libc::WTERMSIG(status))
    } else {
        ExitStatus::Code(libc::WEXITSTATUS(status))
    }
}

/// Starts the command; returns once it is really running.
fn start(
    command: &Command,
    output: [BorrowedFd<'_>; 2],
    stdin: Option<BorrowedFd<'_>>,
) -> Result<libc::pid_t, Failure> {
    let mut failed = None;
    let pid = sys::spawn(|| {
        let Err(failure) = execute(command, output, stdin);
        failed = Some(failure);
    })
    .map_err(|error| Failure::too_many_processes(&error))?;
    failed.map_or(Ok(pid), Err)
}

/// In the child: becomes the command.
fn execute(
    command: &Command,
    [stdout, stderr]: [BorrowedFd<'_>; 2],
    stdin: Option<BorrowedFd<'_>>,
) -> Result<std::convert::Infallible, Failure> {
    let null;
    let stdin = match stdin {
        Some(stdin) => stdin,
        None => {
            null = fs::File::open("/dev/null").map_err(|error| Failure::io("open /dev/null", error))?;
            null.as_fd()
        }
    };
    sys::new_session();
    for (fd, number) in [(stdin, 0), (stdout, 1), (stderr, 2)] {
        sys::place(fd, number).map_err(|error| Failure::io("connect the streams", error))?;
    }
    sys::close_on_exec();
    let workdir = command.workdir.as_deref().unwrap_or("/");
    std::env::set_current_dir(workdir).map_err(|error| {
        let failure = Failure::io(format!("enter the working directory {workdir} in the sandbox"), error);
        Failure {
            message: format!("{}; make it first, or name another `workdir`", failure.message),
            ..failure
        }
    })?;
    let account = command.user.as_deref().filter(|_| command.switch_user).map(find_user).transpose()?;
    let home = account.as_ref().map_or("/root", |account| &account.home);
    if let Some(Account { uid, gid, .. }) = account {
        for stream in [0, 1, 2] {
            // SAFETY: changes the owner of a pipe that this command is about to own.
            unsafe { libc::fchown(stream, uid, gid) };
        }
        sys::become_user(uid, gid, &[gid]).map_err(|error| Failure::io("change the user", error))?;
    }
    let arguments: Vec<_> = command.command.iter().map(|text| c_string(text)).collect::<Result<_, _>>()?;
    let environment: Vec<_> = command
        .env
        .iter()
        .map(|(name, value)| c_string(&format!("{name}={value}")))
        .chain(command.env.iter().all(|(name, _)| name != "HOME").then(|| c_string(&format!("HOME={home}"))))
        .collect::<Result<_, _>>()?;
    let program = find_program(command)?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let path = CString::new(program.as_os_str().as_bytes())
        .map_err(|error| Failure::new(ErrorKind::INVALID, error.to_string()))?;
    let (arguments_, environment_) = (pointers(&arguments), pointers(&environment));
    limit_open_files().map_err(|error| Failure::io("limit the number of open files", error))?;
    sys::reset_signals();
    // SAFETY: both arrays end in null and point to strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments_.as_ptr(), environment_.as_ptr()) };
    Err(explain_exec(&program, std::io::Error::last_os_error()))
}

/// Sets back what harvest raised for itself. Programs that want more raise it again, up to the hard limit. Our own processes
/// keep it: an ordinary user may have no more descriptors on their way through sockets than it says.
fn limit_open_files() -> std::io::Result<()> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = Some(limit.maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES));
    Ok(rustix::process::setrlimit(Resource::Nofile, limit)?)
}

fn explain_exec(program: &Path, error: std::io::Error) -> Failure {
    let shown = program.display();
    match error.raw_os_error() {
        Some(libc::ENOENT) => Failure::new(
            ErrorKind::NOT_FOUND,
            format!("{shown} exists in the sandbox, but its interpreter (first line or ELF loader) does not"),
        ),
        Some(libc::ENOEXEC) => Failure::new(
            ErrorKind::INVALID,
            format!("{shown} is no program for this machine; a script needs a first line such as #!/bin/sh"),
        ),
        Some(libc::E2BIG) => Failure::new(
            ErrorKind::TOO_LARGE,
            "arguments and environment are too large together; pass the bulk on stdin or as a file"
                .to_string(),
        ),
        _ => Failure::io(format!("execute {shown} in the sandbox"), error),
    }
}

fn c_string(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| {
        Failure::new(ErrorKind::INVALID, "arguments and environment cannot hold a NUL character".to_string())
    })
}

/// Looks the program up in the command's own PATH.
fn find_program(command: &Command) -> Result<PathBuf, Failure> {
    let name = command.command.first().filter(|name| !name.is_empty()).ok_or_else(|| {
        Failure::new(ErrorKind::INVALID, "the command is empty: name a program and its arguments".to_string())
    })?;
    if name.contains('/') {
        return match fs::metadata(name) {
            Ok(_) => Ok(name.into()),
            Err(error) => Err(Failure::io(format!("find {name} in the sandbox"), error)),
        };
    }
    let path = command.env.iter().rev().find(|(key, _)| key == "PATH").map_or("", |(_, value)| value);
    for directory in path.split(':') {
        let candidate = Path::new(directory).join(name);
        let executable = rustix::fs::access(&candidate, rustix::fs::Access::EXEC_OK).is_ok();
        if executable && fs::metadata(&candidate).is_ok_and(|found| found.is_file()) {
            return Ok(candidate);
        }
    }
    Err(Failure::new(
        ErrorKind::NOT_FOUND,
        format!(
            "there is no program `{name}` in the sandbox (PATH={path}); install it in the image or give its full path"
        ),
    ))
}

/// A user of the sandbox.
struct Account {
    uid: u32,
    gid: u32,
    home: String,
}

/// User by name or number, with a group where one is given (`user`, `1000`, `user:group`, `1000:1000`), as the sandbox's
/// own `/etc/passwd` and `/etc/group` have them.
fn find_user(user: &str) -> Result<Account, Failure> {
    let (user, group) = user.split_once(':').map_or((user, None), |(user, group)| (user, Some(group)));
    let mut account = find_account(user)?;
    if let Some(group) = group {
        account.gid = find_group(group)?;
    }
    Ok(account)
}

fn find_account(user: &str) -> Result<Account, Failure> {
    for line in table("/etc/passwd").lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(uid), Some(gid)) = (fields.next(), fields.nth(1), fields.next())
            && (name == user || uid == user)
            && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
        {
            return Ok(Account { uid, gid, home: fields.nth(1).unwrap_or("/").into() });
        }
    }
    user.parse().map(|uid| Account { uid, gid: uid, home: "/".into() }).map_err(|_| {
        Failure::new(ErrorKind::NOT_FOUND, format!("there is no user `{user}` in the sandbox's /etc/passwd"))
    })
}

fn find_group(group: &str) -> Result<u32, Failure> {
    for line in table("/etc/group").lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(gid)) = (fields.next(), fields.nth(1))
            && name == group
            && let Ok(gid) = gid.parse()
        {
            return Ok(gid);
        }
    }
    group.parse().map_err(|_| {
        Failure::new(ErrorKind::NOT_FOUND, format!("there is no group `{group}` in the sandbox's /etc/group"))
    })
}

fn table(path: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = fs::File::open(path) {
        drop(file.take(ACCOUNTS_LIMIT).read_to_string(&mut text));
    }
    text
}
