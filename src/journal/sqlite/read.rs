//! Questions to the database. Hands out only what passed its checksum; never writes.

use super::error::damaged;
use crate::id::RunId;
use crate::journal::envelope::{self, Chain, END_OF_NOTHING, End, timestamp};
use crate::journal::{Damage, JournalError, MAX_LIMIT, MAX_READ, Record, RunFilter, RunRow, SizedRow, Usage};
use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, ToSql};

/// The columns that [`stored_row`] reads.
const ROW: &str = "SELECT run, workflow, state, started_at, finished_at, usd, tokens, last_seq, last_seal, seal, \
                   bytes FROM runs WHERE run = ?1";

/// What is stored of a run beside its events.
pub(super) struct Stored {
    pub(super) row: RunRow,
    pub(super) end: End,
    /// Bytes of payload in its events.
    pub(super) bytes: u64,
}

/// The row of a run and where the run ends, or `None` where there is neither a row nor an event.
pub(super) fn row(connection: &Connection, run: &RunId) -> Result<Option<Stored>, JournalError> {
    let in_run = |error: rusqlite::Error| damaged(Some(run), &error);
    let found = connection
        .prepare_cached(ROW)
        .and_then(|mut query| query.query_row([run.as_str()], |row| Ok(stored_row(row))).optional());
    match found.map_err(in_run)? {
        Some(stored) => {
            let (stored, seal) = stored.map_err(in_run)?;
            let due = envelope::seal_size(envelope::seal_row(&stored.row, stored.end)?, stored.bytes);
            if stored.row.run != *run || due != seal {
                return Err(damaged_row(run, "its row does not match its checksum"));
            }
            Ok(Some(stored))
        }
        None => {
            let orphans = connection
                .prepare_cached("SELECT 1 FROM events WHERE run = ?1 LIMIT 1")
                .and_then(|mut query| query.exists([run.as_str()]))
                .map_err(in_run)?;
            if orphans { Err(damaged_row(run, "its row is missing, its events are there")) } else { Ok(None) }
        }
    }
}

/// The records after `after_seq`. The caller holds a transaction, so that row and records are of one moment.
pub(super) fn records(
    connection: &Connection,
    run: &RunId,
    after_seq: u64,
    limit: usize,
) -> Result<Vec<Record>, JournalError> {
    let Some(Stored { end, .. }) = row(connection, run)? else { return Ok(Vec::new()) };
    if after_seq >= end.seq || limit == 0 {
        return Ok(Vec::new());
    }
    let mut chain = Chain::after(run, end_at(connection, run, after_seq)?);
    let mut records = Vec::new();
    let mut bytes = 0;
    walk(connection, run, after_seq, |record, seal| {
        bytes += record.payload.len();
        if !records.is_empty() && bytes > MAX_READ {
            return Ok(false);
        }
        chain.check(&record, seal)?;
        records.push(record);
        Ok(records.len() < limit.min(MAX_LIMIT) && chain.last().seq < end.seq)
    })?;
    // Stopped by a limit: whoever asks for the rest comes to the end.
    let stopped = chain.last().seq < end.seq && (records.len() >= limit.min(MAX_LIMIT) || bytes > MAX_READ);
    if !stopped {
        chain.finish(end)?;
    }
    Ok(records)
}

/// Hands every record after `after_seq` to `visit`, unchecked, until it says false.
pub(super) fn walk(
    connection: &Connection,
    run: &RunId,
    after_seq: u64,
    mut visit: impl FnMut(Record, u32) -> Result<bool, JournalError>,
) -> Result<(), JournalError> {
    let in_run = |error: rusqlite::Error| damaged(Some(run), &error);
    let mut query = connection
        .prepare_cached("SELECT seq, at, seal, payload FROM events WHERE run = ?1 AND seq > ?2 ORDER BY seq")
        .map_err(in_run)?;
    let mut rows = query.query((run.as_str(), after_seq.cast_signed())).map_err(in_run)?;
    while let Some(row) = rows.next().map_err(in_run)? {
        let (record, seal) = stored_record(row).map_err(in_run)?;
        if !visit(record, seal)? {
            break;
        }
    }
    Ok(())
}

/// Rows of runs, newest first. The ids come from an index and the rows from the table, so that an index that disagrees
/// with the table shows instead of hiding a run.
pub(super) fn list(
    connection: &Connection,
    filter: &RunFilter,
    limit: usize,
) -> Result<Vec<RunRow>, JournalError> {
    let mut conditions = vec!["1"];
    let mut values: Vec<&dyn ToSql> = Vec::new();
    let before = filter.before.as_ref().map(RunId::as_str);
    for (condition, value) in [
        ("workflow = ?", filter.workflow.as_ref().map(|value| value as &dyn ToSql)),
        ("state = ?", filter.state.as_ref().map(|value| value as &dyn ToSql)),
        ("run < ?", before.as_ref().map(|value| value as &dyn ToSql)),
    ] {
        if let Some(value) = value {
            conditions.push(condition);
            values.push(value);
        }
    }
    if filter.unfinished {
        conditions.push("finished_at IS NULL");
    }
    let limit = limit.min(MAX_LIMIT) as i64;
    values.push(&limit);
    let sql = format!("SELECT run FROM runs WHERE {} ORDER BY run DESC LIMIT ?", conditions.join(" AND "));
    let anywhere = |error: rusqlite::Error| damaged(None, &error);
    let mut query = connection.prepare_cached(&sql).map_err(anywhere)?;
    let ids: Vec<String> = query
        .query_map(values.as_slice(), |row| row.get(0))
        .and_then(|ids| ids.collect())
        .map_err(anywhere)?;
    let mut rows = Vec::with_capacity(ids.len());
    for run in ids.into_iter().map(RunId::new) {
        match row(connection, &run)? {
            Some(stored) if filter.admits(&stored.row) => rows.push(stored.row),
            _ => return Err(damaged_row(&run, "an index of the listing disagrees with its row")),
        }
    }
    Ok(rows)
}

