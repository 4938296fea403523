//! A workflow file as a tree that knows where each piece stands. Strict YAML 1.2 without anchors, aliases, tags, merge
//! keys and further documents. Scalars stay the text they are: the schema decides their type, so `3.10` is text where
//! text is wanted and `no` is never a bool.

use super::code;
use super::diagnostic::{Report, Source};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};
use std::collections::HashMap;
use std::ops::Range;

/// Largest file in bytes; the text travels in `RunStarted`.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Most scalars, lists and mappings in a file, keys not counted: ample for 1,000 steps, small enough for a page.
pub(crate) const MAX_NODES: usize = 50_000;

/// Deepest nesting; a workflow needs less than ten, and reading recurses.
pub(crate) const MAX_DEPTH: usize = 64;

/// A value of the file.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Bytes of the file; of the key where nothing is written.
    pub(crate) span: Range<usize>,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Nothing is written, or a plain `null` or `~`.
    Null,
    /// A scalar.
    Scalar {
        /// Its text, unquoted and unescaped.
        text: String,
        /// Whether it stands without quotes on its line.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) value: Node,
}

impl Node {
    /// What it is, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Scalar { .. } => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }

    /// Whether [`Node::locate`] finds every word of this scalar exactly. Only quoted scalars can have escapes; the others
    /// have at most other white space than their text.
    pub(crate) fn is_verbatim(&self, source: &Source) -> bool {
        let Kind::Scalar { text, .. } = &self.kind else { return false };
        let raw = &source.text[self.span.clone()];
        !raw.starts_with(['"', '\'']) || raw.get(1..raw.len().saturating_sub(1)) == Some(text)
    }

    /// The bytes of the file that hold `part`, which starts at byte `offset` of this scalar's text.
    pub(crate) fn locate(&self, source: &Source, offset: usize, part: &str) -> Range<usize> {
        let Kind::Scalar { text, .. } = &self.kind else { return self.span.clone() };
        let raw = &source.text[self.span.clone()];
        let at = |start: usize| start..start + part.len();
        for quote in [0, 1] {
            if raw.get(quote..raw.len().saturating_sub(quote)) == Some(text) {
                return at(self.span.start + quote + offset);
            }
        }
        // Escapes, folding or a block scalar lie between the two texts: the same occurrence of the part is the place.
        if part.is_empty() {
            return self.span.clone();
        }
        let before = text[..offset.min(text.len())].matches(part).count();
        let found = raw.match_indices(part).nth(before);
        found.map_or_else(|| self.span.clone(), |(start, _)| at(self.span.start + start))
    }
}

/// Reads the file. `None` where it is no YAML at all; mistakes that leave a tree are reported beside it.
pub(crate) fn read(report: &mut Report) -> Option<Node> {
    let source = report.source.clone();
    if source.text.len() > MAX_BYTES {
        report
            .add(
                code::TOO_LARGE,
                0..0,
                format!("the file has {} bytes; at most {MAX_BYTES} are read", source.text.len()),
            )
            .help("keep large texts in files of the repository and name them in the workflow");
        return None;
    }
    let mut reader = Reader {
        parser: Parser::new_from_str(&source.text),
        bytes: if source.text.is_ascii() {
            Vec::new()
        } else {
            source.text.char_indices().map(|(at, _)| at).chain([source.text.len()]).collect()
        },
        length: source.text.len(),
        nodes: 0,
        report,
    };
    reader.file().ok()
}

/// The file cannot be read on; the reason is reported.
struct Stop;

struct Reader<'t, 'r> {
    parser: Parser<'t, StrInput<'t>>,
    /// Byte offset of each character, empty where they are the same; the parser counts in characters.
    bytes: Vec<usize>,
    length: usize,
    nodes: usize,
    report: &'r mut Report,
}

