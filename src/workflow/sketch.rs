//! A workflow file as far as it can be made out while somebody types it: the same tree as of [`file`](super::file), from
//! text that need not be YAML. Goes by indentation, so that what is broken ends where its key ends, and every other key
//! stays in its place. Reports nothing, and never decides whether a file is right.

use super::file::{Entry, Kind, MAX_BYTES, MAX_DEPTH, MAX_NODES, Node};
use std::ops::Range;

/// Lines that a text in quotes may go on for before its second quote counts as missing.
const MAX_QUOTED_LINES: usize = 64;

mod flow;
#[cfg(test)]
mod tests;

/// The tree of `text`; one without anything in it, or larger than a workflow can be, is nothing.
pub(crate) fn read(text: &str) -> Node {
    let mut root = Node { span: 0..text.len(), kind: Kind::Null };
    if text.len() > MAX_BYTES {
        return root;
    }
    let mut sketch = Sketch { text, lines: lines(text), at: 0, nodes: 0 };
    while sketch.peek().is_some() {
        let before = sketch.at;
        let part = sketch.block(0, 0);
        adopt(&mut root, part);
        if sketch.at == before {
            sketch.at += 1;
        }
    }
    root
}

/// A line with something on it, or none.
#[derive(Clone, Copy)]
struct Line {
    /// Byte of the first character that is no space.
    start: usize,
    /// Byte after the last.
    end: usize,
    /// Columns before `start`.
    indent: usize,
}

fn lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches(['\n', '\r']);
        let indent = content.len() - content.trim_start_matches([' ', '\t']).len();
        lines.push(Line { start: at + indent, end: at + content.len(), indent });
        at += line.len();
    }
    lines
}

struct Sketch<'t> {
    text: &'t str,
    lines: Vec<Line>,
    /// The line to read next.
    at: usize,
    nodes: usize,
}

