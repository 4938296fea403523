//! The real binary on a home of its own.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod chance;
pub(crate) mod github;
pub(crate) mod https;
pub(crate) mod mcp;
pub(crate) mod ordinary_user;
pub(crate) mod registry;
pub(crate) mod repository;
pub(crate) mod webhook;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use tempfile::TempDir;

/// What a developer's own environment may say, and no test may hear.
const OF_THE_DEVELOPER: [&str; 12] = [
    "DOCKER_CONFIG",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "GITHUB_TOKEN",
    "HARVEST_GITHUB_URL",
    "HARVEST_JOURNAL",
    "MODAL_TOKEN_ID",
    "MODAL_TOKEN_SECRET",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "CURL_CA_BUNDLE",
];

/// A home of harvest, with room for the test's own files beside it.
pub(crate) struct Home {
    directory: PathBuf,
    _temporary: Option<TempDir>,
}

impl Home {
    /// A fresh one that goes with the test.
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        Self { directory: temporary.path().to_owned(), _temporary: Some(temporary) }
    }

    /// A fresh one at a place of its own, which stays there: for what is too large to be made for each test.
    pub(crate) fn shared(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        Self { directory, _temporary: None }
    }

    /// Its directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("home")
    }

    /// A directory for the test's own files, beside the home.
    pub(crate) fn scratch(&self) -> &Path {
        &self.directory
    }

    /// Writes a file of the test.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary, with nothing of the developer's own environment that could change what it does.
    pub(crate) fn harvest(&self) -> Command {
        // Elsewhere where the tests run as a user who cannot enter the build directory.
        let binary = std::env::var_os("HARVEST_TEST_LAUNCHER");
        let mut command = Command::new(binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_harvest").into()));
        for variable in OF_THE_DEVELOPER {
            command.env_remove(variable);
        }
        command.env("HARVEST_HOME", self.path()).stdin(Stdio::null());
        command
    }

    /// Runs it and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.harvest().args(arguments).output().unwrap()
    }

    /// Starts `harvest run --json` on a workflow.
    pub(crate) fn start(&self, file: &Path) -> Running {
        let mut command = self.harvest();
        command.args(["run", "--json"]).arg(file);
        Running::of(command)
    }

    /// Runs a workflow with `--json` and returns its exit code and its last line.
    pub(crate) fn finish(&self, file: &Path, arguments: &[&str]) -> (i32, Value) {
        let output = self.harvest().args(["run", "--json"]).arg(file).args(arguments).output().unwrap();
        let last = text(&output.stdout).lines().last().map(|line| serde_json::from_str(line).unwrap());
        (output.status.code().unwrap(), last.unwrap_or_else(|| panic!("no line: {}", text(&output.stderr))))
    }

    /// The one JSON value that a command prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {}", text(&output.stderr)))
    }

    /// Follows what a run says until it has said this.
    pub(crate) fn wait_until_said(&self, run: &str, words: &str) {
        let mut logs =
            self.harvest().args(["logs", "-f", "--json", run]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(logs.stdout.take().unwrap()).lines();
        let said = lines.any(|line| line.unwrap().contains(words));
        logs.kill().unwrap();
        logs.wait().unwrap();
        assert!(said, "the run ended without saying {words}");
    }

    /// The id of the newest run.
    pub(crate) fn newest(&self) -> String {
        self.json(&["runs", "--json"])[0]["run"].as_str().unwrap().to_owned()
    }

    /// Files of the home that hold these bytes.
    pub(crate) fn files_with(&self, needle: &str) -> Vec<PathBuf> {
        /// Nothing where it has gone meanwhile: tests that share a home run at the same time.
        fn there<T>(found: std::io::Result<T>) -> Option<T> {
            match found {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                found => Some(found.unwrap()),
            }
        }
        let mut found = Vec::new();
        let mut directories = vec![self.path()];
        while let Some(directory) = directories.pop() {
            for entry in there(std::fs::read_dir(directory)).into_iter().flatten().flatten() {
                let Some(kind) = there(entry.file_type()) else { continue };
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_file() {
                    let Some(bytes) = there(std::fs::read(entry.path())) else { continue };
                    if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                        found.push(entry.path());
                    }
                }
            }
        }
        found
    }
}

/// A run in the foreground of another process.
pub(crate) struct Running {
    /// The process.
    pub(crate) child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    /// Starts a `harvest run --json`.
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads events until one is of this type, for this step where one is named.
    pub(crate) fn wait_for(&mut self, kind: &str, step: Option<&str>) -> Value {
        loop {
            let mut line = String::new();
            assert_ne!(
                self.lines.read_line(&mut line).unwrap(),
                0,
                "the run ended before {kind} of {step:?}"
            );
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["type"] == kind && step.is_none_or(|step| event["step"] == step) {
                return event;
            }
        }
    }

    /// Reads events until one has this number, or false where the run ends before.
    pub(crate) fn wait_for_record(&mut self, seq: u64) -> bool {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return false;
            }
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["seq"] == seq {
                return event["type"] != "run_finished";
            }
        }
    }

    /// Ends the process as a power cut would, as far as one process goes.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Processes whose command line holds this text.
pub(crate) fn processes_with(needle: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let commands = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    commands.map(|command| text(&command)).filter(|command| command.contains(needle)).collect()
}
