//! Every message, by switching off one thing after the other.

use super::super::machine::{Cgroups, Landlock, Machine, Namespaces};
use super::all;
use insta::assert_snapshot;

/// A machine that has everything.
fn machine() -> Machine {
    Machine {
        root: true,
        release: "6.18.44-generic".into(),
        namespaces: Namespaces { known: true, max_user_namespaces: Some(62_000), ..Namespaces::default() },
        no_ids: None,
        newuidmap: false,
        filesystems: "nodev\tproc\n\text4\nnodev\toverlay\n".into(),
        place: "/home".into(),
        file_system: Ok(0xef53),
        reflink: Ok(true),
        seccomp: "kill_process kill_thread trap errno user_notif trace log allow\n".into(),
        landlock: Landlock::Version(7),
        cgroups: Cgroups { v1: false, v2: true, processes: true, memory: true },
        open_files: Some(524_288),
    }
}

/// What is said of machines that each lack something: only what differs from the one that has everything.
fn told(changes: &[fn(&mut Machine)]) -> String {
    let whole = all(&machine());
    let mut lines = Vec::new();
    for change in changes {
        let mut lacking = machine();
        change(&mut lacking);
        let probes = all(&lacking);
        let differing: Vec<_> =
            probes.into_iter().zip(&whole).filter(|(probe, good)| probe != *good).collect();
        assert!(!differing.is_empty(), "nobody notices: {lacking:?}");
        for (probe, _) in differing {
            let state = if probe.ok { "ok  " } else { "FAIL" };
            lines.push(format!("{state} {}: {}\n  -> {}", probe.name, probe.detail, probe.remedy));
        }
    }
    lines.join("\n")
}

