//! Builds the file tree of a sandbox: an overlay of its layers, pieces of the host read-only, volumes, /dev and /proc.
//!
//! Pieces of the host are taken as detached mounts first; then the root is changed; only then are they attached, so every
//! path that a sandbox could have prepared (it owns its files and may be opened again) resolves inside its own tree.

use super::super::plan::{Bind, Plan};
use super::{Failure, sys};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Parts of /proc that show or change the whole machine: read-only inside.
const PROC_READ_ONLY: &[&str] = &["sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "tty"];
/// Files of /proc that tell about others: empty inside.
const PROC_HIDDEN: &[&str] =
    &["keys", "key-users", "kcore", "kallsyms", "timer_list", "sched_debug", "latency_stats"];
/// Devices that are the same for everyone.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Size of /dev/shm.
const SHARED_MEMORY: &str = "512m";

/// Directories of the state directory, opened while still the user that owns it.
pub(super) struct Tree {
    lower: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
    /// Where the tree is attached for the moment in which it becomes the root directory.
    directory: OwnedFd,
    volumes: Vec<OwnedFd>,
}

impl Tree {
    /// Opens what the plan names. Runs in the new mount namespace, before the ids change.
    pub(super) fn open(plan: &Plan) -> Result<Self, Failure> {
        separate()?;
        let open = |path: &Path| {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| Failure::io(format!("open {}", path.display()), error))
        };
        Ok(Self {
            lower: plan.lower.iter().map(|path| open(path)).collect::<Result<_, _>>()?,
            upper: open(&plan.directory.join("upper"))?,
            work: open(&plan.directory.join("work"))?,
            directory: open(&plan.directory)?,
            volumes: plan.volumes.iter().map(|bind| open(&bind.source)).collect::<Result<_, _>>()?,
        })
    }

    /// Builds the tree and makes it the root. Runs as the sandbox's root with all its capabilities.
    pub(super) fn build(self, plan: &Plan) -> Result<(), Failure> {
        let overlay = self.overlay().map_err(no_overlay)?;
        let mut pieces = pieces(plan)?;
        pieces.extend(self.volumes(plan)?.into_iter().zip(&plan.volumes));
        let devices = devices();
        let proc = filesystem(c"proc", &[], MountAttrFlags::MOUNT_ATTR_NOEXEC).map_err(no_proc)?;
        self.enter(&overlay).map_err(|error| Failure::io("change the root directory", error))?;
        attach_all(plan, pieces)?;
        system(proc, devices).map_err(|error| Failure::io("set up /proc and /dev", error))?;
        make_workdir(plan)
    }

    /// Detached mounts of the volumes.
    pub(super) fn volumes(&self, plan: &Plan) -> Result<Vec<OwnedFd>, Failure> {
        let mount = |(directory, bind): (&OwnedFd, &Bind)| {
            take(directory.as_fd(), Path::new(""), false)
                .map_err(|error| Failure::io(format!("mount a volume at {}", bind.target), error))
        };
        self.volumes.iter().zip(&plan.volumes).map(mount).collect()
    }

    /// Makes a mount the root directory and forgets the host's tree.
    pub(super) fn enter(&self, mount: &OwnedFd) -> io::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(mount.as_fd(), "", self.directory.as_fd(), "", flags)?;
        rustix::process::fchdir(mount)?;
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        Ok(())
    }

    /// The layers with the sandbox's own files on top, detached.
    pub(super) fn overlay(&self) -> io::Result<OwnedFd> {
        let path = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(context.as_fd(), key, value);
        let one_by_one = self.lower.iter().try_for_each(|layer| set("lowerdir+", &path(layer)));
        if one_by_one.is_err() {
            // Before Linux 6.5 all layers go into one option, which holds about a dozen.
            set("lowerdir", &self.lower.iter().map(path).collect::<Vec<_>>().join(":"))?;
        }
        set("upperdir", &path(&self.upper))?;
        set("workdir", &path(&self.work))?;
        rustix::mount::fsconfig_set_flag(context.as_fd(), "userxattr")?;
        // With an index, the kernel would refuse files that the mount of the last moment has not let go of yet.
        set("index", "off")?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        Ok(rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    }
}

pub(super) fn no_overlay(error: io::Error) -> Failure {
    Failure::unavailable(
        "overlayfs inside a user namespace is refused: Linux 5.11 or later is needed, and the state directory must lie \
         on a file system such as ext4, xfs or btrfs, not on an overlay",
        error,
    )
}

pub(super) fn no_proc(error: io::Error) -> Failure {
    Failure::unavailable(
        "a fresh /proc is refused, as in containers that mask theirs; run the container with an unmasked /proc (Docker: \
         --security-opt systempaths=unconfined)",
        error,
    )
}

/// Detached read-only mounts of what the plan shows of the host.
pub(super) fn pieces(plan: &Plan) -> Result<Vec<(OwnedFd, &Bind)>, Failure> {
    let mut pieces = Vec::new();
    for bind in &plan.binds {
        match take(rustix::fs::CWD, &bind.source, true) {
            Ok(mount) => pieces.push((mount, bind)),
            Err(error) if bind.required => {
                return Err(Failure::io(format!("show {} in the sandbox", bind.source.display()), error));
            }
            Err(_) => {}
        }
    }
    Ok(pieces)
}

