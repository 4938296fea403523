//! Values of the language's types as YAML spells them. A type decides what a scalar is, not the scalar's spelling, so
//! each accepts text that can be read as it; and most places accept an expression instead of the value.

use crate::workflow::literal as spelling;
use crate::workflow::types::{Field, Type};
use serde_json::{Map, Value, json};

/// Exactly one expression, which keeps the type of its value.
const HOLE: &str = r"\$\{\{[\s\S]*\}\}";

/// A value of the type as it is.
pub(super) fn literal(ty: &Type) -> Value {
    schema(ty, false)
}

/// An amount of money.
pub(super) fn money() -> Value {
    let message = "An amount of money has a currency: 5 USD, 0.50 USD.";
    spelled(r"\s*[0-9]+(\.[0-9]{1,6})?\s+USD\s*", message, false)
}

/// A value of the type, with an expression in its place or in the place of any part of it.
pub(super) fn with_holes(ty: &Type) -> Value {
    schema(ty, true)
}

fn schema(ty: &Type, holes: bool) -> Value {
    let inner = |ty: &Type| schema(ty, holes);
    match ty {
        Type::String => json!({ "type": ["string", "number", "boolean"] }),
        Type::Bytes => json!({ "type": "string" }),
        Type::Bool => scalar("boolean", "true|false", holes),
        Type::Int => scalar("integer", "[+-]?[0-9]+", holes),
        Type::Float => scalar("number", r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", holes),
        Type::Duration => spelled(
            r"\s*(\+?\s*([0-9.]+\s*(h|m|s|u|n|µ)[a-z]*[\s,]*)+|[Pp][Tt][0-9.,HMShms]+)",
            "A length of time has a unit: 90s, 5m, 1h 30m.",
            holes,
        ),
        Type::Size => spelled(
            r"\s*[0-9]+(\.[0-9]*)?\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)\s*",
            "A size has a unit: 512MiB, 4GiB.",
            holes,
        ),
        Type::Enum(words) => either(json!({ "enum": spellings(words) }), holes),
        Type::List(item) => container(json!({ "items": inner(item) }), "array", holes),
        Type::Tuple(items) => container(
            json!({
                "items": items.iter().map(inner).collect::<Vec<_>>(),
                "minItems": items.len(),
                "maxItems": items.len(),
            }),
            "array",
            holes,
        ),
        Type::Map(value) => container(json!({ "additionalProperties": inner(value) }), "object", holes),
        Type::Record(fields) => container(record(fields, holes), "object", holes),
        Type::Variant(cases) => either(variant(cases, holes), holes),
        Type::Option(some) => optional(inner(some)),
        Type::Any => json!({}),
    }
}

/// A scalar that YAML knows, or the same as text.
fn scalar(name: &str, pattern: &str, holes: bool) -> Value {
    json!({ "type": [name, "string"], "pattern": whole(pattern, holes) })
}

/// A scalar that only harvest knows.
fn spelled(pattern: &str, message: &str, holes: bool) -> Value {
    json!({ "type": "string", "pattern": whole(pattern, holes), "patternErrorMessage": message })
}

fn whole(pattern: &str, holes: bool) -> String {
    if holes { format!("^({pattern}|{HOLE})$") } else { format!("^({pattern})$") }
}

/// A pattern only ever looks at texts, so that no choice between two schemas is needed.
fn container(mut schema: Value, name: &str, holes: bool) -> Value {
    schema["type"] = json!([name]);
    if holes {
        schema["type"] = json!([name, "string"]);
        schema["pattern"] = whole(HOLE, false).into();
        schema["patternErrorMessage"] = "Write one expression, ${{ ... }}, and nothing around it.".into();
    }
    schema
}

/// A choice among words, or an expression.
fn either(schema: Value, holes: bool) -> Value {
    match holes {
        true => json!({ "anyOf": [schema, { "type": "string", "pattern": whole(HOLE, false) }] }),
        false => schema,
    }
}

/// What is optional may be written as nothing.
fn optional(mut schema: Value) -> Value {
    let anything = schema.as_object().is_some_and(Map::is_empty);
    match schema.get_mut("type") {
        Some(Value::Array(types)) => types.push("null".into()),
        Some(ty) => *ty = json!([ty.take(), "null"]),
        // Anything is nothing too.
        None if anything => {}
        None => return json!({ "anyOf": [schema, { "type": "null" }] }),
    }
    schema
}

/// Words, and what YAML makes of those that are no text to it.
fn spellings(words: &[String]) -> Vec<Value> {
    let mut spellings: Vec<Value> = words.iter().map(|word| word.as_str().into()).collect();
    let other = |word: &String| spelling::scalar(word, &Type::Any).ok().filter(|value| !value.is_string());
    spellings.extend(words.iter().filter_map(other));
    spellings
}

fn record(fields: &[Field], holes: bool) -> Value {
    let described = |field: &Field| {
        let text = field.doc.clone().unwrap_or_else(|| format!("A field: {}.", field.ty));
        (field.name.clone(), super::about(&text, schema(&field.ty, holes)))
    };
    let required: Vec<_> = fields
        .iter()
        .filter(|field| !matches!(field.ty, Type::Option(_)))
        .map(|field| field.name.as_str())
        .collect();
    json!({
        "properties": fields.iter().map(described).collect::<Map<_, _>>(),
        "required": required,
        "additionalProperties": false,
    })
}

/// The word of a case without a value, or a mapping of one case to its value.
fn variant(cases: &[(String, Option<Type>)], holes: bool) -> Value {
    let plain = cases.iter().filter(|(_, ty)| ty.is_none()).map(|(name, _)| name);
    let spellings: Vec<_> = plain
        .flat_map(|name| [name.clone(), name.replace('-', "_")])
        .collect::<indexmap::IndexSet<_>>()
        .into_iter()
        .collect();
    let valued = cases.iter().filter_map(|(name, ty)| {
        let ty = ty.as_ref()?;
        Some((name.clone(), super::about(&format!("The case `{name}`: {ty}."), schema(ty, holes))))
    });
    let mapping = json!({
        "type": "object",
        "properties": valued.collect::<Map<_, _>>(),
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    });
    json!({ "anyOf": [{ "enum": spellings }, mapping] })
}
