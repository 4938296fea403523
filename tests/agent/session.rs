//! Sessions that go well, on repositories that nobody prepared for them.

use crate::harness::https;
use crate::harness::repository::git;
use crate::world::{Ended, home, repository, run, session, shipped, word};
use scripted_api::{Block, Reply, Script, Server};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Looks where a credential could be, as an agent that means harm would. Each line once: the CLI hands its model no more
/// than 30,000 characters, and every process here has much the same environment.
const HUNT: &str = "touch /app/AGENTS.md 2>&1; ls -d /mnt/state/sessions /app/memory-seed.json /root/.mcp-memory; \
     { env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; \
     cat /root/.claude/*.json /root/.claude/.*.json ~/.gitconfig ~/.git-credentials .git/config 2>/dev/null; } | sort -u";

/// A Python package with a bug, under names that are different each time.
struct Bug {
    repository: String,
    module: String,
    function: String,
}

impl Bug {
    fn new() -> Self {
        Self { repository: word(), module: word(), function: word() }
    }

    fn create(&self) -> PathBuf {
        let Self { module, function, .. } = self;
        let code = format!("def {function}(items):\n    return sum(items) - 1\n");
        let test = format!(
            "import unittest\nfrom {module} import {function}\n\n\nclass Test(unittest.TestCase):\n    \
             def test_sum(self):\n        self.assertEqual({function}([1, 2]), 3)\n"
        );
        repository(
            &self.repository,
            &[(&format!("{module}.py"), &code), (&format!("test_{module}.py"), &test)],
        )
    }

    /// Reads, edits, runs the tests, remembers; says what the tests said.
    fn script(&self) -> Script {
        let file = format!("/workspace/{}/{}.py", self.repository, self.module);
        let entity = json!({ "name": self.module, "entityType": "module", "observations": ["sums"] });
        Script::new(move |turn| match turn.number {
            0 => Reply::tool("Read", json!({ "file_path": file })),
            1 => Reply::tool(
                "Edit",
                json!({ "file_path": file, "old_string": "sum(items) - 1", "new_string": "sum(items)" }),
            ),
            2 => bash("python3 -B -m unittest"),
            3 if turn.tool_results().contains("OK") => {
                Reply::tool("mcp__memory__create_entities", json!({ "entities": [entity] }))
            }
            3 => Reply::text(format!("It still fails: {}", turn.tool_results())),
            4 => bash(HUNT),
            _ => Reply::text("Sum all items\n\nThe last one was taken off."),
        })
    }
}

fn bash(command: &str) -> Reply {
    Reply::blocks([
        Block::text("I run this. "),
        Block::tool("Bash", json!({ "command": command, "description": "scripted command" })),
    ])
}

#[test]
fn a_session_fixes_a_repository_and_leaves_a_commit_and_a_memory() {
    let bug = Bug::new();
    let path = bug.create();
    let api = Server::start(bug.script()).unwrap();
    let key = format!("sk-ant-canary-{}", word());
    let inputs = [
        ("repo", path.to_str().unwrap()),
        ("prompt", "The tests fail.\nFind out why."),
        ("author.name", "Grace Hopper"),
        ("author.email", "grace@example.com"),
    ];
    let before = git(&path, &["rev-parse", "HEAD"]);
    let ended = Ended::of(run(&api, &key, &shipped("agent-session.yaml"), &inputs));
    assert_eq!(ended.code, 0, "{}", ended.said);
    assert_eq!(ended.last["outputs"]["summary"], "Sum all items");

    // The commit is on a branch of its own, whole, by the author with the suffix.
    let branch = ended.branch();
    assert_eq!(git(&path, &["rev-parse", &branch]), ended.last["outputs"]["sha"].as_str().unwrap());
    assert_eq!(git(&path, &["rev-parse", &format!("{branch}^")]), before);
    assert_eq!(
        git(&path, &["log", "-1", "--format=%an <%ae> %s", &branch]),
        "Grace Hopper (Harvest) <grace@example.com> Sum all items"
    );
    assert_eq!(git(&path, &["diff", "--name-only", "main", &branch]), format!("{}.py", bug.module));
    assert_eq!(git(&path, &["rev-parse", "HEAD"]), before, "the branch that is checked out stays");
    assert_eq!(git(&path, &["status", "--porcelain"]), "");

    // The model was told the prompt and the rules, and was given the real key, which the sandbox never had.
    let turns = api.turns();
    let agents =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/images/agent/AGENTS.md")).unwrap();
    assert!(turns[0].mentions(agents.trim()), "the first request does not hold AGENTS.md");
    assert!(turns[0].mentions("The tests fail.\nFind out why."));
    assert!(turns.iter().all(|turn| turn.headers["x-api-key"] == key));
    let hunted = turns.last().unwrap();
    assert!(hunted.mentions("CLAUDE_CONFIG_DIR=/root/.claude"), "the hunt saw nothing");
    assert!(!hunted.mentions(&key), "the agent found the key");
    assert!(hunted.mentions("Read-only file system"), "/app can be written to");
    assert!(hunted.mentions("/app/memory-seed.json") && hunted.mentions("/mnt/state/sessions"));
    assert!(!ended.said.contains(&key));
    assert_eq!(home().files_with(&key), Vec::<PathBuf>::new());

    // What the agent noted is there for the next session, beside the seed.
    let memory = memory_of(&bug.repository);
    assert!(memory.contains(&bug.module) && memory.contains("HarvestSession"), "{memory}");

    let shown = ended.show();
    assert!(shown["cost"]["usd"].as_f64().unwrap() > 0.0 && shown["cost"]["tokens"].as_u64().unwrap() > 0);
    assert_eq!(shown["steps"]["snapshot"]["state"], "skipped");
    let logs = crate::harness::text(&home().run(&["logs", &ended.run, "agent"]).stdout);
    assert!(logs.contains("agent | Bash: python3 -B -m unittest"), "{logs}");
    crate::world::assert_nothing_left(&ended.run);
}

