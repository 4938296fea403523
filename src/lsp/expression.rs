//! The tokens of an expression that may be broken off anywhere, and what a name in it is a part of. CEL's own parser
//! takes whole expressions only.

use crate::workflow::cel::MAX_EXPRESSION;
use std::ops::Range;

/// Functions whose first argument names the item.
const BINDING: [&str; 5] = ["map", "filter", "exists", "exists_one", "all"];

/// What stands before a cursor in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Before<'t> {
    /// The name that is being written, perhaps nothing yet.
    pub(super) partial: &'t str,
    /// What the name is asked of: `steps.clone` of `steps.clone.pa`.
    pub(super) receiver: Option<&'t str>,
    /// Names that functions around the cursor bind, outermost first, each with the list whose items it names.
    pub(super) locals: Vec<(&'t str, &'t str)>,
}

/// A name in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name<'t> {
    /// The name.
    pub(super) text: &'t str,
    /// Its bytes.
    pub(super) span: Range<usize>,
    /// What it is asked of.
    pub(super) receiver: Option<&'t str>,
    /// Whether it is called.
    pub(super) called: bool,
    /// As of [`Before`].
    pub(super) locals: Vec<(&'t str, &'t str)>,
}

impl<'t> Before<'t> {
    /// What stands at the end of `text`. `None` in quotes, in numbers, and where no name can begin.
    pub(super) fn of(text: &'t str) -> Option<Self> {
        let tokens = tokens(text)?;
        let mut end = tokens.len();
        let mut partial = "";
        match tokens.last() {
            Some(Token { kind: Kind::Text { closed: false } | Kind::Number, .. }) => return None,
            Some(Token { kind: Kind::Word, span }) if span.end == text.len() => {
                partial = &text[span.clone()];
                end -= 1;
            }
            _ => {}
        }
        let receiver = match tokens[..end].last() {
            Some(Token { kind: Kind::Dot, .. }) => Some(receiver(text, &tokens, end - 1)?),
            // Two operands with nothing between them.
            Some(Token { kind: Kind::Word | Kind::Number | Kind::Text { .. } | Kind::Close, .. }) => {
                return None;
            }
            _ => None,
        };
        Some(Self { partial, receiver, locals: locals(text, &tokens[..end]) })
    }
}

