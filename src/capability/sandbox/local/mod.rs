//! The local provider: sandboxes from kernel namespaces and overlayfs on this machine, for root and ordinary users.
//!
//! The host starts a launcher (this binary again, [`inside`]), which makes the namespaces; an init process builds the
//! file tree and takes requests over a socket that only the host holds. No other program is run, and nothing is less
//! isolated where isolation fails: [`LocalProvider::open`] refuses and says what is missing.

mod base;
mod build;
mod cgroup;
mod channel;
mod copy;
mod durable;
mod freeze;
mod garbage;
mod gateway;
mod guest;
mod holder;
mod image;
mod inside;
mod instance;
mod lingering;
mod listener;
mod merge;
mod metered;
mod oci;
mod passage;
mod plan;
mod points;
mod probe;
mod process;
mod proxy;
mod reach;
mod running;
mod saving;
mod spawn;
mod squash;
mod stack;
mod store;
mod strikes;
#[cfg(test)]
mod tests;
mod watchdog;
mod wire;

use super::{
    BuildLog, Collected, ImageInfo, ImagePull, ImageSpec, Isolation, Network, Sandbox, SandboxProvider,
    SandboxSpec,
};
use crate::capability::allow_list::AllowList;
use crate::capability::volume::VolumeStore;
use crate::capability::volume::directory::DirectoryVolumes;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use async_trait::async_trait;
use cgroup::{Groups, Limits};
pub(super) use gateway::Gateways;
pub(super) use guest::Guest;
use guest::Made;
pub(super) use image::{Images, Manifest};
pub use inside::{ENTRY, sandbox_main};
use instance::LocalSandbox;
use plan::Plan;
pub(super) use plan::{Bind, Ids, Library, Runtime};
pub use probe::{Probe, probes};
use running::Launch;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
pub(super) use store::{Lock, Store};

/// What providers that keep their files elsewhere share with this one.
pub(super) mod shared {
    #[cfg(feature = "docker")]
    pub(in crate::capability::sandbox) use super::base::{ENGINE, binds, layer};
    pub(in crate::capability::sandbox) use super::build::{
        COMMAND_LIMIT, blocking, check, copy_key, sources,
    };
    #[cfg(feature = "docker")]
    pub(in crate::capability::sandbox) use super::build::{follow, too_long};
    #[cfg(feature = "docker")]
    pub(in crate::capability::sandbox) use super::cgroup::PROCESS_LIMIT;
    #[cfg(feature = "docker")]
    pub(in crate::capability::sandbox) use super::channel::Channel;
    pub(in crate::capability::sandbox) use super::garbage::{collect, unused};
    #[cfg(feature = "docker")]
    pub(in crate::capability::sandbox) use super::guest::{Life, Made};
    pub(in crate::capability::sandbox) use super::image::{HOST, Root, check_name, missing};
    #[cfg(feature = "docker")]
    pub(in crate::capability::sandbox) use super::plan::Reply;
    #[cfg(feature = "docker")]
    pub(in crate::capability::sandbox) use super::reach::word;
    #[cfg(feature = "docker")]
    pub(in crate::capability::sandbox) use super::stack::{record, recorded};
    pub(in crate::capability::sandbox) use super::store::{Hold, make_private};
}

/// Longest life of a sandbox that names none.
pub(super) const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A service outside that sandboxes reach through the host, which adds the credentials.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// What steps call it, such as `anthropic`.
    pub name: String,
    /// Where requests go, such as `https://api.anthropic.com`.
    pub base_url: String,
    /// The operator's own, used where the caller brings none.
    pub credentials: Vec<super::Credential>,
    /// Whether it is a model API, whose answers are counted and paid for.
    pub metered: bool,
}

/// Makes sandboxes on this machine. State lies under one directory, which only its owner can enter.
pub struct LocalProvider {
    images: Images,
    ids: Ids,
    launcher: PathBuf,
    runtime: Option<Runtime>,
    gateways: Gateways,
    volumes: Arc<DirectoryVolumes>,
    open: Mutex<HashMap<String, (SandboxSpec, Weak<LocalSandbox>)>>,
}

impl LocalProvider {
    /// A provider with its state under `home`. `launcher` is the harvest binary, whose `main` calls [`sandbox_main`];
    /// normally `/proc/self/exe`. Fails with `unavailable` where ids cannot be mapped safely.
    pub fn new(home: &Path, launcher: PathBuf, upstreams: Vec<Upstream>) -> Result<Self> {
        Self::with_runtime(home, launcher, upstreams, None)
    }

    /// The same with gVisor between its sandboxes and the kernel.
    pub(super) fn with_runtime(
        home: &Path,
        launcher: PathBuf,
        upstreams: Vec<Upstream>,
        runtime: Option<Runtime>,
    ) -> Result<Self> {
        let ids = choose_ids()?;
        let store = Store::new(home, ids)?;
        let (uid, gid) = ids.root();
        let volumes = Arc::new(DirectoryVolumes::new(&store.volumes(), uid, gid)?);
        for (id, group) in cgroup::left(&cgroup::prefix(store.home())) {
            if let Some(_lock) = store.try_lock(&id)? {
                drop(std::fs::remove_dir(group));
            }
        }
        // Last: to ask whether a sandbox is idle makes a lock, also for one that is gone.
        store.sweep()?;
        let images = Images::open(store, ids)?;
        let gateways = Gateways::new(upstreams)?;
        Ok(Self { images, ids, launcher, runtime, gateways, volumes, open: Mutex::default() })
    }

