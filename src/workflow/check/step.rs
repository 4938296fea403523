//! One step: what it does, what it waits for, and when it runs.

use super::raw::{Does, RawStep};
use super::shape;
use super::value::Values;
use super::world::{View, World, misnamed};
use super::{approve, call, for_each, sub_workflow};
use crate::id::StepId;
use crate::workflow::cel::typing::{Names, Usage};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::Node;
use crate::workflow::model::{Read, Step};
use crate::workflow::suggest;
use crate::workflow::types::Type;

/// What the loop around a step gives it.
#[derive(Clone, Copy, Default)]
pub(super) struct Around<'a> {
    /// The item.
    pub(super) values: &'a [(String, Option<Type>)],
    /// Paths that are present, since the loop would not run otherwise.
    pub(super) present: &'a [String],
    /// Whether its condition has mistakes.
    pub(super) doubtful: bool,
}

/// Checks one step. `None` where it has mistakes. What it reads goes to `all`; of steps only those outside its loop, which the loop waits for.
pub(super) fn step(
    report: &mut Report,
    raw: &RawStep<'_>,
    world: &World<'_>,
    around: Around<'_>,
    all: &mut Usage,
) -> Option<Step> {
    let before = report.errors();
    let view = View::of_step(world.steps, raw);
    let names = Names {
        inputs: Some(world.inputs),
        steps: Some(&view),
        finished: raw.finally,
        values: around.values,
        present: around.present,
        ..Names::new(if raw.finally { "a step of `finally`" } else { "a step" }, world.secrets)
    };
    let mut usage = Usage::default();
    let condition = raw.fields.get("if").and_then(|entry| {
        let text = shape::text(report, entry, "if: inputs.publish")?;
        Values { report, names: &names, usage: &mut usage, code: code::NOT_BOOL }.condition(entry, text)
    });
    let present = [around.present, &std::mem::take(&mut usage.present)].concat();
    let doubtful = around.doubtful || raw.fields.get("if").is_some() && condition.is_none();
    let names = Names { present: &present, doubtful, ..names };
    let action = match &raw.does {
        Does::Call { called, .. } => call::call(report, raw, called.as_ref(), world, &names, &mut usage),
        Does::Workflow { uses, file } => {
            sub_workflow::sub_workflow(report, raw, uses, file.as_deref(), &names, &mut usage)
        }
        Does::Approve(entry) => approve::approve(report, entry, &names, &mut usage),
        Does::ForEach { entry, .. } => for_each::for_each(report, raw, entry, world, &names, &mut usage),
    };
    let needs = needs(report, raw, world);
    let continue_on_error =
        raw.fields.get("continue-on-error").is_some_and(|entry| shape::truth(report, entry));
    let is_sibling = |step: &str| world.steps.get(step).is_some_and(|known| known.group == raw.group);
    let (reads, outer) = std::mem::take(&mut usage.steps).into_iter().partition(|(step, _)| is_sibling(step));
    usage.steps = outer;
    all.absorb(usage);
    let reads: indexmap::IndexMap<String, bool> = reads;
    let reads =
        reads.into_iter().map(|(step, tolerant)| Read { step: StepId::new(step), tolerant }).collect();
    let outputs = world.steps.get(raw.id).and_then(|known| known.outputs.as_ref());
    let outputs = outputs.map(|outputs| outputs.to_vec()).unwrap_or_default();
    // Where something is wrong the step is left out, so that what follows from it is not reported as well.
    let step = Step { action: action?, needs, reads, condition, continue_on_error, outputs };
    (report.errors() == before).then_some(step)
}

/// The steps that a step waits for.
pub(super) fn edges(step: &Step) -> impl Iterator<Item = &str> {
    step.needs.iter().chain(step.reads.iter().map(|read| &read.step)).map(StepId::as_str)
}

fn needs(report: &mut Report, raw: &RawStep<'_>, world: &World<'_>) -> Vec<StepId> {
    let Some(entry) = raw.fields.get("needs") else { return Vec::new() };
    let mut needs: Vec<StepId> = Vec::new();
    for (name, node) in shape::texts(report, entry, "needs: [clone]") {
        match world.steps.get(name) {
            None if misnamed(world.steps, name).is_some() => {}
            None => {
                let names = world
                    .steps
                    .iter()
                    .filter(|(_, step)| step.finally == raw.finally && step.group == raw.group)
                    .map(|(name, _)| *name);
                let help = suggest::help("the steps are", name, names);
                report
                    .add(code::UNKNOWN_NEED, node.span.clone(), format!("there is no step `{name}`"))
                    .suggest(help);
            }
            Some(step) if step.twice => {}
            Some(step) if step.group != raw.group => other_side(report, raw, world, name, node),
            Some(step) if step.finally && !raw.finally => {
                report
                    .add(
                        code::ORDER,
                        node.span.clone(),
                        format!("step `{name}` runs in `finally`, after step `{}`", raw.id),
                    )
                    .help("remove it, or move the step out of `finally`");
            }
            Some(step) if !step.finally && raw.finally => {
                report
                    .add(
                        code::ORDER,
                        node.span.clone(),
                        format!("`finally` starts when step `{name}` has ended, however it ended"),
                    )
                    .help(format!("remove it; `if: steps.{name}.state == 'succeeded'` asks how it ended"));
            }
            Some(_) if name == raw.id => {
                report
                    .add(code::CYCLE, node.span.clone(), format!("step `{name}` waits for itself"))
                    .help("remove it from `needs`");
            }
            Some(_) => {
                if !needs.iter().any(|need| need.as_str() == name) {
                    needs.push(StepId::new(name));
                }
            }
        }
    }
    needs
}

/// A `needs` across the border of a loop.
fn other_side(report: &mut Report, raw: &RawStep<'_>, world: &World<'_>, name: &str, node: &Node) {
    let its_loop = world.steps.get(name).and_then(|step| step.group);
    let (message, help) = match (raw.group, its_loop) {
        (Some(own), _) if own == name => (
            format!("step `{}` is part of the loop `{own}`", raw.id),
            "remove it; `needs` in a loop names other steps of the loop".to_owned(),
        ),
        (Some(own), None) => (
            format!("step `{name}` is outside the loop `{own}`"),
            format!("write `needs: [{name}]` beside the `for-each` of `{own}`"),
        ),
        (_, other) => {
            let other = other.unwrap_or_default();
            (
                format!("step `{name}` runs once for each item of `{other}`"),
                format!("write `{other}`, the loop"),
            )
        }
    };
    report.add(code::INSIDE_LOOP, node.span.clone(), message).help(help);
}
