//! Drives all runs of a home at once, with few at hand: a run that only waits is put aside, as a line of a table, until
//! something is journalled or its time has come. Its lease stays with this process.
//!
//! Level-triggered like the driver: whatever the journal says is unfinished and stands in no line is taken up, whoever
//! began it, and so is what the process that drove it has left.

use super::driver::{Driver, Progress, Rest, Tell, Told};
use super::{Ended, Engine, EngineError, Lease, Leases};
use crate::id::{RunId, StepRef};
use crate::journal::{JournalError, MAX_LIMIT};
use crate::run::Event;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

/// Runs that are being read from the journal at a time: it bounds what a start with very many runs takes.
const LOADING_MAX: usize = 8;
/// News that wait to be heard. Drivers wait behind it.
const NEWS_MAX: usize = 256;
/// Pause between two looks at what is unfinished. A look reads a line of each such run.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How often leases are tried that other processes have: nothing is journalled when such a process dies.
const LEASE_PAUSE: Duration = Duration::from_secs(1);
/// Pauses before a run is tried again that could not go on: the first, doubled each time, and the longest.
const STUCK_PAUSES: [SignedDuration; 2] = [SignedDuration::from_secs(5), SignedDuration::from_mins(5)];

/// Which runs to drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All, also those that begin later, until the dispatcher is dropped.
    Everything,
    /// Those that nobody drives now, once, until each has ended or cannot go on.
    Interrupted,
}

/// What happens to the runs.
#[derive(Debug)]
pub enum News {
    /// A run is taken up.
    Begins {
        /// Which.
        run: RunId,
        /// Its workflow's name.
        workflow: String,
        /// Its last event.
        seq: u64,
        /// What it asks.
        questions: Vec<(StepRef, String)>,
    },
    /// Something was journalled.
    Event {
        /// The run.
        run: RunId,
        /// The event's number.
        seq: u64,
        /// When it happened, in milliseconds since 1970.
        at_ms: i64,
        /// What.
        event: Box<Event>,
    },
    /// A run has ended.
    Ended {
        /// Which.
        run: RunId,
        /// How.
        ended: Ended,
        /// Whether nothing is left of its sandboxes that should not be.
        clean: bool,
    },
    /// A run cannot go on. Nothing of it is lost; everything else goes on.
    Stuck {
        /// Which.
        run: RunId,
        /// Why.
        error: EngineError,
        /// When it is tried again, unless something is journalled before; `None` where it is not.
        again: Option<Timestamp>,
    },
}

/// Drives all runs of a home. Dropping it leaves them as they are.
pub struct Dispatcher {
    engine: Engine,
    leases: Leases,
    scope: Scope,
    table: BTreeMap<RunId, Standing>,
    /// When lines of the table come due.
    due: BTreeSet<(Timestamp, RunId)>,
    /// Lines that are to be driven, in order.
    ready: VecDeque<RunId>,
    driving: JoinSet<Driven>,
    /// Who was driven, and whose news before that may still wait to be heard.
    driven: Option<Driven>,
    loading: Arc<Semaphore>,
    tell: Tell,
    told: mpsc::Receiver<Told>,
    /// News of the dispatcher's own.
    news: VecDeque<News>,
    /// How far changes of the journal were heard.
    stirred: u64,
    /// When to look at what is unfinished; `None` is when something is journalled.
    look_at: Option<Instant>,
    looked: bool,
}

/// What a task that drove a run comes back with.
struct Driven {
    run: RunId,
    lease: Lease,
    progress: Progress,
}

/// Where a run stands.
enum Standing {
    /// It is in `ready`, with what is left of it.
    Ready { lease: Lease, rest: Option<Rest>, tries: u32 },
    /// This task drives it, which has its lease.
    Driven { task: Id, tries: u32 },
    /// It is put aside.
    Rests { lease: Lease, rest: Rest },
    /// It could not go on. Its last event is `None` where its events or its lease are what is wrong.
    Stuck { lease: Option<Lease>, seq: Option<u64>, again: Timestamp, tries: u32 },
    /// Another process has its lease.
    Elsewhere,
    /// It is a step of this run, which drives it.
    StepOf(RunId),
}

/// What the dispatcher waits for.
enum Happened {
    Told(Told),
    Driven(Driven),
    /// A task failed.
    Failed(Id),
    /// There is room for one more to be loaded.
    Room(OwnedSemaphorePermit),
    Stirred(u64),
    /// It is time to look.
    Look,
    /// A line of the table is due.
    Due,
}

impl Dispatcher {
    /// A dispatcher that has not looked yet.
    pub fn new(engine: Engine, leases: Leases, scope: Scope) -> Self {
        let (tell, told) = mpsc::channel(NEWS_MAX);
        Self {
            engine,
            leases,
            scope,
            table: BTreeMap::new(),
            due: BTreeSet::new(),
            ready: VecDeque::new(),
            driving: JoinSet::new(),
            driven: None,
            loading: Arc::new(Semaphore::new(LOADING_MAX)),
            tell,
            told,
            news: VecDeque::new(),
            stirred: 0,
            look_at: Some(Instant::now()),
            looked: false,
        }
    }

