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
pub use state::Standing;
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
    /// In the order of the file, those of `finally` last, and those of a loop behind it.
    nodes: Vec<Node>,
    /// By the step that waits, each pair of steps once.
    edges: Vec<Edge>,
}

/// A step.
#[derive(Clone, Debug)]
struct Node {
    id: String,
    uses: String,
    what: What,
    finally: bool,
    /// The loop that it is a step of.
    group: Option<usize>,
    /// Where it stands, in a run.
    standing: Option<Standing>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Call,
    Workflow,
    Approve,
    ForEach,
}

impl Node {
    fn state(&self) -> Option<State> {
        self.standing.map(|standing| standing.state)
    }

    /// Its name, what it uses, and where it stands.
    fn labels(&self) -> Vec<String> {
        let told = self.standing.map(Standing::told);
        [Some(self.id.clone()), Some(self.uses.clone()), told].into_iter().flatten().collect()
    }
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

    /// The graph of a run, with where each step stands, those of loops included.
    pub fn of_run(title: String, workflow: &Workflow, standing: impl Fn(&StepId) -> Standing) -> Self {
        Self::new(title, workflow, |id| Some(standing(id)))
    }

    fn new(title: String, workflow: &Workflow, standing: impl Fn(&StepId) -> Option<Standing>) -> Self {
        let mut steps: Vec<(&StepId, &Step)> = Vec::new();
        let mut nodes = Vec::new();
        for (section, finally) in [(&workflow.steps, false), (&workflow.finally, true)] {
            for (id, step) in section {
                let group = Some(nodes.len());
                let inner = step.body().into_iter().flatten().map(|step| (step, group));
                for ((id, step), group) in std::iter::once(((id, step), None)).chain(inner) {
                    let (what, uses) = described(step);
                    let (id_text, standing) = (id.to_string(), standing(id));
                    nodes.push(Node { id: id_text, uses, what, finally, group, standing });
                    steps.push((id, step));
                }
            }
        }
        let places: HashMap<&StepId, usize> =
            steps.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
        let mut edges = Vec::new();
        for (to, (_, step)) in steps.iter().enumerate() {
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

    /// The steps of a section outside loops, or those of one loop, so that each comes after what it waits for, in the
    /// order of the file as far as possible.
    fn order(&self, finally: bool, group: Option<usize>) -> Vec<usize> {
        let own = |at: usize| self.nodes[at].finally == finally && self.nodes[at].group == group;
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

/// What a step does, as a picture tells it.
fn described(step: &Step) -> (What, String) {
    match &step.action {
        Action::Call(call) => (What::Call, call.uses.clone()),
        Action::Workflow(workflow) => (What::Workflow, workflow.uses.clone()),
        Action::Approve(_) => (What::Approve, "approve".to_owned()),
        Action::ForEach(each) => (What::ForEach, format!("for-each {}", each.item)),
    }
}
