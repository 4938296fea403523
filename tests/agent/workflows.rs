//! The workflows that ship beside the agent session: each does what it says, and says so where it cannot.

use crate::harness::repository::git;
use crate::world::{Ended, home, repository, run, shipped, word};
use scripted_api::{Reply, Script, Server};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const TEST: &str = "echo looked; test \"$(cat answer.txt)\" = 42";

fn bash(command: &str) -> Reply {
    Reply::tool("Bash", json!({ "command": command, "description": "scripted" }))
}

/// `fix-failing-tests` on a repository whose answer is this, with an agent that runs one command and then says `words`.
fn fix(answer: &str, command: &'static str, words: &'static str) -> (Ended, Server, PathBuf) {
    let path = repository(&word(), &[("answer.txt", answer)]);
    let api = Server::start(Script::turns([bash(command), Reply::text(words)])).unwrap();
    let inputs = [("repo", path.to_str().unwrap()), ("test", TEST)];
    let ended = Ended::of(run(&api, "key-of-the-operator", &shipped("fix-failing-tests.yaml"), &inputs));
    (ended, api, path)
}

#[test]
fn failing_tests_are_repaired_and_the_repair_is_committed() {
    let (ended, api, path) = fix("41\n", "echo 42 > answer.txt", "Correct the answer");
    assert_eq!(ended.code, 0, "{}", ended.said);
    assert_eq!(git(&path, &["show", &format!("{}:answer.txt", ended.branch())]), "42");
    let outputs = &ended.last["outputs"];
    assert_eq!(
        (&outputs["failed_before"], &outputs["summary"]),
        (&json!(true), &json!("Correct the answer"))
    );
    assert!(api.turns()[0].mentions("looked"), "the agent was not told what the tests said");
}

#[test]
fn a_repair_that_does_not_pass_the_tests_is_no_repair() {
    let (ended, _, path) = fix("41\n", "echo 43 > answer.txt", "Everything is fine now");
    assert_eq!((ended.code, ended.kind()), (1, "exited"), "{}", ended.said);
    let shown = ended.show();
    assert_eq!(shown["steps"]["commit"]["state"], "pending");
    // What it tried is kept all the same.
    assert_eq!(git(&path, &["show", &format!("{}:answer.txt", ended.branch())]), "43");
    assert!(git(&path, &["log", "-1", "--format=%s", &ended.branch()]).starts_with("wip"));
}

#[test]
fn tests_that_pass_cost_nothing() {
    let (ended, api, path) = fix("42\n", "false", "unused");
    assert_eq!(ended.code, 0, "{}", ended.said);
    let outputs = &ended.last["outputs"];
    assert_eq!((&outputs["failed_before"], &outputs["sha"]), (&json!(false), &Value::Null));
    assert_eq!(api.turns().len(), 0, "the model was asked");
    assert_eq!(git(&path, &["branch", "--list", &ended.branch()]), "");
}

#[test]
fn a_review_sees_what_the_branch_changes_and_nothing_else() {
    let path = repository(&word(), &[("a.txt", "a\n")]);
    let commit = |file: &str, content: &str| {
        std::fs::write(path.join(file), content).unwrap();
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-qm", file]);
    };
    git(&path, &["checkout", "-qb", "feature"]);
    commit("feature.txt", "new in the feature\n");
    git(&path, &["checkout", "-q", "main"]);
    commit("later.txt", "new on main\n");
    let api = Server::start(Script::new(|turn| match turn.number {
        0 => bash("git diff review-base...HEAD"),
        _ => Reply::text("## Review\n\nfeature.txt:1: nothing to object to."),
    }))
    .unwrap();
    let inputs =
        [("repo", path.to_str().unwrap()), ("head", "feature"), ("instructions", "Mind the spelling.")];
    let ended = Ended::of(run(&api, "key-of-the-operator", &shipped("review-pull-request.yaml"), &inputs));
    assert_eq!(ended.code, 0, "{}", ended.said);
    let outputs = &ended.last["outputs"];
    assert!(outputs["review"].as_str().unwrap().starts_with("## Review"), "{outputs}");
    assert!(outputs["changes"].as_str().unwrap().contains("1 file changed"), "{outputs}");
    let last = api.turns().pop().unwrap();
    assert!(last.mentions("new in the feature") && last.mentions("Mind the spelling."));
    assert!(!last.mentions("new on main"), "what main gained is no part of the branch");
    // The sandbox had nothing to write to but its own tree.
    assert_eq!(git(&path, &["branch", "--list", "harvest/*"]), "");
    assert!(!Path::new(&home().path()).join("sandboxes").join(format!("{}-box", ended.run)).exists());
}
