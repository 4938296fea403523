//! `harvest:sandbox/types`: what a step does with the sandboxes it was handed.

use super::bindings::harvest::sandbox::types::{
    Bounds, Credential, Error, ExecOptions, Exit, Host, HostProcess, HostSandbox, HostSecret, Output, Reach,
};
use super::handle::{Failure, ProcessHandle, SandboxHandle};
use super::instance::State;
use super::process::PROCESS_LIMIT;
use crate::capability::CapabilityError;
use crate::capability::sandbox::{self, Chunk, Direct, ExecSpec, ExitStatus};
use crate::capability::secret::RunSecret;
use crate::capability::stream::Content;
use crate::network::Network;
use crate::step::ErrorKind;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use wasmtime::component::Resource;

/// Bytes of a file that a guest may read or write at once: half of its memory would be too much.
const FILE_LIMIT: u64 = 64 << 20;

impl Host for State {
    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<Error> {
        match failure {
            Failure::Trap(error) => Err(error),
            Failure::Guest(error) => Ok(for_guest(error)),
        }
    }
}

fn for_guest(CapabilityError { kind, message }: CapabilityError) -> Error {
    match kind.as_str() {
        "denied" => Error::Denied(message),
        "not-found" => Error::NotFound(message),
        "invalid" => Error::Invalid(message),
        "conflict" => Error::Conflict(message),
        "network" => Error::Network(message),
        "unavailable" => Error::Unavailable(message),
        "rate-limited" => Error::RateLimited(message),
        "too-large" => Error::TooLarge(message),
        "quota" => Error::Quota(message),
        "timed-out" => Error::TimedOut(message),
        "sandbox-lost" => Error::SandboxLost(message),
        _ => Error::Other(message),
    }
}

impl HostSecret for State {
    async fn name(&mut self, secret: Resource<RunSecret>) -> wasmtime::Result<String> {
        Ok(self.table.get(&secret)?.name().to_owned())
    }

    async fn drop(&mut self, secret: Resource<RunSecret>) -> wasmtime::Result<()> {
        self.table.delete(secret)?;
        Ok(())
    }
}

impl HostSandbox for State {
    async fn id(&mut self, sandbox: Resource<SandboxHandle>) -> wasmtime::Result<String> {
        Ok(self.table.get(&sandbox)?.id().to_owned())
    }

    async fn bounds(&mut self, sandbox: Resource<SandboxHandle>) -> wasmtime::Result<Bounds> {
        let handle = self.table.get(&sandbox)?;
        let spec = handle.spec();
        // A step may have a policy of its own for the sandboxes that it is handed.
        let own = self.attempt.call.network.as_ref().filter(|_| matches!(handle, SandboxHandle::OfRun(_)));
        Ok(Bounds {
            network: match own.unwrap_or(&spec.network) {
                Network::None => Reach::Nothing,
                Network::Host => Reach::Everything,
                Network::Allow(domains) => Reach::Domains(domains.clone()),
            },
            cpu: spec.cpu,
            memory: spec.memory,
        })
    }

    async fn exec(
        &mut self,
        sandbox: Resource<SandboxHandle>,
        options: ExecOptions,
    ) -> Result<Resource<ProcessHandle>, Failure> {
        if self.attempt.processes.count() >= PROCESS_LIMIT {
            let message = format!("a step runs at most {PROCESS_LIMIT} commands at once");
            return Err(CapabilityError::new(ErrorKind::QUOTA, message).into());
        }
        let (mut secrets, mut kept) = (BTreeMap::new(), BTreeMap::new());
        for (variable, secret) in options.secrets {
            let secret = self.table.get(&secret)?;
            match secret.kept() {
                Some(named) => drop(kept.insert(variable, named.clone())),
                None => drop(secrets.insert(variable, secret.value()?.clone())),
            }
        }
        let spec = ExecSpec {
            command: options.command,
            env: options.env.into_iter().collect(),
            secrets,
            kept,
            workdir: options.workdir,
            stdin: options.stdin,
        };
        let sandbox = self.table.get(&sandbox)?.open().await?;
        let process = sandbox.exec(spec).await?;
        self.attempt.output.touch();
        let running = self.attempt.processes.add(process);
        Ok(self.table.push(ProcessHandle { running, tee: options.tee })?)
    }

    async fn read_file(
        &mut self,
        sandbox: Resource<SandboxHandle>,
        path: String,
        limit: u64,
    ) -> Result<Vec<u8>, Failure> {
        let sandbox = self.table.get(&sandbox)?.open().await?;
        Ok(sandbox.read_file(&path, limit.min(FILE_LIMIT)).await?.into())
    }

    async fn write_file(
        &mut self,
        sandbox: Resource<SandboxHandle>,
        path: String,
        content: Vec<u8>,
        mode: u32,
    ) -> Result<(), Failure> {
        let sandbox = self.table.get(&sandbox)?.open().await?;
        Ok(sandbox.write_file(&path, &content, mode & 0o777).await?)
    }

    async fn forward(
        &mut self,
        sandbox: Resource<SandboxHandle>,
        upstream: String,
        credentials: Vec<Credential>,
    ) -> Result<String, Failure> {
        let mut held = Vec::with_capacity(credentials.len());
        for Credential { header, prefix, secret } in credentials {
            let secret = self.table.get(&secret)?.value()?.clone();
            held.push(sandbox::Credential { header, prefix, secret });
        }
        let sandbox = self.table.get(&sandbox)?.open().await?;
        Ok(sandbox.forward(&upstream, held, Some(self.attempt.account.clone())).await?)
    }

