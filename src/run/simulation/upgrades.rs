//! Upgrades as a disturbance: at any point of a run its workflow changes in one place, and the run moves on.

use super::shape::workflows;
use super::world::{Fault, World, fates};
use crate::id::{Digest, StepId, StepRef};
use crate::run::{Event, Outcome, Phase, Run, Terms, Verdict, Version};
use crate::workflow::Workflow;
use crate::workflow::model::{Action, Call, Expression, Step, Template};
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;

/// A change of a workflow: which, and where.
type Change = (u8, u8, u8);

/// Events since a step was last set back by an upgrade.
pub(super) fn since_set_back<'a>(journal: &'a [(i64, Event)], run: &Run, at: &StepRef) -> &'a [(i64, Event)] {
    let mut outer = run
        .workflow()
        .all_steps()
        .filter(|(_, step)| step.body().is_some_and(|body| at.item.is_some() && body.contains_key(&at.step)));
    let outer = outer.next().map(|(id, _)| StepRef::from(id.clone()));
    let sets_back = |(_, event): &(i64, Event)| {
        let Event::RunUpgraded(upgrade) = event else { return false };
        upgrade.steps.iter().any(|fate| {
            let concerned = fate.at == *at || Some(&fate.at) == outer.as_ref();
            concerned && fate.verdict != Verdict::Keep && !upgrade.loops.contains_key(&fate.at.step)
        })
    };
    &journal[journal.iter().rposition(sets_back).map_or(0, |found| found + 1)..]
}

/// The steps of a workflow that one can change, those of loops included.
fn each_step(workflow: &mut Workflow, change: &mut dyn FnMut(&StepId, &mut Step)) {
    for (id, step) in workflow.steps.iter_mut().chain(&mut workflow.finally) {
        change(id, step);
        if let Action::ForEach(each) = &mut step.action {
            each.steps.iter_mut().for_each(|(id, step)| change(id, step));
        }
    }
}

/// Nothing refers to a step any more that is to go.
fn forget(workflow: &mut Workflow, gone: &StepId) {
    each_step(workflow, &mut |_, step| {
        step.needs.retain(|need| need != gone);
        step.reads.retain(|read| read.step != *gone);
        if let Action::Call(call) = &mut step.action {
            call.with.shift_remove(gone.as_str());
        }
    });
    workflow.outputs.shift_remove(&format!("from_{gone}"));
}

fn changed(workflow: &Workflow, (kind, place, how): Change) -> Workflow {
    let mut new = workflow.clone();
    let ids: Vec<StepId> = new.steps.keys().cloned().collect();
    let Some(id) = ids.get(usize::from(place) % ids.len().max(1)).cloned() else { return new };
    let mut at_call = |change: &dyn Fn(&mut Call)| {
        let mut calls = 0;
        each_step(&mut new, &mut |_, step| {
            if let Action::Call(call) = &mut step.action {
                if calls % 5 == place % 5 {
                    change(call);
                }
                calls += 1;
            }
        });
    };
    match kind % 9 {
        0 => {
            forget(&mut new, &id);
            new.steps.shift_remove(&id);
        }
        1 => {
            let calls = new.steps.iter().find(|(_, step)| step.call().is_some());
            let Some(mut step) = calls.map(|(_, step)| step.clone()) else { return new };
            let later = new.steps.iter().skip_while(|(other, _)| **other != id);
            step.needs = later
                .map(|(other, _)| other.clone())
                .take(1)
                .filter(|it| !it.as_str().starts_with("s_"))
                .collect();
            step.reads.clear();
            if let Action::Call(call) = &mut step.action {
                call.with.clear();
            }
            new.steps.insert(StepId::new(format!("s_{}", how % 4)), step);
        }
        2 => at_call(&|call| call.digest = Digest::of(&[how % 2])),
        3 => at_call(&|call| _ = call.with.insert("x".into(), Template::Literal(json!(how % 3)))),
        // Other words for the same value.
        4 => at_call(&|call| {
            for (_, value) in &mut call.with {
                if let Template::Expression(expression) = value {
                    expression.0.push_str(" + 0");
                    expression.0.truncate(60);
                }
            }
        }),
        5 => each_step(&mut new, &mut |_, step| {
            if let Action::ForEach(each) = &mut step.action {
                let list: Vec<String> = (how % 3..how % 3 + place % 4).map(|n| format!("'{n}'")).collect();
                each.items = Expression(format!("[{}]", list.join(", ")));
            }
        }),
        6 => new.steps[&id].condition = (how % 2 == 0).then(|| Expression((how % 4 == 0).to_string())),
        7 => {
            let earlier = ids.iter().take_while(|other| **other != id).nth(usize::from(how) % 3).cloned();
            // A step that came later needs nothing that may need it.
            new.steps[&id].needs.extend(earlier.filter(|other| !other.as_str().starts_with("s_")));
        }
        _ => each_step(&mut new, &mut |_, step| {
            if let Action::Approve(asked) = &mut step.action {
                asked.message = Template::Literal(json!(format!("Go on with {}?", how % 2)));
            }
        }),
    }
    new
}

