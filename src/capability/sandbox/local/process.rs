//! The host's view of a command in a sandbox: its streams, its end, its death.

use super::super::{Chunk, ExitStatus, Process};
use super::channel::Channel;
use super::plan::{Order, Reply};
use super::strikes::{Count, Strikes};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::OwnedRwLockReadGuard;

/// Most bytes in one chunk.
const CHUNK: usize = 64 << 10;
/// How long after the command's end its daemons may keep the streams open without writing.
const LINGER: Duration = Duration::from_secs(1);
/// Most bytes of output held while the caller is busy writing to standard input.
const BACKLOG_LIMIT: usize = 256 << 20;
/// How long the kernel may take to end a killed tree.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// A running command. Dropping it closes the channel, and the process at the other end kills the tree.
pub(super) struct LocalProcess {
    pub(super) channel: Arc<Channel>,
    pub(super) stdout: Stream,
    pub(super) stderr: Stream,
    pub(super) stdin: Option<Sender>,
    pub(super) backlog: VecDeque<Chunk>,
    pub(super) end: End,
    pub(super) strikes: Arc<Strikes>,
    /// Kills at the limits of the sandbox before it started.
    pub(super) before: Count,
    /// Held while it runs, so that its sandbox knows.
    pub(super) files: Option<OwnedRwLockReadGuard<()>>,
}

/// What is known about the end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It runs.
    Running,
    /// It ended; what it started may still run.
    Exited(ExitStatus),
    /// Its tree is gone, and this is how the command ended, where that is known.
    Gone(Option<ExitStatus>),
}

impl End {
    fn status(self) -> Option<ExitStatus> {
        match self {
            Self::Running => None,
            Self::Exited(status) => Some(status),
            Self::Gone(status) => status,
        }
    }
}

/// One stream of output until its end.
pub(super) struct Stream {
    pipe: Option<Receiver>,
    buffer: Vec<u8>,
}

impl Stream {
    pub(super) fn new(pipe: Receiver) -> Self {
        Self { pipe: Some(pipe), buffer: vec![0; CHUNK] }
    }