    async fn direct(
        &mut self,
        sandbox: Resource<SandboxHandle>,
        upstream: String,
        secret: Resource<RunSecret>,
    ) -> Result<Option<String>, Failure> {
        let secret = self.table.get(&secret)?;
        let Some(kept) = secret.kept() else { return Ok(None) };
        let handle = self.table.get(&sandbox)?;
        let Some(Direct { base_url, host }) = handle.open().await?.direct(&upstream) else { return Ok(None) };
        if self.attempt.context.meter.is_limited() {
            let message = "what a run spends is counted in the gateway, and none leads from a sandbox of this provider: leave \
                           `budget` out, bound the step by `max_budget_usd`, or use the provider `local`";
            return Err(CapabilityError::new(ErrorKind::UNAVAILABLE, message).into());
        }
        handle.reach(&host).await?;
        let message = format!(
            "secret {} is kept by the provider as {}/{}: no gateway can add it, so that whatever runs in the sandbox \
             meanwhile can read it, and reaches {host}",
            secret.name(),
            kept.name,
            kept.key
        );
        self.attempt.output.entry("log", Content::Data(json!({ "level": "warn", "message": message })));
        Ok(Some(base_url))
    }

    async fn snapshot(&mut self, sandbox: Resource<SandboxHandle>) -> Result<String, Failure> {
        let sandbox = self.table.get(&sandbox)?.open().await?;
        Ok(sandbox.snapshot().await?.image)
    }

    async fn drop(&mut self, sandbox: Resource<SandboxHandle>) -> wasmtime::Result<()> {
        self.end_created(sandbox).await
    }
}

impl HostProcess for State {
    async fn next(
        &mut self,
        process: Resource<ProcessHandle>,
        timeout_ms: Option<u64>,
    ) -> Result<Output, Failure> {
        let ProcessHandle { running, tee } = self.table.get(&process)?.clone();
        let attempt = self.attempt.clone();
        match within(timeout_ms, attempt.chunk(&running, tee)).await {
            None => Ok(Output::Idle),
            Some(chunk) => Ok(match chunk? {
                Some(Chunk::Stdout(bytes)) => Output::Stdout(bytes.into()),
                Some(Chunk::Stderr(bytes)) => Output::Stderr(bytes.into()),
                None => Output::End,
            }),
        }
    }

    async fn write(&mut self, process: Resource<ProcessHandle>, data: Vec<u8>) -> Result<(), Failure> {
        let running = self.table.get(&process)?.running.clone();
        let attempt = self.attempt.clone();
        let mut process = running.process.lock().await;
        // A command that does not read must not keep the step from being cancelled.
        tokio::select! {
            written = process.write(&data) => Ok(written?),
            () = attempt.processes.stopping() => {
                Err(CapabilityError::new(ErrorKind::OTHER, "the step is being cancelled").into())
            }
        }
    }

    async fn close_stdin(&mut self, process: Resource<ProcessHandle>) -> wasmtime::Result<()> {
        let running = self.table.get(&process)?.running.clone();
        running.process.lock().await.close_stdin();
        Ok(())
    }

    async fn signal(&mut self, process: Resource<ProcessHandle>, number: i32) -> Result<(), Failure> {
        let running = self.table.get(&process)?.running.clone();
        Ok(running.process.lock().await.signal(number).await?)
    }

    async fn kill(&mut self, process: Resource<ProcessHandle>) -> Result<(), Failure> {
        let running = self.table.get(&process)?.running.clone();
        Ok(running.process.lock().await.kill().await?)
    }

    async fn wait(
        &mut self,
        process: Resource<ProcessHandle>,
        timeout_ms: Option<u64>,
    ) -> Result<Exit, Failure> {
        let ProcessHandle { running, tee } = self.table.get(&process)?.clone();
        let attempt = self.attempt.clone();
        let ended = async {
            // Output that nobody reads still goes to the step's streams, and still is a sign of life.
            while attempt.chunk(&running, tee).await?.is_some() {}
            let status = attempt.processes.wait(&running).await?;
            // A command that coped with what was killed has ended well; for others that is the cause.
            match attempt.processes.limit(&running).await.filter(|_| status != ExitStatus::Code(0)) {
                Some(limit) => Err(limit),
                None => Ok(status),
            }
        };
        match within(timeout_ms, ended).await {
            None => Err(CapabilityError::new(ErrorKind::TIMED_OUT, "the command has not ended").into()),
            Some(status) => Ok(match status? {
                ExitStatus::Code(code) => Exit::Code(code),
                ExitStatus::Signal(signal) => Exit::Signal(signal),
            }),
        }
    }

    async fn drop(&mut self, process: Resource<ProcessHandle>) -> wasmtime::Result<()> {
        let handle = self.table.delete(process)?;
        if let Err(error) = handle.running.process.lock().await.kill().await {
            tracing::warn!("a command was not killed: {error}");
        }
        self.attempt.processes.forget(&handle.running);
        Ok(())
    }
}

async fn within<T>(timeout_ms: Option<u64>, future: impl Future<Output = T>) -> Option<T> {
    match timeout_ms {
        None => Some(future.await),
        Some(millis) => tokio::time::timeout(Duration::from_millis(millis), future).await.ok(),
    }
}
