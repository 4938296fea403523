//! A step: what it does, when, and how often.

use super::build::{about, bare, count, literal, map, names, object, one_or_several, text, words, words_or};
use super::component::Known;
use super::declare;
use super::value::with_holes;
use crate::workflow::types::Type;
use serde_json::{Value, json};

/// Most attempts of one step, as the checker has it.
const MAX_ATTEMPTS: u32 = 100;

/// Most things at once that a limit may allow.
const MAX_AT_ONCE: u32 = 10_000;

/// The ways to say what a step does. Each excludes the others.
const ACTIONS: [&str; 3] = ["uses", "approve", "for-each"];

pub(super) fn step(known: &Known) -> Value {
    let mut schema = object(
        &[
            ("uses", known.uses()),
            (
                "with",
                about(
                    "The arguments of the function, by parameter, or the inputs of the workflow.",
                    map(names(), json!({})),
                ),
            ),
            ("approve", approve()),
            ("for-each", for_each()),
            (
                "steps",
                about(
                    "What is done for each item, by name.",
                    map(names(), json!({ "$ref": "#/definitions/step" })),
                ),
            ),
            ("sandbox", about("The sandbox it works in; needed where the workflow has several.", names())),
            (
                "sandboxes",
                about("The sandboxes of a function that takes several, by parameter.", map(names(), names())),
            ),
            ("secrets", about("Which secret each slot of the function is given.", map(json!({}), names()))),
            (
                "needs",
                about(
                    "Steps that must have ended well, or been skipped, before it starts. A reference orders without it.",
                    one_or_several(names()),
                ),
            ),
            ("if", about("It runs only where this holds: an expression without `${{ }}`.", bare())),
            ("timeout", about("How long one attempt may take.", literal(&Type::Duration))),
            (
                "idle-timeout",
                about("How long an attempt may say nothing before it is stopped.", literal(&Type::Duration)),
            ),
            ("retry", retry(&one_or_several(json!({ "type": "string", "pattern": "^[a-z][a-z0-9-]*$" })))),
            ("continue-on-error", about("Whether the run goes on where it fails.", literal(&Type::Bool))),
            ("concurrency", concurrency("How many steps of one group may be at work at once.")),
            ("cache", cache()),
            (
                "idempotency-key",
                about("Names the side effect, so that whoever carries it out can tell a repetition.", text()),
            ),
            (
                "permissions",
                declare::permissions("What it may do beyond its sandbox; replaces the list at the top."),
            ),
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
    let backoff = object(
        &[
            (
                "first",
                about(
                    "The wait before the second attempt.",
                    with_default(literal(&Type::Duration), "1s".into()),
                ),
            ),
            (
                "factor",
                about(
                    "Each further wait is this many times the one before.",
                    with_default(literal(&Type::Float), 2.into()),
                ),
            ),
            ("max", about("The longest wait.", with_default(literal(&Type::Duration), "1m".into()))),
            (
                "jitter",
                about(
                    "Whether a wait is drawn between zero and its full length.",
                    words_or(&["full", "none"], "full"),
                ),
            ),
        ],
        &[],
    );
    let retry = object(
        &[
            ("attempts", about("How many attempts there are, the first one too.", count(MAX_ATTEMPTS))),
            ("backoff", about("How long to wait between attempts.", backoff)),
            (
                "on",
                about("Kinds of error that are retried; all but `cancelled` where not given.", kinds.clone()),
            ),
            (
                "resume",
                about("What the next attempt goes on with: the agent's session.", words(&["session"])),
            ),
        ],
        &["attempts"],
    );
    about("When and how often it is tried again.", retry)
}

pub(super) fn concurrency(text_of: &str) -> Value {
    let schema = object(
        &[
            ("group", about("The name of the group, mostly with an expression in it.", text())),
            (
                "limit",
                about(
                    "How many of the group may be at work at once.",
                    with_default(count(MAX_AT_ONCE), 1.into()),
                ),
            ),
            (
                "on-conflict",
                about("What happens to one more.", words_or(&["queue", "reject", "cancel-old"], "queue")),
            ),
            ("timeout", about("How long one more waits in the queue.", literal(&Type::Duration))),
        ],
        &["group"],
    );
    about(text_of, schema)
}

fn approve() -> Value {
    let schema = object(
        &[
            ("message", about("What is asked, with expressions.", text())),
            ("timeout", about("How long to wait for the answer.", literal(&Type::Duration))),
            (
                "on-timeout",
                about("What no answer in time means.", words_or(&["reject", "approve"], "reject")),
            ),
        ],
        &["message"],
    );
    about("Asks a person, and waits for the answer.", schema)
}

fn for_each() -> Value {
    let list = with_holes(&Type::List(Box::new(Type::Any)));
    let schema = object(
        &[
            ("item", about("The name by which its steps see the item.", names())),
            ("in", about("The list, mostly an expression.", list)),
            ("key", about("What tells items apart: text over the item, stable from run to run.", text())),
            ("parallel", about("How many items are at work at once.", count(MAX_AT_ONCE))),
            (
                "on-failure",
                about(
                    "What becomes of the others where an item fails.",
                    words_or(&["stop", "continue"], "stop"),
                ),
            ),
        ],
        &["item", "in", "key"],
    );
    about("Does its `steps` once for each item of a list.", schema)
}

fn cache() -> Value {
    let schema = object(
        &[
            (
                "key",
                about("What the outputs depend on: expressions without `${{ }}`.", one_or_several(bare())),
            ),
            ("ttl", about("How long outputs are good for.", literal(&Type::Duration))),
            ("bypass", about("Calls in any case where this holds: an expression without `${{ }}`.", bare())),
        ],
        &["key"],
    );
    about("When the outputs of an earlier call are taken in place of a call.", schema)
}

fn with_default(mut schema: Value, default: Value) -> Value {
    schema["default"] = default;
    schema
}
