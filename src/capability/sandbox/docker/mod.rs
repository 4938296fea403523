//! Docker and Podman: sandboxes as containers of an engine on this machine. Only asked for by name.
//!
//! The engine keeps the files; harvest keeps, under its home, what layers are called, which images are made of them, and
//! volumes. The first process of a container is harvest's own (`local/inside/guest.rs`): it connects once to a socket that
//! the host shows it, gives up its powers, and from there on streams, files and ports pass as in a local sandbox.

mod build;
mod container;
mod engine;

use super::local::shared::{Hold, blocking, collect, make_private, record, recorded, unused};
use super::local::{Gateways, Guest, Ids, Images, LIFETIME, Lock, Manifest, Probe, Store, Upstream};
use super::{
    BuildLog, Collected, Credential, ExecSpec, ImageInfo, ImageSpec, Isolation, Network, Process,
    RefusalSink, Sandbox, SandboxProvider, SandboxSpec, Snapshot, SnapshotMode,
};
use crate::capability::meter::Account;
use crate::capability::volume::VolumeStore;
use crate::capability::volume::directory::DirectoryVolumes;
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use async_trait::async_trait;
use bollard::Docker;
use bollard::query_parameters::{ListVolumesOptions, RemoveContainerOptions, RemoveVolumeOptions};
use bytes::Bytes;
use container::Programs;
pub use engine::connect;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Makes sandboxes with an engine. What it keeps itself lies in `docker` under the home.
pub struct DockerProvider {
    inner: Arc<Inner>,
    open: Mutex<HashMap<String, (SandboxSpec, Weak<DockerSandbox>)>>,
}

/// What sandboxes need of their provider.
struct Inner {
    engine: Docker,
    /// How ids inside map to the host's: `subuid` or `host`.
    ids: &'static str,
    images: Images,
    /// What the names of this home's containers and images start with.
    scope: String,
    programs: Programs,
    gateways: Gateways,
    volumes: Arc<DirectoryVolumes>,
}

/// Where the provider keeps its part of a home.
fn store(home: &Path) -> Result<Store> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Store::new(&home.join("docker"), Ids::Emulated { uid, gid })
}

/// Ids of a home's containers, with whether one is running. Asks no engine.
pub fn sandboxes(home: &Path) -> Result<Vec<(String, bool)>> {
    if !home.join("docker").is_dir() {
        return Ok(Vec::new());
    }
    let store = store(home)?;
    store.sandboxes()?.into_iter().map(|id| Ok((id.clone(), store.try_lock(&id)?.is_none()))).collect()
}

/// Says whether there is an engine to be asked for. It is no fault where there is none.
pub async fn probe() -> Probe {
    let found = async {
        let engine = connect().await?;
        let info = engine.info().await.map_err(|error| engine::failed("ask for its version", &error))?;
        let text = |text: Option<String>| text.unwrap_or_default();
        Ok::<_, CapabilityError>(format!(
            "version {}, storage {}",
            text(info.server_version),
            text(info.driver)
        ))
    };
    Probe::optional("docker", found.await.map_err(|error| error.message), engine::INSTALL)
}

impl DockerProvider {
    /// A provider on the engine of this machine. `launcher` is the harvest binary. `unavailable` without an engine.
    pub async fn connect(home: &Path, launcher: &Path, upstreams: Vec<Upstream>) -> Result<Self> {
        let engine = connect().await?;
        let ids = container::ids(&engine).await?;
        let store = store(home)?;
        store.sweep()?;
        let scope = format!("harvest-{}", &Digest::of(store.home().as_os_str().as_bytes()).hex()[..16]);
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let volumes = Arc::new(DirectoryVolumes::new(&store.volumes(), uid, gid)?);
        let images = Images::open(store, Ids::Emulated { uid, gid })?;
        let programs = Programs::of(launcher)?;
        let gateways = Gateways::new(upstreams)?;
        let inner = Inner { engine, ids, images, scope, programs, gateways, volumes };
        Ok(Self { inner: Arc::new(inner), open: Mutex::default() })
    }

    /// What the engine's names of this home's containers and images start with.
    pub fn scope(&self) -> &str {
        &self.inner.scope
    }

