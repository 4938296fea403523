//! What the facts of a machine mean for sandboxes, and what to do. Pure.

use super::Probe;
use super::machine::{Landlock, Machine};

/// Oldest kernel, major and minor number: it counts processes by user namespace.
const OLDEST_KERNEL: (u32, u32) = (5, 14);
/// Open files that a thousand commands at once need: a channel and three streams each, and what else there is.
const OPEN_FILES: u64 = 4_400;
/// Open files below which not even a few sandboxes fit.
const FEWEST_OPEN_FILES: u64 = 256;
/// File systems that take no upper layer of an overlay, by magic number.
const NO_UPPER: [(u64, &str); 7] = [
    (0x794c_7630, "overlay"),
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x4d44, "FAT"),
    (0x2011_bab0, "exFAT"),
];

/// All probes, in the order in which a person mends a machine.
pub(super) fn all(machine: &Machine) -> Vec<Probe> {
    let probes = [kernel, user_namespaces, ids, overlay, seccomp, landlock, cgroups, open_files, reflink];
    probes.map(|probe| probe(machine)).into()
}

fn kernel(machine: &Machine) -> Probe {
    let name = "kernel";
    let (major, minor) = OLDEST_KERNEL;
    let mut numbers =
        machine.release.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let detail = format!("Linux {}", machine.release);
    if found >= OLDEST_KERNEL {
        return Probe::good(name, detail);
    }
    Probe::bad(name, detail, format!("use Linux {major}.{minor} or later"))
}

fn user_namespaces(machine: &Machine) -> Probe {
    let name = "user namespaces";
    let settings = &machine.namespaces;
    if !settings.known {
        return Probe::bad(name, "the kernel has none", "use a kernel with CONFIG_USER_NS");
    }
    // Root is held back by the first alone.
    let closed = [
        ("user.max_user_namespaces", settings.max_user_namespaces == Some(0), 15_000),
        (
            "kernel.unprivileged_userns_clone",
            !machine.root && settings.unprivileged_userns_clone == Some(0),
            1,
        ),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            !machine.root && settings.apparmor_restrict_unprivileged_userns.is_some_and(|value| value > 0),
            0,
        ),
    ];
    match closed.iter().find(|(_, closed, _)| *closed) {
        Some((setting, _, open)) => {
            let remedy = format!(
                "sudo sysctl {setting}={open}, and the line `{setting} = {open}` in /etc/sysctl.d/harvest.conf to keep it"
            );
            Probe::bad(name, format!("closed by {setting}"), remedy)
        }
        None => Probe::good(name, "available"),
    }
}

fn ids(machine: &Machine) -> Probe {
    let name = "ids";
    match &machine.no_ids {
        Some(reason) => Probe::bad(
            name,
            reason.clone(),
            "run harvest as an ordinary user, or give the container around it 65,536 ids from 1000000 on",
        ),
        None if machine.root => Probe::good(name, "a range of their own for sandboxes, 1000000 and up"),
        None => {
            let unused = if machine.newuidmap { "; newuidmap is there and not used" } else { "" };
            Probe::could_be_better(
                name,
                format!("one, your own: users inside are all the same{unused}"),
                "run harvest as root where programs inside must be kept from one another",
            )
        }
    }
}

fn overlay(machine: &Machine) -> Probe {
    let name = "overlayfs";
    let place = machine.place.display();
    let known = machine.filesystems.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    if !known {
        return Probe::bad(
            name,
            "the kernel does not know it (yet)",
            "sudo modprobe overlay, and the line `overlay` in /etc/modules-load.d/harvest.conf to keep it",
        );
    }
    match &machine.file_system {
        Err(error) => Probe::bad(name, format!("cannot look at {place}: {error}"), "choose another home"),
        Ok(magic) => match NO_UPPER.iter().find(|(number, _)| number == magic) {
            Some((_, kind)) => Probe::bad(
                name,
                format!("{place} lies on {kind}, which takes no changes of an overlay"),
                "put the home on ext4, xfs or btrfs (in a container: on a volume): `--home` or HARVEST_HOME",
            ),
            None => Probe::good(name, format!("available on {place}")),
        },
    }
}

