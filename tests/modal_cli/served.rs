//! A home whose Modal is a server of the test's own.

use crate::harness::{Home, text};
use modal_server::{Builder, Server};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `image: host` stands for.
const IMAGE: &str = "debian:bookworm-slim";

/// The home, and the server, which goes last.
pub(crate) struct Served {
    pub(crate) home: Home,
    pub(crate) server: Server,
}

/// A run that has ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    /// The last line of `--json`: `run_finished`.
    pub(crate) last: Value,
    /// All it printed.
    pub(crate) said: String,
}

impl Served {
    /// A fresh one, with a server as this says.
    pub(crate) fn new(settings: impl FnOnce(Builder) -> Builder) -> Self {
        let home = Home::new();
        home.file("home/config.yaml", &format!("modal: {{ host-image: {IMAGE} }}\n"));
        let launcher = std::env::var_os("HARVEST_TEST_LAUNCHER");
        let launcher = launcher.map_or_else(|| env!("CARGO_BIN_EXE_harvest").into(), PathBuf::from);
        let builder = Server::builder(home.scratch().join("cloud"), launcher)
            .token("ak-test", "as-test")
            .image(IMAGE, "host");
        let server = settings(builder).start().expect("a server");
        Self { home, server }
    }

    /// The binary, with credentials for the server.
    pub(crate) fn harvest(&self) -> Command {
        let mut command = self.home.harvest();
        command.envs([
            ("MODAL_SERVER_URL", self.server.url()),
            ("MODAL_TOKEN_ID", "ak-test"),
            ("MODAL_TOKEN_SECRET", "as-test"),
            ("MODAL_CONFIG_PATH", "/no/such/modal.toml"),
        ]);
        command
    }

    /// `harvest run --json` of a file to its end.
    pub(crate) fn run(&self, file: &Path, inputs: &[(&str, &str)]) -> Ended {
        let mut command = self.harvest();
        command.args(["run", "--json", "--provider", "modal"]).arg(file);
        for (name, value) in inputs {
            command.args(["-i", &format!("{name}={value}")]);
        }
        Ended::of(command)
    }

    /// The requests of one call.
    pub(crate) fn asked(&self, rpc: &str) -> Vec<Value> {
        let calls = self.server.requests().into_iter().filter(|call| call.rpc == rpc);
        calls.flat_map(|call| call.messages).collect()
    }
}

impl Ended {
    /// Runs it to its end.
    pub(crate) fn of(mut command: Command) -> Self {
        let output = command.output().expect("it runs");
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let last = stdout.lines().last().and_then(|line| serde_json::from_str(line).ok());
        let code = output.status.code().expect("a code");
        Self { code, last: last.unwrap_or_default(), said: stdout + &stderr }
    }

    /// Kind and message of what it failed with.
    pub(crate) fn error(&self) -> (&str, &str) {
        let error = &self.last["error"];
        (error["kind"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default())
    }
}
