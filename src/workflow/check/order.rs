//! What the order of steps cannot be: cycles, and steps that only follow what never runs.

use super::raw::RawStep;
use super::step;
use crate::id::StepId;
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::graph;
use crate::workflow::model::Step;
use indexmap::IndexMap;

/// Reports steps that wait for each other: one cycle of each group.
pub(super) fn cycles(report: &mut Report, raw: &[RawStep<'_>], steps: &IndexMap<StepId, Step>) {
    let index = |name: &str| steps.get_index_of(name);
    let edges: Vec<_> = steps
        .values()
        .enumerate()
        .flat_map(|(from, step)| step::edges(step).filter_map(move |to| Some((from, index(to)?))))
        .collect();
    for cycle in graph::cycles(steps.len(), &edges) {
        let ids: Vec<&str> =
            cycle.iter().filter_map(|at| steps.get_index(*at)).map(|(id, _)| id.as_str()).collect();
        let Some(first) = ids.first() else { continue };
        let path = ids.iter().chain([first]).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(" -> ");
        let Some(raw) = raw.iter().find(|raw| raw.id == *first) else { continue };
        report
            .add(code::CYCLE, raw.entry.key_span.clone(), format!("these steps wait for each other: {path}"))
            .help("remove one of the `needs` or `${{ steps... }}` between them");
    }
}
