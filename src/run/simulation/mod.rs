//! A world that crashes: random workflows, carried through crashes, cancels, failures, time-outs and retries, and held
//! against promises all the way. `HARVEST_CASES` and `HARVEST_SEED` choose how many, and which.

mod census;
mod explore;
mod planted;
mod promises;
mod shape;
mod upgrades;
mod world;

use super::{Event, Outcome, Timer};
use crate::id::{StepId, StepRef};
use crate::step::{ErrorKind, StepError};
use explore::{CASES, explore};
use proptest::prelude::*;
use serde_json::Map;
use shape::workflows;
use std::hash::{BuildHasher, RandomState};
use world::World;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn cases() -> u32 {
    number("HARVEST_CASES").and_then(|cases| u32::try_from(cases).ok()).unwrap_or(CASES)
}

#[test]
fn every_run_ends_and_replays() {
    let seed = number("HARVEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("{} histories from HARVEST_SEED={seed}", cases());
    println!("{}", explore(cases(), seed));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

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
