//! Says what this machine offers for sandboxes and what to do about what is missing. Changes nothing.

use super::LocalProvider;
use super::cgroup::{Groups, Limits};
use crate::capability::sandbox::{ExecSpec, ExitStatus, SandboxProvider, SandboxSpec};
use std::fs;
use std::path::Path;

/// One thing that sandboxes need or use, as `harvest doctor` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is there.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do where it is not; empty where it is.
    pub remedy: String,
}

impl Probe {
    fn new(name: &'static str, ok: bool, detail: impl Into<String>, remedy: &str) -> Self {
        Self { name, ok, detail: detail.into(), remedy: if ok { String::new() } else { remedy.into() } }
    }
}

/// Looks at what sandboxes with their state under `home` need.
pub fn probes(home: &Path) -> Vec<Probe> {
    vec![user_namespaces(), overlay(home), seccomp(), cgroups()]
}

impl LocalProvider {
    /// Opens a sandbox, runs a command in it and removes it: the one probe that proves everything.
    pub async fn check(&self) -> Probe {
        let name = "sandbox";
        let spec = SandboxSpec {
            id: format!("doctor-{}", std::process::id()),
            image: "host".into(),
            ..SandboxSpec::default()
        };
        let id = spec.id.clone();
        let result = async {
            let sandbox = self.open(spec).await?;
            let exec = ExecSpec { command: vec!["true".into()], ..ExecSpec::default() };
            let status = sandbox.exec(exec).await?.wait().await?;
            Ok::<_, crate::capability::CapabilityError>((status, sandbox.isolation()))
        }
        .await;
        let removed = self.remove(&id).await;
        match result.and_then(|found| removed.map(|()| found)) {
            Ok((status, isolation)) => {
                let detail = isolation.to_string();
                Probe::new(
                    name,
                    status == ExitStatus::Code(0),
                    detail,
                    "`true` failed inside; is /usr/bin complete?",
                )
            }
            Err(error) => {
                Probe::new(name, false, error.message, "see the probes above, or use `--provider modal`")
            }
        }
    }
}

fn user_namespaces() -> Probe {
    let name = "user namespaces";
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if !Path::new("/proc/self/ns/user").exists() {
        return Probe::new(
            name,
            false,
            "the kernel has none",
            "use a kernel with CONFIG_USER_NS, Linux 5.14 or later",
        );
    }
    let root = rustix::process::geteuid().is_root();
    let closed = [
        ("user.max_user_namespaces", number("/proc/sys/user/max_user_namespaces") == Some(0)),
        (
            "kernel.unprivileged_userns_clone",
            !root && number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0),
        ),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            !root && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1),
        ),
    ];
    match closed.iter().find(|(_, closed)| *closed) {
        Some((setting, _)) => {
            let value = match *setting {
                "user.max_user_namespaces" => "15000",
                "kernel.unprivileged_userns_clone" => "1",
                _ => "0",
            };
            Probe::new(name, false, format!("closed by {setting}"), &format!("sudo sysctl {setting}={value}"))
        }
        None => Probe::new(
            name,
            true,
            if root { "available, with a range of ids" } else { "available, with one id" },
            "",
        ),
    }
}

fn overlay(home: &Path) -> Probe {
    const OVERLAY_MAGIC: u64 = 0x794c_7630;
    let name = "overlayfs";
    let known = fs::read_to_string("/proc/filesystems").is_ok_and(|text| text.contains("\toverlay"));
    if !known {
        return Probe::new(name, false, "the kernel does not know it (yet)", "sudo modprobe overlay");
    }
    let place = home.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    match rustix::fs::statfs(place) {
        Ok(found) if found.f_type as u64 == OVERLAY_MAGIC => Probe::new(
            name,
            false,
            format!("{} lies on an overlay itself, as in a container", place.display()),
            "put the home on a volume of the container: `--home` or HARVEST_HOME",
        ),
        Ok(_) => Probe::new(name, true, format!("available on {}", place.display()), ""),
        Err(errno) => Probe::new(
            name,
            false,
            format!("cannot look at {}: {errno}", place.display()),
            "choose another home",
        ),
    }
}

fn seccomp() -> Probe {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let ok = actions.contains("errno");
    let detail = if ok { "filters are available" } else { "the kernel offers no filters" };
    Probe::new("seccomp", ok, detail, "use a kernel with CONFIG_SECCOMP_FILTER")
}

fn cgroups() -> Probe {
    let limits = Limits { memory: Some(1 << 30), cpu: Some(1.0), disk: None };
    let groups = Groups::make("harvest-probe-", &std::process::id().to_string(), limits);
    groups.remove();
    let held = |held| if held { "cgroup" } else { "none" };
    let processes = if groups.processes { "cgroup" } else { "rlimit" };
    Probe::new(
        "cgroups",
        groups.processes && groups.memory,
        format!("processes: {processes}, memory: {}", held(groups.memory)),
        "sandboxes work without; for limits of memory and CPU run harvest as root",
    )
}
