//! An open sandbox: requests to its init process, and what happens when it ends.

use super::super::{Credential, ExecSpec, Isolation, Network, Process, RefusalSink, Sandbox};
use super::build::blocking;
use super::channel::Channel;
use super::copy;
use super::gateway::Gateways;
use super::image::{Images, Manifest};
use super::plan::{self, FilePath, Reply, Request};
use super::process::{End, LocalProcess, Stream};
use super::reach::{self, Reach};
use super::strikes::Strikes;
use super::watchdog::Commands;
use super::wire;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::{RwLock, watch};

/// Environment of every exec, before the image's and the sandbox's own. HOME follows the user.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];
/// How long the init process may take over a request about a file or a port.
const REQUEST_LIMIT: Duration = Duration::from_secs(120);
/// How long the kernel may take to end a sandbox.
const END_LIMIT: Duration = Duration::from_secs(30);

pub(super) struct LocalSandbox {
    pub(super) id: String,
    pub(super) control: Channel,
    /// Variables of the image, and of the sandbox itself.
    pub(super) environment: [BTreeMap<String, String>; 2],
    pub(super) workdir: Option<String>,
    pub(super) user: Option<String>,
    /// What holds it in, but for the network.
    pub(super) isolation: Isolation,
    pub(super) reach: Reach,
    pub(super) strikes: Arc<Strikes>,
    pub(super) commands: Arc<Commands>,
    pub(super) images: Images,
    /// What it was made from, without its own changes.
    pub(super) manifest: Manifest,
    /// Its directory on the host.
    pub(super) directory: PathBuf,
    pub(super) gateways: Gateways,
    /// Turns true once every process is gone and the lock is free.
    pub(super) ended: watch::Receiver<bool>,
    /// Held for reading by each command, for writing while the files are saved.
    pub(super) files: Arc<RwLock<()>>,
}

impl LocalSandbox {
    /// Whether its processes are still there.
    pub(super) fn is_open(&self) -> bool {
        !*self.ended.borrow()
    }

    /// Hands a request to the init process; the channel brings what becomes of it.
    async fn request(&self, request: Request, details: OwnedFd, fds: &[BorrowedFd<'_>]) -> Result<Channel> {
        let (host, inside) =
            wire::pair().map_err(|error| CapabilityError::io("make a socket pair", &error))?;
        let mut all = vec![details.as_fd(), inside.as_fd()];
        all.extend(fds);
        self.control.send(&request, &all).await.map_err(|_| self.lost())?;
        Channel::new(host).map_err(|error| CapabilityError::io("watch the sandbox's socket", &error))
    }

    /// The answer to a request that has only one.
    async fn answer(&self, channel: &Channel) -> Result<Vec<OwnedFd>> {
        let reply = tokio::time::timeout(REQUEST_LIMIT, channel.receive::<Reply>()).await.map_err(|_| {
            CapabilityError::new(
                ErrorKind::TIMED_OUT,
                format!("the sandbox did not answer within {} s", REQUEST_LIMIT.as_secs()),
            )
        })?;
        match reply {
            Ok(Some((Reply::Failed { kind, message }, _))) => Err(CapabilityError::new(kind, message)),
            Ok(Some((_, fds))) => Ok(fds),
            Ok(None) | Err(_) => Err(self.lost()),
        }
    }

    fn lost(&self) -> CapabilityError {
        self.strikes.expired().unwrap_or_else(|| {
            CapabilityError::new(
                ErrorKind::SANDBOX_LOST,
                format!("sandbox {} has ended; open it again to go on with its files", self.id),
            )
        })
    }

    /// A path in the sandbox, from its working directory where relative.
    fn resolve(&self, path: &str) -> Result<String> {
        if path.is_empty() || path.contains('\0') {
            return Err(CapabilityError::new(
                ErrorKind::INVALID,
                "a path cannot be empty or hold a NUL character",
            ));
        }
        if path.starts_with('/') {
            return Ok(path.into());
        }
        Ok(format!("{}/{path}", self.workdir.as_deref().unwrap_or("")))
    }

    /// Image, proxy, sandbox, then exec, then secrets: later ones win.
    async fn exec_environment(&self, spec: &ExecSpec) -> Result<Vec<(String, String)>> {
        let [image, own] = &self.environment;
        let mut all: BTreeMap<String, String> =
            ENVIRONMENT.map(|(name, value)| (name.into(), value.into())).into();
        all.extend(image.clone());
        all.extend(self.reach.environment().await);
        all.extend(own.clone());
        all.extend(spec.env.clone());
        all.extend(spec.secrets.iter().map(|(name, secret)| (name.clone(), secret.expose().to_owned())));
        if let Some(name) = all.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(CapabilityError::new(
                ErrorKind::INVALID,
                format!("`{name}` is no name of an environment variable"),
            ));
        }
        Ok(all.into_iter().collect())
    }

