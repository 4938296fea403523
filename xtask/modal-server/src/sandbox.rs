//! One sandbox: what it was made from, what runs in it, how it ends.

use crate::cloud::{Cloud, lock};
use crate::error::{Result, status};
use crate::exec::{End, Epilogue, Exec, Streams};
use crate::output::Output;
use crate::proto::client::generic_result::GenericStatus;
use crate::proto::client::probe::ProbeOneof;
use crate::proto::client::{GenericResult, Probe, Sandbox as Definition, SandboxTag};
use crate::volume::Mount;
use harvest::capability::sandbox::{ExecSpec, ExitStatus, Sandbox as Local, SandboxProvider};
use harvest::capability::secret::Secret;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Status;

/// Milliseconds between two looks at whether a sandbox is ready, where its probe does not say.
const PROBE_INTERVAL: u64 = 100;

/// A sandbox, running or ended.
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) app: String,
    pub(crate) definition: Definition,
    /// Seconds since 1970, different for every sandbox.
    pub(crate) created_at: f64,
    pub(crate) tags: Mutex<Vec<SandboxTag>>,
    /// What later calls of its maker carry.
    pub(crate) token: String,
    pub(crate) finished_at: OnceLock<SystemTime>,
    local: Mutex<Option<Arc<dyn Local>>>,
    /// Environment of everything that runs in it, beyond the image's.
    variables: BTreeMap<String, Secret>,
    pub(crate) mounts: Vec<Mount>,
    entrypoint: OnceLock<Arc<Exec>>,
    /// The output of a sandbox without an entrypoint: nothing, until its end.
    silence: Arc<Output>,
    execs: Mutex<HashMap<String, Arc<OnceCell<Arc<Exec>>>>>,
    /// Snapshot ids -> image ids.
    pub(crate) snapshots: Mutex<HashMap<String, Arc<OnceCell<String>>>>,
    ready: OnceCell<f64>,
    closing: watch::Sender<bool>,
    result: watch::Sender<Option<GenericResult>>,
    activity: watch::Sender<Activity>,
}

/// What a sandbox is made of.
pub(crate) struct Parts {
    pub(crate) id: String,
    pub(crate) app: String,
    pub(crate) definition: Definition,
    pub(crate) created_at: f64,
    pub(crate) tags: Vec<SandboxTag>,
    pub(crate) variables: BTreeMap<String, Secret>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) local: Arc<dyn Local>,
}

#[derive(Clone, Copy)]
struct Activity {
    running: usize,
    last: Instant,
}

/// A command to start.
pub(crate) struct Start {
    pub(crate) command: Vec<String>,
    pub(crate) variables: BTreeMap<String, Secret>,
    pub(crate) workdir: Option<String>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) streams: Streams,
}

/// An end with this status.
pub(crate) fn ended(status: GenericStatus, exitcode: i32) -> GenericResult {
    GenericResult { status: status.into(), exitcode, ..GenericResult::default() }
}

