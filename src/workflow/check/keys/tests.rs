//! The tables are in order, and the reference of the language describes each key of them.

use super::*;
use crate::workflow::check::WORKFLOW;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Every table that can be reached from the root, each once.
fn tables() -> Vec<&'static Keys> {
    fn visit(shapes: &'static [Shape], found: &mut Vec<&'static Keys>) {
        for shape in shapes {
            match shape {
                Shape::Keys(keys) if found.iter().all(|known| !std::ptr::eq(*known, *keys)) => {
                    found.push(keys);
                    keys.known.iter().for_each(|key| visit(key.shapes, found));
                }
                Shape::Kinds(kinds) => {
                    let new: Vec<_> = kinds
                        .iter()
                        .filter(|keys| found.iter().all(|known| !std::ptr::eq(*known, **keys)))
                        .collect();
                    found.extend(new.iter().copied());
                    new.iter().for_each(|keys| keys.known.iter().for_each(|key| visit(key.shapes, found)));
                }
                Shape::Named(shapes) | Shape::List(shapes) | Shape::Items(shapes) => visit(shapes, found),
                _ => {}
            }
        }
    }
    let mut found = vec![&WORKFLOW];
    WORKFLOW.known.iter().for_each(|key| visit(key.shapes, &mut found));
    found
}

#[test]
fn what_comes_later_or_has_no_place_is_no_key() {
    for keys in tables() {
        for name in keys.near.iter().chain(keys.later) {
            assert!(keys.find(name).is_none(), "`{name}` of {} is known too", keys.what);
        }
    }
}

#[test]
fn every_key_is_written_once_and_says_what_it_is_for() {
    let tables = tables();
    for key in ["attempts", "parallel", "on-timeout", "bypass", "cron", "hmac-sha256", "limit", "allow"] {
        assert!(tables.iter().any(|keys| keys.find(key).is_some()), "`{key}` is reached");
    }
    for keys in tables {
        for key in keys.known {
            let place = format!("`{}` of {}", key.name, keys.what);
            assert!(key.doc.ends_with('.') && key.doc.len() > 10, "{place} has no sentence");
            assert!(!key.shapes.is_empty(), "{place} has no shape");
            assert_eq!(keys.names().filter(|name| *name == key.name).count(), 1, "{place}");
        }
    }
}

const REFERENCE: &str = include_str!("../../../../docs/workflows.md");

#[test]
fn every_key_is_described_in_the_reference() {
    let rows: BTreeSet<&str> = REFERENCE
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .flat_map(|code| code.split(':').next())
        .collect();
    for keys in tables() {
        for key in keys.names() {
            let nested = ["hmac-sha256", "window", "keep"].contains(&key);
            let described = rows.contains(key) || nested && REFERENCE.contains(&format!("`{key}`"));
            assert!(
                described || REFERENCE.contains(&format!("`{{ {key}: SECRET }}`")),
                "no table of docs/workflows.md has the key `{key}` of {}",
                keys.what
            );
        }
    }
}

#[test]
fn every_refused_key_is_named_in_the_reference() {
    let mut table = String::from("| in | refused |\n|---|---|\n");
    for keys in tables().iter().filter(|keys| !keys.later.is_empty()) {
        let listed: Vec<_> = keys.later.iter().map(|key| format!("`{key}`")).collect();
        writeln!(table, "| {} | {} |", keys.what, listed.join(", ")).unwrap();
    }
    let (_, rest) = REFERENCE.split_once("<!-- refused -->\n").unwrap();
    let (said, _) = rest.split_once("<!-- end of refused -->").unwrap();
    assert!(said == table, "docs/workflows.md must say which keys are refused:\n{table}");
}
