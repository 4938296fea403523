//! A sandbox of Modal that runs: commands in it, each raced against its end.

use super::super::ExitStatus;
use super::script;
use crate::capability::modal::messages::client as api;
use crate::capability::modal::messages::task_command_router as router;
use crate::capability::modal::{Client, Ended, Ending, Fault, Key, Options, Output, Router, Source};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use api::generic_result::GenericStatus;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tonic::Code;

/// How long the start of a command may take; that of the sandbox is part of it.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long the router may keep one question for the end of a command open, and the pause before the next one.
const WAIT_LIMIT: Duration = Duration::from_secs(60);
const WAIT_PAUSE: Duration = Duration::from_secs(1);
/// How long the end of a sandbox may take to be known where its router knows it no more.
const ENDING_LIMIT: Duration = Duration::from_secs(15);
/// Bytes of standard input in one message.
pub(super) const PIECE: usize = 256 << 10;
/// How long one of our own scripts may run that says nothing else.
pub(super) const SCRIPT_LIMIT: Duration = Duration::from_secs(60);
/// How commands end that are killed.
const KILLED: ExitStatus = ExitStatus::Signal(9);
/// Bytes that are quoted of a script's errors.
const QUOTE_LIMIT: usize = 1 << 10;

/// What is needed to work in a running sandbox.
pub(super) struct Remote {
    /// Our id.
    pub(super) id: String,
    /// Modal's.
    pub(super) sandbox: String,
    /// What Modal gave whoever made it, for later calls.
    pub(super) token: Option<String>,
    pub(super) task: String,
    pub(super) client: Client,
    pub(super) router: Arc<Router>,
    pub(super) ending: Arc<Ending>,
    /// Where volumes are that can be written to.
    pub(super) mounts: Vec<String>,
    /// Whether it is being ended: what its commands come to is then of no account.
    pub(super) closing: AtomicBool,
}

/// How a command of our own ended, and what it said.
pub(super) struct Said {
    pub(super) status: ExitStatus,
    pub(super) stdout: Bytes,
    pub(super) stderr: Bytes,
}

impl Said {
    /// What it complained about.
    pub(super) fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let text = text.trim();
        text[..text.floor_char_boundary(QUOTE_LIMIT)].to_owned()
    }
}

impl Remote {
    /// Does something with the router, unless the sandbox ends first.
    pub(super) async fn race<T>(
        &self,
        doing: &str,
        work: impl Future<Output = std::result::Result<T, Fault>>,
    ) -> Result<T> {
        let fault = tokio::select! {
            done = work => match done {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            },
            ended = self.ending.ended() => return Err(lost(&self.id, &ended)),
        };
        // The worker forgets a sandbox that has ended, and may do so before its end is told.
        if matches!(fault.code, Code::NotFound | Code::FailedPrecondition | Code::Unavailable)
            && let Ok(ended) = tokio::time::timeout(ENDING_LIMIT, self.ending.ended()).await
        {
            return Err(lost(&self.id, &ended));
        }
        Err(fault.explain(format!("{doing} in sandbox {}", self.id)))
    }

    /// Starts a command. Sent twice under one key, it starts once.
    pub(super) async fn start(
        &self,
        key: &Key,
        command: Vec<String>,
        env: BTreeMap<String, String>,
        named: Vec<String>,
    ) -> Result<()> {
        use api::secret_source::Source as From;
        let mut sources: Vec<_> = named.into_iter().map(From::SecretId).collect();
        if !env.is_empty() {
            sources.push(From::Env(api::StringMap { contents: env.into_iter().collect() }));
        }
        let request = router::TaskExecStartRequest {
            task_id: self.task.clone(),
            exec_id: key.to_string(),
            command_args: command,
            stdout_config: router::TaskExecStdoutConfig::Pipe.into(),
            stderr_config: router::TaskExecStderrConfig::Pipe.into(),
            secret_sources: sources
                .into_iter()
                .map(|source| api::SecretSource { source: Some(source) })
                .collect(),
            ..Default::default()
        };
        self.race("start a command", self.router.call(&request, START_LIMIT)).await?;
        Ok(())
    }

    /// What a command writes.
    pub(super) fn output(&self, key: &Key, source: Source) -> Output {
        Output::new(self.router.clone(), self.task.clone(), key.to_string(), source)
    }

