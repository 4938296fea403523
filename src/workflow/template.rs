//! Text with holes: `${{ expression }}`. Splits it with positions for the checker, and fills the holes for the run
//! core. `$${{` stands for `${{` itself.

use super::cel::{self, EvalError, Scope};
use super::model::{Expression, Part, Template};
use serde_json::{Map, Value};
use std::ops::Range;

/// What a text consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text as it is.
    Text(String),
    /// A hole.
    Hole {
        /// The expression, without the white space around it.
        text: String,
        /// Byte offset of the expression in the text.
        offset: usize,
    },
}

/// A hole that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unclosed {
    /// Byte offset of its `${{`.
    pub(crate) offset: usize,
}

const OPEN: &str = "${{";

/// Splits `text` at its holes.
pub(crate) fn split(text: &str) -> Result<Vec<Piece>, Unclosed> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    while let Some(found) = text[at..].find(OPEN) {
        let open = at + found;
        if text[at..open].ends_with('$') {
            plain.push_str(&text[at..open - 1]);
            plain.push_str(OPEN);
            at = open + OPEN.len();
            continue;
        }
        plain.push_str(&text[at..open]);
        let inner = open + OPEN.len();
        let Some(length) = hole_length(&text[inner..]) else { return Err(Unclosed { offset: open }) };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        let raw = &text[inner..inner + length];
        let offset = inner + (raw.len() - raw.trim_start().len());
        pieces.push(Piece::Hole { text: raw.trim().to_owned(), offset });
        at = inner + length + 2;
    }
    plain.push_str(&text[at..]);
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

/// The expression around byte `at` of a text, to the end of the text where it is not closed: a cursor's, say.
pub(crate) fn around(text: &str, at: usize) -> Option<Range<usize>> {
    let mut from = 0;
    while let Some(found) = text[from..].find(OPEN) {
        let open = from + found;
        let start = open + OPEN.len();
        from = start;
        if text[..open].ends_with('$') {
            continue;
        }
        let length = hole_length(&text[start..]);
        let end = length.map_or(text.len(), |length| start + length);
        if (start..=end).contains(&at) {
            return Some(start..end);
        }
        from = length.map_or(end, |_| end + 2);
    }
    None
}

/// Bytes up to the `}}` that closes the hole; braces and quotes of the expression itself do not close it.
fn hole_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut quote, mut at) = (0_usize, None, 0);
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'\'' | b'"')) => quote = Some(byte),
            (None, b'{') => depth += 1,
            (None, b'}') if depth > 0 => depth -= 1,
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

impl Template {
    /// The template of a text, its expressions unchecked: exactly one hole keeps the type of its value.
    pub(crate) fn of_pieces(pieces: Vec<Piece>) -> Self {
        match pieces.as_slice() {
            [Piece::Hole { text, .. }] => return Self::Expression(Expression(text.clone())),
            [Piece::Text(text)] => return Self::Literal(Value::String(text.clone())),
            _ => {}
        }
        let part = |piece| match piece {
            Piece::Text(text) => Part::Text(text),
            Piece::Hole { text, .. } => Part::Expression(Expression(text)),
        };
        Self::Text(pieces.into_iter().map(part).collect())
    }
}

/// Fills the holes of a template. Pure: the same scope gives the same value, of at most [`cel::MAX_VALUE`] bytes.
pub fn evaluate(template: &Template, scope: &Scope<'_>) -> Result<Value, EvalError> {
    let mut budget = cel::Budget::new();
    let value = fill(template, scope, &mut budget)?;
    let size = cel::size_of(&value);
    if size > cel::MAX_VALUE {
        return Err(EvalError::Failed(format!(
            "the value has about {size} bytes; at most {} are passed between steps: write it to a file instead",
            cel::MAX_VALUE
        )));
    }
    Ok(value)
}

/// Whether an `if:` holds.
pub fn condition(expression: &Expression, scope: &Scope<'_>) -> Result<bool, EvalError> {
    match cel::evaluate(&expression.0, scope, &mut cel::Budget::new())? {
        Value::Bool(value) => Ok(value),
        other => {
            Err(EvalError::Failed(format!("a condition must be a bool, but `{}` is {other}", expression.0)))
        }
    }
}

