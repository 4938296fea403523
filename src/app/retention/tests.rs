//! The choice is what the limits say: no more, no less, and never a run that goes on or is a part of one that stays.

use super::look::{self, OnDisk};
use super::*;
use crate::config::Retention;
use crate::journal::{Journal, MemoryJournal, Record, RunRow};
use crate::run::{Event, Parent, RunStarted};
use crate::workflow::Workflow;
use indexmap::IndexMap;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// A moment, in hours.
fn hour(n: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + n * 3600).unwrap()
}

/// A home with limits: hours of age, runs, bytes.
fn policy() -> impl Strategy<Value = Retention> {
    let limit = |most: u64| proptest::option::of(0..most);
    (limit(100), limit(30), limit(3000)).prop_map(|(age, runs, size)| Retention {
        age: age.map(|hours| Duration::from_secs(hours * 3600)),
        runs,
        size,
    })
}

/// Runs of a home. Each may be a step of one before it, at the same time of creation; one in four goes on.
fn runs() -> impl Strategy<Value = Vec<Candidate>> {
    let run = (proptest::option::weighted(0.4, any::<prop::sample::Index>()), 0..100_i64, 0..4, 0..300_u64);
    proptest::collection::vec(run, 0..40).prop_map(|runs| {
        let mut made: Vec<Candidate> = Vec::new();
        for (n, (parent, ended, goes_on, bytes)) in runs.into_iter().enumerate() {
            let parent = parent.filter(|_| n > 0).map(|index| made[index.index(n)].run.clone());
            let run = match &parent {
                Some(parent) => parent.child(&n.to_string()),
                None => RunId::parse(&format!("01j{:07}0000000000000000", n / 2)).unwrap(),
            };
            // Two roots share each time of creation.
            let run = if parent.is_none() && n % 2 == 1 { run.child("beside") } else { run };
            made.push(Candidate { run, parent, ended_at: (goes_on > 0).then(|| hour(ended)), bytes });
        }
        let mut seen = BTreeMap::new();
        made.retain(|found| seen.insert(found.run.clone(), ()).is_none());
        made
    })
}

fn totals(runs: &[Candidate]) -> Totals {
    Totals { runs: runs.len() as u64, bytes: runs.iter().map(|run| run.bytes).sum() }
}

fn within(policy: &Retention, totals: Totals) -> bool {
    policy.runs.is_none_or(|most| totals.runs <= most) && policy.size.is_none_or(|most| totals.bytes <= most)
}

proptest! {
    #[test]
    fn the_choice_is_what_the_limits_say(runs in runs(), policy in policy()) {
        let now = hour(100);
        let chosen = choose(&runs, totals(&runs), &policy, now);
        let gone: BTreeMap<&RunId, &Family> =
            chosen.iter().flat_map(|family| family.runs.iter().map(move |run| (run, family))).collect();
        let of = |id: &RunId| runs.iter().find(|run| run.run == *id).unwrap();
        // Never one that goes on; always together with its parent and the runs below.
        for run in &runs {
            let parent = run.parent.as_ref().map(|parent| gone.contains_key(parent));
            prop_assert!(parent.is_none_or(|parent| parent == gone.contains_key(&run.run)));
            prop_assert!(run.ended_at.is_some() || !gone.contains_key(&run.run));
        }
        // Parents first, and all of it counted.
        for family in &chosen {
            prop_assert!(of(&family.runs[0]).parent.is_none());
            prop_assert_eq!(family.bytes, family.runs.iter().map(|run| of(run).bytes).sum::<u64>());
            prop_assert_eq!(Some(family.ended_at), family.runs.iter().map(|run| of(run).ended_at.unwrap()).max());
        }
        prop_assert!(chosen.is_sorted_by_key(|family| family.ended_at));
        // Enough: what is left is within the limits, or cannot go.
        let mut left = totals(&runs);
        let too_old = |family: &Family| {
            policy.age.is_some_and(|age| now.duration_since(family.ended_at).unsigned_abs() > age)
        };
        for family in &chosen {
            // Not too much: each was needed when it was its turn.
            prop_assert!(too_old(family) || !within(&policy, left));
            left.runs -= family.runs.len() as u64;
            left.bytes -= family.bytes;
        }
        let stays: Vec<Candidate> = runs.iter().filter(|run| !gone.contains_key(&run.run)).cloned().collect();
        let forced = Retention { runs: Some(0), size: Some(0), age: Some(Duration::ZERO) };
        let could = choose(&stays, Totals { runs: 1000, bytes: u64::MAX }, &forced, now);
        prop_assert!(could.iter().all(|family| !too_old(family)));
        prop_assert!(could.is_empty() || within(&policy, left));
        // Nothing more goes when it is asked again.
        prop_assert_eq!(choose(&stays, left, &policy, now), vec![]);
    }

    #[test]
    fn looking_at_a_journal_finds_what_is_in_it(runs in runs(), count in 1..20_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let journal = MemoryJournal::default();
            let mut all = Vec::new();
            for run in &runs {
                let bytes = put(&journal, run).await;
                all.push(Candidate { bytes: if run.ended_at.is_some() { bytes } else { 0 }, ..run.clone() });
            }
            all.sort_by(|a, b| a.run.cmp(&b.run));
            let disk = OnDisk::default();
            let found = look::everything(&journal, &disk).await.unwrap();
            assert_eq!(found, all);
            // Looking at the oldest alone chooses the same ones first.
            let totals = look::totals(&journal, &disk).await.unwrap();
            let policy = Retention { age: None, runs: Some(0), size: None };
            let whole = choose(&found, totals, &policy, hour(100));
            let some = look::oldest(&journal, &disk, count).await.unwrap();
            let before = some.before;
            let mut some = choose(&some.candidates, totals, &policy, hour(100));
            some.retain(|family| before.is_none_or(|before| family.ended_at < before));
            assert_eq!(some[..], whole[..some.len()]);
            assert!(before.is_some() || some.len() == whole.len());
        });
    }
}

