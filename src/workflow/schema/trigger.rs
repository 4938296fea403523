//! `on:`, what starts runs without anybody asking.

use super::build::{about, bare, count, literal, map, names, object, one_or_several, text, words, words_or};
use crate::workflow::types::Type::Duration;
use serde_json::{Value, json};

/// Most failures in a row that a schedule may wait for.
const MAX_FAILURES: u32 = 1_000;

/// How runs end.
const STATES: [&str; 4] = ["succeeded", "failed", "cancelled", "timed_out"];

pub(super) fn on() -> Value {
    let list = |item: Value| json!({ "type": "array", "items": item });
    about(
        "What starts runs while `harvest serve` runs: times, requests, and the ends of other workflows' runs.",
        object(
            &[
                ("schedule", about("Times at which runs start.", list(schedule()))),
                ("webhook", about("Requests that start runs.", list(webhook()))),
                ("workflow", about("Other workflows whose runs start one of this.", list(completion()))),
            ],
            &[],
        ),
    )
}

fn id() -> Value {
    about(
        "Its name, by which `harvest schedules` and journals know it.",
        json!({ "type": "string", "pattern": "^[a-z][a-z0-9_-]{0,63}$" }),
    )
}

fn inputs(of: &str) -> Value {
    about(&format!("The inputs of its runs, by name{of}."), map(names(), json!({})))
}

fn schedule() -> Value {
    let catchup = object(
        &[
            ("window", about("How late a missed run may still start.", literal(&Duration))),
            (
                "keep",
                about("Which of several missed runs start.", words_or(&["latest", "all", "none"], "latest")),
            ),
        ],
        &[],
    );
    let overlap = ["skip", "buffer-one", "buffer-all", "cancel-other", "allow-all"];
    let mut schema = object(
        &[
            ("id", id()),
            ("every", about("How long from one run to the next, counted from 1970.", literal(&Duration))),
            ("offset", about("How much later than the full interval each run starts.", literal(&Duration))),
            (
                "cron",
                about(
                    "Five fields: minute, hour, day of month, month, day of week.",
                    json!({ "type": "string" }),
                ),
            ),
            (
                "time-zone",
                about("The zone that `cron` is read in, an IANA name such as Europe/Stockholm.", text()),
            ),
            ("jitter", about("Each run starts later by a draw up to this.", literal(&Duration))),
            (
                "overlap",
                about("What happens to a due run while the one before goes on.", words_or(&overlap, "skip")),
            ),
            ("catchup", about("What happens to runs that were missed while nothing ran.", catchup)),
            (
                "pause-after-failures",
                about("Failed runs in a row after which the schedule pauses.", count(MAX_FAILURES)),
            ),
            ("inputs", inputs("")),
        ],
        &["id"],
    );
    schema["anyOf"] = json!([{ "required": ["every"] }, { "required": ["cron"] }]);
    schema["dependencies"] = json!({ "offset": ["every"], "time-zone": ["cron"] });
    schema
}

fn webhook() -> Value {
    let verify = object(
        &[("hmac-sha256", about("The secret that requests are signed with.", names()))],
        &["hmac-sha256"],
    );
    object(
        &[
            ("id", id()),
            (
                "path",
                about(
                    "The path that requests go to, below /hooks/.",
                    json!({ "type": "string", "pattern": "^/hooks/" }),
                ),
            ),
            ("verify", about("How a request proves where it comes from.", verify)),
            ("if", about("Only where this holds, over `event`: an expression without `${{ }}`.", bare())),
            ("inputs", inputs(", with expressions over `event`")),
        ],
        &["id", "path", "verify"],
    )
}

fn completion() -> Value {
    object(
        &[
            ("name", about("The other workflow.", json!({ "type": "string" }))),
            ("status", about("How its run ended; any way where not given.", one_or_several(words(&STATES)))),
            ("inputs", inputs("")),
        ],
        &["name"],
    )
}
