//! The state of one run: the fold of its journal. Nothing changes it but [`Run::apply`].

use super::event::{Event, Outcome, RunError, RunStarted, Timer};
use super::retry::delay_ms;
use crate::id::StepId;
use crate::step::{ErrorKind, StepError};
use crate::workflow::Workflow;
use crate::workflow::model::Step;
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
    pub(super) started_ms: i64,
    pub(super) steps: BTreeMap<StepId, StepState>,
    /// What expressions see as `steps`: derived, kept so that it need not be rebuilt for each expression.
    pub(super) view: Map<String, Value>,
    pub(super) stopping: Option<RunError>,
    pub(super) finally_since_ms: Option<i64>,
    pub(super) finally_expired: bool,
    finished: Option<(Outcome, u8)>,
}

/// Where a step stands, and how it got there.
#[derive(Clone, Debug, PartialEq)]
pub struct StepState {
    /// Where it stands.
    pub phase: Phase,
    /// Its attempts so far, oldest first.
    pub attempts: Vec<Attempt>,
}

/// One attempt in the past or present.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its number, from 1.
    pub n: u32,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    /// Milliseconds since 1970; `None` while it runs.
    pub finished_ms: Option<i64>,
    /// Why it failed, if it did.
    pub error: Option<StepError>,
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Not begun, or about to try again.
    Waiting {
        /// The attempt to come.
        attempt: u32,
    },
    /// An attempt is with the host.
    Running {
        /// Which.
        attempt: u32,
    },
    /// The delay before a further attempt.
    Backoff {
        /// The attempt to come.
        attempt: u32,
        /// Milliseconds since 1970.
        until_ms: i64,
    },
    /// It returned outputs.
    Succeeded,
    /// It used up its attempts.
    Failed,
    /// It was stopped with the run.
    Stopped,
    /// It did not apply.
    Skipped {
        /// Why, as a sentence.
        reason: String,
    },
}

