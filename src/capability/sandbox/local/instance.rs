//! An open sandbox of this provider: what runs in it, and its files on this machine.

use super::super::{Credential, ExecSpec, Isolation, Network, Process, RefusalSink, Sandbox, Snapshot};
use super::guest::Guest;
use super::image::{Images, Manifest};
use super::running::{Launch, Running};
use super::watchdog::Watched;
use crate::capability::meter::Account;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

pub(super) struct LocalSandbox {
    pub(super) guest: Arc<Guest>,
    pub(super) launch: Launch,
    /// Its processes; others after a snapshot.
    pub(super) running: Mutex<Arc<Running>>,
    pub(super) images: Images,
    /// What it is made from, without the changes since its last snapshot.
    pub(super) manifest: Mutex<Manifest>,
    /// Whether it is to end, so that a long snapshot breaks off.
    pub(super) ending: Arc<AtomicBool>,
    /// Held by whoever changes what it is made of, and by whoever ends it.
    pub(super) saving: tokio::sync::Mutex<()>,
    pub(super) this: Weak<Self>,
}

impl LocalSandbox {
    /// Its processes.
    pub(super) fn running(&self) -> Arc<Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Holds new processes to the limits that the kernel does not hold here.
    pub(super) fn hold(&self, running: &Running) {
        let watched = Watched {
            launcher: running.launcher,
            files: self.launch.plan.directory.join("upper"),
            commands: self.guest.commands.clone(),
            strikes: self.guest.strikes.clone(),
            ended: running.life.gone.clone(),
        };
        if let (Some(limit), "watchdog") = (self.launch.limits.memory, &*self.guest.isolation().memory) {
            watched.clone().hold_memory(limit);
        }
        if let Some(limit) = self.launch.limits.disk {
            watched.hold_disk(limit);
        }
    }

    /// Waits until every process is gone.
    pub(super) async fn end(&self) -> Result<()> {
        self.ending.store(true, Ordering::Relaxed);
        let _saving = self.saving.lock().await;
        self.guest.end().await
    }
}

#[async_trait]
impl Sandbox for LocalSandbox {
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
        let this = self.this.upgrade().ok_or_else(|| self.guest.lost())?;
        // A caller who gives up half-way leaves no sandbox without processes, nor with stopped ones.
        tokio::spawn(async move { this.save().await }).await.unwrap_or_else(|error| {
            Err(CapabilityError::new(ErrorKind::OTHER, format!("saving the files broke off: {error}")))
        })
    }

    async fn terminate(&self) -> Result<()> {
        self.end().await
    }
}
