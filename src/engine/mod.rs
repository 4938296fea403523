//! Carries runs out: asks the run core what should be happening, makes it happen, journals what became of it. Knows the
//! journal and the executor by their traits alone; never a store, a provider or wasm.

mod clock;
pub mod dispatcher;
mod driver;
pub mod groups;
mod inject;
mod kept;
mod lease;
mod sub_run;
#[cfg(test)]
mod tests;
mod upgrade;

pub use clock::{Clock, SystemClock};
pub use groups::Groups;
pub use kept::KeptOutputs;
pub use lease::{Lease, Leases};

use crate::id::{RunId, StepRef};
use crate::journal::{Journal, JournalError, Record, RunRow};
use crate::run::{Event, Illegal, Outcome, Reuse, Run, RunError, RunStarted};
use crate::step::{Executor, StepError};
use async_trait::async_trait;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::Semaphore;

/// Events read at a time when a run is replayed.
const READ_CHUNK: usize = 1_000;

/// Calls that may be with the host at once, of all runs that this process drives.
const ATTEMPTS_MAX: usize = 64;

/// Drives runs to their end.
#[derive(Clone)]
pub struct Engine {
    journal: Arc<dyn Journal>,
    executor: Arc<dyn Executor>,
    preparer: Arc<dyn Preparer>,
    clock: Arc<dyn Clock>,
    groups: Groups,
    kept: KeptOutputs,
    /// One for each call that may be with the host.
    turns: Arc<Semaphore>,
}

/// Gets ready what a run needs of the world before it begins or goes on: its sandboxes, the values of its secrets.
#[async_trait]
pub trait Preparer: Send + Sync {
    /// Returns what the run's journal records of it.
    ///
    /// # Errors
    /// Where an image, a volume or a secret that the run cannot do without is missing.
    async fn prepare(&self, run: &RunId, started: &RunStarted) -> Result<Surroundings, StepError>;
}

/// What a run finds when it begins.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Names of the secrets that have a value.
    pub secrets: BTreeSet<String>,
    /// What `hash()` of each name or pattern is.
    pub hashes: BTreeMap<String, String>,
}

/// How a driven run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// How.
    pub state: Outcome,
    /// What to exit with.
    pub exit_code: u8,
    /// The workflow's outputs.
    pub outputs: Map<String, Value>,
    /// The root cause where it did not succeed.
    pub error: Option<RunError>,
}

/// Why a run could not be driven on. The run itself is intact: `harvest resume` continues it.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal's events contradict each other, or an event cannot be read.
    #[error("the journal of run {run} cannot be followed: {why}")]
    Broken {
        /// Whose.
        run: RunId,
        /// What is wrong.
        why: String,
    },
    /// The files of its group cannot be used.
    #[error("run {run} cannot get its place in its group: {why}")]
    Groups {
        /// Whose.
        run: RunId,
        /// What is wrong.
        why: String,
    },
    /// What drove it failed.
    #[error("what drove run {0} failed: this is a bug in harvest")]
    Failed(RunId),
    /// Its lease cannot be taken.
    #[error("the lease of run {run} cannot be taken: {why}")]
    Lease {
        /// Whose.
        run: RunId,
        /// What is wrong.
        why: String,
    },
    /// This process lacks what the run needs, or what its new version does.
    #[error("{}", unprepared(run, *.upgraded, error))]
    Unprepared {
        /// Whose.
        run: RunId,
        /// Whether it was upgraded.
        upgraded: bool,
        /// What is missing.
        error: StepError,
    },
    /// No such run.
    #[error("there is no run {0}")]
    NotFound(RunId),
}

impl Engine {
    /// An engine over these. Groups and kept outputs are files below `state`, shared by all processes of a home.
    pub fn new(
        journal: Arc<dyn Journal>,
        executor: Arc<dyn Executor>,
        preparer: Arc<dyn Preparer>,
        clock: Arc<dyn Clock>,
        state: &Path,
    ) -> Self {
        let (groups, kept) = (Groups::new(state.join("groups")), KeptOutputs::new(state.join("outputs")));
        let turns = Arc::new(Semaphore::new(ATTEMPTS_MAX));
        Self { journal, executor, preparer, clock, groups, kept, turns }
    }

    /// Whether the outputs of an equal call are kept and good now.
    pub fn has_kept(&self, reuse: &Reuse) -> bool {
        self.kept.find(reuse, self.clock.now()).is_some()
    }

    /// Journals the beginning of a run. It exists once this returns.
    ///
    /// # Errors
    /// Where the journal fails.
    pub async fn begin(&self, run: &RunId, started: RunStarted) -> Result<(), EngineError> {
        let at = self.clock.now();
        let event = Event::RunStarted(Box::new(started));
        let state = Run::begin(at.as_millisecond(), &event).map_err(|error| broken(run, &error))?;
        let row = row(run, &state, None);
        self.journal.append(run, 0, vec![Record::of(1, at, &event)?], row).await?;
        Ok(())
    }

