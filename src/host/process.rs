//! The commands that one attempt runs: found again when it must stop, gone when it has ended.

use crate::capability::sandbox::{Chunk, ExitStatus, Process};
use crate::capability::{CapabilityError, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How a command is asked to stop: each way is tried once, after the one before.
#[derive(Clone, Copy)]
pub(super) enum Ask {
    /// Ctrl-C, which agents take as the order to put things in order.
    Interrupt = 1,
    /// SIGTERM. A shell that waits for its command does not end by an interrupt.
    Terminate = 2,
}

impl Ask {
    fn signal(self) -> i32 {
        match self {
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

/// Commands that one attempt may have running at once.
pub(super) const PROCESS_LIMIT: usize = 64;

/// How long killing one command may take before it is given up and reported.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A command with what is needed to stop it from outside.
pub(super) struct Running {
    /// The guest's host functions and the clean-up share it.
    pub(super) process: tokio::sync::Mutex<Box<dyn Process>>,
    /// The last [`Ask`] that it got, 0 where none.
    asked: AtomicU8,
    number: u64,
}

/// Every command of one attempt that has not been dropped.
#[derive(Default)]
pub(super) struct Processes {
    running: Mutex<BTreeMap<u64, Arc<Running>>>,
    next: std::sync::atomic::AtomicU64,
    /// Fires once there has been a command.
    begun: CancellationToken,
    /// How commands are asked to stop by now: a host function that holds one sends the signal itself.
    asks: watch::Sender<Option<Ask>>,
}

impl Processes {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn add(&self, process: Box<dyn Process>) -> Arc<Running> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let running =
            Arc::new(Running { process: tokio::sync::Mutex::new(process), asked: AtomicU8::new(0), number });
        self.lock().insert(number, running.clone());
        self.begun.cancel();
        running
    }

    /// Returns once there has been a command.
    pub(super) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    pub(super) fn forget(&self, running: &Running) {
        self.lock().remove(&running.number);
    }

    /// The next output of a command. When the attempt is cancelled meanwhile, asks the command to stop and waits on.
    pub(super) async fn next(&self, running: &Running) -> Result<Option<Chunk>> {
        let mut process = running.process.lock().await;
        loop {
            tokio::select! {
                biased;
                ask = self.asked(running) => send(process.as_mut(), ask).await,
                chunk = process.next() => return chunk,
            }
        }
    }

    /// How a command ends. When the attempt is cancelled meanwhile, asks the command to stop and waits on.
    pub(super) async fn wait(&self, running: &Running) -> Result<ExitStatus> {
        let mut process = running.process.lock().await;
        loop {
            tokio::select! {
                biased;
                ask = self.asked(running) => send(process.as_mut(), ask).await,
                status = process.wait() => return status,
            }
        }
    }

    /// The limit of its sandbox that a command ran into.
    pub(super) async fn limit(&self, running: &Running) -> Option<CapabilityError> {
        running.process.lock().await.limit()
    }

    /// Returns once commands are to stop.
    pub(super) async fn stopping(&self) {
        // It fails where nobody can ask any more, and `self` can.
        let _ = self.asks.subscribe().wait_for(Option::is_some).await;
    }

    /// Returns when the command is to be asked to stop, once for each way.
    async fn asked(&self, running: &Running) -> Ask {
        let mut asks = self.asks.subscribe();
        loop {
            let ask = *asks.borrow_and_update();
            if let Some(ask) = ask.filter(|ask| running.is_new(*ask)) {
                return ask;
            }
            let _ = asks.changed().await;
        }
    }

    /// Asks every command to stop.
    pub(super) async fn ask(&self, ask: Ask) {
        self.asks.send_replace(Some(ask));
        let all: Vec<_> = self.lock().values().cloned().collect();
        for running in all {
            // One that is locked is in the hands of a host function, which sees it too.
            if let Ok(mut process) = running.process.try_lock()
                && running.is_new(ask)
            {
                send(process.as_mut(), ask).await;
            }
        }
    }

    /// Kills what is left. The guest must not be running any more.
    pub(super) async fn kill(&self) {
        let all: Vec<_> = std::mem::take(&mut *self.lock()).into_values().collect();
        for running in all {
            let killed =
                tokio::time::timeout(KILL_LIMIT, async { running.process.lock().await.kill().await }).await;
            match killed {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("a command was not killed: {error}"),
                Err(_) => tracing::warn!("a command was not killed within {} s", KILL_LIMIT.as_secs()),
            }
        }
    }
}

impl Running {
    /// Whether it has not yet been asked so, and notes that it is now.
    fn is_new(&self, ask: Ask) -> bool {
        self.asked.fetch_max(ask as u8, Ordering::Relaxed) < ask as u8
    }
}

async fn send(process: &mut dyn Process, ask: Ask) {
    if let Err(error) = process.signal(ask.signal()).await {
        // One that has already ended cannot be signalled, which is as good.
        tracing::debug!("a command was not asked to stop: {error}");
    }
}
