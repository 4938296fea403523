//! What the committer has the database do: one transaction for many appends, synced at its commit.

use super::{error, read};
use crate::id::RunId;
use crate::journal::committer::{Append, Store};
use crate::journal::envelope::{self, END_OF_NOTHING, End, nanoseconds};
use crate::journal::{JournalError, unfinished};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};

/// Pages given back in one transaction, so that appends do not wait long behind them.
const RECLAIM_PAGES: u32 = 2000;

/// The only connection of this process that writes.
pub(super) struct Writer(pub(super) Connection);

impl Store for Writer {
    fn append(&mut self, batch: &[Append]) -> Result<Vec<Result<(), JournalError>>, JournalError> {
        self.write(|connection| append_all(connection, batch))
    }

    fn delete(&mut self, runs: &[RunId]) -> Result<(), JournalError> {
        self.write(|connection| delete_all(connection, runs))?
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

    /// Changes when another process wrote: this connection is the only one here that does.
    fn foreign_version(&mut self) -> Option<i64> {
        self.0.pragma_query_value(None, "data_version", |row| row.get(0)).ok()
    }
}

impl Writer {
    /// Runs one transaction. What fails in it stops the journal, unless it could not even begin.
    fn write<T>(
        &mut self,
        transaction: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        transaction(&mut self.0).map_err(|failure| {
            let busy = failure.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
            if busy && self.0.is_autocommit() {
                JournalError::Busy(failure.to_string())
            } else {
                JournalError::Stopped(error::cause(&failure))
            }
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
    let Append { run, expected_seq, records, row } = append;
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
