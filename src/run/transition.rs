//! What events do to the state of a run: steps end, try again or fail, loops go on, the run stops or is made due again.

use super::event::{Event, RunError, Timer};
use super::loops::Loop;
use super::phase::{Phase, StepState};
use super::planted::{Planted, planted};
use super::retry::delay_ms;
use super::state::{Admission, HOST_LOST_MAX, Illegal, Run, illegal, run_error};
use super::view;
use crate::id::{StepId, StepRef};
use crate::step::{ErrorKind, StepError};
use crate::workflow::model::{Action, Step};
use serde_json::{Map, Value};

impl Run {
    /// Follows up on what an event has changed: loops go on or end, and once the first section is over, `finally` begins.
    pub(super) fn turn(&mut self, at_ms: i64) {
        loop {
            let open = |(id, state): (&StepId, &StepState)| (state.phase == Phase::Open).then(|| id.clone());
            let open: Vec<StepId> = self.steps.iter().filter_map(open).collect();
            let mut settled = false;
            for id in open {
                settled |= self.turn_loop(&id, at_ms);
            }
            if !settled {
                break;
            }
        }
        let over = self.is_admitted() && self.leaving.is_empty() && self.section_over(false);
        if self.finally_since_ms.is_none() && over {
            self.finally_since_ms = Some(at_ms);
        }
    }

    /// Returns whether the loop is over.
    fn turn_loop(&mut self, id: &StepId, at_ms: i64) -> bool {
        let at = StepRef::from(id.clone());
        let stopping = self.is_stopping(&at);
        let started = self.started.clone();
        let definition = started.definition.steps.get(id).or_else(|| started.definition.finally.get(id));
        let Some(Action::ForEach(each)) = definition.map(|step| &step.action) else { return false };
        let Some(running) = self.loops.get_mut(id) else { return false };
        if !running.turn(each, stopping, at_ms) {
            return false;
        }
        let failure = running.failure().cloned();
        match failure {
            _ if stopping => {
                self.end_attempt(&at, at_ms, None);
                self.settle(&at, Phase::Stopped, None);
            }
            Some(cause) => {
                let which = cause.item.as_deref().unwrap_or_default();
                let message = format!("item `{which}`: {}", cause.error.message);
                self.end_attempt(&at, at_ms, Some(&StepError::new(cause.error.kind.clone(), message)));
                self.settle(&at, Phase::Failed, None);
                if !self.is_tolerated(id) {
                    self.stop(at_ms, cause);
                }
            }
            None => {
                let outputs = self.loops[id].outputs();
                self.succeed(&at, &outputs, at_ms);
            }
        }
        true
    }

    pub(super) fn succeed(&mut self, at: &StepRef, outputs: &Map<String, Value>, at_ms: i64) {
        self.end_attempt(at, at_ms, None);
        self.settle(at, Phase::Succeeded, Some(outputs));
    }

    fn end_attempt(&mut self, at: &StepRef, at_ms: i64, error: Option<&StepError>) {
        if let Some(state) = self.state_mut(at) {
            state.end(at_ms, error);
        }
    }

    /// Ends an attempt with an error: the step tries again, or has failed.
    pub(super) fn fail(&mut self, at: &StepRef, error: &StepError, jitter: u16, at_ms: i64) {
        self.end_attempt(at, at_ms, Some(error));
        if self.is_stopping(at) {
            return self.settle(at, Phase::Stopped, None);
        }
        let Some(state) = self.state(at) else { return };
        let (tries, lost) = state.tries();
        let lost = if planted(Planted::LostAttemptCounts) { 0 } else { lost };
        let attempt = state.attempts.last().map_or(1, |last| last.n + 1);
        let next = if error.kind == ErrorKind::HOST_LOST {
            (lost < HOST_LOST_MAX).then_some(Phase::Waiting { attempt })
        } else {
            let policy = self.definition(&at.step).and_then(Step::attempts).map(|attempts| &attempts.retry);
            policy
                .and_then(|policy| delay_ms(policy, tries - lost, &error.kind, jitter))
                .map(|delay| Phase::Backoff { attempt, until_ms: at_ms.saturating_add_unsigned(delay) })
        };
        if let Some(phase) = next {
            return self.settle(at, phase, None);
        }
        self.settle(at, Phase::Failed, None);
        if self.is_tolerated(&at.step) {
            return;
        }
        let cause = RunError { step: Some(at.step.clone()), item: at.item.clone(), error: error.clone() };
        let each = self.loop_of.get(&at.step).and_then(|each| self.loops.get_mut(each));
        match (&at.item, each) {
            (Some(key), Some(each)) => {
                if let Some(item) = each.item_mut(key) {
                    item.error.get_or_insert(cause);
                }
            }
            _ => self.stop(at_ms, cause),
        }
    }

    fn is_tolerated(&self, id: &StepId) -> bool {
        self.definition(id).is_some_and(|step| step.continue_on_error)
    }

    /// Remembers the first cause, for what follows from it is no cause, and ends what only waits.
    pub(super) fn stop(&mut self, at_ms: i64, cause: RunError) {
        self.stopping.get_or_insert(cause);
        let finally = &self.started.definition.finally;
        for (id, state) in &mut self.steps {
            if finally.contains_key(id) == self.finally_expired && !state.phase.is_settled() {
                state.close(at_ms);
                view::show(&mut self.view, id, state, None);
            }
        }
    }

