//! What a command writes, read to its end however often the connection breaks.

use super::fault::Fault;
use super::messages::task_command_router as api;
use super::retry::ROUTER;
use super::router::{Answers, Router};
use bytes::Bytes;
use std::sync::Arc;
use tonic::Code;

/// Which of its streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A reader that knows how far it is, and asks from there on where it is cut off.
pub(crate) struct Output {
    router: Arc<Router>,
    request: api::TaskExecStdioReadRequest,
    stream: Option<Answers<api::TaskExecStdioReadResponse>>,
    /// Failures since bytes last arrived.
    failures: u32,
    /// Whether the token was renewed since then.
    renewed: bool,
}

impl Output {
    /// The output of a command from its first byte on.
    pub(crate) fn new(router: Arc<Router>, task_id: String, exec_id: String, source: Source) -> Self {
        let file_descriptor = match source {
            Source::Stdout => api::TaskExecStdioFileDescriptor::Stdout,
            Source::Stderr => api::TaskExecStdioFileDescriptor::Stderr,
        };
        let request = api::TaskExecStdioReadRequest {
            task_id,
            exec_id,
            offset: 0,
            file_descriptor: file_descriptor.into(),
        };
        Self { router, request, stream: None, failures: 0, renewed: false }
    }

    /// The next bytes, `None` at the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let fault = match self.read().await {
                Ok(Some(bytes)) if bytes.is_empty() => continue,
                Ok(Some(bytes)) => {
                    self.request.offset += bytes.len() as u64;
                    (self.failures, self.renewed) = (0, false);
                    return Ok(Some(bytes));
                }
                Ok(None) => return Ok(None),
                Err(fault) => fault,
            };
            self.stream = None;
            if fault.code == Code::Unauthenticated && !self.renewed {
                self.renewed = true;
                self.router.renew().await;
                continue;
            }
            if !fault.is_passing() || self.failures == ROUTER.retries {
                return Err(fault);
            }
            self.failures += 1;
            self.router.clock().pause(ROUTER.pause(self.failures)).await;
        }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, Fault> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            slot => slot.insert(self.router.stream(&self.request).await?),
        };
        Ok(stream.message().await?.map(|message| message.data))
    }
}
