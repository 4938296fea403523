//! Conditions that never change, and the steps that never run because of them.

use super::raw::RawStep;
use crate::id::StepId;
use crate::workflow::cel;
use crate::workflow::cel::typing::{self, Names, Usage, Wanted};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::model::{Expression, Step};
use crate::workflow::template;
use indexmap::{IndexMap, IndexSet};
use serde_json::Map;
use std::collections::BTreeSet;

/// Most steps that are shown to follow one that never runs.
const MAX_SHOWN: usize = 8;

/// The value of a condition that reads nothing.
pub(super) fn constant(condition: &Expression) -> Option<bool> {
    let secrets = IndexSet::new();
    let names = Names { run: false, ..Names::new("a constant", &secrets) };
    let mut usage = Usage::default();
    let (_, problems) = typing::check(&condition.0, &names, Wanted::Condition, &mut usage);
    if usage.reads || !problems.is_empty() {
        return None;
    }
    let (empty, secrets) = (Map::new(), BTreeSet::new());
    let scope = cel::Scope {
        inputs: &empty,
        steps: &empty,
        run: &empty,
        secrets: &secrets,
        item: None,
        hashes: None,
    };
    template::condition(condition, &scope).ok()
}

/// Warns of steps whose `if` never changes. Where it is false, what needs the step's outputs never runs either: one
/// mistake, at the `if`.
pub(super) fn conditions(report: &mut Report, raw: &[RawStep<'_>], steps: &IndexMap<StepId, Step>) {
    for raw_step in raw {
        let (Some(step), Some(entry)) = (steps.get(raw_step.id), raw_step.fields.get("if")) else { continue };
        let Some(value) = step.condition.as_ref().and_then(constant) else { continue };
        let (outcome, help) = if value {
            ("always runs", "remove the `if`")
        } else {
            ("is always skipped", "remove the step, or the `if`")
        };
        let message = format!("this is always {value}: the step {outcome}");
        let diagnostic = report.add(code::CONSTANT_CONDITION, entry.value.span.clone(), message);
        diagnostic.help(help);
        if !value {
            for (follower, read) in followers(raw_step.id, steps).into_iter().take(MAX_SHOWN) {
                if let Some(follower) = raw.iter().find(|raw| raw.id == follower) {
                    diagnostic.also(
                        follower.entry.key_span.clone(),
                        format!("never runs either: it reads `{read}`"),
                    );
                }
            }
        }
    }
}

/// The steps that are skipped where `never` is, each with the step that it reads.
fn followers<'s>(never: &'s str, steps: &'s IndexMap<StepId, Step>) -> Vec<(&'s str, &'s str)> {
    let mut found: IndexMap<&str, &str> = IndexMap::from([(never, "")]);
    let mut at = 0;
    while let Some((skipped, _)) = found.get_index(at).map(|(skipped, read)| (*skipped, *read)) {
        at += 1;
        for (id, step) in steps {
            let depends = step.reads.iter().any(|read| !read.tolerant && read.step.as_str() == skipped);
            if depends && !found.contains_key(id.as_str()) {
                found.insert(id.as_str(), skipped);
            }
        }
        if found.len() > MAX_SHOWN {
            break;
        }
    }
    found.into_iter().skip(1).collect()
}