    /// The sandbox with this id that this process has open.
    fn opened(&self, id: &str) -> Option<(SandboxSpec, Arc<DockerSandbox>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (spec, sandbox) = open.get(id)?;
        let sandbox = sandbox.upgrade().filter(|sandbox| sandbox.guest.is_open())?;
        Some((spec.clone(), sandbox))
    }
}

/// An open container.
struct DockerSandbox {
    guest: Arc<Guest>,
    inner: Arc<Inner>,
    /// What it was made from, without its own changes.
    manifest: Manifest,
}

#[async_trait]
impl Sandbox for DockerSandbox {
    fn id(&self) -> &str {
        &self.guest.id
    }

    fn is_open(&self) -> bool {
        self.guest.is_open()
    }

    fn isolation(&self) -> Isolation {
        self.guest.isolation()
    }

    async fn set_network(&self, network: Network) -> Result<()> {
        self.guest.set_network(&network).await
    }

    fn on_refusal(&self, sink: RefusalSink) {
        self.guest.on_refusal(sink);
    }

    async fn exec(&self, spec: ExecSpec) -> Result<Box<dyn Process>> {
        self.guest.exec(spec).await
    }

    async fn read_file(&self, path: &str, limit: u64) -> Result<Bytes> {
        self.guest.read_file(path, limit).await
    }

    async fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        self.guest.write_file(path, content, mode).await
    }

    async fn forward(
        &self,
        upstream: &str,
        credentials: Vec<Credential>,
        account: Option<Arc<Account>>,
    ) -> Result<String> {
        self.guest.forward(upstream, credentials, account).await
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        let _hold = self.inner.hold().await?;
        let layer = self.inner.images.store.unused_layer("saved");
        self.inner.commit(&self.guest.id, &layer).await?;
        let mut manifest = self.manifest.clone();
        manifest.layers.insert(0, layer);
        Ok(Snapshot { image: self.inner.images.save(manifest)?.0, mode: SnapshotMode::Copied })
    }

    async fn terminate(&self) -> Result<()> {
        self.guest.end().await
    }
}

#[async_trait]
impl SandboxProvider for DockerProvider {
    fn name(&self) -> &'static str {
        "docker"
    }

    async fn isolation(&self, spec: &SandboxSpec) -> Result<Isolation> {
        Ok(self.inner.isolation(spec))
    }

    async fn open(&self, spec: SandboxSpec) -> Result<Arc<dyn Sandbox>> {
        Store::check_id(&spec.id)?;
        if let Some((opened, sandbox)) = self.opened(&spec.id) {
            if opened == spec {
                return Ok(sandbox);
            }
            return Err(CapabilityError::new(
                crate::step::ErrorKind::CONFLICT,
                format!("sandbox {} is already open with another definition; end it first", spec.id),
            ));
        }
        let lock = self.inner.images.store.wait_for(&spec.id).await?;
        let hold = self.inner.hold().await?;
        let manifest = self.inner.manifest_of(&spec).await?;
        let guest = self.inner.start(&spec, &manifest, lock).await?;
        // The engine keeps what a container is made from.
        drop(hold);
        let sandbox = Arc::new(DockerSandbox { guest, inner: self.inner.clone(), manifest });
        let mortal = Arc::downgrade(&sandbox);
        let (lifetime, mut ended) = (spec.timeout.unwrap_or(LIFETIME), sandbox.guest.ended.subscribe());
        tokio::spawn(async move {
            if tokio::time::timeout(lifetime, ended.wait_for(|ended| *ended)).await.is_err()
                && let Some(sandbox) = mortal.upgrade()
            {
                let id = &sandbox.guest.id;
                tracing::warn!(sandbox = id, "ending a sandbox that has reached its longest life");
                sandbox.guest.expire(lifetime);
                drop(sandbox.guest.end().await);
            }
        });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, sandbox)| sandbox.strong_count() > 0);
        open.insert(spec.id.clone(), (spec, Arc::downgrade(&sandbox)));
        Ok(sandbox)
    }

    async fn list(&self) -> Result<Vec<(String, bool)>> {
        let store = &self.inner.images.store;
        store.sandboxes()?.into_iter().map(|id| Ok((id.clone(), store.try_lock(&id)?.is_none()))).collect()
    }

    async fn remove(&self, id: &str) -> Result<()> {
        Store::check_id(id)?;
        if let Some((_, sandbox)) = self.opened(id) {
            sandbox.guest.end().await?;
        }
        let lock = self.inner.images.store.wait_for(id).await?;
        self.inner.discard(id, lock).await
    }

    async fn build_image(
        &self,
        spec: &ImageSpec,
        name: Option<&str>,
        log: BuildLog,
    ) -> Result<(String, bool)> {
        self.inner.build(spec, name, &log).await
    }

    async fn tag_image(&self, image: &str, name: &str) -> Result<()> {
        let _hold = self.inner.hold().await?;
        let images = &self.inner.images;
        match images.find(image)? {
            Some(id) => images.tag(&id, name),
            None => images.tag(&images.save(self.inner.manifest(image).await?)?.0, name),
        }
    }

    async fn find_image(&self, image: &str) -> Result<Option<String>> {
        match self.inner.images.find(image)? {
            Some(id) => Ok(Some(id)),
            None => Ok(self.inner.of_engine(image).await?.map(|(id, _)| id)),
        }
    }

    async fn list_images(&self) -> Result<Vec<ImageInfo>> {
        self.inner.images.list()
    }

    async fn unused_images(&self, since: jiff::Timestamp) -> Result<Vec<String>> {
        let images = self.inner.images.clone();
        blocking(move || unused(&images, since)).await
    }

    async fn collect(&self, images: &[String], since: jiff::Timestamp, dry: bool) -> Result<Collected> {
        let (all, images) = (self.inner.images.clone(), images.to_vec());
        let collected = blocking(move || collect(&all, &images, since, dry)).await?;
        if !dry && !collected.busy {
            self.inner.forget().await?;
        }
        Ok(collected)
    }

    fn volumes(&self) -> Arc<dyn VolumeStore> {
        self.inner.volumes.clone()
    }
}

