//! A world that crashes: the driver's loop without wasm, disk, network or time.

mod shape;
mod upgrades;

use super::state::HOST_LOST_MAX;
use super::{Command, Event, Outcome, Phase, Run, RunStarted, Timer};
use crate::id::{RunId, StepId, StepRef};
use crate::step::{ErrorKind, StepError};
use crate::workflow::Workflow;
use crate::workflow::model::{Action, Expression, Step};
use proptest::prelude::*;
use serde_json::{Map, json};
use shape::workflows;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Times that a run which failed is retried in one history.
const RETRIES_MAX: usize = 2;

#[derive(Clone, Debug)]
enum Fault {
    None,
    Fail {
        retryable: bool,
        jitter: u16,
    },
    Crash,
    Cancel,
    /// Answers whoever asks.
    Answer {
        yes: bool,
    },
}

fn faults() -> impl Strategy<Value = Vec<(u8, Fault)>> {
    let fault = prop_oneof![
        16 => Just(Fault::None),
        4 => (any::<bool>(), 0u16..=1000).prop_map(|(retryable, jitter)| Fault::Fail { retryable, jitter }),
        2 => Just(Fault::Crash),
        1 => Just(Fault::Cancel),
        3 => any::<bool>().prop_map(|yes| Fault::Answer { yes }),
    ];
    prop::collection::vec((any::<u8>(), fault), 0..60)
}

struct World {
    run: Run,
    journal: Vec<(i64, Event)>,
    in_flight: BTreeSet<(StepRef, u32)>,
    now_ms: i64,
}

impl World {
    fn new(workflow: Workflow) -> Self {
        let started = Event::RunStarted(Box::new(RunStarted {
            workflow: workflow.name.clone(),
            definition: Arc::new(workflow),
            source: String::new(),
            file: String::new(),
            inputs: Map::new(),
            run: Map::new(),
            secrets: BTreeSet::new(),
            hashes: Default::default(),
            mocks: Default::default(),
            parent: None,
        }));
        let run = Run::begin(0, &started).unwrap();
        Self { run, journal: vec![(0, started)], in_flight: BTreeSet::new(), now_ms: 0 }
    }

    /// Journals an event as the driver does, after holding it against the promises.
    fn record(&mut self, event: Event) {
        let line = serde_json::to_string(&event).unwrap();
        let event: Event = serde_json::from_str(&line).unwrap();
        if let Event::StepStarted { at, attempt, .. } = &event {
            self.check_start(at, *attempt);
        }
        self.journal.push((self.now_ms, event.clone()));
        self.run.apply(self.now_ms, &event).unwrap();
    }

    /// Events since the run was last retried or upgraded.
    fn recent(&self) -> &[(i64, Event)] {
        let start = self
            .journal
            .iter()
            .rposition(|(_, event)| matches!(event, Event::RunRetried { .. } | Event::RunUpgraded(_)));
        &self.journal[start.unwrap_or(0)..]
    }

    fn phase(&self, at: &StepRef, other: &StepId) -> Phase {
        let beside = StepRef { step: other.clone(), item: at.item.clone() };
        let outside = StepRef::from(other.clone());
        self.run.state(&beside).or_else(|| self.run.state(&outside)).unwrap().phase.clone()
    }

    fn check_start(&self, at: &StepRef, attempt: u32) {
        let definition = self.run.definition(&at.step).unwrap();
        let in_finally = at.step.as_str().starts_with('f');
        assert!(self.run.is_admitted(), "{at} started before the run had its place");
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
        assert_ne!(
            definition.condition,
            Some(Expression("false".into())),
            "{at} started against its condition"
        );
        let since = if in_finally { self.recent() } else { &self.journal };
        let since = upgrades::since_set_back(since, &self.run, at);
        // An attempt that an upgrade had no more use for may still end well.
        let begun = |attempt: u32| {
            since.iter().any(|(_, event)| {
                matches!(event, Event::StepStarted { at: other, attempt: n, .. } if other == at && *n == attempt)
            })
        };
        let succeeded = |(_, event): &(i64, Event)| match event {
            Event::StepSucceeded { at: other, attempt, .. } => other == at && begun(*attempt),
            Event::StepReused { at: other, .. } => other == at,
            _ => false,
        };
        assert!(!since.iter().any(succeeded), "{at} started after it had succeeded");
        let starts = |events: &[(i64, Event)]| {
            let is =
                |(_, e): &&(i64, Event)| matches!(e, Event::StepStarted { at: other, .. } if other == at);
            events.iter().filter(is).count() as u32
        };
        // A wait in a group that took too long is an attempt that was never started.
        let expired = |events: &[(i64, Event)]| {
            let is = |(_, e): &&(i64, Event)| matches!(e, Event::TimerElapsed { timer: Timer::Queue { at: other, .. } } if other == at);
            events.iter().filter(is).count() as u32
        };
        assert_eq!(
            starts(&self.journal) + expired(&self.journal) + 1,
            attempt,
            "{at}: attempts without gaps"
        );
        let most = definition.attempts().map_or(1, |attempts| attempts.retry.attempts) + HOST_LOST_MAX;
        assert!(starts(self.recent()) < most, "{at}: too many attempts");
        self.check_section(in_finally);
        self.check_loop(at);
    }

