//! The router of a worker: commands in a sandbox, its streams, its files.

use crate::cloud::{Cloud, lock};
use crate::error::{Result, status};
use crate::exec::{End, Exec, Streams};
use crate::fault::Effect;
use crate::fs_tools::translated;
use crate::output::Output;
use crate::proto::task_command_router::task_command_router_server::TaskCommandRouter;
use crate::proto::task_command_router::*;
use crate::sandbox::{Sandbox, Start};
use crate::sandboxes::{self, bounded};
use crate::token::Audience;
use crate::{connection::Cut, image};
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use harvest::capability::sandbox::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status, Streaming};

/// Longest a call waits for the end of a command. Clients give up after 60 s and call again.
const WAIT_LIMIT: Duration = Duration::from_secs(50);

pub(crate) struct Router(pub(crate) Arc<Cloud>);

type Answer<T> = std::result::Result<Response<T>, Status>;

/// What a request says of the task it concerns, and may itself be denied.
struct Caller {
    bearer: Option<String>,
    fault: Option<Effect>,
    cut: Option<Cut>,
}

impl Caller {
    fn of<T>(request: &Request<T>) -> Self {
        let bearer = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let extensions = request.extensions();
        Self {
            bearer: bearer.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned),
            fault: extensions.get::<Effect>().cloned(),
            cut: extensions.get::<Cut>().cloned(),
        }
    }
}

impl Router {
    /// The sandbox of a task, for whoever has a token for it.
    fn sandbox(&self, caller: &Caller, task: &str) -> Result<Arc<Sandbox>> {
        let bearer = caller.bearer.as_deref().unwrap_or_default();
        let denied = |why| Status::unauthenticated(format!("the router's token is not accepted: {why}"));
        self.0.tokens.check(bearer, Audience::Router(task)).map_err(denied)?;
        self.0.sandboxes.find_task(task)
    }

    fn exec(&self, caller: &Caller, task: &str, exec: &str) -> Result<(Arc<Sandbox>, Arc<Exec>)> {
        let sandbox = self.sandbox(caller, task)?;
        let exec = sandbox.find_exec(exec)?;
        Ok((sandbox, exec))
    }
}

