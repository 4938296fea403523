//! Sandboxes that do as the words of a command say, for what the host does with them.

use async_trait::async_trait;
use bytes::Bytes;
use harvest::capability::meter::Account;
use harvest::capability::sandbox::{
    BuildLog, Chunk, Collected, Credential, ExecSpec, ExitStatus, ImageInfo, ImageSpec, Isolation, Process,
    Sandbox, SandboxProvider, SandboxSpec, Snapshot,
};
use harvest::capability::volume::VolumeStore;
use harvest::capability::{CapabilityError, Result};
use harvest::step::ErrorKind;
use jiff::Timestamp;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A provider of them, and what has happened to it.
#[derive(Default)]
pub(super) struct Scripted {
    pub(super) opened: AtomicUsize,
    pub(super) removed: Mutex<Vec<String>>,
    pub(super) live: Arc<AtomicUsize>,
    pub(super) signals: Arc<Mutex<Vec<i32>>>,
}

struct ScriptedSandbox {
    id: String,
    live: Arc<AtomicUsize>,
    signals: Arc<Mutex<Vec<i32>>>,
}

/// `say TEXT...`, `env NAME`, `fail CODE TEXT`, `spew` (for ever), `hang`, `shell` (a hang that only SIGTERM ends),
/// `stubborn` (a hang that ignores signals),
/// `slow MILLIS` (a line after each of three waits), `cat`.
struct ScriptedProcess {
    kind: String,
    chunks: Vec<Chunk>,
    exit: ExitStatus,
    pause: Duration,
    written: Vec<u8>,
    reading: bool,
    ended: bool,
    live: Arc<AtomicUsize>,
    signals: Arc<Mutex<Vec<i32>>>,
}

impl Drop for ScriptedProcess {
    fn drop(&mut self) {
        self.end();
    }
}

impl ScriptedProcess {
    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.live.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl Process for ScriptedProcess {
    async fn next(&mut self) -> Result<Option<Chunk>> {
        match self.kind.as_str() {
            "spew" => {
                tokio::task::yield_now().await;
                return Ok(Some(Chunk::Stdout(Bytes::from(vec![b'x'; 64 << 10]))));
            }
            "hang" | "shell" | "stubborn" if !self.ended => std::future::pending().await,
            "slow" if !self.chunks.is_empty() => tokio::time::sleep(self.pause).await,
            "cat" if self.reading => return Ok(None),
            "cat" if !self.written.is_empty() => {
                return Ok(Some(Chunk::Stdout(std::mem::take(&mut self.written).into())));
            }
            _ => {}
        }
        Ok((!self.chunks.is_empty()).then(|| self.chunks.remove(0)))
    }

    async fn write(&mut self, data: &[u8]) -> Result<()> {
        self.written.extend_from_slice(data);
        Ok(())
    }

    fn close_stdin(&mut self) {
        self.reading = false;
    }

    async fn signal(&mut self, signal: i32) -> Result<()> {
        self.signals.lock().unwrap().push(signal);
        if self.kind == "hang" || self.kind == "shell" && signal == 15 {
            self.exit = ExitStatus::Signal(signal);
            self.end();
        }
        Ok(())
    }

    async fn kill(&mut self) -> Result<()> {
        self.end();
        Ok(())
    }

    async fn wait(&mut self) -> Result<ExitStatus> {
        self.end();
        Ok(self.exit)
    }
}

#[async_trait]
impl Sandbox for ScriptedSandbox {
    fn id(&self) -> &str {
        &self.id
    }

    fn is_open(&self) -> bool {
        true
    }

    fn isolation(&self) -> Isolation {
        Isolation::default()
    }

    async fn exec(&self, spec: ExecSpec) -> Result<Box<dyn Process>> {
        let words: Vec<&str> = spec.command.iter().map(String::as_str).collect();
        let mut process = ScriptedProcess {
            kind: words[0].into(),
            chunks: Vec::new(),
            exit: ExitStatus::Code(0),
            pause: Duration::ZERO,
            written: Vec::new(),
            reading: spec.stdin,
            ended: false,
            live: self.live.clone(),
            signals: self.signals.clone(),
        };
        let said = |text: &str| Chunk::Stdout(Bytes::from(text.to_owned()));
        match words[..] {
            ["say", ref texts @ ..] => process.chunks = texts.iter().map(|text| said(text)).collect(),
            ["env", name] => {
                let secret = spec.secrets.get(name).map_or("", |secret| secret.expose());
                // In two chunks: the cut goes through the secret.
                let (first, second) = secret.split_at(secret.len() / 2);
                process.chunks = vec![said(first), said(second)];
            }
            ["fail", code, text] => {
                process.exit = ExitStatus::Code(code.parse().unwrap());
                process.chunks = vec![Chunk::Stderr(Bytes::from(text.to_owned()))];
            }
            ["slow", millis] => {
                process.pause = Duration::from_millis(millis.parse().unwrap());
                process.chunks = vec![said("1\n"), said("2\n"), said("3\n")];
            }
            ["spew" | "hang" | "shell" | "stubborn" | "cat"] => {}
            _ => return Err(CapabilityError::new(ErrorKind::NOT_FOUND, format!("no program {}", words[0]))),
        }
        self.live.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(process))
    }

    async fn read_file(&self, _: &str, _: u64) -> Result<Bytes> {
        unreachable!("no step reads")
    }

    async fn write_file(&self, _: &str, _: &[u8], _: u32) -> Result<()> {
        unreachable!("no step writes")
    }

    async fn forward(&self, _: &str, _: Vec<Credential>, _: Option<Arc<Account>>) -> Result<String> {
        unreachable!("no step forwards")
    }

    async fn snapshot(&self) -> Result<Snapshot> {
        unreachable!("no step takes a snapshot")
    }

    async fn terminate(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl SandboxProvider for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn isolation(&self, _: &SandboxSpec) -> Result<Isolation> {
        unreachable!("no step asks")
    }

    async fn open(&self, spec: SandboxSpec) -> Result<Arc<dyn Sandbox>> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Arc::new(ScriptedSandbox { id: spec.id, live: self.live.clone(), signals: self.signals.clone() }))
    }

    async fn list(&self) -> Result<Vec<(String, bool)>> {
        unreachable!("no step lists")
    }

    async fn remove(&self, id: &str) -> Result<()> {
        self.removed.lock().unwrap().push(id.to_owned());
        Ok(())
    }

    async fn build_image(&self, _: &ImageSpec, _: Option<&str>, _: BuildLog) -> Result<(String, bool)> {
        unreachable!("no step builds")
    }

    async fn tag_image(&self, _: &str, _: &str) -> Result<()> {
        unreachable!("no step tags")
    }

    async fn find_image(&self, _: &str) -> Result<Option<String>> {
        unreachable!("no step looks")
    }

    async fn list_images(&self) -> Result<Vec<ImageInfo>> {
        unreachable!("no step lists")
    }

    async fn unused_images(&self, _: Timestamp) -> Result<Vec<String>> {
        unreachable!("no step collects")
    }

    async fn collect(&self, _: &[String], _: Timestamp, _: bool) -> Result<Collected> {
        unreachable!("no step collects")
    }

    fn volumes(&self) -> Arc<dyn VolumeStore> {
        unreachable!("no step has volumes")
    }
}
