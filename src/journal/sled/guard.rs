//! sled, made durable and kept from taking the process with it. The only file that names sled's functions.
//!
//! What sled 0.34 does not do by itself, and what is done here about it:
//! - its flush does not sync the file (it starts the write-back only): [`Store::sync`] does;
//! - killed while it opens, it leaves `snap.*.generating`, which it takes for a snapshot ever after: removed before;
//! - it panics on damaged files: every call is caught, and a panic is an error;
//! - closing waits for a thread of its own that may be dead: not longer than [`CLOSING`];
//! - closed, it may hold its lock until its other threads are done: the next opening waits for them.

use super::lock::lock_within;
use crate::journal::{Damage, JournalError};
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

/// sled's page cache, in bytes.
const CACHE: u64 = 64 << 20;
/// How often sled's own thread writes and tidies up. Without it, nothing is ever reused.
const FLUSH_EVERY_MS: u64 = 500;
/// How long closing waits for sled's threads before it leaves them to the end of the process.
const CLOSING: Duration = Duration::from_secs(10);

/// An open store of sled.
pub(super) struct Store {
    /// Taken only when dropped.
    db: Option<sled::Db>,
    /// A handle of our own on sled's file: syncing through any handle syncs the file.
    data: File,
}

/// Changes that happen all or not at all.
#[derive(Default)]
pub(super) struct Batch(sled::Batch);

impl Batch {
    pub(super) fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.0.remove(key);
    }
}

impl Store {
    /// Opens the store in `directory`, and creates it where it does not exist. The caller holds the lock.
    pub(super) fn open(directory: &Path) -> Result<Self, JournalError> {
        let failed = |error: io::Error| {
            JournalError::Unavailable(format!("cannot open the journal {}: {error}", directory.display()))
        };
        wait_for_lock(&directory.join("db")).map_err(failed)?;
        remove_unfinished_snapshots(directory).map_err(failed)?;
        let config =
            sled::Config::new().path(directory).cache_capacity(CACHE).flush_every_ms(Some(FLUSH_EVERY_MS));
        let db = caught("opening it", || config.open())?;
        let data = File::open(directory.join("db")).map_err(failed)?;
        // What sled creates, by name and content, must survive a power cut before anything in it is acknowledged.
        for path in ["db", "conf", "blobs", "."] {
            File::open(directory.join(path)).and_then(|file| file.sync_all()).map_err(failed)?;
        }
        Ok(Self { db: Some(db), data })
    }

    /// Whether a store was created in `directory`.
    pub(super) fn exists(directory: &Path) -> bool {
        directory.join("db").exists()
    }

    fn db(&self) -> Result<&sled::Db, JournalError> {
        self.db.as_ref().ok_or_else(|| JournalError::Unavailable("the journal is closed".into()))
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, JournalError> {
        let db = self.db()?;
        caught("reading", || db.get(key))
    }

    /// The first key at or behind `from` that begins with `prefix`, with its value.
    pub(super) fn first(
        &self,
        prefix: &[u8],
        from: &[u8],
    ) -> Result<Option<(sled::IVec, sled::IVec)>, JournalError> {
        let db = self.db()?;
        let found = caught("reading", || db.range(from..).next().transpose())?;
        Ok(found.filter(|(key, _)| key.starts_with(prefix)))
    }

    /// Hands every key with `prefix`, from `from` on, to `visit` until it says false.
    pub(super) fn walk(
        &self,
        prefix: &[u8],
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, JournalError>,
    ) -> Result<(), JournalError> {
        let db = self.db()?;
        let mut entries = caught("reading", || Ok(db.range(from..)))?;
        while let Some((key, value)) = caught("reading", || entries.next().transpose())? {
            if !key.starts_with(prefix) || !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    /// Applies a batch and syncs it. After an error nobody knows what is on the disk.
    pub(super) fn commit(&self, batch: Batch) -> Result<(), JournalError> {
        let db = self.db()?;
        caught("writing", || {
            db.apply_batch(batch.0)?;
            db.flush()
        })?;
        self.data.sync_data().map_err(|error| machine(&error))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        let (closed, waiting) = std::sync::mpsc::channel();
        let closing = std::thread::Builder::new().name("journal closing".into()).spawn(move || {
            // A panic was already reported by the panic hook; there is nobody to tell.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
            let _ = closed.send(());
        });
        if closing.is_ok() && waiting.recv_timeout(CLOSING).is_err() {
            tracing::warn!("sled does not close; what was acknowledged is on the disk");
        }
    }
}

/// Waits until nobody holds sled's own lock, which sled does not do. Only this process can, since the caller holds the
/// lock of the whole directory: where it is taken, threads of a store that was just closed are still at work.
pub(super) fn wait_for_lock(data: &Path) -> io::Result<()> {
    let data = match File::open(data) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    if lock_within(&data, CLOSING)? {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "it does not close; start harvest again"))
}

/// A snapshot that was being written when the process was killed is no snapshot.
fn remove_unfinished_snapshots(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Calls sled. A panic in it is damage that it did not expect; its locks do not outlive the unwinding.
fn caught<T>(what: &str, call: impl FnOnce() -> sled::Result<T>) -> Result<T, JournalError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) => Err(machine(&error)),
        Ok(Err(error)) => Err(damaged(format!("cannot be read: sled says while {what}: {error}"))),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("nothing");
            // Some of sled's assertions go on over many lines.
            let said: String = said.lines().next().unwrap_or_default().chars().take(200).collect();
            Err(damaged(format!("cannot be read: sled gave up while {what} ({said})")))
        }
    }
}

fn damaged(what: String) -> JournalError {
    JournalError::Damaged(Damage { run: None, seq: None, what })
}

/// What the machine refused, and what to do about it.
pub(super) fn machine(error: &io::Error) -> JournalError {
    JournalError::Unavailable(match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full; free some space, then start harvest again (nothing acknowledged is lost)"
                .into()
        }
        io::ErrorKind::UnexpectedEof => {
            "a file of the journal is shorter than it was; a backup of the journal brings it back".into()
        }
        _ => format!(
            "the disk refused to read or write ({error}); check the disk, its quota and file size limits, then start \
             harvest again (nothing acknowledged is lost)"
        ),
    })
}
