//! What becomes of each step where a run moves to another version of its file. Decides, and changes nothing: `carry`
//! does what was decided, once it is journalled.

mod carry;
mod compare;
mod items;
#[cfg(test)]
mod tests;

pub(super) use carry::unused;

use super::event::{Fate, LoopItem, Outcome, RunUpgraded, Verdict, Version};
use super::phase::{Phase, StepState};
use super::state::Run;
use crate::id::{Digest, StepId, StepRef};
use crate::workflow::Workflow;
use crate::workflow::model::{Action, Step};
use compare::{Versions, reaches_out};
use std::collections::{BTreeMap, BTreeSet};

/// What the operator allows, and what is known of components.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Whether finished steps that may have acted outside of the run's sandboxes may be done again.
    pub again: bool,
    /// Finished steps whose outputs stay, whatever has changed about them.
    pub keep: BTreeSet<StepId>,
    /// Components that reach nothing but what they are handed.
    pub contained: BTreeSet<Digest>,
}

/// What an upgrade would do.
#[derive(Clone, Debug, PartialEq)]
pub struct Upgrade {
    /// Why the run as a whole cannot be upgraded.
    pub refusals: Vec<String>,
    /// What becomes of each step: those of the new version in the order of its file, then those that it lost.
    pub steps: Vec<Fate>,
    /// What is to be journalled, unless something is refused.
    pub event: RunUpgraded,
}

impl Upgrade {
    /// Whether the run, or a step of it, stands against the upgrade.
    pub fn is_refused(&self) -> bool {
        !self.refusals.is_empty() || self.steps.iter().any(|fate| fate.verdict == Verdict::Refuse)
    }
}

impl Run {
    /// What moving to another version would do, from where the run stands now.
    pub fn upgrade(&self, version: &Version, terms: &Terms) -> Upgrade {
        let refusals = self.refusals(version);
        let mut planner = Planner::new(self, version, terms);
        planner.refusals = refusals;
        if planner.refusals.is_empty() {
            planner.plan();
        }
        planner.finish(version)
    }

    /// Why the run cannot be moved at all.
    fn refusals(&self, version: &Version) -> Vec<String> {
        let mut why = Vec::new();
        if let Some(parent) = &self.started().parent {
            why.push(format!("it is the step `{}` of run {}: upgrade that one", parent.at, parent.run));
        }
        let (now, then) = (&version.definition.name, &self.workflow().name);
        if now != then {
            why.push(format!("it is a run of `{then}`, and the file is named `{now}`: keep the name, or start a run of its own"));
        }
        let spent = self.spent();
        if let Some(budget) = version.definition.budget_micro_usd.filter(|budget| *budget < spent.micro_usd) {
            why.push(format!(
                "it has spent {:.2} USD, and the file's budget is {:.2} USD: write more",
                spent.usd(),
                budget as f64 / 1e6
            ));
        }
        match self.finished() {
            Some((Outcome::Succeeded, _)) => why.push("it has succeeded: start a new run".into()),
            Some(_) => {}
            None if self.stopping.is_some() => {
                why.push("it is stopping: upgrade it once it has ended".into());
            }
            None if self.in_finally() => {
                why.push("it has come to `finally`: upgrade it once it has ended, if it fails".into());
            }
            None => {
                let stopping = self.loops.iter().filter(|(id, each)| {
                    each.is_stopping_all()
                        && self.steps.get(*id).is_some_and(|state| state.phase == Phase::Open)
                });
                why.extend(stopping.map(|(id, _)| {
                    format!(
                        "an item of `{id}` has failed and the others are stopping: upgrade it once they have"
                    )
                }));
            }
        }
        why
    }

    /// Every step that has a place in the run, with where it stands.
    fn all_states(&self) -> Vec<(StepRef, &StepState)> {
        let own = self.steps.iter().map(|(id, state)| (StepRef::from(id.clone()), state));
        let items = self.loops.values().flat_map(|each| each.items());
        let inner = items.flat_map(|item| {
            item.steps.iter().map(|(id, state)| (StepRef::of_item(id.clone(), &item.key), state))
        });
        own.chain(inner).collect()
    }
}

