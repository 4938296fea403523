//! The graph in the language of Graphviz.

use super::{Graph, Kind, Node};
use std::fmt::Write;

/// Draws the graph: a solid arrow from a step to one that reads it, a dashed one to a step that only needs it.
pub fn dot(graph: &Graph) -> String {
    let mut text = format!("digraph {} {{\n", quoted(&graph.title));
    text.push_str(
        "  node [shape=box, style=\"rounded,filled\", fillcolor=\"#f4f6f8\", color=\"#7b8794\"];\n",
    );
    for finally in [false, true] {
        let nodes: Vec<&Node> = graph.nodes.iter().filter(|node| node.finally == finally).collect();
        let margin = if finally { "    " } else { "  " };
        if finally && !nodes.is_empty() {
            text.push_str("  subgraph cluster_finally {\n    label=\"finally\";\n");
        }
        for node in &nodes {
            let mut label = vec![node.id.clone(), node.uses.clone()];
            let mut colors = String::new();
            if let Some(state) = node.state {
                label.push(state.told());
                colors = format!(", fillcolor={}, color={}", quoted(state.fill), quoted(state.line));
            }
            _ = writeln!(text, "{margin}{} [label={}{colors}];", quoted(&node.id), quoted(&label.join("\n")));
        }
        if finally && !nodes.is_empty() {
            text.push_str("  }\n");
        }
    }
    for edge in &graph.edges {
        let style = match edge.kind {
            Kind::Reads => "",
            Kind::Needs => " [style=dashed]",
        };
        let (from, to) = (&graph.nodes[edge.from].id, &graph.nodes[edge.to].id);
        _ = writeln!(text, "  {} -> {}{style};", quoted(from), quoted(to));
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\n' => quoted.push_str("\\n"),
            '"' | '\\' => quoted.extend(['\\', c]),
            // Graphviz takes `&lt;` for a character.
            '&' => quoted.push_str("&amp;"),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
