//! A sandbox with gVisor between it and the kernel: in namespaces of its own like any other, the init process builds the
//! file tree, and then runs `runsc` on it instead of entering it.
//!
//! `runsc` finds a root directory that holds the tree, itself and nothing of the host, so that whoever breaks out of
//! gVisor is where an ordinary sandbox begins. The first process inside is [`super::guest`], which has the host's socket:
//! gVisor takes descriptors that come over one, so that streams and files pass as they do without it.

use super::super::plan::{Bind, Ids, Plan, Reply, Runtime};
use super::super::wire;
use super::mounts::{self, Tree};
use super::{Failure, guest, init, sys};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use serde_json::{Value, json};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where the harvest binary with its libraries lies inside. Nothing under /dev is kept with the files of a sandbox.
const PROGRAMS: &str = "/dev/.harvest";
/// What `runsc` has to say about a failure, in its own root directory.
const LOG: &str = "/state/log";
/// Most bytes of it that are quoted.
const QUOTE_LIMIT: usize = 2 << 10;
/// Size of the directory that holds the state of `runsc`.
const STATE_SIZE: &str = "64m";
/// Names of [`init::CAPABILITIES`].
const CAPABILITIES: [&str; 10] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_SETFCAP",
];

/// Builds the tree, runs `runsc` on it and ends when it ends, or when the host closes the socket at standard input.
pub(super) fn run(plan: &Plan, runtime: &Runtime, [boot, gate, signals]: [&OwnedFd; 3]) -> ! {
    let result = build(plan, runtime, gate).and_then(|()| start(plan, runtime, boot.as_fd()));
    let result = result.map(|pid| wait(pid, gate.as_fd(), signals.as_fd()));
    let message = match result {
        // The host has heard from the first process, or now learns that there will be none.
        Ok(()) => said().map(|said| Failure::unavailable("gVisor could not start it", said)),
        Err(failure) => Some(failure),
    };
    if let Some(Failure { kind, message }) = message {
        drop(wire::send(boot.as_fd(), &Reply::Failed { kind, message }, &[]));
    }
    sys::exit(1)
}

/// Builds the tree at /tree below a root directory for `runsc`.
fn build(plan: &Plan, runtime: &Runtime, gate: &OwnedFd) -> Result<(), Failure> {
    let step = |doing: &'static str| move |error: io::Error| Failure::io(doing, error);
    let tree = Tree::open(plan)?;
    let take = |path: &Path| {
        mounts::take(rustix::fs::CWD, path, true)
            .map_err(|error| Failure::io(format!("show {} to gVisor", path.display()), error))
    };
    let harvest = fs::read_link("/proc/self/exe").map_err(step("find harvest itself"))?;
    let mut programs =
        vec![("/runsc".to_owned(), take(&runtime.program)?), ("/guest/harvest".into(), take(&harvest)?)];
    for library in &runtime.libraries {
        programs.push((format!("/guest/{}", library.name), take(&library.path)?));
    }
    init::settle(plan, gate)?;
    let overlay = tree.overlay().map_err(mounts::no_overlay)?;
    let pieces = mounts::pieces(plan)?;
    let volumes = tree.volumes(plan)?;
    let devices = mounts::devices();
    let service = mounts::filesystem(
        c"tmpfs",
        &[("mode", "0755"), ("size", STATE_SIZE)],
        MountAttrFlags::MOUNT_ATTR_NODEV,
    )
    .map_err(step("make a root directory for gVisor"))?;
    let proc =
        mounts::filesystem(c"proc", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC).map_err(mounts::no_proc)?;
    tree.enter(&service).map_err(step("change the root directory"))?;
    furnish(proc, devices, &overlay, programs).map_err(step("furnish the root directory of gVisor"))?;
    let root = directory("/").map_err(step("open the root directory"))?;
    // What the sandbox has prepared leads nowhere but into its own tree.
    rustix::process::chroot("/tree").map_err(|errno| Failure::io("enter the tree", errno))?;
    rustix::process::chdir("/").map_err(|errno| Failure::io("enter the tree", errno))?;
    mounts::attach_all(plan, pieces)?;
    mounts::make_workdir(plan)?;
    let temporary = private("/tmp").map_err(step("show /tmp to gVisor"))?;
    rustix::process::fchdir(&root).map_err(|errno| Failure::io("leave the tree", errno))?;
    rustix::process::chroot(".").map_err(|errno| Failure::io("leave the tree", errno))?;
    let mut shown = vec![temporary];
    shown.extend(volumes);
    for (number, mount) in shown.iter().enumerate() {
        let place = format!("/volumes/{number}");
        fs::create_dir_all(&place)
            .and_then(|()| mounts::attach(mount, &place))
            .map_err(step("show a volume to gVisor"))?;
    }
    let bundle = serde_json::to_vec(&bundle(plan, runtime))
        .map_err(|error| Failure::io("describe the sandbox", error))?;
    fs::write("/bundle/config.json", bundle).map_err(step("describe the sandbox"))
}

