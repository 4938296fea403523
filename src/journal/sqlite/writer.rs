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
            Ok((seals, seal)) => {
                insert(&transaction, append, &seals, seal)?;
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

/// The checksums of the records of an append, and that of its row, where it continues what is there.
fn sealed(connection: &Connection, append: &Append) -> Result<(Vec<u32>, u32), JournalError> {
    let Append { run, expected_seq, records, row } = append;
    let mut end = read::row(connection, run)?.map_or(END_OF_NOTHING, |(_, end)| end);
    if end.seq != *expected_seq {
        return Err(JournalError::Conflict { run: run.clone(), expected: *expected_seq, actual: end.seq });
    }
    let mut seals = Vec::with_capacity(records.len());
    for record in records {
        end = End { seq: record.seq, seal: envelope::seal(run, end.seal, record)? };
        seals.push(end.seal);
    }
    let seal = envelope::seal_row(row, end)?;
    Ok((seals, seal))
}

fn insert(connection: &Connection, append: &Append, seals: &[u32], seal: u32) -> rusqlite::Result<()> {
    let Append { run, records, row, .. } = append;
    let mut events = connection
        .prepare_cached("INSERT INTO events (run, seq, at, seal, payload) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (record, seal) in records.iter().zip(seals) {
        let at = nanoseconds(record.at).unwrap_or_default();
        events.execute(params![run.as_str(), record.seq.cast_signed(), at, seal, record.payload])?;
    }
    let mut rows = connection.prepare_cached(
        "INSERT OR REPLACE INTO runs \
         (run, workflow, state, started_at, finished_at, usd, tokens, last_seq, last_seal, seal) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
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
        seals.last(),
        seal,
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