    /// The sandbox with this id that this process has open.
    fn opened(&self, id: &str) -> Option<(SandboxSpec, Arc<LocalSandbox>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (spec, sandbox) = open.get(id)?;
        let sandbox = sandbox.upgrade().filter(|sandbox| sandbox.guest.is_open())?;
        Some((spec.clone(), sandbox))
    }

    /// What a sandbox is made from: what it was made from before where it has files, else what its image is now. Files
    /// on top of other layers than those they were made on would be nonsense.
    fn manifest_of(&self, spec: &SandboxSpec) -> Result<Manifest> {
        let store = &self.images.store;
        if let Some(manifest) = stack::open(store, &spec.id)? {
            return Ok(manifest);
        }
        let _hold = store.hold()?;
        let mut manifest = self.images.manifest(&spec.image)?;
        manifest.layers = squash::flat(store, &manifest.layers);
        stack::begin(store, &spec.id, &manifest)?;
        self.images.settle_sandbox(&spec.id);
        Ok(manifest)
    }

    /// Builds a sandbox around its files and brings it up.
    async fn start(&self, spec: &SandboxSpec, manifest: Manifest, lock: Lock) -> Result<Arc<LocalSandbox>> {
        if let Network::Allow(lines) = &spec.network {
            AllowList::parse(lines)?;
        }
        let launch = self.launch(spec, &manifest)?;
        let running = Arc::new(launch.start(self.images.lower(&manifest)?, lock).await?);
        let made = Made {
            isolation: self.held(spec, &running.groups),
            kills: running.groups.kills_file(),
            relayed: self.runtime.is_some(),
        };
        let guest = Guest::new(running.life.clone(), spec, &manifest, self.gateways.clone(), made);
        let sandbox = Arc::new_cyclic(|this| LocalSandbox {
            guest,
            launch,
            running: Mutex::new(running.clone()),
            images: self.images.clone(),
            manifest: Mutex::new(manifest),
            ending: Arc::default(),
            saving: tokio::sync::Mutex::default(),
            this: this.clone(),
        });
        sandbox.hold(&running);
        sandbox.guest.enforce(&spec.network).await?;
        Ok(sandbox)
    }

    /// What it takes to bring up a sandbox.
    fn launch(&self, spec: &SandboxSpec, manifest: &Manifest) -> Result<Launch> {
        let mut volumes = Vec::new();
        for (target, name) in &spec.volumes {
            if !target.starts_with('/') || target.trim_matches('/').is_empty() {
                return Err(CapabilityError::new(
                    ErrorKind::INVALID,
                    format!("volume {name} cannot be mounted at `{target}`: give an absolute path below /"),
                ));
            }
            volumes.push(Bind { source: self.volumes.make(name)?, target: target.clone(), required: true });
        }
        let isolate_network = spec.network != Network::Host;
        Ok(Launch {
            id: spec.id.clone(),
            launcher: self.launcher.clone(),
            plan: Plan {
                ids: self.ids,
                lower: Vec::new(),
                directory: self.images.store.prepare_sandbox(&spec.id)?,
                binds: base::binds(manifest.root, !isolate_network),
                volumes,
                read_only: manifest.read_only.clone(),
                isolate_network,
                workdir: spec.workdir.clone().or_else(|| manifest.workdir.clone()),
                cgroups: Vec::new(),
                process_limit: None,
                runtime: self.runtime.clone(),
            },
            groups: cgroup::prefix(self.images.store.home()),
            limits: limits(spec),
        })
    }

    /// What holds a sandbox in, in these groups.
    fn held(&self, spec: &SandboxSpec, groups: &Groups) -> Isolation {
        let memory = match (groups.memory, spec.memory) {
            (true, _) => "cgroup",
            (false, Some(_)) if watchdog::can_watch_memory() => "watchdog",
            (false, _) => "none",
        };
        Isolation {
            ids: if self.ids == Ids::Range { "range" } else { "emulated" }.into(),
            memory: memory.into(),
            pids: if groups.processes { "cgroup" } else { "rlimit" }.into(),
            disk: if spec.disk.is_some() { "watchdog" } else { "none" }.into(),
            cpu: if groups.cpu { "cgroup" } else { "none" }.into(),
            network: reach::word(&spec.network).into(),
        }
    }
}

fn limits(spec: &SandboxSpec) -> Limits {
    Limits { memory: spec.memory, cpu: spec.cpu, disk: spec.disk }
}

