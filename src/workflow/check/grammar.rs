//! The keys of the language: one table for each kind of mapping. The checker, editors and the JSON Schema all read these,
//! so a key is added here and nowhere else.

use super::keys::{Key, Keys, Shape};

/// The keys of a workflow file, and through them the whole grammar.
pub static WORKFLOW: Keys = Keys {
    what: "a workflow",
    known: &[
        Key::new(
            "harvest",
            "The version of the grammar that the file is written in.",
            &[Shape::Words(&["1"])],
        ),
        Key::new("name", "The name of the workflow, in lower case with hyphens.", &[Shape::Text]),
        Key::new("description", "What the workflow is for.", &[Shape::Text]),
        Key::new(
            "inputs",
            "What a run is started with, by name.",
            &[Shape::Named(&[Shape::Words(&TYPES), Shape::Keys(&INPUT)])],
        ),
        Key::new(
            "secrets",
            "Credentials by name, and where each comes from.",
            &[Shape::Named(&[Shape::Keys(&SECRET)])],
        ),
        Key::new(
            "timeout",
            "How long the whole run may take; `finally` has its own five minutes.",
            &[Shape::Duration],
        ),
        Key::new("permissions", "Powers beyond its sandbox that every step is granted.", PERMISSION),
        Key::new("sandboxes", "Where steps work, by name.", &[Shape::Named(&[Shape::Keys(&SANDBOX)])]),
        Key::new("steps", "What is done, by name; references and `needs` order it.", STEPS),
        Key::new("finally", "Steps that run once the others have ended, however they ended.", STEPS),
        Key::new("outputs", "What the run returns, by name.", &[Shape::Named(&[Shape::Value])]),
    ],
    later: &["on", "concurrency", "env", "defaults", "version"],
};

const STEPS: &[Shape] = &[Shape::Named(&[Shape::Keys(&STEP)])];

/// The keys of a step.
pub(super) static STEP: Keys = Keys {
    what: "a step",
    known: &[
        Key::new(
            "uses",
            "The function it calls: `component/function`, or `./file.wasm#function`.",
            &[Shape::Uses],
        ),
        Key::new("with", "The arguments of the function, by parameter.", &[Shape::Arguments]),
        Key::new("sandbox", "The sandbox it works in; needed where there are several.", &[Shape::Sandbox]),
        Key::new(
            "sandboxes",
            "The sandboxes of a function that takes several, by parameter.",
            &[Shape::SandboxParameters],
        ),
        Key::new("secrets", "Which secret each slot of the function receives.", &[Shape::Slots]),
        Key::new(
            "needs",
            "Steps that must have ended well, or been skipped, before it starts; references need no `needs`.",
            &[Shape::List(&[Shape::Step])],
        ),
        Key::new("if", "Runs only where this holds, and is skipped otherwise.", &[Shape::Condition]),
        Key::new("timeout", "How long one attempt may take.", &[Shape::Duration]),
        Key::new(
            "idle-timeout",
            "How long an attempt may say nothing before it is stopped.",
            &[Shape::Duration],
        ),
        Key::new("retry", "When it is tried again, and how often.", &[Shape::Keys(&RETRY)]),
        Key::new(
            "permissions",
            "Powers beyond its sandbox that it is granted; replaces the list at the top.",
            PERMISSION,
        ),
    ],
    later: &[
        "for-each",
        "approve",
        "cache",
        "idempotency-key",
        "continue-on-error",
        "concurrency",
        "env",
        "steps",
        "name",
        "description",
        "run",
    ],
};

/// The keys of `retry`.
pub(super) static RETRY: Keys = Keys {
    what: "`retry`",
    known: &[
        Key::new("attempts", "All attempts, the first one too.", &[Shape::Int]),
        Key::new("backoff", "How long to wait between attempts.", &[Shape::Keys(&BACKOFF)]),
        Key::new(
            "on",
            "Kinds of error that are retried; all but `cancelled` where not given.",
            &[Shape::List(&[Shape::ErrorKind])],
        ),
    ],
    later: &["resume"],
};

/// The keys of `backoff` of `retry`.
pub(super) static BACKOFF: Keys = Keys {
    what: "`backoff`",
    known: &[
        Key::new(
            "first",
            "The wait before the second attempt; one second where not given.",
            &[Shape::Duration],
        ),
        Key::new(
            "factor",
            "Each further wait is this many times the one before; 2 where not given.",
            &[Shape::Float],
        ),
        Key::new("max", "The longest wait; one minute where not given.", &[Shape::Duration]),
        Key::new(
            "jitter",
            "Whether a wait is drawn between zero and its full length, as it is where not given.",
            &[Shape::Words(&JITTER)],
        ),
    ],
    later: &[],
};

/// Whether the wait before an attempt is drawn.
pub(super) const JITTER: [&str; 2] = ["none", "full"];

/// A type, as a word or described.
static TYPE: [Shape; 2] = [Shape::Words(&TYPES), Shape::Keys(&FIELD)];

