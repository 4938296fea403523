//! What becomes of loops: item by item where the list can be computed, else as a whole.

use super::super::event::{Fate, LoopItem, Verdict};
use super::super::loops::Item;
use super::super::phase::Phase;
use super::super::verdict;
use super::carry::loop_in;
use super::{Planner, refusal};
use crate::id::{StepId, StepRef};
use crate::workflow::model::{Action, ForEach};

impl Planner<'_> {
    pub(super) fn decide_loop(&mut self, id: &StepId) {
        let at = StepRef::from(id.clone());
        let phase = self.old.step(id).map(|state| state.phase.clone());
        let begun = self.new.items(id).is_some();
        match phase {
            Some(Phase::Open | Phase::Succeeded | Phase::Failed | Phase::Stopped) if begun => {
                self.decide_begun(&at, &phase.unwrap_or(Phase::Open));
            }
            // It was another kind of step, or is at most about to begin.
            Some(Phase::Succeeded) => {
                let (verdict, why) = self.repeat(&at, "it does something else".into());
                self.put(&at, verdict, why);
            }
            _ => self.decide_alone(&at),
        }
    }

    /// A loop that knows its items.
    fn decide_begun(&mut self, at: &StepRef, phase: &Phase) {
        let workflow = self.new.started().definition.clone();
        let Some(each) = loop_in(&workflow, &at.step) else { return };
        let items = match self.new.verdict(at) {
            verdict::Verdict::Start => self.new.loop_items(at, each).map_err(|error| error.message),
            _ => Err(self.versions().change(at).unwrap_or_default()),
        };
        let items = match items {
            Ok(items) if self.old.is_of_finally(&at.step) == self.new.is_of_finally(&at.step) => items,
            Ok(_) => return self.begin_anew(at, phase, "it has moved between `steps` and `finally`".into()),
            Err(why) => return self.begin_anew(at, phase, why),
        };
        let ended = matches!(phase, Phase::Failed | Phase::Stopped);
        let untouched = (self.new.clone(), self.fates.len());
        // A failure that the file tolerates stays, unless something about the loop has changed.
        let rests = *phase == Phase::Failed
            && self.new.definition(&at.step).is_some_and(|step| step.continue_on_error);
        let mut changed = self.decide_items(at, each, &items, !ended && !each.continue_on_failure, rests);
        if ended && (changed || !rests) {
            self.new = untouched.0.clone();
            self.fates.truncate(untouched.1);
            changed = self.decide_items(at, each, &items, true, false);
        }
        let first = untouched.1;
        if *phase != Phase::Open && !changed && (!ended || rests) {
            self.new = untouched.0;
            let how = if ended { "it has failed, and the run goes on" } else { "it has finished" };
            self.fates.insert(first, Fate { at: at.clone(), verdict: Verdict::Keep, why: how.into() });
            return;
        }
        let (verdict, why) = match phase {
            Phase::Open if changed => (Verdict::Keep, "it goes on, item by item"),
            Phase::Open => (Verdict::Keep, "it keeps running"),
            Phase::Succeeded => (Verdict::ReRun, "it goes on with the items that changed"),
            _ => (Verdict::Run, "it goes on with the items that have not succeeded"),
        };
        self.fates.insert(first, Fate { at: at.clone(), verdict, why: why.into() });
        self.loops.insert(at.step.clone(), items);
    }

    /// Decides on the steps of the items that stay. Returns whether anything about the loop has changed.
    fn decide_items(
        &mut self,
        at: &StepRef,
        each: &ForEach,
        items: &[LoopItem],
        heal: bool,
        rests: bool,
    ) -> bool {
        let before = self.new.items(&at.step).unwrap_or_default().to_vec();
        let same = |(old, new): (&Item, &LoopItem)| old.key == new.key && old.value == new.value;
        let listed = before.len() == items.len() && before.iter().zip(items).all(same);
        let first = self.fates.len();
        self.new.revise(&at.step, items);
        for old in before.iter().filter(|old| items.iter().any(|item| item.key == old.key)) {
            self.decide_item(each, old, heal, rests);
        }
        for item in items.iter().filter(|item| !before.iter().any(|old| old.key == item.key)) {
            for inner in each.steps.keys() {
                let at = StepRef::of_item(inner.clone(), &item.key);
                self.put(&at, Verdict::Run, "its item is new".into());
            }
        }
        self.new.reckon(&at.step);
        !listed || self.fates[first..].iter().any(|fate| fate.verdict != Verdict::Keep)
    }

    /// A loop that starts over: what its items have done is done again.
    fn begin_anew(&mut self, at: &StepRef, phase: &Phase, why: String) {
        let items = self.old.items(&at.step).into_iter().flatten();
        let risky = items.flat_map(|item| &item.steps).find(|(id, state)| {
            let step = self.old.definition(id);
            let at_work = matches!(state.phase, Phase::Running { .. })
                && matches!(step.map(|step| &step.action), Some(Action::Workflow(_)));
            (state.phase == Phase::Succeeded || at_work) && step.is_some_and(|step| self.reaches_out(step))
        });
        let (verdict, why) = match (phase, risky) {
            (_, Some(_)) if !self.terms.again => (Verdict::Refuse, refusal(&at.step, &why)),
            (Phase::Open, _) => (Verdict::Restart, why),
            (Phase::Succeeded, _) => (Verdict::ReRun, why),
            _ => (Verdict::Run, format!("it failed, and {why}")),
        };
        self.put(at, verdict, why);
    }

    fn decide_item(&mut self, each: &ForEach, old: &Item, heal: bool, rests: bool) {
        let cause = old.error.as_ref().and_then(|error| error.step.as_ref());
        let failed =
            cause.is_some_and(|cause| each.steps.contains_key(cause)) || rests && old.state() != "succeeded";
        if failed && !heal {
            // A failed item stays failed, unless something of what it did has changed.
            let (untouched, first) = (self.new.clone(), self.fates.len());
            self.decide_steps(each, old, false, true);
            if self.fates[first..].iter().all(|fate| fate.verdict == Verdict::Keep) {
                return;
            }
            self.new = untouched;
            self.fates.truncate(first);
        }
        self.decide_steps(each, old, true, false);
    }

    fn decide_steps(&mut self, each: &ForEach, old: &Item, heal: bool, frozen: bool) {
        let mut left: Vec<&StepId> = each.steps.keys().collect();
        while !left.is_empty() {
            let waits = |id: &StepId, left: &[&StepId]| {
                let step = &each.steps[id];
                step.needs
                    .iter()
                    .chain(step.reads.iter().map(|read| &read.step))
                    .any(|other| left.contains(&other))
            };
            let Some(next) = left.iter().position(|id| !waits(id, &left)) else { break };
            let id = left.remove(next);
            let at = StepRef::of_item(id.clone(), &old.key);
            let known = self.old.state(&at).map(|state| &state.phase);
            let rests = matches!(known, None | Some(Phase::Stopped | Phase::Waiting { .. }));
            match known {
                // Items that have not begun have nothing to tell.
                None if !old.begun => {}
                None if frozen => {}
                Some(_) if frozen && rests => {
                    let fate = Fate { at, verdict: Verdict::Keep, why: "its item has failed".into() };
                    self.fates.push(fate);
                }
                _ => {
                    let (verdict, why) = self.decide(&at, heal);
                    self.put(&at, verdict, why);
                }
            }
        }
    }
}
