//! The state of one run: the fold of its journal. Nothing changes it but [`Run::apply`].

use super::event::{Event, LoopItem, Outcome, RunError, RunStarted};
use super::loops::{ITEMS_MAX, Item, Loop};
use super::phase::{Phase, StepState};
use super::planted::{Planted, planted};
use super::upgrade::unused;
use super::view;
use crate::id::{StepId, StepRef};
use crate::step::{ErrorKind, Spent, StepError};
use crate::workflow::Workflow;
use crate::workflow::model::{Action, Step};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

/// Times that an attempt may be lost with its host before the step counts as failed.
pub(super) const HOST_LOST_MAX: u32 = 20;

/// State of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub(super) started: Arc<RunStarted>,
    started_ms: i64,
    pub(super) admission: Admission,
    pub(super) steps: BTreeMap<StepId, StepState>,
    /// Loops that have begun.
    pub(super) loops: BTreeMap<StepId, Loop>,
    /// Step of a loop -> the loop.
    pub(super) loop_of: BTreeMap<StepId, StepId>,
    /// What expressions see as `steps`.
    pub(super) view: Map<String, Value>,
    pub(super) stopping: Option<RunError>,
    pub(super) finally_since_ms: Option<i64>,
    pub(super) finally_expired: bool,
    /// What steps say of themselves that nobody metered: dollars and tokens.
    pub(super) reported: Option<(f64, u64)>,
    /// What was metered.
    pub(super) spent: Spent,
    pub(super) finished: Option<(Outcome, u8)>,
    /// Attempts that an upgrade wants no more, and that have not ended. Nothing begins before they have.
    pub(super) leaving: BTreeMap<StepRef, u32>,
    /// Steps that are no part of the run any more, so that their attempts are never numbered again.
    pub(super) retired: BTreeMap<StepRef, StepState>,
    /// Events so far.
    events: u64,
    pub(super) upgrades: u32,
}

/// Whether the run has its place in its group. A run without a group has one from the start.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Admission {
    /// It is to ask for one.
    Due,
    /// It waits.
    Queued { since_ms: i64 },
    /// It has one.
    Held { since_ms: i64 },
}

/// The journal holds an event that its prefix does not allow.
#[derive(Debug, Error, PartialEq)]
#[error("the event {event} is not allowed here: {why}")]
pub struct Illegal {
    event: String,
    why: &'static str,
}

impl Run {
    /// The run that a first event begins.
    ///
    /// # Errors
    /// Where the event is not `RunStarted`.
    pub fn begin(at_ms: i64, event: &Event) -> Result<Self, Illegal> {
        let Event::RunStarted(started) = event else {
            return Err(illegal(event, "a run begins with run_started"));
        };
        let workflow = &started.definition;
        let steps = workflow.steps.keys().chain(workflow.finally.keys());
        let mut run = Self {
            started: Arc::new((**started).clone()),
            started_ms: at_ms,
            admission: match workflow.concurrency {
                Some(_) => Admission::Due,
                None => Admission::Held { since_ms: at_ms },
            },
            steps: steps.map(|id| (id.clone(), StepState::new())).collect(),
            loops: BTreeMap::new(),
            loop_of: loop_of(workflow),
            view: Map::new(),
            stopping: None,
            finally_since_ms: None,
            finally_expired: false,
            reported: None,
            spent: Spent::default(),
            finished: None,
            leaving: BTreeMap::new(),
            retired: BTreeMap::new(),
            events: 1,
            upgrades: 0,
        };
        for (id, state) in &run.steps {
            view::show(&mut run.view, id, state, None);
        }
        run.turn(at_ms);
        Ok(run)
    }

