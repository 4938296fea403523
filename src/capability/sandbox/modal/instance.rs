//! An open sandbox on Modal: what steps do with it, and how its files outlive it.

use super::super::local::{Lock, Manifest};
use super::super::{
    Credential, Direct, ExecSpec, ExitStatus, Isolation, Network, Process, Sandbox, SandboxSpec, Snapshot,
    SnapshotMode,
};
use super::record::Record;
use super::remote::{Remote, SCRIPT_LIMIT, lost};
use super::{Inner, definition, files, network, process, script};
use crate::capability::meter::Account;
use crate::capability::modal::messages::task_command_router as router;
use crate::capability::modal::{Ended, Key};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long Modal may take to save the files of a sandbox.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long Modal keeps the files of a sandbox that nobody works in.
const SUSPENDED_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Kept until somebody removes it.
const FOR_EVER: i64 = -1;
/// How long volumes may take to show what others have written.
const RELOAD_LIMIT: Duration = Duration::from_secs(55);

/// Dropping it saves the files and ends the sandbox, in the background.
pub(super) struct ModalSandbox(pub(super) Arc<State>);

pub(super) struct State {
    pub(super) inner: Arc<Inner>,
    pub(super) remote: Arc<Remote>,
    pub(super) spec: SandboxSpec,
    pub(super) manifest: Manifest,
    pub(super) network: Mutex<Network>,
    /// Counts the commands that run.
    pub(super) busy: Arc<()>,
    pub(super) closed: AtomicBool,
    /// What whoever ends it needs; taken by the first who does.
    pub(super) held: tokio::sync::Mutex<Option<Held>>,
}

/// The right to a sandbox, and what is known of it.
pub(super) struct Held {
    pub(super) record: Record,
    pub(super) lock: Lock,
}

impl State {
    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::SeqCst) && self.remote.ending.now().is_none()
    }

    fn opened(&self) -> Result<()> {
        match self.remote.ending.now() {
            Some(ended) => Err(lost(&self.remote.id, &ended)),
            None if self.closed.load(Ordering::SeqCst) => Err(closed(&self.remote.id)),
            None => Ok(()),
        }
    }

    fn workdir(&self) -> Option<&str> {
        self.spec.workdir.as_deref().or(self.manifest.workdir.as_deref())
    }

    /// Modal's image of the files as they are.
    async fn save(&self, life: i64) -> Result<String> {
        let request = router::TaskSnapshotFilesystemRequest {
            task_id: self.remote.task.clone(),
            snapshot_id: Key::fresh().to_string(),
            ttl_seconds: Some(life),
            ..Default::default()
        };
        let saving = self.remote.router.call_within(&request, SNAPSHOT_LIMIT);
        Ok(self.remote.race("save the files", saving).await?.image_id)
    }

    /// Kills what runs, saves the files and ends the sandbox. Only the first call does anything.
    pub(super) async fn suspend(&self) -> Result<()> {
        let mut held = self.held.lock().await;
        let Some(Held { mut record, lock }) = held.take() else { return Ok(()) };
        self.closed.store(true, Ordering::SeqCst);
        if self.remote.ending.now().is_some() {
            // Its files went with it; whoever opens it again is told.
            return Ok(());
        }
        self.remote.close();
        self.remote.script(script::KILL_ALL, &[], None, SCRIPT_LIMIT).await?;
        self.remote.commit().await?;
        let life = i64::try_from(SUSPENDED_LIFE.as_secs()).unwrap_or(i64::MAX);
        record.image = self.save(life).await?;
        record.suspended = true;
        record.generation += 1;
        record.leaving = record.sandbox.take();
        record.write(&self.inner.images.store, &self.remote.id)?;
        self.remote.terminate().await?;
        record.leaving = None;
        record.write(&self.inner.images.store, &self.remote.id)?;
        drop(lock);
        Ok(())
    }

    /// Ends the sandbox, whose files nobody needs. Returns its lock, where it was still open.
    pub(super) async fn discard(&self) -> Result<Option<Lock>> {
        let mut held = self.held.lock().await;
        let Some(Held { lock, .. }) = held.take() else { return Ok(None) };
        self.closed.store(true, Ordering::SeqCst);
        self.remote.close();
        self.remote.terminate().await?;
        Ok(Some(lock))
    }
}

/// Nothing runs in a sandbox that was ended here.
pub(super) fn closed(id: &str) -> CapabilityError {
    CapabilityError::new(ErrorKind::SANDBOX_LOST, format!("sandbox {id} was terminated"))
}

impl Drop for ModalSandbox {
    fn drop(&mut self) {
        // A process that ends leaves the sandbox to its next host, or to its time-out.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let state = self.0.clone();
            runtime.spawn(async move {
                if let Err(error) = state.suspend().await {
                    tracing::warn!(sandbox = state.remote.id, "its files were not saved: {error}");
                }
            });
        }
    }
}

#[async_trait]
impl Sandbox for ModalSandbox {
    fn id(&self) -> &str {
        &self.0.remote.id
    }

