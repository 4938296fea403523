//! A world that crashes: the driver's loop without wasm, disk, network or time.

use super::state::HOST_LOST_MAX;
use super::{Command, Event, Outcome, Phase, Run, RunStarted, Timer};
use crate::id::{Digest, StepId};
use crate::step::{ErrorKind, StepError};
use crate::workflow::Workflow;
use crate::workflow::model::{Action, Attempts, Call, Expression, Output, Read, Retry, Step, Template};
use crate::workflow::types::Type;
use indexmap::IndexMap;
use proptest::prelude::*;
use serde_json::{Map, json};
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Shape {
    needs: Vec<u8>,
    reads: Vec<(u8, bool)>,
    condition: Option<bool>,
    attempts: u32,
    first_ms: u64,
}

fn shapes(most: usize) -> impl Strategy<Value = Vec<Shape>> {
    let shape = (
        prop::collection::vec(any::<u8>(), 0..3),
        prop::collection::vec(any::<(u8, bool)>(), 0..3),
        prop::option::weighted(0.3, any::<bool>()),
        1u32..4,
        0u64..50,
    );
    prop::collection::vec(
        shape.prop_map(|(needs, reads, condition, attempts, first_ms)| Shape {
            needs,
            reads,
            condition,
            attempts,
            first_ms,
        }),
        0..most,
    )
}

fn workflows() -> impl Strategy<Value = Workflow> {
    (shapes(10), shapes(4), prop::option::weighted(0.2, 1u64..200)).prop_map(|(main, finally, timeout_ms)| {
        let steps = section("s", &main, &[]);
        let all: Vec<StepId> = steps.keys().cloned().collect();
        let outputs = steps.keys().take(2).map(|id| {
            let value = Template::Expression(Expression(format!("steps.{id}.value")));
            (format!("from_{id}"), Output { value, ty: Type::Option(Box::new(Type::Int)) })
        });
        Workflow {
            name: "simulated".into(),
            description: None,
            inputs: IndexMap::new(),
            secrets: IndexMap::new(),
            sandboxes: IndexMap::new(),
            timeout_ms,
            concurrency: None,
            triggers: vec![],
            hashes: vec![],
            outputs: outputs.collect(),
            finally: section("f", &finally, &all),
            finally_timeout_ms: 100,
            steps,
        }
    })
}

/// Steps that need and read earlier ones of the section, and read any of `readable`.
fn section(prefix: &str, shapes: &[Shape], readable: &[StepId]) -> IndexMap<StepId, Step> {
    let mut steps = IndexMap::new();
    for (i, shape) in shapes.iter().enumerate() {
        let earlier: Vec<StepId> = steps.keys().cloned().collect();
        let pick = |from: &[StepId], n: u8| from.get(usize::from(n) % from.len().max(1)).cloned();
        let pool: Vec<StepId> = earlier.iter().chain(readable).cloned().collect();
        let reads: Vec<Read> = shape
            .reads
            .iter()
            .filter_map(|(n, tolerant)| pick(&pool, *n).map(|step| Read { step, tolerant: *tolerant }))
            .collect();
        let with = reads.iter().filter(|read| !read.tolerant).map(|read| {
            (read.step.to_string(), Template::Expression(Expression(format!("steps.{}.value", read.step))))
        });
        let retry = Retry { attempts: shape.attempts, first_ms: shape.first_ms, ..Retry::default() };
        let call = Call {
            uses: "sim/step".into(),
            component: "sim".into(),
            digest: Digest::of(b"sim"),
            function: "step".into(),
            with: with.collect(),
            sandboxes: Default::default(),
            secrets: Default::default(),
            permissions: vec![],
            attempts: Attempts { retry, ..Attempts::default() },
            concurrency: None,
            cache: None,
            idempotency_key: None,
        };
        let step = Step {
            action: Action::Call(Box::new(call)),
            continue_on_error: false,
            needs: shape.needs.iter().filter_map(|n| pick(&earlier, *n)).collect(),
            reads,
            condition: shape.condition.map(|value| Expression(value.to_string())),
            outputs: vec![],
        };
        steps.insert(StepId::new(format!("{prefix}{i}")), step);
    }
    steps
}

