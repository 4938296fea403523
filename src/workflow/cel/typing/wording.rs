//! Types in messages, and what to write to get from one to another.

use super::relation::{fits, is_never, present};
use crate::workflow::cel::functions::is_text;
use crate::workflow::types::Type;

/// The type as a message has room for: of large records, names alone.
pub(crate) fn brief(ty: &Type) -> String {
    /// Characters of a type written in full.
    const ROOM: usize = 160;
    fn names(ty: &Type) -> String {
        match ty {
            Type::List(item) => format!("list<{}>", names(item)),
            Type::Map(value) => format!("map<{}>", names(value)),
            Type::Option(inner) => format!("{}?", names(inner)),
            Type::Record(fields) => {
                let names: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
                format!("{{ {} }}", names.join(", "))
            }
            other => other.to_string(),
        }
    }
    let full = ty.to_string();
    if full.len() <= ROOM { full } else { names(ty) }
}

/// The type with its article: `a string`, `an int`, `a list<string>`.
pub(crate) fn article(ty: &Type) -> String {
    let text = brief(ty);
    match ty {
        Type::Option(inner) if !is_never(inner) && **inner != Type::Any => article(inner),
        Type::Record(_) => format!("a record {text}"),
        Type::Tuple(_) => format!("a list {text}"),
        Type::List(item) if is_never(item) => "an empty list".into(),
        Type::Option(inner) if is_never(inner) => "null".into(),
        Type::Bytes => "bytes".into(),
        Type::Any => "any value".into(),
        Type::Int | Type::Enum(_) => format!("an {text}"),
        _ => format!("a {text}"),
    }
}

/// How to turn a value of one type into another.
pub(super) fn conversion(text: &str, found: &Type, wanted: &Type) -> Option<String> {
    let write = |function: &str| Some(format!("write `{function}({text})`"));
    match (found, wanted) {
        (Type::Int | Type::Float | Type::Bool, Type::String) => write("string"),
        (Type::String | Type::Float | Type::Duration | Type::Size, Type::Int) => write("int"),
        (Type::String | Type::Int, Type::Float) => write("double"),
        (Type::String, Type::Bool) => write("bool"),
        (Type::List(item), Type::String) if is_text(item) => Some(format!("write `{text}.join(' ')`")),
        (_, Type::String) => write("json"),
        (Type::String, Type::List(_)) => Some(format!("write `[{text}]`, or `{text}.split(' ')`")),
        (found, Type::List(item)) if fits(found, item) => Some(format!("write `[{text}]`")),
        (Type::String, Type::Enum(cases)) => {
            Some(format!("declare the input as `{{ type: enum, values: [{}] }}`", cases.join(", ")))
        }
        (Type::String, Type::Duration) => write("duration"),
        _ => None,
    }
}

pub(super) fn bool_help(ty: &Type, text: &str) -> Option<String> {
    match ty {
        Type::String => Some(format!("compare it: `{text} != ''`")),
        Type::Int => Some(format!("compare it: `{text} > 0`")),
        Type::List(_) | Type::Map(_) => Some(format!("compare its size: `{text}.size() > 0`")),
        Type::Option(_) => Some(format!("ask whether it is there: `has({text})`")),
        _ => None,
    }
}

/// Something that stands for an absent value of the type, for suggestions.
pub(super) fn stand_in(ty: &Type) -> &'static str {
    match present(ty) {
        Type::Bool => "false",
        Type::Int => "0",
        Type::Float => "0.0",
        Type::List(_) | Type::Tuple(_) => "[]",
        Type::Map(_) | Type::Record(_) => "{}",
        _ => "''",
    }
}
