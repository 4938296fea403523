//! Sessions by `harvest session`: prompts that go on with one conversation in one sandbox, one after the other.

use crate::harness::repository::git;
use crate::harness::{Running, text};
use crate::world::{Ended, REQUEST_LIMIT, assert_nothing_left, home, repository, run, shipped, word};
use scripted_api::{Reply, Script, Server, Turn};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A session on a repository of its own, and the model that its agent asks.
struct Session {
    id: String,
    repository: PathBuf,
    api: Server,
}

impl Session {
    /// One that is ready for prompts.
    fn start(script: Script) -> Self {
        let session = Self::new(script);
        let started = session.call(&["start", session.path(), "--id", &session.id]);
        assert_eq!(started.status.code(), Some(0), "{}", said(&started));
        assert_eq!(text(&started.stdout).trim(), session.id);
        session
    }

    /// One that has not begun.
    fn new(script: Script) -> Self {
        let name = word();
        let repository = repository(&name, &[("a.txt", "a\n")]);
        Self { id: format!("s-{name}"), repository, api: Server::start(script).unwrap() }
    }

    fn path(&self) -> &str {
        self.repository.to_str().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = home().harvest();
        command.env("ANTHROPIC_BASE_URL", self.api.url()).env("ANTHROPIC_API_KEY", "key-of-the-operator");
        command.arg("session").args(arguments);
        command
    }

