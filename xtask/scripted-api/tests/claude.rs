//! Drives the real Claude Code CLI through its real tools.

use agent_cli::{AgentCli, agent_cli};
use scripted_api::{Server, scenario};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const MODEL: &str = "claude-opus-4-8";
/// For the CLI to send its first request.
const START_LIMIT: Duration = Duration::from_secs(60);

struct Session {
    code: Option<i32>,
    events: Vec<Value>,
    work: TempDir,
}

impl Session {
    fn result(&self) -> &Value {
        self.events.iter().rfind(|event| event["type"] == "result").expect("the CLI wrote no result line")
    }
}

/// The CLI with a fresh home and nothing of a session that this test may run inside.
fn claude(agent: &AgentCli, base_url: &str, work: &Path) -> Command {
    let home = work.join("home");
    let project = work.join("project");
    fs::create_dir_all(&home).unwrap();
    fs::create_dir_all(&project).unwrap();
    fs::write(project.join("README.md"), "# scratch\n").unwrap();
    let mut command = Command::new(&agent.claude);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CLAUDE") || text.starts_with("ANTHROPIC_") {
            command.env_remove(name);
        }
    }
    command
        .args(["-p", "--output-format", "stream-json", "--verbose", "--permission-mode", "bypassPermissions"])
        .args(["--model", MODEL, "--strict-mcp-config"])
        .current_dir(&project)
        .env("ANTHROPIC_BASE_URL", base_url)
        .env("ANTHROPIC_API_KEY", "placeholder")
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("CLAUDE_CODE_MAX_RETRIES", "1")
        .env("CLAUDE_CONFIG_DIR", home.join("config"))
        .env("DISABLE_AUTOUPDATER", "1")
        .env("HOME", &home)
        .env("IS_SANDBOX", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    command
}

fn run(name: &str, path: &str) -> (Session, Server) {
    let agent = agent_cli().unwrap();
    let work = TempDir::new().unwrap();
    let server = Server::start(scenario(name, &work.path().join("project")).unwrap()).unwrap();
    let output = claude(&agent, &format!("{}{path}", server.url()), work.path())
        .arg("Do what is needed.")
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let events = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (Session { code: output.status.code(), events, work }, server)
}

#[test]
fn text_reaches_the_result_line() {
    let (session, server) = run("text", "");
    assert_eq!(session.code, Some(0));
    let result = session.result();
    assert_eq!(
        (&result["is_error"], &result["result"]),
        (&false.into(), &"Hello. This is the script.".into())
    );
    let first = &server.turns()[0];
    assert_eq!(first.path, "/v1/messages?beta=true");
    assert_eq!((first.body["model"].as_str(), &first.body["stream"]), (Some(MODEL), &true.into()));
    assert_eq!(first.headers["x-api-key"], "placeholder");
    assert!(first.mentions("Do what is needed.") && first.tools().contains(&"Bash"));
}

#[test]
fn write_makes_the_file() {
    let (session, server) = run("write", "");
    assert_eq!(session.code, Some(0));
    let written = fs::read_to_string(session.work.path().join("project/hello.txt")).unwrap();
    assert_eq!(written, "hello from the script\n");
    assert_eq!(server.turns().len(), 2);
    let usage = &session.result()["modelUsage"][MODEL];
    let counted = [&usage["inputTokens"], &usage["outputTokens"], &usage["cacheReadInputTokens"]];
    assert_eq!(counted, [&Value::from(200), &Value::from(100), &Value::from(2000)]);
}

#[test]
fn readedit_uses_three_tools_and_returns_their_results() {
    let (session, server) = run("readedit", "");
    assert_eq!(session.code, Some(0));
    assert_eq!(session.result()["result"], "All edits complete.");
    let readme = fs::read_to_string(session.work.path().join("project/README.md")).unwrap();
    assert_eq!(readme, "# edited\n");
    let turns = server.turns();
    assert_eq!(turns.len(), 4);
    assert!(turns[3].mentions("ANTHROPIC_BASE_URL"), "the output of the Bash tool reaches the next request");
}

#[test]
fn an_error_400_ends_the_run_with_a_result_that_says_so() {
    let (session, server) = run("e400", "");
    assert_eq!(session.code, Some(1));
    let result = session.result();
    assert_eq!((&result["is_error"], &result["api_error_status"]), (&true.into(), &400.into()));
    // This CLI asks again with fewer beta features each time; the same request is never repeated.
    let turns = server.turns();
    let distinct: BTreeSet<_> = turns.iter().map(|turn| &turn.headers["anthropic-beta"]).collect();
    assert_eq!(distinct.len(), turns.len());
}

#[test]
fn a_path_before_the_api_is_kept() {
    let (session, server) = run("text", "/abcdef");
    assert_eq!(session.code, Some(0));
    assert_eq!(server.turns()[0].path, "/abcdef/v1/messages?beta=true");
}

#[test]
fn memory_is_written_by_the_real_server() {
    let agent = agent_cli().unwrap();
    let work = TempDir::new().unwrap();
    let memory = work.path().join("memory.jsonl");
    let configuration = json!({ "mcpServers": { "memory": {
        "command": agent.memory_server,
        "env": { "MEMORY_FILE_PATH": memory },
        "alwaysLoad": true,
    } } });
    let file = work.path().join("mcp.json");
    fs::write(&file, configuration.to_string()).unwrap();
    let server = Server::start(scenario("memory", work.path()).unwrap()).unwrap();
    let status = claude(&agent, &server.url(), work.path())
        .arg("--mcp-config")
        .arg(&file)
        .args(["--", "Remember this."])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let entity: Value = serde_json::from_str(&fs::read_to_string(&memory).unwrap()).unwrap();
    assert_eq!((&entity["type"], &entity["name"]), (&"entity".into(), &"ScriptedEntity".into()));
}

#[test]
fn streams_that_go_wrong_fail_the_run() {
    std::thread::scope(|scope| {
        for name in ["midstream", "cut", "broken", "maxtok", "refusal"] {
            scope.spawn(move || {
                let (session, _server) = run(name, "");
                let ended = (session.code, &session.result()["is_error"]);
                assert_eq!(ended, (Some(1), &true.into()), "{name}");
            });
        }
    });
}

#[test]
fn a_model_that_hangs_can_be_seen_and_left() {
    let agent = agent_cli().unwrap();
    let work = TempDir::new().unwrap();
    let server = Server::start(scenario("hang", work.path()).unwrap()).unwrap();
    let mut cli =
        claude(&agent, &server.url(), work.path()).arg("Wait.").stdout(Stdio::null()).spawn().unwrap();
    let asked = server.wait_for_turns(1, START_LIMIT);
    let still_waiting = cli.try_wait().unwrap().is_none();
    cli.kill().unwrap();
    cli.wait().unwrap();
    assert_eq!((asked, still_waiting), (true, true));
}