/// Runs that have not ended, with the number of their last event. It is asked often and of many: rows are not held
/// against their checksums, since whoever goes on with a run reads it first.
pub(super) fn unfinished(
    connection: &Connection,
    after: Option<&RunId>,
    limit: usize,
) -> Result<Vec<(RunId, u64)>, JournalError> {
    connection
        .prepare_cached(
            "SELECT run, last_seq FROM runs WHERE finished_at IS NULL AND run > ?1 ORDER BY run LIMIT ?2",
        )
        .and_then(|mut query| {
            let after = after.map_or("", RunId::as_str);
            let found = query.query_map((after, limit.min(MAX_LIMIT) as i64), |row| {
                Ok((RunId::new(row.get::<_, String>(0)?), row.get::<_, i64>(1)?.cast_unsigned()))
            })?;
            found.collect()
        })
        .map_err(|error| damaged(None, &error))
}

/// Where a run stood after `seq`.
fn end_at(connection: &Connection, run: &RunId, seq: u64) -> Result<End, JournalError> {
    if seq == 0 {
        return Ok(END_OF_NOTHING);
    }
    let in_run = |error: rusqlite::Error| damaged(Some(run), &error);
    let seal: Option<u32> = connection
        .prepare_cached("SELECT seal FROM events WHERE run = ?1 AND seq = ?2")
        .and_then(|mut query| query.query_row((run.as_str(), seq.cast_signed()), |row| row.get(0)).optional())
        .map_err(in_run)?;
    let seal = seal.ok_or_else(|| envelope::damaged(run, seq, "is missing"))?;
    Ok(End { seq, seal })
}

/// Runs that have ended, those first that ended first, with their sizes.
pub(super) fn ended(
    connection: &Connection,
    after: Option<&(Timestamp, RunId)>,
    limit: usize,
) -> Result<Vec<SizedRow>, JournalError> {
    let anywhere = |error: rusqlite::Error| damaged(None, &error);
    let (at, run) = match after {
        Some((at, run)) => (envelope::nanoseconds(*at)?, run.as_str()),
        None => (i64::MIN, ""),
    };
    let ids: Vec<String> = connection
        .prepare_cached(
            "SELECT run FROM runs WHERE finished_at IS NOT NULL AND (finished_at, run) > (?1, ?2) \
             ORDER BY finished_at, run LIMIT ?3",
        )
        .and_then(|mut query| {
            query.query_map((at, run, limit.min(MAX_LIMIT) as i64), |row| row.get(0))?.collect()
        })
        .map_err(anywhere)?;
    let mut rows = Vec::with_capacity(ids.len());
    for run in ids.into_iter().map(RunId::new) {
        match row(connection, &run)? {
            Some(Stored { row, bytes, .. }) if row.finished_at.is_some() => {
                rows.push(SizedRow { row, bytes })
            }
            _ => return Err(damaged_row(&run, "an index of the listing disagrees with its row")),
        }
    }
    Ok(rows)
}

/// How many runs there are, and the bytes of payload in all of them.
pub(super) fn usage(connection: &Connection) -> Result<Usage, JournalError> {
    let sums = "SELECT count(*), coalesce(sum(bytes), 0) FROM runs";
    connection
        .query_row(sums, [], |row| {
            Ok(Usage {
                runs: row.get::<_, i64>(0)?.cast_unsigned(),
                bytes: row.get::<_, i64>(1)?.cast_unsigned(),
            })
        })
        .map_err(|error| damaged(None, &error))
}

fn stored_row(row: &Row<'_>) -> rusqlite::Result<(Stored, u32)> {
    let stored = RunRow {
        run: RunId::new(row.get::<_, String>(0)?),
        workflow: row.get(1)?,
        state: row.get(2)?,
        started_at: timestamp(row.get(3)?),
        finished_at: row.get::<_, Option<i64>>(4)?.map(timestamp),
        usd: row.get(5)?,
        tokens: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
    };
    let end = End { seq: row.get::<_, i64>(7)?.cast_unsigned(), seal: row.get(8)? };
    let bytes = row.get::<_, i64>(10)?.cast_unsigned();
    Ok((Stored { row: stored, end, bytes }, row.get(9)?))
}

fn stored_record(row: &Row<'_>) -> rusqlite::Result<(Record, u32)> {
    let seq = row.get::<_, i64>(0)?.cast_unsigned();
    let ValueRef::Blob(payload) = row.get_ref(3)? else {
        return Err(rusqlite::Error::InvalidColumnType(3, "payload".into(), row.get_ref(3)?.data_type()));
    };
    Ok((Record { seq, at: timestamp(row.get(1)?), payload: payload.to_vec() }, row.get(2)?))
}

pub(super) fn damaged_row(run: &RunId, what: &str) -> JournalError {
    JournalError::Damaged(Damage { run: Some(run.clone()), seq: None, what: what.into() })
}
