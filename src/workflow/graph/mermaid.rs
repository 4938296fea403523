//! The graph as Mermaid text, for pages that draw it: GitHub, GitLab, most wikis.

use super::{Graph, Kind, Node};
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
/// needs it.
pub fn mermaid(graph: &Graph) -> String {
    let mut text = format!("---\ntitle: \"{}\"\n---\nflowchart TD\n", escaped(&graph.title));
    if graph.edges.len() > EDGES_MAX {
        _ = writeln!(
            text,
            "  %% {} edges: set Mermaid's `maxEdges`, which is {EDGES_MAX}.",
            graph.edges.len()
        );
    }
    let mut used = BTreeSet::new();
    for finally in [false, true] {
        let nodes: Vec<&Node> = graph.nodes.iter().filter(|node| node.finally == finally).collect();
        let margin = if finally { "    " } else { "  " };
        if finally && !nodes.is_empty() {
            text.push_str("  subgraph finally_section [finally]\n");
        }
        for node in &nodes {
            let mut label = format!("{}<br>{}", escaped(&node.id), escaped(&node.uses));
            let mut class = String::new();
            if let Some(state) = node.state {
                label = format!("{label}<br>{}", state.told());
                class = format!(":::{}", state.word);
                used.insert((state.word, state.fill, state.line));
            }
            _ = writeln!(text, "{margin}{}[\"{label}\"]{class}", name(&node.id));
        }
        if finally && !nodes.is_empty() {
            text.push_str("  end\n");
        }
    }
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
