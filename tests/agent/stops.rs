//! Sessions that are stopped, or stop themselves, and what they leave behind: nothing.

use crate::harness::processes_with;
use crate::world::{Ended, assert_nothing_left, ended, home, named, prompt_only, run, start_and_ask};
use scripted_api::{Reply, Script, Server};
use serde_json::json;

fn bash(command: &str) -> Reply {
    Reply::tool("Bash", json!({ "command": command, "description": "scripted" }))
}

#[test]
fn harvest_that_is_asked_to_end_ends_its_agent_and_the_agents_tools() {
    let marker = "97531.24";
    let script = Script::turns([bash(&format!("setsid sleep {marker} & sleep {marker}"))]);
    let api = Server::start(script).unwrap();
    let file = prompt_only("terminated", " }");
    let (mut running, run) = start_and_ask(run(&api, "key", &file, &[]), &api, 1);
    home().wait_until_said(&run, marker);
    let pid = running.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let last = running.wait_for("run_finished", None);
    let code = running.child.wait().unwrap().code();
    assert_eq!((last["state"].as_str(), code), (Some("cancelled"), Some(130)), "{last}");
    assert!(last["error"]["message"].as_str().unwrap().contains("SIGTERM"), "{last}");
    assert_eq!(processes_with(marker), Vec::<String>::new());
    assert_nothing_left(&run);
}

#[test]
fn what_an_agent_leaves_running_ends_with_its_step() {
    let marker = "86420.35";
    let script = Script::turns([
        bash(&format!("setsid nohup sleep {marker} >/dev/null 2>&1 & echo started")),
        Reply::tool(
            "Bash",
            json!({ "command": format!("sleep {marker}"), "description": "scripted", "run_in_background": true }),
        ),
        Reply::text("Left running."),
    ]);
    let (ended, _) = ended(script, &prompt_only("background", " }"));
    assert_eq!(ended.code, 0, "{}", ended.said);
    assert_eq!(ended.show()["steps"]["agent"]["outputs"]["result"], "Left running.");
    assert_eq!(processes_with(marker), Vec::<String>::new());
}

#[test]
fn an_agent_that_interrupts_itself_is_no_success() {
    let (ended, _) =
        ended(Script::turns([bash("kill -INT $PPID; sleep 20")]), &prompt_only("interrupted", " }"));
    assert_eq!((ended.code, ended.kind()), (1, "interrupted"), "{}", ended.said);
}

#[test]
fn an_agent_that_terminates_itself_has_crashed() {
    let (ended, _) =
        ended(Script::turns([bash("kill -TERM $PPID; sleep 20")]), &prompt_only("suicide", " }"));
    assert_eq!((ended.code, ended.kind()), (1, "crashed"), "{}", ended.said);
}

#[test]
fn a_step_that_takes_too_long_is_ended() {
    let (ended, _) = ended(named("sleep"), &prompt_only("overtime", " }\n    timeout: 12s"));
    assert_eq!((ended.code, ended.kind()), (6, "timed-out"), "{}", ended.said);
}

#[test]
fn a_session_ends_in_order_before_its_time_is_over() {
    // Of 75 s the session itself takes 55: the interruption and its result come before the host would kill it.
    let (ended, _) = ended(named("sleep"), &prompt_only("closing", " }\n    timeout: 75s"));
    assert_eq!((ended.code, ended.kind()), (6, "timed-out"), "{}", ended.said);
    assert!(ended.message().contains("raise `timeout`"), "{}", ended.message());
}

#[test]
fn a_conversation_that_does_not_exist_is_told() {
    let file = prompt_only("unknown", ", resume: 00000000-0000-4000-8000-000000000000 }");
    let (ended, api) = ended(named("text"), &file);
    assert_eq!((ended.code, ended.kind()), (1, "not-found"), "{}", ended.said);
    assert!(ended.message().contains("there is no transcript of the conversation"), "{}", ended.message());
    assert_eq!(api.turns().len(), 0);
}

#[test]
fn a_run_whose_sandbox_is_lost_says_so() {
    let api = Server::start(named("text")).unwrap();
    let mut command = run(&api, "key", &prompt_only("lost", " }"), &[]);
    command.args(["--inject", "agent=lost"]);
    let ended = Ended::of(command);
    assert_eq!((ended.code, ended.kind()), (4, "sandbox-lost"), "{}", ended.said);
    assert_nothing_left(&ended.run);
}