    /// Drives a run that this process holds the lease of, from wherever its journal stands, to its end.
    ///
    /// # Errors
    /// Where the journal fails or cannot be followed.
    pub async fn drive(&self, run: &RunId) -> Result<Ended, EngineError> {
        driver::Driver::load(self.clone(), run.clone()).await?.drive().await
    }

    /// Asks a run to stop, whichever process drives it. Returns false where it has already ended.
    ///
    /// # Errors
    /// Where the journal fails or has no such run.
    pub async fn cancel(&self, run: &RunId, note: Option<String>) -> Result<bool, EngineError> {
        self.tell(run, |state| {
            state.finished().is_none().then(|| Event::CancelRequested { note: note.clone() })
        })
        .await
    }

    /// Answers a step that waits for approval, whichever process drives the run. Returns false where it does not wait.
    ///
    /// # Errors
    /// Where the journal fails or has no such run.
    pub async fn answer(
        &self,
        run: &RunId,
        at: &StepRef,
        approved: bool,
        note: Option<String>,
        by: Option<String>,
    ) -> Result<bool, EngineError> {
        self.tell(run, |state| {
            let (at, note, by) = (at.clone(), note.clone(), by.clone());
            state.is_asking(&at).then_some(Event::ApprovalGiven { at, approved, note, by })
        })
        .await
    }

    /// Makes a run that ended without success due again: what succeeded stays. Returns false where it has not ended so.
    ///
    /// # Errors
    /// Where the journal fails or has no such run.
    pub async fn retry(&self, run: &RunId, note: Option<String>) -> Result<bool, EngineError> {
        self.tell(run, |state| {
            let failed = matches!(state.finished(), Some((outcome, _)) if outcome != Outcome::Succeeded);
            failed.then(|| Event::RunRetried { note: note.clone() })
        })
        .await
    }

    /// Appends an event to a run that another process may be driving: decided on the newest state.
    async fn tell(
        &self,
        run: &RunId,
        decide: impl Fn(&Run) -> Option<Event> + Send,
    ) -> Result<bool, EngineError> {
        loop {
            let (mut state, seq, _) = self.replay(run).await?;
            let Some(event) = decide(&state) else { return Ok(false) };
            let at = self.clock.now();
            state.apply(at.as_millisecond(), &event).map_err(|error| broken(run, &error))?;
            let row = row(run, &state, None);
            match self.journal.append(run, seq, vec![Record::of(seq + 1, at, &event)?], row).await {
                Ok(()) => return Ok(true),
                Err(JournalError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The state of a run, its last sequence number, and its last event.
    ///
    /// # Errors
    /// Where the journal fails, has no such run, or cannot be followed.
    pub async fn replay(&self, run: &RunId) -> Result<(Run, u64, Event), EngineError> {
        let mut events = self.events(run, 0).await?.into_iter();
        let (mut seq, at_ms, mut last) = events.next().ok_or_else(|| EngineError::NotFound(run.clone()))?;
        let mut state = Run::begin(at_ms, &last).map_err(|error| broken(run, &error))?;
        for (next, at_ms, event) in events {
            state.apply(at_ms, &event).map_err(|error| broken(run, &error))?;
            (seq, last) = (next, event);
        }
        Ok((state, seq, last))
    }

    /// Events after `seq` with their sequence numbers and times.
    ///
    /// # Errors
    /// Where the journal fails or an event cannot be read.
    pub async fn events(&self, run: &RunId, after: u64) -> Result<Vec<(u64, i64, Event)>, EngineError> {
        let mut events: Vec<(u64, i64, Event)> = Vec::new();
        loop {
            let from = events.last().map_or(after, |(seq, ..)| *seq);
            let records = self.journal.read(run, from, READ_CHUNK).await?;
            if records.is_empty() {
                return Ok(events);
            }
            for record in records {
                events.push((record.seq, record.at.as_millisecond(), record.event(run)?));
            }
        }
    }
}

fn unprepared(run: &RunId, upgraded: bool, error: &StepError) -> String {
    if upgraded {
        format!(
            "run {run} was upgraded, and this process cannot go on with it: {error}; `harvest resume` carries it on where that is there"
        )
    } else {
        error.message.clone()
    }
}

/// The listing row that follows from a state.
fn row(run: &RunId, state: &Run, finished_at: Option<jiff::Timestamp>) -> RunRow {
    let started_at = jiff::Timestamp::from_millisecond(state.started_ms()).unwrap_or_default();
    let cost = state.cost();
    RunRow {
        run: run.clone(),
        workflow: state.started().workflow.clone(),
        state: state.state_word().into(),
        started_at,
        finished_at,
        usd: cost.map(|(usd, _)| usd),
        tokens: cost.map(|(_, tokens)| tokens),
    }
}

fn broken(run: &RunId, illegal: &Illegal) -> EngineError {
    EngineError::Broken { run: run.clone(), why: illegal.to_string() }
}