impl Phase {
    /// The word in JSON and expressions.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "pending",
            Self::Running { .. } => "running",
            Self::Backoff { .. } => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "cancelled",
            Self::Skipped { .. } => "skipped",
        }
    }

    /// Whether nothing more will happen to the step.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stopped | Self::Skipped { .. })
    }
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
        let ids = started.definition.steps.keys().chain(started.definition.finally.keys());
        let fresh = StepState { phase: Phase::Waiting { attempt: 1 }, attempts: Vec::new() };
        let mut run = Self {
            started: Arc::new((**started).clone()),
            started_ms: at_ms,
            steps: ids.map(|id| (id.clone(), fresh.clone())).collect(),
            view: Map::new(),
            stopping: None,
            finally_since_ms: None,
            finally_expired: false,
            finished: None,
        };
        for id in run.steps.keys().cloned().collect::<Vec<_>>() {
            run.show(&id, None);
        }
        run.enter_finally(at_ms);
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
            run.apply(at_ms, event)?;
        }
        Ok(run)
    }

    /// Folds one event in. A refused event changes nothing.
    ///
    /// # Errors
    /// Where the state does not allow the event.
    pub fn apply(&mut self, at_ms: i64, event: &Event) -> Result<(), Illegal> {
        if self.finished.is_some() {
            return Err(illegal(event, "the run has ended"));
        }
        match event {
            Event::RunStarted(_) => return Err(illegal(event, "the run has started")),
            Event::StepStarted { step, attempt } => {
                if !self.may_start(step, *attempt) {
                    return Err(illegal(event, "this attempt is not due"));
                }
                let state = self.steps.get_mut(step).ok_or_else(|| illegal(event, "no such step"))?;
                state.phase = Phase::Running { attempt: *attempt };
                state.attempts.push(Attempt {
                    n: *attempt,
                    started_ms: at_ms,
                    finished_ms: None,
                    error: None,
                });
            }
            Event::StepSucceeded { step, attempt, outputs } => {
                self.end_attempt(event, step, *attempt, at_ms, None)?;
                self.settle(step, Phase::Succeeded, Some(outputs));
            }
            Event::StepFailed { step, attempt, error, jitter } => {
                self.end_attempt(event, step, *attempt, at_ms, Some(error))?;
                self.fail(step, *attempt, error, *jitter, at_ms);
            }
            Event::StepSkipped { step, reason } => {
                if self.skip_reason(step).as_ref() != Some(reason) {
                    return Err(illegal(event, "the step is not to be skipped"));
                }
                self.settle(step, Phase::Skipped { reason: reason.clone() }, None);
            }
            Event::TimerElapsed { timer } => self.elapse(event, timer, at_ms)?,
            Event::CancelRequested { note } => {
                let message = note.clone().unwrap_or_else(|| "cancelled on request".into());
                self.stop(None, StepError::new(ErrorKind::CANCELLED, message));
            }
            Event::HostLost => self.lose_host(at_ms),
            Event::RunFinished { state, exit_code, .. } => {
                // Outputs that cannot be computed turn success into failure; nothing else may differ.
                let ending = self.ending();
                if ending != Some(*state) && (ending, *state) != (Some(Outcome::Succeeded), Outcome::Failed) {
                    return Err(illegal(event, "the run is not over"));
                }
                self.finished = Some((*state, *exit_code));
            }
        }
        self.enter_finally(at_ms);
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

    /// Where a step stands.
    pub fn step(&self, id: &StepId) -> Option<&StepState> {
        self.steps.get(id)
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
        let mut phases = self.steps.values().map(|state| &state.phase);
        if self.has_running() {
            "running"
        } else if phases.any(|phase| matches!(phase, Phase::Backoff { .. })) {
            "waiting"
        } else {
            "running"
        }
    }

    /// Whether an attempt is with a host.
    pub fn has_running(&self) -> bool {
        self.steps.values().any(|state| matches!(state.phase, Phase::Running { .. }))
    }

    /// Whether this attempt is with a host.
    pub fn is_running(&self, step: &StepId, attempt: u32) -> bool {
        self.steps.get(step).is_some_and(|state| state.phase == Phase::Running { attempt })
    }

    /// A step's definition, wherever in the workflow it stands.
    pub fn definition(&self, id: &StepId) -> Option<&Step> {
        self.workflow().steps.get(id).or_else(|| self.workflow().finally.get(id))
    }

    /// Dollars and tokens that the steps report in outputs named `cost_usd`, `input_tokens` and `output_tokens`, where
    /// any does.
    pub fn cost(&self) -> Option<(f64, u64)> {
        let field = |view: &Value, name: &str| view.get(name).and_then(Value::as_f64);
        let priced = self.view.values().filter(|view| view.get("cost_usd").is_some());
        priced.fold(None, |sum, view| {
            let (usd, tokens) = sum.unwrap_or((0.0, 0));
            let used =
                field(view, "input_tokens").unwrap_or(0.0) + field(view, "output_tokens").unwrap_or(0.0);
            Some((usd + field(view, "cost_usd").unwrap_or(0.0), tokens + used as u64))
        })
    }

    /// Whether the first section is over and `finally` may run.
    pub(super) fn in_finally(&self) -> bool {
        self.finally_since_ms.is_some()
    }

    /// How the run would end now, if it is over.
    pub(super) fn ending(&self) -> Option<Outcome> {
        if !self.in_finally() || !self.section_over(self.workflow().finally.keys()) {
            return None;
        }
        Some(match &self.stopping {
            None => Outcome::Succeeded,
            Some(RunError { error, .. }) if error.kind == ErrorKind::CANCELLED => Outcome::Cancelled,
            Some(RunError { error, .. })
                if error.kind == ErrorKind::TIMED_OUT || error.kind == ErrorKind::IDLE_TIMED_OUT =>
            {
                Outcome::TimedOut
            }
            Some(_) => Outcome::Failed,
        })
    }

    /// Whether the step's section has been told to stop.
    pub(super) fn is_stopping(&self, id: &StepId) -> bool {
        if self.workflow().steps.contains_key(id) { self.stopping.is_some() } else { self.finally_expired }
    }

    fn section_over<'a>(&self, mut ids: impl Iterator<Item = &'a StepId>) -> bool {
        ids.all(|id| {
            let phase = &self.steps[id].phase;
            phase.is_settled() || (self.is_stopping(id) && !matches!(phase, Phase::Running { .. }))
        })
    }

    fn enter_finally(&mut self, at_ms: i64) {
        if self.finally_since_ms.is_none() && self.section_over(self.workflow().steps.keys()) {
            self.finally_since_ms = Some(at_ms);
        }
    }

    fn end_attempt(
        &mut self,
        event: &Event,
        step: &StepId,
        attempt: u32,
        at_ms: i64,
        error: Option<&StepError>,
    ) -> Result<(), Illegal> {
        let state = self.steps.get_mut(step).ok_or_else(|| illegal(event, "no such step"))?;
        if state.phase != (Phase::Running { attempt }) {
            return Err(illegal(event, "this attempt is not running"));
        }
        let last = state.attempts.last_mut().ok_or_else(|| illegal(event, "no attempt began"))?;
        last.finished_ms = Some(at_ms);
        last.error = error.cloned();
        Ok(())
    }

    fn fail(&mut self, step: &StepId, attempt: u32, error: &StepError, jitter: u16, at_ms: i64) {
        if self.is_stopping(step) {
            return self.settle(step, Phase::Stopped, None);
        }
        let attempts = &self.steps[step].attempts;
        let lost = attempts
            .iter()
            .filter(|a| a.error.as_ref().is_some_and(|e| e.kind == ErrorKind::HOST_LOST))
            .count() as u32;
        let failures = attempts.len() as u32 - lost;
        let policy = self
            .definition(step)
            .and_then(Step::attempts)
            .map(|attempts| attempts.retry.clone())
            .unwrap_or_default();
        let next = if error.kind == ErrorKind::HOST_LOST {
            (lost < HOST_LOST_MAX).then_some(Phase::Waiting { attempt: attempt + 1 })
        } else {
            delay_ms(&policy, failures, &error.kind, jitter).map(|delay| Phase::Backoff {
                attempt: attempt + 1,
                until_ms: at_ms.saturating_add_unsigned(delay),
            })
        };
        match next {
            Some(phase) => self.settle(step, phase, None),
            None => {
                self.settle(step, Phase::Failed, None);
                self.stop(Some(step.clone()), error.clone());
            }
        }
    }

    /// Remembers the first cause: what follows from it is no cause.
    fn stop(&mut self, step: Option<StepId>, error: StepError) {
        self.stopping.get_or_insert(RunError { step, error });
    }

    fn lose_host(&mut self, at_ms: i64) {
        let error = StepError::new(ErrorKind::HOST_LOST, "the harvest process that ran the attempt ended");
        for step in self.steps.keys().cloned().collect::<Vec<_>>() {
            let Some(state) = self.steps.get_mut(&step) else { continue };
            let Phase::Running { attempt } = state.phase else { continue };
            if let Some(last) = state.attempts.last_mut() {
                last.finished_ms = Some(at_ms);
                last.error = Some(error.clone());
            }
            self.fail(&step, attempt, &error, 0, at_ms);
        }
    }

    fn elapse(&mut self, event: &Event, timer: &Timer, at_ms: i64) -> Result<(), Illegal> {
        if !self.timers().iter().any(|(due, until_ms)| due == timer && *until_ms <= at_ms) {
            return Err(illegal(event, "this timer is not due"));
        }
        match timer {
            Timer::Retry { step, attempt } => {
                let phase = Phase::Waiting { attempt: *attempt };
                self.settle(step, phase, None);
            }
            Timer::Run => {
                let limit = self.workflow().timeout_ms.unwrap_or_default();
                let message = format!("the run took longer than its timeout of {} s", limit.div_ceil(1000));
                self.stop(None, StepError::new(ErrorKind::TIMED_OUT, message));
            }
            Timer::Finally => {
                self.finally_expired = true;
                let limit = self.workflow().finally_timeout_ms;
                let message = format!("`finally` took longer than {} s", limit.div_ceil(1000));
                self.stop(None, StepError::new(ErrorKind::TIMED_OUT, message));
            }
        }
        Ok(())
    }

    fn settle(&mut self, step: &StepId, phase: Phase, outputs: Option<&Map<String, Value>>) {
        if let Some(state) = self.steps.get_mut(step) {
            state.phase = phase;
            self.show(step, outputs);
        }
    }

    /// Brings what expressions see of a step up to date.
    fn show(&mut self, id: &StepId, outputs: Option<&Map<String, Value>>) {
        let Some(state) = self.steps.get(id) else { return };
        let mut view = outputs.cloned().unwrap_or_default();
        view.insert("state".into(), state.phase.as_str().into());
        view.insert("attempts".into(), state.attempts.len().into());
        if let Some(error) = state.attempts.last().and_then(|attempt| attempt.error.as_ref()) {
            let error = serde_json::json!({ "kind": error.kind, "message": error.message });
            view.insert("error".into(), error);
        }
        self.view.insert(id.as_str().to_owned(), Value::Object(view));
    }
}

fn illegal(event: &Event, why: &'static str) -> Illegal {
    let mut event = serde_json::to_string(event).unwrap_or_default();
    event.truncate(event.floor_char_boundary(300));
    Illegal { event, why }
}