#[test]
fn a_home_is_looked_through_only_where_its_journal_says_so() {
    let due = |runs, bytes, policy: Retention| {
        choose::is_due(crate::journal::Usage { runs, bytes }, hour(0), &policy, hour(24))
    };
    let none = Retention { age: None, runs: None, size: None };
    let (days, size) = (|n: u64| Some(Duration::from_secs(n * 86_400)), Some(1000));
    for (runs, bytes, policy, expected) in [
        (20, 10, none, false),
        (7, 10, Retention { age: days(2), ..none }, false),
        (7, 10, Retention { age: days(0), ..none }, true),
        // A few too many are left for the next time, in a large home.
        (3, 10, Retention { runs: Some(2), ..none }, true),
        (10_050, 10, Retention { runs: Some(10_000), ..none }, false),
        (10_051, 10, Retention { runs: Some(10_000), ..none }, true),
        (7, 1001, Retention { size, ..none }, true),
        (7, 10, Retention { size, ..none }, false),
        (40, 10, Retention { size, ..none }, true),
    ] {
        assert_eq!(due(runs, bytes, policy), expected, "{runs} runs, {bytes} bytes, {policy:?}");
    }
}

/// Journals a run, and returns the bytes of its events.
async fn put(journal: &MemoryJournal, run: &Candidate) -> u64 {
    let started = RunStarted {
        workflow: "w".into(),
        definition: std::sync::Arc::new(empty()),
        source: String::new(),
        file: "w.yaml".into(),
        inputs: serde_json::Map::new(),
        run: serde_json::Map::new(),
        secrets: BTreeSet::new(),
        hashes: BTreeMap::new(),
        mocks: BTreeMap::new(),
        injected: BTreeMap::new(),
        parent: run.parent.clone().map(|run| Parent { run, at: crate::id::StepId::new("a").into() }),
        provider: crate::run::LOCAL.into(),
        session: None,
    };
    let first = Record::of(1, hour(0), &Event::RunStarted(Box::new(started))).unwrap();
    let bytes = first.payload.len() as u64;
    let row = RunRow {
        run: run.run.clone(),
        workflow: "w".into(),
        state: if run.ended_at.is_some() { "failed" } else { "running" }.into(),
        started_at: hour(0),
        finished_at: run.ended_at,
        usd: None,
        tokens: None,
    };
    journal.append(&run.run, 0, vec![first], row).await.unwrap();
    bytes
}

/// A workflow that does nothing.
fn empty() -> Workflow {
    Workflow {
        name: "w".into(),
        description: None,
        inputs: IndexMap::new(),
        secrets: IndexMap::new(),
        sandboxes: IndexMap::new(),
        timeout_ms: None,
        budget_micro_usd: None,
        concurrency: None,
        triggers: vec![],
        steps: IndexMap::new(),
        finally: IndexMap::new(),
        finally_timeout_ms: 60_000,
        outputs: IndexMap::new(),
        hashes: vec![],
    }
}
