//! What sessions cost, and what holds them to their budgets: the gateway, on the answers of the API itself.

use crate::harness::text;
use crate::world::{Ended, assert_nothing_left, ended, home, prompt_only, prompt_within, run};
use scripted_api::{Reply, Script, Server, Usage};
use serde_json::{Value, json};

const MODEL: &str = ", model: claude-opus-4-8";

fn bash(command: &str) -> Reply {
    Reply::tool("Bash", json!({ "command": command, "description": "scripted" }))
}

/// 0.1 USD: 20 000 tokens in at 5 USD a million.
fn a_tenth() -> Usage {
    Usage { input: 20_000, cache_creation: 0, cache_read: 0, output: 0 }
}

/// What a run cost, without the words of answers that were cut.
fn cents(shown: &Value) -> u64 {
    (shown["cost"]["usd"].as_f64().unwrap() * 100.0).round() as u64
}

#[test]
fn what_a_run_cost_is_counted_on_the_way() {
    let (cache_creation, cache_read) = (1_000, 100_000);
    let usage = Usage { input: 1_000, cache_creation, cache_read, output: 2_000 };
    let script = Script::turns([bash("echo once").costing(usage), Reply::text("Done.").costing(usage)]);
    let (ended, _) = ended(script, &prompt_only("counted", &format!("{MODEL} }}")));
    assert_eq!(ended.code, 0, "{}", ended.said);
    // 1000 at 5, 1000 at 6.25, 100 000 at 0.5, 2000 at 25 millionths, twice.
    let shown = ended.show();
    let expected =
        json!({ "usd": 0.2225, "tokens": 208_000, "input_tokens": 204_000, "output_tokens": 4_000 });
    assert_eq!(shown["steps"]["agent"]["cost"], expected);
    assert_eq!(shown["steps"]["agent"]["attempts"][0]["cost"], expected);
    assert_eq!(shown["cost"], json!({ "usd": 0.2225, "tokens": 208_000 }));
    assert_eq!(shown["steps"]["agent"]["outputs"]["cost_usd"], 0.2225);
    let listed = home().json(&["runs", "--json", "--workflow", "counted"]);
    assert_eq!(listed[0]["cost"], shown["cost"]);
    let said = text(&home().run(&["runs", "--cost", "--workflow", "counted"]).stdout);
    assert!(said.contains("0.2225 USD, 208000 tokens"), "{said}");
}

#[test]
fn an_answer_that_goes_beyond_the_budget_is_cut_in_its_middle() {
    // The first turn costs a tenth. The second never ends: only whoever counts its words can stop it.
    let script = Script::new(|turn| match turn.number {
        0 => bash("sleep 86429.57 & echo started").costing(a_tenth()),
        _ => Reply::Endless,
    });
    let file = prompt_within("cut-off", "0.11 USD", &format!("{MODEL} }}"));
    let (ended, api) = ended(script, &file);
    assert_eq!((ended.code, ended.kind()), (1, "budget-exceeded"), "{}", ended.said);
    assert!(ended.message().contains("the run has used up its budget of 0.11 USD"), "{}", ended.message());
    let cost = ended.show()["cost"].clone();
    assert!((0.11..0.13).contains(&cost["usd"].as_f64().unwrap()), "{cost}");
    assert_eq!((api.turns().len(), &cost["budget_usd"]), (2, &json!(0.11)));
}

#[test]
fn a_prompt_that_is_too_dear_is_cut_before_its_answer() {
    let script = Script::always(Reply::text("unseen").costing(a_tenth()));
    let file = prompt_within("too-dear", "0.05 USD", &format!("{MODEL} }}"));
    let (ended, _) = ended(script, &file);
    assert_eq!((ended.code, ended.kind()), (1, "budget-exceeded"), "{}", ended.said);
    assert!(!ended.said.contains("unseen"), "{}", ended.said);
}

#[test]
fn a_step_has_a_budget_of_its_own() {
    let file = prompt_only("own-budget", &format!("{MODEL}, max_budget_usd: 0.02 }}"));
    let (ended, _) = ended(Script::always(Reply::Endless), &file);
    assert_eq!((ended.code, ended.kind()), (1, "budget-exceeded"), "{}", ended.said);
    assert!(ended.message().contains("raise `max_budget_usd`"), "{}", ended.message());
    let cost = ended.show()["cost"]["usd"].as_f64().unwrap();
    assert!((0.02..0.04).contains(&cost), "{cost}");
}

