//! Control groups of sandboxes: limits of processes, memory and CPU where this machine lets us set them.
//! Where it does not, nothing is pretended: what holds is part of a sandbox's isolation report.

use crate::id::Digest;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most processes and threads in a sandbox, its supervisors included: room for a thousand commands at once, each with its
/// supervisor, and as many again that they start.
pub(in crate::capability::sandbox) const PROCESS_LIMIT: u64 = 4096;
/// Length of the period that a CPU limit is measured over, in microseconds.
const CPU_PERIOD_US: f64 = 100_000.0;

/// What a sandbox asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes.
    pub(super) memory: Option<u64>,
    /// Cores.
    pub(super) cpu: Option<f64>,
    /// Bytes of files. No control group holds these.
    pub(super) disk: Option<u64>,
}

/// The groups of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Groups {
    directories: Vec<PathBuf>,
    /// Whether the number of processes is held.
    pub(super) processes: bool,
    /// Whether the memory is held to the limit asked for.
    pub(super) memory: bool,
    /// Whether the CPU is held to the limit asked for.
    pub(super) cpu: bool,
    /// The file that counts the processes killed at the limit of memory.
    kills: Option<PathBuf>,
    /// The file that freezes all processes of the sandbox.
    pub(super) freezer: Option<PathBuf>,
}

impl Groups {
    /// Makes groups for a sandbox and sets its limits, as far as this machine allows.
    pub(super) fn make(prefix: &str, id: &str, limits: Limits) -> Self {
        Self::make_below(&Parents::find(), &format!("{prefix}{id}"), limits)
    }

    fn make_below(parents: &Parents, name: &str, limits: Limits) -> Self {
        let mut groups = Self::default();
        groups.processes = groups.set(parents.get("pids"), name, &[("pids.max", PROCESS_LIMIT.to_string())]);
        if let Some(bytes) = limits.memory {
            let file = if parents.unified { "memory.max" } else { "memory.limit_in_bytes" };
            groups.memory = groups.set(parents.get("memory"), name, &[(file, bytes.to_string())]);
            if groups.memory && parents.unified {
                groups.set(parents.get("memory"), name, &[("memory.swap.max", "0".into())]);
            }
            let events = if parents.unified { "memory.events" } else { "memory.oom_control" };
            groups.kills =
                parents.get("memory").filter(|_| groups.memory).map(|at| at.join(name).join(events));
        }
        if let Some(cores) = limits.cpu {
            let quota = (cores.max(0.01) * CPU_PERIOD_US).round();
            let settings = if parents.unified {
                vec![("cpu.max", format!("{quota} {CPU_PERIOD_US}"))]
            } else {
                vec![
                    ("cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
                    ("cpu.cfs_quota_us", quota.to_string()),
                ]
            };
            groups.cpu = groups.set(parents.get("cpu"), name, &settings);
        }
        if let Some(parent) = &parents.freezer
            && groups.set(Some(parent), name, &[])
        {
            let file = parent.join(name).join("cgroup.freeze");
            // A group that was left behind may still be frozen.
            groups.freezer = fs::write(&file, "0").is_ok().then_some(file);
        }
        groups
    }

    fn set(&mut self, parent: Option<&PathBuf>, name: &str, settings: &[(&str, String)]) -> bool {
        let Some(parent) = parent else { return false };
        let directory = parent.join(name);
        let made = match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return false,
            made => made.is_ok(),
        };
        let done = settings.iter().all(|(file, value)| fs::write(directory.join(file), value).is_ok())
            // A group that cannot be joined holds nothing.
            && fs::OpenOptions::new().write(true).open(directory.join("cgroup.procs")).is_ok();
        if done {
            if !self.directories.contains(&directory) {
                self.directories.push(directory);
            }
        } else if made {
            drop(fs::remove_dir(&directory));
        }
        done
    }

    /// Their directories.
    pub(super) fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// The file that counts the processes killed at the limit of memory, for [`kills`].
    pub(super) fn kills_file(&self) -> Option<PathBuf> {
        self.kills.clone()
    }

    /// Removes the groups of a sandbox without processes.
    pub(super) fn remove(&self) {
        for directory in &self.directories {
            drop(fs::remove_dir(directory));
        }
    }
}

/// How many processes a group has lost to its limit of memory, where that can be read.
pub(super) fn kills(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// What the names of a home's groups start with.
pub(super) fn prefix(home: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    format!("harvest-{}-", &Digest::of(home.as_os_str().as_bytes()).hex()[..16])
}

/// Ids of sandboxes that have a group, with the group.
pub(super) fn left(prefix: &str) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    let parents = Parents::find();
    for parent in parents.directories.values().chain(&parents.freezer) {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if let Some(id) = entry.file_name().to_str().and_then(|name| name.strip_prefix(prefix)) {
                found.push((id.to_owned(), entry.path()));
            }
        }
    }
    found
}

/// Directories in which groups can be made, by controller.
#[derive(Debug, Default)]
struct Parents {
    directories: BTreeMap<String, PathBuf>,
    unified: bool,
    /// Where groups of the unified hierarchy can be made, which freezes even where it limits nothing.
    freezer: Option<PathBuf>,
}

impl Parents {
    fn get(&self, controller: &str) -> Option<&PathBuf> {
        self.directories.get(controller)
    }

