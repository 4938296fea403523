//! Who serves a home: one process at a time, known to the others by a lock that goes with it.

use crate::config::Home;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// The right to serve a home, until dropped.
#[derive(Debug)]
pub struct Serving {
    _lock: File,
}

impl Serving {
    /// Takes it, `None` where a living process has it.
    pub(super) fn begin(home: &Home) -> io::Result<Option<Self>> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(Self::path(home))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _lock: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether a living process serves a home.
    pub fn is_served(home: &Home) -> bool {
        // Shared, so that two who look at once do not see each other.
        File::open(Self::path(home))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    pub(super) fn path(home: &Home) -> PathBuf {
        home.join("serve.lock")
    }
}
