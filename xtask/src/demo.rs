//! `cargo xtask demo`: an agent session from end to end, on a sample repository whose test fails.

mod model;
pub(crate) mod sample;

use crate::debian::{self, Need, Probe};
use crate::program::Program;
use crate::{build, workspace};
use sample::Sample;
use serde_json::Value;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

const NEEDED: [Need; 3] = [
    Need { probe: Probe::Program("git"), package: "git" },
    Need { probe: Probe::Program("cc"), package: "gcc libc6-dev" },
    Need { probe: Probe::Program("npm"), package: "npm" },
];
const PROMPT: &str = "The test of ten pieces fails. Find out why, fix the code (not the test), run the tests with \
`node --test`, and note in your memory how the tests of this repository are run.";
/// Either makes the demo use the real model.
const CREDENTIALS: [&str; 2] = ["CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY"];
const AUTHOR: &str = "Developer (Harvest) <dev@example.com>";

/// Builds everything, then runs the session and shows what came of it.
pub(crate) fn run() -> Result<(), String> {
    let missing = debian::missing(&NEEDED);
    if !missing.is_empty() {
        return Err(debian::remedy(&missing));
    }
    heading("Building harvest");
    let binary = build::binary()?;
    build::agent()?;

    let start = Instant::now();
    let directory = workspace::root().join("target").join("demo");
    let home = directory.join("home");
    fs::create_dir_all(&directory)
        .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
    let model = Model::choose()?;
    let demo = Demo { binary, home, sample: Sample::create(&directory.join("sample"))?, model };
    demo.session()?;
    println!("\nThe demo took {:.1} s after the build.", start.elapsed().as_secs_f64());
    Ok(())
}

/// Who answers the CLI.
enum Model {
    Real { variable: &'static str },
    Scripted(scripted_api::Server),
}

impl Model {
    fn choose() -> Result<Self, String> {
        let set = |name: &&&str| env::var(name).is_ok_and(|value| !value.trim().is_empty());
        match CREDENTIALS.iter().find(set) {
            Some(variable) => Ok(Self::Real { variable }),
            None => Ok(Self::Scripted(model::start()?)),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Real { variable } => {
                format!("Claude answers: {variable} is set, and this session costs money.")
            }
            Self::Scripted(_) => format!(
                "No model is asked: {} are not set, so a script on this machine answers in its place. The Claude Code \
                 CLI, its tools, the sandbox, git and the memory server are the real ones.",
                CREDENTIALS.join(" and ")
            ),
        }
    }
}

struct Demo {
    binary: PathBuf,
    home: PathBuf,
    sample: Sample,
    model: Model,
}

impl Demo {
    fn session(&self) -> Result<(), String> {
        let root = workspace::root();
        heading("The agent image");
        self.harvest()
            .args(["image", "build", "--name", "agent"])
            .arg(root.join("images/agent.yaml"))
            .run()?;

        heading("The sample repository");
        println!("{}", self.sample.path.display());
        println!("its tests, before: {}", verdict(self.tests_pass(sample::BRANCH)?));

        heading("The session");
        println!("{}\n", self.model.describe());
        let session = self
            .harvest()
            .arg("run")
            .arg(root.join("workflows/agent-session.yaml"))
            .args(["-i", &format!("repo={}", self.sample.path.display())])
            .args(["-i", &format!("prompt={PROMPT}")])
            .args(["-i", "author.name=Developer", "-i", "author.email=dev@example.com"]);
        session.run().map_err(|error| self.explain(error))?;
        self.model_was_told()?;

        let runs = self.json(&["runs", "--workflow", "agent-session", "--limit", "1", "--json"])?;
        let run = runs[0]["run"].as_str().ok_or("harvest lists no run of agent-session")?.to_owned();
        let branch = format!("harvest/{run}");
        heading("The commit");
        let commit = self.sample.show(&branch)?;
        println!("{commit}");
        if !commit.contains(AUTHOR) {
            return Err(format!("the commit on {branch} is not by {AUTHOR}"));
        }
        let passes = self.tests_pass(&branch)?;
        println!("the tests, after: {}", verdict(passes));
        heading("The memory graph of the repository");
        self.show_memory()?;
        heading("What it cost");
        let shown = self.json(&["show", &run, "--json"])?;
        let (usd, tokens) = (&shown["cost"]["usd"], &shown["cost"]["tokens"]);
        let list_price =
            if matches!(self.model, Model::Scripted(_)) { " (list price; nothing was spent)" } else { "" };
        println!("{:.4} USD, {tokens} tokens{list_price}", usd.as_f64().unwrap_or_default());

        heading("Try next");
        let harvest = format!("{} --home {}", relative(&self.binary), relative(&self.home));
        println!("git -C {} diff {}..{branch}", relative(&self.sample.path), sample::BRANCH);
        println!("{harvest} show {run}");
        println!("{harvest} logs {run} agent");
        if passes { Ok(()) } else { Err(format!("the tests still fail on {branch}")) }
    }

