//! The agent session that ships, whole, with the real Claude Code CLI: sandbox, image, volume and key are Modal's.

use crate::harness::repository::git;
use crate::harness::{Home, text};
use crate::served::{Ended, Served};
use scripted_api::{Block, Reply, Script, Server as Api};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The key that Modal keeps.
const KEY: &str = "sk-ant-kept-by-modal-0123456789";
/// What the image is called in the registry that Modal fetches it from.
const REFERENCE: &str = "registry.example.com/team/agent:1";

/// A home whose Modal has the image of the session and the key; the model is at `port`.
fn served(port: u16) -> Served {
    let served = Served::new(|server| {
        let server = server.image(REFERENCE, "agent").open_port(port);
        server.secret("harvest-claude", [("ANTHROPIC_API_KEY", KEY)])
    });
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    agent_cli::agent_cli().expect("the CLI").link(&root.join("target/agent-cli")).expect("linked");
    // What a registry would hold is built in the home of the server's own sandboxes.
    let mut building = served.home.harvest();
    building.env("HARVEST_HOME", served.home.scratch().join("cloud/home"));
    let built =
        building.args(["image", "build"]).arg(root.join("images/agent.yaml")).output().expect("it runs");
    assert!(built.status.success(), "{}", text(&built.stderr));
    let pulled = served
        .harvest()
        .args(["image", "pull", REFERENCE, "--name", "agent", "--provider", "modal"])
        .output()
        .expect("it runs");
    assert!(pulled.status.success(), "{}", text(&pulled.stderr));
    served
}

fn repository(home: &Home) -> PathBuf {
    let path = home.scratch().canonicalize().expect("a path").join("sample");
    home.file("sample/total.txt", "one\n");
    git(&path, &["init", "-q"]);
    git(&path, &["add", "-A"]);
    git(&path, &["commit", "-qm", "first"]);
    path
}

/// Reads, edits, remembers, and looks for keys.
fn script() -> Script {
    let file = "/workspace/sample/total.txt";
    Script::new(move |turn| match turn.number {
        0 => Reply::tool("Read", json!({ "file_path": file })),
        1 => Reply::tool("Edit", json!({ "file_path": file, "old_string": "one", "new_string": "two" })),
        2 => {
            let entity = json!({ "name": "Total", "entityType": "file", "observations": ["counts"] });
            Reply::tool("mcp__memory__create_entities", json!({ "entities": [entity] }))
        }
        3 => Reply::blocks([
            Block::text("I look around. "),
            Block::tool("Bash", json!({ "command": "env | sort", "description": "variables" })),
        ]),
        _ => Reply::text("Count to two"),
    })
}

