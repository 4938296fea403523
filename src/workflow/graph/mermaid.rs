//! The graph as Mermaid text, for pages that draw it: GitHub, GitLab, most wikis.

use super::{Graph, Kind, What};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Words that Mermaid takes for its own where a name could stand.
const RESERVED: [&str; 12] = [
    "call",
    "class",
    "click",
    "default",
    "end",
    "flowchart",
    "graph",
    "href",
    "interpolate",
    "linkstyle",
    "style",
    "subgraph",
];

/// Edges that Mermaid draws unless its `maxEdges` is raised.
const EDGES_MAX: usize = 500;

/// Draws the graph as a flow chart: a solid arrow from a step to one that reads it, a dotted one to a step that only
/// needs it; a hexagon asks a person, and a box holds the steps of a loop.
pub fn mermaid(graph: &Graph) -> String {
    let mut text = format!("---\ntitle: \"{}\"\n---\nflowchart TD\n", escaped(&graph.title));
    if graph.edges.len() > EDGES_MAX {
        _ = writeln!(
            text,
            "  %% {} edges: set Mermaid's `maxEdges`, which is {EDGES_MAX}.",
            graph.edges.len()
        );
    }
    let mut chart = Chart { graph, text, used: BTreeSet::new() };
    chart.steps(false, None, 1);
    if graph.nodes.iter().any(|node| node.finally) {
        // No step has a capital letter, so this is no step's name.
        chart.text.push_str("  subgraph finally_SECTION [finally]\n");
        chart.steps(true, None, 2);
        chart.text.push_str("  end\n");
    }
    let Chart { mut text, used, .. } = chart;
    for edge in &graph.edges {
        let arrow = match edge.kind {
            Kind::Reads => "-->",
            Kind::Needs => "-.->",
        };
        let (from, to) = (&graph.nodes[edge.from].id, &graph.nodes[edge.to].id);
        _ = writeln!(text, "  {} {arrow} {}", name(from), name(to));
    }
    for (word, fill, line) in used {
        _ = writeln!(text, "  classDef {word} fill:{fill},stroke:{line},color:#1c2430");
    }
    text
}

struct Chart<'g> {
    graph: &'g Graph,
    text: String,
    /// States with their colours.
    used: BTreeSet<(&'static str, &'static str, &'static str)>,
}

impl Chart<'_> {
    /// The steps of a section, or of a loop, each loop as a box around its own.
    fn steps(&mut self, finally: bool, group: Option<usize>, depth: usize) {
        let margin = "  ".repeat(depth);
        for (at, node) in self.graph.nodes.iter().enumerate() {
            if node.finally != finally || node.group != group {
                continue;
            }
            let told = node.standing.map_or_else(String::new, |standing| format!("<br>{}", standing.told()));
            let label = format!("{}<br>{}{told}", escaped(&node.id), escaped(&node.uses));
            let name = name(&node.id);
            let class = node.state().map(|state| {
                self.used.insert((state.word, state.fill, state.line));
                state.word
            });
            let suffix = class.map_or_else(String::new, |class| format!(":::{class}"));
            let (open, close) = match node.what {
                What::Call | What::ForEach => ("[", "]"),
                What::Workflow => ("[[", "]]"),
                What::Approve => ("{{", "}}"),
            };
            if node.what != What::ForEach {
                _ = writeln!(self.text, "{margin}{name}{open}\"{label}\"{close}{suffix}");
                continue;
            }
            _ = writeln!(self.text, "{margin}subgraph {name}[\"{label}\"]");
            self.steps(finally, Some(at), depth + 1);
            _ = writeln!(self.text, "{margin}end");
            if let Some(class) = class {
                _ = writeln!(self.text, "{margin}class {name} {class}");
            }
        }
    }
}

/// The name of a step, which has only letters, digits and underscores, so that Mermaid reads it as one.
fn name(id: &str) -> String {
    // No step has a capital letter, so this is no other step's name.
    if RESERVED.contains(&id) { format!("{id}_STEP") } else { id.to_owned() }
}

/// Text between quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            c if c.is_alphanumeric() || " _./:@+=,-".contains(c) => escaped.push(c),
            c if c.is_control() => escaped.push(' '),
            c => _ = write!(escaped, "#{};", u32::from(c)),
        }
    }
    escaped
}