    fn find() -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::parse(&own, &mounts)
    }

    fn parse(own: &str, mounts: &str) -> Self {
        let mut parents = Self::default();
        for line in mounts.lines() {
            let Some((mount, kind)) = line.split_once(" - ") else { continue };
            let Some(point) = mount.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut kind = kind.split(' ');
            match (kind.next(), kind.nth(1)) {
                (Some("cgroup"), Some(options)) => {
                    for controller in options.split(',') {
                        let path = own.lines().find_map(|line| {
                            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                            controllers.split(',').any(|name| name == controller).then_some(path)
                        });
                        if let Some(path) = path.filter(|path| !path.contains("..")) {
                            parents
                                .directories
                                .insert(controller.into(), point.join(path.trim_start_matches('/')));
                        }
                    }
                }
                (Some("cgroup2"), _) => {
                    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
                    let own = own.filter(|path| !path.contains(".."));
                    parents.freezer = own.map(|path| point.join(path.trim_start_matches('/')));
                    parents.unified(&point);
                }
                _ => {}
            }
        }
        parents
    }

    /// Under cgroup v2 a group with processes cannot have controlled children, so sandboxes get a branch at the root.
    /// Without the rights to make one (an ordinary user without delegation) there are no groups.
    fn unified(&mut self, mount: &Path) {
        const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
        let offered = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        if !offered.split_whitespace().any(|name| name == "pids") {
            return;
        }
        let branch = mount.join("harvest");
        if !branch.is_dir() && fs::create_dir(&branch).is_err() {
            return;
        }
        for directory in [mount, &branch] {
            for controller in CONTROLLERS {
                // Enabled already, or not for us to enable: the files below tell.
                drop(fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}")));
            }
        }
        self.enabled(&branch, &fs::read_to_string(branch.join("cgroup.subtree_control")).unwrap_or_default());
    }

    /// Takes the controllers that groups below a branch have.
    fn enabled(&mut self, branch: &Path, controllers: &str) {
        for controller in controllers.split_whitespace() {
            self.directories.insert(controller.into(), branch.to_owned());
            self.freezer = Some(branch.to_owned());
            self.unified = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Groups, Limits, PROCESS_LIMIT, Parents, kills};
    use std::fs;
    use std::path::Path;

    const LIMITS: Limits = Limits { memory: Some(100 << 20), cpu: Some(1.5), disk: None };

    /// A directory with groups as the kernel makes them, as far as they are written to: what it must find there.
    fn group(parent: &Path) -> std::path::PathBuf {
        let group = parent.join("box");
        fs::create_dir_all(&group).unwrap();
        fs::write(group.join("cgroup.procs"), "").unwrap();
        group
    }

    fn setting(group: &Path, file: &str) -> String {
        fs::read_to_string(group.join(file)).unwrap()
    }

    #[test]
    fn a_unified_hierarchy_is_set_in_its_own_words() {
        let branch = tempfile::tempdir().unwrap();
        let mut parents = Parents::default();
        parents.enabled(branch.path(), "cpuset cpu io memory pids\n");
        let group = group(branch.path());
        let made = Groups::make_below(&parents, "box", LIMITS);
        assert!(made.processes && made.memory && made.cpu);
        assert_eq!(setting(&group, "pids.max"), PROCESS_LIMIT.to_string());
        assert_eq!(setting(&group, "memory.max"), (100 << 20).to_string());
        assert_eq!(setting(&group, "memory.swap.max"), "0");
        assert_eq!(setting(&group, "cpu.max"), "150000 100000");
        assert_eq!(made.directories(), std::slice::from_ref(&group), "one group for all of it");
        fs::write(
            group.join("memory.events"),
            "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n",
        )
        .unwrap();
        assert_eq!(kills(&made.kills_file().unwrap()), Some(2));
    }

    #[test]
    fn separate_hierarchies_are_set_in_theirs() {
        let root = tempfile::tempdir().unwrap();
        let mut parents = Parents::default();
        let groups = ["pids", "memory", "cpu"].map(|controller| {
            let parent = root.path().join(controller);
            parents.directories.insert(controller.into(), parent.clone());
            group(&parent)
        });
        let made = Groups::make_below(&parents, "box", LIMITS);
        assert!(made.processes && made.memory && made.cpu);
        let [pids, memory, cpu] = groups;
        assert_eq!(setting(&pids, "pids.max"), PROCESS_LIMIT.to_string());
        assert_eq!(setting(&memory, "memory.limit_in_bytes"), (100 << 20).to_string());
        assert_eq!(
            (setting(&cpu, "cpu.cfs_period_us"), setting(&cpu, "cpu.cfs_quota_us")),
            ("100000".into(), "150000".into())
        );
        assert_eq!(made.directories().len(), 3);
        fs::write(memory.join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n")
            .unwrap();
        assert_eq!(kills(&made.kills_file().unwrap()), Some(7));
    }

    #[test]
    fn what_cannot_be_joined_holds_nothing() {
        let branch = tempfile::tempdir().unwrap();
        let mut parents = Parents::default();
        parents.enabled(branch.path(), "memory");
        let made = Groups::make_below(&parents, "box", LIMITS);
        assert!(!made.processes && !made.memory && !made.cpu, "{made:?}");
        assert_eq!((made.directories().len(), made.kills_file()), (0, None));
    }

    #[test]
    fn groups_go_below_our_own() {
        let own = "8:pids:/\n4:memory:/outer/inner\n2:cpu,cpuacct:/x\n0::/\n";
        let mounts = "38 31 0:35 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      22 27 0:21 / /proc rw - proc proc rw\n";
        let parents = Parents::parse(own, mounts);
        let shown: Vec<_> =
            parents.directories.iter().map(|(name, path)| format!("{name} {}", path.display())).collect();
        assert_eq!(
            shown,
            [
                "cpu /sys/fs/cgroup/cpu,cpuacct/x",
                "cpuacct /sys/fs/cgroup/cpu,cpuacct/x",
                "memory /sys/fs/cgroup/memory/outer/inner",
                "pids /sys/fs/cgroup/pids/",
            ]
        );
        assert!(!parents.unified);
    }
}