fn seccomp(machine: &Machine) -> Probe {
    let name = "seccomp";
    if machine.seccomp.split_whitespace().any(|action| action == "errno") {
        return Probe::good(name, "filters are available");
    }
    Probe::bad(name, "the kernel offers no filters", "use a kernel with CONFIG_SECCOMP_FILTER")
}

fn landlock(machine: &Machine) -> Probe {
    let name = "landlock";
    let without = "sandboxes hold without it: it is a second wall";
    match machine.landlock {
        Landlock::Version(version @ 6..) => {
            Probe::good(name, format!("version {version}: files, abstract sockets, signals"))
        }
        Landlock::Version(version @ 2..) => Probe::could_be_better(
            name,
            format!("version {version}: files alone"),
            "use Linux 6.12 or later, where abstract sockets of the host are closed to network `host` too",
        ),
        Landlock::Version(version) => Probe::could_be_better(
            name,
            format!("version {version}: not used, because no file could be moved"),
            format!("use Linux 5.19 or later; {without}"),
        ),
        Landlock::Off => Probe::could_be_better(
            name,
            "the kernel has it and did not start it",
            format!("add `landlock` to the kernel's parameter `lsm=`; {without}"),
        ),
        Landlock::Absent => Probe::could_be_better(
            name,
            "there is none, or a container's filter hides it",
            format!("use a kernel with CONFIG_SECURITY_LANDLOCK; {without}"),
        ),
    }
}

fn cgroups(machine: &Machine) -> Probe {
    let name = "cgroups";
    let found = machine.cgroups;
    let version = match (found.v1, found.v2) {
        (true, true) => "v1 and v2 side by side",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    };
    let held = |held: bool, otherwise: &'static str| if held { "cgroup" } else { otherwise };
    let detail = format!(
        "{version}; processes: {}, memory: {}",
        held(found.processes, "rlimit"),
        held(found.memory, "watchdog")
    );
    if found.processes && found.memory {
        return Probe::good(name, detail);
    }
    let remedy = match (found.v1 || found.v2, machine.root) {
        (false, _) => {
            "mount the cgroup file system (in a container: --cgroupns private and a writable /sys/fs/cgroup)"
        }
        (true, true) => "make /sys/fs/cgroup writable to harvest (in a container: do not mount it read-only)",
        (true, false) => {
            "sandboxes work without; for limits of CPU, and of memory by the kernel, run harvest as root"
        }
    };
    Probe::could_be_better(name, detail, remedy)
}

fn open_files(machine: &Machine) -> Probe {
    let name = "open files";
    let Some(limit) = machine.open_files else { return Probe::good(name, "without a limit") };
    let detail = format!("at most {limit}");
    let remedy = format!(
        "raise the hard limit: `ulimit -Hn {OPEN_FILES}` as root, LimitNOFILE={OPEN_FILES} in a unit of systemd, or nofile in /etc/security/limits.conf"
    );
    match limit {
        ..FEWEST_OPEN_FILES => Probe::bad(name, detail, remedy),
        FEWEST_OPEN_FILES..OPEN_FILES => Probe::could_be_better(
            name,
            format!("{detail}, enough for {} commands at once", limit / 5),
            remedy,
        ),
        _ => Probe::good(name, detail),
    }
}

fn reflink(machine: &Machine) -> Probe {
    let name = "reflink";
    let place = machine.place.display();
    match &machine.reflink {
        Ok(true) => Probe::good(name, format!("files on {place} share their blocks with their copies")),
        Ok(false) => Probe::could_be_better(
            name,
            format!("copies of files on {place} take time and room of their own"),
            "put the home on xfs or btrfs where sandboxes are saved while commands run in them",
        ),
        Err(error) => Probe::could_be_better(
            name,
            format!("not tried: {place}: {error}"),
            "make the home writable to whoever runs harvest",
        ),
    }
}

#[cfg(test)]
mod tests;