impl<'t> Sketch<'t> {
    fn content(&self, line: Line) -> &'t str {
        &self.text[line.start..line.end]
    }

    /// The next line that is not blank and no comment.
    fn peek(&mut self) -> Option<Line> {
        while let Some(line) = self.lines.get(self.at).copied() {
            let content = self.content(line);
            let nothing = content.is_empty() || content.starts_with('#');
            let marker = line.indent == 0 && (content.starts_with("---") || content == "...");
            if !nothing && !marker {
                return (self.nodes < MAX_NODES).then_some(line);
            }
            self.at += 1;
        }
        None
    }

    fn null(at: usize) -> Node {
        Node { span: at..at, kind: Kind::Null }
    }

    /// The value of the lines that are indented by at least `least`; reads at least one line where there is one.
    fn block(&mut self, least: usize, depth: usize) -> Node {
        let Some(line) = self.peek().filter(|line| line.indent >= least) else {
            let end = self.lines.get(self.at).map_or(self.text.len(), |line| line.start);
            return Self::null(end);
        };
        self.nodes += 1;
        if depth > MAX_DEPTH {
            self.at += 1;
            return Self::null(line.start);
        }
        if is_item(self.content(line)) {
            return self.list(line.indent, depth);
        }
        let key_follows = || {
            let next = self.lines[self.at + 1..].iter().find(|line| line.start < line.end)?;
            (next.indent == line.indent).then(|| key(self.text, next.start..next.end))?
        };
        if key(self.text, line.start..line.end).is_some() || key_follows().is_some() {
            return self.mapping(line.indent, depth);
        }
        self.at += 1;
        self.value(line.start..line.end, least.saturating_sub(1), depth)
    }

    fn mapping(&mut self, indent: usize, depth: usize) -> Node {
        let start = self.peek().map_or(0, |line| line.start);
        let mut node = Node { span: start..start, kind: Kind::Map(Vec::new()) };
        while let Some(line) = self.peek().filter(|line| line.indent >= indent) {
            let place = line.start..line.end;
            if line.indent > indent || is_item(self.content(line)) {
                // Indented as nothing before it: it belongs to the last key rather than to none.
                let item = is_item(self.content(line)) || depth >= MAX_DEPTH;
                let stray = if item {
                    self.block(line.indent, depth + 1)
                } else {
                    self.mapping(line.indent, depth + 1)
                };
                if let Kind::Map(entries) = &mut node.kind
                    && let Some(last) = entries.last_mut()
                {
                    adopt(&mut last.value, stray);
                }
                continue;
            }
            self.at += 1;
            self.nodes += 1;
            let entry = match key(self.text, place.clone()) {
                Some((text, span, after)) => {
                    let value = self.value_of_key(after..line.end, indent, depth + 1);
                    Entry { key: text, key_span: span, value }
                }
                None => {
                    let text = without_comment(&self.text[place]);
                    let span = line.start..line.start + text.len();
                    Entry { key: text.to_owned(), key_span: span.clone(), value: Self::null(span.end) }
                }
            };
            node.span.end = entry.value.span.end.max(entry.key_span.end);
            if let Kind::Map(entries) = &mut node.kind {
                entries.push(entry);
            }
        }
        node
    }

    fn list(&mut self, indent: usize, depth: usize) -> Node {
        let start = self.peek().map_or(0, |line| line.start);
        let mut items = Vec::new();
        while let Some(line) = self.peek().filter(|line| line.indent >= indent) {
            if line.indent > indent {
                self.block(line.indent, depth + 1);
                continue;
            }
            let content = self.content(line);
            if !is_item(content) {
                break;
            }
            let inside = content[1..].trim_start_matches([' ', '\t']);
            let width = content.len() - inside.len();
            if without_comment(inside).is_empty() {
                self.at += 1;
                let deeper = self.peek().is_some_and(|next| next.indent > indent);
                let place = line.end;
                items.push(if deeper { self.block(indent + 1, depth + 1) } else { Self::null(place) });
            } else {
                // What stands behind the dash is a line of its own, indented by as much.
                self.lines[self.at] = Line { start: line.start + width, indent: indent + width, ..line };
                items.push(self.block(indent + 1, depth + 1));
            }
        }
        let end = items.last().map_or(start, |item| item.span.end);
        Node { span: start..end, kind: Kind::List(items) }
    }

    /// What a key that is indented by `indent` has: on its line, or on lines below it.
    fn value_of_key(&mut self, place: Range<usize>, indent: usize, depth: usize) -> Node {
        if !without_comment(self.text[place.clone()].trim_start()).is_empty() {
            return self.value(place, indent, depth);
        }
        match self.peek() {
            Some(line) if line.indent > indent => self.block(indent + 1, depth),
            Some(line) if line.indent == indent && is_item(self.content(line)) => self.list(indent, depth),
            _ => Self::null(place.start),
        }
    }

    /// The value that begins in `place`, which lies on a line already read; lines indented by more than `indent`
    /// carry it on.
    fn value(&mut self, place: Range<usize>, indent: usize, depth: usize) -> Node {
        let raw = &self.text[place.clone()];
        let start = place.start + raw.len() - raw.trim_start().len();
        match self.text.as_bytes().get(start) {
            Some(b'|' | b'>') => return self.block_scalar(start, indent),
            Some(b'{' | b'[' | b'"' | b'\'') => return self.bracketed(start..place.end, indent, depth),
            _ => {}
        }
        let first = without_comment(&self.text[start..place.end]);
        let mut text = first.to_owned();
        let mut end = start + first.len();
        while let Some(line) = self.peek().filter(|line| line.indent > indent) {
            let inside = line.start..line.end;
            if is_item(self.content(line)) || key(self.text, inside.clone()).is_some() {
                // No text goes on like that; the text before it is what is being typed.
                return self.block(indent + 1, depth);
            }
            let more = without_comment(&self.text[inside]);
            text.push(' ');
            text.push_str(more);
            end = line.start + more.len();
            self.at += 1;
        }
        Node { span: start..end, kind: Kind::Scalar { text, plain: true } }
    }

    fn block_scalar(&mut self, start: usize, indent: usize) -> Node {
        let first = self.at;
        let mut end = self.lines[first - 1].end;
        while let Some(line) = self.lines.get(self.at) {
            if line.start < line.end && line.indent <= indent {
                break;
            }
            end = line.end;
            self.at += 1;
        }
        let body = &self.lines[first..self.at];
        let written = body.iter().filter(|line| line.start < line.end);
        let shared = written.map(|line| line.indent).min().unwrap_or(0);
        let texts =
            body.iter().map(|line| &self.text[line.start - line.indent.saturating_sub(shared)..line.end]);
        let text = texts.collect::<Vec<_>>().join("\n");
        Node { span: start..end, kind: Kind::Scalar { text, plain: false } }
    }

    /// A value in quotes or brackets. Where it is not closed on its line, lines indented by more carry it on; where it is
    /// not closed there either, a text in quotes ends with its line, and brackets with those lines.
    fn bracketed(&mut self, place: Range<usize>, indent: usize, depth: usize) -> Node {
        let quoted = self.text[place.start..].starts_with(['"', '\'']);
        let mut read = flow::read(self.text, place.clone(), depth, &mut self.nodes);
        let (mut taken, mut step) = (0, 1);
        while !read.closed && (!quoted || taken < MAX_QUOTED_LINES) {
            let more = self.lines[self.at + taken..].iter().take(step).take_while(|line| {
                let content = self.content(**line);
                content.is_empty() || line.indent > indent || content.starts_with(['}', ']'])
            });
            let more = more.count();
            if more == 0 {
                break;
            }
            // Twice as many each time, so that reading again costs no more than reading.
            (taken, step) = (taken + more, step * 2);
            let end = self.lines[self.at + taken - 1].end;
            let longer = flow::read(self.text, place.start..end, depth, &mut self.nodes);
            if longer.closed || !quoted {
                read = longer;
            }
        }
        if read.closed {
            let lines = &self.lines[self.at..self.at + taken];
            taken = lines.iter().take_while(|line| line.start < read.node.span.end).count();
        }
        self.at += if read.closed || !quoted { taken } else { 0 };
        read.node
    }
}

