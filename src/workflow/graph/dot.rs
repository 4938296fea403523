//! The graph in the language of Graphviz.

use super::{Graph, Kind, Node, What};
use std::fmt::Write;

/// Draws the graph: a solid arrow from a step to one that reads it, a dashed one to a step that only needs it; a hexagon
/// asks a person, and a cluster holds the steps of a loop.
pub fn dot(graph: &Graph) -> String {
    let mut text = format!("digraph {} {{\n", quoted(&graph.title));
    if graph.nodes.iter().any(|node| node.what == What::ForEach) {
        text.push_str("  compound=true;\n");
    }
    text.push_str(
        "  node [shape=box, style=\"rounded,filled\", fillcolor=\"#f4f6f8\", color=\"#7b8794\"];\n",
    );
    steps(&mut text, graph, false, None, 1);
    if graph.nodes.iter().any(|node| node.finally) {
        text.push_str("  subgraph cluster_finally {\n    label=\"finally\";\n");
        steps(&mut text, graph, true, None, 2);
        text.push_str("  }\n");
    }
    for edge in &graph.edges {
        let (from, to) = (&graph.nodes[edge.from], &graph.nodes[edge.to]);
        let mut style = Vec::new();
        if edge.kind == Kind::Needs {
            style.push("style=dashed".to_owned());
        }
        // An arrow ends at the border of a loop, though it leads to the loop's name.
        for (end, node) in [("ltail", from), ("lhead", to)] {
            if node.what == What::ForEach {
                style.push(format!("{end}={}", quoted(&cluster(node))));
            }
        }
        let style = if style.is_empty() { String::new() } else { format!(" [{}]", style.join(", ")) };
        _ = writeln!(text, "  {} -> {}{style};", quoted(&from.id), quoted(&to.id));
    }
    text.push_str("}\n");
    text
}

/// The steps of a section, or of a loop, each loop as a cluster with its name inside.
fn steps(text: &mut String, graph: &Graph, finally: bool, group: Option<usize>, depth: usize) {
    let margin = "  ".repeat(depth);
    for (at, node) in graph.nodes.iter().enumerate() {
        if node.finally != finally || node.group != group {
            continue;
        }
        let label = quoted(&node.labels().join("\n"));
        let shape = match node.what {
            What::Call => "",
            What::Workflow => ", peripheries=2",
            What::Approve => ", shape=hexagon, style=filled",
            What::ForEach => ", shape=plain, style=\"\"",
        };
        let colors = node.state().map_or_else(String::new, |state| {
            let fill = if node.what == What::ForEach { "bgcolor" } else { "fillcolor" };
            format!(", {fill}={}, color={}", quoted(state.fill), quoted(state.line))
        });
        if node.what != What::ForEach {
            _ = writeln!(text, "{margin}{} [label={label}{shape}{colors}];", quoted(&node.id));
            continue;
        }
        let colors = if colors.is_empty() { ", color=\"#7b8794\"" } else { &colors };
        _ = writeln!(text, "{margin}subgraph {} {{", quoted(&cluster(node)));
        _ = writeln!(text, "{margin}  graph [label=\"\", style=rounded{colors}];");
        _ = writeln!(text, "{margin}  {} [label={label}{shape}];", quoted(&node.id));
        steps(text, graph, finally, Some(at), depth + 1);
        _ = writeln!(text, "{margin}}}");
    }
}

/// The name of a loop's cluster; Graphviz knows clusters by how their names begin.
fn cluster(node: &Node) -> String {
    format!("cluster_step_{}", node.id)
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