    /// The runs that this process drives or has put aside.
    pub fn runs(&self) -> impl Iterator<Item = &RunId> {
        let held = |standing: &Standing| !matches!(standing, Standing::Elsewhere | Standing::StepOf(_));
        self.table.iter().filter(move |(_, standing)| held(standing)).map(|(run, _)| run)
    }

    /// The next news, in the order in which each run has them; `None` once nothing is left to drive, which is never with
    /// [`Scope::Everything`]. Runs are taken up and put aside only while this is awaited. Cancel-safe.
    ///
    /// # Errors
    /// Where the journal cannot say what is unfinished. It may be asked again.
    pub async fn next(&mut self) -> Result<Option<News>, JournalError> {
        loop {
            if let Ok(told) = self.told.try_recv() {
                return Ok(Some(told.into()));
            }
            // What it told is in the channel before it comes back.
            if let Some(driven) = self.driven.take() {
                self.settle(driven);
            }
            if let Some(news) = self.news.pop_front() {
                return Ok(Some(news));
            }
            if self.is_done() {
                return Ok(None);
            }
            match self.happened().await {
                Happened::Told(told) => return Ok(Some(told.into())),
                Happened::Driven(driven) => self.driven = Some(driven),
                Happened::Failed(task) => self.fail(task),
                Happened::Room(permit) => self.begin(permit),
                Happened::Stirred(now) => {
                    self.stirred = now;
                    self.look_soon();
                }
                Happened::Look => self.look().await?,
                Happened::Due => self.wake_due(),
            }
        }
    }

    async fn happened(&mut self) -> Happened {
        let soon = self.look_at.is_some_and(|at| at <= Instant::now() + LOOK_PAUSE);
        let (look_at, due) = (self.look_at, self.due.first().map(|(at, _)| *at));
        tokio::select! {
            Some(told) = self.told.recv() => Happened::Told(told),
            Some(driven) = self.driving.join_next() => match driven {
                Ok(driven) => Happened::Driven(driven),
                Err(error) => Happened::Failed(error.id()),
            },
            Ok(permit) = self.loading.clone().acquire_owned(), if !self.ready.is_empty() => Happened::Room(permit),
            now = self.engine.journal.stirred(self.stirred), if !soon => Happened::Stirred(now),
            () = tokio::time::sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => Happened::Look,
            () = self.engine.clock.wait_until(due.unwrap_or_default()), if due.is_some() => Happened::Due,
        }
    }

    /// Runs that are put aside.
    #[cfg(test)]
    pub(super) fn resting(&self) -> usize {
        self.table.values().filter(|standing| matches!(standing, Standing::Rests { .. })).count()
    }

    fn is_done(&self) -> bool {
        let held = |standing: &Standing| !matches!(standing, Standing::Elsewhere | Standing::StepOf(_));
        self.scope == Scope::Interrupted && self.looked && !self.table.values().any(held)
    }

