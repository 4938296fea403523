//! The driver's loop without wasm, disk, network or time: commands are carried out in any order, and faults strike.

use super::super::{Command, Event, Outcome, Run, RunStarted, Timer};
use crate::id::{RunId, StepRef};
use crate::step::{ErrorKind, Spent, StepError};
use crate::workflow::Workflow;
use crate::workflow::model::Action;
use proptest::prelude::*;
use serde_json::{Map, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Turns that a history may take: far more than any needs.
const TURNS_MAX: usize = 3000;
/// Choices above this let limits of time pass though there is other work.
const CHOICE_TIME: u8 = 240;

/// What strikes in a turn.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    None,
    Fail {
        kind: Kind,
        jitter: u16,
    },
    /// The process dies between two turns.
    Crash,
    /// The process dies once an attempt is journalled, and before what follows.
    CrashInside,
    Cancel,
    /// Answers whoever asks.
    Answer {
        yes: bool,
    },
    /// An attempt at work uses a paid service.
    Spend {
        micro_usd: u64,
    },
}

/// How an attempt fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Network,
    TimedOut,
    Cancelled,
}

/// What happens in a history beside its workflow: how often a failed run is retried, and faults by turn.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    pub(super) retries: usize,
    pub(super) faults: Vec<(u8, Fault)>,
}

pub(super) fn fates() -> impl Strategy<Value = Fate> {
    let kind = prop_oneof![2 => Just(Kind::Network), 1 => Just(Kind::TimedOut), 1 => Just(Kind::Cancelled)];
    let fault = prop_oneof![
        16 => Just(Fault::None),
        4 => (kind, 0u16..=1000).prop_map(|(kind, jitter)| Fault::Fail { kind, jitter }),
        2 => Just(Fault::Crash),
        1 => Just(Fault::CrashInside),
        1 => Just(Fault::Cancel),
        3 => any::<bool>().prop_map(|yes| Fault::Answer { yes }),
        2 => (1u64..=1000).prop_map(|micro_usd| Fault::Spend { micro_usd }),
    ];
    (0usize..=2, prop::collection::vec((any::<u8>(), fault), 0..60))
        .prop_map(|(retries, faults)| Fate { retries, faults })
}

/// A run, and everything that has happened to it.
pub(super) struct World {
    pub(super) run: Run,
    /// The journal as events, for the promises.
    pub(super) journal: Vec<(i64, Event)>,
    /// The journal as it lies on disk.
    lines: Vec<(i64, String)>,
    /// The state after each event, as it was at the time.
    prefixes: Vec<Run>,
    pub(super) in_flight: BTreeSet<(StepRef, u32)>,
    pub(super) now_ms: i64,
    pub(super) crashes: usize,
    pub(super) retries: usize,
}

/// Carries a workflow to its end through what its fate has in store, and holds it against every promise.
pub(super) fn history(workflow: Workflow, fate: Fate) -> World {
    let mut world = World::new(workflow);
    let mut faults = fate.faults.into_iter();
    for turn in 0..TURNS_MAX {
        let (choice, fault) = faults.next().unwrap_or(((turn % 7) as u8, Fault::None));
        world.turn(choice, &fault);
        let Some((outcome, _)) = world.run.finished() else { continue };
        world.check_end(outcome);
        if outcome == Outcome::Succeeded || world.retries == fate.retries {
            break;
        }
        world.retries += 1;
        world.record(Event::RunRetried { note: None });
    }
    assert!(world.run.finished().is_some(), "never ended: {:?}", world.run);
    world.check_prefixes();
    world
}

