//! Tries Modal: whose credentials there are, whether its servers take them, and, where it may cost something, a sandbox.

use super::Probe;
use crate::app::tiers;
use crate::capability::modal::Client;
use crate::capability::sandbox::modal::{ModalOptions, ModalProvider};
use crate::capability::sandbox::{Chunk, ExecSpec, ExitStatus, ImagePull, SandboxProvider, SandboxSpec};
use crate::capability::{CapabilityError, Result};
use crate::config::{Configuration, Home};
use crate::step::ErrorKind;
use std::sync::Arc;

/// What the sandbox of the trial is made from where the operator names nothing.
const IMAGE: &str = "debian:bookworm-slim";
/// What it must say.
const WORD: &str = "harvest was here";

/// Tries credentials and servers; with `live` also an image, a sandbox, a command in it and a snapshot of it, for a
/// fraction of a cent.
pub async fn probes(home: &Home, live: bool) -> Vec<Probe> {
    let configured = match Configuration::read(home) {
        Ok(configuration) => configuration.modal,
        Err(error) => {
            return vec![Probe::new("modal configuration", Err(error), "mend what the message names")];
        }
    };
    let client = match tiers::client(&configured) {
        Ok(client) => client,
        Err(error) => {
            return vec![Probe::new("modal credentials", Err(error.message), "run `modal token new`")];
        }
    };
    let mut probes = vec![Probe::new("modal credentials", Ok(client.settings().source.clone()), "")];
    let answered = client.hello().await.map(|_| client.settings().servers.join(", "));
    let reached = answered.is_ok();
    let remedy = "mend what the message names: the token, or the way to the server";
    probes.push(Probe::new("modal server", answered.map_err(|error| error.message), remedy));
    if !reached {
        return probes;
    }
    let builder = client.builder_version().await.map(|version| format!("version {version}"));
    let remedy = "set MODAL_ENVIRONMENT to an environment of the workspace";
    probes.push(Probe::new("modal image builder", builder.map_err(|error| error.message), remedy));
    if live {
        let image = configured.host_image.as_deref().unwrap_or(IMAGE);
        let tried = smoke(home, client, image).await.map_err(|error| error.message);
        let remedy = "see the message, and what https://status.modal.com says";
        probes.push(Probe::new("modal sandbox", tried, remedy));
    }
    probes
}

async fn smoke(home: &Home, client: Client, image: &str) -> Result<String> {
    let provider = ModalProvider::new(home.path(), client, ModalOptions::default())?;
    let quiet = Arc::new(|line: &str| tracing::info!("modal: {line}"));
    let pull = ImagePull { reference: image.into(), ..ImagePull::default() };
    let (image_id, _) = provider.pull_image(&pull, None, quiet).await?;
    let id = format!("doctor-{}", ulid::Ulid::generate().to_string().to_ascii_lowercase());
    let spec = SandboxSpec { id: id.clone(), image: image_id, ..SandboxSpec::default() };
    let tried = work_in(&provider, spec).await;
    let removed = provider.remove(&id).await;
    tried?;
    removed?;
    Ok(format!("made from {image}, worked in, saved and removed"))
}

async fn work_in(provider: &ModalProvider, spec: SandboxSpec) -> Result<()> {
    let sandbox = provider.open(spec).await?;
    let command = ["echo", WORD].map(str::to_owned).into();
    let mut process = sandbox.exec(ExecSpec { command, ..ExecSpec::default() }).await?;
    let mut said = Vec::new();
    while let Some(chunk) = process.next().await? {
        let (Chunk::Stdout(bytes) | Chunk::Stderr(bytes)) = chunk;
        said.extend_from_slice(&bytes);
    }
    let status = process.wait().await?;
    if status != ExitStatus::Code(0) || said != format!("{WORD}\n").as_bytes() {
        let message =
            format!("`echo` ended with code {} and said `{}`", status.code(), String::from_utf8_lossy(&said));
        return Err(CapabilityError::new(ErrorKind::OTHER, message));
    }
    sandbox.snapshot().await.map(drop)
}
