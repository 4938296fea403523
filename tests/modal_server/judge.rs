//! Runs the client's checks against one server, and does for them what clients cannot: lets things go wrong.

use crate::client;
use modal_server::{Recorded, Server};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/modal_server/judge.py");
/// Sandboxes on one page of a list, fewer than a check makes.
const PAGE: usize = 2;
/// Python's client asks for another router token in the last 30 s of one alone.
const ROUTER_TOKEN_LIFE: Duration = Duration::from_secs(29);

static VERDICT: LazyLock<Verdict> = LazyLock::new(run);

/// What the client found, and what it said.
struct Verdict {
    /// By the name of the check; `None` is nothing to complain about.
    checks: BTreeMap<String, Option<String>>,
    calls: Vec<Recorded>,
}

/// What the client found at a check.
pub(crate) fn judged(check: &str) -> Result<(), String> {
    match VERDICT.checks.get(check) {
        Some(None) => Ok(()),
        Some(Some(what)) => Err(what.clone()),
        None => Err(format!("judge.py has no check {check}")),
    }
}

/// The names of all checks, in the order in which `judge.py` has them.
pub(crate) fn names() -> Vec<&'static str> {
    let script = include_str!("judge.py");
    script.split("\n@check\ndef ").skip(1).filter_map(|rest| rest.split('(').next()).collect()
}

/// All that the client asked for.
pub(crate) fn calls() -> &'static [Recorded] {
    &VERDICT.calls
}

pub(crate) fn launcher() -> PathBuf {
    std::env::var_os("HARVEST_TEST_LAUNCHER").unwrap_or_else(|| env!("CARGO_BIN_EXE_harvest").into()).into()
}

fn run() -> Verdict {
    let home = tempfile::tempdir().unwrap();
    let server = Server::builder(home.path(), launcher())
        .token("ak-test", "as-test")
        .image("debian:bookworm-slim", "host")
        .secret("github", [("GITHUB_TOKEN", "t0ps3cret")])
        .page(PAGE)
        .router_token_life(ROUTER_TOKEN_LIFE)
        .start()
        .unwrap();
    let mut child = Command::new(client::python())
        .arg(SCRIPT)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home.path())
        .env("MODAL_SERVER_URL", server.url())
        .env("MODAL_TOKEN_ID", "ak-test")
        .env("MODAL_TOKEN_SECRET", "as-test")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut verdicts = BTreeMap::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        if let Some(check) = said["check"].as_str() {
            verdicts.insert(check.to_owned(), said["failed"].as_str().map(str::to_owned));
        } else {
            let answer = help(&server, &said);
            writeln!(stdin, "{answer}").unwrap();
        }
    }
    assert!(child.wait().unwrap().success(), "judge.py ended early: {verdicts:?}");
    let calls = server.requests();
    drop(server);
    // Nothing of a sandbox or its copies of volumes is left, and so no process either.
    for kept in ["sandboxes", "volumes"] {
        let left = std::fs::read_dir(home.path().join("home").join(kept)).unwrap();
        let left: Vec<_> = left.flatten().filter(|entry| entry.path().is_dir()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    Verdict { checks: verdicts, calls }
}

/// What a check asks for.
fn help(server: &Server, asked: &Value) -> Value {
    let text = |name: &str| asked[name].as_str().unwrap_or_default();
    let times = asked["times"].as_u64().unwrap_or(1) as usize;
    match text("do") {
        "throttle" => server.faults().throttle(text("rpc"), times, 0.1),
        "lose_reply" => server.faults().lose_reply(text("rpc"), times),
        "cut" => server.faults().cut(text("rpc"), times),
        "cut_output" => server.faults().cut_output_after(asked["bytes"].as_u64().unwrap() as usize),
        "refuse_version" => server.faults().refuse_version(),
        "clear" => server.faults().clear(),
        "expire" => server.expire_router_tokens(),
        "kill" => return json!(server.kill_sandbox(text("sandbox"))),
        "running" => return json!(server.running()),
        "calls" => {
            let calls = server.requests().into_iter().filter(|call| call.rpc == text("rpc"));
            return calls
                .map(|call| json!({ "metadata": call.metadata, "messages": call.messages }))
                .collect();
        }
        other => panic!("judge.py asks for {other}"),
    }
    Value::Null
}
