//! What the state calls for: level-triggered, derived anew each time, so that a restart needs no path of its own.

use super::event::{Command, Finish, Outcome, Timer};
use super::phase::Phase;
use super::planted::{Planted, planted};
use super::state::{Admission, Run};
use super::verdict::Verdict;
use crate::id::StepRef;
use crate::workflow::model::{Action, Step};

impl Run {
    /// Everything that should be happening now. The caller compares it with what is in flight and starts what is missing.
    pub fn commands(&self) -> Vec<Command> {
        if self.finished().is_some() {
            return Vec::new();
        }
        if let Some(state) = self.ending() {
            return vec![Command::Finish(Box::new(self.finish(state)))];
        }
        let mut commands = Vec::new();
        let stop = |(at, attempt): (&StepRef, &u32)| Command::Stop { at: at.clone(), attempt: *attempt };
        commands.extend(self.leaving.iter().map(stop));
        if self.is_admitted() {
            commands.extend(self.active().filter_map(|(at, state)| self.command(at, &state.phase)));
        } else {
            commands.push(Command::Admit);
        }
        let wait = |(timer, until_ms)| Command::Wait { timer, until_ms };
        commands.extend(self.timers().into_iter().map(wait));
        commands
    }

    fn command(&self, at: StepRef, phase: &Phase) -> Option<Command> {
        let stopping = self.is_stopping(&at);
        match phase {
            Phase::Running { attempt } if stopping => Some(Command::Stop { at, attempt: *attempt }),
            _ if self.has_leaving() => None,
            Phase::Queued { .. } if planted(Planted::QueuedForgotten) => None,
            Phase::Queued { attempt, .. } if !stopping => Some(Command::Start { at, attempt: *attempt }),
            Phase::Waiting { attempt } if !stopping => match self.verdict(&at) {
                Verdict::NotYet => None,
                Verdict::Start => Some(Command::Start { at, attempt: *attempt }),
                Verdict::Skip(reason) => Some(Command::Skip { at, reason }),
            },
            _ => None,
        }
    }

    /// Times that the run waits for, in milliseconds since 1970.
    pub(super) fn timers(&self) -> Vec<(Timer, i64)> {
        let after = |since_ms: i64, limit_ms: u64| since_ms.saturating_add_unsigned(limit_ms);
        let mut timers = Vec::new();
        let workflow = self.workflow();
        let since_ms = match self.admission {
            Admission::Due => return timers,
            Admission::Queued { since_ms } => {
                let limit = workflow.concurrency.as_ref().and_then(|group| group.timeout_ms);
                timers.extend(limit.map(|limit| (Timer::RunQueue, after(since_ms, limit))));
                return timers;
            }
            Admission::Held { since_ms } => since_ms,
        };
        for (at, state) in self.active() {
            if self.is_stopping(&at) {
                continue;
            }
            match state.phase {
                Phase::Backoff { attempt, until_ms } => timers.push((Timer::Retry { at, attempt }, until_ms)),
                Phase::Queued { attempt, since_ms } => {
                    let group = self.definition(&at.step).and_then(Step::concurrency);
                    if let Some(limit) = group.and_then(|group| group.timeout_ms) {
                        timers.push((Timer::Queue { at, attempt }, after(since_ms, limit)));
                    }
                }
                Phase::Asking { since_ms, .. } => {
                    let action = self.definition(&at.step).map(|step| &step.action);
                    if let Some(Action::Approve(asked)) = action
                        && let Some(limit) = asked.timeout_ms
                    {
                        timers.push((Timer::Approval { at }, after(since_ms, limit)));
                    }
                }
                _ => {}
            }
        }
        match self.finally_since_ms {
            None if self.stopping.is_none() => {
                timers.extend(workflow.timeout_ms.map(|limit| (Timer::Run, after(since_ms, limit))));
            }
            Some(since_ms) if !self.finally_expired && !workflow.finally.is_empty() => {
                timers.push((Timer::Finally, after(since_ms, workflow.finally_timeout_ms)));
            }
            _ => {}
        }
        timers
    }

    pub(super) fn may_start(&self, at: &StepRef, attempt: u32) -> bool {
        let due = match self.state(at).map(|state| &state.phase) {
            Some(Phase::Waiting { attempt: due } | Phase::Queued { attempt: due, .. }) => *due == attempt,
            _ => false,
        };
        due && self.may_begin(at) && matches!(self.verdict(at), Verdict::Start)
    }

    pub(super) fn skip_reason(&self, at: &StepRef) -> Option<String> {
        let waiting = matches!(self.state(at)?.phase, Phase::Waiting { .. });
        match self.verdict(at) {
            Verdict::Skip(reason) if waiting && self.may_begin(at) => Some(reason),
            _ => None,
        }
    }

    /// Whether the step belongs to what is at work and may still begin something.
    fn may_begin(&self, at: &StepRef) -> bool {
        self.is_admitted()
            && self.leaving.is_empty()
            && self.is_of_finally(&at.step) == self.in_finally()
            && !self.is_stopping(at)
    }

    fn finish(&self, state: Outcome) -> Finish {
        let (outputs, failed) = self.computed_outputs(state);
        let state = if failed.is_some() { Outcome::Failed } else { state };
        Finish { state, outputs, error: self.error().cloned().or(failed) }
    }
}
