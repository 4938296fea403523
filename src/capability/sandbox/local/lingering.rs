//! The overlay of a sandbox, kept mounted beyond its last process.
//!
//! When an overlay goes, the kernel first writes out all that the disk below it has not written yet, whoever wrote it.
//! Ending a sandbox, or saving its files, would wait for that, and nothing needs it: files that processes have written are
//! there without, and what must survive a power cut is synced where it must (`durable`). So the host holds a descriptor of
//! the root directory, and lets go of it where nobody waits.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// A sandbox's root directory, once its init process has handed it out.
#[derive(Clone, Debug, Default)]
pub(super) struct Lingering(Arc<Mutex<Option<OwnedFd>>>);

impl Lingering {
    /// Keeps the tree mounted from now on.
    pub(super) fn hold(&self, root: Option<OwnedFd>) {
        *self.lock() = root;
    }

    /// Lets go of it without waiting. Where no thread can be made, this waits.
    pub(super) fn let_go(&self) {
        let Some(root) = self.lock().take() else { return };
        // A thread that is not made drops what it was to do, and the descriptor with it.
        drop(std::thread::Builder::new().name("sandbox-unmount".into()).spawn(move || drop(root)));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<OwnedFd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
