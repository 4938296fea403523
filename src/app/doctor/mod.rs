//! Tries everything that harvest needs from this machine, one cause and one remedy each.

mod claude;
mod modal;

pub use claude::probes as probes_of_claude;
pub use modal::probes as probes_of_modal;

use super::{App, setup};
#[cfg(feature = "docker")]
use crate::capability::sandbox::docker;
use crate::capability::sandbox::gvisor;
use crate::capability::sandbox::local::{self, LocalProvider};
use crate::config::Home;
use serde::Serialize;

/// What was tried, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What was tried.
    pub name: String,
    /// Whether harvest works with it.
    pub ok: bool,
    /// Whether harvest does well without it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// What was found.
    pub detail: String,
    /// What to do where it does not work, or where it could be better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Probe {
    fn new(name: &str, found: Result<String, String>, remedy: &str) -> Self {
        let ok = found.is_ok();
        let detail = found.unwrap_or_else(|error| error);
        Self { name: name.into(), ok, optional: false, detail, remedy: (!ok).then(|| remedy.into()) }
    }
}

impl From<local::Probe> for Probe {
    fn from(probe: local::Probe) -> Self {
        let local::Probe { name, ok, optional, detail, remedy } = probe;
        Self { name: name.into(), ok, optional, detail, remedy: (!remedy.is_empty()).then_some(remedy) }
    }
}

/// Tries everything: first what sandboxes are made of, then a real one.
pub async fn probes(home: &Home) -> Vec<Probe> {
    let mut probes = vec![
        Probe::new("home", Ok(home.path().display().to_string()), ""),
        Probe::new("git", git(), "install git 2.30 or newer: git steps run it on the host"),
    ];
    probes.extend(local::probes(home.path()).into_iter().map(Probe::from));
    let opened =
        App::open(home.clone()).map(|_| "all of it opens".to_owned()).map_err(|error| error.to_string());
    let remedy = "mend what the message names, or use another home with --home DIR";
    probes.push(Probe::new("journal and stores", opened, remedy));
    match LocalProvider::new(home.path(), setup::launcher(), Vec::new()) {
        Ok(provider) => probes.push(provider.check().await.into()),
        Err(error) => probes.push(Probe::new("sandbox", Err(error.message), "see the probes above")),
    }
    probes.push(gvisor::probe().into());
    #[cfg(feature = "docker")]
    probes.push(docker::probe().await.into());
    probes
}

fn git() -> Result<String, String> {
    let output = std::process::Command::new("git").arg("--version").output();
    match output {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(output) => Err(format!("git --version ended with {}", output.status)),
        Err(error) => Err(format!("git cannot be started: {error}")),
    }
}