impl<'t> Name<'t> {
    /// The name at byte `at`, or that ends there.
    pub(super) fn at(text: &'t str, at: usize) -> Option<Self> {
        let tokens = tokens(text)?;
        let found = tokens.iter().position(|token| {
            token.kind == Kind::Word && (token.span.contains(&at) || token.span.end == at)
        })?;
        let span = tokens[found].span.clone();
        let dotted = found.checked_sub(1).filter(|before| tokens[*before].kind == Kind::Dot);
        Some(Self {
            text: &text[span.clone()],
            receiver: match dotted {
                Some(dot) => Some(receiver(text, &tokens, dot)?),
                None => None,
            },
            called: tokens.get(found + 1).is_some_and(|next| text[next.span.clone()].starts_with('(')),
            locals: locals(text, &tokens[..found]),
            span,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Number,
    /// In quotes.
    Text {
        closed: bool,
    },
    /// `.` or `.?`.
    Dot,
    Open,
    Close,
    Other,
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    span: Range<usize>,
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    if text.len() > MAX_EXPRESSION {
        return None;
    }
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let run = |part: fn(char) -> bool| rest.find(|c| !part(c)).unwrap_or(rest.len());
        let after_dot = tokens.last().is_some_and(|token| token.kind == Kind::Dot);
        let (kind, length) = match c {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '0'..='9' if !after_dot => (Kind::Number, run(|c| c.is_ascii_alphanumeric() || c == '.')),
            c if is_word(c) => (Kind::Word, run(is_word)),
            '\'' | '"' => match quoted(rest, c) {
                Some(length) => (Kind::Text { closed: true }, length),
                None => (Kind::Text { closed: false }, rest.len()),
            },
            '.' => (Kind::Dot, if rest.starts_with(".?") { 2 } else { 1 }),
            '(' | '[' | '{' => (Kind::Open, 1),
            ')' | ']' | '}' => (Kind::Close, 1),
            c => (Kind::Other, c.len_utf8()),
        };
        tokens.push(Token { kind, span: at..at + length });
        at += length;
    }
    Some(tokens)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Bytes of the text in quotes at the start of `rest`, both quotes included.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The operand that ends before token `end`.
fn receiver<'t>(text: &'t str, tokens: &[Token], end: usize) -> Option<&'t str> {
    let mut start = end;
    loop {
        let last = start.checked_sub(1)?;
        start = match tokens[last].kind {
            Kind::Word | Kind::Text { .. } => last,
            Kind::Close => {
                let open = opening(tokens, last)?;
                let before = open.checked_sub(1).map(|before| tokens[before].kind);
                let bracket = &text[tokens[open].span.clone()];
                match (bracket, before) {
                    ("(", Some(Kind::Word)) => open - 1,
                    // An index: what is indexed comes before it.
                    ("[", Some(Kind::Word | Kind::Close | Kind::Text { .. })) => {
                        start = open;
                        continue;
                    }
                    _ => open,
                }
            }
            _ => return None,
        };
        match start.checked_sub(1) {
            Some(dot) if tokens[dot].kind == Kind::Dot => start = dot,
            _ => return Some(&text[tokens[start].span.start..tokens[end - 1].span.end]),
        }
    }
}

/// The bracket that token `close` closes.
fn opening(tokens: &[Token], close: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for at in (0..=close).rev() {
        match tokens[at].kind {
            Kind::Close => depth += 1,
            Kind::Open => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Names bound by the calls that these tokens open and do not close.
fn locals<'t>(text: &'t str, tokens: &[Token]) -> Vec<(&'t str, &'t str)> {
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Open => open.push(at),
            Kind::Close => _ = open.pop(),
            _ => {}
        }
    }
    let bound = |at: usize| {
        let [dot, function] = tokens.get(at.checked_sub(2)?..at)? else { return None };
        let [name, comma] = tokens.get(at + 1..at + 3)? else { return None };
        let binds = dot.kind == Kind::Dot && BINDING.contains(&&text[function.span.clone()]);
        let named = name.kind == Kind::Word && &text[comma.span.clone()] == ",";
        let list = receiver(text, tokens, at - 2)?;
        (binds && named).then(|| (&text[name.span.clone()], list))
    };
    open.into_iter().filter_map(bound).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_stands_before_a_cursor() {
        for (text, expected) in [
            ("", Some(("", None))),
            ("inp", Some(("inp", None))),
            ("inputs.", Some(("", Some("inputs")))),
            ("a + steps.clone.pa", Some(("pa", Some("steps.clone")))),
            ("steps.c.?s", Some(("s", Some("steps.c")))),
            ("f(steps.a.b.trim().", Some(("", Some("steps.a.b.trim()")))),
            ("[1, 2].", Some(("", Some("[1, 2]")))),
            ("a['x.y'][0].z", Some(("z", Some("a['x.y'][0]")))),
            ("(a + b).c", Some(("c", Some("(a + b)")))),
            ("'a ) b'.", Some(("", Some("'a ) b'")))),
            ("x ? y.z : ", Some(("", None))),
            ("a == 'b", None),
            ("1.", None),
            ("a b", None),
            (").", None),
            ("..", None),
        ] {
            let found = Before::of(text);
            assert_eq!(found.as_ref().map(|before| (before.partial, before.receiver)), expected, "{text}");
        }
        let nested = Before::of("steps.a.list.map(x, x.items.filter(y, y.").unwrap();
        assert_eq!(nested.locals, [("x", "steps.a.list"), ("y", "x.items")]);
        assert!(Before::of("a.map(x, x) + ").unwrap().locals.is_empty());
    }

    #[test]
    fn a_name_and_what_it_is_asked_of() {
        let text = "has(inputs.repo) && steps.clone.?path.orValue('x').startsWith(inputs.repo)";
        let at = |needle: &str| Name::at(text, text.find(needle).unwrap() + 1).unwrap();
        assert_eq!((at("has").receiver, at("has").called), (None, true));
        assert_eq!((at("repo").receiver, at("repo").called), (Some("inputs"), false));
        assert_eq!(at("path").receiver, Some("steps.clone"));
        assert_eq!(
            (at("startsWith").receiver, at("startsWith").called),
            (Some("steps.clone.?path.orValue('x')"), true)
        );
        assert_eq!(Name::at(text, text.find('&').unwrap()), None);
        assert_eq!(Name::at("a.b", 3).unwrap().text, "b");
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[a-c.?()\\[\\]'\" ,+0ö]{0,40}", at in 0_usize..60) {
            Before::of(&text);
            Name::at(&text, at);
        }
    }
}