/// Gives a node what was found for it further down.
fn adopt(node: &mut Node, part: Node) {
    node.span.end = node.span.end.max(part.span.end);
    match (&mut node.kind, part.kind) {
        (Kind::Map(entries), Kind::Map(more)) => entries.extend(more),
        (kind @ Kind::Null, more) => *kind = more,
        _ => {}
    }
}

/// Whether a line begins an item of a list.
fn is_item(content: &str) -> bool {
    content == "-" || content.starts_with("- ") || content.starts_with("-\t")
}

/// The key with which a line begins: its text, its place, and where its value may begin.
fn key(text: &str, place: Range<usize>) -> Option<(String, Range<usize>, usize)> {
    let content = &text[place.clone()];
    if let Some(quote @ ('"' | '\'')) = content.chars().next() {
        let quoted = flow::quoted(text, place.clone(), quote);
        let rest = text[quoted.end..place.end].trim_start();
        let colon = place.end - rest.len();
        let ends = rest == ":" || rest.starts_with(": ");
        return (quoted.closed && ends).then(|| (quoted.text, place.start..quoted.end, colon + 1));
    }
    if content.starts_with(['{', '[', '#', '|', '>', '&', '*', '!', '%', '@', '`'])
        || content.starts_with("? ")
    {
        return None;
    }
    let colon = content.match_indices(':').map(|(at, _)| at).find(|at| {
        let after = &content[at + 1..];
        after.is_empty() || after.starts_with([' ', '\t'])
    })?;
    let name = content[..colon].trim_end();
    if name.contains(" #") || name.contains("${{") {
        return None;
    }
    Some((name.to_owned(), place.start..place.start + name.len(), place.start + colon + 1))
}

/// The text up to a comment, without white space at its end.
fn without_comment(text: &str) -> &str {
    if text.starts_with('#') {
        return "";
    }
    let end = text.find(" #").or_else(|| text.find("\t#")).unwrap_or(text.len());
    text[..end].trim_end()
}
