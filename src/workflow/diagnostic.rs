//! What is wrong with a file, as data: a stable code, a place, a sentence, and what to write instead. Rendering is a
//! view on it; nothing here decides what a mistake is.

use super::code::{self, Code};
use super::suggest;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;

/// Most diagnostics reported for one file; a file with more is not the file its author meant.
pub const MAX_DIAGNOSTICS: usize = 200;

/// A file's name and text, and where its lines start.
#[derive(Debug)]
pub struct Source {
    /// The name that diagnostics print.
    pub name: String,
    /// Its whole text.
    pub text: String,
    lines: Vec<usize>,
}

impl Source {
    /// A source; positions are byte offsets into `text`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Arc::new(Self { name: name.into(), text, lines })
    }

    /// The line and column of a byte, both from 1, the column in characters.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let at = self.text.floor_char_boundary(at);
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines[line - 1];
        (line, self.text[start..at].chars().count() + 1)
    }

    /// The bytes of the lines `first..=last`, numbered from 1, as far as they exist.
    fn line_range(&self, first: usize, last: usize) -> Range<usize> {
        let end = self.lines.get(last).copied().unwrap_or(self.text.len());
        self.lines[first - 1]..end
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file cannot run.
    Error,
    /// The file can run, but probably not as meant.
    Warning,
}

/// A further place, with what it has to do with the matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Bytes of the file.
    pub span: Range<usize>,
    /// A few words.
    pub message: String,
    /// The same correction as the first place has, here.
    pub fix: Option<Fix>,
}

/// A replacement that a program may make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// Bytes to replace.
    pub span: Range<usize>,
    /// What to put there.
    pub replacement: String,
}

/// One mistake.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Its kind.
    pub code: Code,
    /// One sentence without a full stop.
    pub message: String,
    /// The file.
    pub source: Arc<Source>,
    /// Bytes of the offending key or value.
    pub span: Range<usize>,
    /// A few words beside the caret.
    pub label: Option<String>,
    /// What to write instead.
    pub help: Option<String>,
    /// The same for a program.
    pub fix: Option<Fix>,
    /// Further places.
    pub labels: Vec<Label>,
    /// Bytes of the file that hold credentials and are never shown.
    hidden: Vec<Range<usize>>,
}

impl Diagnostic {
    /// Error or warning.
    pub fn severity(&self) -> Severity {
        if self.code.is_warning() { Severity::Warning } else { Severity::Error }
    }

    /// Adds a few words beside the caret.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    /// The replacements that correct it, at all of its places.
    pub fn fixes(&self) -> impl Iterator<Item = &Fix> {
        self.fix.iter().chain(self.labels.iter().filter_map(|label| label.fix.as_ref()))
    }

    /// Adds what to write instead.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a replacement of the offending text.
    pub fn fix(&mut self, replacement: impl Into<String>) -> &mut Self {
        let span = self.span.clone();
        self.fix_at(span, replacement)
    }

    /// Adds a replacement of another text than the offending one.
    pub fn fix_at(&mut self, span: Range<usize>, replacement: impl Into<String>) -> &mut Self {
        self.fix = Some(Fix { span, replacement: replacement.into() });
        self
    }

    /// Adds help made by [`suggest::help`], and where it proposes one name, that name for the offending text.
    pub(crate) fn suggest(&mut self, help: impl Into<String>) -> &mut Self {
        let help = help.into();
        if let Some(name) = suggest::proposed(&help) {
            self.fix(name.to_owned());
        }
        self.help(help)
    }

    /// The same, where there is something to say.
    pub(crate) fn maybe_suggest(&mut self, help: Option<String>) -> &mut Self {
        match help {
            Some(help) => self.suggest(help),
            None => self,
        }
    }

    /// Adds a further place.
    pub fn also(&mut self, span: Range<usize>, message: impl Into<String>) -> &mut Self {
        self.labels.push(Label { span, message: message.into(), fix: None });
        self
    }

