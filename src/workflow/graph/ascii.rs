//! The graph for a terminal: one line a step, in an order in which they can run, with the lines that lead to it on its
//! left. A step's line runs down a column until the last step that waits for it, so the picture is as wide as what is
//! open at once, however many steps there are. The steps of a loop follow it, further to the right.

use super::state::none;
use super::{Edge, Graph, Kind};
use crate::workflow::suggest::listed;

/// Columns for lines. What does not fit is told in words, so that a step on which a thousand others wait, or that waits
/// for a thousand, still fits a terminal.
const COLUMNS_MAX: usize = 20;

/// Characters of a name before it is cut.
const NAME_MAX: usize = 40;

/// What lines are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glyphs {
    /// Box drawing, for terminals that speak UTF-8.
    Boxes,
    /// ASCII alone.
    Plain,
}

/// Draws the graph: a solid line to a step that reads another, a dashed one to a step that only needs it.
pub fn ascii(graph: &Graph, glyphs: Glyphs) -> String {
    let mut lines = Vec::new();
    for finally in [false, true] {
        let order = graph.order(finally, None);
        if finally && !order.is_empty() {
            lines.push(Line::Title("finally"));
        }
        lines.extend(Section::new(graph).draw(&order));
    }
    let width = lines.iter().map(Line::width).max().unwrap_or(0);
    let nodes = &graph.nodes;
    let longest = |text: fn(&super::Node) -> String| {
        nodes.iter().map(|node| text(node).chars().count()).max().unwrap_or(0)
    };
    let state = |node: &super::Node| node.standing.map(super::Standing::words).unwrap_or_default();
    let (names, uses) = (longest(name), longest(|node| cut(&node.uses)));
    let states = nodes.iter().map(|node| state(node).len()).max().unwrap_or(0);
    let mut text = format!("{}\n\n", graph.title);
    for line in &lines {
        let drawn = match line {
            Line::Title(title) => format!("\n{title}\n"),
            Line::Between(cells) => drawn(cells, glyphs),
            Line::Step { cells, step, note } => {
                let node = &nodes[*step];
                let state = if states > 0 { format!("  {:<states$}", state(node)) } else { String::new() };
                let lanes = drawn(cells, glyphs);
                let padding = width - lanes.chars().count();
                format!(
                    "{lanes}{:padding$}  {:<names$}  {:<uses$}{state}  {note}",
                    "",
                    name(node),
                    cut(&node.uses)
                )
            }
        };
        text.push_str(drawn.trim_end());
        text.push('\n');
    }
    let of = |kind| graph.edges.iter().any(|edge| edge.kind == kind);
    if of(Kind::Reads) || of(Kind::Needs) {
        let (solid, dashed) = match glyphs {
            Glyphs::Boxes => ("│", "╎"),
            Glyphs::Plain => ("|", ":"),
        };
        text.push_str(&format!("\n{solid} reads   {dashed} needs\n"));
    }
    text
}

/// The name of a step; that of a step of a loop is set in.
fn name(node: &super::Node) -> String {
    let name = cut(&node.id);
    if node.group.is_some() { format!("  {name}") } else { name }
}

fn cut(name: &str) -> String {
    let mut text: String =
        name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(NAME_MAX).collect();
    if name.chars().count() > NAME_MAX {
        text.pop();
        text.push('~');
    }
    text
}

/// A line of the picture.
enum Line {
    Title(&'static str),
    Between(Vec<Cell>),
    Step { cells: Vec<Cell>, step: usize, note: String },
}

impl Line {
    /// Characters of its lines: a column and the space behind it, but for the last.
    fn width(&self) -> usize {
        match self {
            Self::Title(_) => 0,
            Self::Between(cells) | Self::Step { cells, .. } => cells.len(),
        }
    }
}

/// A character of the lines: where strokes leave it.
#[derive(Clone, Copy, Default)]
struct Cell {
    up: bool,
    down: bool,
    left: bool,
    right: bool,
    dashed: bool,
    sign: Option<(&'static str, &'static str)>,
}

/// A line that runs down a column.
#[derive(Clone, Copy)]
struct Lane {
    from: usize,
    kind: Kind,
    /// Steps further down that wait for it.
    left: usize,
}

struct Section<'g> {
    graph: &'g Graph,
    columns: Vec<Option<Lane>>,
    /// Edges by the step that waits.
    left: Vec<Vec<Edge>>,
    lines: Vec<Line>,
}

impl<'g> Section<'g> {
    fn new(graph: &'g Graph) -> Self {
        Self { graph, columns: Vec::new(), left: Vec::new(), lines: Vec::new() }
    }

