//! Expressions: CEL, parsed by the `cel` crate and typed and evaluated here, on its syntax tree.
//!
//! The crate's own evaluator is not used: its maps have a random order, which a pure core must not see, it has no
//! limits on what an expression may cost, and it cannot tell a skipped step from a mistake. Macros stay the calls they
//! were written as, so that a position in an error is one the author wrote.

mod evaluate;
mod functions;
pub(crate) mod typing;

pub(crate) use evaluate::{Budget, evaluate, size_of, text_of};
pub use evaluate::{EvalError, ItemScope, MAX_COST, MAX_VALUE, Scope};
pub use functions::{FORMS, FUNCTIONS, Form, Function};

use ::cel::Env;
use ::cel::common::ast::{Expr, IdedExpr, SelectExpr, SourceInfo};
use std::ops::Range;

/// Longest expression in bytes: far beyond what a person writes, little enough to parse at once.
pub const MAX_EXPRESSION: usize = 8 << 10;

/// Deepest nesting of brackets: parser, checker and evaluator recurse on it.
pub const MAX_NESTING: usize = 32;

/// An expression as the parser understood it.
pub(crate) struct Parsed {
    /// The syntax tree.
    pub(crate) root: IdedExpr,
    source: SourceInfo,
}

/// Why a text is no expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Byte offset in the expression.
    pub(crate) offset: usize,
    /// One sentence without a full stop.
    pub(crate) message: String,
}

impl Parsed {
    /// The bytes of the expression that a node's own token covers.
    pub(crate) fn span(&self, id: u64) -> Range<usize> {
        let text = &self.source.source;
        let (start, last) = self.source.offset_for(id).unwrap_or((0, u32::MAX - 1));
        let start = text.floor_char_boundary(start as usize);
        start..text.ceil_char_boundary(last as usize + 1).max(start)
    }
}

/// Reads `text` as one expression.
pub(crate) fn parse(text: &str) -> Result<Parsed, SyntaxError> {
    let refuse = |offset, message: String| Err(SyntaxError { offset, message });
    if text.trim().is_empty() {
        return refuse(0, "the expression is empty".into());
    }
    if text.len() > MAX_EXPRESSION {
        return refuse(
            0,
            format!("the expression has {} bytes; at most {MAX_EXPRESSION} are read", text.len()),
        );
    }
    if let Some(offset) = too_deep(text) {
        return refuse(offset, format!("brackets nest deeper than {MAX_NESTING} levels"));
    }
    if let Some(parsed) = path(text) {
        return Ok(parsed);
    }
    match Env::default().parser().parse_with_source_info(text) {
        Ok((root, source)) => Ok(Parsed { root, source }),
        Err(errors) => {
            let Some(first) = errors.errors.first() else { return refuse(0, "not an expression".into()) };
            let skipped = usize::try_from(first.pos.0 - 1).unwrap_or(0);
            let start: usize = text.split_inclusive('\n').take(skipped).map(str::len).sum();
            let column = usize::try_from(first.pos.1 - 1).unwrap_or(0);
            // Errors count in characters, unlike the offsets of nodes.
            let offset = text[start..].char_indices().nth(column).map_or(text.len(), |(at, _)| start + at);
            refuse(offset, plain_message(&first.msg))
        }
    }
}

/// A plain path such as `steps.clone.path`, which most expressions are: the same tree as the parser's, a hundred times
/// faster.
fn path(text: &str) -> Option<Parsed> {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
            && !RESERVED.contains(&word)
    };
    if text.len() > 256 || !text.split('.').all(word) {
        return None;
    }
    let mut source = SourceInfo::default();
    text.clone_into(&mut source.source);
    let mut words = text.split('.');
    let first = words.next()?;
    let (mut id, mut end) = (1, first.len());
    source.add_offset(id, 0, u32::try_from(end).ok()? - 1);
    let mut root = IdedExpr { id, expr: Expr::Ident(first.to_owned()) };
    for field in words {
        id += 1;
        let dot = u32::try_from(end).ok()?;
        source.add_offset(id, dot, dot);
        end += 1 + field.len();
        let select = SelectExpr { operand: Box::new(root), field: field.to_owned(), test: false };
        root = IdedExpr { id, expr: Expr::Select(select) };
    }
    Some(Parsed { root, source })
}

/// Whether a word can be no name in an expression.
pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// Words that are no names in CEL; the parser says what is wrong with them.
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Where brackets nest too deep, ignoring what stands in quotes.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => {
                depth += 1;
                if depth > MAX_NESTING {
                    return Some(at);
                }
            }
            (None, ')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The generated parser speaks of its grammar; authors need no list of token names.
fn plain_message(message: &str) -> String {
    let message = message.trim().trim_start_matches("Syntax error: ");
    let head = message.split(" expecting ").next().unwrap_or(message);
    let head = head.split(", possibly").next().unwrap_or(head);
    if head.contains("<EOF>") {
        return "the expression ends too early".into();
    }
    if let Some(found) =
        head.strip_prefix("mismatched input ").or_else(|| head.strip_prefix("extraneous input "))
    {
        return format!("{found} does not fit here");
    }
    if let Some(found) = head.strip_prefix("no viable alternative at input ") {
        return format!("{found} does not fit here");
    }
    if let Some(found) = head.strip_prefix("token recognition error at: ") {
        return format!("{found} is no part of the language");
    }
    head.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_point_and_speak_plainly() {
        for (text, offset, message) in [
            ("a +", 3, "the expression ends too early"),
            ("'ö' b", 5, "'b' does not fit here"),
            ("a ==== b", 4, "'==' does not fit here"),
            ("#", 0, "'#' is no part of the language"),
            ("", 0, "the expression is empty"),
            ("for", 0, "reserved identifier: for"),
        ] {
            let error = parse(text).err().unwrap();
            assert_eq!((error.offset, error.message.as_str()), (offset, message), "{text}");
        }
        let deep = format!("{}1{}", "(".repeat(MAX_NESTING + 1), ")".repeat(MAX_NESTING + 1));
        assert_eq!(parse(&deep).err().unwrap().offset, MAX_NESTING);
        assert!(parse(&"1+".repeat(MAX_EXPRESSION)).err().unwrap().message.contains("at most 8192"));
    }

    #[test]
    fn a_plain_path_is_what_the_parser_makes_of_it() {
        for text in ["a", "steps.clone.path", "_x.y1.z_"] {
            let (root, source) = Env::default().parser().parse_with_source_info(text).unwrap();
            let slow = Parsed { root, source };
            let fast = path(text).unwrap();
            assert_eq!(fast.root, slow.root);
            for id in 1..=fast.root.id {
                assert_eq!(fast.span(id), slow.span(id), "{text}");
            }
        }
        for text in ["true", "a.b()", "1.5", "a..b", "steps.for.x", "a b", "a.?b"] {
            assert!(path(text).is_none(), "{text}");
        }
    }
}
