//! What is there: the runs of a journal with their parents and sizes, and what lies on disk for them.

use super::choose::{Candidate, Totals};
use crate::capability::artifact::Artifacts;
use crate::capability::stream::StreamStore;
use crate::engine::EngineError;
use crate::id::RunId;
use crate::journal::{Journal, JournalError, MAX_LIMIT, RunFilter, SizedRow};
use crate::run::Event;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Digits of an id that say when its run was started. Runs below another one have those of the one above.
const TIME_DIGITS: usize = 10;

/// Runs read at a time that were started at the same moment. Most are alone.
const BESIDE: usize = 16;

/// Bytes that lie outside the journal, by run.
#[derive(Clone, Debug, Default)]
pub(super) struct OnDisk {
    pub(super) streams: BTreeMap<RunId, u64>,
    pub(super) artifacts: BTreeMap<RunId, u64>,
}

impl OnDisk {
    pub(super) async fn look(
        streams: &dyn StreamStore,
        artifacts: &Artifacts,
    ) -> crate::capability::Result<Self> {
        Ok(Self {
            streams: streams.runs().await?.into_iter().collect(),
            artifacts: artifacts.runs().await?.into_iter().collect(),
        })
    }

    /// Bytes of one run.
    pub(super) fn of(&self, run: &RunId) -> u64 {
        self.streams.get(run).unwrap_or(&0) + self.artifacts.get(run).unwrap_or(&0)
    }

    fn all(&self) -> u64 {
        self.streams.values().sum::<u64>() + self.artifacts.values().sum::<u64>()
    }
}

/// What there is in all.
pub(super) async fn totals(journal: &dyn Journal, disk: &OnDisk) -> Result<Totals, JournalError> {
    let usage = journal.usage().await?;
    Ok(Totals { runs: usage.runs, bytes: usage.bytes + disk.all() })
}

/// Every run of a journal.
pub(super) async fn everything(journal: &dyn Journal, disk: &OnDisk) -> Result<Vec<Candidate>, EngineError> {
    let mut runs = BTreeMap::new();
    let mut after = None;
    loop {
        let page = journal.ended(after.take(), MAX_LIMIT).await?;
        let Some(last) = page.last() else { break };
        after = last.row.finished_at.map(|at| (at, last.row.run.clone()));
        runs.extend(page.into_iter().map(|ended| candidate(ended, disk)));
    }
    let mut filter = RunFilter { unfinished: true, ..RunFilter::default() };
    loop {
        let page = journal.list(filter.clone(), MAX_LIMIT).await?;
        let Some(last) = page.last() else { break };
        filter.before = Some(last.run.clone());
        // Whatever their size, they stay.
        runs.extend(page.into_iter().map(|row| candidate(SizedRow { row, bytes: 0 }, disk)));
    }
    with_parents(journal, runs).await
}

/// The beginning of a journal, in the order in which runs ended.
pub(super) struct Oldest {
    /// The runs that ended first, and others of their families.
    pub(super) candidates: Vec<Candidate>,
    /// Of families that ended before this time all is known; of later ones there may be others in between. `None`
    /// where these are all there are.
    pub(super) before: Option<Timestamp>,
}

/// The `count` runs that ended first, with all of their families.
pub(super) async fn oldest(
    journal: &dyn Journal,
    disk: &OnDisk,
    count: usize,
) -> Result<Oldest, EngineError> {
    let ended = journal.ended(None, count).await?;
    let before = ended.last().filter(|_| ended.len() == count).and_then(|last| last.row.finished_at);
    let times: BTreeSet<String> = ended.iter().map(|ended| time(&ended.row.run).to_owned()).collect();
    let mut runs: BTreeMap<RunId, Candidate> =
        ended.into_iter().map(|ended| candidate(ended, disk)).collect();
    for digits in times {
        // Sorts behind every id that begins so.
        let mut filter = RunFilter { before: Some(RunId::new(format!("{digits}~"))), ..RunFilter::default() };
        loop {
            let page = journal.list(filter.clone(), BESIDE).await?;
            let mut beside = page.into_iter().take_while(|row| time(&row.run) == digits).peekable();
            if beside.peek().is_none() {
                break;
            }
            for row in beside {
                filter.before = Some(row.run.clone());
                // One that is new ended later, or has not ended: its family is beyond `before`, whatever its size.
                let (run, candidate) = candidate(SizedRow { row, bytes: 0 }, disk);
                runs.entry(run).or_insert(candidate);
            }
        }
    }
    Ok(Oldest { candidates: with_parents(journal, runs).await?, before })
}

fn candidate(ended: SizedRow, disk: &OnDisk) -> (RunId, Candidate) {
    let SizedRow { row, bytes } = ended;
    let bytes = bytes + disk.of(&row.run);
    (row.run.clone(), Candidate { run: row.run, parent: None, ended_at: row.finished_at, bytes })
}

/// Looks for the parents of runs that may have one: those that share their time with another.
async fn with_parents(
    journal: &dyn Journal,
    mut runs: BTreeMap<RunId, Candidate>,
) -> Result<Vec<Candidate>, EngineError> {
    let mut at_once: BTreeMap<String, u64> = BTreeMap::new();
    for run in runs.keys() {
        *at_once.entry(time(run).to_owned()).or_default() += 1;
    }
    for candidate in runs.values_mut() {
        if at_once.get(time(&candidate.run)).is_some_and(|count| *count > 1) {
            candidate.parent = parent(journal, &candidate.run).await?;
        }
    }
    Ok(runs.into_values().collect())
}

/// The run that a run is a step of. A first event that cannot be read names none: such a run can only be looked at
/// alone, and go alone.
async fn parent(journal: &dyn Journal, run: &RunId) -> Result<Option<RunId>, JournalError> {
    let first = match journal.read(run, 0, 1).await {
        Ok(records) => records.into_iter().next(),
        Err(JournalError::Damaged(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(match first.map(|record| record.event::<Event>(run)) {
        Some(Ok(Event::RunStarted(started))) => started.parent.map(|parent| parent.run),
        _ => None,
    })
}

fn time(run: &RunId) -> &str {
    run.as_str().get(..TIME_DIGITS).unwrap_or(run.as_str())
}