impl World {
    /// Moves the run to a changed workflow, where that is not refused, and holds what happens against what was said.
    fn upgrade(&mut self, change: Change) -> bool {
        let started = self.run.started().clone();
        let version = Version {
            definition: Arc::new(changed(&started.definition, change)),
            source: String::new(),
            file: String::new(),
            inputs: started.inputs,
            secrets: started.secrets,
            hashes: started.hashes,
        };
        let terms = Terms { again: change.2.is_multiple_of(3), ..Terms::default() };
        let upgrade = self.run.upgrade(&version, &terms);
        if upgrade.is_refused() {
            return false;
        }
        let before = self.run.clone();
        self.record(Event::RunUpgraded(Box::new(upgrade.event.clone())));
        for fate in &upgrade.steps {
            let at = &fate.at;
            let goes_on = upgrade.event.loops.contains_key(&at.step);
            match (fate.verdict, self.run.state(at)) {
                (Verdict::Keep, now) if !goes_on => assert_eq!(now, before.state(at), "{at} was to stay"),
                (Verdict::Run | Verdict::ReRun | Verdict::Restart, Some(now)) if !goes_on => {
                    assert!(
                        matches!(now.phase, Phase::Waiting { .. }),
                        "{at} is {:?}, and was to run",
                        now.phase
                    );
                }
                (Verdict::Drop, now) => assert_eq!(now, None, "{at} was to go"),
                _ => {}
            }
        }
        for (at, attempt) in &self.in_flight {
            let known = self.run.is_running(at, *attempt) || self.run.has_leaving();
            assert!(known, "nobody waits for attempt {attempt} of {at}");
        }
        // Whoever asks again is told that there is nothing more to do.
        let again = self.run.upgrade(&version, &Terms { again: true, ..Terms::default() });
        let calm = |verdict| matches!(verdict, Verdict::Keep | Verdict::Run);
        let calm = again.steps.iter().all(|fate| calm(fate.verdict));
        assert!(calm || !again.refusals.is_empty(), "not settled: {:?}", again.steps);
        true
    }
}

/// What a call was made from, as far as changes touch it.
fn made_from(workflow: &Workflow, id: &StepId) -> Option<(Digest, Option<Template>)> {
    let (_, step) = workflow.all_steps().find(|(other, _)| *other == id)?;
    step.call().map(|call| (call.digest, call.with.get("x").cloned()))
}

/// In a run that succeeded, every call was made from what the file says last, after what it depends on. Judged from the
/// journal alone.
fn check_calls(world: &World) -> Result<(), TestCaseError> {
    let Some((_, Event::RunStarted(first))) = world.journal.first() else { return Ok(()) };
    let mut workflow = first.definition.clone();
    let mut begun = std::collections::BTreeMap::new();
    let mut ended = std::collections::BTreeMap::new();
    for (seq, (_, event)) in world.journal.iter().enumerate() {
        match event {
            Event::RunUpgraded(upgrade) => workflow = upgrade.version.definition.clone(),
            // What was there before retries go by rules of their own.
            Event::RunRetried { .. } => return Ok(()),
            Event::StepStarted { at, .. } => _ = begun.insert(at.clone(), made_from(&workflow, &at.step)),
            Event::StepSucceeded { at, .. } => _ = ended.insert(at.clone(), seq),
            Event::StepReused { at, .. } => {
                begun.insert(at.clone(), made_from(&workflow, &at.step));
                ended.insert(at.clone(), seq);
            }
            _ => {}
        }
    }
    for (id, step) in world.run.workflow().steps.iter().filter(|(_, step)| step.call().is_some()) {
        let at = StepRef::from(id.clone());
        if world.run.step(id).unwrap().phase != Phase::Succeeded {
            continue;
        }
        prop_assert_eq!(&begun[&at], &made_from(world.run.workflow(), id), "{} is of another version", id);
        let reads = step.reads.iter().filter(|read| !read.tolerant).map(|read| &read.step);
        // A need that an upgrade brought says nothing of steps that had both finished.
        let old =
            |need: &&StepId| first.definition.steps.get(id).is_some_and(|old| old.needs.contains(*need));
        for other in step.needs.iter().filter(old).chain(reads) {
            let succeeded = world.run.step(other).unwrap().phase == Phase::Succeeded;
            if let Some(before) = ended.get(&other.clone().into()).filter(|_| succeeded) {
                prop_assert!(*before < ended[&at], "{} is older than {}", id, other);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: super::cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_upgraded_run_ends_and_replays(
        workflow in workflows(),
        fate in fates(),
        changes in prop::collection::vec((0u32..80, any::<Change>()), 1..6),
    ) {
        let mut world = World::new(workflow);
        let mut faults = fate.faults.into_iter();
        let mut retries = 0;
        for turn in 0..4000 {
            for (when, change) in &changes {
                if *when == turn {
                    world.upgrade(*change);
                }
            }
            if world.run.finished().is_none() {
                let (choice, fault) = faults.next().unwrap_or(((turn % 7) as u8, Fault::None));
                world.turn(choice, &fault);
            }
            let Some((outcome, _)) = world.run.finished() else { continue };
            world.check_end(outcome);
            if outcome == Outcome::Succeeded {
                check_calls(&world)?;
            }
            if outcome == Outcome::Succeeded || retries == fate.retries {
                break;
            }
            retries += 1;
            // A run that failed goes on with another file, or as it was.
            if !world.upgrade(changes[retries % changes.len()].1) {
                world.record(Event::RunRetried { note: None });
            }
        }
        prop_assert!(world.run.finished().is_some(), "never ended: {:?}", world.run);
        world.check_prefixes();
    }
}
