//! The journal in sled, for whoever asks for it: `journal: sled`. One process at a time.
//!
//! sled 0.34 alone is no place for a journal: it acknowledges before the disk has it, and drops what it cannot read
//! without a word. Here it is kept in check from outside: `guard` makes it durable and catches its panics, and `ends`
//! remembers in a file of its own where every run ends, so that what is missing shows. What is read is held against both.

mod codec;
mod ends;
mod guard;
mod lock;
mod read;
#[cfg(test)]
mod tests;
mod writer;

use super::committer::{Append, Committer};
use super::{Journal, JournalError, MAX_LIMIT, Record, RunFilter, RunRow, SizedRow, Usage, VerifyReport};
use crate::bell::Bell;
use crate::id::RunId;
use async_trait::async_trait;
use ends::{Changes, Ends, Kept, Runs};
use guard::Store;
use jiff::Timestamp;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use writer::Writer;

/// The directory in the home.
const DIRECTORY: &str = "journal.sled";
/// How long opening waits for another process: a command that looks at something has the journal for some milliseconds.
const TURN: Duration = Duration::from_secs(2);

/// A journal on disk. Dropping it waits for the commit under way.
pub struct SledJournal {
    // Dropped in this order: the thread, what it writes to, the lock.
    committer: Committer,
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    _lock: File,
}

impl SledJournal {
    /// Opens the journal of a home, and creates both where they do not exist, for their owner alone. Fails with
    /// [`JournalError::Busy`] where another process has it open and does not close it soon.
    pub fn open(home: &Path) -> Result<Self, JournalError> {
        let directory = home.join(DIRECTORY);
        let failed = |error: io::Error| {
            JournalError::Unavailable(format!("cannot open the journal {}: {error}", directory.display()))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let lock = turn(&directory).map_err(failed)?.ok_or_else(|| {
            JournalError::Busy("sled can be used by one process at a time; SQLite by many".into())
        })?;
        let (place, path) = (directory.join("store"), directory.join("ends"));
        let (mut ends, mut runs) = Ends::open(&path, !Store::exists(&place))?;
        if ends.commit() > 0 && !Store::exists(&place) {
            return Err(ends::damaged(&place, "is missing; all runs are lost"));
        }
        File::open(home).and_then(|home| home.sync_all()).map_err(failed)?;
        let store = Store::open(&place)?;
        catch_up(&store, &mut ends, &mut runs, &path)?;
        let shared = Arc::new(Shared { store, state: RwLock::new(State { runs, pending: Changes::new() }) });
        let bell = Arc::new(Bell::default());
        let committer = Committer::start(Writer { shared: shared.clone(), ends }, bell.clone())?;
        Ok(Self { committer, shared, bell, _lock: lock })
    }

    /// Whether a home has such a journal.
    pub fn exists(home: &Path) -> bool {
        home.join(DIRECTORY).exists()
    }

    /// Asks on a thread where it may block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Shared) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || question(&shared))
            .await
            .unwrap_or_else(|error| Err(JournalError::Unavailable(format!("a read was broken off: {error}"))))
    }
}

/// The right to use the directory, until dropped, or None where another process has it for longer than commands take.
fn turn(directory: &Path) -> io::Result<Option<File>> {
    let path = directory.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    Ok(lock::lock_within(&file, TURN)?.then_some(file))
}

/// Brings what is kept outside up to what sled holds. After a crash sled may be one commit ahead; one that is further
/// ahead means that the end of the file outside is missing. Where sled is behind, each run's own reading shows it.
fn catch_up(store: &Store, ends: &mut Ends, runs: &mut Runs, path: &Path) -> Result<(), JournalError> {
    let mut ahead = None;
    if let Some((commit, changes)) = read::last_commit(store)? {
        if commit > ends.commit() + 1 {
            let missing = commit - ends.commit();
            return Err(ends::damaged(path, format!("lacks its end, the last {missing} commits")));
        }
        ahead = (commit > ends.commit()).then_some((commit, changes));
    }
    if ends.lacks_sizes() {
        for (run, kept) in runs.iter_mut() {
            kept.bytes = read::size(store, run)?;
        }
    }
    ends.settle(runs)?;
    if let Some((commit, changes)) = ahead {
        ends.append(commit, &changes)?;
        apply(runs, changes);
    }
    Ok(())
}

fn apply(runs: &mut Runs, changes: Changes) {
    for (run, kept) in changes {
        match kept {
            Some(kept) => drop(runs.insert(run, kept)),
            None => drop(runs.remove(&run)),
        }
    }
}

/// What readers and the writer share.
struct Shared {
    store: Store,
    state: RwLock<State>,
}

struct State {
    /// What is acknowledged, or was when the journal was opened.
    runs: Runs,
    /// What the commit under way changes, or what one that failed may have changed.
    pending: Changes,
}

