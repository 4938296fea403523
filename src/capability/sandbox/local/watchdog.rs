//! Holds sandboxes to limits that the kernel does not hold for us here, by looking at them again and again. Between two
//! looks a sandbox may go over its limit: this stops accidents and runaways, not whoever is out to fill a disk.

mod disk;
mod memory;

use super::channel::Channel;
use super::plan::Order;
use super::strikes::Strikes;
pub(super) use memory::works as can_watch_memory;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Pause between two looks at the memory: a process fills some hundred megabytes meanwhile.
const MEMORY_PAUSE: Duration = Duration::from_millis(100);
/// Pause between two looks at the files.
const DISK_PAUSE: Duration = Duration::from_secs(1);
/// Bytes by which files can grow that nobody writes to: blocks count when they reach the disk, and with those of the file
/// system that lead to them.
const GROWTH: u64 = 1 << 20;
/// The pause is at least this many times as long as the look took, so that looking costs at most a twentieth of a core.
const RELAX: u32 = 19;

/// The commands that run in a sandbox.
#[derive(Default)]
pub(super) struct Commands(Mutex<Vec<Weak<Channel>>>);

impl Commands {
    /// Notes a command by its channel, which is gone when nobody holds the command any more.
    pub(super) fn add(&self, channel: &Arc<Channel>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|channel| channel.strong_count() > 0);
        all.push(Arc::downgrade(channel));
    }

    fn running(&self) -> Vec<Arc<Channel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }

    /// Kills every command with all that it started.
    async fn kill(&self) {
        for channel in self.running() {
            // One that is gone needs no killing.
            drop(channel.send(&Order::Kill, &[]).await);
        }
    }
}

/// What the watchdogs of a sandbox look at and act on.
#[derive(Clone)]
pub(super) struct Watched {
    /// The launcher's process: every process of the sandbox descends from it.
    pub(super) launcher: u32,
    /// The directory of the sandbox's own files.
    pub(super) files: PathBuf,
    pub(super) commands: Arc<Commands>,
    pub(super) strikes: Arc<Strikes>,
    /// Turns true when the sandbox has ended.
    pub(super) ended: watch::Receiver<bool>,
}

impl Watched {
    /// Keeps the memory of the sandbox's processes at a limit in bytes, until the sandbox ends.
    pub(super) fn hold_memory(mut self, limit: u64) {
        tokio::spawn(async move {
            let mut pause = MEMORY_PAUSE;
            loop {
                let (launcher, strikes) = (self.launcher, self.strikes.clone());
                let held = self.look(pause, move || memory::hold(launcher, limit, &strikes)).await;
                let Some(((), took)) = held else { return };
                pause = MEMORY_PAUSE.max(took * RELAX);
            }
        });
    }

    /// Keeps the files of the sandbox at a limit in bytes, until the sandbox ends.
    pub(super) fn hold_disk(mut self, limit: u64) {
        tokio::spawn(async move {
            let mut pause = DISK_PAUSE;
            // What is over the limit already may be read and deleted: only what adds to it is killed. How much it is is
            // known after the kill, at the next look.
            let mut tolerated = Some(limit);
            loop {
                let files = self.files.clone();
                let Some((used, took)) = self.look(pause, move || disk::usage(&files)).await else { return };
                pause = DISK_PAUSE.max(took * RELAX);
                match tolerated {
                    Some(most) if used > most => {
                        tolerated = None;
                        self.strikes.disk();
                        self.commands.kill().await;
                    }
                    _ => tolerated = Some(if used > limit { used + GROWTH } else { limit }),
                }
            }
        });
    }

    /// Waits, at least until a command runs, and looks; what was seen and how long that took. `None` once the sandbox has
    /// ended.
    async fn look<T: Send + 'static>(
        &mut self,
        pause: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Option<(T, Duration)> {
        loop {
            tokio::select! {
                _ = self.ended.wait_for(|ended| *ended) => return None,
                () = tokio::time::sleep(pause) => {}
            }
            if !self.commands.running().is_empty() {
                break;
            }
        }
        let start = Instant::now();
        let seen = tokio::task::spawn_blocking(look).await.ok()?;
        Some((seen, start.elapsed()))
    }
}
