//! Draws histories from a seed and carries them out, on all cores.

use super::census::Census;
use super::shape::workflows;
use super::world::{Fate, fates, history};
use crate::workflow::Workflow;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Histories where the environment names no other number.
pub(super) const CASES: u32 = 1_000;
/// Progress is told this often in all, where there are enough histories for it to take a while.
const TOLD: u32 = 100;
const TOLD_FROM: u32 = 20_000;

/// Draws histories, the same ones from the same seed.
struct Draw {
    runner: TestRunner,
    seed: u64,
}

impl Draw {
    fn new(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Self { runner: TestRunner::new_with_rng(config, rng), seed }
    }

    fn next(&mut self) -> impl ValueTree<Value = (Workflow, Fate)> + use<> {
        (workflows(), fates()).new_tree(&mut self.runner).unwrap()
    }
}

/// How many histories it takes, of at most [`CASES`] from this seed, until one breaks a promise; and which.
pub(super) fn until_broken(seed: u64) -> Option<(u32, String)> {
    let mut draw = Draw::new(seed);
    (1..=CASES).find_map(|case| {
        let (workflow, fate) = draw.next().current();
        let broken = catch_unwind(AssertUnwindSafe(|| history(workflow, fate))).err()?;
        let text = broken.downcast_ref::<String>().cloned();
        Some((
            case,
            text.or_else(|| broken.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default(),
        ))
    })
}

/// Carries out that many histories on all cores; a broken promise is a panic with the smallest history that breaks it.
pub(super) fn explore(cases: u32, seed: u64) -> Census {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32).min(cases.max(1));
    let (done, started) = (AtomicU32::new(0), Instant::now());
    let worker = |number: u32| {
        let mut draw = Draw::new(seed.wrapping_add(u64::from(number)));
        let mut census = Census::default();
        for _ in 0..cases / threads + u32::from(number < cases % threads) {
            let tree = draw.next();
            let (workflow, fate) = tree.current();
            match catch_unwind(AssertUnwindSafe(|| history(workflow, fate))) {
                Ok(world) => census.add(&world),
                Err(_) => smallest(&mut draw, tree),
            }
            tell(done.fetch_add(1, Ordering::Relaxed) + 1, cases, started);
        }
        census
    };
    let worker = &worker;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|number| scope.spawn(move || worker(number))).collect();
        let mut all = Census::default();
        for one in workers {
            match one.join() {
                Ok(census) => all.merge(census),
                Err(broken) => std::panic::resume_unwind(broken),
            }
        }
        all
    })
}

/// Shrinks a history that breaks a promise, and ends the test with what is left.
fn smallest(draw: &mut Draw, tree: impl ValueTree<Value = (Workflow, Fate)>) {
    let test = |(workflow, fate): (Workflow, Fate)| {
        history(workflow, fate);
        Ok(())
    };
    let seed = draw.seed;
    if let Err(broken) = draw.runner.run_one(tree, test) {
        panic!("seed {seed}: {broken}");
    }
    panic!("seed {seed}: a history broke a promise once and not again");
}

fn tell(done: u32, cases: u32, started: Instant) {
    if cases >= TOLD_FROM && done.is_multiple_of(cases / TOLD) {
        let rate = f64::from(done) / started.elapsed().as_secs_f64().max(0.001);
        println!("{done} of {cases} histories, {rate:.0} a second");
    }
}
