//! A home with the agent image, and sessions on it.

use crate::harness::repository::git;
use crate::harness::{Home, Running, text};
use harvest::id::RunId;
use scripted_api::{Script, Server, scenario};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// For the CLI to send a request, on a machine that does other things too.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(120);

/// The home of all sessions here: the agent image is 0.4 GB, and is built once.
pub(crate) fn home() -> &'static Home {
    static HOME: OnceLock<Home> = OnceLock::new();
    HOME.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        agent_cli::agent_cli().unwrap().link(&root.join("target/agent-cli")).unwrap();
        let home = Home::shared("agent");
        let definition = root.join("images/agent.yaml");
        let built = home.run(&["image", "build", definition.to_str().unwrap()]);
        assert!(built.status.success(), "{}", text(&built.stderr));
        home
    })
}

/// A word that nothing else here uses.
pub(crate) fn word() -> String {
    let digits = RunId::generate().to_string();
    digits[10..]
        .chars()
        .map(|c| if c.is_ascii_digit() { (c as u8 - b'0' + b'g') as char } else { c })
        .collect()
}

/// A repository below the shared home's scratch, with these files on `main`.
pub(crate) fn repository(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = home().scratch().canonicalize().unwrap().join(name);
    for (file, content) in files {
        let file = path.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
    git(&path, &["init", "-q"]);
    git(&path, &["add", "-A"]);
    git(&path, &["commit", "-qm", "first"]);
    path
}

/// One prompt in a sandbox of the agent image, with nothing around it. `more` ends the mapping `with`, and may go on.
pub(crate) fn prompt_only(name: &str, more: &str) -> PathBuf {
    let file = format!(
        "harvest: 1\nname: {name}\ninputs:\n  prompt: {{ type: string, default: Go }}\nsandboxes:\n  box: {{ image: agent }}\nsteps:\n  agent:\n    uses: claude/run\n    with: {{ cwd: /workspace, prompt: \"${{{{ inputs.prompt }}}}\"{more}\n"
    );
    home().file(&format!("{name}.yaml"), &file)
}

/// The same with a budget for the run.
pub(crate) fn prompt_within(name: &str, budget: &str, more: &str) -> PathBuf {
    let file = prompt_only(name, more);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("sandboxes:", &format!("budget: {budget}\nsandboxes:"))).unwrap();
    file
}

/// Runs it against a script to its end, and sees that nothing is left of it.
pub(crate) fn ended(script: Script, file: &Path) -> (Ended, Server) {
    let api = Server::start(script).unwrap();
    let ended = Ended::of(run(&api, "key-of-the-operator", file, &[]));
    assert_nothing_left(&ended.run);
    (ended, api)
}

/// A script by its name.
pub(crate) fn named(name: &str) -> Script {
    scenario(name, Path::new("/workspace")).unwrap()
}

/// A workflow file that ships.
pub(crate) fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows").join(name)
}

/// `harvest run --json` of a workflow, with this server as the model API and this key for it.
pub(crate) fn run(api: &Server, key: &str, file: &Path, inputs: &[(&str, &str)]) -> Command {
    let mut command = home().harvest();
    command.env("ANTHROPIC_BASE_URL", api.url()).env("ANTHROPIC_API_KEY", key);
    command.args(["run", "--json"]).arg(file);
    for (name, value) in inputs {
        command.args(["-i", &format!("{name}={value}")]);
    }
    command
}

/// `harvest run --json` of the agent session.
pub(crate) fn session(api: &Server, repo: &str) -> Command {
    let author = [("author.name", "Grace Hopper"), ("author.email", "grace@example.com")];
    let inputs = [&[("repo", repo), ("prompt", "Do what is needed.")][..], &author].concat();
    run(api, "key-of-the-operator", &shipped("agent-session.yaml"), &inputs)
}

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) run: String,
    pub(crate) code: i32,
    /// The line of `run_finished`.
    pub(crate) last: Value,
    /// All it printed.
    pub(crate) said: String,
}

impl Ended {
    /// Runs it to its end.
    pub(crate) fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let stdout = text(&output.stdout);
        let stderr = text(&output.stderr);
        let last = stdout.lines().last().unwrap_or_else(|| panic!("no line: {stderr}"));
        let last: Value = serde_json::from_str(last).unwrap();
        let run = last["run"].as_str().unwrap().to_owned();
        Self { run, code: output.status.code().unwrap(), last, said: stdout + &stderr }
    }

    /// The kind of error that it failed with.
    pub(crate) fn kind(&self) -> &str {
        self.last["error"]["kind"].as_str().unwrap_or_default()
    }

    /// What it said why.
    pub(crate) fn message(&self) -> &str {
        self.last["error"]["message"].as_str().unwrap_or_default()
    }

    /// `harvest show`.
    pub(crate) fn show(&self) -> Value {
        home().json(&["show", &self.run, "--json"])
    }

    /// The branch that a local repository receives.
    pub(crate) fn branch(&self) -> String {
        format!("harvest/{}", self.run)
    }
}

/// Starts a run and waits until its agent has asked the model this often.
pub(crate) fn start_and_ask(command: Command, api: &Server, turns: usize) -> (Running, String) {
    let mut running = Running::of(command);
    let run = running.wait_for("run_started", None)["run"].as_str().unwrap().to_owned();
    assert!(api.wait_for_turns(turns, REQUEST_LIMIT), "the model was asked {} times", api.turns().len());
    (running, run)
}

/// Nothing is left of a run: no process of its sandboxes, no mount.
pub(crate) fn assert_nothing_left(run: &str) {
    assert_eq!(crate::harness::processes_with(run), Vec::<String>::new());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(run), "a mount is left: {mounts}");
}
