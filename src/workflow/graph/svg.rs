//! The graph as an SVG image: on its own, without scripts, fonts or styles from elsewhere; readable on a light and on a
//! dark page, since every step brings its own background; and told in words, too, for whoever cannot see it.

use super::layout::{Layout, Plan, layout};
use super::state::NONE;
use super::{Graph, Kind, Node};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Width of a character in pixels, of the font and size below.
const CHARACTER: f64 = 7.5;

/// Characters of a label; the whole text is in the step's title.
const LABEL_MAX: usize = 34;

/// Height of a line of text.
const LINE: f64 = 17.0;

/// Height between two rows, for edges.
const BETWEEN: f64 = 46.0;

/// Around everything.
const MARGIN: f64 = 20.0;

/// Above the steps of `finally`, for its name.
const HEAD: f64 = 34.0;

/// Between two arrows that arrive at one step.
const APART: f64 = 16.0;

/// Length of an arrow's head.
const ARROW: f64 = 9.0;

const STYLE: &str = "\
    text { font: 12.5px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }\n\
    .id { fill: #1c2430; font-weight: 600; } .uses, .state { fill: #3d4855; } .aside { fill: #6f7783; }\n\
    .reads, .needs { fill: none; stroke: #7b8794; stroke-width: 1.6; } .needs { stroke-dasharray: 5 4; }\n";

/// Draws the graph: a solid line to a step that reads another, a dashed one to a step that only needs it.
pub fn svg(graph: &Graph) -> String {
    let order = [graph.order(false), graph.order(true)].concat();
    let edges: Vec<_> = graph.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    let lines = if graph.nodes.iter().any(|node| node.state.is_some()) { 3.0 } else { 2.0 };
    let longest = graph.nodes.iter().flat_map(labels).map(|label| label.chars().count()).max().unwrap_or(0);
    let size = (longest as f64 * CHARACTER + 28.0, lines * LINE + 16.0);
    let below = |step: usize| graph.nodes[step].finally;
    let layout =
        layout(&Plan { order: &order, below: &below, edges: &edges, width: size.0, lane: 10.0, gap: 22.0 });
    let finally =
        graph.nodes.iter().zip(&layout.steps).filter(|(node, _)| node.finally).map(|(_, step)| step.0);
    let arrivals = arrivals(graph, &layout, size.0);
    let page = Page { graph, first: finally.min(), layout, size, arrivals };
    page.draw()
}

struct Page<'g> {
    graph: &'g Graph,
    layout: Layout,
    /// The first row of `finally`.
    first: Option<usize>,
    /// Of a step.
    size: (f64, f64),
    /// Where each edge arrives, from the middle of its step.
    arrivals: Vec<f64>,
}

