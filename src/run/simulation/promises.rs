//! What holds in every history, told from the journal and the file wherever that can be: the core must not be its own
//! witness.

use super::super::state::HOST_LOST_MAX;
use super::super::{Event, Outcome, Phase, Run, Timer};
use super::upgrades::since_set_back;
use super::world::World;
use crate::id::{StepId, StepRef};
use crate::step::{ErrorKind, Spent};
use crate::workflow::model::{Action, Expression, Retry, Step};
use serde_json::{Map, Value};

impl World {
    fn phase(&self, at: &StepRef, other: &StepId) -> Phase {
        let beside = StepRef { step: other.clone(), item: at.item.clone() };
        let outside = StepRef::from(other.clone());
        self.run.state(&beside).or_else(|| self.run.state(&outside)).unwrap().phase.clone()
    }

    /// An attempt may begin now.
    pub(super) fn check_start(&self, at: &StepRef, attempt: u32) {
        let definition = self.run.definition(&at.step).unwrap();
        let in_finally = at.step.as_str().starts_with('f');
        let grouped = self.run.workflow().concurrency.is_some();
        let since = self.since(|event| matches!(event, Event::RunFinished { .. }));
        let admitted = count(since, |event| matches!(event, Event::RunAdmitted)) > 0;
        assert!(!grouped || admitted, "{at} started before the run had its place");
        for need in &definition.needs {
            let fine = match self.phase(at, need) {
                Phase::Succeeded | Phase::Skipped { .. } => true,
                Phase::Failed => self.run.definition(need).unwrap().continue_on_error,
                _ => false,
            };
            assert!(fine, "{at} started before its needs");
        }
        for read in definition.reads.iter().filter(|read| !read.tolerant) {
            assert_eq!(self.phase(at, &read.step), Phase::Succeeded, "{at} started without what it reads");
        }
        let never = Some(Expression("false".into()));
        assert_ne!(definition.condition, never, "{at} started against its condition");
        let since = if in_finally { self.recent() } else { &self.journal };
        let since = since_set_back(since, &self.run, at);
        // An attempt that an upgrade had no more use for may still end well.
        let succeeded = |event: &Event| match event {
            Event::StepSucceeded { at: other, attempt, .. } => other == at && is_begun(since, at, *attempt),
            Event::StepReused { at: other, .. } => other == at,
            _ => false,
        };
        assert_eq!(count(since, succeeded), 0, "{at} started after it had succeeded");
        let made = begun(&self.journal, at) + expired(&self.journal, at);
        assert_eq!(made + 1, attempt as usize, "{at}: attempts without gaps");
        let most = retry(definition).map_or(1, |retry| retry.attempts) + HOST_LOST_MAX;
        assert!(begun(self.recent(), at) < most as usize, "{at}: too many attempts");
        self.check_section(in_finally);
        self.check_loop(at);
    }

    fn check_section(&self, in_finally: bool) {
        if !in_finally {
            let stopped = count(self.recent(), |event| matches!(event, Event::CancelRequested { .. }));
            assert_eq!(stopped, 0, "a step started after a cancel");
            return;
        }
        let main = self.run.workflow().steps.keys();
        let at_work = main.filter(|id| self.run.step(id).unwrap().phase.is_at_work()).count();
        assert_eq!(at_work, 0, "finally began beside a running step");
    }

    /// No more items than the file allows are under way, and none begins after one has failed that stops the others.
    fn check_loop(&self, at: &StepRef) {
        let Some(_) = &at.item else { return };
        let of = |step: &Step| step.body().is_some_and(|body| body.contains_key(&at.step));
        let (id, each) = self.run.workflow().all_steps().find(|(_, step)| of(step)).unwrap();
        let Action::ForEach(each) = &each.action else { return };
        let items = self.run.items(id).unwrap();
        let open = items.iter().filter(|item| item.state() == "running").count();
        assert!(open <= each.parallel as usize, "{open} items at once");
        let failed = items.iter().any(|item| item.error.is_some());
        assert!(each.continue_on_failure || !failed, "{at} of a loop that stops");
    }