#[tonic::async_trait]
impl TaskCommandRouter for Router {
    async fn task_exec_start(&self, request: Request<TaskExecStartRequest>) -> Answer<TaskExecStartResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let sandbox = self.sandbox(&caller, &request.task_id)?;
        if request.exec_id.is_empty() || request.command_args.is_empty() {
            return Err(Status::invalid_argument("a command needs an id and at least one word"));
        }
        let streams = Streams {
            drop_stdout: request.stdout_config() == TaskExecStdoutConfig::Devnull,
            drop_stderr: request.stderr_config() == TaskExecStderrConfig::Devnull,
            join: request.stderr_config() == TaskExecStderrConfig::Stdout,
        };
        let variables =
            self.0.account.variables(&request.secret_ids, &request.secret_sources, &request.env)?;
        let start = Start {
            command: translated(request.command_args),
            variables,
            workdir: request.workdir.filter(|workdir| !workdir.is_empty()),
            timeout: request
                .timeout_secs
                .filter(|secs| *secs > 0)
                .map(|secs| Duration::from_secs(secs.into())),
            streams,
        };
        let cloud = self.0.clone();
        // It is started once, also where the client hangs up meanwhile and calls again.
        let started = tokio::spawn(async move { sandbox.exec(&cloud, &request.exec_id, start).await }).await;
        started.unwrap_or_else(|error| Err(Status::internal(error.to_string())))?;
        Ok(Response::new(TaskExecStartResponse {}))
    }

    async fn task_exec_stdio_read(
        &self,
        request: Request<TaskExecStdioReadRequest>,
    ) -> Answer<BoxStream<'static, Result<TaskExecStdioReadResponse>>> {
        let caller = Caller::of(&request);
        let request = request.get_ref();
        let (sandbox, exec) = self.exec(&caller, &request.task_id, &request.exec_id)?;
        let output = match request.file_descriptor() {
            TaskExecStdioFileDescriptor::Stdout => exec.stdout.clone(),
            TaskExecStdioFileDescriptor::Stderr => exec.stderr.clone(),
        };
        let offset = request.offset;
        let pieces = pieces(output, offset, &caller).scan(offset, |expected, (starting, data)| {
            // This call has no word for bytes that are gone.
            let gone = starting > *expected;
            let message = format!("output before {starting} is no longer kept");
            *expected = starting + data.len() as u64;
            let answer = if gone {
                Err(Status::out_of_range(message))
            } else {
                Ok(TaskExecStdioReadResponse { data })
            };
            std::future::ready(Some(answer))
        });
        // A stream that broke off with the sandbox is not at its end.
        let end = stream::once(async move { (exec.ended() == Some(End::Lost)).then(|| Err(gone(&sandbox))) });
        Ok(Response::new(pieces.chain(end.filter_map(std::future::ready)).boxed()))
    }

    async fn task_exec_stdin_write(
        &self,
        request: Request<TaskExecStdinWriteRequest>,
    ) -> Answer<TaskExecStdinWriteResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let (sandbox, exec) = self.exec(&caller, &request.task_id, &request.exec_id)?;
        sandbox.touch(0);
        exec.write(request.offset, request.data, request.eof).await?;
        Ok(Response::new(TaskExecStdinWriteResponse {}))
    }

    async fn task_exec_stdin_write_stream(
        &self,
        request: Request<Streaming<TaskExecStdinWriteStreamRequest>>,
    ) -> Answer<TaskExecStdinWriteStreamResponse> {
        use task_exec_stdin_write_stream_request::Payload;
        let caller = Caller::of(&request);
        let mut messages = request.into_inner();
        let order = || Status::invalid_argument("the stream must be `start`, `data`, and `end`");
        let Some(Payload::Start(start)) = messages.message().await?.and_then(|message| message.payload)
        else {
            return Err(order());
        };
        let (sandbox, exec) = self.exec(&caller, &start.task_id, &start.exec_id)?;
        let mut offset = start.offset;
        loop {
            sandbox.touch(0);
            match messages.message().await?.and_then(|message| message.payload) {
                Some(Payload::Data(data)) => {
                    let length = data.len() as u64;
                    exec.write(offset, data, false).await?;
                    offset += length;
                }
                Some(Payload::End(_)) => break exec.write(offset, Vec::new(), true).await?,
                Some(Payload::Start(_)) | None => return Err(order()),
            }
        }
        Ok(Response::new(TaskExecStdinWriteStreamResponse {}))
    }

    async fn task_exec_stdin_status(
        &self,
        request: Request<TaskExecStdinStatusRequest>,
    ) -> Answer<TaskExecStdinStatusResponse> {
        let caller = Caller::of(&request);
        let (_, exec) = self.exec(&caller, &request.get_ref().task_id, &request.get_ref().exec_id)?;
        let stdin = exec.stdin().await?;
        Ok(Response::new(TaskExecStdinStatusResponse {
            num_bytes_written: stdin.written,
            closed: stdin.closed,
        }))
    }

    async fn task_exec_poll(&self, request: Request<TaskExecPollRequest>) -> Answer<TaskExecPollResponse> {
        use task_exec_poll_response::ExitStatus as Wire;
        let caller = Caller::of(&request);
        let (sandbox, exec) = self.exec(&caller, &request.get_ref().task_id, &request.get_ref().exec_id)?;
        let exit_status = match exec.ended() {
            None => None,
            Some(End::Exited(ExitStatus::Code(code))) => Some(Wire::Code(code)),
            Some(End::Exited(ExitStatus::Signal(signal))) => Some(Wire::Signal(signal)),
            Some(End::Lost) => return Err(gone(&sandbox)),
        };
        Ok(Response::new(TaskExecPollResponse { exit_status }))
    }

    async fn task_exec_wait(&self, request: Request<TaskExecWaitRequest>) -> Answer<TaskExecWaitResponse> {
        use task_exec_wait_response::ExitStatus as Wire;
        let caller = Caller::of(&request);
        let (sandbox, exec) = self.exec(&caller, &request.get_ref().task_id, &request.get_ref().exec_id)?;
        let late = |_| Status::deadline_exceeded("the command still runs; ask again");
        let exit_status = match tokio::time::timeout(WAIT_LIMIT, exec.wait()).await.map_err(late)? {
            End::Exited(ExitStatus::Code(code)) => Some(Wire::Code(code)),
            End::Exited(ExitStatus::Signal(signal)) => Some(Wire::Signal(signal)),
            End::Lost => return Err(gone(&sandbox)),
        };
        Ok(Response::new(TaskExecWaitResponse { exit_status }))
    }

    async fn sandbox_stdio_read_v2(
        &self,
        request: Request<SandboxStdioReadV2Request>,
    ) -> Answer<BoxStream<'static, Result<SandboxStdioReadV2Response>>> {
        let caller = Caller::of(&request);
        let request = request.get_ref();
        let sandbox = self.sandbox(&caller, &request.task_id)?;
        let output = sandbox.output(request.file_descriptor() == SandboxStdioFileDescriptor::Stderr);
        let pieces = pieces(output, request.offset, &caller)
            .map(|(starting_offset, data)| Ok(SandboxStdioReadV2Response { data, starting_offset }));
        Ok(Response::new(pieces.boxed()))
    }

    async fn sandbox_stdin_write_v2(
        &self,
        request: Request<SandboxStdinWriteV2Request>,
    ) -> Answer<SandboxStdinWriteV2Response> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let sandbox = self.sandbox(&caller, &request.task_id)?;
        sandbox.write(request.offset, request.data, request.eof).await?;
        Ok(Response::new(SandboxStdinWriteV2Response {}))
    }

    async fn sandbox_wait_until_ready(
        &self,
        request: Request<SandboxWaitUntilReadyTcrRequest>,
    ) -> Answer<SandboxWaitUntilReadyTcrResponse> {
        let caller = Caller::of(&request);
        let sandbox = self.sandbox(&caller, &request.get_ref().task_id)?;
        let late = |_| Status::deadline_exceeded("the sandbox is not ready yet");
        let ready = tokio::time::timeout(bounded(request.get_ref().timeout), sandbox.ready());
        let ready_at = ready.await.map_err(late)??;
        Ok(Response::new(SandboxWaitUntilReadyTcrResponse { ready_at }))
    }

    async fn task_snapshot_filesystem(
        &self,
        request: Request<TaskSnapshotFilesystemRequest>,
    ) -> Answer<TaskSnapshotFilesystemResponse> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let sandbox = self.sandbox(&caller, &request.task_id)?;
        let life = image::life(request.ttl_seconds)?;
        let cell = lock(&sandbox.snapshots).entry(request.snapshot_id).or_default().clone();
        let image_id = cell
            .get_or_try_init(|| async {
                let snapshot = sandbox.local()?.snapshot().await.map_err(status)?;
                self.0.images.add_snapshot(&sandbox.definition.image_id, snapshot.image, life)
            })
            .await?
            .clone();
        Ok(Response::new(TaskSnapshotFilesystemResponse { image_id }))
    }

    async fn task_reload_volumes(
        &self,
        request: Request<TaskReloadVolumesRequest>,
    ) -> Answer<TaskReloadVolumesResponse> {
        let caller = Caller::of(&request);
        let sandbox = self.sandbox(&caller, &request.get_ref().task_id)?;
        sandbox.local()?;
        for mount in &sandbox.mounts {
            mount.commit(&self.0).await?;
            mount.load(&self.0).await?;
        }
        Ok(Response::new(TaskReloadVolumesResponse {}))
    }

    async fn task_set_network_access(
        &self,
        request: Request<TaskSetNetworkAccessRequest>,
    ) -> Answer<TaskSetNetworkAccessResponse> {
        let caller = Caller::of(&request);
        let request = request.get_ref();
        let sandbox = self.sandbox(&caller, &request.task_id)?;
        let network = sandboxes::network(request.network_access.as_ref(), false, &self.0.settings.ports)?;
        sandbox.local()?.set_network(network).await.map_err(status)?;
        Ok(Response::new(TaskSetNetworkAccessResponse {}))
    }
}

fn gone(sandbox: &Sandbox) -> Status {
    Status::not_found(format!("the command ended with sandbox {}", sandbox.id))
}

/// What is read from an offset on, with the offset of each piece; cut short where a fault says so.
fn pieces(
    output: Arc<Output>,
    offset: u64,
    caller: &Caller,
) -> impl Stream<Item = (u64, Vec<u8>)> + Send + use<> {
    let cut = match caller.fault {
        Some(Effect::CutOutput(after)) => caller.cut.clone().map(|cut| (cut, after)),
        _ => None,
    };
    stream::unfold((output, offset, cut), |(output, offset, mut cut)| async move {
        if matches!(cut, Some((_, 0))) {
            // The connection goes with what was written last; nothing more is to follow.
            return std::future::pending().await;
        }
        let mut piece = output.read(offset).await?;
        if let Some((connection, left)) = &mut cut {
            piece.data.truncate(*left);
            *left -= piece.data.len();
            if *left == 0 {
                connection.after_write();
            }
        }
        let next = piece.offset + piece.data.len() as u64;
        Some(((piece.offset, piece.data), (output, next, cut)))
    })
}
