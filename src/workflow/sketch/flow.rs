//! Values in brackets and quotes, as far as they can be made out. Every function reads within the place it is given and
//! goes on by at least one byte, so it ends whatever the text is.

use crate::workflow::file::{Entry, Kind, MAX_DEPTH, Node};
use std::ops::Range;

/// A value, and whether its last bracket or quote was found.
pub(super) struct Read {
    pub(super) node: Node,
    pub(super) closed: bool,
}

/// A text in quotes.
pub(super) struct Quoted {
    pub(super) text: String,
    /// The byte after it.
    pub(super) end: usize,
    pub(super) closed: bool,
}

/// The value that begins at the start of `place`.
pub(super) fn read(text: &str, place: Range<usize>, depth: usize, nodes: &mut usize) -> Read {
    let mut flow = Flow { text, at: place.start, end: place.end, open: false, nodes };
    let node = flow.node(depth);
    let closed = !flow.open;
    Read { node, closed }
}

/// The text in quotes that begins at the start of `place`. Without a second quote it is all of the line.
pub(super) fn quoted(text: &str, place: Range<usize>, quote: char) -> Quoted {
    let inside = &text[place.start + 1..place.end];
    let mut plain = String::new();
    let mut chars = inside.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quote == '"' => match chars.next() {
                Some((_, 'n')) => plain.push('\n'),
                Some((_, 't')) => plain.push('\t'),
                Some((_, other)) => plain.push(other),
                None => {}
            },
            '\'' if quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                plain.push('\'');
                chars.next();
            }
            _ if c == quote => return Quoted { text: plain, end: place.start + 1 + at + 1, closed: true },
            _ => plain.push(c),
        }
    }
    let line = inside.lines().next().unwrap_or_default();
    Quoted { text: line.to_owned(), end: place.start + 1 + line.len(), closed: false }
}

struct Flow<'t, 'n> {
    text: &'t str,
    at: usize,
    end: usize,
    /// Whether a bracket or quote has no end.
    open: bool,
    nodes: &'n mut usize,
}

impl Flow<'_, '_> {
    fn rest(&self) -> &str {
        &self.text[self.at..self.end]
    }

    fn next(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.end);
    }

    /// Goes on to what is no white space and no comment. Line breaks and commas separate alike: one of them is often
    /// still missing.
    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            let skipped = rest.len() - trimmed.len();
            let comment = trimmed.starts_with('#') && skipped > 0;
            let line = if comment { trimmed.find('\n').unwrap_or(trimmed.len()) } else { 0 };
            self.skip(skipped + line);
            if !comment {
                return;
            }
        }
    }

    fn node(&mut self, depth: usize) -> Node {
        *self.nodes += 1;
        let start = self.at;
        if depth > MAX_DEPTH {
            self.at = self.end;
            self.open = true;
            return Node { span: start..start, kind: Kind::Null };
        }
        match self.next() {
            Some('{') => self.mapping(depth),
            Some('[') => self.list(depth),
            Some(quote @ ('"' | '\'')) => {
                let text = self.quoted(quote);
                Node { span: start..self.at, kind: Kind::Scalar { text, plain: false } }
            }
            _ => {
                let text = self.plain();
                Node { span: start..self.at, kind: Kind::Scalar { text, plain: true } }
            }
        }
    }

    fn quoted(&mut self, quote: char) -> String {
        let quoted = quoted(self.text, self.at..self.end, quote);
        self.at = quoted.end;
        self.open |= !quoted.closed;
        quoted.text
    }

    /// Text without quotes, up to what ends it in brackets. The brackets of an expression do not.
    fn plain(&mut self) -> String {
        let rest = self.rest();
        let mut at = 0;
        while let Some(c) = rest[at..].chars().next() {
            if rest[at..].starts_with("${{") {
                let line = rest[at..].find('\n').map_or(rest.len(), |length| at + length);
                at = rest[at..line].find("}}").map_or(line, |length| at + length + 2);
                continue;
            }
            let after = rest[at + c.len_utf8()..].chars().next();
            let colon = c == ':' && after.is_none_or(|next| next.is_whitespace() || ",]}".contains(next));
            if ",]}\n".contains(c) || colon || rest[at..].starts_with(" #") {
                break;
            }
            at += c.len_utf8();
        }
        let text = rest[..at].trim_end().to_owned();
        self.skip(text.len());
        text
    }

    fn mapping(&mut self, depth: usize) -> Node {
        let start = self.at;
        let mut entries = Vec::new();
        self.skip(1);
        loop {
            self.skip_space();
            match self.next() {
                None => {
                    self.open = true;
                    break;
                }
                Some('}') => {
                    self.skip(1);
                    break;
                }
                // It closes what is around this mapping, whose own bracket is missing.
                Some(']') => {
                    self.open = true;
                    break;
                }
                Some(_) => entries.push(self.entry(depth)),
            }
        }
        Node { span: start..self.at, kind: Kind::Map(entries) }
    }

    fn entry(&mut self, depth: usize) -> Entry {
        let start = self.at;
        let key = match self.next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            Some('{' | '[') => {
                self.node(depth + 1);
                String::new()
            }
            _ => self.plain(),
        };
        let key_span = start..self.at;
        let value = self.value_after(depth);
        if self.at == start {
            self.skip(self.next().map_or(1, char::len_utf8));
        }
        Entry { key, key_span, value: value.unwrap_or(Node { span: self.at..self.at, kind: Kind::Null }) }
    }

    /// The value behind a colon, where there is one.
    fn value_after(&mut self, depth: usize) -> Option<Node> {
        let trimmed = self.rest().trim_start_matches([' ', '\t']);
        let before = self.rest().len() - trimmed.len();
        if !trimmed.starts_with(':') {
            return None;
        }
        self.skip(before + 1);
        let rest = self.rest();
        self.skip(rest.len() - rest.trim_start_matches([' ', '\t']).len());
        let nothing = matches!(self.next(), None | Some(',' | '}' | ']' | '\n' | '\r' | '#'));
        Some(if nothing {
            *self.nodes += 1;
            Node { span: self.at..self.at, kind: Kind::Null }
        } else {
            self.node(depth + 1)
        })
    }

    fn list(&mut self, depth: usize) -> Node {
        let start = self.at;
        let mut items = Vec::new();
        self.skip(1);
        loop {
            self.skip_space();
            match self.next() {
                None => {
                    self.open = true;
                    break;
                }
                Some(']') => {
                    self.skip(1);
                    break;
                }
                Some('}') => {
                    self.open = true;
                    break;
                }
                Some(_) => {
                    let before = self.at;
                    let item = self.node(depth + 1);
                    items.push(self.pair(item, depth));
                    if self.at == before {
                        self.skip(self.next().map_or(1, char::len_utf8));
                    }
                }
            }
        }
        Node { span: start..self.at, kind: Kind::List(items) }
    }

    /// `a: b` in a list is a mapping of one key.
    fn pair(&mut self, item: Node, depth: usize) -> Node {
        let Kind::Scalar { text, .. } = &item.kind else { return item };
        let (key, key_span) = (text.clone(), item.span.clone());
        match self.value_after(depth) {
            Some(value) => {
                let span = key_span.start..value.span.end;
                Node { span, kind: Kind::Map(vec![Entry { key, key_span, value }]) }
            }
            None => item,
        }
    }
}
