//! Writes runs as lines.

use super::line::{self, End};
use super::{IMPORTING, TransferError};
use crate::id::RunId;
use crate::journal::{Damage, Journal, JournalError, MAX_LIMIT, RunFilter, RunRow};
use sha2::{Digest, Sha256};
use std::io::Write;

/// Records read at a time. A page is bounded in bytes too.
const PAGE: usize = 1000;
/// Looks at a run that others write to, until its row and its records agree.
const LOOKS: usize = 100;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Runs.
    pub runs: u64,
    /// Records of all of them.
    pub events: u64,
    /// Runs among them that have not ended, as they were at that moment.
    pub unfinished: u64,
    /// Runs left out because they are here only in part: their import was broken off.
    pub left_out: Vec<RunId>,
    /// What is damaged, of each run that was left out for it.
    pub damaged: Vec<Damage>,
}

/// Writes one run, or all of them, newest first. Runs that begin meanwhile are not among them, nor are those that are
/// damaged: what is whole can leave a journal that is not. To know that before a line of a run is written, each is read
/// twice.
///
/// # Errors
/// Where the one run is damaged, damage cannot be told to belong to a run, or `to` takes no more.
pub async fn export(
    journal: &dyn Journal,
    run: Option<&RunId>,
    to: &mut (dyn Write + Send),
) -> Result<Option<Exported>, TransferError> {
    let mut out = Out { to, sum: Sha256::new(), exported: Exported::default() };
    out.line(&line::header()?)?;
    match run {
        Some(run) => {
            let Some(row) = journal.row(run).await? else { return Ok(None) };
            one(journal, row, &mut out).await?;
        }
        None => {
            let mut filter = RunFilter::default();
            loop {
                let listed = journal.list_whole(filter.clone(), MAX_LIMIT).await?;
                let Some(last) = listed.last() else { break };
                filter.before = Some(last.clone());
                out.exported.damaged.extend(listed.damaged);
                for row in listed.rows {
                    match read(journal, &row.run).await {
                        Ok(()) => one(journal, row, &mut out).await?,
                        Err(JournalError::Damaged(damage)) => out.exported.damaged.push(damage),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }
    let Exported { runs, events, .. } = out.exported;
    let end = End { runs, events, sha256: hex::encode(out.sum.clone().finalize()) };
    out.to.write_all(&line::end(end)?)?;
    out.to.flush()?;
    Ok(Some(out.exported))
}

/// Reads a run whole, to see that it can be.
async fn read(journal: &dyn Journal, run: &RunId) -> Result<(), JournalError> {
    let mut after = 0;
    while let Some(last) = journal.read(run, after, PAGE).await?.last() {
        after = last.seq;
    }
    Ok(())
}

/// Writes a run: its records, then the row that they belong to.
async fn one(journal: &dyn Journal, row: RunRow, out: &mut Out<'_>) -> Result<(), TransferError> {
    let run = row.run.clone();
    if row.state == IMPORTING {
        out.exported.left_out.push(run);
        return Ok(());
    }
    let (mut row, mut after) = (row, 0);
    for _ in 0..LOOKS {
        loop {
            let records = journal.read(&run, after, PAGE).await?;
            let Some(last) = records.last() else { break };
            after = last.seq;
            for record in &records {
                out.line(&line::record(&run, record)?)?;
                out.exported.events += 1;
            }
        }
        match journal.row(&run).await? {
            // Nothing was written, so it was deleted since it was listed.
            None if after == 0 => return Ok(()),
            None => {
                let gone = JournalError::Unavailable(format!(
                    "run {run} was deleted while it was exported; export again"
                ));
                return Err(gone.into());
            }
            // Another row means that records were appended since: they are read before it is written.
            Some(now) if now != row => row = now,
            Some(_) => {
                out.line(&line::row(&row)?)?;
                out.exported.runs += 1;
                out.exported.unfinished += u64::from(row.finished_at.is_none());
                return Ok(());
            }
        }
    }
    Err(JournalError::Busy(format!("run {run} changes faster than it can be read")).into())
}

struct Out<'a> {
    to: &'a mut (dyn Write + Send),
    sum: Sha256,
    exported: Exported,
}

impl Out<'_> {
    fn line(&mut self, line: &[u8]) -> Result<(), TransferError> {
        self.sum.update(line);
        self.to.write_all(line)?;
        Ok(())
    }
}
