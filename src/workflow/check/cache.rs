//! `cache:` of a call: when the outputs of an earlier call are taken in place of a call.

use super::constant::constant;
use super::grammar::CACHE;
use super::shape;
use super::value::Values;
use crate::workflow::cel::typing::{Names, Usage, Wanted};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Entry, Kind};
use crate::workflow::model::{Cache, Expression};

const EXAMPLE: &str = "cache: { key: [inputs.repo] }";

/// Reads `cache:`. `None` where it has no key, which is reported.
pub(super) fn cache(
    report: &mut Report,
    entry: &Entry,
    names: &Names<'_>,
    usage: &mut Usage,
) -> Option<Cache> {
    let entries = shape::mapping(report, entry, EXAMPLE)?;
    let fields = shape::fields(report, entries, &CACHE);
    let ttl_ms = fields.get("ttl").and_then(|entry| shape::duration(report, entry));
    let bypass = fields.get("bypass").and_then(|entry| bypass(report, entry, names, usage));
    let Some(key) = fields.get("key") else {
        report
            .add(code::MISSING_KEY, entry.key_span.clone(), "`cache` does not say on what the outputs depend")
            .help(format!("write `{EXAMPLE}`, with all that the step's work depends on"));
        return None;
    };
    if matches!(&key.value.kind, Kind::List(items) if items.is_empty()) {
        report
            .add(code::MISSING_KEY, key.value.span.clone(), "the key of the cache is empty")
            .help("name what the step's work depends on, such as `[inputs.repo, steps.head.sha]`");
    }
    let parts = shape::texts(report, key, "key: [inputs.repo]");
    let mut values = Values { report, names, usage, code: code::BAD_VALUE };
    let key = parts.into_iter().map(|(text, node)| values.bare(node, text, Wanted::Anything));
    let key = key.collect::<Vec<_>>().into_iter().collect::<Option<Vec<Expression>>>()?;
    Some(Cache { key, ttl_ms, bypass })
}

fn bypass(report: &mut Report, entry: &Entry, names: &Names<'_>, usage: &mut Usage) -> Option<Expression> {
    let text = shape::text(report, entry, "bypass: inputs.force")?;
    let mut values = Values { report, names, usage, code: code::NOT_BOOL };
    let condition = values.condition(entry, text);
    if let Some(value) = condition.as_ref().and_then(constant) {
        let (message, help) = if value {
            ("this is always true: nothing is ever taken from the cache", "remove `cache`")
        } else {
            ("this is always false: the cache is never passed by", "remove the `bypass`")
        };
        report.add(code::CONSTANT_CONDITION, entry.value.span.clone(), message).help(help);
    }
    condition
}