/// Detached mounts of the devices that there are.
pub(super) fn devices() -> Vec<(&'static str, OwnedFd)> {
    let mount =
        |name: &&'static str| Some((*name, clone_tree(rustix::fs::CWD, &Path::new("/dev").join(name)).ok()?));
    DEVICES.iter().filter_map(mount).collect()
}

/// Attaches the pieces below the root directory, which is the sandbox's own, and closes what is read-only.
pub(super) fn attach_all(plan: &Plan, pieces: Vec<(OwnedFd, &Bind)>) -> Result<(), Failure> {
    for (mount, bind) in pieces {
        let attached = make_mount_point(&mount, &bind.target).and_then(|()| attach(&mount, &bind.target));
        match attached {
            Err(error) if bind.required => {
                return Err(Failure::io(format!("mount {} in the sandbox", bind.target), error));
            }
            _ => {}
        }
    }
    for directory in &plan.read_only {
        take(rustix::fs::CWD, Path::new(directory), true)
            .and_then(|mount| attach(&mount, directory))
            .map_err(|error| Failure::io(format!("make {directory} read-only"), error))?;
    }
    Ok(())
}

pub(super) fn make_workdir(plan: &Plan) -> Result<(), Failure> {
    let Some(workdir) = &plan.workdir else { return Ok(()) };
    fs::create_dir_all(workdir)
        .map_err(|error| Failure::io(format!("make the working directory {workdir}"), error))
}

/// A detached mount of a new file system.
pub(super) fn filesystem(
    kind: &CStr,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = attributes | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn clone_tree(directory: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(rustix::mount::open_tree(directory, path, flags)?)
}

/// Keeps what is mounted from here on in this mount namespace.
pub(super) fn separate() -> Result<(), Failure> {
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(|error| Failure::io("separate the sandbox's mounts", error))
}

/// A detached copy of a piece of the host's tree, without set-user-id programs and devices.
pub(super) fn take(directory: BorrowedFd<'_>, path: &Path, read_only: bool) -> io::Result<OwnedFd> {
    let mount = clone_tree(directory, path)?;
    let read_only = if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    sys::set_mount_flags(mount.as_fd(), libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | read_only, true)?;
    Ok(mount)
}

pub(super) fn attach(mount: &OwnedFd, target: &str) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
        | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS
        | MoveMountFlags::MOVE_MOUNT_T_AUTOMOUNTS;
    Ok(rustix::mount::move_mount(mount.as_fd(), "", rustix::fs::CWD, target, flags)?)
}

/// Makes the directory or empty file that a mount will cover, where it is missing.
fn make_mount_point(mount: &OwnedFd, target: &str) -> io::Result<()> {
    // To open a file for writing would copy it up from its layer.
    if fs::exists(target)? {
        return Ok(());
    }
    let stat = rustix::fs::fstat(mount)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        return fs::create_dir_all(target);
    }
    if let Some(parent) = Path::new(target).parent() {
        fs::create_dir_all(parent)?;
    }
    let make = || fs::OpenOptions::new().create(true).append(true).open(target).map(drop);
    match make() {
        // A link to what is made while a machine starts, as images have it for their name servers.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::read_link(target).is_ok() => {
            fs::remove_file(target)?;
            make()
        }
        made => made,
    }
}

/// Attaches /proc and /dev and masks what they tell about the rest of the machine.
fn system(proc: OwnedFd, devices: Vec<(&str, OwnedFd)>) -> io::Result<()> {
    fs::create_dir_all("/proc")?;
    fs::create_dir_all("/dev")?;
    attach(&proc, "/proc")?;
    let dev = filesystem(c"tmpfs", &[("mode", "0755"), ("size", "1m")], MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
    attach(&dev, "/dev")?;
    for (name, device) in devices {
        let target = format!("/dev/{name}");
        fs::File::create(&target)?;
        attach(&device, &target)?;
    }
    let terminals =
        filesystem(c"devpts", &[("ptmxmode", "0666"), ("mode", "0620")], MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
    fs::create_dir("/dev/pts")?;
    attach(&terminals, "/dev/pts")?;
    let shared =
        filesystem(c"tmpfs", &[("mode", "1777"), ("size", SHARED_MEMORY)], MountAttrFlags::MOUNT_ATTR_NODEV)?;
    fs::create_dir("/dev/shm")?;
    attach(&shared, "/dev/shm")?;
    for (link, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(target, format!("/dev/{link}"))?;
    }
    for name in PROC_READ_ONLY {
        let path = Path::new("/proc").join(name);
        if path.exists() {
            let copy = clone_tree(rustix::fs::CWD, &path)?;
            sys::set_mount_flags(copy.as_fd(), libc::MOUNT_ATTR_RDONLY, true)?;
            attach(&copy, &path.to_string_lossy())?;
        }
    }
    for name in PROC_HIDDEN {
        let path = Path::new("/proc").join(name);
        if path.exists() {
            let null = clone_tree(rustix::fs::CWD, Path::new("/dev/null"))?;
            attach(&null, &path.to_string_lossy())?;
        }
    }
    Ok(())
}
