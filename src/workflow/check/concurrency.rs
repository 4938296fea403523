//! `concurrency:`, of a workflow and of steps: how many of one group are at work at once.

use super::grammar::{CONCURRENCY, ON_CONFLICT};
use super::shape;
use super::value::Values;
use crate::workflow::cel::typing::{Names, Usage};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::Entry;
use crate::workflow::model::{Concurrency, OnConflict};
use crate::workflow::types::Type;

/// Most members of a group at work at once; more than a machine carries.
pub(crate) const MAX_IN_GROUP: u32 = 10_000;

const EXAMPLE: &str = "concurrency: { group: \"deploy\", limit: 1 }";

/// Reads `concurrency:`. `None` where it names no group, which is reported.
pub(super) fn concurrency(
    report: &mut Report,
    entry: &Entry,
    names: &Names<'_>,
    usage: &mut Usage,
) -> Option<Concurrency> {
    let entries = shape::mapping(report, entry, EXAMPLE)?;
    let fields = shape::fields(report, entries, &CONCURRENCY);
    let limit = fields.get("limit").and_then(|entry| {
        shape::whole(report, entry, 1..=MAX_IN_GROUP, "it is how many of the group are at work at once")
    });
    let on_conflict = fields.get("on-conflict").and_then(|entry| shape::word(report, entry, &ON_CONFLICT));
    let on_conflict = match on_conflict.as_deref() {
        Some("reject") => OnConflict::Reject,
        Some("cancel-old") => OnConflict::CancelOld,
        _ => OnConflict::Queue,
    };
    let timeout_ms = fields.get("timeout").and_then(|entry| shape::duration(report, entry));
    if let (Some(timeout), Some(conflict), true) =
        (fields.get("timeout"), fields.get("on-conflict"), on_conflict != OnConflict::Queue)
    {
        report
            .add(
                code::CONFLICTING,
                timeout.key_span.clone(),
                "`timeout` bounds the wait in a queue, but nothing is queued here",
            )
            .also(conflict.key_span.clone(), "the other one")
            .help("remove it, or write `on-conflict: queue`");
    }
    let Some(group) = fields.get("group") else {
        report
            .add(code::MISSING_KEY, entry.key_span.clone(), "`concurrency` names no group")
            .help(format!("write `{EXAMPLE}`"));
        return None;
    };
    let mut values = Values { report, names, usage, code: code::BAD_VALUE };
    let group = values.read(&group.value, &Type::String, "`group`")?;
    Some(Concurrency { group, limit: limit.unwrap_or(1), on_conflict, timeout_ms })
}
