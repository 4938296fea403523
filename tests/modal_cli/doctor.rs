//! `harvest doctor --modal`, with a server that answers and with one that does not.

use crate::harness::text;
use crate::served::Served;
use serde_json::Value;
use std::process::Command;

/// The probes of Modal, as `(name, ok, detail)`, and the exit code.
fn probes(mut command: Command, arguments: &[&str]) -> (Vec<(String, bool, String)>, Option<i32>) {
    let output = command.args(["doctor", "--modal", "--json"]).args(arguments).output().expect("it runs");
    let all: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    let word = |probe: &Value, key: &str| probe[key].as_str().unwrap_or_default().to_owned();
    let all = all.as_array().expect("a list").iter();
    let of_modal = all.map(|probe| (word(probe, "name"), probe["ok"] == true, word(probe, "detail")));
    (of_modal.filter(|(name, ..)| name.starts_with("modal ")).collect(), output.status.code())
}

fn names(probes: &[(String, bool, String)]) -> Vec<&str> {
    probes.iter().map(|(name, ..)| name.as_str()).collect()
}

#[test]
fn it_works_in_a_sandbox_and_leaves_none() {
    let served = Served::new(|server| server);
    let (found, _) = probes(served.harvest(), &[]);
    assert_eq!(names(&found), ["modal credentials", "modal server", "modal image builder"]);
    assert!(found.iter().all(|(_, ok, _)| *ok), "{found:?}");
    assert_eq!(served.asked("SandboxCreateV2").len(), 0);

    let (found, code) = probes(served.harvest(), &["--live"]);
    assert_eq!(names(&found).last(), Some(&"modal sandbox"));
    assert!(found.iter().all(|(_, ok, _)| *ok), "{found:?}");
    assert_eq!(code, Some(0));
    assert_eq!(served.asked("SandboxCreateV2").len(), 1);
    assert_eq!(served.server.running(), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_said_and_what_follows_from_it_is_not() {
    let served = Served::new(|server| server);
    let mut refused = served.harvest();
    refused.env("MODAL_TOKEN_SECRET", "as-wrong");
    let (found, code) = probes(refused, &["--live"]);
    assert_eq!(names(&found), ["modal credentials", "modal server"]);
    assert!(found[1].2.contains("MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"), "{found:?}");
    assert_eq!(code, Some(4));

    let mut alone = served.harvest();
    alone.env("MODAL_SERVER_URL", "http://127.0.0.1:9");
    let (found, _) = probes(alone, &["--live"]);
    assert!(!found[1].1 && found[1].2.contains("127.0.0.1:9"), "{found:?}");
    assert!(!format!("{found:?}").contains("as-test"));
}

/// What `cargo xtask live-modal` runs on Modal itself.
#[test]
fn the_workflow_of_the_live_trial_passes() {
    let served = Served::new(|server| server);
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("xtask/live-modal.yaml");
    let ended = served.run(&file, &[]);
    assert_eq!(ended.code, 0, "{}", ended.said);
    assert_eq!(served.asked("TaskSnapshotFilesystem").len(), 0, "nobody needs its files");
    assert!(ended.last["outputs"]["kernel"].as_str().is_some_and(|kernel| kernel.starts_with("Linux ")));
    assert_eq!(served.server.running(), Vec::<String>::new());
}
