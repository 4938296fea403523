//! The keys of what a workflow declares before its steps: inputs, secrets, sandboxes, permissions.

use super::super::keys::{Key, Keys, Shape};
use crate::isolation::{PARTS, PROVIDERS};

/// A type, as a word or described.
static TYPE: [Shape; 2] = [Shape::Words(&TYPES), Shape::Keys(&FIELD)];

/// The keys of an input.
pub(crate) static INPUT: Keys = Keys {
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
    near: &[],
    later: &["secret", "deprecated", "examples"],
};

/// The keys of a described type.
pub(crate) static FIELD: Keys = Keys {
    what: "a type",
    known: &[
        Key::new("type", "The type of the value.", &[Shape::Words(&TYPES)]),
        Key::new("optional", "Whether the value may be absent.", &[Shape::Bool]),
        Key::new("description", "What the value is.", &[Shape::Text]),
        Key::new("fields", "The fields of an object, each with its type.", &[Shape::Named(&TYPE)]),
        Key::new("items", "The type of a list's items.", &TYPE),
        Key::new("values", "The words of an enum.", &[Shape::List(&[Shape::Text])]),
    ],
    near: &[],
    later: &["default", "pattern", "min", "max"],
};

/// The keys of a secret.
pub(crate) static SECRET: Keys = Keys {
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
    near: &[],
    later: &[],
};

/// The keys of a sandbox.
pub(crate) static SANDBOX: Keys = Keys {
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
        Key::new("disk", "How much space its own files may take, without volumes.", &[Shape::Size]),
        Key::new("network", "What it may reach: `none`, `host`, or named domains.", REACH),
        Key::new("timeout", "How long it may live.", &[Shape::Duration]),
        Key::new("workdir", "Where commands start.", &[Shape::Text]),
        Key::new("user", "Who commands run as.", &[Shape::Text]),
        Key::new("keep", "Whether its files stay after the run.", &[Shape::Bool]),
        Key::new(
            "require",
            "How well it must be held in: no run starts where this machine does less.",
            &[Shape::Keys(&REQUIRE)],
        ),
    ],
    near: &[],
    later: &["idle-timeout", "gpu", "region", "secrets", "ports"],
};

/// What stands behind `network`, of a sandbox and of a step.
pub(super) const REACH: &[Shape] = &[Shape::Words(&["none", "host"]), Shape::Keys(&NETWORK)];

/// The keys of `require`. Stronger levels meet weaker ones.
pub(crate) static REQUIRE: Keys = Keys {
    what: "`require`",
    known: &[
        Key::new("provider", "What makes the sandbox.", &[Shape::Words(&PROVIDERS)]),
        Key::new("ids", "How user ids map, at least.", &[Shape::Words(PARTS[0].levels)]),
        Key::new("memory", "What holds `memory` to its limit, at least.", &[Shape::Words(PARTS[1].levels)]),
        Key::new("pids", "What bounds the number of processes, at least.", &[Shape::Words(PARTS[2].levels)]),
        Key::new("disk", "What holds `disk` to its limit, at least.", &[Shape::Words(PARTS[3].levels)]),
        Key::new("cpu", "What holds `cpu` to its limit, at least.", &[Shape::Words(PARTS[4].levels)]),
    ],
    near: &[],
    later: &[],
};

/// The keys of an image with a fallback.
pub(crate) static IMAGE: Keys = Keys {
    what: "an image",
    known: &[
        Key::new("ref", "The name of the image.", &[Shape::Value]),
        Key::new("fallback", "The image to use where the first does not exist.", &[Shape::Value]),
    ],
    near: &[],
    later: &[],
};

/// The keys of a network with an allow-list.
pub(crate) static NETWORK: Keys = Keys {
    what: "a network",
    known: &[Key::new(
        "allow",
        "The domains it may reach: `github.com`, `*.example.com`, `host:8080`.",
        &[Shape::List(&[Shape::Text])],
    )],
    near: &[],
    later: &["deny"],
};

/// The ambient powers that can be granted.
pub(crate) const PERMISSIONS: [&str; 7] =
    ["sandboxes", "images", "volumes", "repos", "scratch", "http", "reveal"];

/// What stands behind `permissions`.
pub(super) const PERMISSION: &[Shape] = &[Shape::Items(&[Shape::Words(&PERMISSIONS)])];

/// The words for types.
pub(crate) const TYPES: [&str; 10] =
    ["string", "int", "float", "bool", "duration", "size", "enum", "list", "object", "json"];
