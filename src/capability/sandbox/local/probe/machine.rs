//! What there is to see of a machine, read in one go. Decides nothing, and leaves nothing behind.

use super::super::cgroup::{Groups, Limits};
use super::super::choose_ids;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Resource;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A machine as the probes see it.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Whether harvest runs as root.
    pub(super) root: bool,
    /// Release of the kernel, such as `6.18.44-generic`.
    pub(super) release: String,
    pub(super) namespaces: Namespaces,
    /// Why there are no ids for sandboxes, where there are none.
    pub(super) no_ids: Option<String>,
    /// Whether `newuidmap` is there and `/etc/subuid` grants ids to somebody.
    pub(super) newuidmap: bool,
    /// File systems that the kernel knows, as in `/proc/filesystems`.
    pub(super) filesystems: String,
    /// The state directory, or what is there of its path.
    pub(super) place: PathBuf,
    /// Magic number of the file system there.
    pub(super) file_system: Result<u64, String>,
    /// Whether files there can share their blocks.
    pub(super) reflink: Result<bool, String>,
    /// What seccomp filters can do, as the kernel lists it.
    pub(super) seccomp: String,
    pub(super) landlock: Landlock,
    pub(super) cgroups: Cgroups,
    /// Most files that harvest can open, where there is such a limit.
    pub(super) open_files: Option<u64>,
}

/// What is set about user namespaces; `None` where the kernel has no such setting.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespaces {
    pub(super) known: bool,
    pub(super) max_user_namespaces: Option<u64>,
    pub(super) unprivileged_userns_clone: Option<u64>,
    pub(super) apparmor_restrict_unprivileged_userns: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landlock {
    /// It works, with this version of its interface.
    Version(u32),
    /// The kernel has it, and it was not started.
    Off,
    /// The kernel, or a filter around this process, has none.
    Absent,
}

/// The hierarchies, and what a group of ours can hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cgroups {
    pub(super) v1: bool,
    pub(super) v2: bool,
    pub(super) processes: bool,
    pub(super) memory: bool,
}

impl Machine {
    /// Looks at this machine, for sandboxes with their state under `home`.
    pub(super) fn look(home: &Path) -> Self {
        let place = home.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned();
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            root: rustix::process::geteuid().is_root(),
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            namespaces: Namespaces::look(),
            no_ids: choose_ids().err().map(|error| error.message),
            newuidmap: newuidmap(),
            filesystems: read("/proc/filesystems"),
            file_system: rustix::fs::statfs(&place)
                .map(|found| found.f_type as u64)
                .map_err(|errno| errno.to_string()),
            reflink: reflink(&place),
            place,
            seccomp: read("/proc/sys/kernel/seccomp/actions_avail"),
            landlock: landlock(),
            cgroups: Cgroups::look(),
            open_files: rustix::process::getrlimit(Resource::Nofile).maximum,
        }
    }
}

impl Namespaces {
    fn look() -> Self {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        Self {
            known: Path::new("/proc/self/ns/user").exists(),
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restrict_unprivileged_userns: number(
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            ),
        }
    }
}

impl Cgroups {
    fn look() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let limits = Limits { memory: Some(1 << 30), cpu: Some(1.0), disk: None };
        let groups = Groups::make("harvest-probe-", &std::process::id().to_string(), limits);
        groups.remove();
        Self {
            v1: mounts.contains(" - cgroup "),
            v2: mounts.contains(" - cgroup2 "),
            processes: groups.processes,
            memory: groups.memory,
        }
    }
}

fn newuidmap() -> bool {
    let there = ["/usr/bin/newuidmap", "/bin/newuidmap"].iter().any(|path| Path::new(path).exists());
    there && fs::read_to_string("/etc/subuid").is_ok_and(|text| !text.trim().is_empty())
}

fn landlock() -> Landlock {
    const VERSION: u32 = 1;
    // SAFETY: asked for its version, the call takes no memory.
    let answer =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    match u32::try_from(answer) {
        Ok(version) => Landlock::Version(version),
        Err(_) if std::io::Error::last_os_error().raw_os_error() == Some(libc::EOPNOTSUPP) => Landlock::Off,
        Err(_) => Landlock::Absent,
    }
}

/// Tries it with two files that never have a name.
fn reflink(place: &Path) -> Result<bool, String> {
    let nameless = || rustix::fs::open(place, OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR | Mode::WUSR);
    let attempt = || {
        let mut from = File::from(nameless()?);
        from.write_all(&[1; 4096]).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        rustix::fs::ioctl_ficlone(nameless()?, &from)
    };
    match attempt() {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(errno) => Err(errno.to_string()),
    }
}
