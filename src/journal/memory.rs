//! A journal in memory, for tests of what stands on journals. Keeps every rule of the trait but the disk.

use super::envelope::{self, Chain, END_OF_NOTHING, End};
use super::{
    Journal, JournalError, MAX_LIMIT, MAX_READ, Record, RunFilter, RunRow, VerifyReport, check_append,
};
use crate::bell::Bell;
use crate::id::RunId;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The journal of one test.
#[derive(Default)]
pub struct MemoryJournal {
    runs: Mutex<BTreeMap<RunId, Kept>>,
    bell: Bell,
}

struct Kept {
    row: RunRow,
    records: Vec<(Record, u32)>,
}

impl Kept {
    fn end(&self) -> End {
        self.records.last().map_or(END_OF_NOTHING, |(record, seal)| End { seq: record.seq, seal: *seal })
    }
}

impl MemoryJournal {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RunId, Kept>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_seq(&self, run: &RunId) -> u64 {
        self.lock().get(run).map_or(0, |kept| kept.end().seq)
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(
        &self,
        run: &RunId,
        expected_seq: u64,
        records: Vec<Record>,
        row: RunRow,
    ) -> Result<(), JournalError> {
        check_append(run, expected_seq, &records, &row)?;
        let mut runs = self.lock();
        let mut end = runs.get(run).map_or(END_OF_NOTHING, Kept::end);
        if end.seq != expected_seq {
            return Err(JournalError::Conflict { run: run.clone(), expected: expected_seq, actual: end.seq });
        }
        let mut sealed = Vec::with_capacity(records.len());
        for record in records {
            end = End { seq: record.seq, seal: envelope::seal(run, end.seal, &record)? };
            sealed.push((record, end.seal));
        }
        let kept = runs.entry(run.clone()).or_insert_with(|| Kept { row: row.clone(), records: Vec::new() });
        kept.records.append(&mut sealed);
        kept.row = row;
        drop(runs);
        self.bell.ring(run);
        Ok(())
    }

    async fn read(&self, run: &RunId, after_seq: u64, limit: usize) -> Result<Vec<Record>, JournalError> {
        let runs = self.lock();
        let Some(kept) = runs.get(run) else { return Ok(Vec::new()) };
        let from = usize::try_from(after_seq).map_or(kept.records.len(), |seq| seq.min(kept.records.len()));
        let mut bytes = 0;
        let fits = |(record, _): &&(Record, u32)| {
            bytes += record.payload.len();
            bytes <= MAX_READ || bytes == record.payload.len()
        };
        let rest = kept.records[from..].iter().take(limit.min(MAX_LIMIT)).take_while(fits);
        Ok(rest.map(|(record, _)| record.clone()).collect())
    }

    async fn row(&self, run: &RunId) -> Result<Option<RunRow>, JournalError> {
        Ok(self.lock().get(run).map(|kept| kept.row.clone()))
    }

    async fn list(&self, filter: RunFilter, limit: usize) -> Result<Vec<RunRow>, JournalError> {
        let runs = self.lock();
        let rows = runs.values().rev().map(|kept| &kept.row).filter(|row| filter.admits(row));
        Ok(rows.take(limit.min(MAX_LIMIT)).cloned().collect())
    }

    async fn unfinished(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> Result<Vec<(RunId, u64)>, JournalError> {
        let runs = self.lock();
        let rest = runs.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let goes_on = rest.filter(|(_, kept)| kept.row.finished_at.is_none());
        Ok(goes_on.take(limit.min(MAX_LIMIT)).map(|(run, kept)| (run.clone(), kept.end().seq)).collect())
    }

    async fn stirred(&self, since: u64) -> u64 {
        self.bell.stirred(since).await
    }

    async fn changed(&self, run: &RunId, after_seq: u64) {
        let listener = self.bell.listen(run);
        loop {
            let next = listener.next();
            if self.last_seq(run) > after_seq {
                return;
            }
            next.await;
        }
    }

    async fn delete(&self, runs: &[RunId]) -> Result<(), JournalError> {
        let mut kept = self.lock();
        for run in runs {
            if kept.get(run).is_some_and(|kept| kept.row.finished_at.is_none()) {
                return Err(super::unfinished(run));
            }
            kept.remove(run);
            self.bell.ring(run);
        }
        Ok(())
    }

    async fn verify(&self) -> Result<VerifyReport, JournalError> {
        let mut report = VerifyReport::default();
        for (run, kept) in self.lock().iter() {
            report.runs += 1;
            let mut chain = Chain::after(run, END_OF_NOTHING);
            for (record, seal) in &kept.records {
                chain.check(record, *seal)?;
                report.records += 1;
                report.bytes += record.payload.len() as u64;
            }
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        contract::run(async || Box::new(MemoryJournal::default()) as Box<dyn Journal>).await;
    }
}