    fn look_soon(&mut self) {
        let soon = Instant::now() + LOOK_PAUSE;
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    /// Holds the table against what is unfinished.
    async fn look(&mut self) -> Result<(), JournalError> {
        // Asked again later, whatever comes of it.
        self.look_at = Some(Instant::now() + LEASE_PAUSE);
        let unfinished = self.unfinished().await?;
        let gone: Vec<RunId> = self
            .table
            .iter()
            .filter(|(run, standing)| match standing {
                Standing::StepOf(parent) => {
                    !(unfinished.contains_key(*run) && unfinished.contains_key(parent))
                }
                Standing::Driven { .. } => false,
                _ => !unfinished.contains_key(*run),
            })
            .map(|(run, _)| run.clone())
            .collect();
        gone.iter().for_each(|run| self.forget(run));
        for (run, seq) in unfinished {
            match self.table.get(&run) {
                None | Some(Standing::Elsewhere) if self.scope == Scope::Everything || !self.looked => {
                    self.take(run, 0);
                }
                Some(Standing::Rests { rest, .. }) if rest.seq != seq => self.wake(run),
                Some(Standing::Stuck { seq: Some(then), .. }) if *then != seq => self.wake(run),
                _ => {}
            }
        }
        self.looked = true;
        let elsewhere = self.table.values().any(|standing| matches!(standing, Standing::Elsewhere));
        if !(elsewhere && self.scope == Scope::Everything) {
            self.look_at = None;
        }
        Ok(())
    }

    /// All unfinished runs with their last events.
    async fn unfinished(&self) -> Result<BTreeMap<RunId, u64>, JournalError> {
        let mut all = BTreeMap::new();
        loop {
            let after = all.last_key_value().map(|(run, _): (&RunId, _)| run.clone());
            let page = self.engine.journal.unfinished(after, MAX_LIMIT).await?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Takes up a run that stands nowhere, unless another process drives it.
    fn take(&mut self, run: RunId, tries: u32) {
        match self.leases.take(&run) {
            Ok(Some(lease)) => {
                self.table.insert(run.clone(), Standing::Ready { lease, rest: None, tries });
                self.ready.push_back(run);
            }
            Ok(None) => _ = self.table.insert(run, Standing::Elsewhere),
            Err(error) => {
                let error = EngineError::Lease { run: run.clone(), why: error.to_string() };
                self.stick(run, None, None, error, tries);
            }
        }
    }

    /// Tells that a run cannot go on, and tries it again later where later is part of the work.
    fn stick(&mut self, run: RunId, lease: Option<Lease>, seq: Option<u64>, error: EngineError, tries: u32) {
        if self.scope == Scope::Interrupted {
            self.table.remove(&run);
            return self.news.push_back(News::Stuck { run, error, again: None });
        }
        let [first, longest] = STUCK_PAUSES;
        let pause = first.checked_mul(1 << tries.min(16)).unwrap_or(longest).min(longest);
        let again = self.engine.clock.now().saturating_add(pause).unwrap_or(Timestamp::MAX);
        self.due.insert((again, run.clone()));
        self.table.insert(run.clone(), Standing::Stuck { lease, seq, again, tries: tries + 1 });
        self.news.push_back(News::Stuck { run, error, again: Some(again) });
    }

    /// What becomes of a run whose task has failed, and its lease with it: that is a bug in harvest.
    fn fail(&mut self, failed: Id) {
        let of_task = |standing: &Standing| match standing {
            Standing::Driven { task, tries } if *task == failed => Some(*tries),
            _ => None,
        };
        let found = self.table.iter().find_map(|(run, standing)| Some((run.clone(), of_task(standing)?)));
        if let Some((run, tries)) = found {
            let error = EngineError::Failed(run.clone());
            self.stick(run, None, None, error, tries);
        }
    }

    /// Makes a run ready that was put aside or could not go on.
    fn wake(&mut self, run: RunId) {
        let (standing, due) = match self.table.remove(&run) {
            Some(Standing::Rests { lease, rest }) => {
                let due = rest.until;
                (Standing::Ready { lease, rest: Some(rest), tries: 0 }, due)
            }
            Some(Standing::Stuck { lease: Some(lease), again, tries, .. }) => {
                (Standing::Ready { lease, rest: None, tries }, Some(again))
            }
            Some(Standing::Stuck { lease: None, tries, .. }) => return self.take(run, tries),
            Some(other) => return drop(self.table.insert(run, other)),
            None => return,
        };
        if let Some(due) = due {
            self.due.remove(&(due, run.clone()));
        }
        self.table.insert(run.clone(), standing);
        self.ready.push_back(run);
    }

    fn wake_due(&mut self) {
        let now = self.engine.clock.now();
        while let Some((at, run)) = self.due.first().cloned()
            && at <= now
        {
            self.due.remove(&(at, run.clone()));
            self.wake(run);
        }
    }

    fn forget(&mut self, run: &RunId) {
        let due = match self.table.remove(run) {
            Some(Standing::Rests { rest, .. }) => rest.until,
            Some(Standing::Stuck { again, .. }) => Some(again),
            _ => None,
        };
        if let Some(due) = due {
            self.due.remove(&(due, run.clone()));
        }
    }

    /// Has a task drive the first run that is ready.
    fn begin(&mut self, permit: OwnedSemaphorePermit) {
        let Some(run) = self.ready.pop_front() else { return };
        match self.table.remove(&run) {
            Some(Standing::Ready { lease, rest, tries }) => {
                let (engine, tell, id) = (self.engine.clone(), self.tell.clone(), run.clone());
                let task = self.driving.spawn(async move {
                    let progress = Driver::advance(engine, id.clone(), rest, tell, permit).await;
                    Driven { run: id, lease, progress }
                });
                self.table.insert(run, Standing::Driven { task: task.id(), tries });
            }
            Some(other) => _ = self.table.insert(run, other),
            None => {}
        }
    }

    /// Puts a run that was driven where it belongs now.
    fn settle(&mut self, driven: Driven) {
        let Driven { run, lease, progress } = driven;
        let tries = match self.table.remove(&run) {
            Some(Standing::Driven { tries, .. }) => tries,
            _ => 0,
        };
        // What was journalled since it was put aside was not looked at, and its steps are free where it has ended.
        self.look_soon();
        match progress {
            Progress::Rests(rest) => {
                self.due.extend(rest.until.map(|until| (until, run.clone())));
                self.table.insert(run, Standing::Rests { lease, rest });
            }
            Progress::Ended { ended, prepared } => {
                drop(lease);
                self.news.push_back(News::Ended { run, ended, clean: prepared });
            }
            Progress::IsStepOf(parent) => {
                drop(lease);
                self.table.insert(run, Standing::StepOf(parent));
            }
            Progress::Stuck { seq, error } => self.stick(run, Some(lease), seq, error, tries),
        }
    }
}

impl From<Told> for News {
    fn from(told: Told) -> Self {
        match told {
            Told::Begins { run, workflow, seq, questions } => Self::Begins { run, workflow, seq, questions },
            Told::Event { run, seq, at_ms, event } => Self::Event { run, seq, at_ms, event },
        }
    }
}
