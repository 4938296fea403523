//! Modal: sandboxes on machines of theirs. Only asked for by name.
//!
//! Modal keeps files, images and volumes; harvest keeps, under its home, which sandbox of Modal's is which of ours, what
//! images are called, and which volumes it has used. A sandbox there is made or found again under a key and a name that
//! follow from home, id and generation, so that no crash makes a second one. Its files outlive it as an image: when nobody
//! works in it any more, they are saved and the sandbox ends, and whoever opens it again begins with that image.

mod build;
mod definition;
mod files;
mod instance;
mod network;
mod open;
mod process;
mod record;
mod remote;
mod script;
mod secret;
mod volumes;

use super::local::shared::{Hold, blocking, collect, unused};
use super::local::{Ids, Images, Store};
use super::{
    BuildLog, Collected, ImageInfo, ImagePull, ImageSpec, Isolation, Sandbox, SandboxProvider, SandboxSpec,
};
use crate::capability::modal::messages::client as api;
use crate::capability::modal::{Client, Options};
use crate::capability::secret::KeptSecret;
use crate::capability::volume::VolumeStore;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use async_trait::async_trait;
use instance::{ModalSandbox, State};
use record::Record;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::OnceCell;
use volumes::ModalVolumes;

/// Tags of every sandbox: whose it is, which one, and of which generation.
const HOME_TAG: &str = "harvest-home";
const SANDBOX_TAG: &str = "harvest-sandbox";
const GENERATION_TAG: &str = "harvest-generation";
/// Pages of a list of sandboxes that are asked for at most.
const PAGES_LIMIT: usize = 100;

/// What the operator decides about Modal.
#[derive(Clone, Debug, Default)]
pub struct ModalOptions {
    /// The registry reference that `image: host` stands for; without one it is refused.
    pub host_image: Option<String>,
    /// Modal ends a sandbox in which nothing has run for this long, and its files with it; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// Base URLs of the upstreams that steps may use, by name: no gateway leads to them.
    pub upstreams: BTreeMap<String, String>,
}

/// Makes sandboxes on Modal. What it keeps itself lies in `modal` under the home.
pub struct ModalProvider {
    inner: Arc<Inner>,
    open: Mutex<HashMap<String, Opened>>,
}

/// What a sandbox was opened as, the sandbox, and what outlives it until its files are saved.
type Opened = (SandboxSpec, Weak<ModalSandbox>, Weak<State>);

/// What sandboxes need of their provider.
struct Inner {
    client: Client,
    options: ModalOptions,
    images: Images,
    /// Names this home among all that use the same workspace.
    scope: String,
    volumes: Arc<ModalVolumes>,
    /// Whether what earlier processes have left was ended.
    swept: OnceCell<()>,
    /// Whether Modal took the credentials.
    admitted: OnceCell<()>,
}

fn store(home: &Path) -> Result<Store> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Store::new(&home.join("modal"), Ids::Emulated { uid, gid })
}

/// Ids of a home's sandboxes on Modal, with whether a process works in one. Asks nobody.
pub fn sandboxes(home: &Path) -> Result<Vec<(String, bool)>> {
    if !home.join("modal").is_dir() {
        return Ok(Vec::new());
    }
    listed(&store(home)?)
}

fn listed(store: &Store) -> Result<Vec<(String, bool)>> {
    store.sandboxes()?.into_iter().map(|id| Ok((id.clone(), store.try_lock(&id)?.is_none()))).collect()
}

impl ModalProvider {
    /// A provider for a home. Calls nobody yet: credentials are tried when something is asked for.
    ///
    /// # Errors
    /// Where its part of the home cannot be used.
    pub fn new(home: &Path, client: Client, options: ModalOptions) -> Result<Self> {
        let store = store(home)?;
        store.sweep()?;
        let scope = scope(&home.join("modal"))?;
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let volumes = Arc::new(ModalVolumes::new(client.clone(), store.volumes()));
        let images = Images::open(store, Ids::Emulated { uid, gid })?;
        let inner = Inner {
            client,
            options,
            images,
            scope,
            volumes,
            swept: OnceCell::new(),
            admitted: OnceCell::new(),
        };
        Ok(Self { inner: Arc::new(inner), open: Mutex::default() })
    }

    /// The sandbox with this id that this process has open.
    fn opened(&self, id: &str) -> Option<(SandboxSpec, Arc<ModalSandbox>)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (spec, sandbox, _) = open.get(id)?;
        let sandbox = sandbox.upgrade().filter(|sandbox| sandbox.0.is_open())?;
        Some((spec.clone(), sandbox))
    }

    /// The state of a sandbox of this process that may be on its way out.
    fn leaving(&self, id: &str) -> Option<Arc<State>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(id)?.2.upgrade()
    }
}

/// The name of a home, made at its first use. Chance, not its path: many machines have the same paths.
fn scope(directory: &Path) -> Result<String> {
    let path = directory.join("scope");
    let failed =
        |error: io::Error| CapabilityError::io(format!("name this home in {}", path.display()), &error);
    match fs::read_to_string(&path) {
        Ok(scope) => return Ok(scope),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let made = ulid::Ulid::generate().to_string().to_ascii_lowercase();
    let temporary = directory.join(format!(".scope-{made}"));
    fs::write(&temporary, &made).map_err(failed)?;
    // Whoever links first has named it.
    let linked = fs::hard_link(&temporary, &path);
    drop(fs::remove_file(&temporary));
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => fs::read_to_string(&path).map_err(failed),
    }
}

