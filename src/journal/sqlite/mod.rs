//! The journal in one SQLite file. Other processes read and append while this one runs.
//!
//! SQLite is in WAL mode with `synchronous = FULL`: the log is synced at every commit, before the commit returns. One
//! thread commits (`committer`), many appends in one transaction where many wait; readers have connections of their
//! own and never wait for it. After a crash the next opening is immediate: nothing is checked then, everything is
//! checked when it is read.

mod backup;
mod committer;
mod error;
mod migrate;
mod open;
mod read;
#[cfg(test)]
mod tests;
mod verify;

use super::{
    Compacted, Journal, JournalError, Record, RunFilter, RunRow, SizedRow, Usage, VerifyReport, check_append,
    envelope,
};
use crate::bell::Bell;
use crate::id::RunId;
use async_trait::async_trait;
use committer::{Append, Committer, Request};
use jiff::Timestamp;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, oneshot};

/// The file in the home.
const FILE: &str = "journal.db";
/// Memory that appends which wait for their commit may take, in KiB.
const WAITING_KIB: usize = 64 * 1024;
/// Connections that read at the same time.
const MAX_READERS: usize = 8;
/// Runs dropped in one transaction, so that appends do not wait long behind it.
const DELETE_CHUNK: usize = 500;

/// A journal on disk. Dropping it waits for the commit under way.
pub struct SqliteJournal {
    requests: Option<Sender<Request>>,
    committer: Option<JoinHandle<()>>,
    room: Arc<Semaphore>,
    readers: Arc<Readers>,
    bell: Arc<Bell>,
}

impl SqliteJournal {
    /// Opens the journal of a home, and creates both where they do not exist: the home with mode 0700, the file with
    /// 0600. One of an older format is migrated, and the old one kept beside it. Fails where the file is not a journal,
    /// has a newer format, or cannot be written.
    pub fn open(home: &Path) -> Result<Self, JournalError> {
        let path = home.join(FILE);
        let connection = open::writer(&path)?;
        let bell = Arc::new(Bell::default());
        let (requests, receiver) = std::sync::mpsc::channel();
        let committer = Committer { connection, bell: bell.clone(), stopped: None };
        let committer = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || committer.run(&receiver))
            .map_err(|error| {
                JournalError::Unavailable(format!("cannot start the journal's thread: {error}"))
            })?;
        Ok(Self {
            requests: Some(requests),
            committer: Some(committer),
            room: Arc::new(Semaphore::new(WAITING_KIB)),
            readers: Arc::new(Readers {
                path,
                idle: Mutex::default(),
                room: Arc::new(Semaphore::new(MAX_READERS)),
            }),
            bell,
        })
    }

    /// Asks the committer and waits for its answer.
    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, JournalError>>) -> Request,
    ) -> Result<T, JournalError> {
        let (answer, outcome) = oneshot::channel();
        self.send(request(answer))?;
        outcome.await.unwrap_or_else(|_| Err(gone()))
    }

    fn send(&self, request: Request) -> Result<(), JournalError> {
        self.requests.as_ref().and_then(|requests| requests.send(request).ok()).ok_or_else(gone)
    }

    /// Gives free pages back, some at a time.
    async fn reclaim(&self) -> Result<(), JournalError> {
        // Another process may free pages at the same time: without progress, the next call goes on.
        let mut left = u64::MAX;
        while left > 0 {
            let before = std::mem::replace(&mut left, self.ask(Request::Reclaim).await?);
            if left >= before {
                break;
            }
        }
        Ok(())
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

fn gone() -> JournalError {
    JournalError::Stopped("its thread has ended, which is a bug in harvest; start harvest again".into())
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
        check_append(run, expected_seq, &records, &row)?;
        let bytes: usize = records.iter().map(|record| record.payload.len()).sum();
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(kib).await.map_err(|_| gone())?;
        let run = run.clone();
        self.ask(|answer| Request::Append(Append { run, expected_seq, records, row, answer, room })).await
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

    async fn changed(&self, run: &RunId, after_seq: u64) {
        let first = !self.bell.has_listeners();
        let listener = self.bell.listen(run);
        if first && self.send(Request::Listen).is_err() {
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
        for chunk in runs.chunks(DELETE_CHUNK) {
            self.ask(|answer| Request::Delete(chunk.to_vec(), answer)).await?;
        }
        if runs.is_empty() { Ok(()) } else { self.reclaim().await }
    }

    async fn verify(&self) -> Result<VerifyReport, JournalError> {
        self.readers.ask(|db| Ok(verify::verify(db))).await
    }

    async fn compact(&self) -> Result<Compacted, JournalError> {
        let before = self.bytes_on_disk();
        self.reclaim().await?;
        // The file shrinks when the log is copied into it, and the log is cut at the same time.
        self.ask(Request::Checkpoint).await?;
        Ok(Compacted { before, after: self.bytes_on_disk() })
    }

    async fn backup(&self, file: &Path) -> Result<VerifyReport, JournalError> {
        let file = file.to_owned();
        self.readers.ask(move |db| backup::copy(db, &file)).await
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        // The committer's connection closes last and copies the log into the file.
        self.readers.lock().clear();
        self.requests = None;
        if let Some(committer) = self.committer.take() {
            // A panic there was already reported by the panic hook.
            let _ = committer.join();
        }
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