    /// The binary on the demo's own home, with the model that was chosen.
    fn harvest(&self) -> Program {
        let program = Program::new(&self.binary).arg("--home").arg(&self.home).directory(workspace::root());
        match &self.model {
            Model::Real { .. } => program,
            Model::Scripted(server) => {
                program.with("ANTHROPIC_BASE_URL", server.url()).with("ANTHROPIC_API_KEY", "scripted")
            }
        }
    }

    fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let output = self.harvest().args(arguments).output()?;
        serde_json::from_str(&output)
            .map_err(|error| format!("harvest {} wrote no JSON: {error}", arguments[0]))
    }

    /// Runs the sample's tests in a sandbox: what an agent wrote never runs outside of one.
    fn tests_pass(&self, branch: &str) -> Result<bool, String> {
        let output = self
            .harvest()
            .args(["--quiet", "run", "--json"])
            .arg(workspace::root().join("xtask/demo/verify.yaml"))
            .args(["-i", &format!("repo={}", self.sample.path.display()), "-i", &format!("branch={branch}")])
            .output()?;
        let last: Value = output
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .ok_or("harvest run --json wrote no last line")?;
        let code = last["outputs"]["exit_code"].as_i64();
        code.map(|code| code == 0).ok_or_else(|| format!("the tests did not run: {last}"))
    }

    /// What the agent is told must have reached the model.
    fn model_was_told(&self) -> Result<(), String> {
        let Model::Scripted(server) = &self.model else { return Ok(()) };
        let agents = fs::read_to_string(workspace::root().join("images/agent/AGENTS.md"))
            .map_err(|error| format!("cannot read AGENTS.md: {error}"))?;
        match server.turns().first() {
            Some(first) if first.mentions(agents.trim()) => Ok(()),
            Some(_) => Err("the first request to the model does not hold the text of AGENTS.md".into()),
            None => Err("the model was never asked".into()),
        }
    }

    fn show_memory(&self) -> Result<(), String> {
        let volumes = self.json(&["volume", "list", "--json"])?;
        let mut volumes = volumes.as_array().into_iter().flatten().filter_map(Value::as_str);
        let volume = volumes.rfind(|name| name.starts_with("harvest-memory-") && name.contains("sample"));
        let volume = volume.ok_or("there is no memory volume of the sample repository")?;
        let graph = self.harvest().args(["volume", "get", volume, "memory.jsonl"]).output()?;
        let (known, empty): (Vec<_>, Vec<_>) = graph
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|entry| entry["type"] == "entity")
            .partition(|entity| entity["observations"].as_array().is_some_and(|all| !all.is_empty()));
        for entity in &known {
            let observations =
                entity["observations"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let name = entity["name"].as_str().unwrap_or_default();
            println!("{name}: {}", observations.collect::<Vec<_>>().join("; "));
        }
        println!("and {} entities that know nothing yet (volume {volume})", empty.len());
        Ok(())
    }

    fn explain(&self, error: String) -> String {
        let logs = format!("{} --home {} runs", relative(&self.binary), relative(&self.home));
        format!("{error}; `{logs}` lists it, `show RUN` and `logs RUN` say more")
    }
}

fn heading(text: &str) {
    println!("\n=== {text}");
}

fn verdict(passes: bool) -> &'static str {
    if passes { "they pass" } else { "one fails" }
}

/// A path as it can be typed at the root of the clone.
fn relative(path: &Path) -> String {
    path.strip_prefix(workspace::root()).unwrap_or(path).display().to_string()
}
