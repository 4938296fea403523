//! The commands that one attempt runs: found again when it must stop, gone when it has ended.

use crate::capability::sandbox::{Chunk, ExitStatus, Process};
use crate::capability::{CapabilityError, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The signal that asks a command to stop what it does: Ctrl-C.
const INTERRUPT: i32 = 2;

/// Commands that one attempt may have running at once.
pub(super) const PROCESS_LIMIT: usize = 64;

/// How long killing one command may take before it is given up and reported.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A command with what is needed to stop it from outside.
pub(super) struct Running {
    /// The guest's host functions and the clean-up share it.
    pub(super) process: tokio::sync::Mutex<Box<dyn Process>>,
    /// Whether it has been asked to stop.
    pub(super) interrupted: AtomicBool,
    number: u64,
}

/// Every command of one attempt that has not been dropped.
#[derive(Default)]
pub(super) struct Processes {
    running: Mutex<BTreeMap<u64, Arc<Running>>>,
    next: std::sync::atomic::AtomicU64,
    /// Fires once there has been a command.
    begun: CancellationToken,
    /// Fires when commands are to stop: a host function that holds one sends the signal itself.
    pub(super) interrupt: CancellationToken,
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
        let running = Arc::new(Running {
            process: tokio::sync::Mutex::new(process),
            interrupted: AtomicBool::new(false),
            number,
        });
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

    /// The next output of a command. When the attempt is cancelled meanwhile, interrupts the command and waits on.
    pub(super) async fn next(&self, running: &Running) -> Result<Option<Chunk>> {
        let mut process = running.process.lock().await;
        loop {
            tokio::select! {
                biased;
                () = self.interruption(running) => interrupt(process.as_mut()).await,
                chunk = process.next() => return chunk,
            }
        }
    }

    /// How a command ends. When the attempt is cancelled meanwhile, interrupts the command and waits on.
    pub(super) async fn wait(&self, running: &Running) -> Result<ExitStatus> {
        let mut process = running.process.lock().await;
        loop {
            tokio::select! {
                biased;
                () = self.interruption(running) => interrupt(process.as_mut()).await,
                status = process.wait() => return status,
            }
        }
    }

    /// The limit of its sandbox that a command ran into.
    pub(super) async fn limit(&self, running: &Running) -> Option<CapabilityError> {
        running.process.lock().await.limit()
    }

    /// Returns when the command is to be interrupted, once.
    async fn interruption(&self, running: &Running) {
        self.interrupt.cancelled().await;
        if running.interrupted.swap(true, Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    /// Asks every command to stop.
    pub(super) async fn interrupt(&self) {
        self.interrupt.cancel();
        let all: Vec<_> = self.lock().values().cloned().collect();
        for running in all {
            // One that is locked is in the hands of a host function, which sees `interrupt`.
            if let Ok(mut process) = running.process.try_lock()
                && !running.interrupted.swap(true, Ordering::Relaxed)
            {
                interrupt(process.as_mut()).await;
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

async fn interrupt(process: &mut dyn Process) {
    if let Err(error) = process.signal(INTERRUPT).await {
        // One that has already ended cannot be signalled, which is as good.
        tracing::debug!("a command was not interrupted: {error}");
    }
}