    fn call(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A prompt, to the end of its run.
    fn prompt(&self, prompt: &str) -> Ended {
        let author = "Grace Hopper <grace@example.com>";
        Ended::of(self.command(&["prompt", &self.id, prompt, "--json", "--author", author]))
    }

    /// A prompt in the background, from when its run has come this far.
    fn prompting(&self, prompt: &str, until: &str) -> (Running, String) {
        let mut running = Running::of(self.command(&["prompt", &self.id, prompt, "--json"]));
        let run = running.wait_for(until, None)["run"].as_str().unwrap().to_owned();
        (running, run)
    }

    fn listed(&self) -> Value {
        let all = home().json(&["session", "list", "--all", "--json"]);
        all.as_array().unwrap().iter().find(|listed| listed["id"] == self.id).expect("the session").clone()
    }

    /// Sandboxes that have files.
    fn sandboxes(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir(home().path().join("sandboxes")).unwrap();
        let all = all.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        all.filter(|path| path.to_str().unwrap().contains(&self.id)).collect()
    }

    /// What the session's file in the volume says: who said what, and which files were committed.
    fn conversation(&self) -> (Vec<(String, String)>, Vec<String>) {
        let name = format!("sessions/{}.db", self.id);
        let file = home().run(&["volume", "get", "harvest-state", &name]);
        let copy = home().scratch().join(format!("{}.db", self.id));
        std::fs::write(&copy, file.stdout).unwrap();
        let file = rusqlite::Connection::open(copy).unwrap();
        let mut rows = file.prepare("SELECT role, content, timestamp FROM conversation ORDER BY id").unwrap();
        let rows = rows.query_map([], |row| {
            row.get::<_, String>(2)?.parse::<jiff::Timestamp>().unwrap();
            Ok((row.get(0)?, row.get(1)?))
        });
        let rows = rows.unwrap().map(Result::unwrap).collect();
        let mut files = file.prepare("SELECT path FROM files_modified ORDER BY rowid").unwrap();
        let files = files.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        (rows, files)
    }
}

fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

fn bash(command: &str) -> Reply {
    Reply::tool("Bash", json!({ "command": command, "description": "scripted" }))
}

/// The agent runs the prompt as a command and then says what was asked.
fn obedient() -> Script {
    Script::new(|turn| match turn.number {
        0 => bash(&asked(turn)),
        _ => Reply::text(format!("Done: {}", asked(turn))),
    })
}

/// The words of the prompt, without what the CLI puts before them.
fn asked(turn: &Turn<'_>) -> String {
    turn.prompt().lines().last().unwrap_or_default().to_owned()
}

fn pair(role: &str, content: &str) -> (String, String) {
    (role.to_owned(), content.to_owned())
}

#[test]
fn prompts_go_on_with_one_conversation_in_one_sandbox_and_each_lands_its_commit() {
    let session = Session::start(obedient());
    let (first, second) = ("echo one > one.txt; echo mine > /root/kept", "cat /root/kept > two.txt");
    let one = session.prompt(first);
    assert_eq!(one.code, 0, "{}", one.said);
    let two = session.prompt(second);
    assert_eq!(two.code, 0, "{}", two.said);

    // The second commit stands on the first, by whoever asked; both outlive the sandbox.
    let name = |ended: &Ended| git(&session.repository, &["rev-parse", &ended.branch()]);
    assert_eq!(git(&session.repository, &["rev-parse", &format!("{}^", two.branch())]), name(&one));
    assert_eq!(git(&session.repository, &["show", &format!("{}:two.txt", two.branch())]), "mine");
    let author = git(&session.repository, &["log", "-1", "--format=%an <%ae>", &two.branch()]);
    assert_eq!(author, "Grace Hopper (Harvest) <grace@example.com>");

    // The model was told all that was said before.
    let turns = session.api.turns();
    assert!(turns.last().unwrap().mentions(first), "the second prompt began anew");
    let listed = session.listed();
    assert_eq!((&listed["state"], &listed["waiting"]), (&json!("idle"), &json!(0)));
    assert_eq!(listed["conversation"], two.last["outputs"]["session_id"]);

    // A command sees what the agent sees.
    let seen = session.call(&["exec", &session.id, "--", "sh", "-c", "cat /root/kept; pwd; exit 3"]);
    let name = session.repository.file_name().unwrap().to_str().unwrap();
    assert_eq!((seen.status.code(), text(&seen.stdout)), (Some(3), format!("mine\n/workspace/{name}\n")));

    let stopped = session.call(&["stop", &session.id]);
    assert_eq!(stopped.status.code(), Some(0), "{}", said(&stopped));
    assert_eq!(session.sandboxes(), Vec::<PathBuf>::new());
    assert_eq!(session.listed()["state"], "stopped");
    let late = session.call(&["prompt", &session.id, "true"]);
    assert_eq!(late.status.code(), Some(1));
    assert!(said(&late).contains("has ended"), "{}", said(&late));
    assert_eq!(session.call(&["stop", &session.id]).status.code(), Some(0), "it ends once");

    let (rows, files) = session.conversation();
    let done = |prompt: &str| pair("assistant", &format!("Done: {prompt}"));
    assert_eq!(rows, [pair("user", first), done(first), pair("user", second), done(second)]);
    assert_eq!(files, ["one.txt", "one.txt", "two.txt"]);
    assert_nothing_left(&one.run);
    assert_nothing_left(&format!("session_{}", session.id));

    goes_on_elsewhere(&session, &two);
}

/// The sandbox is gone, and then what this machine kept of the conversation too.
fn goes_on_elsewhere(session: &Session, last: &Ended) {
    let conversation = last.last["outputs"]["session_id"].as_str().unwrap();
    let branch = last.branch();
    let follow_up = |prompt: &str| {
        let inputs =
            [("repo", session.path()), ("branch", &branch), ("resume", conversation), ("prompt", prompt)];
        Ended::of(run(&session.api, "key-of-the-operator", &shipped("agent-follow-up.yaml"), &inputs))
    };
    let third = follow_up("cat two.txt > three.txt");
    assert_eq!(third.code, 0, "{}", third.said);
    assert_eq!(git(&session.repository, &["show", &format!("{}:three.txt", third.branch())]), "mine");
    let turns = session.api.turns();
    assert!(turns.last().unwrap().mentions("echo mine > /root/kept"), "the follow-up began anew");

    let (volume, file) = ("harvest-claude-transcripts", format!("{conversation}.jsonl"));
    assert!(home().run(&["volume", "rm", volume, &file]).status.success());
    let lost = follow_up("true");
    assert_eq!((lost.code, lost.kind()), (1, "not-found"), "{}", lost.said);
    assert!(lost.message().contains(&format!("harvest volume put {volume} {file}")), "{}", lost.message());
    let kept = home().path().join("artifacts").join(&third.run);
    let kept = kept.join(format!("transcript-agent-{}.jsonl", &conversation[..8]));
    assert!(home().run(&["volume", "put", volume, &file, kept.to_str().unwrap()]).status.success());
    let fourth = follow_up("true");
    assert_eq!(fourth.code, 0, "{}", fourth.said);
    assert!(session.api.turns().last().unwrap().mentions("cat two.txt > three.txt"));
}

#[test]
fn a_session_that_is_asked_for_twice_begins_once() {
    let session = Session::new(obedient());
    let arguments = ["start", session.path(), "--id", &session.id, "--prompt", "echo 1 > b.txt"];
    // At the same time, and once more.
    let both = [session.command(&arguments), session.command(&arguments)].map(|mut command| {
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    });
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(text(&output.stdout).ends_with(&format!("{}\n", session.id)), "{}", said(&output));
    }
    let again = session.call(&arguments);
    assert_eq!((again.status.code(), text(&again.stdout)), (Some(0), format!("{}\n", session.id)));
    assert_eq!(session.api.turns().len(), 2, "the prompt was given once");