impl Inner {
    /// Keeps layers from going, as long as nothing names them yet.
    async fn hold(&self) -> Result<Hold> {
        let store = self.images.store.clone();
        blocking(move || store.hold()).await
    }

    /// All sandboxes of this home that run, with their tags.
    async fn running(&self) -> Result<Vec<api::SandboxInfo>> {
        let failed =
            |fault: crate::capability::modal::Fault| fault.explain("list the sandboxes of this home");
        let (mut all, mut before) = (Vec::new(), 0.0);
        for _ in 0..PAGES_LIMIT {
            let request = api::SandboxListRequest {
                app_id: self.client.app().await?.to_owned(),
                before_timestamp: before,
                environment_name: self.client.settings().environment.clone(),
                include_finished: false,
                tags: vec![api::SandboxTag { tag_name: HOME_TAG.into(), tag_value: self.scope.clone() }],
            };
            let page = self.client.call(&request, Options::default()).await.map_err(failed)?.sandboxes;
            let Some(last) = page.last() else { break };
            before = last.created_at;
            all.extend(page);
        }
        Ok(all)
    }

    /// Ends sandboxes of this home that no record names: whoever made them was killed before, or while, it removed them.
    async fn end_orphans(&self) -> Result<()> {
        for running in self.running().await? {
            let tag =
                |name: &str| running.tags.iter().find(|tag| tag.tag_name == name).map(|tag| &*tag.tag_value);
            let Some(id) = tag(SANDBOX_TAG).filter(|id| Store::check_id(id).is_ok()) else { continue };
            // Whoever holds the lock knows what it does.
            let Some(lock) = self.images.store.try_lock(id)? else { continue };
            let needed = Record::read(&self.images.store, id)?.is_some_and(|record| match &record.sandbox {
                Some(sandbox) => *sandbox == running.id,
                // It was asked for, and whoever asked did not hear the answer.
                None => {
                    record.leaving.as_ref() != Some(&running.id)
                        && tag(GENERATION_TAG) == Some(&record.generation.to_string())
                }
            });
            if !needed {
                tracing::info!(sandbox = id, "ending a sandbox on Modal that nobody needs");
                remote::terminate(&self.client, id, &running.id, None).await?;
                if !self.images.store.sandbox(id).exists() {
                    self.discard(id, lock).await?;
                }
            }
        }
        Ok(())
    }

    /// Forgets a sandbox, and with it its lock.
    async fn discard(&self, id: &str, lock: super::local::Lock) -> Result<()> {
        let (store, id) = (self.images.store.clone(), id.to_owned());
        blocking(move || {
            store
                .remove_sandbox(&id, lock)
                .map_err(|error| CapabilityError::io(format!("remove sandbox {id}"), &error))
        })
        .await
    }
}

#[async_trait]
impl SandboxProvider for ModalProvider {
    fn name(&self) -> &'static str {
        "modal"
    }

    fn caveats(&self) -> &'static [&'static str] {
        &[
            "no gateway leads from it to this machine: a step that reaches a service through one fails, unless Modal keeps its \
             key (`from: modal:NAME/KEY`), and a key that is handed to a command is seen by everything that runs there",
            "what is written there lies with Modal: files, images and volumes",
        ]
    }

    async fn admitted(&self) -> Result<()> {
        self.inner
            .admitted
            .get_or_try_init(async || self.inner.client.hello().await.map(drop))
            .await
            .map(drop)
    }

    async fn kept_secret(&self, name: &str, key: &str) -> Result<KeptSecret> {
        secret::find(&self.inner.client, name, key).await
    }

    async fn isolation(&self, spec: &SandboxSpec) -> Result<Isolation> {
        Ok(definition::isolation(spec))
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
        if let Some(leaving) = self.leaving(&spec.id) {
            leaving.suspend().await?;
        }
        self.inner.swept.get_or_try_init(|| self.inner.end_orphans()).await?;
        let state = open::open(&self.inner, spec.clone()).await?;
        let sandbox = Arc::new(ModalSandbox(state));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, sandbox, state)| sandbox.strong_count() > 0 || state.strong_count() > 0);
        open.insert(spec.id.clone(), (spec, Arc::downgrade(&sandbox), Arc::downgrade(&sandbox.0)));
        Ok(sandbox)
    }

    async fn list(&self) -> Result<Vec<(String, bool)>> {
        listed(&self.inner.images.store)
    }

    async fn remove(&self, id: &str) -> Result<()> {
        Store::check_id(id)?;
        let lock = match self.leaving(id) {
            Some(state) => state.discard().await?,
            None => None,
        };
        let lock = match lock {
            Some(lock) => lock,
            None => self.inner.images.store.wait_for(id).await?,
        };
        self.inner.end_recorded(id).await?;
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

    async fn pull_image(
        &self,
        pull: &ImagePull,
        name: Option<&str>,
        log: BuildLog,
    ) -> Result<(String, bool)> {
        self.inner.pull(pull, name, &log).await
    }

    async fn remove_image(&self, image: &str) -> Result<Option<String>> {
        self.inner.images.remove(image)
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
            None => self.inner.of_modal(image).await.map(|found| found.map(|_| image.to_owned())),
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
        blocking(move || collect(&all, &images, since, dry)).await
    }

    fn volumes(&self) -> Arc<dyn VolumeStore> {
        self.inner.volumes.clone()
    }
}