#[test]
fn a_machine_that_has_everything_needs_nothing() {
    let lines: Vec<_> = all(&machine())
        .into_iter()
        .map(|probe| {
            assert!(probe.ok && probe.remedy.is_empty(), "{probe:?}");
            format!("{}: {}", probe.name, probe.detail)
        })
        .collect();
    assert_snapshot!(lines.join("\n"), @"
    kernel: Linux 6.18.44-generic
    user namespaces: available
    ids: a range of their own for sandboxes, 1000000 and up
    overlayfs: available on /home
    seccomp: filters are available
    landlock: version 7: files, abstract sockets, signals
    cgroups: v2; processes: cgroup, memory: cgroup
    open files: at most 524288
    reflink: files on /home share their blocks with their copies
    ");
}

#[test]
fn what_no_sandbox_can_do_without() {
    assert_snapshot!(told(&[
        |machine| machine.release = "5.13.19".into(),
        |machine| machine.release = "unreadable".into(),
        |machine| machine.namespaces.known = false,
        |machine| machine.namespaces.max_user_namespaces = Some(0),
        |machine| machine.no_ids = Some("this root has too few user ids".into()),
        |machine| machine.filesystems = "nodev\tproc\n\text4\n".into(),
        |machine| machine.file_system = Ok(0x794c_7630),
        |machine| machine.file_system = Ok(0x6969),
        |machine| machine.file_system = Err("permission denied".into()),
        |machine| machine.seccomp = String::new(),
        |machine| machine.open_files = Some(100),
    ]), @"
    FAIL kernel: Linux 5.13.19
      -> use Linux 5.14 or later
    FAIL kernel: Linux unreadable
      -> use Linux 5.14 or later
    FAIL user namespaces: the kernel has none
      -> use a kernel with CONFIG_USER_NS
    FAIL user namespaces: closed by user.max_user_namespaces
      -> sudo sysctl user.max_user_namespaces=15000, and the line `user.max_user_namespaces = 15000` in /etc/sysctl.d/harvest.conf to keep it
    FAIL ids: this root has too few user ids
      -> run harvest as an ordinary user, or give the container around it 65,536 ids from 1000000 on
    FAIL overlayfs: the kernel does not know it (yet)
      -> sudo modprobe overlay, and the line `overlay` in /etc/modules-load.d/harvest.conf to keep it
    FAIL overlayfs: /home lies on overlay, which takes no changes of an overlay
      -> put the home on ext4, xfs or btrfs (in a container: on a volume): `--home` or HARVEST_HOME
    FAIL overlayfs: /home lies on NFS, which takes no changes of an overlay
      -> put the home on ext4, xfs or btrfs (in a container: on a volume): `--home` or HARVEST_HOME
    FAIL overlayfs: cannot look at /home: permission denied
      -> choose another home
    FAIL seccomp: the kernel offers no filters
      -> use a kernel with CONFIG_SECCOMP_FILTER
    FAIL open files: at most 100
      -> raise the hard limit: `ulimit -Hn 4400` as root, LimitNOFILE=4400 in a unit of systemd, or nofile in /etc/security/limits.conf
    ");
}

#[test]
fn what_ordinary_users_may_lack() {
    assert_snapshot!(told(&[
        |machine| machine.root = false,
        |machine| (machine.root, machine.newuidmap) = (false, true),
        |machine| {
            machine.root = false;
            machine.namespaces.unprivileged_userns_clone = Some(0);
        },
        |machine| {
            machine.root = false;
            machine.namespaces.apparmor_restrict_unprivileged_userns = Some(1);
        },
        |machine| {
            machine.root = false;
            machine.cgroups = Cgroups { v1: true, v2: true, ..Cgroups::default() };
        },
    ]), @"
    ok   ids: one, your own: users inside are all the same
      -> run harvest as root where programs inside must be kept from one another
    ok   ids: one, your own: users inside are all the same; newuidmap is there and not used
      -> run harvest as root where programs inside must be kept from one another
    FAIL user namespaces: closed by kernel.unprivileged_userns_clone
      -> sudo sysctl kernel.unprivileged_userns_clone=1, and the line `kernel.unprivileged_userns_clone = 1` in /etc/sysctl.d/harvest.conf to keep it
    ok   ids: one, your own: users inside are all the same
      -> run harvest as root where programs inside must be kept from one another
    FAIL user namespaces: closed by kernel.apparmor_restrict_unprivileged_userns
      -> sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, and the line `kernel.apparmor_restrict_unprivileged_userns = 0` in /etc/sysctl.d/harvest.conf to keep it
    ok   ids: one, your own: users inside are all the same
      -> run harvest as root where programs inside must be kept from one another
    ok   ids: one, your own: users inside are all the same
      -> run harvest as root where programs inside must be kept from one another
    ok   cgroups: v1 and v2 side by side; processes: rlimit, memory: watchdog
      -> sandboxes work without; for limits of CPU, and of memory by the kernel, run harvest as root
    ");
}

#[test]
fn what_makes_sandboxes_better() {
    assert_snapshot!(told(&[
        |machine| machine.landlock = Landlock::Version(5),
        |machine| machine.landlock = Landlock::Version(1),
        |machine| machine.landlock = Landlock::Off,
        |machine| machine.landlock = Landlock::Absent,
        |machine| machine.cgroups.memory = false,
        |machine| machine.cgroups = Cgroups::default(),
        |machine| machine.open_files = Some(1024),
        |machine| machine.reflink = Ok(false),
        |machine| machine.reflink = Err("read-only file system".into()),
    ]), @"
    ok   landlock: version 5: files alone
      -> use Linux 6.12 or later, where abstract sockets of the host are closed to network `host` too
    ok   landlock: version 1: not used, because no file could be moved
      -> use Linux 5.19 or later; sandboxes hold without it: it is a second wall
    ok   landlock: the kernel has it and did not start it
      -> add `landlock` to the kernel's parameter `lsm=`; sandboxes hold without it: it is a second wall
    ok   landlock: there is none, or a container's filter hides it
      -> use a kernel with CONFIG_SECURITY_LANDLOCK; sandboxes hold without it: it is a second wall
    ok   cgroups: v2; processes: cgroup, memory: watchdog
      -> make /sys/fs/cgroup writable to harvest (in a container: do not mount it read-only)
    ok   cgroups: none; processes: rlimit, memory: watchdog
      -> mount the cgroup file system (in a container: --cgroupns private and a writable /sys/fs/cgroup)
    ok   open files: at most 1024, enough for 204 commands at once
      -> raise the hard limit: `ulimit -Hn 4400` as root, LimitNOFILE=4400 in a unit of systemd, or nofile in /etc/security/limits.conf
    ok   reflink: copies of files on /home take time and room of their own
      -> put the home on xfs or btrfs where sandboxes are saved while commands run in them
    ok   reflink: not tried: /home: read-only file system
      -> make the home writable to whoever runs harvest
    ");
}

#[test]
fn root_is_not_held_back_by_what_is_set_for_others() {
    let mut careful = machine();
    careful.namespaces.unprivileged_userns_clone = Some(0);
    careful.namespaces.apparmor_restrict_unprivileged_userns = Some(1);
    assert_eq!(all(&careful), all(&machine()));
}