    /// Rebuilds the state from a journal of (milliseconds since 1970, event).
    ///
    /// # Errors
    /// Where an event is not allowed by the ones before it.
    pub fn replay<'a>(journal: impl IntoIterator<Item = (i64, &'a Event)>) -> Result<Self, Illegal> {
        let mut journal = journal.into_iter();
        let Some((at_ms, first)) = journal.next() else {
            return Err(Illegal { event: "(none)".into(), why: "the journal is empty" });
        };
        let mut run = Self::begin(at_ms, first)?;
        for (at_ms, event) in journal {
            if planted(Planted::ReplayForgetsSkips) && matches!(event, Event::StepSkipped { .. }) {
                continue;
            }
            run.apply(at_ms, event)?;
        }
        Ok(run)
    }

    /// Folds one event in. A refused event changes nothing.
    ///
    /// # Errors
    /// Where the state does not allow the event.
    pub fn apply(&mut self, at_ms: i64, event: &Event) -> Result<(), Illegal> {
        self.fold(at_ms, event)?;
        self.events += 1;
        Ok(())
    }

    fn fold(&mut self, at_ms: i64, event: &Event) -> Result<(), Illegal> {
        let refuse = |why| Err(illegal(event, why));
        let reopens = matches!(event, Event::RunRetried { .. } | Event::RunUpgraded(_));
        if self.finished.is_some() && !reopens {
            return refuse("the run has ended");
        }
        match event {
            Event::RunStarted(_) => return refuse("the run has started"),
            Event::RunQueued { .. } => {
                if self.admission != Admission::Due || self.stopping.is_some() {
                    return refuse("the run is not to wait for a place");
                }
                self.admission = Admission::Queued { since_ms: at_ms };
            }
            Event::RunAdmitted => {
                if self.is_admitted() || self.stopping.is_some() {
                    return refuse("the run is not to be admitted");
                }
                self.admission = Admission::Held { since_ms: at_ms };
            }
            Event::RunRefused { error } => {
                if self.is_admitted() {
                    return refuse("the run has its place");
                }
                self.stop(at_ms, run_error(error));
            }
            Event::StepQueued { at, attempt, .. } => {
                let in_group = self.definition(&at.step).is_some_and(|step| step.concurrency().is_some());
                if !in_group || !self.may_start(at, *attempt) || self.is_queued(at) {
                    return refuse("the step is not to wait for a place");
                }
                self.settle(at, Phase::Queued { attempt: *attempt, since_ms: at_ms }, None);
            }
            Event::StepStarted { at, attempt, idempotency_key } => {
                if !self.may_start(at, *attempt) {
                    return refuse("this attempt is not due");
                }
                let Some(state) = self.state_mut(at) else { return refuse("no such step") };
                state.begin(*attempt, at_ms, idempotency_key.clone());
            }
            Event::StepSpent { at, attempt, spent } => {
                if !self.spend(at, *attempt, *spent) {
                    return refuse("this attempt is not running");
                }
            }
            Event::StepSucceeded { at, attempt, outputs } if self.is_leaving(at, *attempt) => {
                self.account(at, outputs);
                self.leave(at, &unused(), at_ms);
            }
            Event::StepFailed { at, attempt, error, .. } if self.is_leaving(at, *attempt) => {
                self.leave(at, error, at_ms);
            }
            Event::StepSucceeded { at, attempt, outputs } => {
                if !self.is_running(at, *attempt) {
                    return refuse("this attempt is not running");
                }
                let returns = |step: &Step| match &step.action {
                    Action::Call(_) | Action::Workflow(_) => true,
                    // A question only has outputs at once where nobody is asked.
                    Action::Approve(_) => self.mock(at).is_some(),
                    Action::ForEach(_) => false,
                };
                if !self.definition(&at.step).is_some_and(returns) {
                    return refuse("this step has no outputs of its own");
                }
                self.account(at, outputs);
                self.succeed(at, outputs, at_ms);
            }
            Event::StepReused { at, outputs, .. } => {
                let cached =
                    self.definition(&at.step).and_then(Step::call).is_some_and(|call| call.cache.is_some());
                let due = matches!(self.state(at).map(|state| &state.phase), Some(Phase::Waiting { attempt }) if self.may_start(at, *attempt));
                if !cached || !due {
                    return refuse("no outputs are to be reused here");
                }
                let outputs = Some(outputs).filter(|_| !planted(Planted::ReusedOutputsLost));
                self.settle(at, Phase::Succeeded, outputs);
            }
            Event::StepFailed { at, attempt, error, jitter } => {
                if !self.is_running(at, *attempt) {
                    return refuse("this attempt is not running");
                }
                self.fail(at, error, *jitter, at_ms);
            }
            Event::StepSkipped { at, reason } => {
                if self.skip_reason(at).as_ref() != Some(reason) {
                    return refuse("the step is not to be skipped");
                }
                self.settle(at, Phase::Skipped { reason: reason.clone() }, None);
            }
            Event::LoopStarted { step, items } => return self.start_loop(event, step, items, at_ms),
            Event::ApprovalRequested { at, message } => {
                let asks =
                    matches!(self.definition(&at.step).map(|step| &step.action), Some(Action::Approve(_)));
                let running = matches!(self.state(at).map(|state| &state.phase), Some(Phase::Running { .. }));
                if !asks || !running {
                    return refuse("the step asks nothing now");
                }
                self.settle(at, Phase::Asking { since_ms: at_ms, message: message.clone() }, None);
            }
            Event::ApprovalGiven { at, approved, note, by } => {
                if !self.is_asking(at) {
                    return refuse("the step waits for no answer");
                }
                self.answer(at, *approved, note.as_deref(), by.as_deref(), at_ms);
            }
            Event::TimerElapsed { timer } => self.elapse(event, timer, at_ms)?,
            Event::CancelRequested { .. } if planted(Planted::CancelIgnored) => {}
            Event::CancelRequested { note } => {
                let message = note.clone().unwrap_or_else(|| "cancelled on request".into());
                self.stop(at_ms, run_error(&StepError::new(ErrorKind::CANCELLED, message)));
            }
            Event::HostLost => self.lose_host(at_ms),
            Event::RunFinished { state, exit_code, .. } => {
                // Outputs that cannot be computed turn success into failure; nothing else may differ.
                let ending = self.ending();
                if ending != Some(*state) && (ending, *state) != (Some(Outcome::Succeeded), Outcome::Failed) {
                    return refuse("the run is not over");
                }
                self.finished = Some((*state, *exit_code));
            }
            Event::RunRetried { .. } => {
                if !matches!(self.finished, Some((outcome, _)) if outcome != Outcome::Succeeded) {
                    return refuse("only a run that ended without success can be retried");
                }
                self.renew(at_ms);
            }
            Event::RunUpgraded(upgrade) => self.move_on(event, upgrade, at_ms)?,
        }
        self.turn(at_ms);
        Ok(())
    }

    fn start_loop(
        &mut self,
        event: &Event,
        step: &StepId,
        items: &[LoopItem],
        at_ms: i64,
    ) -> Result<(), Illegal> {
        let refuse = |why| Err(illegal(event, why));
        let loops = matches!(self.definition(step).map(|step| &step.action), Some(Action::ForEach(_)));
        let running = matches!(self.steps.get(step).map(|state| &state.phase), Some(Phase::Running { .. }));
        if !loops || !running || items.len() > ITEMS_MAX {
            return refuse("the step is no loop that begins");
        }
        let Some(mut begun) = Loop::new(items, self.loops.get(step)) else {
            return refuse("two items have the same key");
        };
        if let Some(earlier) = self.loops.remove(step) {
            self.retire_items(earlier.into_items(), &begun);
        }
        self.recall(step, &mut begun);
        self.loops.insert(step.clone(), begun);
        self.settle(&step.clone().into(), Phase::Open, None);
        self.turn(at_ms);
        Ok(())
    }

    /// How the run began.
    pub fn started(&self) -> &RunStarted {
        &self.started
    }

    /// The workflow.
    pub fn workflow(&self) -> &Workflow {
        &self.started.definition
    }

    /// When it began, in milliseconds since 1970.
    pub fn started_ms(&self) -> i64 {
        self.started_ms
    }

    /// Where a step stands; `None` too where its item has not begun.
    pub fn state(&self, at: &StepRef) -> Option<&StepState> {
        match &at.item {
            None => self.steps.get(&at.step),
            Some(key) => self.item(&at.step, key)?.steps.get(&at.step),
        }
    }

    /// Where a step stands that is done once.
    pub fn step(&self, id: &StepId) -> Option<&StepState> {
        self.steps.get(id)
    }

    /// The items of a loop that has begun.
    pub fn items(&self, step: &StepId) -> Option<&[Item]> {
        self.loops.get(step).map(Loop::items)
    }

    /// The loop that a step is part of.
    pub fn loop_around(&self, step: &StepId) -> Option<&StepId> {
        self.loop_of.get(step)
    }

    /// The outputs of a step that succeeded.
    pub fn outputs_of(&self, id: &StepId) -> Option<&Value> {
        let state = self.steps.get(id)?;
        (state.phase == Phase::Succeeded).then(|| &self.view[id.as_str()])
    }

    /// How the run ended and its exit code, once it has.
    pub fn finished(&self) -> Option<(Outcome, u8)> {
        self.finished
    }

    /// The root cause of what will be, or was, an end without success.
    pub fn error(&self) -> Option<&RunError> {
        self.stopping.as_ref()
    }

    /// The word for listings: `queued`, `running`, `waiting`, or how it ended.
    pub fn state_word(&self) -> &'static str {
        if let Some((outcome, _)) = self.finished {
            return outcome.as_str();
        }
        if !self.is_admitted() {
            return "queued";
        }
        if self.has_leaving() {
            return "running";
        }
        let mut waiting = false;
        for (_, state) in self.active() {
            match state.phase {
                Phase::Running { .. } => return "running",
                Phase::Backoff { .. } | Phase::Asking { .. } | Phase::Queued { .. } => waiting = true,
                _ => {}
            }
        }
        if waiting { "waiting" } else { "running" }
    }

    /// Whether an attempt is with a host.
    pub fn has_running(&self) -> bool {
        !self.leaving.is_empty()
            || self.active().any(|(_, state)| matches!(state.phase, Phase::Running { .. }))
    }

    /// Whether this attempt is with a host.
    pub fn is_running(&self, at: &StepRef, attempt: u32) -> bool {
        self.state(at).is_some_and(|state| state.phase == Phase::Running { attempt })
    }

    /// How many events the state was folded from.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How often the run was upgraded.
    pub fn upgrades(&self) -> u32 {
        self.upgrades
    }

    /// Attempts that an upgrade has no use for, and that have not ended.
    pub fn leaving(&self) -> impl Iterator<Item = (&StepRef, u32)> {
        self.leaving.iter().map(|(at, attempt)| (at, *attempt))
    }

    /// Whether there are such attempts.
    pub fn has_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Whether the step waits for an answer.
    pub fn is_asking(&self, at: &StepRef) -> bool {
        self.state(at).is_some_and(|state| matches!(state.phase, Phase::Asking { .. }))
    }

    /// Steps that wait for an answer, with what they ask.
    pub fn questions(&self) -> Vec<(StepRef, &str)> {
        let asks = |(at, state): (StepRef, &'_ StepState)| match &state.phase {
            Phase::Asking { .. } => Some(at),
            _ => None,
        };
        let asking: Vec<StepRef> = self.active().filter_map(asks).collect();
        let message = |at: StepRef| match &self.state(&at)?.phase {
            Phase::Asking { message, .. } => Some((at, message.as_str())),
            _ => None,
        };
        asking.into_iter().filter_map(message).collect()
    }

    /// A step's definition, wherever in the workflow it stands.
    pub fn definition(&self, id: &StepId) -> Option<&Step> {
        let workflow = self.workflow();
        let outer = |id: &StepId| workflow.steps.get(id).or_else(|| workflow.finally.get(id));
        match self.loop_of.get(id) {
            Some(each) => outer(each)?.body()?.get(id),
            None => outer(id),
        }
    }

    /// Steps that have begun or may begin now, with where they stand: those of the section at work, and those of items
    /// under way.
    pub(super) fn active(&self) -> impl Iterator<Item = (StepRef, &StepState)> {
        let section = if self.in_finally() { &self.workflow().finally } else { &self.workflow().steps };
        section.keys().flat_map(|id| {
            let own = (StepRef::from(id.clone()), &self.steps[id]);
            let items = self.loops.get(id).into_iter().flat_map(Loop::open);
            let inner = items.flat_map(|item| {
                item.steps.iter().map(|(step, state)| (StepRef::of_item(step.clone(), &item.key), state))
            });
            std::iter::once(own).chain(inner)
        })
    }

    pub(super) fn item(&self, step: &StepId, key: &str) -> Option<&Item> {
        self.loops.get(self.loop_of.get(step)?)?.item(key)
    }

    pub(super) fn state_mut(&mut self, at: &StepRef) -> Option<&mut StepState> {
        match &at.item {
            None => self.steps.get_mut(&at.step),
            Some(key) => {
                self.loops.get_mut(self.loop_of.get(&at.step)?)?.item_mut(key)?.steps.get_mut(&at.step)
            }
        }
    }

    /// Whether the run has its place in its group, or needs none.
    pub fn is_admitted(&self) -> bool {
        matches!(self.admission, Admission::Held { .. }) || planted(Planted::StartsUnadmitted)
    }

    /// Whether the run holds a place in a group, as far as the journal says.
    pub fn is_placed(&self) -> bool {
        self.is_admitted() && self.workflow().concurrency.is_some()
    }

    /// Whether the run is to ask for a place in its group.
    pub fn is_due(&self) -> bool {
        self.admission == Admission::Due
    }

    /// Whether the run waits for a place in its group.
    pub fn is_in_line(&self) -> bool {
        matches!(self.admission, Admission::Queued { .. })
    }

    /// Whether the step waits for a place in its group.
    pub fn is_queued(&self, at: &StepRef) -> bool {
        self.queued_attempt(at).is_some()
    }

    /// The attempt that waits for a place in its group.
    pub fn queued_attempt(&self, at: &StepRef) -> Option<u32> {
        match self.state(at)?.phase {
            Phase::Queued { attempt, .. } => Some(attempt),
            _ => None,
        }
    }

    /// The attempt that is due and waits for nothing yet.
    pub fn due_attempt(&self, at: &StepRef) -> Option<u32> {
        match self.state(at)?.phase {
            Phase::Waiting { attempt } => Some(attempt),
            _ => None,
        }
    }

    /// Whether the first section is over and `finally` may run.
    pub(super) fn in_finally(&self) -> bool {
        self.finally_since_ms.is_some()
    }

    /// How the run would end now, if it is over.
    pub(super) fn ending(&self) -> Option<Outcome> {
        let over = if self.is_admitted() {
            let left_out = self.stopping.is_some() && planted(Planted::FinallyLeftOut);
            self.in_finally() && (self.section_over(true) || left_out) && self.leaving.is_empty()
        } else {
            // Nothing has begun, so there is nothing for `finally` to see to.
            self.stopping.is_some()
        };
        over.then(|| self.outcome_so_far())
    }

    /// How the run would end if nothing more went wrong.
    pub(super) fn outcome_so_far(&self) -> Outcome {
        match &self.stopping {
            None => Outcome::Succeeded,
            Some(RunError { error, .. }) if error.kind == ErrorKind::CANCELLED => Outcome::Cancelled,
            Some(RunError { error, .. })
                if error.kind == ErrorKind::TIMED_OUT || error.kind == ErrorKind::IDLE_TIMED_OUT =>
            {
                Outcome::TimedOut
            }
            Some(_) => Outcome::Failed,
        }
    }

    /// Whether the step belongs to `finally`.
    pub(super) fn is_of_finally(&self, id: &StepId) -> bool {
        self.workflow().finally.contains_key(self.loop_of.get(id).unwrap_or(id))
    }

    /// Whether the step has been told to stop: with its section, or with its item.
    pub(super) fn is_stopping(&self, at: &StepRef) -> bool {
        let section =
            if self.is_of_finally(&at.step) { self.finally_expired } else { self.stopping.is_some() };
        section || at.item.as_ref().is_some_and(|key| self.is_item_stopping(&at.step, key))
    }

    fn is_item_stopping(&self, step: &StepId, key: &str) -> bool {
        let Some(each) = self.loop_of.get(step).and_then(|each| self.loops.get(each)) else { return true };
        each.item(key).is_none_or(|item| each.is_stopping(item))
    }

    pub(super) fn section_over(&self, finally: bool) -> bool {
        let (section, stopping) = if finally {
            (&self.workflow().finally, self.finally_expired)
        } else {
            (&self.workflow().steps, self.stopping.is_some())
        };
        section.keys().all(|id| {
            let phase = &self.steps[id].phase;
            let bug = if finally { Planted::EndsBesideAttempt } else { Planted::FinallyTooEarly };
            let at_work = phase.is_at_work() && !planted(bug);
            phase.is_settled() || stopping && !at_work
        })
    }
}

/// Step of a loop -> the loop.
pub(super) fn loop_of(workflow: &Workflow) -> BTreeMap<StepId, StepId> {
    let sections = workflow.steps.iter().chain(&workflow.finally);
    let inner = sections.flat_map(|(id, step)| {
        step.body().into_iter().flat_map(|body| body.keys()).map(|inner| (inner.clone(), id.clone()))
    });
    inner.collect()
}

pub(super) fn run_error(error: &StepError) -> RunError {
    RunError { step: None, item: None, error: error.clone() }
}

pub(super) fn illegal(event: &Event, why: &'static str) -> Illegal {
    let mut event = serde_json::to_string(event).unwrap_or_default();
    event.truncate(event.floor_char_boundary(300));
    Illegal { event, why }
}