impl Page<'_> {
    /// The top of a row.
    fn top(&self, row: usize) -> f64 {
        let head = if self.first.is_some_and(|first| row >= first) { HEAD } else { 0.0 };
        MARGIN + LINE + 14.0 + row as f64 * (self.size.1 + BETWEEN) + head
    }

    fn draw(&self) -> String {
        let bottom =
            if self.layout.rows == 0 { self.top(0) } else { self.top(self.layout.rows - 1) + self.size.1 };
        let legend = 230.0;
        let width = (self.layout.width + 2.0 * MARGIN)
            .max(legend)
            .max(self.graph.title.chars().count() as f64 * CHARACTER + 2.0 * MARGIN);
        let height = bottom + MARGIN + LINE + 12.0;
        let title = escaped(&self.graph.title);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n<defs>\n"
        );
        for (id, fill) in [("read", "#7b8794"), ("need", "none")] {
            _ = writeln!(
                svg,
                "<marker id=\"{id}\" markerUnits=\"userSpaceOnUse\" markerWidth=\"12\" markerHeight=\"12\" refX=\"1\" \
                 refY=\"5\" orient=\"auto\"><path d=\"M1,1 L{ARROW:.0},5 L1,9 z\" fill=\"{fill}\" stroke=\"#7b8794\" \
                 stroke-width=\"1.2\"/></marker>"
            );
        }
        _ = writeln!(
            svg,
            "</defs>\n<text class=\"aside\" x=\"{MARGIN}\" y=\"{:.0}\">{title}</text>",
            MARGIN + 8.0
        );
        self.finally(&mut svg, width);
        for edge in 0..self.graph.edges.len() {
            self.edge(&mut svg, edge);
        }
        for (node, (row, x)) in self.graph.nodes.iter().zip(&self.layout.steps) {
            self.node(&mut svg, node, x + MARGIN, self.top(*row));
        }
        legend_of(&mut svg, height - MARGIN);
        svg.push_str("</svg>\n");
        svg
    }

    fn finally(&self, svg: &mut String, width: f64) {
        let Some(first) = self.first else { return };
        let (top, last) = (self.top(first) - HEAD + 6.0, self.top(self.layout.rows.saturating_sub(1)));
        let height = last + self.size.1 + 12.0 - top;
        _ = writeln!(
            svg,
            "<rect x=\"8\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"10\" fill=\"none\" \
             stroke=\"#7b8794\" stroke-dasharray=\"2 4\"/>\n<text class=\"aside\" x=\"{MARGIN}\" y=\"{:.1}\">finally</text>",
            width - 16.0,
            top + LINE
        );
    }

    fn node(&self, svg: &mut String, node: &Node, x: f64, top: f64) {
        let state = node.state.unwrap_or(NONE);
        let told = node.state.map_or_else(String::new, |state| format!(", {}", state.word));
        let (width, height) = self.size;
        _ = write!(
            svg,
            "<g><title>step {}: {}{told}</title><rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" rx=\"7\" fill=\"{}\" stroke=\"{}\" stroke-width=\"1.6\"/>",
            escaped(&node.id),
            escaped(&node.uses),
            x - width / 2.0,
            state.fill,
            state.line
        );
        for ((line, class), label) in (1..).zip(["id", "uses", "state"]).zip(labels(node)) {
            _ = write!(
                svg,
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                top + 4.0 + f64::from(line) * LINE,
                escaped(&label)
            );
        }
        svg.push_str("</g>\n");
    }

    fn edge(&self, svg: &mut String, at: usize) {
        let edge = self.graph.edges[at];
        let (from, to) = (self.layout.steps[edge.from], self.layout.steps[edge.to]);
        let (mut x, mut y) = (from.1 + MARGIN, self.top(from.0) + self.size.1);
        let mut path = format!("M{x:.1},{y:.1}");
        let mut curve = |to_x: f64, to_y: f64, down: f64| {
            let middle = f64::midpoint(y, to_y);
            _ = write!(path, " C{x:.1},{middle:.1} {to_x:.1},{middle:.1} {to_x:.1},{to_y:.1}");
            if down > 0.0 {
                _ = write!(path, " v{down:.1}");
            }
            (x, y) = (to_x, to_y + down);
        };
        for (row, bend) in &self.layout.bends[at] {
            curve(bend + MARGIN, self.top(*row), self.size.1);
        }
        curve(to.1 + self.arrivals[at] + MARGIN, self.top(to.0) - ARROW, 0.0);
        let (class, marker) = match edge.kind {
            Kind::Reads => ("reads", "read"),
            Kind::Needs => ("needs", "need"),
        };
        let (from, to) = (&self.graph.nodes[edge.from].id, &self.graph.nodes[edge.to].id);
        _ = writeln!(
            svg,
            "<path class=\"{class}\" marker-end=\"url(#{marker})\" d=\"{path}\"><title>{} {class} {}</title></path>",
            escaped(to),
            escaped(from)
        );
    }
}

/// Arrows that arrive at one step stand beside each other, in the order of where they come from.
fn arrivals(graph: &Graph, layout: &Layout, width: f64) -> Vec<f64> {
    let comes_from =
        |at: usize| layout.bends[at].last().map_or(layout.steps[graph.edges[at].from].1, |bend| bend.1);
    let mut by_step: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, edge) in graph.edges.iter().enumerate() {
        by_step.entry(edge.to).or_default().push(at);
    }
    let mut arrivals = vec![0.0; graph.edges.len()];
    for edges in by_step.values_mut() {
        edges.sort_by(|a, b| comes_from(*a).total_cmp(&comes_from(*b)));
        let apart = APART.min((width - 2.0 * APART) / edges.len() as f64);
        let middle = (edges.len() - 1) as f64 / 2.0;
        for (place, edge) in edges.iter().enumerate() {
            arrivals[*edge] = (place as f64 - middle) * apart;
        }
    }
    arrivals
}

/// What is written on a step, a line each.
fn labels(node: &Node) -> Vec<String> {
    let cut = |text: &str| match text.char_indices().nth(LABEL_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    let state = node.state.map(super::State::told);
    [Some(cut(&node.id)), Some(cut(&node.uses)), state].into_iter().flatten().collect()
}

fn legend_of(svg: &mut String, y: f64) {
    for (x, class, marker, words) in
        [(MARGIN, "reads", "read", "reads"), (MARGIN + 100.0, "needs", "need", "needs")]
    {
        _ = writeln!(
            svg,
            "<path class=\"{class}\" marker-end=\"url(#{marker})\" d=\"M{x:.0},{y:.0} h30\"/><text class=\"aside\" \
             x=\"{:.0}\" y=\"{:.0}\">{words}</text>",
            x + 46.0,
            y + 4.0
        );
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no place for these, not even escaped.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
