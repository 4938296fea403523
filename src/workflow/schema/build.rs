//! The pieces that schemas are made of.

use super::value;
use crate::workflow::check::Keys;
use crate::workflow::types::Type;
use serde_json::{Map, Value, json};

/// A schema with its documentation in front.
pub(super) fn about(text: &str, schema: Value) -> Value {
    let mut described = Map::from_iter([("description".to_owned(), text.into())]);
    match schema {
        Value::Object(fields) if !fields.contains_key("$ref") => described.extend(fields),
        // Beside `$ref` everything else is ignored.
        other => _ = described.insert("allOf".into(), json!([other])),
    }
    described.into()
}

/// A mapping with these keys and no others.
pub(super) fn object(properties: &[(&str, Value)], required: &[&str]) -> Value {
    let properties: Map<_, _> =
        properties.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A mapping with the keys of these tables, each with what the table says of it, and with others that describe
/// themselves.
pub(super) fn keyed<'k>(tables: &[&Keys], properties: &[(&'k str, Value)], required: &[&str]) -> Value {
    let known = |name: &str| tables.iter().find_map(|keys| keys.find(name));
    debug_assert!(
        tables
            .iter()
            .flat_map(|keys| keys.names())
            .all(|key| properties.iter().any(|(name, _)| *name == key)),
        "a key is missing in the schema of {}",
        tables[0].what
    );
    let described = |(name, schema): &(&'k str, Value)| match known(name) {
        Some(key) => (*name, about(key.doc, schema.clone())),
        None => (*name, schema.clone()),
    };
    object(&properties.iter().map(described).collect::<Vec<_>>(), required)
}

/// What the table says of a key.
pub(super) fn doc(keys: &Keys, name: &str) -> &'static str {
    keys.find(name).map_or("", |key| key.doc)
}

/// A mapping of names that the author chooses to such values.
pub(super) fn map(names: Value, values: Value) -> Value {
    json!({ "type": "object", "propertyNames": names, "additionalProperties": values })
}

/// Names of inputs, steps, outputs, sandboxes, secrets and items.
pub(super) fn names() -> Value {
    json!({
        "type": "string",
        "pattern": "^[a-z][a-z0-9_]{0,63}$",
        "patternErrorMessage": "Names are lower case with underscores.",
    })
}

/// A text, with expressions or not. What YAML takes for a number or a bool is text too where text is wanted.
pub(super) fn text() -> Value {
    value::literal(&Type::String)
}

/// A value of a type, without expressions.
pub(super) fn literal(ty: &Type) -> Value {
    value::literal(ty)
}

/// A number of things.
pub(super) fn count(most: u32) -> Value {
    let mut schema = literal(&Type::Int);
    schema["minimum"] = 1.into();
    schema["maximum"] = most.into();
    schema
}

/// One of a few words.
pub(super) fn words(words: &[&str]) -> Value {
    json!({ "enum": words })
}

/// The same, with the one that counts where none is given.
pub(super) fn words_or(words: &[&str], default: &str) -> Value {
    json!({ "enum": words, "default": default })
}

/// One such value, or a list of them.
pub(super) fn one_or_several(item: Value) -> Value {
    json!({ "anyOf": [item, { "type": "array", "items": item }] })
}

/// An expression that stands without `${{ }}`.
pub(super) fn bare() -> Value {
    json!({
        "type": ["string", "boolean", "number"],
        "pattern": r"^(?![\s\S]*\$\{\{)",
        "patternErrorMessage": "This is an expression already, without ${{ }}.",
    })
}