impl Sandbox {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { id, app, definition, created_at, tags, variables, mounts, local } = parts;
        Arc::new(Self {
            // The last letter says that the task is one of a sandbox of the second generation.
            task: format!("ta-{}V", id.trim_start_matches("sb-")),
            token: ulid::Ulid::generate().to_string(),
            id,
            app,
            definition,
            created_at,
            tags: Mutex::new(tags),
            finished_at: OnceLock::new(),
            local: Mutex::new(Some(local)),
            variables,
            mounts,
            entrypoint: OnceLock::new(),
            silence: Arc::default(),
            execs: Mutex::default(),
            snapshots: Mutex::default(),
            ready: OnceCell::new(),
            closing: watch::Sender::new(false),
            result: watch::Sender::new(None),
            activity: watch::Sender::new(Activity { running: 0, last: Instant::now() }),
        })
    }

    /// Starts the entrypoint and the clocks.
    pub(crate) async fn begin(self: &Arc<Self>, cloud: &Arc<Cloud>, command: Vec<String>) -> Result<()> {
        if !command.is_empty() {
            let start = Start {
                command,
                variables: BTreeMap::new(),
                workdir: None,
                timeout: None,
                streams: Streams::default(),
            };
            let exec = self.start(start, Box::new(|end, _| Box::pin(std::future::ready(end)))).await?;
            // Nobody else sets it.
            let _ = self.entrypoint.set(exec.clone());
            let (this, cloud) = (self.clone(), cloud.clone());
            tokio::spawn(async move { this.finish(&cloud, of_entrypoint(exec.wait().await)) });
        }
        let (this, cloud) = (self.clone(), cloud.clone());
        tokio::spawn(async move {
            let mut closing = this.closing.subscribe();
            let status = tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return,
                () = sleep(Duration::from_secs(this.definition.timeout_secs.into())) => GenericStatus::Timeout,
                () = this.idle() => GenericStatus::IdleTimeout,
            };
            this.finish(&cloud, ended(status, 0));
        });
        Ok(())
    }

    /// Waits until nothing has happened for as long as the definition allows; for ever where it sets no limit.
    async fn idle(&self) {
        let Some(limit) = self.definition.idle_timeout_secs else { return std::future::pending().await };
        let mut activity = self.activity.subscribe();
        loop {
            let Activity { running, last } = *activity.borrow_and_update();
            let limit = last + Duration::from_secs(limit.into());
            tokio::select! {
                () = sleep_until(limit), if running == 0 => return,
                changed = activity.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The provider's sandbox; NOT_FOUND once it has ended.
    pub(crate) fn local(&self) -> Result<Arc<dyn Local>> {
        let local = lock(&self.local).clone();
        local.ok_or_else(|| Status::not_found(format!("sandbox {} has ended", self.id)))
    }

    /// How it ended, `None` while it runs.
    pub(crate) fn result(&self) -> Option<GenericResult> {
        self.result.borrow().clone()
    }

    /// Whether it is still to end.
    pub(crate) fn runs(&self) -> bool {
        !*self.closing.borrow()
    }

    /// How it ended, once it has or the time is over.
    pub(crate) async fn wait(&self, limit: Duration) -> Option<GenericResult> {
        let mut result = self.result.subscribe();
        match tokio::time::timeout(limit, result.wait_for(Option::is_some)).await {
            Ok(Ok(result)) => result.clone(),
            _ => None,
        }
    }

    /// Ends it, unless it is ending. Volumes get what it wrote before anybody hears of the end.
    pub(crate) fn finish(self: &Arc<Self>, cloud: &Arc<Cloud>, result: GenericResult) {
        if self.closing.send_replace(true) {
            return;
        }
        let (this, cloud) = (self.clone(), cloud.clone());
        tokio::spawn(async move {
            let local = lock(&this.local).take();
            if let Some(local) = local {
                // Removal does it again, and says what is wrong.
                drop(local.terminate().await);
            }
            let mut result = result;
            for mount in &this.mounts {
                if let Err(error) = mount.commit(&cloud).await {
                    result.exception = format!("volume {}: {}", mount.volume.name, error.message());
                }
                drop(mount.remove(&cloud).await);
            }
            if let Err(error) = cloud.provider.remove(&this.id).await {
                result.exception = error.message;
            }
            this.silence.end();
            // Nobody else sets it.
            let _ = this.finished_at.set(SystemTime::now());
            this.result.send_replace(Some(result));
        });
    }

    /// A command by its id, started now where it was not before.
    pub(crate) async fn exec(self: &Arc<Self>, cloud: &Arc<Cloud>, id: &str, start: Start) -> Result<()> {
        let cell = lock(&self.execs).entry(id.to_owned()).or_default().clone();
        let started = cell.get_or_try_init(|| async {
            self.touch(1);
            let (this, cloud, command) = (self.clone(), cloud.clone(), start.command.clone());
            let epilogue: Epilogue = Box::new(move |end, stderr| {
                Box::pin(async move {
                    let end = this.after(&cloud, &command, end, &stderr).await;
                    this.touch(-1);
                    end
                })
            });
            let exec = self.start(start, epilogue).await;
            if exec.is_err() {
                self.touch(-1);
            }
            exec
        });
        started.await.map(drop)
    }

    /// What follows from the end of a command.
    async fn after(
        self: &Arc<Self>,
        cloud: &Arc<Cloud>,
        command: &[String],
        end: End,
        stderr: &Output,
    ) -> End {
        if end == End::Lost && self.local().is_ok_and(|local| !local.is_open()) {
            self.finish(cloud, ended(GenericStatus::InternalFailure, 0));
        }
        if end == End::Exited(ExitStatus::Code(0)) {
            for mount in self.mounts.iter().filter(|mount| mount.synced_by(command)) {
                if let Err(error) = mount.commit(cloud).await {
                    stderr.push(format!("sync: {}: {}\n", mount.path, error.message()).as_bytes());
                    return End::Exited(ExitStatus::Code(1));
                }
            }
        }
        end
    }

    /// The command with this id.
    pub(crate) fn find_exec(&self, id: &str) -> Result<Arc<Exec>> {
        let found = lock(&self.execs).get(id).and_then(|cell| cell.get().cloned());
        found.ok_or_else(|| Status::not_found(format!("no command {id} runs in sandbox {}", self.id)))
    }

    async fn start(&self, start: Start, epilogue: Epilogue) -> Result<Arc<Exec>> {
        let mut secrets = self.variables.clone();
        secrets.extend(start.variables);
        let spec = ExecSpec {
            command: start.command,
            secrets,
            workdir: start.workdir,
            stdin: true,
            ..ExecSpec::default()
        };
        let deadline = start.timeout.map(|timeout| Instant::now() + timeout);
        let process = self.local()?.exec(spec).await.map_err(status)?;
        Ok(Exec::follow(process, start.streams, deadline, self.closing.subscribe(), epilogue))
    }

    /// Waits until its probe says that it is ready; returns when that was, in seconds since 1970. Cancel-safe.
    pub(crate) async fn ready(&self) -> Result<f64> {
        let none = || Status::failed_precondition("the sandbox was made without a readiness probe");
        let probe = self.definition.readiness_probe.clone().ok_or_else(none)?;
        let interval = Duration::from_millis(probe.interval_ms.map_or(PROBE_INTERVAL, u64::from));
        let ready = self.ready.get_or_try_init(|| async {
            while !self.probe(&probe).await? {
                sleep(interval).await;
            }
            Ok::<_, Status>(crate::sandboxes::seconds(SystemTime::now()))
        });
        ready.await.copied()
    }

    async fn probe(&self, probe: &Probe) -> Result<bool> {
        match &probe.probe_oneof {
            Some(ProbeOneof::ExecCommand(command)) => {
                let spec = ExecSpec { command: command.argv.clone(), ..ExecSpec::default() };
                let mut process = self.local()?.exec(spec).await.map_err(status)?;
                Ok(process.wait().await.map_err(status)? == ExitStatus::Code(0))
            }
            // A sandbox with an open network has the loopback of this machine.
            Some(ProbeOneof::TcpPort(port)) => {
                let port =
                    u16::try_from(*port).map_err(|_| Status::invalid_argument("there is no such port"))?;
                self.local()?;
                Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok())
            }
            None => Err(Status::invalid_argument("the readiness probe says nothing")),
        }
    }

    /// What the entrypoint wrote.
    pub(crate) fn output(&self, stderr: bool) -> Arc<Output> {
        match self.entrypoint.get() {
            Some(exec) if stderr => exec.stderr.clone(),
            Some(exec) => exec.stdout.clone(),
            None => self.silence.clone(),
        }
    }

    /// Writes to the entrypoint.
    pub(crate) async fn write(&self, offset: u64, data: Vec<u8>, eof: bool) -> Result<()> {
        self.touch(0);
        let none = || Status::failed_precondition("the sandbox has no entrypoint to write to");
        self.entrypoint.get().ok_or_else(none)?.write(offset, data, eof).await
    }

    /// Notes that something happened, and how many commands began.
    pub(crate) fn touch(&self, begun: isize) {
        self.activity.send_modify(|activity| {
            activity.running = activity.running.saturating_add_signed(begun);
            activity.last = Instant::now();
        });
    }
}

/// How a sandbox ends with its entrypoint.
fn of_entrypoint(end: End) -> GenericResult {
    match end {
        End::Exited(ExitStatus::Code(0)) => ended(GenericStatus::Success, 0),
        End::Exited(status) => ended(GenericStatus::Failure, status.code()),
        End::Lost => ended(GenericStatus::InternalFailure, 0),
    }
}