/// Decides step by step, each after those that it depends on.
struct Planner<'a> {
    old: &'a Run,
    /// The run as it becomes, with what has been decided so far.
    new: Run,
    terms: &'a Terms,
    refusals: Vec<String>,
    fates: Vec<Fate>,
    loops: BTreeMap<StepId, Vec<LoopItem>>,
}

impl<'a> Planner<'a> {
    fn new(old: &'a Run, version: &Version, terms: &'a Terms) -> Self {
        let mut new = old.clone();
        new.adopt(version, old.started_ms());
        Self { old, new, terms, refusals: vec![], fates: vec![], loops: BTreeMap::new() }
    }

    fn versions(&self) -> Versions<'_> {
        Versions { old: self.old, new: &self.new }
    }

    fn plan(&mut self) {
        let group = |run: &Run| run.own_membership().map(|member| member.map(|member| member.group));
        let holds = self.old.finished().is_none() && self.old.is_admitted();
        if holds && group(self.old) != group(&self.new) {
            let why = "it goes on under its `concurrency.group`, which the file changes: leave that as it is";
            self.refusals.push(why.into());
        }
        if let Some(name) = self.versions().stale_sandbox() {
            self.refusals.push(format!(
                "steps have worked in the sandbox `{name}`, and the file gives it another image or other volumes: \
                 give the new sandbox another name, so that its steps begin in a fresh one"
            ));
        }
        let workflow = self.new.started().definition.clone();
        let mut left: Vec<&StepId> = workflow.steps.keys().collect();
        // Each pass decides one step at least, for the file has no cycles.
        while !left.is_empty() {
            let waits = |id: &StepId, left: &[&StepId]| {
                let step = &workflow.steps[id];
                step.needs
                    .iter()
                    .chain(step.reads.iter().map(|read| &read.step))
                    .any(|other| left.contains(&other))
            };
            let Some(next) = left.iter().position(|id| !waits(id, &left)) else { break };
            let id = left.remove(next);
            match workflow.steps[id].body() {
                Some(_) => self.decide_loop(id),
                None => self.decide_alone(&id.clone().into()),
            }
        }
        for id in workflow.finally.keys() {
            let why = if self.is_new(id) { "it is new" } else { "it runs at the end" };
            self.put(&id.clone().into(), Verdict::Run, why.into());
        }
        self.order(&workflow);
        self.tell_lost();
    }

    fn is_new(&self, id: &StepId) -> bool {
        self.old.definition(id).is_none()
    }

    fn decide_alone(&mut self, at: &StepRef) {
        let (verdict, why) = self.decide(at, true);
        self.put(at, verdict, why);
    }

    /// Notes what becomes of a step, and makes it so for those after it.
    fn put(&mut self, at: &StepRef, verdict: Verdict, why: String) {
        if matches!(verdict, Verdict::Run | Verdict::ReRun | Verdict::Restart | Verdict::Refuse) {
            self.new.set_back(at, self.old.started_ms());
        }
        self.fates.push(Fate { at: at.clone(), verdict, why });
    }

    /// What becomes of a step that is no loop. `heal` where a failure that nothing tolerates is to be tried again.
    fn decide(&self, at: &StepRef, heal: bool) -> (Verdict, String) {
        let Some(state) = self.old.state(at) else { return (Verdict::Run, "it is new".into()) };
        let change = || self.versions().change(at);
        let reworded = || {
            if self.versions().is_reworded(at) { ", and its new text comes to the same" } else { "" }
        };
        match &state.phase {
            Phase::Waiting { .. } => (Verdict::Run, "it has not begun".into()),
            Phase::Stopped => (Verdict::Run, "it was stopped".into()),
            Phase::Queued { .. } => match change() {
                None if !self.versions().is_reworded(at) => {
                    (Verdict::Keep, "it waits for its place in its group".into())
                }
                _ => (Verdict::Run, "it has not begun, and asks for its place anew".into()),
            },
            Phase::Backoff { .. } => match change() {
                None => (Verdict::Keep, format!("it waits for its next attempt{}", reworded())),
                Some(why) => (Verdict::Run, format!("its last attempt failed, and {why}")),
            },
            Phase::Skipped { .. } => self.decide_skipped(at),
            Phase::Failed => {
                let tolerated = self.new.definition(&at.step).is_some_and(|step| step.continue_on_error);
                match change() {
                    None if tolerated || !heal => {
                        (Verdict::Keep, "it has failed, and the run goes on".into())
                    }
                    None => (Verdict::Run, "it failed".into()),
                    Some(why) => (Verdict::Run, format!("it failed, and {why}")),
                }
            }
            Phase::Running { .. } | Phase::Open => match change() {
                None => (Verdict::Keep, format!("it keeps running{}", reworded())),
                Some(why) => self.stop(at, why),
            },
            Phase::Asking { .. } => match change() {
                None => (Verdict::Keep, format!("it goes on waiting for an answer{}", reworded())),
                Some(why) => (Verdict::Restart, why),
            },
            Phase::Succeeded => match change() {
                None => (Verdict::Keep, format!("it has finished{}", reworded())),
                Some(why) => self.repeat(at, why),
            },
        }
    }

    /// A skipped step is skipped for what it is now, or runs after all.
    fn decide_skipped(&self, at: &StepRef) -> (Verdict, String) {
        let moved = self.old.is_of_finally(&at.step) != self.new.is_of_finally(&at.step);
        match self.new.verdict(at) {
            super::verdict::Verdict::Skip(reason) if !moved => {
                (Verdict::Keep, format!("it stays skipped: {reason}"))
            }
            super::verdict::Verdict::Start => (Verdict::Run, "it was skipped, and applies now".into()),
            _ => (Verdict::Run, "it was skipped, and what it depends on is to be done".into()),
        }
    }

    /// A step at work that has changed: what it has done so far may be lost with its process anyway.
    fn stop(&self, at: &StepRef, why: String) -> (Verdict, String) {
        let old = self.old.definition(&at.step);
        let sub = matches!(old.map(|step| &step.action), Some(Action::Workflow(_)));
        let open = self.old.state(at).is_some_and(|state| state.phase == Phase::Open);
        if (sub || open) && !self.terms.again && old.is_some_and(|step| self.reaches_out(step)) {
            let why = format!(
                "it is under way, and {why}: what it has done so far would be done again; \
                 `--again` allows that, or wait until it has ended"
            );
            return (Verdict::Refuse, why);
        }
        (Verdict::Restart, why)
    }

    /// A finished step that has changed.
    fn repeat(&self, at: &StepRef, why: String) -> (Verdict, String) {
        if self.terms.keep.contains(&at.step) {
            return self.insist(at, why);
        }
        let out = self.old.definition(&at.step).is_some_and(|step| self.reaches_out(step));
        if out && !self.terms.again && self.old.mock(at).is_none() {
            return (Verdict::Refuse, refusal(&at.step, &why));
        }
        (Verdict::ReRun, why)
    }

    /// The operator wants the outputs to stay: they must be what the new version reads.
    fn insist(&self, at: &StepRef, why: String) -> (Verdict, String) {
        let outputs = |run: &Run| {
            let step = run.definition(&at.step);
            step.map(|step| {
                step.outputs.iter().map(|it| (it.name.clone(), it.ty.clone())).collect::<Vec<_>>()
            })
        };
        if outputs(self.old) != outputs(&self.new) {
            return (
                Verdict::Refuse,
                "its outputs cannot be kept: they have other names or types now".into(),
            );
        }
        (Verdict::Keep, format!("its outputs are kept as asked, although {why}"))
    }

    fn reaches_out(&self, step: &Step) -> bool {
        reaches_out(self.old.workflow(), step, self.terms)
    }

    /// Tells in the order of the file, items in the order of their list.
    fn order(&mut self, workflow: &Workflow) {
        let ids = workflow.steps.iter().chain(&workflow.finally);
        let order = ids.flat_map(|(id, step)| {
            std::iter::once((id, id)).chain(
                step.body().into_iter().flat_map(move |body| body.keys().map(move |inner| (id, inner))),
            )
        });
        let place: BTreeMap<&StepId, (usize, bool)> =
            order.enumerate().map(|(n, (outer, inner))| (inner, (n, outer == inner))).collect();
        let item = |at: &StepRef| {
            let items = self.new.loop_of.get(&at.step).and_then(|id| self.loops.get(id));
            let key = at.item.as_deref();
            items.and_then(|items| items.iter().position(|item| Some(item.key.as_str()) == key))
        };
        let outer = |at: &StepRef| {
            let id = self.new.loop_of.get(&at.step).unwrap_or(&at.step);
            place.get(id).map_or(usize::MAX, |(n, _)| *n)
        };
        let mut fates = std::mem::take(&mut self.fates);
        fates.sort_by_cached_key(|fate| {
            (
                outer(&fate.at),
                fate.at.item.is_some(),
                item(&fate.at),
                place.get(&fate.at.step).map(|(n, _)| *n),
            )
        });
        self.fates = fates;
    }

    /// Tells of what the new version does not have, and what may have become of it.
    fn tell_lost(&mut self) {
        let mut lost: Vec<(StepRef, String)> = Vec::new();
        let new: Vec<&StepId> = self.new.steps.keys().filter(|id| self.is_new(id)).collect();
        for (id, step) in self.old.workflow().all_steps() {
            if self.new.definition(id).is_some() {
                continue;
            }
            let same =
                |other: &&&StepId| self.new.definition(other).is_some_and(|it| it.action == step.action);
            let renamed = new.iter().find(same).map(|other| {
                format!("the file has it no more; if `{other}` is the same step, let it keep the name `{id}`")
            });
            let why = renamed.unwrap_or_else(|| "the file has it no more".into());
            match self.old.loop_of.get(id) {
                None => lost.push((id.clone().into(), why)),
                Some(each) => {
                    let items = self.old.items(each).into_iter().flatten();
                    let begun = items.filter(|item| item.steps.contains_key(id));
                    lost.extend(begun.map(|item| (StepRef::of_item(id.clone(), &item.key), why.clone())));
                }
            }
        }
        for (id, items) in &self.loops {
            let gone = self
                .old
                .items(id)
                .into_iter()
                .flatten()
                .filter(|old| !items.iter().any(|item| item.key == old.key));
            for item in gone {
                let inner = item.steps.keys().filter(|inner| self.new.definition(inner).is_some());
                lost.extend(inner.map(|inner| {
                    (
                        StepRef::of_item(inner.clone(), &item.key),
                        "its item is not in the list any more".into(),
                    )
                }));
            }
        }
        self.fates.extend(lost.into_iter().map(|(at, why)| Fate { at, verdict: Verdict::Drop, why }));
    }

    fn finish(self, version: &Version) -> Upgrade {
        let told = |fate: &&Fate| fate.verdict != Verdict::Keep || fate.at.item.is_none();
        let event = RunUpgraded {
            version: version.clone(),
            after: self.old.events(),
            steps: self.fates.iter().filter(told).cloned().collect(),
            loops: self.loops,
            by: None,
        };
        Upgrade { refusals: self.refusals, steps: self.fates, event }
    }
}

/// Why a finished step is not done again just so.
fn refusal(step: &StepId, why: &str) -> String {
    format!(
        "it has finished, and {why}; done again, it could act a second time outside of the run's sandboxes: \
         `--again` allows that, `--keep {step}` keeps its outputs"
    )
}