    /// The last event has had its effect, and no other one on what it is about.
    pub(super) fn check_follows(&self, before: &Run) {
        let (at_ms, event) = self.journal.last().unwrap();
        if let Event::StepSucceeded { at, attempt, .. } | Event::StepFailed { at, attempt, .. } = event
            && !before.is_running(at, *attempt)
        {
            // An upgrade had no more use for it: what it says changes nothing.
            return;
        }
        match event {
            Event::StepSucceeded { at, outputs, .. } | Event::StepReused { at, outputs, .. } => {
                assert_eq!(self.run.state(at).unwrap().phase, Phase::Succeeded);
                let seen = self.seen(at);
                for (name, value) in outputs {
                    assert_eq!(seen.get(name), Some(value), "an output of {at} got lost");
                }
            }
            Event::StepFailed { at, error, jitter, .. } => {
                self.check_failed(before, at, &error.kind, *jitter, *at_ms);
            }
            Event::ApprovalGiven { at, approved, .. } => self.check_answered(at, *approved),
            Event::StepSpent { .. } => {
                let mut all = Spent::default();
                for (_, event) in &self.journal {
                    if let Event::StepSpent { spent, .. } = event {
                        all.add(*spent);
                    }
                }
                assert_eq!(self.run.spent(), all, "a bill is lost");
            }
            Event::HostLost => {
                assert!(!self.run.has_running(), "an attempt of a host that is gone still counts as running");
            }
            Event::CancelRequested { .. } => assert!(self.run.error().is_some(), "a cancel had no effect"),
            Event::TimerElapsed { timer } => match timer {
                Timer::Retry { at, attempt } => {
                    assert_eq!(self.run.state(at).unwrap().phase, Phase::Waiting { attempt: *attempt });
                }
                Timer::Queue { at, .. } => self.check_failed(before, at, &ErrorKind::TIMED_OUT, 0, *at_ms),
                Timer::Approval { at } => {
                    let Action::Approve(asked) = &self.run.definition(&at.step).unwrap().action else {
                        panic!("{at} asks nothing")
                    };
                    self.check_answered(at, asked.approve_on_timeout);
                }
                Timer::Run | Timer::RunQueue | Timer::Finally => {
                    assert!(self.run.error().is_some(), "{timer:?} had no effect");
                }
            },
            _ => {}
        }
    }

    fn check_answered(&self, at: &StepRef, yes: bool) {
        let phase = &self.run.state(at).unwrap().phase;
        assert_eq!(*phase == Phase::Succeeded, yes, "{at} was answered {yes} and is {phase:?}");
    }

    /// After a failed attempt another one follows, or the step has failed: as the file says, and by what the journal
    /// holds of earlier ones.
    fn check_failed(&self, before: &Run, at: &StepRef, kind: &ErrorKind, jitter: u16, at_ms: i64) {
        let phase = &self.run.state(at).unwrap().phase;
        if before.is_stopping(at) {
            assert_eq!(*phase, Phase::Stopped, "{at} was stopped");
            return;
        }
        let since = self.since(|event| matches!(event, Event::RunRetried { .. }));
        let since = since_set_back(since, &self.run, at);
        // One that an upgrade had no more use for ends later, and counts for nothing.
        let failed = |event: &Event| match event {
            Event::StepFailed { at: other, attempt, error, .. } => {
                other == at && error.kind != ErrorKind::HOST_LOST && is_begun(since, at, *attempt)
            }
            _ => false,
        };
        let failures = count(since, failed) + expired(since, at);
        let policy = retry(self.run.definition(&at.step).unwrap());
        let again =
            policy.filter(|policy| *kind != ErrorKind::CANCELLED && failures < policy.attempts as usize);
        let Some(policy) = again else {
            assert_eq!(*phase, Phase::Failed, "{at} has used up its attempts");
            return;
        };
        let mut delay = policy.first_ms as f64;
        (1..failures).for_each(|_| delay *= policy.factor);
        let delay = delay.min(policy.max_ms as f64) * f64::from(jitter) / 1000.0;
        let Phase::Backoff { until_ms, .. } = phase else {
            panic!("{at} failed {failures} times of {} and is {phase:?}", policy.attempts)
        };
        assert!(
            (*until_ms - at_ms - delay as i64).abs() <= 1,
            "{at} waits {} ms, not {delay}",
            until_ms - at_ms
        );
    }

