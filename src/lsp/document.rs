//! A file as the editor has it, and what is known of it. Files on disk are not looked at.

use super::position::Lines;
use crate::workflow::check::Survey;
use crate::workflow::check::survey::survey;
use crate::workflow::diagnostic::{Diagnostic, Source};
use crate::workflow::types::Catalog;
use lsp_types::{Position, Range as LspRange, TextDocumentContentChangeEvent};
use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a text that are held. A workflow has at most 1 MiB; whoever opens more gets told so by the checker.
pub(super) const TEXT_MAX: usize = 8 << 20;

/// A text, its version, and what was found out about it since it changed.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) version: i32,
    pub(super) source: Arc<Source>,
    /// What the checker says of this version, once it was asked.
    pub(super) diagnostics: Option<Vec<Diagnostic>>,
    /// Whether the editor has been told.
    pub(super) published: bool,
    lines: Lines,
    survey: OnceCell<Survey>,
}

impl Document {
    /// `name` is what diagnostics call the file.
    pub(super) fn new(name: &str, version: i32, text: String) -> Self {
        let lines = Lines::of(&text);
        Self {
            version,
            source: Source::new(name, text),
            diagnostics: None,
            published: false,
            lines,
            survey: OnceCell::new(),
        }
    }

    /// The whole text.
    pub(super) fn text(&self) -> &str {
        &self.source.text
    }

    /// The document after these changes, one after the other. `None` where it grows beyond [`TEXT_MAX`].
    pub(super) fn changed(&self, version: i32, changes: Vec<TextDocumentContentChangeEvent>) -> Option<Self> {
        let mut text = self.source.text.clone();
        let mut lines = None;
        for change in changes {
            match change.range {
                None => text = change.text,
                Some(range) => {
                    let lines = lines.as_ref().unwrap_or(&self.lines);
                    let (start, end) = (lines.offset(&text, range.start), lines.offset(&text, range.end));
                    text.replace_range(start..end.max(start), &change.text);
                }
            }
            if text.len() > TEXT_MAX {
                return None;
            }
            lines = Some(Lines::of(&text));
        }
        Some(Self::new(&self.source.name, version, text))
    }

    /// Forgets what was found out with components that may have changed.
    pub(super) fn outdate(&mut self) {
        (self.diagnostics, self.published) = (None, false);
        self.survey = OnceCell::new();
    }

    /// The names of the file.
    pub(super) fn survey(&self, catalog: &dyn Catalog) -> &Survey {
        self.survey.get_or_init(|| survey(&self.source, catalog))
    }

    /// The byte at a place.
    pub(super) fn offset(&self, position: Position) -> usize {
        self.lines.offset(self.text(), position)
    }

    /// The place of some bytes.
    pub(super) fn range(&self, span: &Range<usize>) -> LspRange {
        self.lines.range(self.text(), span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(range: Option<[u32; 4]>, text: &str) -> TextDocumentContentChangeEvent {
        let range = range.map(|[line, character, end_line, end_character]| {
            LspRange::new(Position::new(line, character), Position::new(end_line, end_character))
        });
        TextDocumentContentChangeEvent { range, range_length: None, text: text.into() }
    }

    #[test]
    fn changes_apply_one_after_the_other() {
        let document = Document::new("w.yaml", 1, "a: 😀ö\nb: c\n".into());
        let changes = vec![
            change(Some([0, 5, 0, 6]), "x\ny"),
            change(Some([1, 0, 1, 1]), "z"),
            change(Some([2, 3, 9, 0]), ""),
        ];
        let changed = document.changed(2, changes).unwrap();
        assert_eq!((changed.version, changed.text()), (2, "a: 😀x\nz\nb: "));
        assert_eq!(document.changed(3, vec![change(None, "new")]).unwrap().text(), "new");
        assert!(document.changed(4, vec![change(Some([0, 0, 0, 0]), &"x".repeat(TEXT_MAX))]).is_none());
        let backwards = document.changed(5, vec![change(Some([1, 2, 0, 0]), "!")]).unwrap();
        assert_eq!(backwards.text(), "a: 😀ö\nb:! c\n");
    }
}
