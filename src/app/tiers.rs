//! The tiers of sandboxes, by name. The local one is always there; a stronger one is opened when somebody asks for it, and
//! where it cannot be had that is an error: nothing else is taken instead.

use crate::capability::modal::{Client, Settings};
#[cfg(feature = "docker")]
use crate::capability::sandbox::docker;
use crate::capability::sandbox::local::LocalProvider;
use crate::capability::sandbox::modal::{self, ModalOptions, ModalProvider};
use crate::capability::sandbox::{SandboxProvider, gvisor};
use crate::capability::{CapabilityError, Result};
use crate::config;
use crate::isolation::PROVIDERS;
use crate::run::LOCAL;
use crate::step::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// What makes sandboxes, on this machine or on Modal.
pub struct Tiers {
    home: PathBuf,
    configured: config::Modal,
    local: Arc<LocalProvider>,
    gvisor: OnceCell<Arc<dyn SandboxProvider>>,
    docker: OnceCell<Arc<dyn SandboxProvider>>,
    modal: OnceCell<Arc<dyn SandboxProvider>>,
}

impl Tiers {
    /// The tiers of a home. `unavailable` where not even local sandboxes can be had.
    pub(super) fn open(home: &Path, modal: &config::Modal) -> Result<Self> {
        let local = LocalProvider::new(home, super::setup::launcher(), super::upstreams())?;
        Ok(Self {
            home: home.into(),
            configured: modal.clone(),
            local: Arc::new(local),
            gvisor: OnceCell::new(),
            docker: OnceCell::new(),
            modal: OnceCell::new(),
        })
    }

    /// The provider of runs that name none.
    pub fn local(&self) -> Arc<dyn SandboxProvider> {
        self.local.clone()
    }

    /// The provider of this name. `unavailable`, with what to install, where this machine does not have it.
    pub async fn get(&self, name: &str) -> Result<Arc<dyn SandboxProvider>> {
        match name {
            LOCAL => Ok(self.local()),
            "gvisor" => self.gvisor.get_or_try_init(|| self.open_gvisor()).await.cloned(),
            "docker" => self.docker.get_or_try_init(|| open_docker(&self.home)).await.cloned(),
            "modal" => self.modal.get_or_try_init(async || self.open_modal()).await.cloned(),
            _ => Err(CapabilityError::new(
                ErrorKind::UNAVAILABLE,
                format!("there is no provider `{name}`: this harvest has {}", PROVIDERS.join(", ")),
            )),
        }
    }

    async fn open_gvisor(&self) -> Result<Arc<dyn SandboxProvider>> {
        let home = self.home.clone();
        // It asks `runsc` what it can do.
        let opening = tokio::task::spawn_blocking(move || {
            gvisor::provider(&home, super::setup::launcher(), super::upstreams())
        });
        let provider = opening.await.map_err(|error| {
            CapabilityError::new(ErrorKind::OTHER, format!("looking for gVisor: {error}"))
        })??;
        Ok(Arc::new(provider))
    }

    fn open_modal(&self) -> Result<Arc<dyn SandboxProvider>> {
        let client = client(&self.configured)?;
        let options = ModalOptions {
            host_image: self.configured.host_image.clone(),
            idle_timeout: self.configured.idle_timeout,
            upstreams: super::upstreams()
                .into_iter()
                .map(|upstream| (upstream.name, upstream.base_url))
                .collect(),
        };
        Ok(Arc::new(ModalProvider::new(&self.home, client, options)?))
    }

    /// Those that keep images in this home. An engine that is not there now keeps its own.
    pub(super) async fn with_images(&self) -> Vec<Arc<dyn SandboxProvider>> {
        // gVisor's are the local ones.
        let mut all = vec![self.local()];
        for name in ["docker", "modal"] {
            if (name != "docker" || cfg!(feature = "docker")) && self.home.join(name).is_dir() {
                match self.get(name).await {
                    Ok(provider) => all.push(provider),
                    Err(error) => tracing::warn!("the images of `{name}` are left as they are: {error}"),
                }
            }
        }
        all
    }

    /// Ids of the sandboxes of all tiers whose files exist, with whether one is running.
    pub async fn list(&self) -> Result<Vec<(String, bool)>> {
        // gVisor's lie among the local ones.
        let mut all = self.local.list().await?;
        all.extend(containers(&self.home)?);
        all.extend(modal::sandboxes(&self.home)?);
        all.sort();
        Ok(all)
    }

    /// Ends a sandbox and deletes its files, whichever tier it is of. Succeeds where there is none.
    pub async fn remove(&self, id: &str) -> Result<()> {
        if containers(&self.home)?.iter().any(|(container, _)| container == id) {
            self.get("docker").await?.remove(id).await?;
        }
        if modal::sandboxes(&self.home)?.iter().any(|(sandbox, _)| sandbox == id) {
            self.get("modal").await?.remove(id).await?;
        }
        self.local.remove(id).await
    }
}

/// A client of Modal, as the environment and the operator say.
pub(super) fn client(configured: &config::Modal) -> Result<Client> {
    let mut settings = Settings::from_environment()?;
    if let Some(app) = &configured.app {
        settings.app.clone_from(app);
    }
    if let Some(kind) = configured.client_type {
        settings.identity.kind = kind;
    }
    if let Some(version) = &configured.client_version {
        settings.identity.version.clone_from(version);
    }
    settings.identity.headers.extend(configured.headers.clone());
    Client::new(settings)
}

#[cfg(feature = "docker")]
async fn open_docker(home: &Path) -> Result<Arc<dyn SandboxProvider>> {
    let launcher = super::setup::launcher();
    let provider = docker::DockerProvider::connect(home, &launcher, super::upstreams()).await?;
    Ok(Arc::new(provider))
}

#[cfg(not(feature = "docker"))]
async fn open_docker(_: &Path) -> Result<Arc<dyn SandboxProvider>> {
    Err(CapabilityError::new(
        ErrorKind::UNAVAILABLE,
        "the provider `docker` is not built in: build harvest with `cargo build --release --features docker`",
    ))
}

/// Sandboxes that are containers.
#[cfg(feature = "docker")]
fn containers(home: &Path) -> Result<Vec<(String, bool)>> {
    docker::sandboxes(home)
}

#[cfg(not(feature = "docker"))]
#[expect(clippy::unnecessary_wraps, reason = "the shape of what is built with Docker")]
fn containers(_: &Path) -> Result<Vec<(String, bool)>> {
    Ok(Vec::new())
}
