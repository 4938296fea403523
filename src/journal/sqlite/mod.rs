//! The journal in one SQLite file. Other processes read and append while this one runs.
//!
//! SQLite is in WAL mode with `synchronous = FULL`: the log is synced at every commit, before the commit returns. One
//! thread commits (`writer`), many appends in one transaction where many wait; readers have connections of their own
//! and never wait for it. After a crash the next opening is immediate: nothing is checked then, everything is
//! checked when it is read.

mod backup;
mod error;
mod migrate;
mod open;
mod read;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::migrate::reached;
mod verify;
mod wal;
mod writer;

use super::committer::{Append, Committer, gone};
use super::{
    Compacted, Journal, JournalError, Record, RunFilter, RunRow, SizedRow, Usage, VerifyReport, envelope,
};
use crate::bell::Bell;
use crate::id::RunId;
use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use tokio::sync::Semaphore;
use writer::Writer;

/// The file in the home.
const FILE: &str = "journal.db";
/// Connections that read at the same time.
const MAX_READERS: usize = 8;

/// A journal on disk. Dropping it waits for the commit under way.
pub struct SqliteJournal {
    committer: Committer,
    readers: Arc<Readers>,
    bell: Arc<Bell>,
    /// Dropped last, when nothing is written any more.
    _opener: open::Opener,
}

impl SqliteJournal {
    /// Opens the journal of a home, and creates both where they do not exist: the home with mode 0700, the file with
    /// 0600. One of an older format is migrated, and the old one kept beside it. Fails where the file is not a journal,
    /// has a newer format, or cannot be written.
    pub fn open(home: &Path) -> Result<Self, JournalError> {
        let path = home.join(FILE);
        let (connection, opener) = open::writer(&path)?;
        let bell = Arc::new(Bell::default());
        let committer = Committer::start(Writer(connection), bell.clone())?;
        Ok(Self {
            committer,
            readers: Arc::new(Readers {
                path,
                idle: Mutex::default(),
                room: Arc::new(Semaphore::new(MAX_READERS)),
            }),
            bell,
            _opener: opener,
        })
    }

    /// Whether a home has such a journal.
    pub fn exists(home: &Path) -> bool {
        home.join(FILE).exists()
    }

    /// What the file and its log take. Looks at their names alone: opening them by hand would drop SQLite's locks.
    fn bytes_on_disk(&self) -> u64 {
        let size = |path: &Path| path.metadata().map_or(0, |found| found.len());
        size(&self.readers.path) + size(&self.readers.path.with_extension("db-wal"))
    }

    async fn last_seq(&self, run: &RunId) -> Result<u64, JournalError> {
        let run = run.clone();
        self.readers.ask(move |db| Ok(read::row(db, &run)?.map_or(0, |stored| stored.end.seq))).await
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(
        &self,
        run: &RunId,
        expected_seq: u64,
        records: Vec<Record>,
        row: RunRow,
    ) -> Result<(), JournalError> {
        self.committer.append(Append { run: run.clone(), expected_seq, records, row }).await
    }

    async fn read(&self, run: &RunId, after_seq: u64, limit: usize) -> Result<Vec<Record>, JournalError> {
        let run = run.clone();
        self.readers.ask(move |db| read::records(db, &run, after_seq, limit)).await
    }

    async fn row(&self, run: &RunId) -> Result<Option<RunRow>, JournalError> {
        let run = run.clone();
        self.readers.ask(move |db| Ok(read::row(db, &run)?.map(|stored| stored.row))).await
    }

    async fn list(&self, filter: RunFilter, limit: usize) -> Result<Vec<RunRow>, JournalError> {
        self.readers.ask(move |db| read::list(db, &filter, limit)).await
    }

    async fn ended(
        &self,
        after: Option<(Timestamp, RunId)>,
        limit: usize,
    ) -> Result<Vec<SizedRow>, JournalError> {
        self.readers.ask(move |db| read::ended(db, after.as_ref(), limit)).await
    }

    async fn usage(&self) -> Result<Usage, JournalError> {
        self.readers.ask(read::usage).await
    }

    async fn unfinished(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> Result<Vec<(RunId, u64)>, JournalError> {
        self.readers.ask(move |db| read::unfinished(db, after.as_ref(), limit)).await
    }

    async fn stirred(&self, since: u64) -> u64 {
        let mut stirred = std::pin::pin!(self.bell.stirred(since));
        let now = std::future::poll_fn(|context| Poll::Ready(stirred.as_mut().poll(context))).await;
        if let Poll::Ready(rings) = now {
            return rings;
        }
        // It listens now, so the thread begins to look for changes of others. One that is gone changes nothing any more.
        let _ = self.committer.listen();
        stirred.await
    }

    async fn changed(&self, run: &RunId, after_seq: u64) {
        let first = !self.bell.has_listeners();
        let listener = self.bell.listen(run);
        if first && self.committer.listen().is_err() {
            return;
        }
        loop {
            let next = listener.next();
            // An error ends the wait as well: whoever reads next sees it.
            if !self.last_seq(run).await.is_ok_and(|last| last <= after_seq) {
                return;
            }
            next.await;
        }
    }

    async fn delete(&self, runs: &[RunId]) -> Result<(), JournalError> {
        self.committer.delete(runs).await
    }

    async fn verify(&self) -> Result<VerifyReport, JournalError> {
        self.readers.ask(|db| Ok(verify::verify(db))).await
    }

    async fn compact(&self) -> Result<Compacted, JournalError> {
        let before = self.bytes_on_disk();
        self.committer.compact().await?;
        Ok(Compacted { before, after: self.bytes_on_disk() })
    }

    async fn backup(&self, file: &Path) -> Result<VerifyReport, JournalError> {
        let file = file.to_owned();
        self.readers.ask(move |db| backup::copy(db, &file)).await
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        // The committer's connection closes last (a field, it is dropped after this) and copies the log into the file.
        self.readers.lock().clear();
    }
}

/// Connections that read.
struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    room: Arc<Semaphore>,
}

impl Readers {
    /// Answers a question on a thread where it may block, all of it at one moment of the journal.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        question: impl FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let room = self.room.clone().acquire_owned().await.map_err(|_| gone())?;
        let readers = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let _room = room;
            let idle = readers.lock().pop();
            let connection = idle.map_or_else(|| open::reader(&readers.path), Ok)?;
            let moment = connection.unchecked_transaction().map_err(|error| error::unavailable(&error))?;
            let answer = question(&moment);
            drop(moment);
            readers.lock().push(connection);
            answer
        });
        asked
            .await
            .unwrap_or_else(|error| Err(JournalError::Unavailable(format!("a read was broken off: {error}"))))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
