//! How long attempts may take, and when another one follows.

use super::grammar::{BACKOFF, JITTER, RESUME, RETRY};
use super::shape::{self, Fields};
use crate::step::ErrorKind;
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::Entry;
use crate::workflow::model::{Attempts, Retry};
use crate::workflow::suggest;
use crate::workflow::types::Type;
use std::ops::Range;

/// Most attempts of one step; beyond that a schedule is what is meant.
pub(crate) const MAX_ATTEMPTS: u32 = 100;

/// The output by which a function says that it holds a conversation, and goes on with it in another attempt.
pub(super) const CONVERSATION: &str = "session_id";

/// `timeout`, `idle-timeout` and `retry` of a step. `own` are the kinds of error that `who` raises by itself; `None`
/// where they are not known, for a reason that is reported. `converses` says whether it has [`CONVERSATION`].
pub(super) fn attempts(
    report: &mut Report,
    fields: &Fields<'_>,
    who: &str,
    own: Option<&[ErrorKind]>,
    converses: bool,
) -> Attempts {
    Attempts {
        timeout_ms: fields.get("timeout").and_then(|entry| shape::duration(report, entry)),
        idle_timeout_ms: fields.get("idle-timeout").and_then(|entry| shape::duration(report, entry)),
        retry: fields.get("retry").map(|entry| retry(report, entry, who, own, converses)).unwrap_or_default(),
    }
}

/// When another attempt follows. `own` are the kinds of error that `who` raises by itself; `None` where they are not
/// known, for a reason that is reported.
fn retry(report: &mut Report, entry: &Entry, who: &str, own: Option<&[ErrorKind]>, converses: bool) -> Retry {
    const EXAMPLE: &str = "retry: { attempts: 3 }";
    let mut retry = Retry::default();
    let Some(entries) = shape::mapping(report, entry, EXAMPLE) else { return retry };
    let fields = shape::fields(report, entries, &RETRY);
    match fields.get("attempts") {
        Some(entry) => {
            let help = "it counts all attempts, the first one too";
            if let Some(attempts) = shape::whole(report, entry, 1..=MAX_ATTEMPTS, help) {
                retry.attempts = attempts;
            }
        }
        None => {
            report
                .add(
                    code::MISSING_KEY,
                    entry.key_span.clone(),
                    "`retry` does not say how many attempts there are",
                )
                .help("add `attempts: 3`; it counts the first one too");
        }
    }
    if let Some(entry) = fields.get("backoff")
        && let Some(entries) = shape::mapping(report, entry, "backoff: { first: 2s, factor: 2, max: 30s }")
    {
        let fields = shape::fields(report, entries, &BACKOFF);
        backoff(report, &fields, &mut retry);
    }
    // Nothing is kept of it: whoever holds a conversation goes on with it anyway. It is written to be sure.
    if let Some(entry) = fields.get("resume")
        && shape::word(report, entry, &RESUME).is_some()
        && !converses
    {
        nothing_to_resume(report, entry, who);
    }
    let Some(entry) = fields.get("on") else { return retry };
    for (kind, node) in shape::texts(report, entry, "on: [network]") {
        raisable(report, &node.span, kind, who, own);
        retry.on.push(ErrorKind::new(kind));
    }
    retry
}

/// Reports a `resume` of what holds no conversation.
fn nothing_to_resume(report: &mut Report, entry: &Entry, who: &str) {
    report
        .add(
            code::BAD_VALUE,
            entry.key_span.clone(),
            format!("{who} has no conversation that another attempt could go on with"),
        )
        .help(format!(
            "remove `resume`; it is for steps with an output `{CONVERSATION}`, such as `claude/run`"
        ));
}

/// Reports a kind of error with which `who` cannot fail. `own` are the kinds that it raises by itself; `None` where they
/// are not known.
pub(super) fn raisable(
    report: &mut Report,
    span: &Range<usize>,
    kind: &str,
    who: &str,
    own: Option<&[ErrorKind]>,
) {
    let Some(own) = own else { return };
    let host = ErrorKind::HOST;
    let kinds = || own.iter().chain(&host).map(ErrorKind::as_str);
    if kinds().any(|known| known == kind) {
        return;
    }
    let kinds: Vec<_> = kinds().filter(|kind| *kind != "cancelled").collect();
    report
        .add(code::RETRY_KIND, span.clone(), format!("{who} cannot fail with `{kind}`"))
        .suggest(suggest::help("it can fail with", kind, kinds));
}

fn backoff(report: &mut Report, fields: &Fields<'_>, retry: &mut Retry) {
    if let Some(first) = fields.get("first").and_then(|entry| shape::duration(report, entry)) {
        retry.first_ms = first;
        retry.max_ms = retry.max_ms.max(first);
    }
    if let Some(entry) = fields.get("factor")
        && let Some(factor) = shape::scalar(report, entry, &Type::Float, "2").and_then(|value| value.as_f64())
    {
        if (1.0..=100.0).contains(&factor) {
            retry.factor = factor;
        } else {
            report
                .add(code::BAD_VALUE, entry.value.span.clone(), "`factor` must be from 1 to 100")
                .help("each delay is that many times the one before; `1` keeps it");
        }
    }
    if let Some(entry) = fields.get("max")
        && let Some(max) = shape::duration(report, entry)
    {
        if fields.get("first").is_some() && max < retry.first_ms {
            report
                .add(code::BAD_VALUE, entry.value.span.clone(), "`max` is shorter than `first`")
                .help("swap them");
        }
        retry.max_ms = max;
        retry.first_ms = retry.first_ms.min(max);
    }
    if let Some(entry) = fields.get("jitter") {
        let jitter = Type::Enum(JITTER.map(str::to_owned).to_vec());
        retry.jitter = shape::scalar(report, entry, &jitter, "full").is_none_or(|value| value == "full");
    }
}
