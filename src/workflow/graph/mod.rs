//! Which steps wait for which, and pictures of it. A picture is a view: it decides nothing, and the same graph always
//! gives the same one.

mod ascii;
mod cycles;
mod dot;
mod layout;
mod mermaid;
mod state;
mod svg;
#[cfg(test)]
mod tests;

pub use ascii::{Glyphs, ascii};
pub(crate) use cycles::cycles;
pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;

use super::model::{Action, Step, Workflow};
use crate::id::StepId;
use state::State;
use std::collections::{BTreeSet, HashMap};

/// The steps of a workflow and what is between them.
#[derive(Clone, Debug)]
pub struct Graph {
    /// What the picture is of.
    title: String,
    /// In the order of the file, those of `finally` last.
    nodes: Vec<Node>,
    /// By the step that waits, each pair of steps once.
    edges: Vec<Edge>,
}

/// A step.
#[derive(Clone, Debug)]
struct Node {
    id: String,
    uses: String,
    finally: bool,
    /// Where it stands, in a run.
    state: Option<State>,
}

/// One step waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    /// The step that is waited for.
    from: usize,
    /// The step that waits.
    to: usize,
    kind: Kind,
}

/// Why a step waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// It reads its outputs, and so also has to wait for it.
    Reads,
    /// It is told to, by `needs`.
    Needs,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Needs => "needs",
        }
    }
}

impl Graph {
    /// The graph of a workflow.
    pub fn of_file(workflow: &Workflow) -> Self {
        Self::new(workflow.name.clone(), workflow, |_| None)
    }

    /// The graph of a run: where each step stands is one of the words that expressions see as its `state`.
    pub fn of_run<'s>(title: String, workflow: &Workflow, state: impl Fn(&StepId) -> &'s str) -> Self {
        Self::new(title, workflow, |id| Some(State::of(state(id))))
    }

    fn new(title: String, workflow: &Workflow, state: impl Fn(&StepId) -> Option<State>) -> Self {
        let sections = [(&workflow.steps, false), (&workflow.finally, true)];
        let steps = || sections.iter().flat_map(|(steps, finally)| steps.iter().map(|step| (step, *finally)));
        let node = |((id, step), finally): ((&StepId, &Step), bool)| Node {
            id: id.to_string(),
            uses: match &step.action {
                Action::Call(call) => call.uses.clone(),
                Action::Workflow(workflow) => workflow.uses.clone(),
                Action::Approve(_) => "approve".to_owned(),
                Action::ForEach(each) => format!("for-each {}", each.item),
            },
            finally,
            state: state(id),
        };
        let nodes = steps().map(node).collect();
        let places: HashMap<&StepId, usize> =
            steps().enumerate().map(|(at, ((id, _), _))| (id, at)).collect();
        let mut edges = Vec::new();
        for (to, ((_, step), _)) in steps().enumerate() {
            let reads = step.reads.iter().map(|read| (&read.step, Kind::Reads));
            let needs = step.needs.iter().map(|need| (need, Kind::Needs));
            let mut seen = BTreeSet::new();
            for (id, kind) in reads.chain(needs) {
                // Whoever reads a step waits for it already.
                if let Some(from) = places.get(id).copied().filter(|from| seen.insert(*from)) {
                    edges.push(Edge { from, to, kind });
                }
            }
        }
        Self { title, nodes, edges }
    }

    /// The steps of a section so that each comes after what it waits for, in the order of the file as far as possible.
    fn order(&self, finally: bool) -> Vec<usize> {
        let own = |at: usize| self.nodes[at].finally == finally;
        let mut waiting = vec![0_usize; self.nodes.len()];
        let mut next: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for edge in self.edges.iter().filter(|edge| own(edge.from) && own(edge.to)) {
            waiting[edge.to] += 1;
            next[edge.from].push(edge.to);
        }
        let mut free: BTreeSet<usize> =
            (0..self.nodes.len()).filter(|at| own(*at) && waiting[*at] == 0).collect();
        let mut order = Vec::new();
        while let Some(at) = free.pop_first() {
            order.push(at);
            for to in &next[at] {
                waiting[*to] -= 1;
                if waiting[*to] == 0 {
                    free.insert(*to);
                }
            }
        }
        order
    }
}