/// Puts in place what `runsc` needs beside the tree.
fn furnish(
    proc: OwnedFd,
    devices: Vec<(&'static str, OwnedFd)>,
    overlay: &OwnedFd,
    programs: Vec<(String, OwnedFd)>,
) -> io::Result<()> {
    for name in ["/proc", "/dev", "/tree", "/tmp", "/state", "/bundle", "/guest", "/volumes"] {
        fs::create_dir(name)?;
    }
    // The part of gVisor that opens files may run as another user.
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777))?;
    mounts::attach(&proc, "/proc")?;
    mounts::attach(overlay, "/tree")?;
    let devices = devices.into_iter().map(|(name, device)| (format!("/dev/{name}"), device));
    for (path, mount) in devices.chain(programs) {
        fs::File::create(&path)?;
        mounts::attach(&mount, &path)?;
    }
    Ok(())
}

fn directory(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// A mount of a directory of the tree, also where the sandbox has made something else of it.
fn private(path: &str) -> io::Result<OwnedFd> {
    let opened = directory(path).or_else(|_| {
        drop(fs::remove_file(path));
        fs::create_dir(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o1777))?;
        directory(path)
    })?;
    mounts::take(opened.as_fd(), Path::new(""), false)
}

/// The OCI runtime configuration. gVisor gives /proc and /dev itself; what it would not write through to the tree, or
/// not look at again when others change it, is a mount of its own.
fn bundle(plan: &Plan, runtime: &Runtime) -> Value {
    let harvest = format!("{PROGRAMS}/harvest");
    let mut command = match &runtime.loader {
        Some(loader) => {
            vec![format!("{PROGRAMS}/{loader}"), "--library-path".into(), PROGRAMS.into(), harvest]
        }
        None => vec![harvest],
    };
    command.extend([super::ENTRY.to_owned(), guest::GUEST.to_owned()]);
    if plan.ids != Ids::Range {
        command.push(guest::EMULATED.to_owned());
    }
    let bind = |source: String, target: &str, access: &str| json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind", access] });
    let mut all = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts" }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"] }),
        bind("/guest".into(), PROGRAMS, "ro"),
        // gVisor would put a directory in memory over an empty one.
        bind("/volumes/0".into(), "/tmp", "rw"),
    ];
    let volume =
        |(number, volume): (usize, &Bind)| bind(format!("/volumes/{}", number + 1), &volume.target, "rw");
    all.extend(plan.volumes.iter().enumerate().map(volume));
    let namespaces = ["pid", "mount", "ipc", "uts", "network"].map(|kind| json!({ "type": kind }));
    let namespaces = if plan.isolate_network { &namespaces[..] } else { &namespaces[..4] };
    json!({
        "ociVersion": "1.0.2",
        "hostname": "sandbox",
        "root": { "path": "/tree", "readonly": false },
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "cwd": "/",
            "args": command,
            "env": [],
            "noNewPrivileges": true,
            "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
        },
        "mounts": all,
        "linux": { "namespaces": namespaces },
    })
}

/// Starts `runsc` with the host's socket at standard input and the one for the start at standard output.
fn start(plan: &Plan, runtime: &Runtime, boot: BorrowedFd<'_>) -> Result<libc::pid_t, Failure> {
    let failed = |error: io::Error| Failure::io("start gVisor", error);
    if let Some(pid) = sys::fork().map_err(failed)? {
        return Ok(pid);
    }
    let network = if plan.isolate_network { "--network=none" } else { "--network=host" };
    let mut words = vec!["runsc", "--root=/state", "--log", LOG, "--ignore-cgroups", network];
    words.extend(runtime.options.iter().map(String::as_str));
    if plan.ids != Ids::Range {
        words.push("--rootless");
    }
    words.extend(["run", "--bundle=/bundle", "sandbox"]);
    let words: Vec<CString> = words.into_iter().filter_map(|word| CString::new(word).ok()).collect();
    let words: Vec<_> = words.iter().map(CString::as_c_str).collect();
    let error = sys::place(boot, 1)
        .and_then(|()| sys::place(fs::File::options().write(true).open("/dev/null")?.as_fd(), 2))
        .and_then(|()| Ok(rustix::fs::open("/runsc", OFlags::PATH, Mode::empty())?))
        .map(|program| {
            sys::close_on_exec();
            sys::reset_signals();
            sys::execute(program.as_fd(), &words)
        });
    drop(error);
    sys::exit(127)
}

/// Waits until `runsc` has ended, the host has closed its socket, or the launcher is gone.
fn wait(runsc: libc::pid_t, gate: BorrowedFd<'_>, signals: BorrowedFd<'_>) {
    let stdin = io::stdin();
    loop {
        // Requests are for the first process of the sandbox; here only the end of them counts.
        let mut fds = [
            PollFd::new(&stdin, PollFlags::empty()),
            PollFd::new(&gate, PollFlags::empty()),
            PollFd::new(&signals, PollFlags::IN),
        ];
        let polled = rustix::event::poll(&mut fds, None);
        if polled.is_ok() && fds[..2].iter().any(|fd| !fd.revents().is_empty()) {
            sys::exit(0);
        }
        while sys::next_signal(signals).is_some() {}
        loop {
            match sys::reap() {
                Ok(Some((pid, _))) if pid == runsc => return,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// The end of what `runsc` has logged, where it has failed.
fn said() -> Option<String> {
    let log = fs::read(LOG).unwrap_or_default();
    let text = String::from_utf8_lossy(&log[log.len().saturating_sub(QUOTE_LIMIT)..]).trim().to_owned();
    Some(if text.is_empty() { "it does not say why".into() } else { text })
}