    fn is_open(&self) -> bool {
        self.0.is_open()
    }

    fn isolation(&self) -> Isolation {
        let network = self.0.network.lock().unwrap_or_else(PoisonError::into_inner).clone();
        definition::isolation(&SandboxSpec { network, ..self.0.spec.clone() })
    }

    async fn set_network(&self, network: Network) -> Result<()> {
        self.0.opened()?;
        if *self.0.network.lock().unwrap_or_else(PoisonError::into_inner) == network {
            return Ok(());
        }
        let request = router::TaskSetNetworkAccessRequest {
            task_id: self.0.remote.task.clone(),
            network_access: Some(network::exchanged(&network)?),
        };
        let setting = self.0.remote.router.call(&request, SCRIPT_LIMIT);
        self.0.remote.race("change the network", setting).await?;
        *self.0.network.lock().unwrap_or_else(PoisonError::into_inner) = network;
        Ok(())
    }

    async fn exec(&self, spec: ExecSpec) -> Result<Box<dyn Process>> {
        self.0.opened()?;
        // Two are held: the state's own and this one.
        let busy = self.0.busy.clone();
        if !self.0.spec.volumes.is_empty() && Arc::strong_count(&busy) == 2 {
            self.0.reload().await?;
        }
        Ok(Box::new(process::start(&self.0.remote, spec, self.0.workdir(), busy).await?))
    }

    async fn read_file(&self, path: &str, limit: u64) -> Result<Bytes> {
        self.0.opened()?;
        files::read(&self.0.remote, path, limit).await
    }

    async fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        self.0.opened()?;
        files::write(&self.0.remote, path, content, mode).await?;
        let in_volume = |mount: &String| path.starts_with(&format!("{}/", mount.trim_end_matches('/')));
        match self.0.remote.mounts.iter().any(in_volume) {
            true => self.0.remote.commit().await,
            false => Ok(()),
        }
    }

    async fn forward(&self, upstream: &str, _: Vec<Credential>, _: Option<Arc<Account>>) -> Result<String> {
        let message = format!(
            "a sandbox on Modal cannot reach the gateway to `{upstream}`, which is on this machine: let Modal keep the key \
             (`modal secret create NAME KEY=...`) and write `from: modal:NAME/KEY` for the secret, which the agent then \
             sees, or use the provider `local`"
        );
        Err(CapabilityError::new(ErrorKind::UNAVAILABLE, message))
    }

    fn direct(&self, name: &str) -> Option<Direct> {
        let base_url = self.0.inner.options.upstreams.get(name)?;
        let host = reqwest::Url::parse(base_url).ok()?.host_str()?.trim_matches(['[', ']']).to_owned();
        Some(Direct { base_url: base_url.clone(), host })
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        self.0.opened()?;
        let _hold = self.0.inner.hold().await?;
        let image = self.0.save(FOR_EVER).await?;
        let mut manifest = self.0.manifest.clone();
        let layer = self.0.inner.images.store.unused_layer("saved");
        self.0.inner.record_layer(&layer, &image)?;
        manifest.layers.insert(0, layer);
        Ok(Snapshot { image: self.0.inner.images.save(manifest)?.0, mode: SnapshotMode::Copied })
    }

    async fn terminate(&self) -> Result<()> {
        self.0.suspend().await
    }
}

impl State {
    /// Gets a sandbox ready that has just been made or found again.
    pub(super) async fn prepare(&self, found: bool) -> Result<()> {
        if found {
            // Whoever waited for it is gone.
            self.remote.script(script::KILL_ALL, &[], None, SCRIPT_LIMIT).await?;
        }
        if let Some(workdir) = self.workdir() {
            let said = self.remote.script(script::MAKE_DIRECTORIES, &[workdir], None, SCRIPT_LIMIT).await?;
            if said.status != ExitStatus::Code(0) {
                return Err(self.remote.failed(&format!("make the directory {workdir}"), &said));
            }
        }
        Ok(())
    }

    /// Shows what others have written to volumes since they were mounted.
    async fn reload(&self) -> Result<()> {
        let request =
            router::TaskReloadVolumesRequest { task_id: self.remote.task.clone(), ..Default::default() };
        let reloading = self.remote.router.call_within(&request, RELOAD_LIMIT);
        match self.remote.race("reload the volumes", reloading).await {
            // Something that an earlier command left has a file open; it sees what it saw.
            Err(error) if error.kind == ErrorKind::CONFLICT => {
                tracing::warn!(sandbox = self.remote.id, "{error}");
                Ok(())
            }
            reloaded => reloaded.map(drop),
        }
    }
}

/// Whether a sandbox has ended that is still thought to run, as an error that says what became of its files.
pub(super) fn files_lost(id: &str, ended: &Ended) -> CapabilityError {
    let error = lost(id, ended);
    let message =
        format!("{}; its files went with it: begin the run again with `harvest rerun`", error.message);
    CapabilityError::new(ErrorKind::SANDBOX_LOST, message)
}
