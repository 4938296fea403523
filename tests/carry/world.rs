//! A host whose sandboxes have no walls and whose steps can be cut off at any call that leaves the component.

use crate::tree::Tree;
use async_trait::async_trait;
use bytes::Bytes;
use harvest::capability::git::{Answer, Delivery, Fetched, GitProvider, LocalGit, Method, Repository};
use harvest::capability::meter::Account;
use harvest::capability::registry::FileRegistry;
use harvest::capability::sandbox::{
    BuildLog, Collected, Credential, ExecSpec, ImageInfo, ImageSpec, Isolation, Process, Sandbox,
    SandboxProvider, SandboxSpec, Snapshot,
};
use harvest::capability::secret::Secret;
use harvest::capability::stream::MemoryStreams;
use harvest::capability::volume::VolumeStore;
use harvest::capability::volume::directory::DirectoryVolumes;
use harvest::capability::{CapabilityError, Result};
use harvest::host::{Components, HostExecutor, Library, Providers};
use harvest::id::{Digest, RunId};
use harvest::step::ErrorKind;
use harvest::workflow::types::Catalog as _;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What is to happen at which call of a step.
type Plan = Vec<(u32, Box<dyn FnOnce() + Send>)>;

/// Counts the calls that leave the component, cuts it off at one, and lets others act before one.
#[derive(Default)]
pub(crate) struct Fuse(Mutex<State>);

#[derive(Default)]
struct State {
    calls: u32,
    repository_calls: u32,
    cut: Option<u32>,
    others: Plan,
}

impl Fuse {
    /// Begins a step that is cut off at this call, and before whose calls on repositories others act.
    pub(crate) fn set(&self, cut: Option<u32>, others: Plan) {
        *self.0.lock().unwrap() = State { cut, others, ..State::default() };
    }

    /// Whether the step has been cut off.
    pub(crate) fn blown(&self) -> bool {
        let state = self.0.lock().unwrap();
        state.cut.is_some_and(|cut| state.calls > cut)
    }

    fn call(&self) -> Result<()> {
        self.0.lock().unwrap().calls += 1;
        if self.blown() {
            return Err(CapabilityError::new(ErrorKind::SANDBOX_LOST, "cut off"));
        }
        Ok(())
    }

    fn repository_call(&self) -> Result<()> {
        let mut state = self.0.lock().unwrap();
        state.repository_calls += 1;
        let now = state.repository_calls;
        let (due, later) = std::mem::take(&mut state.others).into_iter().partition(|(at, _)| *at == now);
        state.others = later;
        drop(state);
        let due: Plan = due;
        for (_, act) in due {
            act();
        }
        self.call()
    }
}

/// Everything that runs need.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) executor: HostExecutor,
    components: Components,
    pub(crate) fuse: Arc<Fuse>,
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let fuse = Arc::<Fuse>::default();
        let environment = BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]);
        let git = Fused(LocalGit::new(&home, environment).unwrap(), fuse.clone());
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let volumes = Arc::new(DirectoryVolumes::new(&home.join("volumes"), uid, gid).unwrap());
        let providers = Providers {
            sandboxes: Arc::new(Trees { volumes, fuse: fuse.clone() }),
            git: Some(Arc::new(git)),
            registry: Arc::new(FileRegistry::new(&home)),
            streams: Arc::new(MemoryStreams::default()),
        };
        let library = Library::open(&home).unwrap();
        let components = Components::new(library.clone(), &home);
        Self { executor: HostExecutor::new(library, providers), components, fuse, directory }
    }

    /// The component `git`.
    pub(crate) fn component(&self) -> Digest {
        self.components.component("git").unwrap().digest
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    /// The host's own copies of repositories.
    pub(crate) fn copies(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("home/git")).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "git"))
            .collect()
    }
}

/// Git whose calls count.
struct Fused<T>(T, Arc<Fuse>);

#[async_trait]
impl GitProvider for Fused<LocalGit> {
    async fn open_for(
        &self,
        run: &RunId,
        first: &RunId,
        repo: &str,
        credential: Option<Secret>,
    ) -> Result<Arc<dyn Repository>> {
        Ok(Arc::new(Fused(self.0.open_for(run, first, repo, credential).await?, self.1.clone())))
    }
}

