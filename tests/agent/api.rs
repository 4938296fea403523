//! A model API that fails, in every way it has. Each ends in bounded time with its own kind, exit code and sentence.

use crate::world::{Ended, assert_nothing_left, ended, home, named, prompt_only, run};
use scripted_api::{Reply, Script, Server};

/// Runs a script by its name and holds what must come of it. Returns how often the model was asked.
fn fails(name: &str, code: i32, kind: &str, sentence: &str) -> usize {
    let (ended, api) = ended(named(name), &prompt_only(&format!("api-{name}"), " }"));
    assert_eq!((ended.code, ended.kind()), (code, kind), "{}", ended.said);
    assert!(ended.message().contains(sentence), "{}", ended.message());
    assert!(!ended.message().contains('\n'), "{}", ended.message());
    api.turns().len()
}

#[test]
fn a_revoked_credential_is_told_at_once() {
    let asked = fails("e403", 3, "auth-error", "HTTP 403");
    assert!(asked <= 3, "asked {asked} times");
}

#[test]
fn a_model_that_does_not_exist_is_named() {
    fails("e404", 1, "not-found", "check `model`");
}

#[test]
fn an_account_without_credit_is_told() {
    fails("ecredit", 1, "quota", "add credit");
}

#[test]
fn a_rate_limit_is_waited_for_a_few_times() {
    let asked = fails("e429", 1, "rate-limited", "try again later");
    assert!((3..=8).contains(&asked), "asked {asked} times");
}

#[test]
fn an_overloaded_api_is_asked_a_few_times() {
    let asked = fails("e529", 1, "rate-limited", "try again later");
    assert!((3..=8).contains(&asked), "asked {asked} times");
}

#[test]
fn an_api_with_an_internal_error_fails_the_step() {
    fails("e500", 1, "api-error", "the model API failed");
}

#[test]
fn an_error_in_the_middle_of_a_stream_fails_the_step() {
    fails("midstream", 1, "api-error", "the model API failed");
}

#[test]
fn a_stream_that_is_cut_fails_the_step() {
    fails("cut", 1, "api-error", "the model API failed");
}

#[test]
fn a_connection_that_breaks_fails_the_step() {
    fails("broken", 1, "api-error", "the model API failed");
}

#[test]
fn an_api_that_hangs_in_the_middle_of_a_stream_is_given_up() {
    let file = prompt_only("stalls", " }\n    idle-timeout: 6s");
    let (ended, _) = ended(Script::always(Reply::Stall), &file);
    assert_eq!((ended.code, ended.kind()), (6, "idle-timed-out"), "{}", ended.said);
}

#[test]
fn an_api_that_nobody_listens_at_is_told() {
    let api = Server::start(named("text")).unwrap();
    let mut command = run(&api, "key", &prompt_only("nobody", " }"), &[]);
    // Nothing listens on the discard port.
    command.env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
    let ended = Ended::of(command);
    assert_nothing_left(&ended.run);
    assert_eq!((ended.code, ended.kind()), (1, "api-error"), "{}", ended.said);
    assert!(ended.message().contains("cannot be reached"), "{}", ended.message());
}

#[test]
fn a_rate_limited_step_tries_again_with_the_same_conversation() {
    // The CLI gives up after a few tries; the step is tried once more and goes on where it was.
    let script = Script::new(|turn| match turn.number {
        0 => Reply::tool("Bash", serde_json::json!({ "command": "echo kept", "description": "scripted" })),
        _ if !home().scratch().join("recovered").exists() => {
            Reply::error(529, "overloaded_error", "Overloaded")
        }
        _ => Reply::text("Done."),
    });
    let retry = " }\n    retry: { attempts: 2, backoff: { first: 1s }, on: [rate-limited] }";
    let file = prompt_only("recovers", retry);
    let api = Server::start(script).unwrap();
    let (mut running, run_id) = crate::world::start_and_ask(run(&api, "key", &file, &[]), &api, 2);
    running.wait_for("step_failed", Some("agent"));
    std::fs::write(home().scratch().join("recovered"), "").unwrap();
    let last = running.wait_for("run_finished", None);
    assert_eq!(last["state"], "succeeded", "{last}");
    assert!(api.turns().last().unwrap().mentions("kept"), "the second attempt began anew");
    drop(running);
    assert_nothing_left(&run_id);
}