fn session(served: &Served, api: &Api, repository: &Path) -> Ended {
    let mut command = served.harvest();
    command.env("ANTHROPIC_BASE_URL", api.url());
    command
        .args(["run", "--json", "--provider", "modal"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/agent-session.yaml"))
        .args(["-i", &format!("repo={}", repository.display()), "-i", "prompt=Count further."])
        .args(["-i", "author.name=Grace Hopper", "-i", "author.email=grace@example.com"]);
    Ended::of(command)
}

fn port(api: &Api) -> u16 {
    api.url().rsplit_once(':').and_then(|(_, port)| port.trim_end_matches('/').parse().ok()).expect("a port")
}

#[test]
fn the_session_that_ships_runs_whole_with_a_key_that_modal_keeps() {
    let api = Api::start(script()).expect("an API");
    let served = served(port(&api));
    let path = repository(&served.home);
    let before = git(&path, &["rev-parse", "HEAD"]);
    let ended = session(&served, &api, &path);
    assert_eq!(ended.code, 0, "{}", ended.said);
    let outputs = &ended.last["outputs"];
    assert_eq!(outputs["summary"], "Count to two");
    let run = ended.last["run"].as_str().expect("a run");
    let branch = format!("harvest/{run}");
    assert_eq!(git(&path, &["rev-parse", &branch]), outputs["sha"].as_str().expect("a commit"));
    assert_eq!(git(&path, &["rev-parse", &format!("{branch}^")]), before);
    assert_eq!(git(&path, &["show", &format!("{branch}:total.txt")]), "two");
    assert!(outputs["cost_usd"].as_f64().is_some_and(|usd| usd > 0.0), "{outputs}");

    // The CLI had the key from Modal; this machine never did, and said that the agent would see it.
    let turns = api.turns();
    assert!(turns.iter().all(|turn| turn.headers["x-api-key"] == KEY));
    let looked = turns.last().expect("turns");
    assert!(looked.mentions("CLAUDE_CONFIG_DIR=/root/.claude") && looked.mentions("ANTHROPIC_API_KEY="));
    let logs = served.harvest().args(["logs", run, "agent"]).output().expect("it runs");
    let logs = text(&logs.stdout);
    assert!(logs.contains("kept by the provider as harvest-claude/ANTHROPIC_API_KEY"), "{logs}");

    // What it noted lies in a volume of Modal's, and nothing runs there any more.
    let volumes = json!(served.asked("VolumeGetOrCreate")).to_string();
    assert!(volumes.contains("harvest-memory-") && volumes.contains("harvest-state"), "{volumes}");
    assert_eq!(served.server.running(), Vec::<String>::new());
    let widened = served.asked("TaskSetNetworkAccess");
    assert!(
        widened.iter().any(|set| set["network_access"]["allowed_cidrs"] == json!(["127.0.0.1/32"])),
        "{widened:?}"
    );
    assert!(!json!(widened.last()).to_string().contains("127.0.0.1"), "it stays open: {widened:?}");
}

#[test]
fn a_key_of_this_machine_is_not_handed_to_the_agent() {
    let api = Api::start(script()).expect("an API");
    let served = Served::new(|server| server.open_port(port(&api)));
    let key = "sk-ant-of-this-machine-0123456789";
    let file = "harvest: 1\nname: prompt\nsecrets:\n  key: { from: [modal:harvest-claude/ANTHROPIC_API_KEY, env:ANTHROPIC_API_KEY] }\nsteps:\n  agent:\n    uses: claude/run\n    with: { cwd: /root, prompt: Go }\n    secrets: { anthropic_api_key: key }\n";
    let mut command = served.harvest();
    command.env("ANTHROPIC_BASE_URL", api.url()).env("ANTHROPIC_API_KEY", key);
    command.args(["run", "--json", "--provider", "modal"]).arg(served.home.file("prompt.yaml", file));
    let ended = Ended::of(command);
    let (kind, message) = ended.error();
    assert_eq!((ended.code, kind), (4, "unavailable"), "{}", ended.said);
    assert!(message.contains("`from: modal:NAME/KEY`"), "{message}");
    assert_eq!(api.turns().len(), 0);
    assert!(!json!(served.asked("TaskExecStart")).to_string().contains(key));
    assert_eq!(served.server.running(), Vec::<String>::new());
}

#[test]
fn a_budget_that_nobody_would_count_is_refused() {
    let api = Api::start(script()).expect("an API");
    let served = Served::new(|server| {
        server.open_port(port(&api)).secret("harvest-claude", [("ANTHROPIC_API_KEY", KEY)])
    });
    let file = "harvest: 1\nname: prompt\nbudget: 5 USD\nsecrets:\n  key: { from: modal:harvest-claude/ANTHROPIC_API_KEY }\nsteps:\n  agent:\n    uses: claude/run\n    with: { cwd: /root, prompt: Go }\n    secrets: { anthropic_api_key: key }\n";
    let ended = served.run(&served.home.file("prompt.yaml", file), &[]);
    let (kind, message) = ended.error();
    assert_eq!((ended.code, kind), (4, "unavailable"), "{}", ended.said);
    assert!(message.contains("leave `budget` out"), "{message}");
    assert_eq!(api.turns().len(), 0);
}
