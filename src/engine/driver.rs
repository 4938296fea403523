//! The loop of one run, with its only `select!`. Level-triggered: it compares what should be happening with what is.

mod places;
mod rest;
mod spending;

use super::groups::Place;
use super::kept::Kept;
use super::{Ended, Engine, EngineError, broken, inject, row, sub_run};
use crate::id::{Digest, RunId, StepRef};
use crate::journal::{JournalError, Record};
use crate::run::{Command, Event, Outcome, Parent, Run, StepState, Timer, exit_code};
use crate::step::{ErrorKind, Expense, Expenses, StepCall, StepError, StepResult};
use crate::workflow::fault::Fault;
use crate::workflow::model::{Action, Call, Mock, SubWorkflow};
use places::Asked;
pub(super) use rest::{Progress, Rest, Tell, Told};
use std::collections::HashMap;
use std::io;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// Attempts of one run that may be with the host at once.
const IN_FLIGHT_MAX: usize = 64;

/// Bytes of one step's outputs as JSON.
const OUTPUTS_MAX: usize = 1 << 20;

/// Times that an event is tried again after another process wrote in between.
const CONFLICTS_MAX: u32 = 100;

pub(super) struct Driver {
    engine: Engine,
    id: RunId,
    run: Run,
    seq: u64,
    last: Event,
    tasks: JoinSet<Done>,
    /// What attempts tell of their expenses, and where it arrives.
    expenses: Expenses,
    ledger: UnboundedReceiver<Expense>,
    /// Attempts that are with the host.
    in_flight: HashMap<Id, Flight>,
    /// Waits for places, by who waits; the run itself is `None`.
    waiting: HashMap<Option<StepRef>, AbortHandle>,
    /// The run's own place in its group.
    place: Option<Place>,
    /// The upgrade that the host is prepared for; `None` where it is not prepared at all yet.
    prepared: Option<u32>,
    /// Whether another process wrote since the commands at hand were derived.
    overtaken: bool,
    /// Hears of every event.
    tell: Option<Tell>,
    /// The right to be among those that are being loaded, until the run first waits.
    loading: Option<OwnedSemaphorePermit>,
}

/// What one look at the run has come to.
enum Turn {
    Ended(Ended),
    /// Something was journalled.
    Moved,
    /// All that should be happening is; the timer that is due first.
    Waits(Option<(Timer, i64)>),
}

/// What a task has come to.
enum Done {
    /// An attempt ended.
    Attempt(StepResult),
    /// There is a place for a step, or for the run.
    Placed(Option<StepRef>, io::Result<Place>),
}

/// An attempt that is with the host.
struct Flight {
    at: StepRef,
    attempt: u32,
    cancel: CancellationToken,
    /// Where its outputs are to be kept for equal calls.
    keep: Option<Digest>,
    _place: Option<Place>,
}

impl Driver {
    /// A run as its journal has it. Whoever calls this has prepared the host for it.
    pub(super) async fn load(engine: Engine, id: RunId) -> Result<Self, EngineError> {
        let (run, seq, last) = engine.replay(&id).await?;
        let (tasks, in_flight, waiting) = (JoinSet::new(), HashMap::new(), HashMap::new());
        let (expenses, ledger) = Expenses::ledger();
        // Whoever prepared the host did so from a state that may be older.
        let (place, prepared, overtaken, tell, loading) = (None, Some(0), false, None, None);
        Ok(Self {
            engine,
            id,
            run,
            seq,
            last,
            tasks,
            expenses,
            ledger,
            in_flight,
            waiting,
            place,
            prepared,
            overtaken,
            tell,
            loading,
        })
    }

    /// Drives it to its end.
    pub(super) async fn drive(mut self) -> Result<Ended, EngineError> {
        self.recover().await?;
        loop {
            match self.turn().await? {
                Turn::Ended(ended) => return Ok(ended),
                Turn::Moved => {}
                Turn::Waits(timer) => self.wait(timer).await?,
            }
        }
    }

    /// Puts right what the process that drove it before has left.
    async fn recover(&mut self) -> Result<(), EngineError> {
        // Nothing is in flight here, so what the journal says is running was lost with its host.
        if self.run.finished().is_none() && self.run.has_running() {
            self.abandon().await?;
            self.record(Event::HostLost).await?;
        }
        if self.run.finished().is_none() && self.run.is_placed() && self.place.is_none() {
            // The place went with the process that held it, and others may have it for long.
            self.loading = None;
            self.hold_place_again().await?;
        }
        Ok(())
    }