#[test]
fn an_agent_within_its_budget_is_left_alone() {
    let script =
        Script::turns([bash("echo once").costing(a_tenth()), Reply::text("Done.").costing(a_tenth())]);
    let file = prompt_within("enough", "0.25 USD", &format!("{MODEL} }}"));
    let (ended, _) = ended(script, &file);
    assert_eq!(ended.code, 0, "{}", ended.said);
    assert_eq!(ended.show()["cost"]["usd"], 0.2);
}

#[test]
fn a_budget_stays_used_up_until_the_file_has_a_greater_one() {
    let script =
        || Script::turns([bash("echo once").costing(a_tenth()), Reply::text("Done.").costing(a_tenth())]);
    let file = prompt_within("used-up", "0.05 USD", &format!("{MODEL} }}"));
    let (ended, _) = ended(script(), &file);
    assert_eq!(ended.kind(), "budget-exceeded", "{}", ended.said);
    let api = Server::start(script()).unwrap();
    let again = |arguments: &[&str]| {
        let mut command = home().harvest();
        command.env("ANTHROPIC_BASE_URL", api.url()).env("ANTHROPIC_API_KEY", "key");
        command.args(arguments).output().unwrap()
    };
    // Nothing is asked any more: the journal knows what was spent.
    assert_eq!(again(&["retry", &ended.run]).status.code(), Some(1));
    assert_eq!(api.turns().len(), 0);
    let less = std::fs::read_to_string(&file).unwrap().replace("0.05 USD", "0.01 USD");
    std::fs::write(&file, &less).unwrap();
    let refused = again(&["upgrade", &ended.run, file.to_str().unwrap()]);
    let said = text(&refused.stdout) + &text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("it has spent 0.10 USD"), "{said}");
    std::fs::write(&file, less.replace("0.01 USD", "1 USD")).unwrap();
    let upgraded = again(&["upgrade", &ended.run, file.to_str().unwrap()]);
    assert!(upgraded.status.success(), "{}", text(&upgraded.stdout) + &text(&upgraded.stderr));
    let _ = again(&["resume"]);
    let shown = home().json(&["show", &ended.run, "--json"]);
    assert_eq!((&shown["state"], cents(&shown)), (&json!("succeeded"), 30), "{shown}");
}

#[test]
fn what_was_spent_before_a_kill_counts_after_it() {
    let script = Script::new(|turn| match turn.number {
        0 => bash("echo once").costing(a_tenth()),
        _ => Reply::Hang,
    });
    let api = Server::start(script).unwrap();
    let file = prompt_within("killed-broke", "0.15 USD", &format!("{MODEL} }}"));
    let (running, run_id) = crate::world::start_and_ask(run(&api, "key", &file, &[]), &api, 2);
    running.kill();
    let before = home().json(&["show", &run_id, "--json"]);
    assert_eq!(before["cost"]["usd"], 0.1, "{before}");
    let dear = Server::start(Script::always(Reply::text("Done.").costing(a_tenth()))).unwrap();
    let mut command = home().harvest();
    command.env("ANTHROPIC_BASE_URL", dear.url()).env("ANTHROPIC_API_KEY", "key").arg("resume");
    let _ = command.output().unwrap();
    let after = home().json(&["show", &run_id, "--json"]);
    assert_eq!(
        (&after["state"], &after["error"]["kind"]),
        (&json!("failed"), &json!("budget-exceeded")),
        "{after}"
    );
    assert_eq!(cents(&after), 20, "{after}");
    assert_nothing_left(&run_id);
}

#[test]
fn what_cannot_be_counted_does_not_pass_where_there_is_a_budget() {
    let ask = "curl -s -o /dev/null -w '%{http_code} ' -X POST $ANTHROPIC_BASE_URL/v1/messages/batches; \
               curl -s -o /dev/null -w '%{http_code}' -X POST $ANTHROPIC_BASE_URL/v1/messages/count_tokens";
    let script = Script::turns([bash(ask), Reply::text("Done.")]);
    let api = Server::start(script).unwrap();
    let file = prompt_within("batches", "1 USD", &format!("{MODEL} }}"));
    let ended = Ended::of(run(&api, "key", &file, &[]));
    assert_eq!(ended.code, 0, "{}", ended.said);
    assert!(api.turns().last().unwrap().mentions("402 200"), "{}", last_result(&api));
}

fn last_result(api: &Server) -> Value {
    api.turns().last().unwrap().body["messages"].clone()
}