    let other = session.call(&["start", session.path(), "--id", &session.id, "--branch", "next"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(said(&other).contains("the branch none, not `next`"), "{}", said(&other));
    let bad = session.call(&["start", session.path(), "--id", "Not Good"]);
    assert_eq!(bad.status.code(), Some(2));
    let nobody = session.call(&["prompt", "s-nobody", "hello"]);
    assert_eq!(nobody.status.code(), Some(5));
    assert_eq!(session.call(&["stop", &session.id]).status.code(), Some(0));
}

#[test]
fn a_session_that_could_not_begin_is_begun_again() {
    let session = Session::new(obedient());
    let hidden = session.repository.with_extension("hidden");
    std::fs::rename(&session.repository, &hidden).unwrap();
    let arguments = ["start", session.path(), "--id", &session.id];
    let failed = session.call(&arguments);
    assert_ne!(failed.status.code(), Some(0), "{}", said(&failed));
    assert_eq!(session.listed()["state"], "failed");
    assert!(said(&session.call(&["prompt", &session.id, "true"])).contains("could not begin"));
    std::fs::rename(hidden, &session.repository).unwrap();
    let begun = session.call(&arguments);
    assert_eq!(begun.status.code(), Some(0), "{}", said(&begun));
    assert_eq!(session.call(&["stop", &session.id, "--discard"]).status.code(), Some(0));
    assert_eq!(session.sandboxes(), Vec::<PathBuf>::new());
}

/// A command that ends once the test lets it.
fn waiting(file: &str) -> String {
    format!("until test -e /mnt/state/{file}; do sleep 0.1; done")
}

fn let_go(file: &str) {
    let empty = home().file("empty", "");
    assert!(home().run(&["volume", "put", "harvest-state", file, empty.to_str().unwrap()]).status.success());
}

#[test]
fn prompts_take_turns_in_the_order_in_which_they_came() {
    let session = Session::start(obedient());
    let gate = word();
    let (mut one, _) = session.prompting(&waiting(&gate), "step_started");
    assert!(session.api.wait_for_turns(1, REQUEST_LIMIT));
    let (mut two, _) = session.prompting("echo two", "run_queued");
    let (mut three, _) = session.prompting("echo three", "run_queued");
    let listed = session.listed();
    assert_eq!((&listed["state"], &listed["waiting"]), (&json!("working"), &json!(2)));
    let mut exec = session.command(&["exec", &session.id, "--", "true"]).spawn().unwrap();
    let_go(&gate);
    for running in [&mut one, &mut two, &mut three] {
        assert_eq!(running.wait_for("run_finished", None)["state"], "succeeded");
        assert_eq!(running.child.wait().unwrap().code(), Some(0));
    }
    assert_eq!(exec.wait().unwrap().code(), Some(0));
    let (rows, _) = session.conversation();
    let prompts: Vec<&str> =
        rows.iter().filter(|(role, _)| role == "user").map(|(_, prompt)| prompt.as_str()).collect();
    assert_eq!(prompts, [&waiting(&gate), "echo two", "echo three"]);
    assert_eq!(session.call(&["stop", &session.id]).status.code(), Some(0));
}

#[test]
fn ten_prompts_wait_at_most_and_a_session_can_be_stopped_at_once() {
    let session = Session::start(obedient());
    let (mut one, run) = session.prompting(&waiting(&word()), "step_started");
    assert!(session.api.wait_for_turns(1, REQUEST_LIMIT));
    for _ in 0..10 {
        // Their processes die in line; their places in it stay.
        session.prompting("true", "run_queued").0.kill();
    }
    let one_more = session.call(&["prompt", &session.id, "true"]);
    assert_eq!(one_more.status.code(), Some(1));
    assert!(said(&one_more).contains("10 prompts"), "{}", said(&one_more));
    let stopped = session.call(&["stop", &session.id, "--now"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", said(&stopped));
    assert_eq!(one.wait_for("run_finished", None)["state"], "cancelled");
    assert_eq!(one.child.wait().unwrap().code(), Some(130));
    assert_eq!(session.sandboxes(), Vec::<PathBuf>::new());
    assert_eq!(session.api.turns().len(), 1, "nobody else was asked");
    let (rows, _) = session.conversation();
    assert_eq!(rows.iter().filter(|(role, _)| role == "error").count(), 11, "{rows:?}");
    assert_nothing_left(&run);
}

#[test]
fn a_prompt_whose_process_is_killed_goes_on_and_is_written_down_once() {
    let session = Session::start(obedient());
    let gate = word();
    let prompt = format!("{}; echo x > b.txt", waiting(&gate));
    let (running, run) = session.prompting(&prompt, "step_started");
    assert!(session.api.wait_for_turns(1, REQUEST_LIMIT));
    running.kill();
    assert_eq!(session.listed()["state"], "working");
    let stopped = session.call(&["stop", &session.id]);
    assert!(said(&stopped).contains(&format!("run {run} of the session")), "{}", said(&stopped));
    assert_eq!(session.sandboxes().len(), 1, "gc and others leave it alone");
    assert!(home().run(&["gc"]).status.success());
    assert_eq!(session.sandboxes().len(), 1);
    let_go(&gate);
    let mut resume = home().harvest();
    resume.env("ANTHROPIC_BASE_URL", session.api.url()).env("ANTHROPIC_API_KEY", "key-of-the-operator");
    let resumed = resume.arg("resume").output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{}", said(&resumed));
    assert_eq!(home().json(&["show", &run, "--json"])["state"], "succeeded");
    assert_eq!(session.listed()["state"], "idle");
    let (rows, files) = session.conversation();
    assert_eq!((rows.len(), &files[..]), (2, &["b.txt".to_owned()][..]), "{rows:?}");
    let retried = home().run(&["rerun", &run]);
    assert!(said(&retried).contains("harvest session prompt"), "{}", said(&retried));
    assert_eq!(session.call(&["stop", &session.id]).status.code(), Some(0));
}

#[test]
fn the_record_of_a_session_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let session = Session::start(obedient());
    assert_eq!(session.prompt("true").code, 0);
    let directory = home().path().join("sessions");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for extension in ["json", "db"] {
        assert_eq!(mode(&directory.join(format!("{}.{extension}", session.id))), 0o600);
    }
    // What a sandbox puts in the way is not followed, and harms nothing.
    let name = format!("/mnt/state/sessions/{}.db", session.id);
    let planted = session.prompt(&format!("rm {name}; mkdir -p {name}/x"));
    assert_eq!(planted.code, 0, "{}", planted.said);
    assert_eq!(session.call(&["stop", &session.id]).status.code(), Some(0));
}
