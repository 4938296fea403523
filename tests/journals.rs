//! Journals of earlier versions replay for ever: see `tests/fixtures/journals/README.md`.

mod harness;

use harness::{Home, text};
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// The journals that are kept, with the format that each version wrote.
const VERSIONS: &[(&str, u64)] = &[("v0.1.0", 1)];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/journals")
}

/// A home whose journal is a copy of one that is kept.
fn home_of(version: &str) -> Home {
    let home = Home::new();
    fs::create_dir_all(home.path()).unwrap();
    fs::copy(fixtures().join(version).join("journal.db"), home.path().join("journal.db")).unwrap();
    home
}

fn shown(version: &str) -> Map<String, Value> {
    serde_json::from_str(&fs::read_to_string(fixtures().join(version).join("show.json")).unwrap()).unwrap()
}

#[test]
fn every_kept_journal_is_named_here() {
    let mut found: Vec<String> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('v'))
        .collect();
    found.sort();
    assert_eq!(found, VERSIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

/// What was shown is shown, and is the same. Later versions may show more.
fn assert_holds(found: &Value, expected: &Value, place: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for (key, expected) in expected {
                let found = found.get(key).unwrap_or_else(|| panic!("{place} has no `{key}` any more"));
                assert_holds(found, expected, &format!("{place}.{key}"));
            }
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{place}");
            for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_holds(found, expected, &format!("{place}[{at}]"));
            }
        }
        _ => assert_eq!(found, expected, "{place}"),
    }
}

#[test]
fn runs_of_every_earlier_version_look_as_they_did() {
    for (version, _) in VERSIONS {
        let home = home_of(version);
        let expected = shown(version);
        let listed = home.json(&["runs", "--json"]);
        let mut listed: Vec<&str> =
            listed.as_array().unwrap().iter().map(|row| row["run"].as_str().unwrap()).collect();
        listed.reverse();
        assert_eq!(listed, expected.keys().collect::<Vec<_>>(), "{version}");
        for (run, expected) in &expected {
            let found = home.json(&["show", run, "--json"]);
            assert_holds(&found, expected, &format!("run {run} of {version}"));
            let events = home.run(&["events", run, "--json"]);
            assert_eq!(events.status.code(), Some(0), "{}", text(&events.stderr));
            assert_eq!(home.run(&["show", run]).status.code(), Some(0));
        }
        assert_eq!(home.run(&["journal", "verify"]).status.code(), Some(0));
    }
}

#[test]
fn a_kept_journal_holds_a_run_of_every_kind() {
    // Each kind of event that a binary can write is in the newest of them.
    let (version, _) = VERSIONS.last().unwrap();
    let home = home_of(version);
    let exported = text(&home.run(&["journal", "export", "-"]).stdout);
    let mut kinds: Vec<String> = exported
        .lines()
        .filter_map(|line| {
            Some(serde_json::from_str::<Value>(line).unwrap()["event"]["type"].as_str()?.to_owned())
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "approval_given",
            "approval_requested",
            "cancel_requested",
            "host_lost",
            "loop_started",
            "run_admitted",
            "run_finished",
            "run_queued",
            "run_refused",
            "run_retried",
            "run_started",
            "step_failed",
            "step_queued",
            "step_reused",
            "step_skipped",
            "step_started",
            "step_succeeded",
            "timer_elapsed",
        ]
    );
}

#[test]
fn an_older_journal_is_migrated_and_the_old_one_is_kept() {
    for (version, format) in VERSIONS {
        let home = home_of(version);
        let first = home.run(&["runs"]);
        assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
        let kept = home.path().join(format!("journal.v{format}.db"));
        assert!(text(&first.stderr).contains(&format!("has format {format}")), "{}", text(&first.stderr));
        // The kept one, put back, is a journal like the first.
        let again = Home::new();
        fs::create_dir_all(again.path()).unwrap();
        fs::copy(&kept, again.path().join("journal.db")).unwrap();
        assert_eq!(text(&again.run(&["runs"]).stdout), text(&first.stdout));
        // A run that had not ended goes on where it stood.
        let unfinished = home.json(&["runs", "--state", "waiting", "--json"]);
        let run = unfinished[0]["run"].as_str().unwrap();
        assert_eq!(home.run(&["approve", run, "later"]).status.code(), Some(0));
        let resumed = home.run(&["resume"]);
        assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
        assert_eq!(home.json(&["show", run, "--json"])["state"], "succeeded");
    }
}