    /// The lines of these steps, which are those of a section or of a loop.
    fn draw(mut self, order: &[usize]) -> Vec<Line> {
        let mut waits: Vec<Vec<Edge>> = vec![Vec::new(); self.graph.nodes.len()];
        let mut open = vec![[0_usize; 2]; self.graph.nodes.len()];
        for edge in &self.graph.edges {
            waits[edge.to].push(*edge);
            if self.graph.nodes[edge.from].finally == self.graph.nodes[edge.to].finally {
                open[edge.from][edge.kind as usize] += 1;
            }
        }
        self.left = waits;
        for step in order {
            let column = self.step(*step, open[*step]);
            self.inside(*step, column);
        }
        self.lines
    }

    /// The steps of a loop: a picture of its own, to the right of the loop and of the lines that run past it.
    fn inside(&mut self, each: usize, column: usize) {
        let order = self.graph.order(self.graph.nodes[each].finally, Some(each));
        if order.is_empty() {
            return;
        }
        let mut before = self.running(column + 1);
        before.push(Cell::default());
        for line in Self::new(self.graph).draw(&order) {
            let beside = |cells: Vec<Cell>| [before.as_slice(), &cells].concat();
            self.lines.push(match line {
                Line::Between(cells) => Line::Between(beside(cells)),
                Line::Step { cells, step, note } => Line::Step { cells: beside(cells), step, note },
                title @ Line::Title(_) => title,
            });
        }
    }

    /// Draws a step; the column that it stands in.
    fn step(&mut self, step: usize, open: [usize; 2]) -> usize {
        let edges = std::mem::take(&mut self.left[step]);
        let lane_of = |edge: &Edge| {
            self.columns
                .iter()
                .position(|lane| lane.is_some_and(|lane| lane.from == edge.from && lane.kind == edge.kind))
        };
        let (drawn, told): (Vec<_>, Vec<_>) =
            edges.iter().map(|edge| (*edge, lane_of(edge))).partition(|(_, at)| at.is_some());
        let drawn: Vec<(Kind, usize)> =
            drawn.into_iter().filter_map(|(edge, at)| Some((edge.kind, at?))).collect();
        for (_, at) in &drawn {
            if let Some(lane) = &mut self.columns[*at] {
                lane.left -= 1;
            }
        }
        let ends = |at: usize| self.columns[at].is_some_and(|lane| lane.left == 0);
        let column =
            drawn.iter().map(|(_, at)| *at).filter(|at| ends(*at)).min().unwrap_or_else(|| self.free());
        // The step's own column comes first, so that the strokes beside it are of the kind that it is.
        let own = drawn.iter().find(|(_, at)| *at == column).map_or(Kind::Needs, |(kind, _)| *kind);
        let mut kinds = [Kind::Needs, Kind::Reads];
        kinds.sort_by_key(|kind| *kind != own);
        let mut joined = false;
        for kind in kinds {
            let from: Vec<usize> = drawn.iter().filter(|(of, _)| *of == kind).map(|(_, at)| *at).collect();
            if !from.is_empty() {
                self.join(&from, column, kind, joined);
                joined = true;
            }
        }
        let note = self.note(told.into_iter().map(|(edge, _)| edge));
        self.mark(step, column, open, note);
        column
    }

    /// The first column that is free, or the one behind the last.
    fn free(&self) -> usize {
        self.columns.iter().position(Option::is_none).unwrap_or(self.columns.len())
    }

    fn set(&mut self, column: usize, lane: Option<Lane>) {
        if column >= self.columns.len() {
            self.columns.resize(column + 1, None);
        }
        self.columns[column] = lane;
        while self.columns.last().is_some_and(Option::is_none) {
            self.columns.pop();
        }
    }

    /// Lines as they run down here, one cell a column and one between two.
    fn running(&self, columns: usize) -> Vec<Cell> {
        let mut cells = vec![Cell::default(); (columns.max(self.columns.len()) * 2).saturating_sub(1)];
        for (column, lane) in self.columns.iter().enumerate() {
            if let Some(lane) = lane {
                let dashed = lane.kind == Kind::Needs;
                cells[column * 2] = Cell { up: true, down: true, dashed, ..Cell::default() };
            }
        }
        cells
    }