    /// Starts and journals what is due now.
    async fn turn(&mut self) -> Result<Turn, EngineError> {
        if let Event::RunFinished { state, exit_code, outputs, error } = &self.last {
            // A run that failed may be retried, and what its steps left is where the next ones go on.
            let keep_files = *state != Outcome::Succeeded;
            self.engine.executor.release(&self.id, keep_files).await;
            let (outputs, error) = (outputs.clone(), error.clone());
            return Ok(Turn::Ended(Ended { state: *state, exit_code: *exit_code, outputs, error }));
        }
        if self.wants_preparing() {
            self.prepare().await?;
        }
        let before = self.seq;
        let timer = self.carry_out().await?;
        Ok(if self.seq == before { Turn::Waits(timer) } else { Turn::Moved })
    }

    /// Asks runs to stop that lost attempts have begun and nothing will go on with: an upgrade came first.
    async fn abandon(&self) -> Result<(), EngineError> {
        let children = self
            .run
            .leaving()
            .flat_map(|(at, attempt)| (1..=attempt).map(move |tries| sub_id(&self.id, at, tries)));
        for child in children.collect::<Vec<_>>() {
            let note = "the run that it is a step of was upgraded".to_owned();
            match self.engine.cancel(&child, Some(note)).await {
                Ok(_) | Err(EngineError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the host lacks what the run's version needs, and nothing of an older version is in its way. A host that
    /// was not prepared at all need not be before something begins.
    fn wants_preparing(&self) -> bool {
        let begins = || self.run.commands().iter().any(|command| matches!(command, Command::Start { .. }));
        self.prepared != Some(self.run.upgrades())
            && !self.run.has_leaving()
            && (self.prepared.is_some() || begins())
    }

    /// Gets ready what the run needs of the host.
    async fn prepare(&mut self) -> Result<(), EngineError> {
        let prepared = self.engine.preparer.prepare(&self.id, self.run.started()).await;
        let upgraded = self.run.upgrades() > 0;
        prepared.map_err(|error| EngineError::Unprepared { run: self.id.clone(), upgraded, error })?;
        self.prepared = Some(self.run.upgrades());
        Ok(())
    }

    /// Starts what should be happening and is not. Returns the timer that is due first.
    async fn carry_out(&mut self) -> Result<Option<(Timer, i64)>, EngineError> {
        let mut first: Option<(Timer, i64)> = None;
        self.waiting.retain(|who, task| {
            let wanted = match who {
                Some(at) => self.run.is_queued(at),
                None => self.run.is_in_line(),
            };
            if !wanted {
                task.abort();
            }
            wanted
        });
        self.overtaken = false;
        for command in self.run.commands() {
            if self.overtaken {
                // What is to be done now may be something else.
                return Ok(None);
            }
            match command {
                Command::Admit => self.admit().await?,
                Command::Start { at, attempt } => {
                    if self.in_flight.len() < IN_FLIGHT_MAX && !self.waiting.contains_key(&Some(at.clone())) {
                        self.start(at, attempt).await?;
                    }
                }
                Command::Skip { at, reason } => self.record(Event::StepSkipped { at, reason }).await?,
                Command::Stop { at, attempt } => {
                    match self.in_flight.values().find(|flight| flight.at == at && flight.attempt == attempt)
                    {
                        Some(flight) => flight.cancel.cancel(),
                        // An upgrade came between its beginning and what was to follow.
                        None => {
                            let error =
                                StepError::new(ErrorKind::CANCELLED, "it was stopped before it did anything");
                            self.record(Event::StepFailed { at, attempt, error, jitter: 0 }).await?;
                        }
                    }
                }
                Command::Wait { timer, until_ms } => {
                    if first.as_ref().is_none_or(|(_, earliest)| until_ms < *earliest) {
                        first = Some((timer, until_ms));
                    }
                }
                Command::Finish(finish) => {
                    let code = exit_code::exit_code(finish.state, finish.error.as_ref());
                    let (outputs, error) = (finish.outputs, finish.error);
                    let event = Event::RunFinished { state: finish.state, exit_code: code, outputs, error };
                    self.record(event).await?;
                }
            }
        }
        Ok(first)
    }

    /// Begins an attempt, unless kept outputs serve or a place in a group must be waited for.
    async fn start(&mut self, at: StepRef, attempt: u32) -> Result<(), EngineError> {
        let reuse = match self.run.reuse(&at) {
            Ok(reuse) => reuse,
            Err(error) => return self.refuse(at, attempt, error).await,
        };
        // An injected fault wants an attempt to strike.
        if let Some(reuse) = reuse.as_ref().filter(|_| self.run.injected(&at, attempt).is_none())
            && let Some(kept) = self.engine.kept.find(reuse, self.engine.clock.now())
        {
            let Kept { run: source, outputs, .. } = kept;
            return self.record(Event::StepReused { at, outputs, source }).await;
        }
        let asked = match self.run.membership(&at) {
            Ok(member) => self.ask(Some(&at), member).await?,
            Err(error) => Asked::No(error),
        };
        match asked {
            Asked::Yes(place) => self.begin(at, attempt, place, reuse.map(|reuse| reuse.key)).await,
            Asked::Later => Ok(()),
            Asked::No(error) => self.refuse(at, attempt, error).await,
        }
    }

    /// Journals an attempt that fails before anything is done.
    async fn refuse(&mut self, at: StepRef, attempt: u32, error: StepError) -> Result<(), EngineError> {
        self.record(Event::StepStarted { at: at.clone(), attempt, idempotency_key: None }).await?;
        self.fail(at, attempt, error).await
    }

    async fn fail(&mut self, at: StepRef, attempt: u32, error: StepError) -> Result<(), EngineError> {
        if !self.run.is_running(&at, attempt) {
            return Ok(());
        }
        self.record(Event::StepFailed { at, attempt, error, jitter: jitter() }).await
    }

    async fn begin(
        &mut self,
        at: StepRef,
        attempt: u32,
        place: Option<Place>,
        keep: Option<Digest>,
    ) -> Result<(), EngineError> {
        let key = match self.run.idempotency_key(&at) {
            Ok(key) => key,
            Err(error) => return self.refuse(at, attempt, error).await,
        };
        let idempotency_key = key.clone();
        self.record(Event::StepStarted { at: at.clone(), attempt, idempotency_key }).await?;
        if !self.run.is_running(&at, attempt) {
            return Ok(());
        }
        let Some(action) = self.run.definition(&at.step).map(|step| step.action.clone()) else {
            return Ok(());
        };
        let fault = self.run.injected(&at, attempt).cloned();
        match &fault {
            Some(Fault::Crash) => inject::die(&at, attempt, "before"),
            Some(Fault::Error(error)) => return self.fail(at, attempt, error.clone()).await,
            _ => {}
        }
        let cancel = CancellationToken::new();
        let mocked = self.run.mock(&at).cloned();
        let done = match action {
            Action::Call(_) | Action::Workflow(_) | Action::Approve(_) if mocked.is_some() => {
                Ok(self.answer(mocked, fault, cancel.clone()))
            }
            Action::ForEach(each) => {
                return match self.run.loop_items(&at, &each) {
                    Ok(items) => self.record(Event::LoopStarted { step: at.step, items }).await,
                    Err(error) => self.fail(at, attempt, error).await,
                };
            }
            Action::Approve(asked) => {
                return match self.run.question(&at, &asked.message) {
                    Ok(message) => self.record(Event::ApprovalRequested { at, message }).await,
                    Err(error) => self.fail(at, attempt, error).await,
                };
            }
            Action::Call(call) => {
                let call = self.step_call(&at, attempt, &call, key);
                call.map(|call| self.call(call, fault, cancel.clone()))
            }
            Action::Workflow(workflow) => self.sub_run(&at, attempt, &workflow, fault, cancel.clone()),
        };
        match done {
            Ok(task) => {
                self.in_flight.insert(task, Flight { at, attempt, cancel, keep, _place: place });
                Ok(())
            }
            Err(error) => self.fail(at, attempt, error).await,
        }
    }

    /// An attempt that only answers what stands in for it.
    fn answer(&mut self, mocked: Option<Mock>, fault: Option<Fault>, cancel: CancellationToken) -> Id {
        let result = match mocked {
            Some(Mock::Outputs(outputs)) => Ok(outputs),
            Some(Mock::Error(error)) => Err(error),
            None => Ok(Default::default()),
        };
        let clock = self.engine.clock.clone();
        let answer = async move {
            match fault {
                Some(Fault::Slow(ms)) => inject::delay(&*clock, ms, &mut None, None, &cancel).await?,
                Some(Fault::Lost) => return Err(StepError::new(ErrorKind::SANDBOX_LOST, "injected")),
                _ => {}
            }
            result
        };
        self.tasks.spawn(async move { Done::Attempt(answer.await) }).id()
    }

    fn step_call(
        &self,
        at: &StepRef,
        attempt: u32,
        call: &Call,
        idempotency_key: Option<String>,
    ) -> Result<StepCall, StepError> {
        Ok(StepCall {
            run: self.id.clone(),
            workflow: self.run.started().workflow.clone(),
            at: at.clone(),
            attempt,
            idempotency_key,
            component: call.digest,
            function: call.function.clone(),
            arguments: self.run.arguments(at)?,
            sandboxes: call.sandboxes.clone(),
            network: call.network.clone(),
            secrets: call.secrets.clone(),
            permissions: call.permissions.clone(),
            timeout: call.attempts.timeout_ms.map(Duration::from_millis),
            idle_timeout: call.attempts.idle_timeout_ms.map(Duration::from_millis),
            lose_sandboxes: false,
            spent_before: self.run.spent().micro_usd,
            expenses: self.expenses.clone(),
        })
    }

    fn call(&mut self, mut call: StepCall, fault: Option<Fault>, cancel: CancellationToken) -> Id {
        let engine = self.engine.clone();
        let attempt = async move {
            // Only calls take turns: a sub-workflow that held one could keep its own steps from theirs.
            let _turn = tokio::select! {
                // An attempt that need not wait for its turn is made, and told to stop by whoever makes it.
                biased;
                turn = engine.turns.acquire() => turn,
                () = cancel.cancelled() => {
                    return Err(StepError::new(ErrorKind::CANCELLED, "it was stopped before it began"));
                }
            };
            call.lose_sandboxes = matches!(fault, Some(Fault::Lost));
            if let Some(Fault::Slow(ms)) = fault {
                inject::delay(&*engine.clock, ms, &mut call.timeout, call.idle_timeout, &cancel).await?;
            }
            engine.executor.execute(call, cancel).await
        };
        self.tasks.spawn(async move { Done::Attempt(attempt.await) }).id()
    }

    fn sub_run(
        &mut self,
        at: &StepRef,
        attempt: u32,
        workflow: &SubWorkflow,
        fault: Option<Fault>,
        cancel: CancellationToken,
    ) -> Result<Id, StepError> {
        // Attempts lost with their host go on with the run that the lost one started.
        let tries = self.run.state(at).map_or(0, |state| state.counted_tries());
        let mut request = sub_run::Request {
            id: sub_id(&self.id, at, tries),
            parent: Parent { run: self.id.clone(), at: at.clone() },
            definition: self.within_budget(&workflow.definition)?,
            file: workflow.uses.clone(),
            base: self.run.started().file.clone(),
            inputs: self.run.arguments(at)?,
            author: self.run.started().run.get("author").cloned(),
            mocks: self.run.mocks_inside(at),
            provider: self.run.started().provider.clone(),
            timeout: workflow.attempts.timeout_ms.map(Duration::from_millis),
        };
        let engine = self.engine.clone();
        let (id, at, expenses) = (request.id.clone(), at.clone(), self.expenses.clone());
        let told = self.run.state(&at).map(StepState::spent_by_lost).unwrap_or_default();
        let task = async move {
            if let Some(Fault::Slow(ms)) = fault {
                inject::delay(&*engine.clock, ms, &mut request.timeout, None, &cancel).await?;
            }
            let result = sub_run::run(engine.clone(), request, cancel).await;
            if let Ok((state, ..)) = engine.replay(&id).await {
                expenses.tell(&at, attempt, state.spent().beyond(told));
            }
            result
        };
        Ok(self.tasks.spawn(async move { Done::Attempt(task.await) }).id())
    }

    /// Waits for the first thing to happen and journals it.
    async fn wait(&mut self, timer: Option<(Timer, i64)>) -> Result<(), EngineError> {
        self.loading = None;
        let due = timer.as_ref().and_then(|(_, until_ms)| jiff::Timestamp::from_millisecond(*until_ms).ok());
        let clock = self.engine.clock.clone();
        let journal = self.engine.journal.clone();
        let elapsed = async {
            match due {
                Some(due) => clock.wait_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(ended) = self.tasks.join_next_with_id() => match ended {
                Ok((id, Done::Attempt(result))) => self.end(id, result).await,
                Ok((id, Done::Placed(who, place))) => self.placed(id, who, place).await,
                // A wait that nobody wanted any more.
                Err(error) if error.is_cancelled() => Ok(()),
                // A panic in a step's own task is a bug of the host; the run goes on without it.
                Err(error) => {
                    let message = "the host failed while it ran the step: this is a bug in harvest";
                    self.end(error.id(), Err(StepError::new(ErrorKind::TRAPPED, message))).await
                }
            },
            Some(expense) = self.ledger.recv() => self.book(expense).await,
            () = journal.changed(&self.id, self.seq) => self.absorb().await,
            () = elapsed => match timer {
                Some((timer, _)) => self.record(Event::TimerElapsed { timer }).await,
                None => Ok(()),
            },
        }
    }

    async fn end(&mut self, id: Id, result: StepResult) -> Result<(), EngineError> {
        // An attempt tells of all its expenses before it ends.
        self.book_all().await?;
        let Some(Flight { at, attempt, keep, .. }) = self.in_flight.remove(&id) else { return Ok(()) };
        if let Some(Fault::CrashAfter) = self.run.injected(&at, attempt) {
            inject::die(&at, attempt, "after");
        }
        let result = result.and_then(|outputs| {
            let size = serde_json::to_vec(&outputs).map_or(usize::MAX, |text| text.len());
            let message = format!(
                "its outputs are larger than {} KiB; keep large data in files or artifacts",
                OUTPUTS_MAX >> 10
            );
            if size > OUTPUTS_MAX { Err(StepError::new(ErrorKind::TOO_LARGE, message)) } else { Ok(outputs) }
        });
        match result {
            Ok(outputs) => {
                if let Some(key) = keep {
                    let kept =
                        Kept { at: self.engine.clock.now(), run: self.id.clone(), outputs: outputs.clone() };
                    if let Err(error) = self.engine.kept.keep(&key, &kept) {
                        tracing::warn!("the outputs of step {at} are not kept for equal calls: {error}");
                    }
                }
                self.record(Event::StepSucceeded { at, attempt, outputs }).await
            }
            Err(error) => self.record(Event::StepFailed { at, attempt, error, jitter: jitter() }).await,
        }
    }

    /// Applies what other processes wrote (a cancel, for instance).
    async fn absorb(&mut self) -> Result<(), EngineError> {
        for (seq, at_ms, event) in self.engine.events(&self.id, self.seq).await? {
            self.run.apply(at_ms, &event).map_err(|error| broken(&self.id, &error))?;
            self.tell(seq, at_ms, &event).await;
            (self.seq, self.last) = (seq, event);
        }
        Ok(())
    }

    /// Journals an event and applies it, in that order as far as anyone can see: nothing acts on the state in between.
    /// Where another process wrote first, its events are applied before, and an event they made meaningless is dropped.
    async fn record(&mut self, event: Event) -> Result<(), EngineError> {
        for conflicts in 0..CONFLICTS_MAX {
            let at = self.engine.clock.now();
            let mut next = None;
            if let Err(error) = self.run.apply(at.as_millisecond(), &event) {
                return if conflicts > 0 { Ok(()) } else { Err(broken(&self.id, &error)) };
            }
            if self.run.finished().is_some() {
                next = Some(at);
            }
            let row = row(&self.id, &self.run, next);
            let records = vec![Record::of(self.seq + 1, at, &event)?];
            match self.engine.journal.append(&self.id, self.seq, records, row).await {
                Ok(()) => {
                    self.seq += 1;
                    self.tell(self.seq, at.as_millisecond(), &event).await;
                    self.last = event;
                    return Ok(());
                }
                Err(JournalError::Conflict { .. }) => {
                    let (version, seen) = (self.run.upgrades(), self.seq);
                    (self.run, self.seq, self.last) = self.engine.replay(&self.id).await?;
                    self.tell_after(seen).await?;
                    self.overtaken = true;
                    // What was meant to begin was meant by the old version.
                    if self.run.upgrades() != version && !is_outcome(&event) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::Broken { run: self.id.clone(), why: "another process keeps writing to it".into() })
    }
}

/// The run that a step starts where it is another workflow.
fn sub_id(run: &RunId, at: &StepRef, tries: u32) -> RunId {
    run.child(&format!("{at}#{tries}"))
}

/// Whether an event says what became of an attempt, whatever version of the file the run follows.
fn is_outcome(event: &Event) -> bool {
    use Event::{ApprovalRequested, HostLost, LoopStarted, StepFailed, StepSpent, StepSucceeded};
    matches!(
        event,
        StepSucceeded { .. }
            | StepFailed { .. }
            | StepSpent { .. }
            | LoopStarted { .. }
            | ApprovalRequested { .. }
            | HostLost
    )
}

/// A share of the backoff delay in thousandths. Its quality does not matter, only that runs differ.
fn jitter() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0) % 1001) as u16
}
