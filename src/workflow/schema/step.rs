//! A step: what it does, when, and how often.

use super::build::{
    about, bare, count, doc, keyed, literal, map, names, one_or_several, text, words, words_or,
};
use super::component::Known;
use super::declare;
use super::value::with_holes;
use crate::workflow::check::grammar::{
    APPROVAL, APPROVE, BACKOFF, CACHE, CALL, CONCURRENCY, EACH, JITTER, LOOP, ON_CONFLICT, ON_FAILURE,
    ON_TIMEOUT, RESUME, RETRY,
};
use crate::workflow::check::{MAX_ATTEMPTS, MAX_IN_GROUP, MAX_PARALLEL};
use crate::workflow::types::Type;
use serde_json::{Value, json};

/// The ways to say what a step does. Each excludes the others.
const ACTIONS: [&str; 3] = ["uses", "approve", "for-each"];

pub(super) fn step(known: &Known) -> Value {
    let mut schema = keyed(
        &[&CALL, &APPROVE, &LOOP],
        &[
            ("uses", known.uses()),
            ("with", map(names(), json!({}))),
            ("approve", approve()),
            ("for-each", for_each()),
            ("steps", map(names(), json!({ "$ref": "#/definitions/step" }))),
            ("sandbox", names()),
            ("sandboxes", map(names(), names())),
            ("network", declare::network()),
            ("secrets", map(json!({}), names())),
            ("needs", one_or_several(names())),
            ("if", bare()),
            ("timeout", literal(&Type::Duration)),
            ("idle-timeout", literal(&Type::Duration)),
            ("retry", retry(&one_or_several(json!({ "type": "string", "pattern": "^[a-z][a-z0-9-]*$" })))),
            ("continue-on-error", literal(&Type::Bool)),
            ("concurrency", concurrency()),
            ("cache", cache()),
            ("idempotency-key", text()),
            ("permissions", declare::permissions()),
        ],
        &[],
    );
    let mut rules = vec![
        // A message that names one missing key, rather than all that would do.
        json!({
            "if": { "not": { "anyOf": [{ "required": ["approve"] }, { "required": ["for-each"] }] } },
            "then": { "required": ["uses"] },
        }),
        json!({ "if": { "required": ["for-each"] }, "then": { "required": ["steps"] }, "else": { "properties": { "steps": false } } }),
    ];
    for action in ACTIONS {
        let others = ACTIONS.iter().filter(|other| **other != action);
        let none: serde_json::Map<_, _> = others.map(|other| ((*other).to_owned(), false.into())).collect();
        rules.push(json!({ "if": { "required": [action] }, "then": { "properties": none } }));
    }
    rules.extend(known.rules());
    schema["allOf"] = rules.into();
    schema
}

/// `retry:`, with the schema of the kinds that `on` may name.
pub(super) fn retry(kinds: &Value) -> Value {
    let backoff = keyed(
        &[&BACKOFF],
        &[
            ("first", with_default(literal(&Type::Duration), "1s".into())),
            ("factor", with_default(literal(&Type::Float), 2.into())),
            ("max", with_default(literal(&Type::Duration), "1m".into())),
            ("jitter", words_or(&JITTER, "full")),
        ],
        &[],
    );
    let retry = keyed(
        &[&RETRY],
        &[
            ("attempts", count(MAX_ATTEMPTS)),
            ("backoff", backoff),
            ("on", kinds.clone()),
            ("resume", words(&RESUME)),
        ],
        &["attempts"],
    );
    about(doc(&CALL, "retry"), retry)
}

pub(super) fn concurrency() -> Value {
    keyed(
        &[&CONCURRENCY],
        &[
            ("group", text()),
            ("limit", with_default(count(MAX_IN_GROUP), 1.into())),
            ("on-conflict", words_or(&ON_CONFLICT, "queue")),
            ("timeout", literal(&Type::Duration)),
        ],
        &["group"],
    )
}

fn approve() -> Value {
    keyed(
        &[&APPROVAL],
        &[
            ("message", text()),
            ("timeout", literal(&Type::Duration)),
            ("on-timeout", words_or(&ON_TIMEOUT, "reject")),
        ],
        &["message"],
    )
}

fn for_each() -> Value {
    let list = with_holes(&Type::List(Box::new(Type::Any)));
    keyed(
        &[&EACH],
        &[
            ("item", names()),
            ("in", list),
            ("key", text()),
            ("parallel", count(MAX_PARALLEL)),
            ("on-failure", words_or(&ON_FAILURE, "stop")),
        ],
        &["item", "in", "key"],
    )
}

fn cache() -> Value {
    keyed(
        &[&CACHE],
        &[("key", one_or_several(bare())), ("ttl", literal(&Type::Duration)), ("bypass", bare())],
        &["key"],
    )
}

fn with_default(mut schema: Value, default: Value) -> Value {
    schema["default"] = default;
    schema
}
