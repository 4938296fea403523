//! The journal: the events of every run, on disk before anything follows from them.
//!
//! [`Journal`] is the seam: it moves bytes, knows no event and no state, and never retries a write whose sync failed.
//! [`sqlite`] keeps it on disk, `sled` does where somebody asks for it, [`memory`] in a map for tests; `contract` is what
//! all must do, `on_disk` what those on disk must do when processes die and files are damaged. [`transfer`]
//! moves runs from one to another.
//!
//! What never happens here: an append is acknowledged before it is synced; a changed, missing or swapped record is
//! handed out; two writers who have not seen each other's records both succeed; a listing disagrees with the events.

mod committer;
#[cfg(test)]
mod contract;
mod envelope;
pub mod memory;
#[cfg(test)]
mod on_disk;
#[cfg(feature = "sled")]
pub mod sled;
pub mod sqlite;
pub mod transfer;

pub use memory::MemoryJournal;
#[cfg(feature = "sled")]
pub use sled::SledJournal;
pub use sqlite::SqliteJournal;

use crate::id::RunId;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt;
use std::path::Path;

/// Bytes in the payload of one record. Outputs that are larger belong into artifacts or volumes.
pub const MAX_PAYLOAD: usize = 4 << 20;
/// Records in one append.
pub const MAX_RECORDS: usize = 1024;
/// Bytes of payload in one append.
pub const MAX_APPEND: usize = 16 << 20;
/// Bytes of payload in one answer of [`Journal::read`], unless its first record alone is larger.
pub const MAX_READ: usize = 16 << 20;
/// Records or rows in one answer, however many were asked for.
pub const MAX_LIMIT: usize = 10_000;
/// Findings in one [`VerifyReport`]; the rest is counted.
pub const MAX_FINDINGS: usize = 1000;

/// One journalled event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the run, from 1, without gaps.
    pub seq: u64,
    /// When it happened, between the years 1678 and 2261.
    pub at: Timestamp,
    /// The event as JSON, at most [`MAX_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

impl Record {
    /// The record of an event. Fails where the event cannot be written as JSON, which is a bug.
    pub fn of<E: Serialize>(seq: u64, at: Timestamp, event: &E) -> Result<Self, JournalError> {
        let payload = serde_json::to_vec(event).map_err(|error| {
            JournalError::Refused(format!("event {seq} cannot be written as JSON: {error}"))
        })?;
        Ok(Self { seq, at, payload })
    }

    /// The event, where this version of harvest can read it. `run` is for the message.
    pub fn event<E: DeserializeOwned>(&self, run: &RunId) -> Result<E, JournalError> {
        serde_json::from_slice(&self.payload).map_err(|error| JournalError::Unreadable {
            run: run.clone(),
            seq: self.seq,
            error: error.to_string(),
        })
    }
}

/// The row of a run in listings, kept in the same transaction as the events it follows from.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// The name of its workflow.
    pub workflow: String,
    /// `queued`, `running`, `waiting`, `succeeded`, `failed`, `cancelled` or `timed_out`.
    pub state: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// When it ended; a run without is unfinished.
    pub finished_at: Option<Timestamp>,
    /// What it cost so far, in US dollars, where that is known.
    pub usd: Option<f64>,
    /// Tokens used so far, where that is known.
    pub tokens: Option<u64>,
}

/// A row with the size of its run.
#[derive(Clone, Debug, PartialEq)]
pub struct SizedRow {
    /// The row.
    pub row: RunRow,
    /// Bytes of payload in all records of the run.
    pub bytes: u64,
}

/// What a journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Runs, ended or not.
    pub runs: u64,
    /// Bytes of payload in all of their records.
    pub bytes: u64,
}

/// Which runs to list. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only runs of this workflow.
    pub workflow: Option<String>,
    /// Only runs in this state.
    pub state: Option<String>,
    /// Only runs older than this one: the last of the page before.
    pub before: Option<RunId>,
    /// Only runs that have not ended.
    pub unfinished: bool,
}

