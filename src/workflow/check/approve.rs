//! A step that asks a person and waits for the answer.

use super::grammar::{APPROVAL, ON_TIMEOUT};
use super::shape;
use super::value::Values;
use crate::workflow::cel::typing::{Names, Usage};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::Entry;
use crate::workflow::model::{Action, Approval};
use crate::workflow::types::{Field, Type};

const EXAMPLE: &str = "approve: { message: \"Publish?\" }";

/// What steps after it can read: whether it was approved, what the person said, and who it was.
pub(super) fn outputs() -> Vec<Field> {
    let optional = || Type::Option(Box::new(Type::String));
    [("approved", Type::Bool), ("note", optional()), ("by", optional())]
        .map(|(name, ty)| Field { name: name.into(), ty, doc: None })
        .to_vec()
}

/// Checks an approval. `None` where it has no message, which is reported.
pub(super) fn approve(
    report: &mut Report,
    entry: &Entry,
    names: &Names<'_>,
    usage: &mut Usage,
) -> Option<Action> {
    let entries = shape::mapping(report, entry, EXAMPLE)?;
    let fields = shape::fields(report, entries, &APPROVAL);
    let timeout_ms = fields.get("timeout").and_then(|entry| shape::duration(report, entry));
    let mut approve_on_timeout = false;
    if let Some(entry) = fields.get("on-timeout") {
        let word = shape::word(report, entry, &ON_TIMEOUT);
        approve_on_timeout = word.is_some_and(|word| word == "approve");
        if fields.get("timeout").is_none() {
            report
                .add(
                    code::MISSING_KEY,
                    entry.key_span.clone(),
                    "`on-timeout` without a `timeout`: the question waits for ever",
                )
                .help("add `timeout: 24h`, or remove `on-timeout`");
        }
    }
    let Some(message) = fields.get("message") else {
        report
            .add(code::MISSING_KEY, entry.key_span.clone(), "`approve` does not say what is asked")
            .help(format!("write `{EXAMPLE}`"));
        return None;
    };
    let mut values = Values { report, names, usage, code: code::BAD_VALUE };
    let message = values.read(&message.value, &Type::String, "`message`")?;
    Some(Action::Approve(Box::new(Approval { message, timeout_ms, approve_on_timeout })))
}