impl<'t> Reader<'t, '_> {
    fn byte(&self, index: usize) -> usize {
        let at =
            if self.bytes.is_empty() { index } else { self.bytes.get(index).copied().unwrap_or(self.length) };
        at.min(self.length)
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }

    fn next(&mut self) -> Result<(Event<'t>, Range<usize>), Stop> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.range(span))),
            Some(Err(error)) => {
                self.syntax(&error);
                Err(Stop)
            }
            None => Ok((Event::StreamEnd, self.length..self.length)),
        }
    }

    fn file(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => break,
                (Event::DocumentStart(_), at) => {
                    if root.is_some() {
                        self.report
                            .add(code::DOCUMENTS, at, "a workflow file holds one document")
                            .help("put the second workflow into a file of its own");
                        break;
                    }
                    let (event, span) = self.next()?;
                    root = Some(self.node(event, span, 0)?);
                }
                _ => {}
            }
        }
        root.ok_or_else(|| {
            self.report
                .add(code::MISSING_KEY, 0..0, "the file is empty")
                .help("start with `harvest: 1`, `name: my-workflow` and `steps:`");
            Stop
        })
    }

    fn node(&mut self, event: Event<'t>, span: Range<usize>, depth: usize) -> Result<Node, Stop> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            self.report
                .add(code::TOO_LARGE, span, format!("the file has more than {MAX_NODES} values"))
                .help("split the workflow, or generate the values in a step");
            return Err(Stop);
        }
        if depth > MAX_DEPTH {
            self.report
                .add(code::TOO_LARGE, span, format!("values nest deeper than {MAX_DEPTH} levels"))
                .help("flatten the value, or pass it as JSON text");
            return Err(Stop);
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.plain_yaml(anchor, tag.is_some(), &span);
                let plain = style == ScalarStyle::Plain;
                let kind = if plain && matches!(&*text, "" | "~" | "null") {
                    Kind::Null
                } else {
                    Kind::Scalar { text: text.into_owned(), plain }
                };
                Ok(Node { span, kind })
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain_yaml(anchor, tag.is_some(), &span);
                let mut items = Vec::new();
                loop {
                    let (event, at) = self.next()?;
                    if event == Event::SequenceEnd {
                        let end = items
                            .last()
                            .map_or(at.end, |item: &Node| item.span.end.max(at.end.min(at.start + 1)));
                        return Ok(Node { span: span.start..end.max(span.end), kind: Kind::List(items) });
                    }
                    items.push(self.node(event, at, depth + 1)?);
                }
            }
            Event::MappingStart(anchor, tag) => {
                self.plain_yaml(anchor, tag.is_some(), &span);
                self.mapping(span, depth)
            }
            Event::Alias(_) => {
                self.anchor(span.clone());
                Ok(Node { span, kind: Kind::Null })
            }
            _ => {
                self.report.add(code::SYNTAX, span, "a value is missing here");
                Err(Stop)
            }
        }
    }

    fn mapping(&mut self, span: Range<usize>, depth: usize) -> Result<Node, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Range<usize>> = HashMap::new();
        loop {
            let (event, key_span) = self.next()?;
            let key = match event {
                Event::MappingEnd => {
                    let end = entries.last().map_or(span.end, |entry| entry.value.span.end);
                    let end = end.max(key_span.end.min(key_span.start + 1));
                    return Ok(Node { span: span.start..end.max(span.end), kind: Kind::Map(entries) });
                }
                Event::Scalar(text, _, anchor, tag) => {
                    self.plain_yaml(anchor, tag.is_some(), &key_span);
                    Some(text.into_owned())
                }
                Event::Alias(_) => {
                    self.anchor(key_span.clone());
                    None
                }
                other => {
                    self.report
                        .add(code::KEY_SHAPE, key_span.clone(), "a key must be text")
                        .help("quote a text that starts with `{` or `[`, as in \"${{ inputs.x }}\"");
                    self.node(other, key_span.clone(), depth + 1)?;
                    None
                }
            };
            let (event, at) = self.next()?;
            let mut value = self.node(event, at, depth + 1)?;
            if matches!(value.kind, Kind::Null) && value.span.is_empty() {
                value.span = key_span.clone();
            }
            let Some(key) = key else { continue };
            if key == "<<" {
                self.report
                    .add(code::MERGE_KEY, key_span, "merge keys are not part of the workflow language")
                    .help("write the keys out, or move the shared steps into a component");
            } else if let Some(first) = seen.get(&key) {
                let first = first.clone();
                self.report
                    .add(code::DUPLICATE_KEY, key_span, format!("the key `{key}` is written twice"))
                    .also(first, "first written here")
                    .help("remove or rename one of them");
            } else {
                seen.insert(key.clone(), key_span.clone());
                entries.push(Entry { key, key_span, value });
            }
        }
    }

    fn plain_yaml(&mut self, anchor: usize, tagged: bool, span: &Range<usize>) {
        if anchor != 0 {
            self.anchor(span.clone());
        }
        if tagged {
            self.report
                .add(code::TAG, span.clone(), "tags are not part of the workflow language")
                .help("remove the tag; the schema decides what a value is");
        }
    }

    fn anchor(&mut self, span: Range<usize>) {
        self.report
            .add(code::ANCHOR, span, "anchors and aliases are not part of the workflow language")
            .help("write the value out; `uses:` is how workflows share");
    }

    fn syntax(&mut self, error: &ScanError) {
        let source = self.report.source.clone();
        let at = self.byte(error.marker().index());
        let (line, _) = source.position(at);
        // A tab is often only noticed on the line after it.
        let lines = source.text.lines().enumerate().skip(line.saturating_sub(2)).take(2);
        let tab = lines.filter_map(|(_, text)| {
            let indent = &text[..text.len() - text.trim_start().len()];
            indent.find('\t').map(|at| text.as_ptr() as usize - source.text.as_ptr() as usize + at)
        });
        if let Some(at) = tab.last() {
            self.report
                .add(code::TAB, at..at + 1, "a tab in the indentation")
                .help("indent with spaces; YAML does not allow tabs there");
            return;
        }
        if error.info().contains("unknown anchor") {
            self.anchor(at..at);
            return;
        }
        let diagnostic = self.report.add(code::SYNTAX, at..at, format!("not YAML: {}", error.info()));
        let text = source.text.lines().nth(line - 1).unwrap_or_default();
        if text.contains("{ ${{") || text.contains(": ${{") || text.contains("[${{") {
            diagnostic.help("quote texts that hold an expression: \"${{ ... }}\"");
        } else if error.info().contains("mapping values are not allowed") {
            diagnostic.help("quote a text that holds `: `, and align the keys of one mapping");
        } else if error.info().contains("did not find expected") || error.info().contains("simple key") {
            diagnostic.help("check the indentation, and quote texts that hold `:`, `{`, `[` or `#`");
        }
    }
}
