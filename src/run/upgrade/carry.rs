//! What an upgrade does to the state of a run. It decides nothing: every choice is in the event, so that a journal
//! replays the same whatever later versions of harvest would choose.

use super::super::event::{Event, LoopItem, Outcome, RunStarted, RunUpgraded, Verdict, Version};
use super::super::loops::{Item, Loop};
use super::super::phase::{Phase, StepState};
use super::super::state::{Admission, Illegal, Run, illegal, loop_of};
use super::super::view;
use crate::id::{StepId, StepRef};
use crate::step::{ErrorKind, StepError};
use crate::workflow::Workflow;
use crate::workflow::model::{Action, ForEach};
use std::sync::Arc;

/// What is noted on an attempt that ended well after an upgrade had no more use for it.
pub(in crate::run) fn unused() -> StepError {
    StepError::new(ErrorKind::CANCELLED, "the run was upgraded meanwhile, and its outputs are not used")
}

/// The loop that a step of a workflow is.
pub(super) fn loop_in<'a>(workflow: &'a Workflow, id: &StepId) -> Option<&'a ForEach> {
    match &workflow.steps.get(id).or_else(|| workflow.finally.get(id))?.action {
        Action::ForEach(each) => Some(each),
        _ => None,
    }
}

impl Run {
    /// Follows another version from now on. A refused upgrade changes nothing.
    pub(in crate::run) fn move_on(
        &mut self,
        event: &Event,
        upgrade: &RunUpgraded,
        at_ms: i64,
    ) -> Result<(), Illegal> {
        let refuse = |why| Err(illegal(event, why));
        if upgrade.after != self.events() {
            return refuse("the upgrade was decided on another state of the run");
        }
        if matches!(self.finished(), Some((Outcome::Succeeded, _))) {
            return refuse("the run has succeeded");
        }
        if self.finished().is_none() && (self.stopping.is_some() || self.in_finally()) {
            return refuse("the run is about to end");
        }
        let mut next = self.clone();
        next.adopt(&upgrade.version, at_ms);
        for (id, items) in &upgrade.loops {
            if !next.revise(id, items) {
                return refuse("it names a loop that does not go on, or two items with one key");
            }
        }
        for fate in &upgrade.steps {
            let does = matches!(fate.verdict, Verdict::Run | Verdict::ReRun | Verdict::Restart);
            if fate.verdict == Verdict::Refuse {
                return refuse("it was refused");
            }
            if does && !upgrade.loops.contains_key(&fate.at.step) {
                next.set_back(&fate.at, at_ms);
            }
        }
        upgrade.loops.keys().for_each(|id| next.reckon(id));
        *self = next;
        Ok(())
    }

    /// Takes over the new definition: steps it does not have go, steps it brings are there, an ended run goes on.
    pub(super) fn adopt(&mut self, version: &Version, at_ms: i64) {
        let group = self.own_membership();
        let ended = self.finished().is_some();
        let version = version.clone();
        self.started = Arc::new(RunStarted {
            workflow: version.definition.name.clone(),
            definition: version.definition,
            source: version.source,
            file: version.file,
            inputs: version.inputs,
            secrets: version.secrets,
            hashes: version.hashes,
            ..(*self.started).clone()
        });
        self.upgrades += 1;
        let started = self.started.clone();
        let workflow = &started.definition;
        for (id, each) in std::mem::take(&mut self.loops) {
            self.keep_loop(id, each, workflow);
        }
        self.loop_of = loop_of(workflow);
        let known = |id: &StepId| workflow.steps.contains_key(id) || workflow.finally.contains_key(id);
        let (kept, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.steps).into_iter().partition(|(id, _)| known(id));
        self.steps = kept.into_iter().collect();
        for (id, state) in gone {
            self.view.remove(id.as_str());
            self.retire(id.into(), state);
        }
        for id in workflow.steps.keys().chain(workflow.finally.keys()) {
            if !self.steps.contains_key(id) {
                let state = self.recalled(&id.clone().into());
                view::show(&mut self.view, id, &state, None);
                self.steps.insert(id.clone(), state);
            }
        }
        if ended {
            self.reopen(at_ms);
            workflow.finally.keys().for_each(|id| self.set_back(&id.clone().into(), at_ms));
        } else if !self.is_admitted() {
            self.admission = match &workflow.concurrency {
                None => Admission::Held { since_ms: at_ms },
                Some(_) if self.own_membership() == group => self.admission.clone(),
                Some(_) => Admission::Due,
            };
        }
    }

    /// Keeps of a loop what the new definition has: all of it, but steps that its body lost; or nothing.
    fn keep_loop(&mut self, id: StepId, mut each: Loop, workflow: &Workflow) {
        let Some(new) = loop_in(workflow, &id) else {
            return each.into_items().into_iter().for_each(|item| self.retire_item(item));
        };
        for item in each.items_mut() {
            let gone: Vec<StepId> =
                item.steps.keys().filter(|inner| !new.steps.contains_key(*inner)).cloned().collect();
            for inner in gone {
                item.view.remove(inner.as_str());
                if let Some(state) = item.steps.remove(&inner) {
                    self.retire(StepRef::of_item(inner, &item.key), state);
                }
            }
        }
        self.loops.insert(id, each);
    }

