//! The keys of a file of answers that stand in for steps.

use super::super::keys::{Key, Keys, Shape};

/// The keys of an answer.
pub(crate) static ANSWER: Keys = Keys {
    what: "an answer",
    known: &[
        Key::new("outputs", "What the step returns, by output.", &[Shape::Named(&[Shape::Value])]),
        Key::new("error", "How the step fails.", &[Shape::Keys(&ERROR)]),
    ],
    near: &[],
    later: &[],
};

/// The keys of `error` of an answer.
pub(crate) static ERROR: Keys = Keys {
    what: "`error`",
    known: &[
        Key::new("kind", "The kind of error, as `retry` names it.", &[Shape::ErrorKind]),
        Key::new("message", "What went wrong, in a sentence.", &[Shape::Text]),
    ],
    near: &[],
    later: &[],
};
