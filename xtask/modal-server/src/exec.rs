//! A command in a sandbox while it runs: its output kept, its input taken by offset, its end remembered.

use crate::error::{self, Result};
use crate::output::Output;
use futures_util::future::BoxFuture;
use harvest::capability::sandbox::{Chunk, ExitStatus, Process};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

/// The signal that ends a command at its time-out.
const SIGKILL: i32 = 9;
/// Writes that wait for a command to read.
const ORDERS: usize = 16;

/// A command.
pub(crate) struct Exec {
    pub(crate) stdout: Arc<Output>,
    pub(crate) stderr: Arc<Output>,
    end: watch::Sender<Option<End>>,
    orders: mpsc::Sender<Order>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, or at its time-out.
    Exited(ExitStatus),
    /// With its sandbox.
    Lost,
}

/// What is done at the end of a command, with its standard error; says how it has ended then.
pub(crate) type Epilogue = Box<dyn FnOnce(End, Arc<Output>) -> BoxFuture<'static, End> + Send>;

/// How a command is run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Streams {
    /// Standard output is not kept.
    pub(crate) drop_stdout: bool,
    /// Standard error is not kept.
    pub(crate) drop_stderr: bool,
    /// Standard error goes where standard output goes.
    pub(crate) join: bool,
}

/// What was written to standard input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stdin {
    /// Bytes that the command was handed.
    pub(crate) written: u64,
    pub(crate) closed: bool,
}

enum Order {
    Write { offset: u64, data: Vec<u8>, eof: bool, reply: oneshot::Sender<Result<()>> },
    Status(oneshot::Sender<Stdin>),
}

impl Exec {
    /// Follows a process. It is kept, with the daemons it started, until `closing` says that its sandbox ends. Nobody
    /// hears of its end before `epilogue` is done.
    pub(crate) fn follow(
        process: Box<dyn Process>,
        streams: Streams,
        deadline: Option<Instant>,
        closing: watch::Receiver<bool>,
        epilogue: Epilogue,
    ) -> Arc<Self> {
        let (orders, received) = mpsc::channel(ORDERS);
        let stdout = Arc::new(Output::default());
        let stderr = Arc::new(Output::default());
        let exec = Arc::new(Self { stdout, stderr, end: watch::Sender::new(None), orders });
        let driver = Driver {
            exec: exec.clone(),
            process,
            streams,
            deadline,
            stdin: Stdin::default(),
            orders: received,
        };
        tokio::spawn(driver.run(closing, epilogue));
        exec
    }

    /// How it ended, `None` while it runs.
    pub(crate) fn ended(&self) -> Option<End> {
        *self.end.borrow()
    }

    /// Waits for its end. Cancel-safe.
    pub(crate) async fn wait(&self) -> End {
        let mut end = self.end.subscribe();
        // The sender is this very command's, so that it is there.
        let ended = end.wait_for(Option::is_some).await;
        ended.ok().and_then(|end| *end).unwrap_or(End::Lost)
    }

    /// Writes bytes that begin at an offset; those that were written before are skipped.
    pub(crate) async fn write(&self, offset: u64, data: Vec<u8>, eof: bool) -> Result<()> {
        let (reply, replied) = oneshot::channel();
        self.order(Order::Write { offset, data, eof, reply }).await?;
        replied.await.map_err(|_| closed())?
    }

    /// What was written so far.
    pub(crate) async fn stdin(&self) -> Result<Stdin> {
        let (reply, replied) = oneshot::channel();
        self.order(Order::Status(reply)).await?;
        replied.await.map_err(|_| closed())
    }

    async fn order(&self, order: Order) -> Result<()> {
        self.orders.send(order).await.map_err(|_| closed())
    }
}

fn closed() -> Status {
    Status::failed_precondition("standard input is closed: the command has ended or reads no more of it")
}

/// Owns the process.
struct Driver {
    exec: Arc<Exec>,
    process: Box<dyn Process>,
    streams: Streams,
    deadline: Option<Instant>,
    stdin: Stdin,
    orders: mpsc::Receiver<Order>,
}