/// Maps a range of ids as root, the caller's own id otherwise. Never the host's root.
fn choose_ids() -> Result<Ids> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    if uid != 0 {
        return Ok(Ids::Emulated { uid, gid });
    }
    let map = std::fs::read_to_string("/proc/self/uid_map")
        .map_err(|error| CapabilityError::io("read /proc/self/uid_map", &error))?;
    let covers = map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        matches!(numbers[..], [first, _, count] if first <= u64::from(plan::RANGE_BASE)
            && first + count >= u64::from(plan::RANGE_BASE) + u64::from(plan::RANGE_COUNT))
    });
    if covers {
        return Ok(Ids::Range);
    }
    Err(CapabilityError::new(
        ErrorKind::UNAVAILABLE,
        "this root has too few user ids to give a sandbox ids of its own; run harvest as an ordinary user instead",
    ))
}

#[async_trait]
impl SandboxProvider for LocalProvider {
    fn name(&self) -> &'static str {
        if self.runtime.is_some() { "gvisor" } else { "local" }
    }

    async fn isolation(&self, spec: &SandboxSpec) -> Result<Isolation> {
        // Whether a group holds is known only once it is made.
        let id = format!("probe-{}", ulid::Ulid::generate().to_string().to_lowercase());
        let groups = Groups::make(&cgroup::prefix(self.images.store.home()), &id, limits(spec));
        let isolation = self.held(spec, &groups);
        groups.remove();
        Ok(isolation)
    }

    async fn open(&self, spec: SandboxSpec) -> Result<Arc<dyn Sandbox>> {
        Store::check_id(&spec.id)?;
        if let Some((opened, sandbox)) = self.opened(&spec.id) {
            if opened == spec {
                return Ok(sandbox);
            }
            return Err(CapabilityError::new(
                ErrorKind::CONFLICT,
                format!("sandbox {} is already open with another definition; end it first", spec.id),
            ));
        }
        let lock = self.images.store.wait_for(&spec.id).await?;
        let manifest = self.manifest_of(&spec)?;
        let sandbox = self.start(&spec, manifest, lock).await?;
        let lifetime = spec.timeout.unwrap_or(LIFETIME);
        let mortal = Arc::downgrade(&sandbox);
        let mut ended = sandbox.guest.ended.subscribe();
        tokio::spawn(async move {
            if tokio::time::timeout(lifetime, ended.wait_for(|ended| *ended)).await.is_err()
                && let Some(sandbox) = mortal.upgrade()
            {
                let id = &sandbox.guest.id;
                tracing::warn!(sandbox = id, "ending a sandbox that has reached its longest life");
                sandbox.guest.expire(lifetime);
                drop(sandbox.end().await);
            }
        });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, sandbox)| sandbox.strong_count() > 0);
        open.insert(spec.id.clone(), (spec, Arc::downgrade(&sandbox)));
        Ok(sandbox)
    }

    async fn list(&self) -> Result<Vec<(String, bool)>> {
        let ids = self.images.store.sandboxes()?;
        ids.into_iter()
            .map(|id| Ok((self.images.store.try_lock(&id)?.is_none(), id)))
            .map(|pair| pair.map(|(running, id)| (id, running)))
            .collect()
    }

    async fn remove(&self, id: &str) -> Result<()> {
        Store::check_id(id)?;
        if let Some((_, sandbox)) = self.opened(id) {
            sandbox.end().await?;
        }
        let lock = self.images.store.wait_for(id).await?;
        let (store, id) = (self.images.store.clone(), id.to_owned());
        build::blocking(move || {
            store
                .remove_sandbox(&id, lock)
                .map_err(|error| CapabilityError::io(format!("remove sandbox {id}"), &error))
        })
        .await
    }

    async fn build_image(
        &self,
        spec: &ImageSpec,
        name: Option<&str>,
        log: BuildLog,
    ) -> Result<(String, bool)> {
        self.build(spec, name, &log).await
    }

    async fn import_image(&self, source: &Path, name: &str, log: BuildLog) -> Result<(String, bool)> {
        self.import(source, name, &log).await
    }

    async fn pull_image(
        &self,
        pull: &ImagePull,
        name: Option<&str>,
        log: BuildLog,
    ) -> Result<(String, bool)> {
        self.pull(pull, name, &log).await
    }

    async fn export_image(&self, image: &str, target: &Path, log: BuildLog) -> Result<()> {
        self.export(image, target, &log).await
    }

    async fn remove_image(&self, image: &str) -> Result<Option<String>> {
        self.images.remove(image)
    }

    async fn tag_image(&self, image: &str, name: &str) -> Result<()> {
        self.images.tag(image, name)
    }

    async fn find_image(&self, image: &str) -> Result<Option<String>> {
        self.images.find(image)
    }

    async fn list_images(&self) -> Result<Vec<ImageInfo>> {
        self.images.list()
    }

    async fn unused_images(&self, since: jiff::Timestamp) -> Result<Vec<String>> {
        let images = self.images.clone();
        build::blocking(move || garbage::unused(&images, since)).await
    }

    async fn collect(&self, images: &[String], since: jiff::Timestamp, dry: bool) -> Result<Collected> {
        let (all, images) = (self.images.clone(), images.to_vec());
        build::blocking(move || garbage::collect(&all, &images, since, dry)).await
    }

    fn volumes(&self) -> Arc<dyn VolumeStore> {
        self.volumes.clone()
    }
}
