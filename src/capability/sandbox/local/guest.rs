//! The host's end of a sandbox whose first process is harvest's own: requests to it, and what happens when it ends.

use super::super::{Credential, ExecSpec, Isolation, Network, Process, RefusalSink, SandboxSpec};
use super::channel::Channel;
use super::gateway::{Gateways, Service};
use super::image::Manifest;
use super::listener::Listener;
use super::plan::{self, FilePath, Reply, Request};
use super::process::{End, LocalProcess, Stream};
use super::reach::{self, Reach};
use super::strikes::Strikes;
use super::watchdog::Commands;
use super::{limits, wire};
use crate::capability::meter::Account;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
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

/// The processes of a sandbox while they live. Dropping it ends them.
pub(in crate::capability::sandbox) struct Life {
    pub(in crate::capability::sandbox) control: Channel,
    /// Turns true once every process is gone and the lock is free.
    pub(in crate::capability::sandbox) gone: watch::Receiver<bool>,
}

impl Life {
    /// Whether nothing of it is left.
    pub(super) fn is_gone(&self) -> bool {
        *self.gone.borrow()
    }

    /// Ends the processes and waits until none is left.
    pub(super) async fn end(&self) -> Result<()> {
        self.control.shut_down();
        let mut gone = self.gone.clone();
        let waited = tokio::time::timeout(END_LIMIT, gone.wait_for(|gone| *gone)).await;
        waited.map(drop).map_err(|_| {
            CapabilityError::new(
                ErrorKind::UNAVAILABLE,
                format!("the kernel did not end a sandbox within {} s", END_LIMIT.as_secs()),
            )
        })
    }
}

/// What runs in a sandbox, whichever way it was made.
pub(in crate::capability::sandbox) struct Guest {
    pub(in crate::capability::sandbox) id: String,
    /// Its processes; others after a snapshot.
    life: Mutex<Arc<Life>>,
    /// Variables of the image, and of the sandbox itself.
    environment: [BTreeMap<String, String>; 2],
    workdir: Option<String>,
    user: Option<String>,
    /// What holds it in, but for the network.
    isolation: Isolation,
    reach: Reach,
    pub(super) strikes: Arc<Strikes>,
    pub(super) commands: Arc<Commands>,
    gateways: Gateways,
    /// What listens for it, to be offered again to new processes.
    offers: Mutex<Vec<Offer>>,
    /// Whether connections to its ports are passed on by a process inside.
    relayed: bool,
    /// Turns true once every process is gone, the lock is free, and none will follow.
    pub(in crate::capability::sandbox) ended: watch::Sender<bool>,
    /// Whether its processes are being replaced by others.
    pub(super) replacing: AtomicBool,
    /// Held for reading by each request, for writing while the files are saved.
    pub(super) turn: RwLock<()>,
    /// Held for reading by each command that runs.
    pub(super) files: Arc<RwLock<()>>,
    this: Weak<Self>,
}

/// What a sandbox was made like.
pub(in crate::capability::sandbox) struct Made {
    /// What holds it in.
    pub(in crate::capability::sandbox) isolation: Isolation,
    /// The file in which the kernel counts kills at the limit of memory.
    pub(in crate::capability::sandbox) kills: Option<PathBuf>,
    /// Whether connections to its ports are passed on by a process inside.
    pub(in crate::capability::sandbox) relayed: bool,
}

/// A service on the loopback of a sandbox.
struct Offer {
    port: u16,
    service: Service,
    /// On the host's loopback, where the sandbox shares it: it outlives the sandbox's processes.
    shared: Option<TcpListener>,
}

impl Guest {
    /// What runs in a sandbox that has just come up. Its network is as `spec` says once [`Self::enforce`] has put that in
    /// force.
    pub(in crate::capability::sandbox) fn new(
        life: Arc<Life>,
        spec: &SandboxSpec,
        manifest: &Manifest,
        gateways: Gateways,
        made: Made,
    ) -> Arc<Self> {
        let guest = Arc::new_cyclic(|this| Self {
            id: spec.id.clone(),
            life: Mutex::new(life.clone()),
            environment: [manifest.env.clone(), spec.env.clone()],
            workdir: spec.workdir.clone().or_else(|| manifest.workdir.clone()),
            user: spec.user.clone().or_else(|| manifest.user.clone()),
            isolation: made.isolation,
            reach: Reach::new(&spec.network),
            strikes: Arc::new(Strikes::new(limits(spec), made.kills)),
            commands: Arc::default(),
            gateways,
            offers: Mutex::default(),
            relayed: made.relayed,
            ended: watch::Sender::new(false),
            replacing: AtomicBool::default(),
            turn: RwLock::default(),
            files: Arc::default(),
            this: this.clone(),
        });
        guest.follow(&life);
        guest
    }

