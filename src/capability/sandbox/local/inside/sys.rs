//! System calls that no crate wraps safely. Each function says why it is sound; none keeps state.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Forks into new namespaces, and into a group of the unified hierarchy of control groups. `Ok(None)` in the child, the
/// child's pid in the parent.
pub(super) fn clone_into(
    namespaces: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Option<libc::pid_t>> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    // SAFETY: an all-zero clone_args is valid: no stack, no shared memory, which makes this a plain fork.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of a single-threaded process, as after fork.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) })?;
    Ok((pid != 0).then_some(pid as libc::pid_t))
}

/// Forks. `Ok(None)` in the child, the child's pid in the parent. Only for processes with one thread.
pub(super) fn fork() -> io::Result<Option<libc::pid_t>> {
    // SAFETY: the processes of a sandbox have one thread, so the child finds every lock free.
    let pid = check(libc::c_long::from(unsafe { libc::fork() }))?;
    Ok((pid != 0).then_some(pid as libc::pid_t))
}

/// Forks into a child of this process's own parent, for whom it is as if it had started both. `Ok(None)` in the child, its
/// pid in this process. Only for processes with one thread.
pub(super) fn fork_sibling() -> io::Result<Option<libc::pid_t>> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: as above. Not `clone3`: filters of containers refuse that where this is fine.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok((pid != 0).then_some(pid as libc::pid_t))
}

/// Stack of a process that [`spawn`] makes, in bytes.
const SPAWN_STACK: usize = 256 << 10;

/// Runs `child` in a new process, which is to become another program, and returns its pid once it has, or has ended.
/// Until then the two share their memory and this one stands still, so no page is copied, and whatever `child` leaves in
/// variables is there afterwards. Descriptors, the working directory, ids and signals are the child's own. Only for
/// processes with one thread.
pub(super) fn spawn(child: impl FnMut()) -> io::Result<libc::pid_t> {
    extern "C" fn enter<F: FnMut()>(child: *mut libc::c_void) -> libc::c_int {
        // SAFETY: `spawn` passes a pointer to its own closure, and waits.
        let child = unsafe { &mut *child.cast::<F>() };
        child();
        exit(127)
    }
    fn entry<F: FnMut()>(_: &F) -> extern "C" fn(*mut libc::c_void) -> libc::c_int {
        enter::<F>
    }
    let mut child = child;
    let mut stack: Vec<u128> = Vec::with_capacity(SPAWN_STACK / size_of::<u128>());
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own, aligned to 16 bytes; stack and closure live until it has left this memory,
    // and nothing else runs here meanwhile.
    let pid = unsafe { libc::clone(entry(&child), top.cast(), flags, (&raw mut child).cast()) };
    check(libc::c_long::from(pid))?;
    Ok(pid)
}

/// Ends the process at once, without running anything.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: always sound; nothing of this process is used afterwards.
    unsafe { libc::_exit(code) }
}

/// One `prctl` that takes a single number.
pub(super) fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options used here take plain numbers, no pointers.
    check(libc::c_long::from(unsafe { libc::prctl(option, value, 0, 0, 0) })).map(drop)
}

/// Makes a detached mount (and those below it) read-only, nosuid, nodev, as asked.
pub(super) fn set_mount_flags(mount: BorrowedFd<'_>, flags: u64, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: flags, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let at = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static C string and the struct outlives the call; its size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            at,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Takes on a user and group inside the user namespace and drops all other groups.
pub(super) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and length describe one slice; raw calls change this only thread.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// Keeps only the capabilities of `kept` (a bit mask), now and for everything executed later.
pub(super) fn limit_capabilities(kept: u64) -> io::Result<()> {
    for capability in 0..64 {
        if kept & (1 << capability) == 0
            && let Err(error) = prctl(libc::PR_CAPBSET_DROP, capability)
        {
            // The first number that the kernel does not know ends the list.
            if error.raw_os_error() == Some(libc::EINVAL) {
                break;
            }
            return Err(error);
        }
    }
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |bits: u64| Data { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let data = [half(kept), half(kept >> 32)];
    // SAFETY: version 3 reads one header and two data structs, which is what is given.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Installs a seccomp filter for this process and its children. Needs no_new_privs.
pub(super) fn install_filter(program: &[libc::sock_filter]) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program outlives the call, and the kernel copies it.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) })
        .map(drop)
}

