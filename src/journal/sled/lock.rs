//! A lock of the kernel on a file, waited for so long and no longer.

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

/// How often a lock that somebody holds is asked for again.
const PAUSE: Duration = Duration::from_millis(5);

/// Whether `file` could be locked within `patience`. The lock goes when the file is closed.
pub(super) fn lock_within(file: &File, patience: Duration) -> io::Result<bool> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if started.elapsed() < patience => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}
