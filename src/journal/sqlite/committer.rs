//! The one thread that writes. Takes what is waiting, writes it in one transaction, syncs, then acknowledges.
//!
//! The first write that fails ends all writing: after a failed sync nobody knows what is on the disk, and a second sync
//! would claim success (the kernel forgets the error). Reading goes on, and other processes' changes are still noticed.

use super::{error, read};
use crate::bell::Bell;
use crate::id::RunId;
use crate::journal::envelope::{self, END_OF_NOTHING, End, nanoseconds};
use crate::journal::{JournalError, Record, RunRow, unfinished};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Appends in one commit.
const MAX_BATCH: usize = 1024;
/// Pages given back in one transaction, so that appends do not wait long behind them.
const RECLAIM_PAGES: u32 = 2000;
/// How often changes by other processes are looked for while somebody waits for one.
const POLL: Duration = Duration::from_millis(100);

/// What the thread is asked to do.
pub(super) enum Request {
    /// Append to a run.
    Append(Append),
    /// Drop finished runs in one transaction.
    Delete(Vec<RunId>, Answer<()>),
    /// Give some free pages back to the file system; answers how many are left.
    Reclaim(Answer<u64>),
    /// Copy the log into the file and cut it, as far as readers allow.
    Checkpoint(Answer<()>),
    /// Somebody began to wait for changes.
    Listen,
}

/// Where the outcome goes. Nobody may be there to hear it any more.
pub(super) type Answer<T> = oneshot::Sender<Result<T, JournalError>>;

/// An append that passed `check_append`.
pub(super) struct Append {
    pub(super) run: RunId,
    pub(super) expected_seq: u64,
    pub(super) records: Vec<Record>,
    pub(super) row: RunRow,
    pub(super) answer: Answer<()>,
    /// Its share of the memory that waiting appends may take.
    pub(super) room: OwnedSemaphorePermit,
}

/// The thread's own state.
pub(super) struct Committer {
    pub(super) connection: Connection,
    pub(super) bell: Arc<Bell>,
    /// Why nothing is written any more.
    pub(super) stopped: Option<JournalError>,
}

impl Committer {
    /// Serves until every sender is gone.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        let mut version = self.data_version();
        let mut looked = Instant::now();
        let mut next = None;
        loop {
            let request = match next.take() {
                Some(request) => request,
                None if self.bell.has_listeners() => match requests.recv_timeout(POLL) {
                    Ok(request) => request,
                    Err(RecvTimeoutError::Timeout) => Request::Listen,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
                None => match requests.recv() {
                    Ok(request) => request,
                    Err(_) => return,
                },
            };
            match request {
                Request::Append(append) => next = self.gather(append, requests),
                Request::Delete(runs, answer) => drop(answer.send(self.delete(&runs))),
                Request::Reclaim(answer) => drop(answer.send(self.reclaim())),
                Request::Checkpoint(answer) => drop(answer.send(self.checkpoint())),
                Request::Listen => {}
            }
            if looked.elapsed() >= POLL {
                looked = Instant::now();
                let now = self.data_version();
                // A question that fails is answered by those who wait: they look, and see the error themselves.
                if now.is_none() || now != version {
                    version = now;
                    self.bell.ring_all();
                }
            }
        }
    }

    /// Changes when another process wrote: this connection is the only one here that does.
    fn data_version(&self) -> Option<i64> {
        self.connection.pragma_query_value(None, "data_version", |row| row.get(0)).ok()
    }

    /// Commits `first` and the appends that wait behind it. Returns a request that is none.
    fn gather(&mut self, first: Append, requests: &Receiver<Request>) -> Option<Request> {
        let mut batch = vec![first];
        let mut other = None;
        while batch.len() < MAX_BATCH && other.is_none() {
            match requests.try_recv() {
                Ok(Request::Append(append)) => batch.push(append),
                Ok(Request::Listen) => {}
                Ok(request) => other = Some(request),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let outcome = self.write(|connection| append_all(connection, &batch));
        match outcome {
            Ok(outcomes) => {
                for (append, outcome) in batch.into_iter().zip(outcomes) {
                    let appended = outcome.is_ok();
                    drop(append.room);
                    // Nobody may wait for the answer any more: the event is there all the same.
                    let _ = append.answer.send(outcome);
                    if appended {
                        self.bell.ring(&append.run);
                    }
                }
            }
            Err(error) => {
                for append in batch {
                    let _ = append.answer.send(Err(error.clone()));
                }
            }
        }
        other
    }

    fn delete(&mut self, runs: &[RunId]) -> Result<(), JournalError> {
        let deleted = self.write(|connection| delete_all(connection, runs))?;
        if deleted.is_ok() {
            runs.iter().for_each(|run| self.bell.ring(run));
        }
        deleted
    }

    fn reclaim(&mut self) -> Result<u64, JournalError> {
        self.write(|connection| {
            // The statement frees one page a step: only stepping it to its end frees them all.
            let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({RECLAIM_PAGES})"))?;
            let mut pages = vacuum.query([])?;
            while pages.next()?.is_some() {}
            connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0))
        })
        .map(i64::cast_unsigned)
    }