/// The graph that is kept of a repository.
fn memory_of(repository: &str) -> String {
    let volumes = home().json(&["volume", "list", "--json"]);
    let mut names = volumes.as_array().unwrap().iter().filter_map(Value::as_str);
    let volume = names.find(|name| name.contains(repository)).expect("a volume of the repository");
    crate::harness::text(&home().run(&["volume", "get", volume, "memory.jsonl"]).stdout)
}

#[test]
fn a_session_on_a_private_repository_ends_with_the_line_that_fetches_its_commit() {
    let token = format!("ghp_Canary{}", word());
    let bug = Bug::new();
    let path = bug.create();
    let server = https::Server::start(&token);
    server.publish(&path, &format!("{}.git", bug.repository));
    let api = Server::start(bug.script()).unwrap();
    // Not `--json`: the line is for people.
    let mut command = home().harvest();
    command
        .env("ANTHROPIC_BASE_URL", api.url())
        .env("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat-0123456789")
        .env("GITHUB_TOKEN", &token)
        .env("HARVEST_GITHUB_URL", &server.base)
        .env("SSL_CERT_FILE", server.authority())
        .arg("run")
        .arg(shipped("agent-session.yaml"))
        .args(["-i", &format!("repo=private/{}", bug.repository), "-i", "prompt=Go", "-i", "branch=main"]);
    let output = command.output().unwrap();
    let said = crate::harness::text(&output.stdout) + &crate::harness::text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(api.turns().iter().all(|turn| turn.headers["authorization"] == "Bearer sk-ant-oat-0123456789"));

    let line = said.lines().find(|line| line.trim().starts_with("git fetch ")).expect(&said);
    let words: Vec<&str> = line.split_whitespace().collect();
    git(&path, &words[1..]);
    let fixed = git(&path, &["show", &format!("FETCH_HEAD:{}.py", bug.module)]);
    assert!(fixed.ends_with("return sum(items)"), "{fixed}");
    assert!(git(&path, &["log", "-1", "--format=%an", "FETCH_HEAD"]).ends_with(" (Harvest)"));

    assert!(!said.contains(&token));
    assert_eq!(home().files_with(&token), Vec::<PathBuf>::new());
    let turns = api.turns();
    assert!(!turns.last().unwrap().mentions(&token), "the agent found the token");
    assert!(server.requests().iter().all(|request| request["arguments"].as_array().unwrap().is_empty()));
}

#[test]
fn two_sessions_at_once_on_one_repository_both_land() {
    let path = repository(&word(), &[("a.txt", "a\n")]);
    let start = |name: String| {
        let path = path.clone();
        let inside = format!("/workspace/{}", path.file_name().unwrap().to_str().unwrap());
        std::thread::spawn(move || {
            let entity = json!({ "name": name, "entityType": "note", "observations": ["seen"] });
            let api = Server::start(Script::turns([
                Reply::tool("Write", json!({ "file_path": format!("{inside}/{name}.txt"), "content": "x" })),
                Reply::tool("mcp__memory__create_entities", json!({ "entities": [entity] })),
                Reply::text(format!("Add {name}")),
            ]))
            .unwrap();
            (Ended::of(session(&api, path.to_str().unwrap())), name)
        })
    };
    let both = [start(word()), start(word())].map(|session| session.join().unwrap());
    let memory = memory_of(path.file_name().unwrap().to_str().unwrap());
    for (ended, name) in &both {
        assert_eq!(ended.code, 0, "{}", ended.said);
        assert_eq!(git(&path, &["show", &format!("{}:{name}.txt", ended.branch())]), "x");
        assert!(memory.contains(name), "{memory}");
    }
}

#[test]
fn a_session_that_changes_nothing_commits_nothing() {
    let path = repository(&word(), &[("a.txt", "a\n")]);
    let api = Server::start(Script::always(Reply::text("Nothing needs to be done."))).unwrap();
    let ended = Ended::of(session(&api, path.to_str().unwrap()));
    assert_eq!((ended.code, &ended.last["outputs"]["sha"]), (0, &Value::Null), "{}", ended.said);
    assert_eq!(ended.show()["steps"]["commit"]["state"], "skipped");
    assert_eq!(git(&path, &["branch", "--list", &ended.branch()]), "");
}

#[test]
fn python_runs_in_a_sandbox() {
    let code = "import sys\nprint('sum', sum(map(int, sys.argv[1:])))";
    let mut command = home().harvest();
    command.args(["run", "--json"]).arg(shipped("run-python.yaml"));
    command.args(["-i", &format!("code={code}"), "-i", r#"args=["2", "40"]"#]);
    let ended = Ended::of(command);
    assert_eq!((ended.code, &ended.last["outputs"]), (0, &json!({ "stdout": "sum 42\n", "exit_code": 0 })));
}
