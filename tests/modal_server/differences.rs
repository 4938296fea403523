//! What harvest and Modal's client send differently, held against `differences.md`, which says why.

use crate::sent::{Sent, choices};
use crate::{judge, ours};
use std::collections::BTreeSet;

const LISTED: &str = include_str!("differences.md");

/// The rows of the table: call, who, what, why.
fn listed() -> BTreeSet<String> {
    let rows = LISTED.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells: Vec<_> =
            row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let [call, who, what, why] = &*cells else { panic!("a row has four cells: {row}") };
        assert!(!why.is_empty(), "{row} says no reason");
        format!("{call}: {who} alone: {what}")
    })
    .collect()
}

#[test]
fn every_difference_is_listed_with_its_reason_and_no_other() {
    let (ours, theirs) = (ours::calls(), judge::calls());
    let mut found = Sent::differences(&Sent::of(&ours), &Sent::of(theirs));
    let unheard = choices(&ours);
    let unheard = unheard.difference(&choices(theirs)).cloned().collect::<Vec<_>>();
    found.extend(unheard.into_iter().filter_map(|choice| {
        let (call, what) = choice.split_once(": ")?;
        Some(format!("{call}: ours alone: value {what}"))
    }));
    let listed = listed();
    let missing: Vec<_> = found.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "not listed: {missing:#?}\nlisted, and no longer there: {gone:#?}"
    );
}
