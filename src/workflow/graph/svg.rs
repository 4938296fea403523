//! The graph as an SVG image: on its own, without scripts, fonts or styles from elsewhere; readable on a light and on a
//! dark page, since every step brings its own background; and told in words, too, for whoever cannot see it.

use super::layout::{Layout, Plan, layout};
use super::state::none;
use super::{Graph, Kind, Node, What};
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

/// Around the steps of a loop.
const PADDING: f64 = 14.0;

/// Draws the graph: a solid line to a step that reads another, a dashed one to a step that only needs it; a hexagon asks
/// a person, and a box holds the steps of a loop.
pub fn svg(graph: &Graph) -> String {
    let lines = if graph.nodes.iter().any(|node| node.standing.is_some()) { 3.0 } else { 2.0 };
    let plain = graph.nodes.iter().filter(|node| node.what != What::ForEach);
    let size = (width_of(plain.flat_map(labels)), lines * LINE + 16.0);
    let mut sizes = vec![size; graph.nodes.len()];
    let mut inside = BTreeMap::new();
    for (at, node) in graph.nodes.iter().enumerate().filter(|(_, node)| node.what == What::ForEach) {
        let level = Level::of(graph, Some(at), &sizes);
        let width = level.layout.width.max(width_of(labels(node))) + 2.0 * PADDING;
        sizes[at] = (width, size.1 + level.height() + PADDING);
        inside.insert(at, level);
    }
    let level = Level::of(graph, None, &sizes);
    Page { graph, inside, head: size.1, sizes, lines: String::new() }.draw(&level)
}

fn width_of(labels: impl IntoIterator<Item = String>) -> f64 {
    let longest = labels.into_iter().map(|label| label.chars().count()).max().unwrap_or(0);
    longest as f64 * CHARACTER + 28.0
}

/// The steps outside loops, or those of one loop, and where they stand.
struct Level {
    /// Node -> its place in the layout.
    places: BTreeMap<usize, usize>,
    /// Edges between them.
    edges: Vec<usize>,
    layout: Layout,
    /// Top and height of each row.
    rows: Vec<(f64, f64)>,
    /// The first row of `finally`.
    first: Option<usize>,
    /// Where each edge arrives, from the middle of its step.
    arrivals: Vec<f64>,
}

impl Level {
    fn of(graph: &Graph, group: Option<usize>, sizes: &[(f64, f64)]) -> Self {
        let members = [graph.order(false, group), graph.order(true, group)].concat();
        let places: BTreeMap<usize, usize> =
            members.iter().enumerate().map(|(place, node)| (*node, place)).collect();
        let inner = |edge: &usize| places.contains_key(&graph.edges[*edge].to);
        let edges: Vec<usize> = (0..graph.edges.len()).filter(inner).collect();
        let pairs = edges.iter().map(|edge| (graph.edges[*edge].from, graph.edges[*edge].to));
        let pairs: Vec<_> = pairs.map(|(from, to)| (places[&from], places[&to])).collect();
        let order: Vec<usize> = (0..members.len()).collect();
        // Within a loop of `finally` there is no other section.
        let below = |place: usize| group.is_none() && graph.nodes[members[place]].finally;
        let width = |place: usize| sizes[members[place]].0;
        let layout = layout(&Plan {
            order: &order,
            below: &below,
            edges: &pairs,
            width: &width,
            lane: 10.0,
            gap: 22.0,
        });
        let first = order.iter().filter(|place| below(**place)).map(|place| layout.steps[*place].0).min();
        let mut top = 0.0;
        let mut rows = Vec::new();
        for row in 0..layout.rows {
            let of_row = order.iter().filter(|place| layout.steps[**place].0 == row);
            let height = of_row.map(|place| sizes[members[*place]].1).fold(0.0, f64::max);
            if first == Some(row) {
                top += HEAD;
            }
            rows.push((top, height));
            top += height + BETWEEN;
        }
        let arrivals = arrivals(&pairs, &layout, &width);
        Self { places, edges, layout, rows, first, arrivals }
    }

    fn height(&self) -> f64 {
        self.rows.last().map_or(0.0, |(top, height)| top + height)
    }

    /// Row and middle of a node.
    fn place(&self, node: usize) -> (usize, f64) {
        self.layout.steps[self.places[&node]]
    }
}

struct Page<'g> {
    graph: &'g Graph,
    /// Loop -> its steps.
    inside: BTreeMap<usize, Level>,
    /// Height of a step, and of a loop above its steps.
    head: f64,
    sizes: Vec<(f64, f64)>,
    lines: String,
}