/// The keys of an input.
pub(super) static INPUT: Keys = Keys {
    what: "an input",
    known: &[
        Key::new("type", "The type of its value.", &[Shape::Words(&TYPES)]),
        Key::new("default", "Its value where none is given; may refer to `run`.", &[Shape::Value]),
        Key::new("optional", "Whether it may be absent.", &[Shape::Bool]),
        Key::new("pattern", "A regular expression that the text must match.", &[Shape::Text]),
        Key::new(
            "min",
            "The least value, or the least length of a text or list.",
            &[Shape::Float, Shape::Duration, Shape::Size],
        ),
        Key::new(
            "max",
            "The greatest value, or the greatest length of a text or list.",
            &[Shape::Float, Shape::Duration, Shape::Size],
        ),
        Key::new("multiline", "Whether a form shows more than one line.", &[Shape::Bool]),
        Key::new("description", "What it is, for whoever starts a run.", &[Shape::Text]),
        Key::new("fields", "The fields of an object, each with its type.", &[Shape::Named(&TYPE)]),
        Key::new("items", "The type of a list's items.", &TYPE),
        Key::new("values", "The words of an enum.", &[Shape::List(&[Shape::Text])]),
    ],
    later: &["secret", "deprecated", "examples"],
};

/// The keys of a described type.
pub(super) static FIELD: Keys = Keys {
    what: "a type",
    known: &[
        Key::new("type", "The type of the value.", &[Shape::Words(&TYPES)]),
        Key::new("optional", "Whether the value may be absent.", &[Shape::Bool]),
        Key::new("description", "What the value is.", &[Shape::Text]),
        Key::new("fields", "The fields of an object, each with its type.", &[Shape::Named(&TYPE)]),
        Key::new("items", "The type of a list's items.", &TYPE),
        Key::new("values", "The words of an enum.", &[Shape::List(&[Shape::Text])]),
    ],
    later: &["default", "pattern", "min", "max"],
};

/// The keys of a secret.
pub(super) static SECRET: Keys = Keys {
    what: "a secret",
    known: &[
        Key::new(
            "from",
            "Where its value is: `env:NAME`, `file:PATH`, `command:PROGRAM ARGS` or `modal:SECRET/KEY`; of a list, the \
             first that has one.",
            &[Shape::List(&[Shape::Text])],
        ),
        Key::new("optional", "Whether a run may start without it.", &[Shape::Bool]),
        Key::new("description", "What it is for.", &[Shape::Text]),
    ],
    later: &[],
};

/// The keys of a sandbox.
pub(super) static SANDBOX: Keys = Keys {
    what: "a sandbox",
    known: &[
        Key::new(
            "image",
            "What its files are at first: the name of an image, or `host` for this machine's own programs.",
            &[Shape::Value, Shape::Keys(&IMAGE)],
        ),
        Key::new(
            "volumes",
            "Files that outlive it: where each is mounted, and which.",
            &[Shape::Named(&[Shape::Value])],
        ),
        Key::new("env", "Variables of everything that runs in it.", &[Shape::Named(&[Shape::Value])]),
        Key::new("cpu", "How many cores it may use.", &[Shape::Float]),
        Key::new("memory", "How much memory it may use.", &[Shape::Size]),
        Key::new(
            "network",
            "What it may reach: `none`, `host`, or named domains.",
            &[Shape::Words(&["none", "host"]), Shape::Keys(&NETWORK)],
        ),
        Key::new("timeout", "How long it may live.", &[Shape::Duration]),
        Key::new("workdir", "Where commands start.", &[Shape::Text]),
        Key::new("user", "Who commands run as.", &[Shape::Text]),
        Key::new("keep", "Whether its files stay after the run.", &[Shape::Bool]),
    ],
    later: &["idle-timeout", "gpu", "region", "secrets", "ports"],
};

/// The keys of an image with a fallback.
pub(super) static IMAGE: Keys = Keys {
    what: "an image",
    known: &[
        Key::new("ref", "The name of the image.", &[Shape::Value]),
        Key::new("fallback", "The image to use where the first does not exist.", &[Shape::Value]),
    ],
    later: &[],
};

/// The keys of a network with an allow-list.
pub(super) static NETWORK: Keys = Keys {
    what: "a network",
    known: &[Key::new(
        "allow",
        "The domains it may reach: `github.com`, `*.example.com`, `host:8080`.",
        &[Shape::List(&[Shape::Text])],
    )],
    later: &["deny"],
};

/// The ambient powers that can be granted.
pub(super) const PERMISSIONS: [&str; 7] =
    ["sandboxes", "images", "volumes", "repos", "scratch", "http", "reveal"];

const PERMISSION: &[Shape] = &[Shape::List(&[Shape::Words(&PERMISSIONS)])];

/// The words for types.
pub(super) const TYPES: [&str; 9] =
    ["string", "int", "float", "bool", "duration", "size", "enum", "list", "object"];