fn fill(template: &Template, scope: &Scope<'_>, budget: &mut cel::Budget) -> Result<Value, EvalError> {
    Ok(match template {
        Template::Literal(value) => value.clone(),
        Template::Expression(expression) => cel::evaluate(&expression.0, scope, budget)?,
        Template::Text(parts) => {
            let mut text = String::new();
            for part in parts {
                match part {
                    Part::Text(plain) => text.push_str(plain),
                    Part::Expression(expression) => {
                        let value = cel::evaluate(&expression.0, scope, budget)?;
                        let shown = cel::text_of(&value).map_err(|message| {
                            EvalError::Failed(format!("in `{}`: {message}", expression.0))
                        })?;
                        text.push_str(&shown);
                    }
                }
                budget.build(text.len())?;
            }
            Value::String(text)
        }
        Template::List(items) => {
            Value::Array(items.iter().map(|item| fill(item, scope, budget)).collect::<Result<_, _>>()?)
        }
        Template::Object(fields) => {
            let mut object = Map::new();
            for (key, field) in fields {
                object.insert(key.clone(), fill(field, scope, budget)?);
            }
            Value::Object(object)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn fill(text: &str) -> Result<Value, EvalError> {
        let template = Template::of_pieces(split(text).unwrap());
        let inputs = json!({"n": 3, "repo": "a/b", "list": [1]}).as_object().cloned().unwrap();
        let (empty, secrets) = (Map::new(), BTreeSet::new());
        evaluate(
            &template,
            &Scope {
                inputs: &inputs,
                steps: &empty,
                run: &empty,
                secrets: &secrets,
                item: None,
                hashes: None,
            },
        )
    }

    #[test]
    fn one_hole_keeps_its_type_and_more_make_text() {
        for (text, expected) in [
            ("${{ inputs.n }}", json!(3)),
            ("${{inputs.list}}", json!([1])),
            ("n=${{ inputs.n }}!", json!("n=3!")),
            ("${{ inputs.n }}${{ inputs.repo }}", json!("3a/b")),
            ("${{ {'a': {'b': 1}} }}", json!({"a": {"b": 1}})),
            ("${{ 'a}}b' }}", json!("a}}b")),
            ("$${{ x }} ${HOME} $$ }}", json!("${{ x }} ${HOME} $$ }}")),
            ("", json!("")),
        ] {
            assert_eq!(fill(text), Ok(expected), "{text}");
        }
        assert!(matches!(fill("x ${{ inputs.list }}"), Err(EvalError::Failed(_))));
    }

    #[test]
    fn holes_know_where_they_are() {
        let pieces = split("a ${{  b }} c").unwrap();
        assert_eq!(pieces[1], Piece::Hole { text: "b".into(), offset: 7 });
        assert_eq!(split("ab ${{ x }"), Err(Unclosed { offset: 3 }));
    }

    #[test]
    fn the_expression_around_a_place() {
        for (text, expected) in [
            ("|", None),
            ("${{ a }}|", None),
            ("${{ a }|}", None),
            ("${{|", Some("")),
            ("|${{ a }}", None),
            ("a ${{ b }} ${{ steps.| }} c", Some(" steps. ")),
            ("${{ {'a': '}}|", Some(" {'a': '}}")),
            ("$${{ a|", None),
            ("${{ a } |", Some(" a } ")),
        ] {
            let (text, at) = (text.replace('|', ""), text.find('|').unwrap());
            assert_eq!(around(&text, at).map(|range| &text[range]), expected, "{text} at {at}");
        }
    }

    #[test]
    fn a_condition_is_a_bool() {
        let (empty, secrets) = (Map::new(), BTreeSet::new());
        let scope =
            Scope { inputs: &empty, steps: &empty, run: &empty, secrets: &secrets, item: None, hashes: None };
        assert_eq!(condition(&Expression("1 < 2".into()), &scope), Ok(true));
        assert!(condition(&Expression("'true'".into()), &scope).is_err());
    }
}
