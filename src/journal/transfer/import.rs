//! Takes runs from lines into a journal.
//!
//! A run of ordinary size is one append: all of it or nothing. A larger one takes several, and until the last of them
//! its row says that it is being imported; the same file completes what a crash broke off.

use super::lines::{Lines, Part};
use super::{IMPORTING, TransferError};
use crate::id::RunId;
use crate::journal::{Journal, JournalError, MAX_APPEND, MAX_RECORDS, Record, RunRow};
use futures_util::future::join_all;
use std::io::BufRead;

/// Bytes of payload in one append of an import: half of what an append may have.
const BATCH_BYTES: usize = MAX_APPEND / 2;
/// Runs that are appended at the same time, so that they share syncs.
const AT_ONCE: usize = 256;

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// It is here now.
    Imported,
    /// It is here now, and has not ended.
    Unfinished,
    /// The very same run was here.
    Same,
    /// Another run with its id is here, and stays as it is.
    Differs,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Runs that came, unfinished ones included.
    pub imported: u64,
    /// Those of them that have not ended.
    pub unfinished: u64,
    /// Runs that were here.
    pub same: u64,
    /// Runs that differ from one that is here.
    pub differ: u64,
    /// Records that came.
    pub events: u64,
}

/// Takes every run of an export, and tells what became of each. The caller has read all of it before with
/// [`check`](super::check): what is found wrong only now leaves the runs before it imported.
///
/// # Errors
/// Where the export cannot be read or was changed, or the journal fails. Runs that were told are here.
pub async fn import(
    journal: &dyn Journal,
    source: &mut (dyn BufRead + Send),
    tell: &mut (dyn FnMut(&RunId, Came) + Send),
) -> Result<Imported, TransferError> {
    let mut lines = Lines::new(source);
    let mut importer = Importer { journal, tell, imported: Imported::default(), whole: Vec::new(), bytes: 0 };
    let mut incoming: Option<Incoming> = None;
    while let Some(part) = lines.next()? {
        match part {
            Part::Record(run, record) => {
                let run = match &mut incoming {
                    Some(open) => open,
                    None => incoming.insert(Incoming::new(journal, run).await?),
                };
                if run.is_full(&record) {
                    run.put_part(journal).await?;
                }
                run.bytes += record.payload.len();
                run.records.push(record);
            }
            Part::Row(row) => {
                if let Some(run) = incoming.take() {
                    importer.end(run, row).await?;
                }
            }
        }
    }
    importer.put_whole().await?;
    Ok(importer.imported)
}

/// A run whose end was not read yet.
struct Incoming {
    run: RunId,
    /// The row that is here, where it is not one of an import that was broken off.
    here: Option<RunRow>,
    /// Nothing of the run is here.
    fresh: bool,
    differs: bool,
    /// Records before those of `records`, which are here.
    done: u64,
    records: Vec<Record>,
    bytes: usize,
}

impl Incoming {
    async fn new(journal: &dyn Journal, run: RunId) -> Result<Self, JournalError> {
        let row = journal.row(&run).await?;
        let fresh = row.is_none();
        let here = row.filter(|row| row.state != IMPORTING);
        Ok(Self { run, here, fresh, differs: false, done: 0, records: Vec::new(), bytes: 0 })
    }

    fn is_full(&self, next: &Record) -> bool {
        self.records.len() == MAX_RECORDS
            || (!self.records.is_empty() && self.bytes + next.payload.len() > BATCH_BYTES)
    }

    /// Takes over what is here of the records at hand, and returns those that are not.
    async fn missing(&mut self, journal: &dyn Journal) -> Result<Vec<Record>, JournalError> {
        let mut records = std::mem::take(&mut self.records);
        self.bytes = 0;
        let mut same = 0;
        while !self.fresh && !self.differs && same < records.len() {
            let found = journal.read(&self.run, self.done, records.len() - same).await?;
            if found.is_empty() {
                break;
            }
            self.differs = found[..] != records[same..same + found.len()];
            same += found.len();
            self.done += found.len() as u64;
        }
        records.drain(..same.min(records.len()));
        // What is here of a run that is whole is all there is of it.
        self.differs |= self.here.is_some() && !records.is_empty();
        Ok(records)
    }

    /// Appends the records at hand under a row that says that more are to come.
    async fn put_part(&mut self, journal: &dyn Journal) -> Result<(), JournalError> {
        let missing = self.missing(journal).await?;
        let (Some(first), false) = (missing.first(), self.differs) else { return Ok(()) };
        let row = RunRow {
            run: self.run.clone(),
            workflow: IMPORTING.into(),
            state: IMPORTING.into(),
            started_at: first.at,
            finished_at: Some(first.at),
            usd: None,
            tokens: None,
        };
        let count = missing.len() as u64;
        journal.append(&self.run, self.done, missing, row).await?;
        (self.done, self.fresh) = (self.done + count, false);
        Ok(())
    }
}

struct Importer<'a> {
    journal: &'a dyn Journal,
    tell: &'a mut (dyn FnMut(&RunId, Came) + Send),
    imported: Imported,
    /// Runs of one append each, which wait to be put at the same time.
    whole: Vec<(RunRow, Vec<Record>)>,
    bytes: usize,
}

impl Importer<'_> {
    async fn end(&mut self, mut run: Incoming, row: RunRow) -> Result<(), TransferError> {
        if run.fresh && run.done == 0 {
            self.bytes += run.bytes;
            self.whole.push((row, run.records));
            if self.whole.len() == AT_ONCE || self.bytes > BATCH_BYTES {
                self.put_whole().await?;
            }
            return Ok(());
        }
        let missing = run.missing(self.journal).await?;
        let events = run.done + missing.len() as u64;
        let beyond = self.journal.read(&run.run, run.done, 1).await?;
        let came = match &run.here {
            Some(here) if !run.differs && beyond.is_empty() && *here == row => Came::Same,
            None if !run.differs && beyond.is_empty() && !missing.is_empty() => {
                self.journal.append(&run.run, run.done, missing, row.clone()).await?;
                imported(&row)
            }
            _ => Came::Differs,
        };
        self.count(&row.run, came, events);
        Ok(())
    }

    async fn put_whole(&mut self) -> Result<(), TransferError> {
        self.bytes = 0;
        let runs = std::mem::take(&mut self.whole);
        let (mut rows, mut appends) = (Vec::new(), Vec::new());
        for (row, records) in runs {
            let (run, count, whole) = (row.run.clone(), records.len() as u64, row.clone());
            let journal = self.journal;
            appends.push(async move { journal.append(&run, 0, records, whole).await });
            rows.push((row, count));
        }
        for ((row, count), outcome) in rows.into_iter().zip(join_all(appends).await) {
            let came = match outcome {
                Ok(()) => imported(&row),
                // It was not there when it was looked for: another process brought it, or the export has it twice.
                Err(JournalError::Conflict { .. }) => Came::Differs,
                Err(error) => return Err(error.into()),
            };
            self.count(&row.run, came, count);
        }
        Ok(())
    }

    fn count(&mut self, run: &RunId, came: Came, events: u64) {
        match came {
            Came::Imported | Came::Unfinished => {
                self.imported.imported += 1;
                self.imported.unfinished += u64::from(came == Came::Unfinished);
                self.imported.events += events;
            }
            Came::Same => self.imported.same += 1,
            Came::Differs => self.imported.differ += 1,
        }
        (self.tell)(run, came);
    }
}

fn imported(row: &RunRow) -> Came {
    if row.finished_at.is_some() { Came::Imported } else { Came::Unfinished }
}