    /// The diagnostic for people: place, line, caret, help. `color` for a terminal.
    pub fn render(&self, color: bool) -> String {
        let source = &self.source;
        let first =
            self.labels.iter().map(|label| label.span.start).chain([self.span.start]).min().unwrap_or(0);
        let last = self.labels.iter().map(|label| label.span.end).chain([self.span.end]).max().unwrap_or(0);
        let (first, _) = source.position(first);
        let (last, _) = source.position(last);
        let window = source.line_range(first, last);
        let mut text = std::borrow::Cow::Borrowed(&source.text[window.clone()]);
        if !self.hidden.is_empty() {
            // What is rendered ends up in logs; a credential must not, also where the line has another mistake.
            let secret = |at: usize| self.hidden.iter().any(|hidden| hidden.contains(&(window.start + at)));
            let hide = |(at, c): (usize, char)| {
                if secret(at) && c != '\n' { "*".repeat(c.len_utf8()) } else { c.to_string() }
            };
            text = text.char_indices().map(hide).collect::<String>().into();
        }
        let text = &*text;
        let inside = |span: &Range<usize>| {
            let start = text.floor_char_boundary(span.start.saturating_sub(window.start));
            start..text.floor_char_boundary(span.end.saturating_sub(window.start)).max(start)
        };
        let primary = AnnotationKind::Primary.span(inside(&self.span)).label(self.label.as_deref());
        let context = self
            .labels
            .iter()
            .map(|label| AnnotationKind::Context.span(inside(&label.span)).label(label.message.as_str()));
        let snippet = Snippet::source(text).path(source.name.as_str()).line_start(first).annotation(primary);
        let level = match self.severity() {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.message.as_str()).id(self.code.id);
        let mut group: Group<'_> = title.element(snippet.annotations(context));
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

impl Serialize for Diagnostic {
    /// The object that `harvest check --json` prints.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Place {
            line: usize,
            column: usize,
            end_line: usize,
            end_column: usize,
        }
        #[derive(Serialize)]
        struct Replacement<'a> {
            #[serde(flatten)]
            place: Place,
            replacement: &'a str,
        }
        #[derive(Serialize)]
        struct Further<'a> {
            #[serde(flatten)]
            place: Place,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            fix: Option<Replacement<'a>>,
        }
        let place = |span: &Range<usize>| {
            let ((line, column), (end_line, end_column)) =
                (self.source.position(span.start), self.source.position(span.end));
            Place { line, column, end_line, end_column }
        };
        let Place { line, column, end_line, end_column } = place(&self.span);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.code.id)?;
        map.serialize_entry("severity", &self.severity())?;
        map.serialize_entry("message", &self.message)?;
        map.serialize_entry("file", &self.source.name)?;
        map.serialize_entry("line", &line)?;
        map.serialize_entry("column", &column)?;
        map.serialize_entry("end_line", &end_line)?;
        map.serialize_entry("end_column", &end_column)?;
        if let Some(help) = &self.help {
            map.serialize_entry("help", help)?;
        }
        fn replacement(fix: &Fix, place: Place) -> Replacement<'_> {
            Replacement { place, replacement: &fix.replacement }
        }
        if let Some(fix) = &self.fix {
            map.serialize_entry("fix", &replacement(fix, place(&fix.span)))?;
        }
        if !self.labels.is_empty() {
            let labels: Vec<_> = self
                .labels
                .iter()
                .map(|label| Further {
                    place: place(&label.span),
                    message: &label.message,
                    fix: label.fix.as_ref().map(|fix| replacement(fix, place(&fix.span))),
                })
                .collect();
            map.serialize_entry("labels", &labels)?;
        }
        map.end()
    }
}

/// Collects the diagnostics of one file.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) source: Arc<Source>,
    list: Vec<Diagnostic>,
}

impl Report {
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self { source, list: Vec::new() }
    }

    /// Adds a diagnostic; the reference is for what else there is to say.
    pub(crate) fn add(
        &mut self,
        code: Code,
        span: Range<usize>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.list.push(Diagnostic {
            code,
            message: message.into(),
            source: self.source.clone(),
            span,
            label: None,
            help: None,
            fix: None,
            labels: Vec::new(),
            hidden: Vec::new(),
        });
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// Makes one diagnostic of those that say of one name, at several places, that there is nothing of that name: as a
    /// rule the name is misspelled once, where it is declared.
    fn gather(&mut self) {
        /// Most further places shown.
        const SHOWN: usize = 8;
        let mut gathered: Vec<Diagnostic> = Vec::new();
        let mut first: HashMap<(String, Option<String>, String), usize> = HashMap::new();
        for diagnostic in std::mem::take(&mut self.list) {
            if !code::UNKNOWN_NAMES.contains(&diagnostic.code) {
                gathered.push(diagnostic);
                continue;
            }
            let written = self.source.text.get(diagnostic.span.clone()).unwrap_or_default().to_owned();
            match first.entry((diagnostic.message.clone(), diagnostic.label.clone(), written)) {
                Entry::Occupied(entry) => {
                    let first = &mut gathered[*entry.get()];
                    if first.labels.len() < SHOWN {
                        first.also(diagnostic.span, "here too");
                        if let Some(label) = first.labels.last_mut() {
                            label.fix = diagnostic.fix;
                        }
                    }
                }
                Entry::Vacant(entry) => {
                    entry.insert(gathered.len());
                    gathered.push(diagnostic);
                }
            }
        }
        self.list = gathered;
    }

    /// How many errors there are so far.
    pub(crate) fn errors(&self) -> usize {
        self.list.iter().filter(|diagnostic| !diagnostic.code.is_warning()).count()
    }

    /// All of them, by place; at most [`MAX_DIAGNOSTICS`]. What else is wrong with the text of a credential is not
    /// said, since it could not be said without repeating the text.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        let found = self.list.iter().filter(|diagnostic| diagnostic.code == code::CREDENTIAL);
        let hidden: Vec<_> = found.map(|diagnostic| diagnostic.span.clone()).collect();
        if !hidden.is_empty() {
            let inside = |span: &Range<usize>| {
                hidden.iter().any(|hidden| hidden.start <= span.start && span.end <= hidden.end)
            };
            self.list.retain(|diagnostic| diagnostic.code == code::CREDENTIAL || !inside(&diagnostic.span));
            self.list.iter_mut().for_each(|diagnostic| diagnostic.hidden.clone_from(&hidden));
        }
        // The place of a block scalar reaches into the next line, which a replacement must not swallow.
        for diagnostic in &mut self.list {
            let source = &diagnostic.source;
            let fixes = diagnostic.labels.iter_mut().map(|label| &mut label.fix).chain([&mut diagnostic.fix]);
            for fix in fixes {
                fix.take_if(|fix| source.text[fix.span.clone()].contains('\n'));
            }
        }
        self.list.sort_by(|a, b| (a.span.start, a.code, &a.message).cmp(&(b.span.start, b.code, &b.message)));
        self.list.dedup_by(|a, b| a.span == b.span && a.code == b.code && a.message == b.message);
        self.gather();
        let more = self.list.len().saturating_sub(MAX_DIAGNOSTICS);
        self.list.truncate(MAX_DIAGNOSTICS);
        if let (1.., Some(last)) = (more, self.list.last_mut()) {
            let rest = format!("{more} more are not shown: mend these first");
            last.help = Some(last.help.take().map_or(rest.clone(), |help| format!("{help}; {rest}")));
        }
        self.list
    }
}