/// What a process did.
enum Event {
    Output(Chunk),
    StreamsEnded,
    Ended(End),
}

impl Driver {
    async fn run(mut self, mut closing: watch::Receiver<bool>, epilogue: Epilogue) {
        let end = self.until_its_end().await;
        let end = epilogue(end, self.exec.stderr.clone()).await;
        // Before the streams end, so that whoever read them to their end knows whether it was one.
        self.exec.end.send_replace(Some(end));
        self.exec.stdout.end();
        self.exec.stderr.end();
        self.stdin.closed = true;
        loop {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return,
                order = self.orders.recv() => match order {
                    Some(Order::Status(reply)) => {
                        let _ = reply.send(self.stdin);
                    }
                    Some(Order::Write { reply, .. }) => drop(reply.send(Err(closed()))),
                    None => return,
                },
            }
        }
    }

    async fn until_its_end(&mut self) -> End {
        let mut streaming = true;
        loop {
            let deadline = self.deadline.unwrap_or_else(|| Instant::now() + FAR);
            tokio::select! {
                event = next(&mut *self.process, streaming) => match event {
                    Event::Output(chunk) => self.keep(&chunk),
                    Event::StreamsEnded => streaming = false,
                    Event::Ended(end) => return end,
                },
                Some(order) = self.orders.recv() => {
                    if let Some(end) = self.obey(order).await {
                        return end;
                    }
                }
                () = sleep_until(deadline), if self.deadline.is_some() => return self.kill().await,
            }
        }
    }

    fn keep(&self, chunk: &Chunk) {
        match chunk {
            Chunk::Stdout(bytes) if !self.streams.drop_stdout => self.exec.stdout.push(bytes),
            Chunk::Stderr(bytes) if self.streams.join => self.exec.stdout.push(bytes),
            Chunk::Stderr(bytes) if !self.streams.drop_stderr => self.exec.stderr.push(bytes),
            _ => {}
        }
    }

    /// Does what was ordered; `Some` where the time-out came first.
    async fn obey(&mut self, order: Order) -> Option<End> {
        let (offset, data, eof, reply) = match order {
            Order::Status(reply) => {
                // Whoever asked may have hung up.
                let _ = reply.send(self.stdin);
                return None;
            }
            Order::Write { offset, data, eof, reply } => (offset, data, eof, reply),
        };
        let deadline = self.deadline.unwrap_or_else(|| Instant::now() + FAR);
        let written = tokio::select! {
            written = self.write(offset, &data, eof) => written,
            () = sleep_until(deadline) => return Some(self.kill().await),
        };
        drop(reply.send(written));
        None
    }

    async fn write(&mut self, offset: u64, data: &[u8], eof: bool) -> Result<()> {
        let Some(known) = self.stdin.written.checked_sub(offset) else {
            let message = format!("input begins at {offset}, but only {} came before", self.stdin.written);
            return Err(Status::out_of_range(message));
        };
        let fresh = data.get(usize::try_from(known).unwrap_or(usize::MAX)..).unwrap_or_default();
        if !fresh.is_empty() {
            if self.stdin.closed {
                return Err(closed());
            }
            self.process.write(fresh).await.map_err(error::status)?;
            self.stdin.written += fresh.len() as u64;
        }
        if eof {
            self.process.close_stdin();
            self.stdin.closed = true;
        }
        Ok(())
    }

    async fn kill(&mut self) -> End {
        // It fails only where the kernel does not end the tree; the sandbox's own end will.
        drop(self.process.kill().await);
        End::Exited(ExitStatus::Signal(SIGKILL))
    }
}

/// Longer than any sandbox lives.
const FAR: std::time::Duration = std::time::Duration::from_secs(48 * 60 * 60);

/// Waits for the next thing that a process does. Cancel-safe.
async fn next(process: &mut dyn Process, streaming: bool) -> Event {
    if !streaming {
        return Event::Ended(process.wait().await.map_or(End::Lost, End::Exited));
    }
    match process.next().await {
        Ok(Some(chunk)) => Event::Output(chunk),
        Ok(None) => Event::StreamsEnded,
        Err(_) => Event::Ended(End::Lost),
    }
}