/// Blocks SIGCHLD and SIGTERM and returns a descriptor that is readable while one is pending.
pub(super) fn signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; signalfd returns a descriptor that we own.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        check(libc::c_long::from(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())))?;
        let fd = check(libc::c_long::from(libc::signalfd(
            -1,
            &raw const set,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        )))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// The next pending signal of [`signals`].
pub(super) fn next_signal(signals: BorrowedFd<'_>) -> Option<i32> {
    // SAFETY: signalfd_siginfo is plain data; read writes at most its size into it.
    unsafe {
        let mut info: libc::signalfd_siginfo = std::mem::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        let read = libc::read(signals.as_raw_fd(), (&raw mut info).cast(), size);
        (read == size as isize).then_some(info.ssi_signo as i32)
    }
}

/// Unblocks all signals and restores their default actions, for a process about to execute something else.
pub(super) fn reset_signals() {
    // SAFETY: the set is initialised; SIG_DFL is a valid action for every signal that allows one.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Reaps one dead child if there is one: its pid and wait status. `Err(ECHILD)` where there are no children at all.
pub(super) fn reap() -> io::Result<Option<(libc::pid_t, libc::c_int)>> {
    let mut status = 0;
    // SAFETY: status is a valid place to write to.
    let pid = check(libc::c_long::from(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }))?;
    Ok((pid != 0).then_some((pid as libc::pid_t, status)))
}

/// Sends a signal; a process that is gone is no error.
pub(super) fn signal(pid: libc::pid_t, signal: i32) {
    // SAFETY: kill takes numbers only. Callers pass pids above 1.
    unsafe {
        libc::kill(pid, signal);
    }
}

/// Whether any of the descriptors is readable or closed at the other end, each in its place. Waits at most
/// `timeout` milliseconds, for ever where negative.
pub(super) fn poll<const N: usize>(fds: [BorrowedFd<'_>; N], timeout: i32) -> [bool; N] {
    let mut entries = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // SAFETY: the array is valid for its length.
    let ready = unsafe { libc::poll(entries.as_mut_ptr(), N as libc::nfds_t, timeout) };
    entries.map(|entry| ready > 0 && entry.revents != 0)
}

/// Sets both limits of a resource.
pub(super) fn limit_resource(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the struct outlives the call.
    check(libc::c_long::from(unsafe { libc::setrlimit(resource, &raw const limit) })).map(drop)
}

/// Brings up the loopback interface of this network namespace.
pub(super) fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero ifreq is valid; the name is shorter than the field, so it stays terminated.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
            *place = *byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        check(libc::c_long::from(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)))?;
    }
    Ok(())
}

/// Names this host in its UTS namespace.
pub(super) fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe one string.
    check(libc::c_long::from(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })).map(drop)
}

/// Makes this process the leader of a new session, without a terminal.
pub(super) fn new_session() {
    // SAFETY: takes nothing. It fails only for a group leader, which a fresh child is not.
    unsafe {
        libc::setsid();
    }
}

/// Puts a descriptor at a fixed number and lets it survive exec.
pub(super) fn place(fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: both numbers are plain integers; where they are equal, dup2 would leave the close-on-exec flag set.
    unsafe {
        if fd.as_raw_fd() == number {
            check(libc::c_long::from(libc::fcntl(number, libc::F_SETFD, 0)))?;
        } else {
            check(libc::c_long::from(libc::dup2(fd.as_raw_fd(), number)))?;
        }
    }
    Ok(())
}

/// Becomes the program behind a descriptor, without an environment. Returns only the error.
pub(super) fn execute(program: BorrowedFd<'_>, arguments: &[&CStr]) -> io::Error {
    let pointers: Vec<_> = arguments.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
    let environment = [std::ptr::null::<libc::c_char>()];
    // SAFETY: both arrays end in null and live until the process is another program, as do the strings.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            pointers.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Marks every descriptor from 3 on as closed on exec.
pub(super) fn close_on_exec() {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: changes flags only, closes nothing now.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, CLOSE_RANGE_CLOEXEC);
    }
}
