//! What the histories were like, so that a reader can tell what was tried and what was not.

use super::super::{Event, Outcome};
use super::world::World;
use crate::id::StepId;
use crate::workflow::model::{Action, Step};
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::fmt;

/// How often each number was seen, by what was counted.
#[derive(Debug, Default)]
pub(super) struct Census {
    measures: IndexMap<&'static str, BTreeMap<usize, usize>>,
    outcomes: BTreeMap<&'static str, usize>,
}

impl Census {
    pub(super) fn add(&mut self, world: &World) {
        let workflow = world.run.workflow();
        let steps = || workflow.all_steps().map(|(_, step)| step);
        let actions = |is: fn(&Action) -> bool| steps().filter(|step| is(&step.action)).count();
        let events = |is: fn(&Event) -> bool| world.journal.iter().filter(|(_, event)| is(event)).count();
        let items = |event: &Event| match event {
            Event::LoopStarted { items, .. } => items.len(),
            _ => 0,
        };
        let again = |event: &Event| matches!(event, Event::StepStarted { attempt, .. } if *attempt > 1);
        for (name, number) in [
            ("steps", steps().count()),
            ("depth", depth(&workflow.steps).max(depth(&workflow.finally))),
            ("loops", actions(|action| matches!(action, Action::ForEach(_)))),
            ("items", world.journal.iter().map(|(_, event)| items(event)).sum()),
            ("approvals", actions(|action| matches!(action, Action::Approve(_)))),
            ("in groups", steps().filter(|step| step.concurrency().is_some()).count()),
            ("cached", steps().filter(|s| s.call().is_some_and(|call| call.cache.is_some())).count()),
            ("finally", workflow.finally.len()),
            ("events", world.journal.len()),
            ("attempts", events(|event| matches!(event, Event::StepStarted { .. }))),
            ("further attempts", events(again)),
            ("bills", events(|event| matches!(event, Event::StepSpent { .. }))),
            ("skips", events(|event| matches!(event, Event::StepSkipped { .. }))),
            ("time-outs", events(|event| matches!(event, Event::TimerElapsed { .. }))),
            ("cancels", events(|event| matches!(event, Event::CancelRequested { .. }))),
            ("crashes", world.crashes),
            ("run-retries", world.retries),
        ] {
            *self.measures.entry(name).or_default().entry(number).or_default() += 1;
        }
        let outcome = world.run.finished().map_or("unfinished", |(outcome, _)| Outcome::as_str(outcome));
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (name, seen) in other.measures {
            let all = self.measures.entry(name).or_default();
            seen.into_iter().for_each(|(number, times)| *all.entry(number).or_default() += times);
        }
        other.outcomes.into_iter().for_each(|(name, times)| *self.outcomes.entry(name).or_default() += times);
    }
}

/// Steps of the longest chain.
fn depth(steps: &IndexMap<StepId, Step>) -> usize {
    let mut depths: IndexMap<&StepId, usize> = IndexMap::new();
    for (id, step) in steps {
        let before = step.needs.iter().chain(step.reads.iter().map(|read| &read.step));
        let longest = before.filter_map(|id| depths.get(id)).max().copied().unwrap_or(0);
        let inner = step.body().map_or(0, depth);
        depths.insert(id, longest + 1 + inner);
    }
    depths.into_values().max().unwrap_or(0)
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<18}{:>8}{:>8}{:>8}{:>8}{:>8}{:>10}",
            "per history", "none", "median", "p90", "p99", "most", "all"
        )?;
        for (name, seen) in &self.measures {
            let total: usize = seen.values().sum();
            let at = |percent: usize| {
                let mut left = (total * percent).div_ceil(100);
                let reached = |times: &usize| {
                    let here = left <= *times;
                    left = left.saturating_sub(*times);
                    here
                };
                let mut seen = seen.iter();
                let mut reached = reached;
                seen.find(|(_, times)| reached(times)).map_or(0, |(number, _)| *number)
            };
            let none = seen.get(&0).copied().unwrap_or(0) * 100 / total.max(1);
            let most = seen.keys().last().copied().unwrap_or(0);
            let all: usize = seen.iter().map(|(number, times)| number * times).sum();
            let (median, p90, p99) = (at(50), at(90), at(99));
            writeln!(f, "{name:<18}{:>8}{median:>8}{p90:>8}{p99:>8}{most:>8}{all:>10}", format!("{none} %"))?;
        }
        let ends: Vec<_> = self.outcomes.iter().map(|(name, times)| format!("{name} {times}")).collect();
        write!(f, "ended as: {}", ends.join(", "))
    }
}
