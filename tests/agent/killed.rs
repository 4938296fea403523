//! harvest killed in the middle of every step of a session, and resumed.

use crate::harness::repository::git;
use crate::harness::{Running, text};
use crate::world::{assert_nothing_left, home, repository, session, start_and_ask, word};
use scripted_api::{Reply, Script, Server};
use serde_json::json;
use std::path::PathBuf;

const STEPS: [&str; 6] = ["clone", "memory", "identity", "agent", "commit", "remember"];

fn script(repository: &str, entity: &str) -> Script {
    let entity = json!({ "name": entity, "entityType": "note", "observations": ["seen"] });
    Script::turns([
        Reply::tool(
            "Write",
            json!({ "file_path": format!("/workspace/{repository}/new.txt"), "content": "new" }),
        ),
        Reply::tool("mcp__memory__create_entities", json!({ "entities": [entity] })),
        Reply::text("Add new.txt"),
    ])
}

/// Kills harvest in a step, resumes, and holds what must hold.
fn killed_in(step: &str) {
    let (name, entity) = (word(), word());
    let path: PathBuf = repository(&name, &[("a.txt", "a\n")]);
    let api = Server::start(script(&name, &entity)).unwrap();
    let command = session(&api, path.to_str().unwrap());
    let (mut running, run) = match step {
        // In the middle of it, between two turns of the model.
        "agent" => start_and_ask(command, &api, 2),
        _ => {
            let mut running = Running::of(command);
            let run = running.wait_for("run_started", None)["run"].as_str().unwrap().to_owned();
            (running, run)
        }
    };
    if step != "agent" {
        running.wait_for("step_started", Some(step));
    }
    running.kill();
    let before = home().json(&["show", &run, "--json"]);

    let mut command = home().harvest();
    command.env("ANTHROPIC_BASE_URL", api.url()).env("ANTHROPIC_API_KEY", "key-of-the-operator");
    let resumed = command.arg("resume").output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{step}: {}", text(&resumed.stderr));
    let after = home().json(&["show", &run, "--json"]);
    assert_eq!(after["state"], "succeeded", "{step}: {after}");
    for (id, earlier) in before["steps"].as_object().unwrap() {
        if earlier["state"] == "succeeded" {
            assert_eq!(&after["steps"][id], earlier, "killed in {step}, finished {id} was repeated");
        }
    }
    let branch = format!("harvest/{run}");
    assert_eq!(git(&path, &["rev-list", "--count", &format!("main..{branch}")]), "1", "{step}");
    assert_eq!(git(&path, &["show", &format!("{branch}:new.txt")]), "new");
    assert_nothing_left(&run);
}

#[test]
fn a_session_killed_in_any_step_goes_on_and_ends_well() {
    // One after the other: `harvest resume` takes whatever nobody drives.
    for step in STEPS {
        killed_in(step);
    }
}
