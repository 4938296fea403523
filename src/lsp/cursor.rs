//! Where in a workflow file the cursor stands: under which keys, in a key or in a value. Works on text that is no YAML
//! yet: the cursor becomes a character of the text, and the [`sketch`] of that text shows where it landed.

use crate::workflow::file::{Entry, Kind, MAX_BYTES, Node};
use crate::workflow::sketch;

/// Stands for the cursor. No character of any language, so no file has it.
const MARK: char = '\u{FFFF}';

/// The place of a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// From the root to the mapping or list that holds it; for a value, its key or item too.
    pub(super) path: Vec<Segment>,
    /// What it stands in.
    pub(super) at: At,
    /// Whether that is inside brackets.
    pub(super) flow: bool,
}

/// A step down the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// To the value of a key.
    Key(String),
    /// To an item of a list.
    Item,
}

/// What a cursor stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// A key, or where one may begin.
    Key {
        /// The key without the cursor.
        text: String,
        /// Byte of the file where it begins.
        start: usize,
        /// The other keys of its mapping.
        siblings: Vec<String>,
        /// Whether its colon is there.
        colon: bool,
    },
    /// A value, or where one may begin.
    Value {
        /// Its text without the cursor.
        text: String,
        /// Where in that text the cursor stands, in bytes.
        offset: usize,
        /// Byte of the file where the text begins, or the line of the cursor, whichever is later.
        start: usize,
        /// Whether it begins its line, so that it may become a key.
        alone: bool,
    },
}

impl Cursor {
    /// The place of byte `at`. `None` in comments and between things, and in texts larger than a workflow can be.
    pub(super) fn find(text: &str, at: usize) -> Option<Self> {
        let at = text.floor_char_boundary(at);
        if text.len() + MARK.len_utf8() > MAX_BYTES || text.contains(MARK) {
            return None;
        }
        let marked = format!("{}{MARK}{}", &text[..at], &text[at..]);
        let mut search = Search { text: &marked, at, path: Vec::new() };
        search.node(&sketch::read(&marked), false)
    }

    /// The keys of the path; `-` is an item.
    pub(super) fn keys(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        for segment in &self.path {
            keys.push(if let Segment::Key(key) = segment { key.as_str() } else { "-" });
        }
        keys
    }
}

struct Search<'t> {
    text: &'t str,
    at: usize,
    path: Vec<Segment>,
}