    fn checkpoint(&mut self) -> Result<(), JournalError> {
        // Readers of an older moment hold it up, which the answer says and which is no error: the next one goes on.
        self.write(|connection| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())))
    }

    /// Runs one transaction. What fails in it stops the journal, unless it could not even begin.
    fn write<T>(
        &mut self,
        transaction: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        transaction(&mut self.connection).map_err(|failure| {
            if failure.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && self.connection.is_autocommit()
            {
                return JournalError::Busy(failure.to_string());
            }
            let stopped = JournalError::Stopped(error::cause(&failure));
            tracing::error!(%stopped);
            self.stopped.insert(stopped).clone()
        })
    }
}

/// Appends what can be appended. The inner results say which could not, because of their own request or run.
fn append_all(
    connection: &mut Connection,
    batch: &[Append],
) -> rusqlite::Result<Vec<Result<(), JournalError>>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for append in batch {
        outcomes.push(match sealed(&transaction, append) {
            Ok(sealed) => {
                insert(&transaction, append, &sealed)?;
                Ok(())
            }
            Err(error) => Err(error),
        });
    }
    if outcomes.iter().any(Result::is_ok) {
        transaction.commit()?;
    }
    Ok(outcomes)
}

/// What an append adds to its own records and row.
struct Sealed {
    /// The checksums of the records.
    records: Vec<u32>,
    /// That of the row.
    row: u32,
    /// Bytes of payload in the run, this append included.
    bytes: u64,
}

/// The checksums of an append, where it continues what is there.
fn sealed(connection: &Connection, append: &Append) -> Result<Sealed, JournalError> {
    let Append { run, expected_seq, records, row, .. } = append;
    let (mut end, mut bytes) = match read::row(connection, run)? {
        Some(stored) => (stored.end, stored.bytes),
        None => (END_OF_NOTHING, 0),
    };
    if end.seq != *expected_seq {
        return Err(JournalError::Conflict { run: run.clone(), expected: *expected_seq, actual: end.seq });
    }
    let mut seals = Vec::with_capacity(records.len());
    for record in records {
        end = End { seq: record.seq, seal: envelope::seal(run, end.seal, record)? };
        bytes += record.payload.len() as u64;
        seals.push(end.seal);
    }
    Ok(Sealed { records: seals, row: envelope::seal_size(envelope::seal_row(row, end)?, bytes), bytes })
}

fn insert(connection: &Connection, append: &Append, sealed: &Sealed) -> rusqlite::Result<()> {
    let Append { run, records, row, .. } = append;
    let mut events = connection
        .prepare_cached("INSERT INTO events (run, seq, at, seal, payload) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (record, seal) in records.iter().zip(&sealed.records) {
        let at = nanoseconds(record.at).unwrap_or_default();
        events.execute(params![run.as_str(), record.seq.cast_signed(), at, seal, record.payload])?;
    }
    let mut rows = connection.prepare_cached(
        "INSERT OR REPLACE INTO runs \
         (run, workflow, state, started_at, finished_at, usd, tokens, last_seq, last_seal, seal, bytes) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    rows.execute(params![
        run.as_str(),
        row.workflow,
        row.state,
        nanoseconds(row.started_at).unwrap_or_default(),
        row.finished_at.map(|at| nanoseconds(at).unwrap_or_default()),
        row.usd,
        row.tokens.map(u64::cast_signed),
        records.last().map(|record| record.seq.cast_signed()),
        sealed.records.last(),
        sealed.row,
        sealed.bytes.cast_signed(),
    ])?;
    Ok(())
}

/// Drops all of `runs`, or none where one has not ended. Looks past checksums: a damaged run can be deleted too.
fn delete_all(connection: &mut Connection, runs: &[RunId]) -> rusqlite::Result<Result<(), JournalError>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for run in runs {
        let goes_on = transaction
            .prepare_cached("SELECT 1 FROM runs WHERE run = ?1 AND finished_at IS NULL")?
            .exists([run.as_str()])?;
        if goes_on {
            return Ok(Err(unfinished(run)));
        }
        transaction.prepare_cached("DELETE FROM events WHERE run = ?1")?.execute([run.as_str()])?;
        transaction.prepare_cached("DELETE FROM runs WHERE run = ?1")?.execute([run.as_str()])?;
    }
    transaction.commit()?;
    Ok(Ok(()))
}
