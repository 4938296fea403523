//! `cargo xtask live-modal`: harvest on Modal itself, for whoever has a token. It costs a few cents.

use crate::demo::sample::Sample;
use crate::program::Program;
use crate::{build, workspace};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// What `image: host` stands for in the trial.
const CONFIGURATION: &str = "modal: { host-image: debian:bookworm-slim }\n";
/// Builds harvest, then runs `doctor`, a small workflow and, with `session`, an agent session on Modal.
pub(crate) fn run(session: bool) -> Result<(), String> {
    token(&|name| env::var(name).ok())?;
    let binary = build::binary()?;
    let directory = workspace::root().join("target").join("live-modal");
    let live = Live { binary, home: directory.join("home"), directory };
    live.prepare()?;
    live.smoke()?;
    if session { live.session() } else { Ok(()) }
}

/// Whether there is a token where harvest looks for one.
fn token(variable: &dyn Fn(&str) -> Option<String>) -> Result<(), String> {
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    if set("MODAL_TOKEN_ID").is_some() && set("MODAL_TOKEN_SECRET").is_some() {
        return Ok(());
    }
    let file = set("MODAL_CONFIG_PATH").map(PathBuf::from);
    let file = file.or_else(|| Some(Path::new(&set("HOME")?).join(".modal.toml")));
    match file {
        Some(file) if file.is_file() => Ok(()),
        _ => Err(
            "there is no Modal token: set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or run `modal token new`"
                .into(),
        ),
    }
}

struct Live {
    binary: PathBuf,
    home: PathBuf,
    directory: PathBuf,
}

impl Live {
    fn prepare(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot prepare {}: {error}", self.directory.display());
        fs::create_dir_all(&self.home).map_err(failed)?;
        fs::write(self.home.join("config.yaml"), CONFIGURATION).map_err(failed)
    }

    fn smoke(&self) -> Result<(), String> {
        self.harvest(&["doctor", "--modal", "--live"]).run()?;
        self.harvest(&["run", "--provider", "modal"])
            .arg(workspace::root().join("xtask/live-modal.yaml"))
            .run()
    }

    /// The model's key is the one that Modal keeps: the workflow that ships names it.
    fn session(&self) -> Result<(), String> {
        let root = workspace::root();
        self.harvest(&["image", "build", "--provider", "modal"]).arg(root.join("images/agent.yaml")).run()?;
        let sample = Sample::create(&self.directory.join("sample"))?;
        self.harvest(&["run", "--provider", "modal"])
            .arg(root.join("workflows/agent-session.yaml"))
            .args(["-i", &format!("repo={}", sample.path.display())])
            .args(["-i", "prompt=A test fails. Find out why and fix the code, not the test."])
            .args(["-i", "author.name=Developer", "-i", "author.email=dev@example.com"])
            .run()
    }

    fn harvest(&self, arguments: &[&str]) -> Program {
        Program::new(&self.binary).arg("--home").arg(&self.home).args(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_token_it_says_in_one_line_what_to_set() {
        let error = token(&|_| None).unwrap_err();
        assert!(error.contains("MODAL_TOKEN_ID") && error.lines().count() == 1, "{error}");
        let half = |name: &str| (name == "MODAL_TOKEN_ID").then(|| "ak-1".to_owned());
        assert!(token(&half).is_err());
        assert_eq!(token(&|name| name.starts_with("MODAL_TOKEN").then(|| "x".to_owned())), Ok(()));
    }
}