impl World {
    pub(super) fn new(workflow: Workflow) -> Self {
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
            injected: Default::default(),
            parent: None,
            provider: crate::run::LOCAL.into(),
            session: None,
        }));
        let run = Run::begin(0, &started).unwrap();
        Self {
            prefixes: vec![run.clone()],
            run,
            lines: vec![(0, serde_json::to_string(&started).unwrap())],
            journal: vec![(0, started)],
            in_flight: BTreeSet::new(),
            now_ms: 0,
            crashes: 0,
            retries: 0,
        }
    }

    /// Journals an event as the driver does, and holds it against the promises.
    pub(super) fn record(&mut self, event: Event) {
        if let Event::StepStarted { at, attempt, .. } = &event {
            self.check_start(at, *attempt);
        }
        let before = self.prefixes.len() - 1;
        self.run.apply(self.now_ms, &event).unwrap();
        self.lines.push((self.now_ms, serde_json::to_string(&event).unwrap()));
        self.journal.push((self.now_ms, event));
        self.prefixes.push(self.run.clone());
        self.check_follows(&self.prefixes[before]);
    }

    /// The state that a process finds which begins now: from what lies on disk, and nothing else.
    fn replayed(&self) -> Run {
        let events: Vec<(i64, Event)> =
            self.lines.iter().map(|(at_ms, line)| (*at_ms, serde_json::from_str(line).unwrap())).collect();
        Run::replay(events.iter().map(|(at_ms, event)| (*at_ms, event))).unwrap()
    }

    /// Holds each state that there was against what a process would have found that began then.
    pub(super) fn check_prefixes(&self) {
        let mut replayed: Option<Run> = None;
        for ((at_ms, line), live) in self.lines.iter().zip(&self.prefixes) {
            let event: Event = serde_json::from_str(line).unwrap();
            match &mut replayed {
                None => replayed = Some(Run::begin(*at_ms, &event).unwrap()),
                Some(run) => run.apply(*at_ms, &event).unwrap(),
            }
            assert_eq!(replayed.as_ref(), Some(live), "replayed is not live after {line}");
        }
    }

    /// Another process takes over.
    fn crash(&mut self) {
        self.crashes += 1;
        self.in_flight.clear();
        let replayed = self.replayed();
        assert_eq!(replayed, self.run, "a process that takes over finds another state");
        self.run = replayed;
        if self.run.has_running() {
            self.record(Event::HostLost);
        }
    }

    pub(super) fn turn(&mut self, choice: u8, fault: &Fault) {
        match fault {
            Fault::Crash => return self.crash(),
            Fault::Cancel => return self.record(Event::CancelRequested { note: None }),
            Fault::Answer { yes } => {
                let question = self.run.questions().first().map(|(at, _)| at.clone());
                if let Some(at) = question {
                    return self.record(Event::ApprovalGiven { at, approved: *yes, note: None, by: None });
                }
            }
            Fault::Spend { micro_usd } => {
                let spender =
                    self.in_flight.iter().nth(usize::from(choice) % self.in_flight.len().max(1)).cloned();
                if let Some((at, attempt)) = spender {
                    let spent = Spent { micro_usd: *micro_usd, input_tokens: *micro_usd, output_tokens: 1 };
                    return self.record(Event::StepSpent { at, attempt, spent });
                }
            }
            Fault::None | Fault::Fail { .. } | Fault::CrashInside => {}
        }
        let fresh: Vec<Command> = self
            .run
            .commands()
            .into_iter()
            .filter(|command| match command {
                Command::Start { at, attempt } => !self.in_flight.contains(&(at.clone(), *attempt)),
                // Limits of time pass when nothing else is to be done, and now and then before.
                Command::Wait { timer: Timer::Run | Timer::Finally | Timer::RunQueue, .. } => {
                    choice > CHOICE_TIME
                }
                _ => true,
            })
            .collect();
        let total = fresh.len() + self.in_flight.len();
        if total == 0 {
            // Only people and clocks can go on from here.
            if let Some((at, _)) = self.run.questions().first() {
                let (at, approved) = (at.clone(), choice.is_multiple_of(2));
                return self.record(Event::ApprovalGiven { at, approved, note: None, by: None });
            }
            assert!(choice <= CHOICE_TIME, "stuck: {:?}", self.run);
            return self.turn(u8::MAX, fault);
        }
        let pick = usize::from(choice) % total;
        if let Some(command) = fresh.get(pick) {
            self.carry_out(command.clone(), choice, fault);
        } else {
            let (at, attempt) = self.in_flight.iter().nth(pick - fresh.len()).unwrap().clone();
            self.end(at, attempt, fault);
        }
    }

    fn carry_out(&mut self, command: Command, choice: u8, fault: &Fault) {
        match command {
            Command::Admit if self.run.is_due() && choice.is_multiple_of(2) => {
                self.record(Event::RunQueued { group: "g".into() });
            }
            Command::Admit => self.record(Event::RunAdmitted),
            Command::Start { at, attempt } => self.start(at, attempt, choice, fault),
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

    fn start(&mut self, at: StepRef, attempt: u32, choice: u8, fault: &Fault) {
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
        if matches!(fault, Fault::CrashInside) {
            return self.crash();
        }
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
            Fault::Fail { kind, jitter } => {
                let kind = match kind {
                    Kind::Network => ErrorKind::NETWORK,
                    Kind::TimedOut => ErrorKind::TIMED_OUT,
                    Kind::Cancelled => ErrorKind::CANCELLED,
                };
                Event::StepFailed { at, attempt, error: StepError::new(kind, "a fault"), jitter: *jitter }
            }
            _ => {
                let outputs = Map::from_iter([("value".to_owned(), json!(attempt))]);
                Event::StepSucceeded { at, attempt, outputs }
            }
        });
    }

    /// Events since the run was last retried or upgraded.
    pub(super) fn recent(&self) -> &[(i64, Event)] {
        self.since(|event| matches!(event, Event::RunRetried { .. } | Event::RunUpgraded(_)))
    }

    /// Events from the last such one on, all where there is none.
    pub(super) fn since(&self, is: impl Fn(&Event) -> bool) -> &[(i64, Event)] {
        let start = self.journal.iter().rposition(|(_, event)| is(event));
        &self.journal[start.unwrap_or(0)..]
    }
}
