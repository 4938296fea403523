//! `harvest doctor`, on machines that lack something: what is missing is taken from it for real, by limits, namespaces,
//! mounts and filters around the process, and it names the cause and the remedy.

use super::contract::sandbox::spec;
use super::{is_root, launcher, local};
use harvest::capability::sandbox::SandboxProvider;
use harvest::capability::sandbox::local::{LocalProvider, probes};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What it says, by probe.
struct Report(Vec<Value>);

impl Report {
    fn of(mut command: Command) -> Self {
        let output = command.stdin(Stdio::null()).output().expect("runs");
        let probes = serde_json::from_slice(&output.stdout);
        let failed = |error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
        let report = Self(probes.unwrap_or_else(failed));
        // What only those need who ask for it is no fault where it is missing.
        let works = report.0.iter().all(|probe| probe["ok"] == true || probe["optional"] == true);
        assert_eq!(output.status.code(), Some(if works { 0 } else { 4 }), "{:?}", report.0);
        report
    }

    /// Whether a probe is good, its cause and its remedy.
    fn probe(&self, name: &str) -> (bool, &str, &str) {
        let found = self.0.iter().find(|probe| probe["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        let text = |key: &str| found[key].as_str().unwrap_or_default();
        (found["ok"] == true, text("detail"), text("remedy"))
    }

    /// That a probe fails and says both.
    fn fails(&self, name: &str, cause: &str, remedy: &str) {
        let found = self.probe(name);
        assert!(!found.0 && found.1.contains(cause) && found.2.contains(remedy), "{name}: {found:?}");
    }
}

fn doctor(home: &Path) -> Command {
    let mut command = Command::new(launcher());
    command.args(["doctor", "--json", "--home"]).arg(home);
    command
}

/// The same in a mount namespace of its own, after a script that changes what is to be seen there.
fn after(script: &str, home: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(if is_root() { &["-m"][..] } else { &["-Urm"] });
    command.args(["sh", "-ec", &format!("{script}\nexec \"$@\""), "sh"]).arg(launcher());
    command.args(["doctor", "--json", "--home"]).arg(home);
    command
}

/// Makes a system call fail with an error number, for the command and all that it starts.
fn without_call(command: &mut Command, call: libc::c_long, error: i32) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let program = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: 4, filter: program.as_ptr().cast_mut() };
        // SAFETY: both take numbers and a program that outlives the call.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it makes system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_say_what_works_here() {
    let provider = local();
    let check = provider.check().await;
    assert!(check.ok, "{check:?}");
    let probes = probes(provider.home.path());
    for probe in &probes {
        assert!(probe.ok || !probe.remedy.is_empty(), "{probe:?}");
        assert!(!probe.detail.is_empty(), "{probe:?}");
    }
    for required in ["kernel", "user namespaces", "ids", "overlayfs", "seccomp", "open files"] {
        assert!(probes.iter().any(|probe| probe.name == required && probe.ok), "{required}: {probes:?}");
    }
    let report = Report::of(doctor(provider.home.path()));
    assert!(report.probe("sandbox").0, "{:?}", report.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_that_is_no_launcher_is_an_error() {
    let home = tempfile::tempdir().expect("a directory");
    let provider = LocalProvider::new(home.path(), "/bin/true".into(), Vec::new()).expect("a provider");
    let error = provider.open(spec()).await.err().expect("refused");
    assert_eq!(error.kind.as_str(), "unavailable");
    assert!(error.message.contains("/bin/true"), "{error}");
}

#[test]
fn without_user_namespaces() {
    let home = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("unshare");
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    command.args(["-Ur", "sh", "-ec", script, "sh"]).arg(launcher());
    command.args(["doctor", "--json", "--home"]).arg(home.path());
    let report = Report::of(command);
    report.fails(
        "user namespaces",
        "closed by user.max_user_namespaces",
        "sudo sysctl user.max_user_namespaces=",
    );
    // Root of a namespace with a single id, as in many containers.
    report.fails("ids", "too few user ids", "as an ordinary user");
    assert!(!report.probe("sandbox").0);
}

#[test]
fn in_a_container_whose_filter_forbids_namespaces() {
    let home = tempfile::tempdir().expect("a directory");
    let mut command = doctor(home.path());
    without_call(&mut command, libc::SYS_clone3, libc::ENOSYS);
    Report::of(command).fails("sandbox", "seccomp profile", "");
}

#[test]
fn where_the_kernel_knows_no_overlay() {
    let home = tempfile::tempdir().expect("a directory");
    let known = home.path().join("filesystems");
    std::fs::write(&known, "nodev\tproc\n\text4\n").expect("written");
    let hide = format!("mount --bind {} /proc/filesystems", known.display());
    Report::of(after(&hide, home.path())).fails("overlayfs", "does not know it", "sudo modprobe overlay");
}

#[test]
fn where_the_home_lies_on_an_overlay() {
    let home = tempfile::tempdir().expect("a directory");
    let at = home.path().display();
    let mount = format!(
        "cd {at}; mkdir lower upper work home; mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work,userxattr home"
    );
    let report = Report::of(after(&mount, &home.path().join("home")));
    report.fails("overlayfs", "lies on overlay", "--home");
    if is_root() {
        report.fails("sandbox", "not on an overlay", "");
    }
}

#[test]
fn where_the_kernel_has_no_filters() {
    let home = tempfile::tempdir().expect("a directory");
    let hide = "mount --bind /dev/null /proc/sys/kernel/seccomp/actions_avail";
    Report::of(after(hide, home.path())).fails("seccomp", "offers no filters", "CONFIG_SECCOMP_FILTER");
}

#[test]
fn where_the_kernel_has_no_landlock() {
    let home = tempfile::tempdir().expect("a directory");
    for (error, cause, remedy) in [
        (libc::ENOSYS, "there is none", "CONFIG_SECURITY_LANDLOCK"),
        (libc::EOPNOTSUPP, "did not start it", "`lsm=`"),
    ] {
        let mut command = doctor(home.path());
        without_call(&mut command, libc::SYS_landlock_create_ruleset, error);
        let report = Report::of(command);
        let (ok, detail, advice) = report.probe("landlock");
        assert!(ok && detail.contains(cause) && advice.contains(remedy), "{detail} {advice}");
        // The second wall is missing, and the first stands.
        assert!(report.probe("sandbox").0, "{:?}", report.0);
    }
}

#[test]
fn where_cgroups_cannot_be_made() {
    let home = tempfile::tempdir().expect("a directory");
    let limits_nothing = "processes: rlimit, memory: watchdog";
    if !is_root() {
        let report = Report::of(doctor(home.path()));
        let (ok, detail, remedy) = report.probe("cgroups");
        assert!(ok && detail.ends_with(limits_nothing) && remedy.contains("as root"), "{detail} {remedy}");
        return;
    }
    for (script, version, advice) in [
        ("umount -Rl /sys/fs/cgroup", "none", "mount the cgroup file system"),
        (
            "grep ' - cgroup' /proc/self/mountinfo | cut -d' ' -f5 | while read at; do mount -o remount,bind,ro $at; done",
            "v",
            "make /sys/fs/cgroup writable",
        ),
    ] {
        let report = Report::of(after(script, home.path()));
        let (ok, detail, remedy) = report.probe("cgroups");
        assert!(ok && detail.starts_with(version) && detail.ends_with(limits_nothing), "{detail}");
        assert!(remedy.contains(advice), "{remedy}");
        assert!(report.probe("sandbox").0, "{:?}", report.0);
    }
}

#[test]
fn where_few_files_may_be_open() {
    let home = tempfile::tempdir().expect("a directory");
    let limited = |number: u64| {
        let mut command = doctor(home.path());
        let limit = rustix::process::Rlimit { current: Some(number), maximum: Some(number) };
        let set = move || Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?);
        // SAFETY: between fork and exec it makes one system call.
        unsafe { command.pre_exec(set) };
        Report::of(command)
    };
    limited(100).fails("open files", "at most 100", "LimitNOFILE=");
    let report = limited(1024);
    let (ok, detail, remedy) = report.probe("open files");
    assert!(
        ok && detail.contains("commands at once") && remedy.contains("LimitNOFILE="),
        "{detail} {remedy}"
    );
}

/// The kernel can be asked to call itself 2.6, for programs that know no other.
#[test]
fn where_the_kernel_is_too_old() {
    const UNAME26: libc::c_ulong = 0x002_0000;
    let home = tempfile::tempdir().expect("a directory");
    let mut command = doctor(home.path());
    let pretend = || {
        // SAFETY: takes a number.
        let before = unsafe { libc::personality(UNAME26) };
        if before < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec it makes one system call.
    unsafe { command.pre_exec(pretend) };
    Report::of(command).fails("kernel", "Linux 2.6", "use Linux 5.14 or later");
}

#[test]
fn where_copies_share_nothing_with_what_they_copy() {
    let home = tempfile::tempdir().expect("a directory");
    let mount = format!("mount -t tmpfs tmpfs {}", home.path().display());
    let report = Report::of(after(&mount, home.path()));
    let (ok, detail, remedy) = report.probe("reflink");
    assert!(
        ok && detail.contains("room of their own") && remedy.contains("xfs or btrfs"),
        "{detail} {remedy}"
    );
}