impl Page<'_> {
    fn draw(mut self, level: &Level) -> String {
        let origin = (MARGIN, MARGIN + LINE + 14.0);
        let bottom = origin.1 + level.height();
        let legend = 230.0;
        let width = (level.layout.width + 2.0 * MARGIN)
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
        if let Some((top, _)) = level.first.map(|first| level.rows[first]) {
            finally(&mut svg, width, origin.1 + top, bottom);
        }
        self.level(level, origin);
        svg.push_str(&self.lines);
        legend_of(&mut svg, height - MARGIN);
        svg.push_str("</svg>\n");
        svg
    }

    /// Draws steps and what is between them; `origin` is where their layout begins.
    fn level(&mut self, level: &Level, origin: (f64, f64)) {
        for edge in 0..level.edges.len() {
            self.edge(level, edge, origin);
        }
        for node in level.places.keys() {
            let (row, x) = level.place(*node);
            self.node(*node, x + origin.0, level.rows[row].0 + origin.1);
        }
    }

    fn node(&mut self, at: usize, x: f64, top: f64) {
        let node = &self.graph.nodes[at];
        let state = node.state().unwrap_or_else(|| none(node.what));
        let told = node.standing.map_or_else(String::new, |standing| format!(", {}", standing.words()));
        let (width, height) = self.sizes[at];
        let (left, right) = (x - width / 2.0, x + width / 2.0);
        let (fill, line) = (state.fill, state.line);
        let paint = format!("fill=\"{fill}\" stroke=\"{line}\" stroke-width=\"1.6\"");
        let svg = &mut self.lines;
        _ = write!(svg, "<g><title>step {}: {}{told}</title>", escaped(&node.id), escaped(&node.uses));
        let rectangle = |rx: u32| {
            format!(
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{rx}\" {paint}/>"
            )
        };
        match node.what {
            What::Call => svg.push_str(&rectangle(7)),
            What::ForEach => svg.push_str(&rectangle(12)),
            What::Workflow => {
                svg.push_str(&rectangle(2));
                for x in [left + 5.0, right - 5.0] {
                    _ = write!(svg, "<path d=\"M{x:.1},{top:.1} v{height:.1}\" stroke=\"{line}\"/>");
                }
            }
            What::Approve => {
                let (half, cut) = (height / 2.0, 11.0);
                let across = width - 2.0 * cut;
                _ = write!(
                    svg,
                    "<path d=\"M{left:.1},{:.1} l{cut},-{half:.1} h{across:.1} l{cut},{half:.1} l-{cut},{half:.1} \
                     h-{across:.1} z\" {paint}/>",
                    top + half
                );
            }
        }
        for ((line, class), label) in (1..).zip(["id", "uses", "state"]).zip(labels(node)) {
            _ = write!(
                svg,
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                top + 4.0 + f64::from(line) * LINE,
                escaped(&label)
            );
        }
        if let Some(level) = self.inside.remove(&at) {
            svg.push('\n');
            self.level(&level, (x - level.layout.width / 2.0, top + self.head));
        }
        self.lines.push_str("</g>\n");
    }

    fn edge(&mut self, level: &Level, at: usize, origin: (f64, f64)) {
        let edge = self.graph.edges[level.edges[at]];
        let (from, to) = (level.place(edge.from), level.place(edge.to));
        let row = |row: usize| (level.rows[row].0 + origin.1, level.rows[row].1);
        let (mut x, mut y) = (from.1 + origin.0, row(from.0).0 + self.sizes[edge.from].1);
        let mut path = format!("M{x:.1},{y:.1}");
        // Past what is taller in its own row.
        let past = row(from.0).1 - self.sizes[edge.from].1;
        if past > 0.0 {
            _ = write!(path, " v{past:.1}");
            y += past;
        }
        let mut curve = |to_x: f64, to_y: f64, down: f64| {
            let middle = f64::midpoint(y, to_y);
            _ = write!(path, " C{x:.1},{middle:.1} {to_x:.1},{middle:.1} {to_x:.1},{to_y:.1}");
            if down > 0.0 {
                _ = write!(path, " v{down:.1}");
            }
            (x, y) = (to_x, to_y + down);
        };
        for (passed, bend) in &level.layout.bends[at] {
            let (top, height) = row(*passed);
            curve(bend + origin.0, top, height);
        }
        curve(to.1 + level.arrivals[at] + origin.0, row(to.0).0 - ARROW, 0.0);
        let (class, marker) = match edge.kind {
            Kind::Reads => ("reads", "read"),
            Kind::Needs => ("needs", "need"),
        };
        let (from, to) = (&self.graph.nodes[edge.from].id, &self.graph.nodes[edge.to].id);
        _ = writeln!(
            self.lines,
            "<path class=\"{class}\" marker-end=\"url(#{marker})\" d=\"{path}\"><title>{} {class} {}</title></path>",
            escaped(to),
            escaped(from)
        );
    }
}

/// The frame around the steps of `finally`.
fn finally(svg: &mut String, width: f64, first: f64, bottom: f64) {
    let top = first - HEAD + 6.0;
    let height = bottom + 12.0 - top;
    _ = writeln!(
        svg,
        "<rect x=\"8\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"10\" fill=\"none\" \
         stroke=\"#7b8794\" stroke-dasharray=\"2 4\"/>\n<text class=\"aside\" x=\"{MARGIN}\" y=\"{:.1}\">finally</text>",
        width - 16.0,
        top + LINE
    );
}

/// Arrows that arrive at one step stand beside each other, in the order of where they come from.
fn arrivals(edges: &[(usize, usize)], layout: &Layout, width: &dyn Fn(usize) -> f64) -> Vec<f64> {
    let comes_from = |at: usize| layout.bends[at].last().map_or(layout.steps[edges[at].0].1, |bend| bend.1);
    let mut by_step: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, (_, to)) in edges.iter().enumerate() {
        by_step.entry(*to).or_default().push(at);
    }
    let mut arrivals = vec![0.0; edges.len()];
    for (step, edges) in &mut by_step {
        edges.sort_by(|a, b| comes_from(*a).total_cmp(&comes_from(*b)));
        let apart = APART.min((width(*step) - 2.0 * APART) / edges.len() as f64);
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
    node.labels().iter().map(|label| cut(label)).collect()
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