impl RunFilter {
    /// Whether `row` belongs into the listing.
    fn admits(&self, row: &RunRow) -> bool {
        self.workflow.as_ref().is_none_or(|workflow| *workflow == row.workflow)
            && self.state.as_ref().is_none_or(|state| *state == row.state)
            && self.before.as_ref().is_none_or(|before| row.run < *before)
            && (!self.unfinished || row.finished_at.is_none())
    }
}

/// What [`Journal::verify`] read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Runs read.
    pub runs: u64,
    /// Records read and found whole.
    pub records: u64,
    /// Bytes of payload in those.
    pub bytes: u64,
    /// What is wrong, one sentence each, at most [`MAX_FINDINGS`].
    pub findings: Vec<String>,
    /// How many findings there were in all.
    pub damaged: u64,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.damaged == 0
    }

    fn find(&mut self, finding: String) {
        self.damaged += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }
}

/// What [`Journal::compact`] gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Bytes on disk before.
    pub before: u64,
    /// Bytes on disk after.
    pub after: u64,
}

/// Why the journal did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Another writer appended. Nothing was written: read from `expected` on, then decide again.
    #[error(
        "run {run} was changed by another writer: expected its last event to be {expected}, it is {actual}"
    )]
    Conflict {
        /// The run.
        run: RunId,
        /// The last sequence number this writer had seen.
        expected: u64,
        /// The last one there is; 0 where the run does not exist.
        actual: u64,
    },
    /// What is stored is not what was written.
    #[error("the journal is damaged: {0}")]
    Damaged(Damage),
    /// A whole record that this version cannot understand.
    #[error(
        "event {seq} of run {run} cannot be read by this version of harvest: {error}; use the version that wrote it, or a newer one"
    )]
    Unreadable {
        /// The run.
        run: RunId,
        /// Its event.
        seq: u64,
        /// What the reader said.
        error: String,
    },
    /// A request that breaks the rules of the journal; asking again will not help.
    #[error("{0}")]
    Refused(String),
    /// The journal on disk is not one this version can use. It was not touched.
    #[error("{0}")]
    Format(String),
    /// Another process holds the journal for too long. Nothing was written; try again.
    #[error("another process keeps the journal busy ({0}); try again, or end that process")]
    Busy(String),
    /// A write failed, so nothing more will be acknowledged until the journal is opened again. Reading still works.
    #[error("the journal stopped writing: {0}")]
    Stopped(String),
    /// The journal could not be read.
    #[error("{0}")]
    Unavailable(String),
}

/// Where a journal is damaged, and what is lost by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The run, where that much can be told.
    pub run: Option<RunId>,
    /// The first record that cannot be trusted, where that much can be told. Those before it are whole.
    pub seq: Option<u64>,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.run, self.seq) {
            (Some(run), Some(1)) => write!(f, "run {run}, event 1: {}; this run is lost", self.what)?,
            (Some(run), Some(seq)) => {
                write!(f, "run {run}, event {seq}: {}; events from {seq} on are lost", self.what)?;
            }
            (Some(run), None) => write!(f, "run {run}: {}; this run cannot be read", self.what)?,
            (None, _) => f.write_str(&self.what)?,
        }
        f.write_str("; a backup of the journal brings it back")
    }
}

/// Rows, newest first, and what is wrong with those that are not among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// The rows.
    pub rows: Vec<RunRow>,
    /// Damage, of one run each.
    pub damaged: Vec<Damage>,
}

impl Listed {
    /// The oldest run that was looked at, `None` where there was none.
    pub fn last(&self) -> Option<&RunId> {
        let damaged = self.damaged.last().and_then(|damage| damage.run.as_ref());
        self.rows.last().map(|row| &row.run).into_iter().chain(damaged).min()
    }
}

