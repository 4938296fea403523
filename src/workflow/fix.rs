//! Makes the changes that diagnostics propose, in a text. Never makes a file worse: what a change does is found by
//! checking again. Pure: whoever asks writes the file.

use super::check::{Checked, check};
use super::diagnostic::{Diagnostic, Severity, Source};
use super::types::Catalog;
use std::ops::Range;

/// Rounds of changes, each for what the round before has revealed. A typing error hides one or two others, not ten.
const MAX_ROUNDS: usize = 10;

/// One change, on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The line, from 1. No change adds or removes lines.
    pub line: usize,
    /// What stood there.
    pub old: String,
    /// What stands there now.
    pub new: String,
}

/// A text after its changes.
#[derive(Debug)]
pub struct Fixed {
    /// The text.
    pub text: String,
    /// What was changed, in order.
    pub changes: Vec<Change>,
    /// How many proposed changes were not made because they leave more mistakes than there were.
    pub refused: usize,
    /// What the checker says of the text.
    pub checked: Checked,
}

/// Makes every change that leads to no more errors than there were.
pub fn fix(file_name: &str, text: &str, catalog: &dyn Catalog) -> Fixed {
    let check = |text: &str| check(file_name, text, catalog);
    let start = Fixed { text: text.to_owned(), changes: Vec::new(), refused: 0, checked: check(text) };
    let before = Mistakes::of(&start.checked);
    let together = all_together(start, &check);
    if Mistakes::of(&together.checked).no_worse_than(before) {
        return together;
    }
    // One of the changes does harm. Each is tried by itself, which takes as many checks as there are changes.
    let start = Fixed { text: text.to_owned(), changes: Vec::new(), refused: 0, checked: check(text) };
    one_by_one(start, &check)
}

/// What is counted of a check.
#[derive(Clone, Copy)]
struct Mistakes {
    errors: usize,
    /// Errors of the family E01: they can hide everything else, so that one of them is worse than any other.
    yaml: usize,
}

impl Mistakes {
    fn of(checked: &Checked) -> Self {
        let errors = || checked.diagnostics.iter().filter(|found| found.severity() == Severity::Error);
        Self {
            errors: errors().count(),
            yaml: errors().filter(|found| found.code.id.starts_with("E01")).count(),
        }
    }

    fn no_worse_than(self, before: Self) -> bool {
        self.errors <= before.errors && self.yaml <= before.yaml
    }
}

/// A replacement that can be made in a text.
struct Edit {
    span: Range<usize>,
    new: String,
}

/// The replacements proposed for a text, in order: none overlaps another, none adds or removes a line.
fn edits(source: &Source, diagnostics: &[Diagnostic]) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    let proposed = diagnostics.iter().flat_map(Diagnostic::fixes);
    let mut proposed: Vec<_> = proposed.collect();
    proposed.sort_by_key(|fix| (fix.span.start, fix.span.end));
    for fix in proposed {
        let old = &source.text[fix.span.clone()];
        let one_line = !old.contains(['\n', '\r']) && !fix.replacement.contains(['\n', '\r']);
        let apart = edits.last().is_none_or(|last| last.span.end < fix.span.start.max(1));
        if one_line && apart && old != fix.replacement {
            edits.push(Edit { span: fix.span.clone(), new: fix.replacement.clone() });
        }
    }
    edits
}

fn apply(source: &Source, edits: &[Edit]) -> (String, Vec<Change>) {
    let mut text = String::with_capacity(source.text.len());
    let mut changes = Vec::new();
    let mut at = 0;
    for edit in edits {
        text.push_str(&source.text[at..edit.span.start]);
        text.push_str(&edit.new);
        at = edit.span.end;
        let (line, _) = source.position(edit.span.start);
        let old = source.text[edit.span.clone()].to_owned();
        changes.push(Change { line, old, new: edit.new.clone() });
    }
    text.push_str(&source.text[at..]);
    (text, changes)
}

fn all_together(mut fixed: Fixed, check: &dyn Fn(&str) -> Checked) -> Fixed {
    for _ in 0..MAX_ROUNDS {
        let source = Source::new("", fixed.text.as_str());
        let edits = edits(&source, &fixed.checked.diagnostics);
        if edits.is_empty() {
            break;
        }
        let (text, changes) = apply(&source, &edits);
        fixed.checked = check(&text);
        fixed.text = text;
        fixed.changes.extend(changes);
    }
    fixed
}

fn one_by_one(mut fixed: Fixed, check: &dyn Fn(&str) -> Checked) -> Fixed {
    for _ in 0..MAX_ROUNDS {
        let proposed = edits(&Source::new("", fixed.text.as_str()), &fixed.checked.diagnostics);
        let made = fixed.changes.len();
        fixed.refused = 0;
        // From the end, so that the places before stay where they are.
        for edit in proposed.into_iter().rev() {
            let (text, changes) = apply(&Source::new("", fixed.text.as_str()), &[edit]);
            let checked = check(&text);
            if Mistakes::of(&checked).no_worse_than(Mistakes::of(&fixed.checked)) {
                fixed.text = text;
                fixed.checked = checked;
                fixed.changes.extend(changes);
            } else {
                fixed.refused += 1;
            }
        }
        fixed.changes[made..].reverse();
        if fixed.changes.len() == made {
            break;
        }
    }
    fixed
}

#[cfg(test)]
mod tests;
