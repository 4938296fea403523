//! The keys of the language: one table for each kind of mapping. The checker, editors and the JSON Schema all read these,
//! so a key is added here and nowhere else.

mod answer;
mod declare;
mod step;
mod trigger;

pub(crate) use answer::{ANSWER, ERROR};
pub(crate) use declare::{FIELD, IMAGE, INPUT, NETWORK, PERMISSIONS, REQUIRE, SANDBOX, SECRET, TYPES};
pub(crate) use step::{
    APPROVAL, APPROVE, BACKOFF, CACHE, CALL, CONCURRENCY, EACH, JITTER, LOOP, ON_CONFLICT, ON_FAILURE,
    ON_TIMEOUT, RESUME, RETRY, SUB_WORKFLOW,
};
pub(crate) use trigger::{CATCHUP, COMPLETION, KEEP, ON, OVERLAP, SCHEDULE, STATUSES, VERIFY, WEBHOOK};

use super::keys::{Key, Keys, Shape};
use declare::PERMISSION;
use step::STEPS;

/// The keys of a workflow file, and through them the whole grammar.
pub(crate) static WORKFLOW: Keys = Keys {
    what: "a workflow",
    known: &[
        Key::new(
            "harvest",
            "The version of the grammar that the file is written in.",
            &[Shape::Words(&["1"])],
        ),
        Key::new(
            "name",
            "The name of the workflow, in lower case with hyphens: `harvest runs` shows it.",
            &[Shape::Text],
        ),
        Key::new("description", "What the workflow is for.", &[Shape::Text]),
        Key::new(
            "on",
            "What starts runs by itself while `harvest serve` runs: times, requests, and the ends of other workflows' runs.",
            &[Shape::Keys(&ON)],
        ),
        Key::new(
            "inputs",
            "What a run is started with, by name; steps read it as `${{ inputs.NAME }}`.",
            &[Shape::Named(&[Shape::Words(&TYPES), Shape::Keys(&INPUT)])],
        ),
        Key::new(
            "secrets",
            "Credentials by name, and where each comes from; steps are given them by `secrets: { slot: name }`.",
            &[Shape::Named(&[Shape::Keys(&SECRET)])],
        ),
        Key::new(
            "concurrency",
            "How many runs of one group may be at work at once.",
            &[Shape::Keys(&CONCURRENCY)],
        ),
        Key::new(
            "timeout",
            "How long the whole run may take; `finally` has its own five minutes.",
            &[Shape::Duration],
        ),
        Key::new(
            "budget",
            "What a run may spend on models in all, such as `5 USD`; it is stopped in the middle of an answer that goes beyond.",
            &[Shape::Money],
        ),
        Key::new("permissions", "Powers beyond its sandbox that every step is granted.", PERMISSION),
        Key::new(
            "sandboxes",
            "Where steps work, by name; a workflow that declares none has one, of image `host` and without a network.",
            &[Shape::Named(&[Shape::Keys(&SANDBOX)])],
        ),
        Key::new("steps", "What is done, by name; references and `needs` order it.", STEPS),
        Key::new("finally", "Steps that run once the others have ended, however they ended.", STEPS),
        Key::new("outputs", "What the run returns, by name.", &[Shape::Named(&[Shape::Value])]),
    ],
    near: &[],
    later: &["env", "defaults", "version"],
};