    /// A line on which the lanes of these columns come together in one; those that nobody waits for any more end there.
    fn join(&mut self, from: &[usize], column: usize, kind: Kind, joined: bool) {
        let mut cells = self.running(column + 1);
        let dashed = kind == Kind::Needs;
        let first = from.iter().copied().chain([column]).min().unwrap_or(column);
        let last = from.iter().copied().chain([column]).max().unwrap_or(column);
        for (at, cell) in cells.iter_mut().enumerate().take(last * 2 + 1).skip(first * 2) {
            let lane = at % 2 == 0 && self.columns.get(at / 2).is_some_and(Option::is_some);
            let joins = at % 2 == 0 && (from.contains(&(at / 2)) || at / 2 == column);
            // A lane that only crosses keeps its stroke; the line goes on behind it.
            if lane && !joins {
                continue;
            }
            cell.left |= at > first * 2;
            cell.right |= at < last * 2;
            cell.dashed = dashed;
        }
        for at in from {
            let ends = self.columns[*at].is_some_and(|lane| lane.left == 0);
            cells[at * 2].down = !ends || *at == column;
            if ends {
                self.columns[*at] = None;
            }
        }
        cells[column * 2].down = true;
        cells[column * 2].up |= joined;
        self.lines.push(Line::Between(cells));
    }

    /// The line of a step, from which its own lanes begin.
    fn mark(&mut self, step: usize, column: usize, open: [usize; 2], note: String) {
        let mut columns = [Kind::Reads, Kind::Needs].into_iter().filter(|kind| open[*kind as usize] > 0);
        let node = &self.graph.nodes[step];
        let state = node.state().unwrap_or_else(|| none(node.what));
        let begin = |kind: Kind| Some(Lane { from: step, kind, left: open[kind as usize] });
        let mut cells = self.running(column + 1);
        cells[column * 2].sign = Some((state.sign, state.plain));
        if let Some(kind) = columns.next().filter(|_| column < COLUMNS_MAX) {
            self.set(column, begin(kind));
            if let Some(kind) = columns.next() {
                let second = self.free();
                if second < COLUMNS_MAX {
                    cells.resize(cells.len().max(second * 2 + 1), Cell::default());
                    let (first, last) = (column.min(second) * 2, column.max(second) * 2);
                    for (at, cell) in cells.iter_mut().enumerate().take(last + 1).skip(first) {
                        if at % 2 == 0 && self.columns.get(at / 2).is_some_and(Option::is_some) {
                            continue;
                        }
                        let down = at == second * 2;
                        *cell = Cell {
                            left: at > first,
                            right: at < last,
                            down,
                            dashed: true,
                            ..Cell::default()
                        };
                    }
                    self.set(second, begin(kind));
                }
            }
        } else {
            while self.columns.last().is_some_and(Option::is_none) {
                self.columns.pop();
            }
        }
        self.lines.push(Line::Step { cells, step, note });
    }

    /// What no line shows, in words.
    fn note(&self, edges: impl Iterator<Item = Edge>) -> String {
        let edges: Vec<Edge> = edges.collect();
        let told = |kind: Kind| {
            let names = edges.iter().filter(|edge| edge.kind == kind);
            let names: Vec<&str> = names.map(|edge| self.graph.nodes[edge.from].id.as_str()).collect();
            (!names.is_empty()).then(|| format!("{} {}", kind.word(), listed(names).replace('`', "")))
        };
        [Kind::Reads, Kind::Needs].into_iter().filter_map(told).collect::<Vec<_>>().join(", ")
    }
}

fn drawn(cells: &[Cell], glyphs: Glyphs) -> String {
    cells.iter().map(|cell| glyph(*cell, glyphs)).collect()
}

fn glyph(cell: Cell, glyphs: Glyphs) -> &'static str {
    let Cell { up, down, left, right, dashed, sign } = cell;
    if let Some((sign, plain)) = sign {
        return if glyphs == Glyphs::Boxes { sign } else { plain };
    }
    let (across, along) = (left || right, up || down);
    if glyphs == Glyphs::Plain {
        return match (along, across) {
            (false, false) => " ",
            (true, true) => "+",
            (true, false) => {
                if dashed {
                    ":"
                } else {
                    "|"
                }
            }
            (false, true) => {
                if dashed {
                    "."
                } else {
                    "-"
                }
            }
        };
    }
    match (up, down, left, right) {
        (false, false, false, false) => " ",
        (true, true, false, false) | (true, false, false, false) | (false, true, false, false) => {
            if dashed {
                "╎"
            } else {
                "│"
            }
        }
        (false, false, ..) => {
            if dashed {
                "╌"
            } else {
                "─"
            }
        }
        (true, true, true, true) => "┼",
        (true, true, false, true) => "├",
        (true, true, true, false) => "┤",
        (true, false, true, true) => "┴",
        (false, true, true, true) => "┬",
        (true, false, false, true) => "╰",
        (true, false, true, false) => "╯",
        (false, true, false, true) => "╭",
        (false, true, true, false) => "╮",
    }
}