    /// Writes to standard input from `offset` on; bytes that were written before are not written again.
    pub(super) async fn write(&self, key: &Key, offset: u64, data: Bytes, eof: bool) -> Result<()> {
        let request = router::TaskExecStdinWriteRequest {
            task_id: self.task.clone(),
            exec_id: key.to_string(),
            offset,
            data,
            eof,
        };
        match self.race("write to a command", self.router.call(&request, WAIT_LIMIT)).await {
            Err(error) if error.kind == ErrorKind::CONFLICT => Err(CapabilityError::new(
                ErrorKind::CONFLICT,
                "standard input is closed: the command reads no more of it",
            )),
            written => written.map(drop),
        }
    }

    /// Waits for the end of a command, however long it takes.
    pub(super) async fn wait(&self, key: &Key) -> Result<ExitStatus> {
        use router::task_exec_wait_response::ExitStatus as Exit;
        let request = router::TaskExecWaitRequest { task_id: self.task.clone(), exec_id: key.to_string() };
        let waiting = async {
            loop {
                match self.router.call(&request, WAIT_LIMIT).await {
                    Ok(answer) => match answer.exit_status {
                        Some(Exit::Code(code)) => return Ok(ExitStatus::Code(code)),
                        Some(Exit::Signal(signal)) => return Ok(ExitStatus::Signal(signal)),
                        None => {}
                    },
                    // The watch on the sandbox says when to give up.
                    Err(fault) if fault.is_passing() => {}
                    Err(fault) => return Err(fault),
                }
                self.client.clock().pause(WAIT_PAUSE).await;
            }
        };
        let status = self.race("wait for a command", waiting).await?;
        match self.closing.load(Ordering::SeqCst) && status == KILLED {
            true => Err(lost_because(&self.id, "it was terminated")),
            false => Ok(status),
        }
    }

    /// From now on, commands that are killed are lost with their sandbox.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// Runs a script of ours to its end: `arguments` are its parameters, `input` what it reads.
    pub(super) async fn script(
        &self,
        script: &str,
        arguments: &[&str],
        input: Option<&[u8]>,
        limit: Duration,
    ) -> Result<Said> {
        self.run(&[&["sh", "-c", script, "harvest"], arguments].concat(), input, limit).await
    }

    /// Runs a command of ours to its end.
    async fn run(&self, command: &[&str], input: Option<&[u8]>, limit: Duration) -> Result<Said> {
        let late = || {
            let message = format!("sandbox {} did not answer within {} s", self.id, limit.as_secs());
            CapabilityError::new(ErrorKind::UNAVAILABLE, message)
        };
        let running = self.run_to_end(command, input);
        tokio::time::timeout(limit, running).await.map_err(|_| late())?
    }

    async fn run_to_end(&self, command: &[&str], input: Option<&[u8]>) -> Result<Said> {
        let key = Key::fresh();
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        self.start(&key, command, BTreeMap::new(), Vec::new()).await?;
        let feeding = async {
            let mut offset = 0;
            for piece in input.unwrap_or_default().chunks(PIECE) {
                self.write(&key, offset, Bytes::copy_from_slice(piece), false).await?;
                offset += piece.len() as u64;
            }
            match input {
                Some(_) => self.write(&key, offset, Bytes::new(), true).await,
                None => Ok(()),
            }
        };
        let (fed, stdout, stderr, status) = tokio::join!(
            feeding,
            self.all(&key, Source::Stdout),
            self.all(&key, Source::Stderr),
            self.wait(&key)
        );
        let said = Said { status: status?, stdout: stdout?, stderr: stderr? };
        // A script that ends before it has read everything says why.
        if said.status == ExitStatus::Code(0) {
            fed?;
        }
        Ok(said)
    }

    async fn all(&self, key: &Key, source: Source) -> Result<Bytes> {
        let mut output = self.output(key, source);
        let reading = async {
            let mut all = Vec::new();
            while let Some(bytes) = output.next().await? {
                all.extend_from_slice(&bytes);
            }
            Ok(all)
        };
        self.race("read from a command", reading).await.map(Bytes::from)
    }

