//! Tries everything that harvest needs from this machine, one cause and one remedy each.

use super::App;
use crate::capability::sandbox::{Chunk, ExecSpec, SandboxSpec};
use crate::config::Home;
use crate::id::RunId;
use serde::Serialize;

/// What was tried, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What was tried.
    pub name: String,
    /// Whether it works.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do where it does not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Probe {
    fn new(name: &str, found: Result<String, String>, remedy: &str) -> Self {
        let ok = found.is_ok();
        let detail = found.unwrap_or_else(|error| error);
        Self { name: name.into(), ok, detail, remedy: (!ok).then(|| remedy.into()) }
    }
}

/// Tries everything; the later probes only where the earlier ones they build on succeeded.
pub async fn probes(home: &Home) -> Vec<Probe> {
    let mut probes = vec![
        Probe::new("home", Ok(home.path().display().to_string()), ""),
        Probe::new("git", git(), "install git 2.30 or newer: git steps run it on the host"),
    ];
    match App::open(home.clone()) {
        Err(error) => {
            let remedy = "mend what the message names, or use another home with --home DIR";
            probes.push(Probe::new("journal and providers", Err(error.to_string()), remedy));
        }
        Ok(app) => {
            let kept = format!("{} opens", home.join("journal").display());
            probes.push(Probe::new("journal and providers", Ok(kept), ""));
            let remedy = "enable unprivileged user namespaces and overlayfs (Linux 5.14 or newer; on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)";
            probes.push(Probe::new("sandbox", sandbox(&app).await, remedy));
        }
    }
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

/// Opens a real sandbox and looks out of it.
async fn sandbox(app: &App) -> Result<String, String> {
    let id = format!("doctor-{}", RunId::generate());
    let spec = SandboxSpec { id: id.clone(), image: "host".into(), ..SandboxSpec::default() };
    let tried = async {
        let sandbox = app.provider().open(spec).await?;
        let command = ["sh", "-c", "cat /proc/self/uid_map && ls /sys/class/net 2>/dev/null | wc -l"]
            .map(str::to_owned);
        let mut process = sandbox.exec(ExecSpec { command: command.into(), ..ExecSpec::default() }).await?;
        let mut seen = String::new();
        while let Some(chunk) = process.next().await? {
            if let Chunk::Stdout(bytes) = chunk {
                seen.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        let code = process.wait().await?.code();
        Ok::<_, crate::capability::CapabilityError>((sandbox.isolation(), code))
    };
    let outcome = tried.await;
    let removed = app.provider().remove(&id).await;
    let (isolation, code) = outcome.map_err(|error| error.message)?;
    removed.map_err(|error| error.message)?;
    match code {
        0 => Ok(format!(
            "isolates: ids {}, memory {}, pids {}, network {}",
            isolation.ids, isolation.memory, isolation.pids, isolation.network
        )),
        code => Err(format!("a command in a sandbox ended with code {code}")),
    }
}