/// Keeps the events of runs. Every operation may be called from many tasks at once.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Appends `records` to a run and replaces its row, both or neither; returns only after they are synced to disk.
    ///
    /// `expected_seq` is the last sequence number the writer has seen, 0 for a new run; where it is not the last,
    /// nothing is written and the answer is [`JournalError::Conflict`]. The records continue from it. Limits:
    /// [`MAX_RECORDS`], [`MAX_PAYLOAD`], [`MAX_APPEND`]. When this future is dropped, the append may or may not happen.
    async fn append(
        &self,
        run: &RunId,
        expected_seq: u64,
        records: Vec<Record>,
        row: RunRow,
    ) -> Result<(), JournalError>;

    /// The records after `after_seq` in order, each one checked; at most `limit`, [`MAX_LIMIT`] and about [`MAX_READ`]
    /// bytes. Fewer than `limit` do not mean the end, none do. A run that does not exist has none.
    async fn read(&self, run: &RunId, after_seq: u64, limit: usize) -> Result<Vec<Record>, JournalError>;

    /// The row of a run, or `None` where there is no such run.
    async fn row(&self, run: &RunId) -> Result<Option<RunRow>, JournalError>;

    /// Rows, newest first; at most `limit` and [`MAX_LIMIT`].
    async fn list(&self, filter: RunFilter, limit: usize) -> Result<Vec<RunRow>, JournalError>;

    /// The same without the rows that are damaged: what is wrong with each of those comes beside. Damage that cannot be
    /// told to belong to a run is an error.
    async fn list_whole(&self, filter: RunFilter, limit: usize) -> Result<Listed, JournalError> {
        let (mut listed, mut filter, mut limit) = (Listed::default(), filter, limit.min(MAX_LIMIT));
        let mut page = limit;
        while limit > 0 {
            match self.list(filter.clone(), page.min(limit)).await {
                Ok(rows) => {
                    let Some(last) = rows.last() else { break };
                    filter.before = Some(last.run.clone());
                    limit -= rows.len().min(limit);
                    listed.rows.extend(rows);
                }
                // The rows before a damaged one come one at a time, until it is the next.
                Err(JournalError::Damaged(Damage { run: Some(_), .. })) if page > 1 => page = 1,
                Err(JournalError::Damaged(damage)) => {
                    let Some(run) = damage.run.clone() else { return Err(JournalError::Damaged(damage)) };
                    filter.before = Some(run);
                    listed.damaged.push(damage);
                    page = limit;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(listed)
    }

    /// Runs that have not ended with the number of their last event, by id, those behind `after`; at most `limit` and
    /// [`MAX_LIMIT`].
    async fn unfinished(&self, after: Option<RunId>, limit: usize)
    -> Result<Vec<(RunId, u64)>, JournalError>;

    /// Waits until this number is another one than `since`, and returns it. It changes with every append and deletion,
    /// of this process at once, of another within about 100 ms. Start with 0. Cancel-safe.
    async fn stirred(&self, since: u64) -> u64;

    /// Runs that have ended, those first that ended first (then by id), behind the one that `after` names; at most
    /// `limit` and [`MAX_LIMIT`]. Written for every kind; a kind that knows sizes does better than to read everything.
    async fn ended(
        &self,
        after: Option<(Timestamp, RunId)>,
        limit: usize,
    ) -> Result<Vec<SizedRow>, JournalError> {
        let mut rows = Vec::new();
        let mut filter = RunFilter::default();
        loop {
            let page = self.list(filter.clone(), MAX_LIMIT).await?;
            let Some(last) = page.last() else { break };
            filter.before = Some(last.run.clone());
            rows.extend(page.into_iter().filter_map(|row| Some((row.finished_at?, row))));
        }
        rows.sort_by(|(a, x), (b, y)| (a, &x.run).cmp(&(b, &y.run)));
        let behind = rows
            .into_iter()
            .filter(|(at, row)| after.as_ref().is_none_or(|(then, run)| (at, &row.run) > (then, run)));
        let mut ended = Vec::new();
        for (_, row) in behind.take(limit.min(MAX_LIMIT)) {
            let bytes = size(self, &row.run).await?;
            ended.push(SizedRow { row, bytes });
        }
        Ok(ended)
    }

    /// How much there is. Like [`Journal::ended`], a kind that knows sizes does better than this.
    async fn usage(&self) -> Result<Usage, JournalError> {
        let (mut usage, mut filter) = (Usage::default(), RunFilter::default());
        loop {
            let page = self.list(filter.clone(), MAX_LIMIT).await?;
            let Some(last) = page.last() else { return Ok(usage) };
            filter.before = Some(last.run.clone());
            for row in page {
                usage.runs += 1;
                usage.bytes += size(self, &row.run).await?;
            }
        }
    }

    /// Returns once there may be records after `after_seq`, from this process (at once) or another (within about
    /// 100 ms), or reading the run fails. Cancel-safe.
    async fn changed(&self, run: &RunId, after_seq: u64);

    /// Drops finished runs, and gives their space back where the store can (sled's file never shrinks). Runs that do not
    /// exist are skipped. Where one of `runs` is unfinished, the answer is [`JournalError::Refused`] and runs named before
    /// it may be gone.
    async fn delete(&self, runs: &[RunId]) -> Result<(), JournalError>;

    /// Reads everything and says what is wrong with it.
    async fn verify(&self) -> Result<VerifyReport, JournalError>;

    /// Gives space that nothing uses back to the file system, while others read and write. A journal that has none to
    /// give answers with zeros.
    async fn compact(&self) -> Result<Compacted, JournalError> {
        Ok(Compacted::default())
    }

    /// Copies all of it, as it is at one moment, into a new file, while others read and write. The copy is synced, and
    /// was read again: the report is of the copy. The name of the file may not survive a power cut yet.
    async fn backup(&self, file: &Path) -> Result<VerifyReport, JournalError> {
        let _ = file;
        Err(JournalError::Refused(
            "a journal of this kind is not one file: use `harvest journal export FILE`".into(),
        ))
    }
}

/// Bytes of payload in a run, by reading it.
async fn size<J: Journal + ?Sized>(journal: &J, run: &RunId) -> Result<u64, JournalError> {
    let (mut bytes, mut after) = (0, 0);
    loop {
        let records = journal.read(run, after, MAX_LIMIT).await?;
        let Some(last) = records.last() else { return Ok(bytes) };
        after = last.seq;
        bytes += records.iter().map(|record| record.payload.len() as u64).sum::<u64>();
    }
}

/// Holds an append to the rules of [`Journal::append`] that need no look at the journal.
fn check_append(
    run: &RunId,
    expected_seq: u64,
    records: &[Record],
    row: &RunRow,
) -> Result<(), JournalError> {
    let refuse = |why: String| Err(JournalError::Refused(format!("run {run}: {why}")));
    if row.run != *run {
        return refuse(format!("the row is that of run {}", row.run));
    }
    if run.as_str().is_empty() || run.as_str().len() > 64 {
        return refuse("a run's id has 1 to 64 bytes".into());
    }
    if records.is_empty() || records.len() > MAX_RECORDS {
        return refuse(format!("an append has 1 to {MAX_RECORDS} events, not {}", records.len()));
    }
    if expected_seq > u64::MAX / 4 {
        return refuse(format!("{expected_seq} is no sequence number"));
    }
    if row.usd.is_some_and(|usd| !usd.is_finite()) {
        return refuse("its cost is not a number".into());
    }
    let mut bytes = 0;
    for (record, seq) in records.iter().zip(expected_seq + 1..) {
        if record.seq != seq {
            return refuse(format!("event {} stands where event {seq} is due", record.seq));
        }
        if record.payload.len() > MAX_PAYLOAD {
            let mib = MAX_PAYLOAD >> 20;
            return refuse(format!(
                "event {seq} has {} bytes, more than {mib} MiB; keep large outputs as an artifact or in a volume",
                record.payload.len()
            ));
        }
        envelope::nanoseconds(record.at)?;
        bytes += record.payload.len();
    }
    if bytes > MAX_APPEND {
        return refuse(format!("an append has at most {} MiB, not {bytes} bytes", MAX_APPEND >> 20));
    }
    envelope::nanoseconds(row.started_at)?;
    row.finished_at.map(envelope::nanoseconds).transpose()?;
    Ok(())
}

/// The answer to a request to delete a run that still goes on.
fn unfinished(run: &RunId) -> JournalError {
    JournalError::Refused(format!("run {run} has not ended: cancel it first (`harvest cancel {run}`)"))
}