    fn check_section(&self, in_finally: bool) {
        if !in_finally {
            let stopped = self.recent().iter().any(|(_, e)| matches!(e, Event::CancelRequested { .. }));
            assert!(!stopped, "a step started after a cancel");
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
        assert!(
            each.continue_on_failure || items.iter().all(|item| item.error.is_none()),
            "{at} of a loop that stops"
        );
    }

    fn turn(&mut self, choice: u8, fault: &Fault) {
        match fault {
            Fault::Crash => {
                self.in_flight.clear();
                self.run = self.replayed();
                if self.run.has_running() {
                    self.record(Event::HostLost);
                }
                return;
            }
            Fault::Cancel => return self.record(Event::CancelRequested { note: None }),
            Fault::Answer { yes } => {
                let question = self.run.questions().first().map(|(at, _)| at.clone());
                if let Some(at) = question {
                    return self.record(Event::ApprovalGiven { at, approved: *yes, note: None, by: None });
                }
            }
            Fault::None | Fault::Fail { .. } => {}
        }
        let all = self.run.commands();
        let fresh: Vec<Command> = all
            .into_iter()
            .filter(|command| match command {
                Command::Start { at, attempt } => !self.in_flight.contains(&(at.clone(), *attempt)),
                // Limits of time pass when nothing else is to be done, and now and then before.
                Command::Wait { timer: Timer::Run | Timer::Finally | Timer::RunQueue, .. } => choice > 240,
                _ => true,
            })
            .collect();
        let total = fresh.len() + self.in_flight.len();
        if total == 0 {
            // Only people and clocks can go on from here.
            if let Some((at, _)) = self.run.questions().first() {
                let at = at.clone();
                return self.record(Event::ApprovalGiven {
                    at,
                    approved: choice.is_multiple_of(2),
                    note: None,
                    by: None,
                });
            }
            assert!(choice <= 240, "stuck: {:?}", self.run);
            return self.turn(255, fault);
        }
        let pick = usize::from(choice) % total;
        if let Some(command) = fresh.get(pick) {
            self.carry_out(command.clone(), choice);
        } else {
            let (at, attempt) = self.in_flight.iter().nth(pick - fresh.len()).unwrap().clone();
            self.end(at, attempt, fault);
        }
    }

    fn carry_out(&mut self, command: Command, choice: u8) {
        match command {
            Command::Admit if self.run.is_due() && choice.is_multiple_of(2) => {
                self.record(Event::RunQueued { group: "g".into() });
            }
            Command::Admit => self.record(Event::RunAdmitted),
            Command::Start { at, attempt } => self.start(at, attempt, choice),
            Command::Skip { at, reason } => self.record(Event::StepSkipped { at, reason }),
            Command::Wait { timer, until_ms } => {
                self.now_ms = self.now_ms.max(until_ms);
                self.record(Event::TimerElapsed { timer });
            }
            Command::Stop { at, attempt } => {
                self.in_flight.remove(&(at.clone(), attempt));
                let error = StepError::new(ErrorKind::CANCELLED, "stopped");
                self.record(Event::StepFailed { at, attempt, error, jitter: 0 });
            }
            Command::Finish(finish) => self.record(Event::RunFinished {
                state: finish.state,
                exit_code: 0,
                outputs: finish.outputs,
                error: finish.error,
            }),
        }
    }

    fn start(&mut self, at: StepRef, attempt: u32, choice: u8) {
        let definition = self.run.definition(&at.step).unwrap().clone();
        if definition.concurrency().is_some() && !self.run.is_queued(&at) && choice.is_multiple_of(2) {
            return self.record(Event::StepQueued { at, attempt, group: "g".into() });
        }
        let cached = definition.call().is_some_and(|call| call.cache.is_some());
        if cached && !self.run.is_queued(&at) && choice.is_multiple_of(3) {
            let outputs = Map::from_iter([("value".to_owned(), json!(0))]);
            return self.record(Event::StepReused { at, outputs, source: RunId::new("r") });
        }
        self.record(Event::StepStarted { at: at.clone(), attempt, idempotency_key: None });
        match &definition.action {
            Action::ForEach(each) => {
                let items = self.run.loop_items(&at, each).unwrap();
                self.record(Event::LoopStarted { step: at.step, items });
            }
            Action::Approve(asked) => {
                let message = self.run.question(&at, &asked.message).unwrap();
                self.record(Event::ApprovalRequested { at, message });
            }
            Action::Call(_) | Action::Workflow(_) => _ = self.in_flight.insert((at, attempt)),
        }
    }

    fn end(&mut self, at: StepRef, attempt: u32, fault: &Fault) {
        self.in_flight.remove(&(at.clone(), attempt));
        self.now_ms += 7;
        if let Err(error) = self.run.arguments(&at) {
            return self.record(Event::StepFailed { at, attempt, error, jitter: 0 });
        }
        self.record(match fault {
            Fault::Fail { retryable, jitter } => {
                let kind = if *retryable { ErrorKind::NETWORK } else { ErrorKind::CANCELLED };
                Event::StepFailed { at, attempt, error: StepError::new(kind, "a fault"), jitter: *jitter }
            }
            _ => {
                let outputs = Map::from_iter([("value".to_owned(), json!(attempt))]);
                Event::StepSucceeded { at, attempt, outputs }
            }
        });
    }

    fn replayed(&self) -> Run {
        Run::replay(self.journal.iter().map(|(at_ms, event)| (*at_ms, event))).unwrap()
    }

    /// What holds for a run that has ended.
    fn check_end(&self, outcome: Outcome) -> Result<(), TestCaseError> {
        prop_assert!(self.run.commands().is_empty());
        prop_assert!(self.in_flight.is_empty(), "an attempt outlived its run");
        prop_assert!(self.run.questions().is_empty(), "a question outlived its run");
        match outcome {
            Outcome::Succeeded => {
                for (id, step) in &self.run.workflow().steps {
                    let phase = &self.run.step(id).unwrap().phase;
                    let good = match phase {
                        Phase::Succeeded | Phase::Skipped { .. } => true,
                        Phase::Failed => step.continue_on_error,
                        _ => false,
                    };
                    prop_assert!(good, "{} is {:?}", id, phase);
                }
            }
            Outcome::Cancelled => {
                let cancelled = self.recent().iter().any(|(_, e)| matches!(e, Event::CancelRequested { .. }));
                prop_assert!(cancelled || self.run.error().is_some_and(|error| error.step.is_some()));
            }
            Outcome::Failed | Outcome::TimedOut => prop_assert!(self.run.error().is_some()),
        }
        Ok(())
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("HARVEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_run_ends_and_replays(workflow in workflows(), faults in faults()) {
        let mut world = World::new(workflow);
        let mut faults = faults.into_iter();
        let mut retries = 0;
        for turn in 0..3000 {
            let (choice, fault) = faults.next().unwrap_or(((turn % 7) as u8, Fault::None));
            world.turn(choice, &fault);
            prop_assert_eq!(&world.replayed(), &world.run);
            let Some((outcome, _)) = world.run.finished() else { continue };
            world.check_end(outcome)?;
            if outcome == Outcome::Succeeded || retries == RETRIES_MAX {
                break;
            }
            retries += 1;
            world.record(Event::RunRetried { note: None });
        }
        prop_assert!(world.run.finished().is_some(), "never ended: {:?}", world.run);
    }

    #[test]
    fn a_refused_event_changes_nothing(
        workflow in workflows(),
        raw in prop::collection::vec((0u8..12, 0u32..4, 0u8..12, prop::option::of(0u8..3)), 0..80),
    ) {
        let mut world = World::new(workflow);
        for (step, attempt, kind, item) in raw {
            let step = StepId::new(format!("{}{}", if step % 4 == 0 { "f" } else { "s" }, step / 2));
            let at = match item {
                Some(n) => StepRef::of_item(StepId::new(format!("{step}_0")), n.to_string()),
                None => step.clone().into(),
            };
            let error = StepError::new(ErrorKind::NETWORK, "x");
            let event = match kind {
                0 => Event::StepStarted { at, attempt, idempotency_key: None },
                1 => Event::StepSucceeded { at, attempt, outputs: Map::new() },
                2 => Event::StepFailed { at, attempt, error, jitter: 500 },
                3 => Event::TimerElapsed { timer: Timer::Retry { at, attempt } },
                4 => Event::StepSkipped { at, reason: "because".into() },
                5 => Event::TimerElapsed { timer: Timer::Run },
                6 => Event::StepQueued { at, attempt, group: "g".into() },
                7 => Event::RunAdmitted,
                8 => Event::LoopStarted { step, items: vec![] },
                9 => Event::ApprovalRequested { at, message: "?".into() },
                10 => Event::ApprovalGiven { at, approved: true, note: None, by: None },
                _ => Event::RunFinished { state: Outcome::Succeeded, exit_code: 0, outputs: Map::new(), error: None },
            };
            let before = world.run.clone();
            world.now_ms += 20;
            if world.run.apply(world.now_ms, &event).is_err() {
                prop_assert_eq!(&before, &world.run);
            }
        }
    }
}
