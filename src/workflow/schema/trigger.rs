//! `on:`, what starts runs without anybody asking.

use super::build::{bare, count, keyed, literal, map, names, one_or_several, text, words, words_or};
use crate::workflow::check::grammar::{
    CATCHUP, COMPLETION, KEEP, ON, OVERLAP, SCHEDULE, STATUSES, VERIFY, WEBHOOK,
};
use crate::workflow::types::Type::Duration;
use serde_json::{Value, json};

/// Most failures in a row that a schedule may wait for.
const MAX_FAILURES: u32 = 1_000;

pub(super) fn on() -> Value {
    let list = |item: Value| json!({ "type": "array", "items": item });
    keyed(
        &[&ON],
        &[("schedule", list(schedule())), ("webhook", list(webhook())), ("workflow", list(completion()))],
        &[],
    )
}

fn id() -> Value {
    json!({ "type": "string", "pattern": "^[a-z][a-z0-9_-]{0,63}$" })
}

fn inputs() -> Value {
    map(names(), json!({}))
}

fn schedule() -> Value {
    let catchup =
        keyed(&[&CATCHUP], &[("window", literal(&Duration)), ("keep", words_or(&KEEP, "latest"))], &[]);
    let mut schema = keyed(
        &[&SCHEDULE],
        &[
            ("id", id()),
            ("every", literal(&Duration)),
            ("offset", literal(&Duration)),
            ("cron", json!({ "type": "string" })),
            ("time-zone", text()),
            ("jitter", literal(&Duration)),
            ("overlap", words_or(&OVERLAP, "skip")),
            ("catchup", catchup),
            ("pause-after-failures", count(MAX_FAILURES)),
            ("inputs", inputs()),
        ],
        &["id"],
    );
    schema["anyOf"] = json!([{ "required": ["every"] }, { "required": ["cron"] }]);
    schema["dependencies"] = json!({ "offset": ["every"], "time-zone": ["cron"] });
    schema
}

fn webhook() -> Value {
    let verify = keyed(&[&VERIFY], &[("hmac-sha256", names())], &["hmac-sha256"]);
    keyed(
        &[&WEBHOOK],
        &[
            ("id", id()),
            ("path", json!({ "type": "string", "pattern": "^/hooks/" })),
            ("verify", verify),
            ("if", bare()),
            ("inputs", inputs()),
        ],
        &["id", "path", "verify"],
    )
}

fn completion() -> Value {
    keyed(
        &[&COMPLETION],
        &[
            ("name", json!({ "type": "string" })),
            ("status", one_or_several(words(&STATUSES))),
            ("inputs", inputs()),
        ],
        &["name"],
    )
}