    /// Opens a port on the sandbox's loopback, for the host to accept on.
    pub(super) async fn listen(&self, port: u16) -> Result<std::net::TcpListener> {
        let details = serde_json::to_vec(&plan::Listen { port })
            .map_err(io::Error::from)
            .and_then(|json| wire::memory(&json))
            .map_err(|error| CapabilityError::io("describe a port", &error))?;
        let channel = self.request(Request::Listen, details, &[]).await?;
        let listener = self.answer(&channel).await?.pop().ok_or_else(|| self.lost())?;
        Ok(listener.into())
    }

    /// Puts a policy in force.
    pub(super) async fn enforce(&self, network: &Network) -> Result<()> {
        self.reach.enforce(network, &self.ended, async |port| self.listen(port).await).await
    }

    /// Waits until every process is gone.
    pub(super) async fn end(&self) -> Result<()> {
        self.control.shut_down();
        let mut ended = self.ended.clone();
        let waited = tokio::time::timeout(END_LIMIT, ended.wait_for(|ended| *ended)).await;
        waited.map(drop).map_err(|_| {
            CapabilityError::new(
                ErrorKind::UNAVAILABLE,
                format!("the kernel did not end sandbox {} within {} s", self.id, END_LIMIT.as_secs()),
            )
        })
    }
}

#[async_trait]
impl Sandbox for LocalSandbox {
    fn id(&self) -> &str {
        &self.id
    }

    fn is_open(&self) -> bool {
        Self::is_open(self)
    }

    fn isolation(&self) -> Isolation {
        Isolation { network: reach::word(&self.reach.now()).into(), ..self.isolation.clone() }
    }

    async fn set_network(&self, network: Network) -> Result<()> {
        self.reach.may_become(&self.id, &network)?;
        self.enforce(&network).await
    }

    fn on_refusal(&self, sink: RefusalSink) {
        self.reach.tell(sink);
    }

    async fn exec(&self, spec: ExecSpec) -> Result<Box<dyn Process>> {
        let details = plan::Command {
            env: self.exec_environment(&spec).await?,
            command: spec.command,
            workdir: spec.workdir.or_else(|| self.workdir.clone()),
            user: self.user.clone(),
            switch_user: self.isolation.ids != "emulated",
        };
        let failed = |error: io::Error| CapabilityError::io("connect the streams of a command", &error);
        let details = wire::memory(&serde_json::to_vec(&details).map_err(|error| failed(error.into()))?)
            .map_err(failed)?;
        let (stdout, stdout_inside) = output().map_err(failed)?;
        let (stderr, stderr_inside) = output().map_err(failed)?;
        let (stdin, stdin_inside) = if spec.stdin { Some(input().map_err(failed)?) } else { None }.unzip();
        let files = self.files.clone().read_owned().await;
        let mut fds = vec![stdout_inside.as_fd(), stderr_inside.as_fd()];
        fds.extend(stdin_inside.as_ref().map(AsFd::as_fd));
        let before = self.strikes.count();
        let channel = Arc::new(self.request(Request::Exec, details, &fds).await?);
        drop((stdout_inside, stderr_inside, stdin_inside));
        self.answer(&channel).await?;
        self.commands.add(&channel);
        Ok(Box::new(LocalProcess {
            channel,
            stdout: Stream::new(stdout),
            stderr: Stream::new(stderr),
            stdin,
            backlog: VecDeque::new(),
            end: End::Running,
            strikes: self.strikes.clone(),
            before,
            _files: files,
        }))
    }