impl<T> Fused<T> {
    /// A call can be cut off before it does anything, and after it has.
    async fn through<R>(&self, work: impl Future<Output = Result<R>>) -> Result<R> {
        self.1.repository_call()?;
        let result = work.await;
        self.1.call()?;
        result
    }
}

#[async_trait]
impl Repository for Fused<Arc<dyn Repository>> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn identity(&self) -> &str {
        self.0.identity()
    }

    async fn resolve(&self, reference: Option<&str>) -> Result<Fetched> {
        self.through(self.0.resolve(reference)).await
    }

    async fn fetch(&self, reference: Option<&str>, depth: Option<u32>) -> Result<Fetched> {
        self.through(self.0.fetch(reference, depth)).await
    }

    async fn send(&self, sandbox: &dyn Sandbox, sha: &str, path: &str) -> Result<()> {
        self.through(self.0.send(sandbox, sha, path)).await
    }

    async fn receive(&self, sandbox: &dyn Sandbox, path: &str) -> Result<String> {
        self.through(self.0.receive(sandbox, path)).await
    }

    async fn push(&self, sha: &str, branch: &str) -> Result<()> {
        self.through(self.0.push(sha, branch)).await
    }

    async fn deliver(&self, sha: &str) -> Result<Delivery> {
        self.through(self.0.deliver(sha)).await
    }

    async fn api(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer> {
        self.through(self.0.api(method, path, body)).await
    }
}

/// Sandboxes without walls.
struct Trees {
    volumes: Arc<DirectoryVolumes>,
    fuse: Arc<Fuse>,
}

struct Open(String, Arc<Fuse>);

#[async_trait]
impl SandboxProvider for Trees {
    fn name(&self) -> &'static str {
        "trees"
    }

    async fn isolation(&self, _: &SandboxSpec) -> Result<Isolation> {
        unreachable!("nothing asks")
    }

    async fn open(&self, spec: SandboxSpec) -> Result<Arc<dyn Sandbox>> {
        Ok(Arc::new(Open(spec.id, self.fuse.clone())))
    }

    async fn list(&self) -> Result<Vec<(String, bool)>> {
        Ok(Vec::new())
    }

    async fn remove(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn build_image(&self, _: &ImageSpec, _: Option<&str>, _: BuildLog) -> Result<(String, bool)> {
        unreachable!("git needs no image")
    }

    async fn tag_image(&self, _: &str, _: &str) -> Result<()> {
        unreachable!("git needs no image")
    }

    async fn find_image(&self, _: &str) -> Result<Option<String>> {
        unreachable!("git needs no image")
    }

    async fn list_images(&self) -> Result<Vec<ImageInfo>> {
        unreachable!("git needs no image")
    }

    async fn unused_images(&self, _: Timestamp) -> Result<Vec<String>> {
        unreachable!("nothing collects")
    }

    async fn collect(&self, _: &[String], _: Timestamp, _: bool) -> Result<Collected> {
        unreachable!("nothing collects")
    }

    fn volumes(&self) -> Arc<dyn VolumeStore> {
        self.volumes.clone()
    }
}

#[async_trait]
impl Sandbox for Open {
    fn id(&self) -> &str {
        &self.0
    }

    fn is_open(&self) -> bool {
        true
    }

    fn isolation(&self) -> Isolation {
        Isolation::default()
    }

    async fn exec(&self, spec: ExecSpec) -> Result<Box<dyn Process>> {
        self.1.call()?;
        Tree.exec(spec).await
    }

    async fn read_file(&self, path: &str, limit: u64) -> Result<Bytes> {
        self.1.call()?;
        Tree.read_file(path, limit).await
    }

    async fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        self.1.call()?;
        Tree.write_file(path, content, mode).await
    }

    async fn forward(&self, _: &str, _: Vec<Credential>, _: Option<Arc<Account>>) -> Result<String> {
        unreachable!("git needs no gateway")
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        unreachable!("git needs no image")
    }

    async fn terminate(&self) -> Result<()> {
        Ok(())
    }
}