    /// The next bytes, `None` at the end. Cancel-safe.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(pipe) = &self.pipe else { return Ok(None) };
        loop {
            pipe.readable().await?;
            match pipe.try_read(&mut self.buffer) {
                Ok(0) => {
                    self.pipe = None;
                    return Ok(None);
                }
                Ok(count) => return Ok(Some(Bytes::copy_from_slice(&self.buffer[..count]))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }
}

/// What happened first.
enum Event {
    Output(Chunk),
    StreamEnded,
    Lingered,
    Reply,
}

impl LocalProcess {
    /// Waits for the next thing to happen. Cancel-safe.
    async fn event(&mut self) -> Result<Event> {
        let failed = |error: io::Error| CapabilityError::io("read from the sandbox", &error);
        let exited = self.end != End::Running;
        let gone = matches!(self.end, End::Gone(_));
        let streaming = self.stdout.is_open() || self.stderr.is_open();
        tokio::select! {
            bytes = self.stdout.next(), if self.stdout.is_open() => {
                Ok(bytes.map_err(failed)?.map_or(Event::StreamEnded, |bytes| Event::Output(Chunk::Stdout(bytes))))
            }
            bytes = self.stderr.next(), if self.stderr.is_open() => {
                Ok(bytes.map_err(failed)?.map_or(Event::StreamEnded, |bytes| Event::Output(Chunk::Stderr(bytes))))
            }
            reply = self.channel.receive::<Reply>(), if !gone => {
                self.note(reply.ok().flatten().map(|(reply, _)| reply));
                Ok(Event::Reply)
            }
            () = tokio::time::sleep(LINGER), if exited && streaming => {
                self.stdout.pipe = None;
                self.stderr.pipe = None;
                Ok(Event::Lingered)
            }
            else => Err(self.lost()),
        }
    }

    fn note(&mut self, reply: Option<Reply>) {
        match reply {
            Some(Reply::Exited(status)) => self.end = End::Exited(status),
            Some(_) => {}
            None => {
                self.end = End::Gone(self.end.status());
                self.files = None;
            }
        }
    }

    fn lost(&self) -> CapabilityError {
        self.strikes.since(self.before).or_else(|| self.strikes.expired()).unwrap_or_else(|| {
            CapabilityError::new(
                ErrorKind::SANDBOX_LOST,
                "the sandbox ended under the command: it was terminated, ran out of memory, or the command killed its supervisor",
            )
        })
    }
}

#[async_trait]
impl Process for LocalProcess {
    async fn next(&mut self) -> Result<Option<Chunk>> {
        loop {
            if let Some(chunk) = self.backlog.pop_front() {
                return Ok(Some(chunk));
            }
            if !self.stdout.is_open() && !self.stderr.is_open() {
                return Ok(None);
            }
            if let Event::Output(chunk) = self.event().await? {
                return Ok(Some(chunk));
            }
        }
    }

    async fn write(&mut self, data: &[u8]) -> Result<()> {
        let closed = || {
            CapabilityError::new(
                ErrorKind::CONFLICT,
                "standard input is closed: the command reads no more of it",
            )
        };
        let mut rest = data;
        let mut held: usize = 0;
        while !rest.is_empty() {
            let stdin = self.stdin.take().ok_or_else(closed)?;
            // Output is read meanwhile: a command that answers as it reads would otherwise wait for us, and we for it.
            tokio::select! {
                ready = stdin.writable() => {
                    ready.map_err(|error| CapabilityError::io("write to the command", &error))?;
                    match stdin.try_write(rest) {
                        Ok(count) => rest = &rest[count..],
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(closed()),
                        Err(error) => return Err(CapabilityError::io("write to the command", &error)),
                    }
                }
                event = self.event() => {
                    if let Event::Output(chunk) = event? {
                        held += match &chunk { Chunk::Stdout(bytes) | Chunk::Stderr(bytes) => bytes.len() };
                        self.backlog.push_back(chunk);
                    }
                }
            }
            self.stdin = Some(stdin);
            if held > BACKLOG_LIMIT {
                return Err(CapabilityError::new(
                    ErrorKind::TOO_LARGE,
                    format!(
                        "the command wrote more than {BACKLOG_LIMIT} bytes while reading its input; write in pieces and read between"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn close_stdin(&mut self) {
        self.stdin = None;
    }

    async fn signal(&mut self, signal: i32) -> Result<()> {
        if !(1..=64).contains(&signal) {
            return Err(CapabilityError::new(ErrorKind::INVALID, format!("there is no signal {signal}")));
        }
        // A command that has ended, or a tree that is gone, needs no signal.
        drop(self.channel.send(&Order::Signal(signal), &[]).await);
        Ok(())
    }

    async fn kill(&mut self) -> Result<()> {
        if matches!(self.end, End::Gone(_)) {
            return Ok(());
        }
        drop(self.channel.send(&Order::Kill, &[]).await);
        let dying = async {
            while !matches!(self.end, End::Gone(_)) {
                let reply = self.channel.receive::<Reply>().await;
                self.note(reply.ok().flatten().map(|(reply, _)| reply));
            }
        };
        tokio::time::timeout(KILL_LIMIT, dying).await.map_err(|_| {
            CapabilityError::new(
                ErrorKind::UNAVAILABLE,
                format!(
                    "the kernel did not end the command within {} s; terminate the sandbox",
                    KILL_LIMIT.as_secs()
                ),
            )
        })
    }

    async fn wait(&mut self) -> Result<ExitStatus> {
        self.backlog.clear();
        loop {
            match self.end {
                End::Exited(status) | End::Gone(Some(status)) => return Ok(status),
                End::Gone(None) => return Err(self.lost()),
                End::Running => drop(self.event().await?),
            }
        }
    }

    fn limit(&self) -> Option<CapabilityError> {
        self.strikes.since(self.before)
    }
}