impl Inner {
    /// Keeps layers from going, as long as nothing names them yet.
    async fn hold(&self) -> Result<Hold> {
        let store = self.images.store.clone();
        blocking(move || store.hold()).await
    }

    /// The engine's name for a container.
    fn name(&self, id: &str) -> String {
        format!("{}.{id}", self.scope)
    }

    /// Removes a container without processes, with its files and its lock.
    async fn discard(&self, id: &str, lock: Lock) -> Result<()> {
        self.drop_container(id).await?;
        let (store, id) = (self.images.store.clone(), id.to_owned());
        blocking(move || {
            store
                .remove_sandbox(&id, lock)
                .map_err(|error| CapabilityError::io(format!("remove sandbox {id}"), &error))
        })
        .await
    }

    /// Removes a container with the volumes of its own, where there is one.
    async fn drop_container(&self, id: &str) -> Result<()> {
        let failed = |error| engine::failed(format!("remove the container of sandbox {id}"), &error);
        let name = self.name(id);
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        match self.engine.remove_container(&name, Some(options)).await {
            Ok(()) => {}
            Err(error) if engine::is_missing(&error) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        let own = format!("{name}{}", container::CLOSED);
        let filters = Some(HashMap::from([("name".to_owned(), vec![own.clone()])]));
        let found = self.engine.list_volumes(Some(ListVolumesOptions { filters })).await.map_err(failed)?;
        for volume in found.volumes.unwrap_or_default().iter().filter(|volume| volume.name.starts_with(&own))
        {
            self.engine.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await.map_err(failed)?;
        }
        Ok(())
    }

    /// What a sandbox is made from: what it was first made from where it has files, else what its image is now.
    async fn manifest_of(&self, spec: &SandboxSpec) -> Result<Manifest> {
        if let Some(manifest) = recorded(&self.images.store, &spec.id)? {
            return Ok(manifest);
        }
        let manifest = self.manifest(&spec.image).await?;
        make_private(&self.directory(&spec.id))?;
        record(&self.images.store, &spec.id, &manifest)?;
        Ok(manifest)
    }

    /// Where the socket of a container lies.
    fn directory(&self, id: &str) -> PathBuf {
        self.images.store.sandbox(id)
    }
}