impl Search<'_> {
    fn node(&mut self, node: &Node, flow: bool) -> Option<Cursor> {
        let flow = flow || self.text[node.span.start..].starts_with(['{', '[']);
        match &node.kind {
            Kind::Null => None,
            Kind::Scalar { text, .. } => {
                node.span.contains(&self.at).then(|| self.value(node, text, flow))?
            }
            Kind::List(items) => {
                self.path.push(Segment::Item);
                let found = items.iter().find_map(|item| self.node(item, flow));
                self.path.pop();
                found
            }
            Kind::Map(entries) => entries.iter().find_map(|entry| self.entry(entry, entries, flow)),
        }
    }

    fn entry(&mut self, entry: &Entry, all: &[Entry], flow: bool) -> Option<Cursor> {
        if entry.key_span.contains(&self.at) {
            let others = all.iter().filter(|other| !std::ptr::eq(*other, entry));
            let at = At::Key {
                text: entry.key.replace(MARK, ""),
                start: entry.key_span.start,
                siblings: others.map(|other| other.key.clone()).collect(),
                colon: self.text[entry.key_span.end..].trim_start_matches(' ').starts_with(':'),
            };
            return Some(Cursor { path: self.path.clone(), at, flow });
        }
        self.path.push(Segment::Key(entry.key.clone()));
        let found = self.node(&entry.value, flow);
        self.path.pop();
        found
    }

    fn value(&self, node: &Node, text: &str, flow: bool) -> Option<Cursor> {
        let offset = text.find(MARK)?;
        let quote = usize::from(self.text[node.span.start..].starts_with(['"', '\'']));
        let line = self.text[..self.at].rfind('\n').map_or(0, |at| at + 1);
        let before =
            self.text[line.min(node.span.start)..node.span.start].rsplit('\n').next().unwrap_or_default();
        let at = At::Value {
            text: text.replace(MARK, ""),
            offset,
            start: (node.span.start + quote).max(line),
            alone: !flow
                && quote == 0
                && before.chars().all(|c| c == ' ' || c == '-')
                && line <= node.span.start,
        };
        Some(Cursor { path: self.path.clone(), at, flow })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where the last `|` of a text is.
    fn place(text: &str) -> String {
        let (before, after) = text.rsplit_once('|').unwrap();
        let Some(cursor) = Cursor::find(&format!("{before}{after}"), before.len()) else {
            return "nowhere".into();
        };
        let path = cursor.keys().join(".");
        let brackets = if cursor.flow { ", in brackets" } else { "" };
        match cursor.at {
            At::Key { text, start, siblings, colon } => {
                let colon = if colon { ":" } else { "" };
                format!("{path}: key {text:?}{colon} from {start} beside {siblings:?}{brackets}")
            }
            At::Value { text, offset, start, alone } => {
                let alone = if alone { ", alone" } else { "" };
                format!(
                    "{path}: value {:?}|{:?} from {start}{alone}{brackets}",
                    &text[..offset],
                    &text[offset..]
                )
            }
        }
    }

    fn places(texts: &[&str]) -> String {
        texts.iter().map(|text| format!("{}\n  {}\n", text.replace('\n', "⏎"), place(text))).collect()
    }

    #[test]
    fn in_whole_files() {
        insta::assert_snapshot!(places(&[
            "|",
            "har|vest: 1\nname: x\n",
            "a:\n  b: c|d\n",
            "a:\n  |b: c\n  d: e\n",
            "a:\n- b|\n",
            "a: [b, 'c|', d]\n",
            "a: { b: \"ö${{ c|\\\" }}\", d: e }\n",
            "a: |\n  b ${{ c| }}\n  d\n",
            "a: b # c|\n",
            "# |\na: b\n",
            "a: \"b\n  c|\"\n",
        ]), @r#"
        |
          : value ""|"" from 0, alone
        har|vest: 1⏎name: x⏎
          : key "harvest": from 0 beside ["name"]
        a:⏎  b: c|d⏎
          a.b: value "c"|"d" from 8
        a:⏎  |b: c⏎  d: e⏎
          a: key "b": from 5 beside ["d"]
        a:⏎- b|⏎
          a.-: value "b"|"" from 5, alone
        a: [b, 'c|', d]⏎
          a.-: value "c"|"" from 8, in brackets
        a: { b: "ö${{ c|\" }}", d: e }⏎
          a.b: value "ö${{ c"|"\" }}" from 9, in brackets
        a: |⏎  b ${{ c| }}⏎  d⏎
          a: value "b ${{ c"|" }}\nd" from 5
        a: b # c|⏎
          nowhere
        # |⏎a: b⏎
          nowhere
        a: "b⏎  c|"⏎
          a: value "b\n  c"|"" from 6
        "#);
    }

    #[test]
    fn in_broken_files() {
        insta::assert_snapshot!(places(&[
            "a:\n  b: c\n  |\n",
            "a:\n  b: c\n  |\n  d: e\n",
            "a:\n  b:\n    |\n  c: d\n",
            "a:\n  b:\n    x|\n",
            "a:\n  b:\n  |\nc: d\n",
            "a:\n  b: c\n|\n  d: e\n",
            "a:\n    b: c\n  |\n",
            "a: { |\nb: c\n",
            "a: { b: c, d| }\n",
            "a: { b: | }\n",
            "a: [|\nb: c\n",
            "a: { b: [c, |, d: e\n",
            "a: \"${{ b.|\nc: \"d\"\n",
            "a: ${{ b.|\nc: d\n",
            "a: { b: ${{ c.|, d: e }\n",
            "a:\n  - |\n",
            "a:\n  - b: c\n    |\n",
            "a: |",
            "\ta|",
            "a:\n  b: c\n d|\n",
        ]), @r#"
        a:⏎  b: c⏎  |⏎
          a: key "" from 12 beside ["b"]
        a:⏎  b: c⏎  |⏎  d: e⏎
          a: key "" from 12 beside ["b", "d"]
        a:⏎  b:⏎    |⏎  c: d⏎
          a.b: value ""|"" from 12, alone
        a:⏎  b:⏎    x|⏎
          a.b: value "x"|"" from 12, alone
        a:⏎  b:⏎  |⏎c: d⏎
          a: key "" from 10 beside ["b"]
        a:⏎  b: c⏎|⏎  d: e⏎
          : key "" from 10 beside ["a"]
        a:⏎    b: c⏎  |⏎
          a: key "" from 14 beside ["b"]
        a: { |⏎b: c⏎
          a: key "" from 5 beside [], in brackets
        a: { b: c, d| }⏎
          a: key "d" from 11 beside ["b"], in brackets
        a: { b: | }⏎
          a.b: value ""|"" from 8, in brackets
        a: [|⏎b: c⏎
          a.-: value ""|"" from 4, in brackets
        a: { b: [c, |, d: e⏎
          a.b.-: value ""|"" from 12, in brackets
        a: "${{ b.|⏎c: "d"⏎
          a: value "${{ b."|"" from 4
        a: ${{ b.|⏎c: d⏎
          a: value "${{ b."|"" from 3
        a: { b: ${{ c.|, d: e }⏎
          a.b: value "${{ c."|", d: e }" from 8, in brackets
        a:⏎  - |⏎
          a.-: value ""|"" from 7, alone
        a:⏎  - b: c⏎    |⏎
          a.-: key "" from 16 beside ["b"]
        a: |
          a: value ""|"" from 3
        	a|
          : value "a"|"" from 0, alone
        a:⏎  b: c⏎ d|⏎
          a: key "d" from 11 beside ["b"]
        "#);
    }

    proptest! {
        #[test]
        fn any_place_of_any_text_is_answered(text in "[ab:{}\\[\\]\"'|>#\\- \nö,$]{0,60}", at in 0_usize..80) {
            let at = at.min(text.len());
            if let Some(Cursor { at: At::Value { text: value, offset, start, .. }, .. }) = Cursor::find(&text, at) {
                prop_assert!(value.is_char_boundary(offset) && text.is_char_boundary(start));
                prop_assert!(start <= text.floor_char_boundary(at));
            }
        }
    }
}