    pub(super) fn answer(
        &mut self,
        at: &StepRef,
        approved: bool,
        note: Option<&str>,
        by: Option<&str>,
        at_ms: i64,
    ) {
        if approved || planted(Planted::RejectionIgnored) {
            let outputs = serde_json::json!({ "approved": true, "note": note, "by": by });
            return self.succeed(at, outputs.as_object().unwrap_or(&Map::new()), at_ms);
        }
        let who = by.map(|by| format!(" by {by}")).unwrap_or_default();
        let why = note.map(|note| format!(": {note}")).unwrap_or_default();
        self.fail(at, &StepError::new(ErrorKind::REJECTED, format!("rejected{who}{why}")), 0, at_ms);
    }

    pub(super) fn lose_host(&mut self, at_ms: i64) {
        let error = StepError::new(ErrorKind::HOST_LOST, "the harvest process that ran the attempt ended");
        let running =
            |(at, state): (StepRef, &StepState)| matches!(state.phase, Phase::Running { .. }).then_some(at);
        let noticed = if planted(Planted::LostAttemptForgotten) { 1 } else { usize::MAX };
        for at in self.active().filter_map(running).take(noticed).collect::<Vec<_>>() {
            self.fail(&at, &error, 0, at_ms);
        }
        for at in self.leaving.keys().cloned().collect::<Vec<_>>() {
            self.leave(&at, &error, at_ms);
        }
    }

    pub(super) fn elapse(&mut self, event: &Event, timer: &Timer, at_ms: i64) -> Result<(), Illegal> {
        if !self.timers().iter().any(|(due, until_ms)| due == timer && *until_ms <= at_ms) {
            return Err(illegal(event, "this timer is not due"));
        }
        let seconds = |limit: Option<u64>| limit.unwrap_or_default().div_ceil(1000);
        let timed_out = |message: String| StepError::new(ErrorKind::TIMED_OUT, message);
        match timer {
            Timer::Retry { at, attempt } => self.settle(at, Phase::Waiting { attempt: *attempt }, None),
            Timer::Queue { at, attempt } => {
                let limit =
                    self.definition(&at.step).and_then(Step::concurrency).and_then(|group| group.timeout_ms);
                let error = timed_out(format!("it got no place in its group within {} s", seconds(limit)));
                if planted(Planted::QueueTimeoutStarts) {
                    self.settle(at, Phase::Waiting { attempt: *attempt }, None);
                    return Ok(());
                }
                if let Some(state) = self.state_mut(at) {
                    state.begin(*attempt, at_ms, None);
                }
                self.fail(at, &error, 0, at_ms);
            }
            Timer::Approval { at } => {
                let Some(Action::Approve(asked)) = self.definition(&at.step).map(|step| &step.action) else {
                    return Ok(());
                };
                let (approve, limit) = (asked.approve_on_timeout, seconds(asked.timeout_ms));
                self.answer(at, approve, Some(&format!("nobody answered within {limit} s")), None, at_ms);
            }
            Timer::RunQueue => {
                let limit = self.workflow().concurrency.as_ref().and_then(|group| group.timeout_ms);
                let error =
                    timed_out(format!("the run got no place in its group within {} s", seconds(limit)));
                self.stop(at_ms, run_error(&error));
            }
            Timer::Run if planted(Planted::RunTimeoutIgnored) => {
                self.admission = Admission::Held { since_ms: at_ms }
            }
            Timer::Run => {
                let limit = seconds(self.workflow().timeout_ms);
                let error = timed_out(format!("the run took longer than its timeout of {limit} s"));
                self.stop(at_ms, run_error(&error));
            }
            Timer::Finally => {
                self.finally_expired = true;
                let limit = seconds(Some(self.workflow().finally_timeout_ms));
                self.stop(at_ms, run_error(&timed_out(format!("`finally` took longer than {limit} s"))));
            }
        }
        Ok(())
    }

    /// Lets a run that has ended go on from its first section.
    pub(super) fn reopen(&mut self, at_ms: i64) {
        self.finished = None;
        self.stopping = None;
        self.finally_since_ms = None;
        self.finally_expired = false;
        self.admission = match self.workflow().concurrency {
            Some(_) => Admission::Due,
            None => Admission::Held { since_ms: at_ms },
        };
    }

    /// Lets a run that has ended go on: what succeeded stays, everything else is due again.
    pub(super) fn renew(&mut self, at_ms: i64) {
        self.reopen(at_ms);
        let started = self.started.clone();
        for (id, state) in &mut self.steps {
            let finally = started.definition.finally.contains_key(id);
            if state.phase == Phase::Succeeded && !finally && !planted(Planted::RetryRepeatsSteps) {
                continue;
            }
            match self.loops.get_mut(id) {
                Some(each) if !finally => {
                    each.renew();
                    state.phase = Phase::Open;
                    if let Some(last) = state.attempts.last_mut() {
                        (last.finished_ms, last.error) = (None, None);
                    }
                }
                each => {
                    each.into_iter().for_each(Loop::shut);
                    state.renew();
                }
            }
            view::show(&mut self.view, id, state, None);
        }
    }

    pub(super) fn settle(&mut self, at: &StepRef, phase: Phase, outputs: Option<&Map<String, Value>>) {
        let each = self.loop_of.get(&at.step).and_then(|each| self.loops.get_mut(each));
        let (states, view) = match (&at.item, each) {
            (None, _) => (&mut self.steps, &mut self.view),
            (Some(key), Some(each)) => match each.item_mut(key) {
                Some(item) => (&mut item.steps, &mut item.view),
                None => return,
            },
            (Some(_), None) => return,
        };
        if let Some(state) = states.get_mut(&at.step) {
            state.phase = phase;
            view::show(view, &at.step, state, outputs);
        }
    }
}
