//! Sessions that go wrong. Each ends in bounded time with the right kind, exit code and one sentence, and leaves nothing.

use crate::harness::repository::git;
use crate::harness::text;
use crate::world::{
    Ended, assert_nothing_left, ended, home, named, prompt_only, repository, session, shipped, start_and_ask,
    word,
};
use scripted_api::{Block, Reply, Script, Server, Stop};
use serde_json::json;

#[test]
fn a_refused_credential_is_told_at_once() {
    let (ended, api) = ended(named("e401"), &prompt_only("unauthorised", " }"));
    assert_eq!((ended.code, ended.kind()), (3, "auth-error"), "{}", ended.said);
    assert!(ended.message().contains("HTTP 401"), "{}", ended.message());
    assert!(api.turns().len() <= 3, "asked {} times", api.turns().len());
}

#[test]
fn an_api_that_fails_fails_the_step() {
    let (ended, _) = ended(named("e400"), &prompt_only("bad-request", " }"));
    assert_eq!((ended.code, ended.kind()), (1, "api-error"), "{}", ended.said);
    assert!(ended.message().contains("scripted bad request"), "{}", ended.message());
}

#[test]
fn a_refusal_is_no_success() {
    let (ended, _) = ended(named("refusal"), &prompt_only("refusal", " }"));
    assert_eq!((ended.code, ended.kind()), (1, "refused"), "{}", ended.said);
}

#[test]
fn turns_without_end_are_cut_at_the_limit() {
    let (ended, api) = ended(named("loop"), &prompt_only("turns", ", max_turns: 3 }"));
    assert_eq!((ended.code, ended.kind()), (1, "max-turns"), "{}", ended.said);
    assert_eq!(api.turns().len(), 3);
}

#[test]
fn an_api_that_never_answers_is_given_up() {
    let (ended, _) = ended(named("hang"), &prompt_only("silence", " }\n    idle-timeout: 5s"));
    assert_eq!((ended.code, ended.kind()), (6, "idle-timed-out"), "{}", ended.said);
}

#[test]
fn a_server_that_is_not_there_fails_the_step_at_its_start() {
    let file = prompt_only("unconnected", ", mcp: [memory, playwright] }\n    needs: remove");
    let text = std::fs::read_to_string(&file).unwrap();
    let remove =
        "steps:\n  remove: { uses: exec/run, with: { command: [rm, /opt/agent/bin/playwright-mcp] } }\n";
    std::fs::write(&file, text.replace("steps:\n", remove)).unwrap();
    let (ended, api) = ended(named("text"), &file);
    assert_eq!((ended.code, ended.kind()), (1, "startup-error"), "{}", ended.said);
    assert!(ended.message().contains("MCP server `playwright`"), "{}", ended.message());
    assert_eq!(api.turns().len(), 0, "the model is not asked without its tools");
}

#[test]
fn an_image_without_the_cli_is_named() {
    let file = prompt_only("no-cli", " }");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("image: agent", "image: host").replace("cwd: /workspace", "cwd: /root");
    std::fs::write(&file, text).unwrap();
    let (ended, _) = ended(named("text"), &file);
    assert_eq!(ended.code, 1, "{}", ended.said);
    assert!(ended.message().contains("claude"), "{}", ended.message());
}

#[test]
fn a_cli_that_is_killed_has_crashed() {
    let script = Script::turns([Reply::tool(
        "Bash",
        json!({ "command": "pkill -9 claude || kill -9 $PPID", "description": "scripted" }),
    )]);
    let (ended, _) = ended(script, &prompt_only("killed", " }"));
    assert_eq!((ended.code, ended.kind()), (1, "crashed"), "{}", ended.said);
    assert!(ended.message().contains("signal 9"), "{}", ended.message());
}

#[test]
fn an_agent_that_is_denied_its_tools_has_failed_and_its_work_is_kept() {
    // The repository's own settings deny what the agent wants, as a careful team's do. The CLI exits with 0.
    let settings = r#"{"permissions":{"deny":["Edit(b.txt)"]}}"#;
    let path = repository(&word(), &[(".claude/settings.json", settings), ("a.txt", "a\n")]);
    let inside = format!("/workspace/{}", path.file_name().unwrap().to_str().unwrap());
    let api = Server::start(Script::turns([
        Reply::blocks([
            Block::tool("Bash", json!({ "command": "echo b >> a.txt", "description": "scripted" })),
            Block::tool("Write", json!({ "file_path": format!("{inside}/b.txt"), "content": "b" })),
        ]),
        Reply::text("I could not write."),
    ]))
    .unwrap();
    let ended = Ended::of(session(&api, path.to_str().unwrap()));
    assert_eq!((ended.code, ended.kind()), (1, "tool-denied"), "{}", ended.said);
    assert!(ended.message().contains("Write"), "{}", ended.message());
    assert_eq!(ended.show()["steps"]["snapshot"]["state"], "succeeded");
    assert_eq!(git(&path, &["show", &format!("{}:a.txt", ended.branch())]), "a\nb");
}

#[test]
fn a_cancelled_session_leaves_no_process_of_its_tools() {
    let marker = "86413.17";
    let api = Server::start(Script::turns([Reply::tool(
        "Bash",
        json!({ "command": format!("setsid sleep {marker} & sleep {marker}"), "description": "scripted" }),
    )]))
    .unwrap();
    let path = repository(&word(), &[("a.txt", "a\n")]);
    let (mut running, run) = start_and_ask(session(&api, path.to_str().unwrap()), &api, 1);
    home().wait_until_said(&run, marker);
    assert_eq!(home().run(&["cancel", &run]).status.code(), Some(0));
    let last = running.wait_for("run_finished", None);
    assert_eq!(
        (last["state"].as_str(), running.child.wait().unwrap().code()),
        (Some("cancelled"), Some(130))
    );
    assert_eq!(crate::harness::processes_with(marker), Vec::<String>::new());
    assert_nothing_left(&run);
}

#[test]
fn a_repository_or_branch_that_does_not_exist_is_named() {
    let api = Server::start(Script::always(Reply::text("Nobody asks."))).unwrap();
    let path = repository(&word(), &[("a.txt", "a\n")]);
    let nowhere = Ended::of(session(&api, "/no/such/repository"));
    assert_eq!(nowhere.kind(), "not-found", "{}", nowhere.said);
    let mut command = session(&api, path.to_str().unwrap());
    command.args(["-i", "branch=mian"]);
    let branch = Ended::of(command);
    assert_eq!(branch.kind(), "not-found", "{}", branch.said);
    assert!(branch.message().contains("did you mean main?"), "{}", branch.message());
    assert_eq!(api.turns().len(), 0);
}

#[test]
fn inputs_that_are_missing_are_all_named() {
    let output = home().harvest().arg("run").arg(shipped("agent-session.yaml")).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`repo`") && said.contains("`prompt`"), "{said}");
}

#[test]
fn a_message_cut_at_the_models_limit_is_no_success() {
    let script = Script::always(Reply::text("half of it").stopping(Stop::MaxTokens));
    let (ended, _) = ended(script, &prompt_only("cut", " }"));
    assert_eq!((ended.code, ended.kind()), (1, "api-error"), "{}", ended.said);
}
