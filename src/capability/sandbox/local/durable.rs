//! When a snapshot is on disk for good.
//!
//! Its image can be used at once, and is marked with the machine's boot until everything it is made of is synced. What
//! a dead process leaves marked is synced by the next one: the kernel still has all of it. What is marked with an earlier
//! boot may have lost anything with the power, so it is no image any more. The mark is an attribute of the file itself and
//! so appears and goes with it, whoever else works with the home.

use super::copy::disk_usage;
use super::store::{Store, names_in};
use crate::capability::{CapabilityError, Result};
use rustix::fs::XattrFlags;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The boot in which an image was made that is not synced yet.
const BOOT: &str = "user.harvest.boot";
/// Bytes of an image's layers, once they are known.
const BYTES: &str = "user.harvest.bytes";
/// Longest value of these, in bytes.
const VALUE_LIMIT: usize = 64;

/// The machine's current boot.
pub(super) fn boot() -> Result<String> {
    let file = "/proc/sys/kernel/random/boot_id";
    let text =
        fs::read_to_string(file).map_err(|error| CapabilityError::io(format!("read {file}"), &error))?;
    Ok(text.trim().to_owned())
}

/// Marks an image that is about to appear.
pub(super) fn mark(image: impl AsFd, boot: &str) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(image, BOOT, boot.as_bytes(), XattrFlags::empty())?)
}

/// Whether an image survives the loss of power.
pub(super) fn is_durable(image: &Path) -> bool {
    value(image, BOOT).is_none()
}

/// Bytes of the layers of an image, where they have been measured since it was made.
pub(super) fn measured(image: &Path) -> Option<u64> {
    value(image, BYTES)?.parse().ok()
}

fn value(image: &Path, name: &str) -> Option<String> {
    let mut value = [0; VALUE_LIMIT];
    let length = rustix::fs::lgetxattr(image, name, &mut value).ok()?;
    String::from_utf8(value[..length].to_vec()).ok()
}

/// Syncs an image with its layers and takes its mark. Does nothing where there is no such image or it has none. `disk`
/// is the directory of layers as it was opened before they were written, so that a failed write is not missed.
pub(super) fn settle(store: &Store, image: &Path, layers: &[String], disk: &File) -> io::Result<()> {
    let file = match File::open(image) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    if is_durable(image) {
        return Ok(());
    }
    rustix::fs::syncfs(disk)?;
    let bytes: io::Result<u64> = layers.iter().map(|layer| disk_usage(&store.layers().join(layer))).sum();
    if let Ok(bytes) = bytes {
        rustix::fs::fsetxattr(&file, BYTES, bytes.to_string().as_bytes(), XattrFlags::empty())?;
    }
    File::open(store.images())?.sync_all()?;
    match rustix::fs::fremovexattr(&file, BOOT) {
        Ok(()) | Err(rustix::io::Errno::NODATA) => file.sync_all(),
        Err(errno) => Err(errno.into()),
    }
}

/// Drops the images that the power may have taken a part of, and returns the files of those still to be settled.
pub(super) fn recover(store: &Store) -> Result<Vec<PathBuf>> {
    let mut unsettled = Vec::new();
    for name in names_in(&store.images())? {
        let image = store.images().join(name);
        match value(&image, BOOT) {
            None => {}
            Some(boot) if boot == store.boot() => unsettled.push(image),
            Some(_) => {
                tracing::warn!(
                    image = %image.display(),
                    "a snapshot was not yet on disk when the machine went down, and is dropped"
                );
                fs::remove_file(&image)
                    .map_err(|error| CapabilityError::io("drop a snapshot that is not whole", &error))?;
            }
        }
    }
    Ok(unsettled)
}

/// Work that goes on while its results are used already. Dropped, it waits for what must be done and breaks off the rest:
/// a process that ends in order leaves nothing unsettled.
#[derive(Debug, Default)]
pub(super) struct Background {
    threads: Mutex<Vec<JoinHandle<()>>>,
    shared: Arc<Shared>,
}

/// What all of this work has in common.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Whether to break off what can be done again.
    pub(super) stop: AtomicBool,
    /// Held by whoever squashes.
    pub(super) squashing: Mutex<()>,
}

impl Background {
    /// Does `work` after a while, or once nobody waits for it any more.
    pub(super) fn start_later(&self, name: &str, after: Duration, work: impl FnOnce() + Send + 'static) {
        let due = Instant::now() + after;
        self.start(name, move |shared| {
            while !shared.stop.load(Ordering::Relaxed) {
                match due.saturating_duration_since(Instant::now()) {
                    Duration::ZERO => break,
                    left => std::thread::park_timeout(left),
                }
            }
            work();
        });
    }

    /// Does `work` on a thread of its own. Where none can be made, it is left to the next process.
    pub(super) fn start(&self, name: &str, work: impl FnOnce(&Shared) + Send + 'static) {
        let shared = self.shared.clone();
        match std::thread::Builder::new().name(name.into()).spawn(move || work(&shared)) {
            Ok(thread) => {
                let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
                threads.retain(|thread| !thread.is_finished());
                threads.push(thread);
            }
            Err(error) => tracing::warn!("{name} cannot be started: {error}"),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let own = std::thread::current().id();
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in std::mem::take(threads) {
            // The last to let go may be one of them.
            if thread.thread().id() != own {
                thread.thread().unpark();
                drop(thread.join());
            }
        }
    }
}