    /// Lets a loop go on item by item with this list. Returns false where it cannot.
    pub(super) fn revise(&mut self, id: &StepId, items: &[LoopItem]) -> bool {
        let started = self.started.clone();
        let new = loop_in(&started.definition, id);
        let (Some(_), Some(each), Some(state)) = (new, self.loops.get(id), self.steps.get_mut(id)) else {
            return false;
        };
        let Some((mut revised, gone)) = each.revised(items) else { return false };
        if state.phase != Phase::Open {
            state.phase = Phase::Open;
            if let Some(last) = state.attempts.last_mut() {
                (last.finished_ms, last.error) = (None, None);
            }
        }
        view::show(&mut self.view, id, state, None);
        gone.into_iter().for_each(|item| self.retire_item(item));
        self.recall(id, &mut revised);
        self.loops.insert(id.clone(), revised);
        true
    }

    /// Says anew what of a loop is under way, after steps of it were set back.
    pub(super) fn reckon(&mut self, id: &StepId) {
        let started = self.started.clone();
        if let (Some(new), Some(each)) = (loop_in(&started.definition, id), self.loops.get_mut(id)) {
            each.reckon(new);
        }
    }

    /// Makes a step due again, whatever it is doing. An attempt of it that is with the host is to stop.
    pub(super) fn set_back(&mut self, at: &StepRef, at_ms: i64) {
        let items = if at.item.is_none() { self.loops.get_mut(&at.step) } else { None };
        if let Some(each) = items {
            for item in each.items_mut() {
                for (inner, state) in &mut item.steps {
                    if let Phase::Running { attempt } = state.phase {
                        self.leaving.insert(StepRef::of_item(inner.clone(), &item.key), attempt);
                    }
                    state.renew();
                }
            }
            each.shut();
        }
        let Some(state) = self.state_mut(at) else { return };
        let leaves = match state.phase {
            Phase::Running { attempt } => Some(attempt),
            Phase::Asking { .. } | Phase::Open => {
                state.end(at_ms, None);
                None
            }
            _ => None,
        };
        state.renew();
        let phase = state.phase.clone();
        if let Some(attempt) = leaves {
            self.leaving.insert(at.clone(), attempt);
        }
        self.settle(at, phase, None);
    }

    pub(in crate::run) fn is_leaving(&self, at: &StepRef, attempt: u32) -> bool {
        self.leaving.get(at) == Some(&attempt)
    }

    /// An attempt that nothing waits for has ended.
    pub(in crate::run) fn leave(&mut self, at: &StepRef, error: &StepError, at_ms: i64) {
        let Some(attempt) = self.leaving.remove(at) else { return };
        let noted = |state: &mut StepState| {
            if let Some(left) = state.attempts.iter_mut().find(|one| one.n == attempt) {
                (left.finished_ms, left.error) = (Some(at_ms), Some(error.clone()));
            }
            state.phase.clone()
        };
        match self.state_mut(at).map(noted) {
            Some(phase) => self.settle(at, phase, None),
            None => _ = self.retired.get_mut(at).map(noted),
        }
    }

    fn retire(&mut self, at: StepRef, mut state: StepState) {
        if let Phase::Running { attempt } = state.phase {
            self.leaving.insert(at.clone(), attempt);
        }
        if !state.attempts.is_empty() {
            state.renew();
            self.retired.insert(at, state);
        }
    }

    fn retire_item(&mut self, item: Item) {
        for (id, state) in item.steps {
            self.retire(StepRef::of_item(id, &item.key), state);
        }
    }

    /// Retires the items that a loop does not have any more.
    pub(in crate::run) fn retire_items(&mut self, items: Vec<Item>, now: &Loop) {
        items
            .into_iter()
            .filter(|item| now.item(&item.key).is_none())
            .for_each(|item| self.retire_item(item));
    }

    /// A step that comes into the run, with the attempts that were made of it when it was there before.
    fn recalled(&mut self, at: &StepRef) -> StepState {
        self.retired.remove(at).unwrap_or_else(StepState::new)
    }

    /// Gives steps of a loop the attempts that were made of them when they were there before.
    pub(in crate::run) fn recall(&mut self, id: &StepId, each: &mut Loop) {
        let started = self.started.clone();
        let new = loop_in(&started.definition, id).filter(|_| !self.retired.is_empty());
        let Some(new) = new else { return };
        for item in each.items_mut() {
            for inner in new.steps.keys() {
                if let Some(state) = self.retired.remove(&StepRef::of_item(inner.clone(), &item.key)) {
                    item.steps.entry(inner.clone()).or_insert(state);
                }
            }
        }
    }
}
