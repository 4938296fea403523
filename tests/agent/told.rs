//! What the agent is told before it begins, and what is told of it while it works.

use crate::world::{ended, home, named, prompt_only, prompt_within};
use scripted_api::{Block, Reply, Script};
use serde_json::Value;

#[test]
fn the_first_request_holds_the_rules_and_every_limit() {
    let more = ", max_turns: 7, append_system_prompt: Be brief. }\n    timeout: 30m";
    let (ended, api) = ended(named("text"), &prompt_within("limits", "2.5 USD", more));
    assert_eq!(ended.code, 0, "{}", ended.said);
    let first = &api.turns()[0];
    for told in [
        "Safe-Carry-Forward",
        "Panic button",
        "Limits of this session",
        "Network: none",
        "Budget: 2.50 USD",
        "Time: 30 minutes",
        "Turns: 7",
        "Be brief.",
    ] {
        assert!(first.mentions(told), "the first request does not say: {told}");
    }
}

#[test]
fn an_agent_with_an_allow_list_is_told_its_domains() {
    let file = prompt_only("allowed", " }");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("{ image: agent }", "{ image: agent, network: { allow: [example.com] } }");
    std::fs::write(&file, text).unwrap();
    let (ended, api) = ended(named("text"), &file);
    assert_eq!(ended.code, 0, "{}", ended.said);
    assert!(api.turns()[0].mentions("Network: only example.com"));
}

#[test]
fn what_an_agent_does_is_told_as_typed_events_and_as_lines() {
    let script = Script::turns([
        Reply::blocks([
            Block::thinking("First I look around."),
            Block::text("I look at the directory.\nThen I stop."),
            Block::tool("Bash", serde_json::json!({ "command": "echo a-result", "description": "scripted" })),
        ]),
        Reply::text("Done."),
    ]);
    let (ended, _) = ended(script, &prompt_only("typed", " }"));
    assert_eq!(ended.code, 0, "{}", ended.said);
    let logs = crate::harness::text(&home().run(&["logs", &ended.run, "agent", "--json"]).stdout);
    let events: Vec<Value> = logs
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|entry| entry["stream"] == "agent")
        .map(|entry| entry["data"].clone())
        .collect();
    let of = |kind: &str| events.iter().filter(|event| event["kind"] == kind).collect::<Vec<_>>();
    let said: String = of("text_delta").iter().filter_map(|event| event["text"].as_str()).collect();
    assert_eq!(said, "I look at the directory.\nThen I stop.Done.");
    assert_eq!(of("thinking")[0]["thinking"], "First I look around.");
    let (used, result) = (of("tool_use")[0], of("tool_result")[0]);
    assert_eq!((&used["name"], &used["id"]), (&"Bash".into(), &result["id"]));
    assert_eq!((result["content"].as_str(), &result["is_error"]), (Some("a-result"), &false.into()));
    assert_eq!((of("usage").len(), &of("usage")[0]["output_tokens"]), (2, &50.into()));
    assert_eq!(of("init").len(), 1);
    // And for people.
    let logs = crate::harness::text(&home().run(&["logs", &ended.run, "agent"]).stdout);
    let lines = [
        "agent | (thinks) First I look",
        "agent | I look at the directory.",
        "agent | Bash: echo a-result",
        "agent |   -> a-result",
    ];
    assert!(lines.iter().all(|line| logs.contains(line)), "{logs}");
}