impl Shared {
    fn known(&self, run: &RunId) -> Option<Kept> {
        self.state().runs.get(run).cloned()
    }

    /// What the commit under way makes of a run, where it changes it.
    fn pending(&self, run: &RunId) -> Option<Option<Kept>> {
        self.state().pending.get(run).cloned()
    }

    fn list(&self, filter: &RunFilter, limit: usize) -> Vec<RunRow> {
        let state = self.state();
        let rows = match &filter.before {
            Some(before) => state.runs.range(..before.clone()),
            None => state.runs.range::<RunId, _>(..),
        };
        let rows = rows.rev().map(|(_, kept)| &kept.row).filter(|row| filter.admits(row));
        rows.take(limit).cloned().collect()
    }

    fn unfinished(&self, after: Option<RunId>, limit: usize) -> Vec<(RunId, u64)> {
        let state = self.state();
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = state.runs.range((behind, Bound::Unbounded));
        let goes_on = rest.filter(|(_, kept)| kept.row.finished_at.is_none());
        goes_on.take(limit.min(MAX_LIMIT)).map(|(run, kept)| (run.clone(), kept.end.seq)).collect()
    }

    /// Runs that have ended behind `after`, those first that ended first, with their sizes.
    fn ended(&self, after: Option<&(Timestamp, RunId)>, limit: usize) -> Vec<(RunId, u64)> {
        let state = self.state();
        let ended =
            state.runs.iter().filter_map(|(run, kept)| Some((kept.row.finished_at?, run, kept.bytes)));
        let mut ended: Vec<_> = ended
            .filter(|(at, run, _)| after.is_none_or(|(then, behind)| (at, *run) > (then, behind)))
            .collect();
        // A few of very many are asked for after every run.
        if limit < ended.len() {
            ended.select_nth_unstable(limit);
            ended.truncate(limit);
        }
        ended.sort_unstable();
        ended.into_iter().map(|(_, run, bytes)| (run.clone(), bytes)).collect()
    }

    fn usage(&self) -> Usage {
        let state = self.state();
        Usage { runs: state.runs.len() as u64, bytes: state.runs.values().map(|kept| kept.bytes).sum() }
    }

    fn runs(&self) -> Vec<RunId> {
        self.state().runs.keys().cloned().collect()
    }

    fn with_runs<T>(&self, look: impl FnOnce(&Runs) -> T) -> T {
        look(&self.state().runs)
    }

    fn begin(&self, changes: &Changes) {
        self.state_mut().pending = changes.clone();
    }

    fn end(&self, changes: Changes) {
        let mut state = self.state_mut();
        state.pending = Changes::new();
        apply(&mut state.runs, changes);
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Journal for SledJournal {
    async fn append(
        &self,
        run: &RunId,
        expected_seq: u64,
        records: Vec<Record>,
        row: RunRow,
    ) -> Result<(), JournalError> {
        self.committer.append(Append { run: run.clone(), expected_seq, records, row }).await
    }

    async fn read(&self, run: &RunId, after_seq: u64, limit: usize) -> Result<Vec<Record>, JournalError> {
        let run = run.clone();
        self.ask(move |shared| read::records(shared, &run, after_seq, limit)).await
    }

    async fn row(&self, run: &RunId) -> Result<Option<RunRow>, JournalError> {
        let run = run.clone();
        self.ask(move |shared| Ok(read::known(shared, &run)?.map(|kept| kept.row))).await
    }

    async fn list(&self, filter: RunFilter, limit: usize) -> Result<Vec<RunRow>, JournalError> {
        self.ask(move |shared| read::list(shared, &filter, limit)).await
    }

    async fn unfinished(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> Result<Vec<(RunId, u64)>, JournalError> {
        self.ask(move |shared| Ok(shared.unfinished(after, limit))).await
    }

    async fn ended(
        &self,
        after: Option<(Timestamp, RunId)>,
        limit: usize,
    ) -> Result<Vec<SizedRow>, JournalError> {
        self.ask(move |shared| read::ended(shared, after.as_ref(), limit)).await
    }

    async fn usage(&self) -> Result<Usage, JournalError> {
        self.ask(|shared| Ok(shared.usage())).await
    }

    async fn stirred(&self, since: u64) -> u64 {
        self.bell.stirred(since).await
    }

    async fn changed(&self, run: &RunId, after_seq: u64) {
        let listener = self.bell.listen(run);
        loop {
            let next = listener.next();
            if self.shared.known(run).is_some_and(|kept| kept.end.seq > after_seq) {
                return;
            }
            next.await;
        }
    }

    async fn delete(&self, runs: &[RunId]) -> Result<(), JournalError> {
        self.committer.delete(runs).await
    }

    async fn verify(&self) -> Result<VerifyReport, JournalError> {
        self.ask(|shared| Ok(read::verify(shared))).await
    }
}
