//! Reads a whole journal and says what is wrong with it. Never stops at the first finding, never repairs.

use super::error::damaged;
use super::read;
use crate::id::RunId;
use crate::journal::envelope::{Chain, END_OF_NOTHING};
use crate::journal::{JournalError, MAX_FINDINGS, VerifyReport};
use rusqlite::Connection;
use std::collections::BTreeSet;

/// Checks the structure of the file, then every run and every record. The caller holds a transaction.
pub(super) fn verify(connection: &Connection) -> VerifyReport {
    let mut report = VerifyReport::default();
    if let Err(error) = structure(connection, &mut report) {
        report.find(damaged(None, &error).to_string());
    }
    let mut runs = BTreeSet::new();
    for sql in ["SELECT run FROM runs", "SELECT DISTINCT run FROM events"] {
        if let Err(error) = collect(connection, sql, &mut runs) {
            report.find(damaged(None, &error).to_string());
        }
    }
    for run in &runs {
        report.runs += 1;
        if let Err(error) = one(connection, run, &mut report) {
            report.find(error.to_string());
        }
    }
    report
}

/// What SQLite itself can tell: pages, trees, and whether the indexes agree with the tables.
fn structure(connection: &Connection, report: &mut VerifyReport) -> rusqlite::Result<()> {
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({MAX_FINDINGS})"))?;
    let mut findings = check.query([])?;
    while let Some(finding) = findings.next()? {
        let finding: String = finding.get(0)?;
        if finding != "ok" {
            report.find(format!("the file is damaged: {finding}"));
        }
    }
    Ok(())
}

/// Adds the runs of a table. What was read before an error counts.
fn collect(connection: &Connection, sql: &str, runs: &mut BTreeSet<RunId>) -> rusqlite::Result<()> {
    let mut query = connection.prepare(sql)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        runs.insert(RunId::new(row.get::<_, String>(0)?));
    }
    Ok(())
}

/// Follows one run from its first record to the end that its row names.
fn one(connection: &Connection, run: &RunId, report: &mut VerifyReport) -> Result<(), JournalError> {
    let row = read::row(connection, run);
    let mut chain = Chain::after(run, END_OF_NOTHING);
    let mut bytes = 0;
    read::walk(connection, run, 0, |record, seal| {
        chain.check(&record, seal)?;
        bytes += record.payload.len() as u64;
        report.records += 1;
        report.bytes += record.payload.len() as u64;
        Ok(true)
    })?;
    match row? {
        Some(stored) => {
            chain.finish(stored.end)?;
            let what = format!("its row counts {} bytes of events, {bytes} are there", stored.bytes);
            if stored.bytes == bytes { Ok(()) } else { Err(read::damaged_row(run, &what)) }
        }
        None => Ok(()),
    }
}