    /// What expressions see of a step.
    fn seen(&self, at: &StepRef) -> &Map<String, Value> {
        let view = match &at.item {
            Some(key) => &self.run.item(&at.step, key).unwrap().view,
            None => &self.run.view,
        };
        view[at.step.as_str()].as_object().unwrap()
    }

    /// What holds for a run that has ended.
    pub(super) fn check_end(&self, outcome: Outcome) {
        assert!(self.run.commands().is_empty());
        assert!(self.in_flight.is_empty(), "an attempt outlived its run");
        assert!(self.run.questions().is_empty(), "a question outlived its run");
        for (id, step) in &self.run.workflow().steps {
            let phase = &self.run.step(id).unwrap().phase;
            assert!(!matches!(phase, Phase::Asking { .. }), "{id} still asks");
            let good = match phase {
                Phase::Succeeded | Phase::Skipped { .. } => true,
                Phase::Failed => step.continue_on_error,
                _ => false,
            };
            assert!(good || outcome != Outcome::Succeeded, "{id} is {phase:?}");
            if *phase == Phase::Succeeded {
                let over = |state: &str| state == "succeeded" || state == "failed";
                let items = self.run.items(id).unwrap_or_default();
                assert!(items.iter().all(|item| over(item.state())), "{id} lost an item");
            }
        }
        if self.run.is_admitted() && !self.run.finally_expired {
            let finally = self.run.workflow().finally.keys();
            let left: Vec<_> = finally.filter(|id| !self.run.step(id).unwrap().phase.is_settled()).collect();
            assert!(left.is_empty(), "finally left out {left:?}");
        }
        self.check_attempts();
        match outcome {
            Outcome::Succeeded => assert!(self.run.error().is_none()),
            Outcome::Cancelled => {
                let asked = count(self.recent(), |event| matches!(event, Event::CancelRequested { .. })) > 0;
                assert!(asked || self.run.error().is_some_and(|error| error.step.is_some()));
            }
            Outcome::Failed | Outcome::TimedOut => assert!(self.run.error().is_some()),
        }
        let cancels = count(self.recent(), |event| matches!(event, Event::CancelRequested { .. }));
        assert!(cancels == 0 || outcome != Outcome::Succeeded, "a cancelled run succeeded");
    }

    /// The state holds each attempt that was journalled, and no other.
    fn check_attempts(&self) {
        for id in self.run.steps.keys() {
            let at = StepRef::from(id.clone());
            let made = begun(&self.journal, &at) + expired(&self.journal, &at);
            assert_eq!(self.run.step(id).unwrap().attempts.len(), made, "{id}: attempts on record");
        }
    }
}

fn retry(step: &Step) -> Option<&Retry> {
    step.attempts().map(|attempts| &attempts.retry)
}

fn count(events: &[(i64, Event)], is: impl Fn(&Event) -> bool) -> usize {
    events.iter().filter(|(_, event)| is(event)).count()
}

fn begun(events: &[(i64, Event)], at: &StepRef) -> usize {
    count(events, |event| matches!(event, Event::StepStarted { at: other, .. } if other == at))
}

fn is_begun(events: &[(i64, Event)], at: &StepRef, attempt: u32) -> bool {
    count(
        events,
        |event| matches!(event, Event::StepStarted { at: other, attempt: n, .. } if other == at && *n == attempt),
    ) > 0
}

/// A wait in a group that took too long is an attempt that was never started.
fn expired(events: &[(i64, Event)], at: &StepRef) -> usize {
    count(
        events,
        |event| matches!(event, Event::TimerElapsed { timer: Timer::Queue { at: other, .. } } if other == at),
    )
}