    /// Kills a command with all it has started, and returns when nothing of it is left.
    pub(super) async fn kill(&self, key: &Key) -> Result<()> {
        let said = self.script(script::KILL, &[key.as_str()], None, SCRIPT_LIMIT).await?;
        match said.status {
            ExitStatus::Code(0) => Ok(()),
            _ => Err(self.failed("kill a command", &said)),
        }
    }

    /// Makes what was written to volumes visible to others, and permanent.
    pub(super) async fn commit(&self) -> Result<()> {
        if self.mounts.is_empty() {
            return Ok(());
        }
        let command: Vec<&str> = ["sync"].into_iter().chain(self.mounts.iter().map(String::as_str)).collect();
        let said = self.run(&command, None, SCRIPT_LIMIT).await?;
        match said.status {
            ExitStatus::Code(0) => Ok(()),
            _ => Err(self.failed("commit the volumes", &said)),
        }
    }

    /// A script that ended as it should not.
    pub(super) fn failed(&self, doing: &str, said: &Said) -> CapabilityError {
        let message = format!(
            "cannot {doing} in sandbox {}: exit code {}: {}",
            self.id,
            said.status.code(),
            said.complaint()
        );
        CapabilityError::new(ErrorKind::UNAVAILABLE, message)
    }

    /// Asks Modal to end it, and waits until it has.
    pub(super) async fn terminate(&self) -> Result<()> {
        terminate(&self.client, &self.id, &self.sandbox, self.token.clone()).await
    }
}

/// How long the end of a sandbox may take once it is asked for.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Ends one of Modal's sandboxes, and waits until it has ended. Succeeds where there is none.
pub(super) async fn terminate(
    client: &Client,
    id: &str,
    sandbox: &str,
    sandbox_token: Option<String>,
) -> Result<()> {
    let doing = || format!("end sandbox {id}");
    let request = api::SandboxTerminateRequest { sandbox_id: sandbox.into() };
    let options = Options { sandbox_token: sandbox_token.clone(), ..Options::default() };
    match client.call(&request, options).await {
        Ok(_) => {}
        Err(fault) if fault.code == Code::NotFound => return Ok(()),
        Err(fault) => return Err(fault.explain(doing())),
    }
    let ending = Ending::watch(client.clone(), sandbox.into(), sandbox_token);
    match tokio::time::timeout(END_LIMIT, ending.ended()).await {
        Ok(Ended::With(_) | Ended::Unknown) => Ok(()),
        Ok(Ended::Unreachable(why)) => {
            Err(CapabilityError::new(ErrorKind::UNAVAILABLE, format!("cannot {}: {why}", doing())))
        }
        Err(_) => Err(Fault::late(END_LIMIT).explain(doing())),
    }
}

/// Why nothing runs in a sandbox any more.
pub(super) fn lost(id: &str, ended: &Ended) -> CapabilityError {
    let result = match ended {
        Ended::With(result) => result,
        Ended::Unknown => return lost_because(id, "Modal does not know it any more"),
        Ended::Unreachable(why) => return lost_because(id, &format!("Modal could not be reached: {why}")),
    };
    match result.status() {
        GenericStatus::KernelOomKill
        | GenericStatus::MemoryManagerEviction
        | GenericStatus::MemoryThrashingEviction => CapabilityError::new(
            ErrorKind::QUOTA,
            format!("sandbox {id} ran out of memory and was ended: write more as its `memory`, or use less"),
        ),
        GenericStatus::Timeout => lost_because(
            id,
            "it had reached its longest life: write more as its `timeout` (on Modal, at most 24h)",
        ),
        GenericStatus::IdleTimeout => lost_because(id, "nothing had run in it for too long"),
        GenericStatus::Terminated => lost_because(id, "it was terminated"),
        GenericStatus::Success => lost_because(id, "its first process ended"),
        _ => {
            let said = [&result.exception, &result.propagation_reason];
            let said =
                said.into_iter().find(|said| !said.is_empty()).map_or("no reason was given", String::as_str);
            lost_because(id, said)
        }
    }
}

fn lost_because(id: &str, why: &str) -> CapabilityError {
    CapabilityError::new(ErrorKind::SANDBOX_LOST, format!("sandbox {id} has ended on Modal: {why}"))
}