    /// Whether its processes are still there.
    pub(in crate::capability::sandbox) fn is_open(&self) -> bool {
        !*self.ended.borrow()
    }

    /// Its processes.
    pub(super) fn life(&self) -> Arc<Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the end of these processes, unless others follow.
    fn follow(&self, life: &Arc<Life>) {
        let (this, life, mut gone) = (self.this.clone(), Arc::downgrade(life), life.gone.clone());
        tokio::spawn(async move {
            drop(gone.wait_for(|gone| *gone).await);
            if let Some(guest) = this.upgrade()
                && std::ptr::eq(Arc::as_ptr(&guest.life()), life.as_ptr())
                && !guest.replacing.load(Ordering::SeqCst)
            {
                guest.ended.send_replace(true);
            }
        });
    }

    /// Goes on with other processes, which find the same ports served.
    pub(super) async fn go_on_with(&self, life: Arc<Life>) -> Result<()> {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = life.clone();
        self.follow(&life);
        self.offer_again().await
    }

    /// Hands a request to the init process; the channel brings what becomes of it.
    pub(super) async fn request(
        &self,
        request: Request,
        details: OwnedFd,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Channel> {
        let (host, inside) =
            wire::pair().map_err(|error| CapabilityError::io("make a socket pair", &error))?;
        let mut all = vec![details.as_fd(), inside.as_fd()];
        all.extend(fds);
        self.life().control.send(&request, &all).await.map_err(|_| self.lost())?;
        Channel::new(host).map_err(|error| CapabilityError::io("watch the sandbox's socket", &error))
    }

    /// The answer to a request that has only one.
    pub(super) async fn answer(&self, channel: &Channel) -> Result<(Reply, Vec<OwnedFd>)> {
        let reply = tokio::time::timeout(REQUEST_LIMIT, channel.receive::<Reply>()).await.map_err(|_| {
            CapabilityError::new(
                ErrorKind::TIMED_OUT,
                format!("the sandbox did not answer within {} s", REQUEST_LIMIT.as_secs()),
            )
        })?;
        match reply {
            Ok(Some((Reply::Failed { kind, message }, _))) => Err(CapabilityError::new(kind, message)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) | Err(_) => Err(self.lost()),
        }
    }

    pub(super) fn lost(&self) -> CapabilityError {
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
        if let Some((variable, kept)) = spec.kept.first_key_value() {
            let message =
                format!("{variable}: this provider does not keep the secret `{}/{}`", kept.name, kept.key);
            return Err(CapabilityError::new(ErrorKind::INVALID, message));
        }
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

    /// Serves on a port of the sandbox's loopback for as long as the sandbox is open. Port 0 picks a free one.
    async fn offer(&self, port: u16, service: Service) -> Result<SocketAddr> {
        let _turn = self.turn.read().await;
        let failed = |error: io::Error| CapabilityError::io("listen on the loopback interface", &error);
        let mut offer = Offer { port, service, shared: None };
        let listener = if self.reach.now() == Network::Host {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
            offer.shared = Some(listener.try_clone().map_err(failed)?);
            Listener::handed(listener).map_err(failed)?
        } else {
            self.listen(port).await?
        };
        let address = listener.address();
        offer.port = address.port();
        (offer.service)(listener, self.life().gone.clone());
        self.offers.lock().unwrap_or_else(PoisonError::into_inner).push(offer);
        Ok(address)
    }

    /// Serves all of it for new processes, under the same addresses.
    async fn offer_again(&self) -> Result<()> {
        let failed = |error: io::Error| CapabilityError::io("listen on the loopback interface", &error);
        let offers = std::mem::take(&mut *self.offers.lock().unwrap_or_else(PoisonError::into_inner));
        for offer in &offers {
            let listener = match &offer.shared {
                Some(listener) => listener.try_clone().and_then(Listener::handed).map_err(failed)?,
                None => self.listen(offer.port).await?,
            };
            (offer.service)(listener, self.life().gone.clone());
        }
        *self.offers.lock().unwrap_or_else(PoisonError::into_inner) = offers;
        Ok(())
    }

    /// Opens a port on the sandbox's loopback, for the host to accept on.
    async fn listen(&self, port: u16) -> Result<Listener> {
        let details = serde_json::to_vec(&plan::Listen { port })
            .map_err(io::Error::from)
            .and_then(|json| wire::memory(&json))
            .map_err(|error| CapabilityError::io("describe a port", &error))?;
        let request = if self.relayed { Request::Relay } else { Request::Listen };
        let channel = self.request(request, details, &[]).await?;
        match self.answer(&channel).await? {
            (Reply::Listening { port }, _) => {
                Ok(Listener::Relayed(channel, (Ipv4Addr::LOCALHOST, port).into()))
            }
            (_, mut fds) => {
                let listener = fds.pop().ok_or_else(|| self.lost())?;
                Listener::handed(listener.into())
                    .map_err(|error| CapabilityError::io("listen in the sandbox", &error))
            }
        }
    }

    /// What holds it in, now.
    pub(in crate::capability::sandbox) fn isolation(&self) -> Isolation {
        Isolation { network: reach::word(&self.reach.now()).into(), ..self.isolation.clone() }
    }

    /// Puts a policy in force.
    pub(in crate::capability::sandbox) async fn enforce(&self, network: &Network) -> Result<()> {
        self.reach.enforce(network, |port, service| self.offer(port, service)).await
    }

    /// Changes the policy; `invalid` where the host's network would be entered or left.
    pub(in crate::capability::sandbox) async fn set_network(&self, network: &Network) -> Result<()> {
        self.reach.may_become(&self.id, network)?;
        self.enforce(network).await
    }

    /// Who is told of refused connections from now on.
    pub(in crate::capability::sandbox) fn on_refusal(&self, sink: RefusalSink) {
        self.reach.tell(sink);
    }

    /// Notes that it is about to be ended at its longest life.
    pub(in crate::capability::sandbox) fn expire(&self, life: Duration) {
        self.strikes.expire(life);
    }

    /// Waits until every process is gone.
    pub(in crate::capability::sandbox) async fn end(&self) -> Result<()> {
        self.life().end().await?;
        self.ended.send_replace(true);
        Ok(())
    }

    /// Starts a command.
    pub(in crate::capability::sandbox) async fn exec(&self, spec: ExecSpec) -> Result<Box<dyn Process>> {
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
        let _turn = self.turn.read().await;
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
            files: Some(files),
        }))
    }

    /// Reads a file of at most `limit` bytes.
    pub(in crate::capability::sandbox) async fn read_file(&self, path: &str, limit: u64) -> Result<Bytes> {
        let details = file_details(&FilePath { path: self.resolve(path)?, limit, mode: 0 })?;
        let failed = |error: io::Error| CapabilityError::io("read from the sandbox", &error);
        let memory = wire::memory(&[]).map_err(failed)?;
        let _turn = self.turn.read().await;
        let channel = self.request(Request::Read, details, &[memory.as_fd()]).await?;
        self.answer(&channel).await?;
        let mut file = std::fs::File::from(memory);
        let mut content = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.read_to_end(&mut content).map_err(failed)?;
        Ok(content.into())
    }

    /// Writes a file whole.
    pub(in crate::capability::sandbox) async fn write_file(
        &self,
        path: &str,
        content: &[u8],
        mode: u32,
    ) -> Result<()> {
        let details = file_details(&FilePath { path: self.resolve(path)?, limit: 0, mode })?;
        let memory =
            wire::memory(content).map_err(|error| CapabilityError::io("write to the sandbox", &error))?;
        let _turn = self.turn.read().await;
        let channel = self.request(Request::Write, details, &[memory.as_fd()]).await?;
        self.answer(&channel).await.map(drop)
    }

    /// Opens a gateway to an upstream and returns its base URL.
    pub(in crate::capability::sandbox) async fn forward(
        &self,
        upstream: &str,
        credentials: Vec<Credential>,
        account: Option<Arc<Account>>,
    ) -> Result<String> {
        let route = self.gateways.route(upstream, credentials, account)?;
        let (service, path) = self.gateways.gateway(route)?;
        let address = self.offer(0, service).await?;
        Ok(format!("http://{address}{path}"))
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