    async fn read_file(&self, path: &str, limit: u64) -> Result<Bytes> {
        let details = file_details(&FilePath { path: self.resolve(path)?, limit, mode: 0 })?;
        let failed = |error: io::Error| CapabilityError::io("read from the sandbox", &error);
        let memory = wire::memory(&[]).map_err(failed)?;
        let channel = self.request(Request::Read, details, &[memory.as_fd()]).await?;
        self.answer(&channel).await?;
        let mut file = std::fs::File::from(memory);
        let mut content = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.read_to_end(&mut content).map_err(failed)?;
        Ok(content.into())
    }

    async fn write_file(&self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        let details = file_details(&FilePath { path: self.resolve(path)?, limit: 0, mode })?;
        let memory =
            wire::memory(content).map_err(|error| CapabilityError::io("write to the sandbox", &error))?;
        let channel = self.request(Request::Write, details, &[memory.as_fd()]).await?;
        self.answer(&channel).await.map(drop)
    }

    async fn forward(&self, upstream: &str, credentials: Vec<Credential>) -> Result<String> {
        let route = self.gateways.route(upstream, credentials)?;
        let listener = if self.reach.now() == Network::Host {
            std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
                .map_err(|error| CapabilityError::io("listen on the loopback interface", &error))?
        } else {
            self.listen(0).await?
        };
        self.gateways.serve(route, listener, self.ended.clone())
    }

    async fn snapshot(&self) -> Result<String> {
        let Ok(_idle) = self.files.try_write() else {
            return Err(CapabilityError::new(
                ErrorKind::CONFLICT,
                format!("a command runs in sandbox {}; end it before saving the files", self.id),
            ));
        };
        let (images, upper, mut manifest) =
            (self.images.clone(), self.directory.join("upper"), self.manifest.clone());
        blocking(move || {
            let name = images.store.unused_layer("saved");
            images.store.publish_layer(&name, |layer| {
                copy::tree(&upper, layer, copy::Owner::Keep)
                    .map_err(|error| CapabilityError::io("save the files of a sandbox", &error))
            })?;
            manifest.layers.insert(0, name);
            Ok(images.save(manifest)?.0)
        })
        .await
    }

    async fn terminate(&self) -> Result<()> {
        self.end().await
    }
}

fn file_details(details: &FilePath) -> Result<OwnedFd> {
    serde_json::to_vec(details)
        .map_err(io::Error::from)
        .and_then(|json| wire::memory(&json))
        .map_err(|error| CapabilityError::io("describe a file", &error))
}

/// A pipe out of the sandbox. Always a pipe: a descriptor of a host file would show its path and let it be reopened.
fn output() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = io::pipe()?;
    open_to_all(&write)?;
    Ok((pipe::Receiver::from_owned_fd(read.into())?, write.into()))
}

fn input() -> io::Result<(pipe::Sender, OwnedFd)> {
    let (read, write) = io::pipe()?;
    open_to_all(&read)?;
    Ok((pipe::Sender::from_owned_fd(write.into())?, read.into()))
}

/// Lets the ids inside reopen the pipe as /dev/stdout; nobody else can reach it.
fn open_to_all(pipe: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fchmod(pipe, rustix::fs::Mode::from_raw_mode(0o666))?)
}
