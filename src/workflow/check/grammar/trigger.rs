//! The keys of `on`, by which runs start by themselves.

use super::super::keys::{Key, Keys, Shape};

const ID: Key = Key::new(
    "id",
    "Its name, in lower case with hyphens, by which what is shown of it calls it.",
    &[Shape::Text],
);

/// The keys of `on`.
pub(crate) static ON: Keys = Keys {
    what: "`on`",
    known: &[
        Key::new("schedule", "Times at which runs start.", &[Shape::Items(&[Shape::Keys(&SCHEDULE)])]),
        Key::new("webhook", "Requests that start runs.", &[Shape::Items(&[Shape::Keys(&WEBHOOK)])]),
        Key::new(
            "workflow",
            "Other workflows whose runs start one of this.",
            &[Shape::Items(&[Shape::Keys(&COMPLETION)])],
        ),
    ],
    near: &[],
    later: &["push", "pull-request", "file"],
};

/// The keys of a schedule.
pub(crate) static SCHEDULE: Keys = Keys {
    what: "a schedule",
    known: &[
        ID,
        Key::new("every", "How long from one run to the next, counted from 1970.", &[Shape::Duration]),
        Key::new("cron", "Five fields: minute, hour, day of month, month, day of week.", &[Shape::Text]),
        Key::new(
            "time-zone",
            "The zone that `cron` is read in, an IANA name such as Europe/Stockholm.",
            &[Shape::Text],
        ),
        Key::new("offset", "How much later than the full interval each run starts.", &[Shape::Duration]),
        Key::new("jitter", "Each run starts later by a draw up to this.", &[Shape::Duration]),
        Key::new(
            "overlap",
            "What happens to a due run while the one before goes on; it is skipped where not given.",
            &[Shape::Words(&OVERLAP)],
        ),
        Key::new(
            "catchup",
            "What happens to runs that were missed while nothing ran.",
            &[Shape::Keys(&CATCHUP)],
        ),
        Key::new(
            "pause-after-failures",
            "Failed runs in a row after which the schedule pauses.",
            &[Shape::Int],
        ),
        Key::new("inputs", "The inputs of its runs, by name.", &[Shape::Inputs]),
    ],
    near: &[],
    later: &["start", "end", "timezone"],
};

/// What happens to a due run while the one before goes on.
pub(crate) const OVERLAP: [&str; 5] = ["skip", "buffer-one", "buffer-all", "cancel-other", "allow-all"];

/// The keys of `catchup` of a schedule.
pub(crate) static CATCHUP: Keys = Keys {
    what: "`catchup`",
    known: &[
        Key::new(
            "window",
            "How late a missed run may still start; an hour where not given.",
            &[Shape::Duration],
        ),
        Key::new(
            "keep",
            "Which of several missed runs start; the latest where not given.",
            &[Shape::Words(&KEEP)],
        ),
    ],
    near: &[],
    later: &[],
};

/// Which of several missed runs start.
pub(crate) const KEEP: [&str; 3] = ["latest", "all", "none"];

/// The keys of a webhook.
pub(crate) static WEBHOOK: Keys = Keys {
    what: "a webhook",
    known: &[
        ID,
        Key::new("path", "The path that requests go to, below `/hooks/`.", &[Shape::Text]),
        Key::new("verify", "How a request proves where it comes from.", &[Shape::Keys(&VERIFY)]),
        Key::new(
            "if",
            "Only where this holds, over `event`: an expression without `${{ }}`.",
            &[Shape::Expression],
        ),
        Key::new(
            "inputs",
            "The inputs of its runs, by name, with expressions over `event`.",
            &[Shape::Inputs],
        ),
    ],
    near: &[],
    later: &["method", "schema"],
};

/// The keys of `verify` of a webhook.
pub(crate) static VERIFY: Keys = Keys {
    what: "`verify`",
    known: &[Key::new("hmac-sha256", "The secret that requests are signed with.", &[Shape::Secret])],
    near: &[],
    later: &["hmac-sha1", "bearer", "none"],
};

/// The keys of a trigger by another workflow.
pub(crate) static COMPLETION: Keys = Keys {
    what: "a trigger by another workflow",
    known: &[
        Key::new("name", "The other workflow, as its `name` has it.", &[Shape::Text]),
        Key::new(
            "status",
            "How its run ended; any way where not given.",
            &[Shape::List(&[Shape::Words(&STATUSES)])],
        ),
        Key::new("inputs", "The inputs of its runs, by name.", &[Shape::Inputs]),
    ],
    near: &[],
    later: &["if"],
};

/// How runs end, as `run.status` has it.
pub(crate) const STATUSES: [&str; 4] = ["succeeded", "failed", "cancelled", "timed_out"];
