//! Places in a text as the protocol counts them: lines from 0, and within a line UTF-16 code units. Everything else in
//! harvest counts bytes.

use lsp_types::{Position, Range as LspRange};
use std::ops::Range;

/// Where the lines of a text start.
#[derive(Debug)]
pub(super) struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    /// A line ends with `\n`, `\r\n` or `\r`.
    pub(super) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let ends =
            |at: &usize| bytes[*at] == b'\n' || (bytes[*at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
        let starts = std::iter::once(0).chain((0..bytes.len()).filter(ends).map(|at| at + 1)).collect();
        Self { starts }
    }

    /// The place of a byte; one inside a character counts as its first.
    pub(super) fn position(&self, text: &str, at: usize) -> Position {
        let at = text.floor_char_boundary(at);
        let line = self.starts.partition_point(|start| *start <= at) - 1;
        let units = text[self.starts[line]..at].encode_utf16().count();
        Position::new(u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(units).unwrap_or(u32::MAX))
    }

    /// The place of a range of bytes.
    pub(super) fn range(&self, text: &str, span: &Range<usize>) -> LspRange {
        LspRange::new(self.position(text, span.start), self.position(text, span.end))
    }

    /// The byte at a place. Beyond the end of a line it is that end; beyond the last line, the end of the text; inside
    /// a character, its first byte.
    pub(super) fn offset(&self, text: &str, position: Position) -> usize {
        let line = position.line as usize;
        let Some(start) = self.starts.get(line).copied() else { return text.len() };
        let end = self.starts.get(line + 1).copied().unwrap_or(text.len());
        let content = text[start..end].trim_end_matches(['\n', '\r']);
        let (wanted, mut units) = (position.character as usize, 0);
        for (at, c) in content.char_indices() {
            units += c.len_utf16();
            if units > wanted {
                return start + at;
            }
        }
        start + content.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_those_of_utf_16() {
        let text = "aö😀b\r\nz\rä\n";
        let lines = Lines::of(text);
        for (needle, line, character) in
            [("a", 0, 0), ("ö", 0, 1), ("😀", 0, 2), ("b", 0, 4), ("z", 1, 0), ("ä", 2, 0)]
        {
            let at = text.find(needle).unwrap();
            assert_eq!(lines.position(text, at), Position::new(line, character), "{needle}");
            assert_eq!(lines.offset(text, Position::new(line, character)), at, "{needle}");
        }
        assert_eq!(lines.offset(text, Position::new(0, 3)), text.find('😀').unwrap(), "inside a pair");
        assert_eq!(lines.offset(text, Position::new(0, 99)), text.find('\r').unwrap());
        assert_eq!(lines.position(text, text.len()), Position::new(3, 0));
        assert_eq!(lines.offset(text, Position::new(9, 0)), text.len());
    }

    proptest! {
        #[test]
        fn a_place_leads_back_to_its_byte(text in "[a ö😀\r\n]{0,40}", at in 0_usize..60) {
            let at = text.floor_char_boundary(at.min(text.len()));
            // Between the two bytes that end a line there is no place.
            prop_assume!(!text[..at].ends_with('\r') || !text[at..].starts_with('\n'));
            let lines = Lines::of(&text);
            prop_assert_eq!(lines.offset(&text, lines.position(&text, at)), at);
        }

        #[test]
        fn any_place_is_on_a_character(text in "[a ö😀\r\n]{0,40}", line in 0_u32..20, character in any::<u32>()) {
            let at = Lines::of(&text).offset(&text, Position::new(line, character));
            prop_assert!(text.is_char_boundary(at));
        }
    }
}
