//! What a workflow declares before its steps: inputs, secrets, sandboxes, permissions.

use super::build::{about, keyed, literal, map, names, object, one_or_several, text, words};
use super::value::with_holes;
use crate::workflow::check::grammar::{FIELD, IMAGE, INPUT, NETWORK, REQUIRE, SANDBOX, SECRET, TYPES};
use crate::workflow::check::{Key, Shape};
use crate::workflow::types::Type;
use serde_json::{Value, json};

/// Words for types that say everything.
const SIMPLE: [&str; 6] = ["string", "int", "float", "bool", "duration", "size"];

/// A type as a word, or described.
pub(super) fn described_type() -> Value {
    let mut schema = keyed(&[&FIELD], &type_keys(), &["type"]);
    schema["allOf"] = json!(inside());
    json!({ "anyOf": [words(&SIMPLE), schema] })
}

fn type_keys() -> Vec<(&'static str, Value)> {
    let described = || json!({ "$ref": "#/definitions/type" });
    vec![
        ("type", words(&TYPES)),
        ("optional", literal(&Type::Bool)),
        ("description", text()),
        ("fields", map(names(), described())),
        ("items", described()),
        ("values", one_or_several(text())),
    ]
}

/// Types that need a further key, and the keys that belong to one type alone.
fn inside() -> Vec<Value> {
    let rule = |word: &str, key: &str| {
        json!({
            "if": { "properties": { "type": { "const": word } }, "required": ["type"] },
            "then": { "required": [key] },
            "else": { "properties": { (key): false } },
        })
    };
    [("enum", "values"), ("list", "items"), ("object", "fields")].map(|(word, key)| rule(word, key)).to_vec()
}

pub(super) fn inputs() -> Value {
    let limit = json!({ "type": ["number", "string"] });
    let mut keys = type_keys();
    keys.extend([
        ("default", json!({})),
        ("pattern", json!({ "type": "string" })),
        ("min", limit.clone()),
        ("max", limit),
        ("multiline", literal(&Type::Bool)),
    ]);
    let mut described = keyed(&[&INPUT], &keys, &["type"]);
    let mut rules = inside();
    let scalars = [Type::String, Type::Int, Type::Float, Type::Bool, Type::Duration, Type::Size];
    for (word, ty) in SIMPLE.iter().zip(scalars) {
        let default = about(
            &format!("Its value where none is given: {ty}, or an expression over `run`."),
            with_holes(&Type::Option(Box::new(ty))),
        );
        rules.push(json!({
            "if": { "properties": { "type": { "const": word } }, "required": ["type"] },
            "then": { "properties": { "default": default } },
        }));
    }
    described["allOf"] = rules.into();
    let input = json!({ "anyOf": [words(&SIMPLE), described] });
    map(names(), input)
}

pub(super) fn secrets() -> Value {
    let source = json!({
        "type": "string",
        "pattern": "^(env:[A-Za-z0-9_]+|file:[\\s\\S]+|command:[\\s\\S]+|modal:[^/]+/[\\s\\S]+)$",
        "patternErrorMessage": "Write env:NAME, file:PATH, command:PROGRAM ARGS or modal:SECRET/KEY.",
    });
    let secret = keyed(
        &[&SECRET],
        &[("from", one_or_several(source)), ("optional", literal(&Type::Bool)), ("description", text())],
        &["from"],
    );
    map(names(), secret)
}

pub(super) fn permissions() -> Value {
    let hosts = one_or_several(json!({ "type": "string", "pattern": r"^[^/ $]+$" }));
    let listed = object(
        &[
            ("http", about("Hosts that it may reach.", hosts)),
            ("reveal", about("Secrets whose text it may read.", one_or_several(names()))),
        ],
        &[],
    );
    let mut listed = listed;
    listed["minProperties"] = 1.into();
    listed["maxProperties"] = 1.into();
    let plain = words(&["sandboxes", "images", "volumes", "repos", "scratch"]);
    json!({ "type": "array", "items": { "anyOf": [plain, listed] } })
}

pub(super) fn sandboxes() -> Value {
    let required: Vec<_> = REQUIRE.known.iter().map(|key| (key.name, required(key))).collect();
    let image = keyed(&[&IMAGE], &[("ref", text()), ("fallback", text())], &["ref"]);
    let sandbox = keyed(
        &[&SANDBOX],
        &[
            ("image", json!({ "anyOf": [text(), image], "default": "host" })),
            ("volumes", map(json!({ "pattern": "^/" }), text())),
            ("env", map(json!({ "pattern": "^[^=]+$" }), text())),
            ("cpu", above_nothing(literal(&Type::Float))),
            ("memory", literal(&Type::Size)),
            ("disk", literal(&Type::Size)),
            ("network", {
                let mut reach = network();
                reach["default"] = "none".into();
                reach
            }),
            ("timeout", literal(&Type::Duration)),
            ("workdir", text()),
            ("user", text()),
            ("keep", literal(&Type::Bool)),
            ("require", keyed(&[&REQUIRE], &required, &[])),
        ],
        &[],
    );
    map(names(), sandbox)
}

/// The words of a key of `require`.
fn required(key: &Key) -> Value {
    key.shapes
        .iter()
        .find_map(|shape| if let Shape::Words(all) = shape { Some(words(all)) } else { None })
        .unwrap_or_default()
}

/// `network:`, of a sandbox and of a step.
pub(super) fn network() -> Value {
    let domain = json!({ "type": "string", "pattern": r"^[^/ $]+$" });
    let allowed = keyed(&[&NETWORK], &[("allow", one_or_several(domain))], &["allow"]);
    json!({ "anyOf": [words(&["none", "host"]), allowed] })
}

fn above_nothing(mut schema: Value) -> Value {
    schema["exclusiveMinimum"] = 0.into();
    schema
}
