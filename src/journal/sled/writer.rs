//! What the committer has sled do: one batch for many appends, synced; then where the runs end, synced outside.
//!
//! In this order, sled is never behind what is kept outside, unless it lost something; it may be one commit ahead after
//! a crash, and then says itself which runs that commit changed.

use super::ends::{Changes, Ends, Kept};
use super::guard::Batch;
use super::{Shared, codec, read};
use crate::id::RunId;
use crate::journal::committer::{Append, Store};
use crate::journal::envelope::{self, END_OF_NOTHING, End};
use crate::journal::{JournalError, unfinished};
use std::sync::Arc;

/// All that writes.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) ends: Ends,
}

impl Store for Writer {
    fn append(&mut self, appends: &[Append]) -> Result<Vec<Result<(), JournalError>>, JournalError> {
        let mut batch = Batch::default();
        let mut changes = Changes::new();
        let outcomes = appends.iter().map(|append| self.put(append, &mut batch, &mut changes)).collect();
        if !changes.is_empty() {
            self.commit(batch, changes)?;
        }
        Ok(outcomes)
    }

    /// Looks past checksums: a damaged run can be deleted too.
    fn delete(&mut self, runs: &[RunId]) -> Result<(), JournalError> {
        let goes_on =
            |run: &&RunId| self.shared.known(run).is_some_and(|kept| kept.row.finished_at.is_none());
        if let Some(run) = runs.iter().find(goes_on) {
            return Err(unfinished(run));
        }
        let mut batch = Batch::default();
        let mut changes = Changes::new();
        for run in runs {
            let mut found = self.shared.known(run).is_some();
            for prefix in [codec::row_key(run), codec::events_key(run)] {
                self.shared.store.walk(&prefix, &prefix, |key, _| {
                    found = true;
                    batch.remove(key.to_vec());
                    Ok(true)
                })?;
            }
            if found {
                changes.insert(run.clone(), None);
            }
        }
        if changes.is_empty() { Ok(()) } else { self.commit(batch, changes) }
    }

    /// sled gives nothing back: its file only grows, and what was deleted is used again.
    fn reclaim(&mut self) -> Result<u64, JournalError> {
        Ok(0)
    }

    /// There are no other processes.
    fn foreign_version(&mut self) -> Option<i64> {
        Some(0)
    }
}

impl Writer {
    /// Puts an append into the batch where it continues what is there.
    fn put(&self, append: &Append, batch: &mut Batch, changes: &mut Changes) -> Result<(), JournalError> {
        let Append { run, expected_seq, records, row } = append;
        let known = match changes.get(run) {
            Some(changed) => changed.clone(),
            None => read::known(&self.shared, run)?,
        };
        let (mut end, mut bytes) = known.map_or((END_OF_NOTHING, 0), |kept| (kept.end, kept.bytes));
        if end.seq != *expected_seq {
            return Err(JournalError::Conflict {
                run: run.clone(),
                expected: *expected_seq,
                actual: end.seq,
            });
        }
        let mut puts = Vec::new();
        for record in records {
            end = End { seq: record.seq, seal: envelope::seal(run, end.seal, record)? };
            bytes += record.payload.len() as u64;
            puts.extend(codec::pieces(&codec::event_key(run, end.seq), &codec::record(record, end.seal)?));
        }
        let mut value = Vec::new();
        codec::put_row(&mut value, row, end)?;
        value.extend(envelope::seal_row(row, end)?.to_le_bytes());
        puts.extend(codec::pieces(&codec::row_key(run), &value));
        // Nothing is in the batch before all of it can be.
        puts.into_iter().for_each(|(key, value)| batch.insert(key, value));
        changes.insert(run.clone(), Some(Kept { row: row.clone(), end, bytes }));
        Ok(())
    }

    /// Everything that fails here leaves a commit of which nobody knows how far it got.
    fn commit(&mut self, mut batch: Batch, changes: Changes) -> Result<(), JournalError> {
        let number = self.ends.commit() + 1;
        let mut value = number.to_le_bytes().to_vec();
        changes.keys().for_each(|run| codec::put_text(&mut value, run.as_str()));
        codec::pieces(codec::COMMIT, &value).into_iter().for_each(|(key, value)| batch.insert(key, value));
        self.shared.begin(&changes);
        let written = self.shared.store.commit(batch).and_then(|()| self.ends.append(number, &changes));
        written.map_err(stopped)?;
        self.shared.end(changes);
        self.shared.with_runs(|runs| self.ends.tidy_up(runs)).map_err(stopped)
    }
}

fn stopped(error: JournalError) -> JournalError {
    JournalError::Stopped(match error {
        JournalError::Unavailable(why) => why,
        other => other.to_string(),
    })
}