#[derive(Clone, Debug)]
enum Fault {
    None,
    Fail { retryable: bool, jitter: u16 },
    Crash,
    Cancel,
}

fn faults() -> impl Strategy<Value = Vec<(u8, Fault)>> {
    let fault = prop_oneof![
        8 => Just(Fault::None),
        2 => (any::<bool>(), 0u16..=1000).prop_map(|(retryable, jitter)| Fault::Fail { retryable, jitter }),
        1 => Just(Fault::Crash),
        1 => Just(Fault::Cancel),
    ];
    prop::collection::vec((any::<u8>(), fault), 0..60)
}

struct World {
    run: Run,
    journal: Vec<(i64, Event)>,
    in_flight: BTreeSet<(StepId, u32)>,
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
        }));
        let run = Run::begin(0, &started).unwrap();
        Self { run, journal: vec![(0, started)], in_flight: BTreeSet::new(), now_ms: 0 }
    }

    /// Journals an event as the driver does, after holding it against the promises.
    fn record(&mut self, event: Event) {
        let line = serde_json::to_string(&event).unwrap();
        let event: Event = serde_json::from_str(&line).unwrap();
        if let Event::StepStarted { step, attempt } = &event {
            self.check_start(step, *attempt);
        }
        self.journal.push((self.now_ms, event.clone()));
        self.run.apply(self.now_ms, &event).unwrap();
    }

    fn check_start(&self, step: &StepId, attempt: u32) {
        let settled_well = |id: &StepId| {
            self.journal.iter().any(|(_, e)| {
                matches!(e, Event::StepSucceeded { step, .. } | Event::StepSkipped { step, .. } if step == id)
            })
        };
        let succeeded = |id: &StepId| {
            self.journal.iter().any(|(_, e)| matches!(e, Event::StepSucceeded { step, .. } if step == id))
        };
        let workflow = self.run.workflow();
        let in_finally = workflow.finally.contains_key(step);
        let definition = workflow.steps.get(step).or_else(|| workflow.finally.get(step)).unwrap();
        assert!(definition.needs.iter().all(settled_well), "{step} started before its needs");
        for read in definition.reads.iter().filter(|read| !read.tolerant) {
            assert!(succeeded(&read.step), "{step} started without what it reads");
        }
        assert_ne!(
            definition.condition,
            Some(Expression("false".into())),
            "{step} started against its condition"
        );
        assert!(!succeeded(step), "{step} started after it had succeeded");
        let starts = |(_, e): &&(i64, Event)| matches!(e, Event::StepStarted { step: s, .. } if s == step);
        let earlier = self.journal.iter().filter(starts).count() as u32;
        assert_eq!(earlier + 1, attempt, "{step}: attempts are counted without gaps");
        assert!(
            attempt <= definition.attempts().unwrap().retry.attempts + HOST_LOST_MAX,
            "{step}: too many attempts"
        );
        if !in_finally {
            let cancelled = self.journal.iter().any(|(_, e)| matches!(e, Event::CancelRequested { .. }));
            assert!(!cancelled, "{step} started after a cancel");
        } else {
            let main_running = workflow
                .steps
                .keys()
                .any(|id| matches!(self.run.step(id).unwrap().phase, Phase::Running { .. }));
            assert!(!main_running, "finally began beside a running step");
        }
    }

    fn turn(&mut self, choice: u8, fault: &Fault) {
        match fault {
            Fault::Crash => {
                self.in_flight.clear();
                self.run = self.replayed();
                return self.record(Event::HostLost);
            }
            Fault::Cancel => return self.record(Event::CancelRequested { note: None }),
            Fault::None | Fault::Fail { .. } => {}
        }
        let all = self.run.commands();
        let fresh: Vec<Command> = all
            .into_iter()
            .filter(|command| match command {
                Command::Start { step, attempt } => !self.in_flight.contains(&(step.clone(), *attempt)),
                // A run's own timers fire when nothing else is to be done, and now and then before.
                Command::Wait { timer: Timer::Run | Timer::Finally, .. } => choice > 240,
                _ => true,
            })
            .collect();
        let total = fresh.len() + self.in_flight.len();
        assert!(total > 0 || choice <= 240, "stuck: {:?}", self.run);
        if total == 0 {
            return self.turn(255, fault);
        }
        let pick = usize::from(choice) % total;
        if let Some(command) = fresh.get(pick) {
            self.carry_out(command.clone());
        } else {
            let (step, attempt) = self.in_flight.iter().nth(pick - fresh.len()).unwrap().clone();
            self.end(step, attempt, fault);
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Start { step, attempt } => {
                self.record(Event::StepStarted { step: step.clone(), attempt });
                self.in_flight.insert((step, attempt));
            }
            Command::Skip { step, reason } => self.record(Event::StepSkipped { step, reason }),
            Command::Wait { timer, until_ms } => {
                self.now_ms = self.now_ms.max(until_ms);
                self.record(Event::TimerElapsed { timer });
            }
            Command::Stop { step, attempt } => {
                self.in_flight.remove(&(step.clone(), attempt));
                let error = StepError::new(ErrorKind::CANCELLED, "stopped");
                self.record(Event::StepFailed { step, attempt, error, jitter: 0 });
            }
            Command::Finish(finish) => self.record(Event::RunFinished {
                state: finish.state,
                exit_code: 0,
                outputs: finish.outputs,
                error: finish.error,
            }),
        }
    }

    fn end(&mut self, step: StepId, attempt: u32, fault: &Fault) {
        self.in_flight.remove(&(step.clone(), attempt));
        self.now_ms += 7;
        if let Err(error) = self.run.arguments(&step) {
            return self.record(Event::StepFailed { step, attempt, error, jitter: 0 });
        }
        self.record(match fault {
            Fault::Fail { retryable, jitter } => {
                let kind = if *retryable { ErrorKind::NETWORK } else { ErrorKind::CANCELLED };
                Event::StepFailed { step, attempt, error: StepError::new(kind, "a fault"), jitter: *jitter }
            }
            _ => {
                let outputs = Map::from_iter([("value".to_owned(), json!(attempt))]);
                Event::StepSucceeded { step, attempt, outputs }
            }
        });
    }

    fn replayed(&self) -> Run {
        Run::replay(self.journal.iter().map(|(at_ms, event)| (*at_ms, event))).unwrap()
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
        let calm = std::iter::repeat((0u8, Fault::None));
        for (choice, fault) in faults.into_iter().chain(calm.take(1000)) {
            world.turn(choice, &fault);
            prop_assert_eq!(&world.replayed(), &world.run);
            if world.run.finished().is_some() { break; }
        }
        let Some((outcome, _)) = world.run.finished() else {
            return Err(TestCaseError::fail(format!("never ended: {:?}", world.run)));
        };
        prop_assert!(world.run.commands().is_empty());
        prop_assert!(world.in_flight.is_empty(), "an attempt outlived its run");
        let cancelled = world.journal.iter().any(|(_, event)| matches!(event, Event::CancelRequested { .. }));
        match outcome {
            Outcome::Succeeded => {
                let states: Vec<_> = world.run.workflow().steps.keys().map(|id| world.run.step(id).unwrap()).collect();
                let good = |s: &&super::StepState| matches!(s.phase, Phase::Succeeded | Phase::Skipped { .. });
                prop_assert!(states.iter().all(good));
            }
            Outcome::Cancelled => prop_assert!(cancelled || world.run.error().is_some_and(|e| e.step.is_some())),
            Outcome::Failed | Outcome::TimedOut => prop_assert!(world.run.error().is_some()),
        }
    }

    #[test]
    fn a_refused_event_changes_nothing(workflow in workflows(), raw in prop::collection::vec((0u8..12, 0u32..4, 0u8..7), 0..80)) {
        let mut world = World::new(workflow);
        for (step, attempt, kind) in raw {
            let step = StepId::new(format!("{}{}", if step % 4 == 0 { "f" } else { "s" }, step / 2));
            let event = match kind {
                0 => Event::StepStarted { step, attempt },
                1 => Event::StepSucceeded { step, attempt, outputs: Map::new() },
                2 => Event::StepFailed { step, attempt, error: StepError::new(ErrorKind::NETWORK, "x"), jitter: 500 },
                3 => Event::TimerElapsed { timer: Timer::Retry { step, attempt } },
                4 => Event::StepSkipped { step, reason: "because".into() },
                5 => Event::TimerElapsed { timer: Timer::Run },
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
