//! What belongs to a run while it runs here: its sandboxes, its secrets, where its files go. Registered by whoever
//! drives the run, dropped on release.

use super::refusals::Refusals;
use super::visits::{Visit, Visits};
use crate::capability::git::GitProvider;
use crate::capability::mask::Masker;
use crate::capability::meter::Meter;
use crate::capability::registry::Registry;
use crate::capability::sandbox::{Network, RefusalSink, Sandbox, SandboxProvider, SandboxSpec};
use crate::capability::secret::RunSecret;
use crate::capability::stream::StreamStore;
use crate::capability::{CapabilityError, Result};
use crate::id::{Digest, RunId};
use crate::isolation::Require;
use crate::step::ErrorKind;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The capabilities that every run shares.
#[derive(Clone)]
pub struct Providers {
    /// Sandboxes, images and volumes.
    pub sandboxes: Arc<dyn SandboxProvider>,
    /// Git over the network; `None` where this host has no git.
    pub git: Option<Arc<dyn GitProvider>>,
    /// The operator's repositories.
    pub registry: Arc<dyn Registry>,
    /// What steps say.
    pub streams: Arc<dyn StreamStore>,
}

/// What a run needs of the host, already evaluated.
#[derive(Clone, Debug, Default)]
pub struct RunSetup {
    /// The run's sandboxes by their name in the file. Ids are unique on this machine and the same after a restart.
    pub sandboxes: BTreeMap<String, SandboxSpec>,
    /// What the file demands of them, by the same names; those of which it demands nothing may be absent.
    pub require: BTreeMap<String, Require>,
    /// Names of sandboxes whose files stay after the run.
    pub keep: BTreeSet<String>,
    /// The secrets that the run has, by their name in the file.
    pub secrets: BTreeMap<String, RunSecret>,
    /// Names of the components that the run uses, by content. Components without one cannot use `store`.
    pub components: BTreeMap<Digest, String>,
    /// Millionths of a US dollar that the run may spend in all.
    pub budget_micro_usd: Option<u64>,
    /// Directory for the artifacts of the run; made at first use, mode 0700.
    pub artifacts: PathBuf,
    /// What makes its sandboxes and images, where that is not what the host has for every run.
    pub provider: Option<Tier>,
    /// The run whose commits, brought to the host, this one goes on with; its own where there is none.
    pub first: Option<RunId>,
}

/// A provider that a run has asked for by name.
#[derive(Clone)]
pub struct Tier(pub Arc<dyn SandboxProvider>);

impl std::fmt::Debug for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tier")
    }
}

/// A sandbox of a run: opened when a step first uses it, and again where it has ended since.
pub(super) struct SandboxSlot {
    spec: SandboxSpec,
    provider: Arc<dyn SandboxProvider>,
    /// Shared with the slot of another setup of the run, where that is the same sandbox.
    opened: Arc<Mutex<Option<Opened>>>,
    keep: bool,
    name: String,
    require: Require,
    /// The attempts that work in it.
    visits: Arc<Visits>,
}

/// An open sandbox.
struct Opened {
    sandbox: Arc<dyn Sandbox>,
    /// The policy that is in force there; `None` where setting one was broken off.
    network: Option<Network>,
}

impl SandboxSlot {
    pub(super) fn id(&self) -> &str {
        &self.spec.id
    }

    pub(super) fn spec(&self) -> &SandboxSpec {
        &self.spec
    }

    /// Lets an attempt work in it, until the visit is dropped. Its policy, where it has one of its own, holds meanwhile.
    /// `conflict` where one with another policy works there.
    pub(super) fn enter(&self, network: Option<&Network>, refusals: Arc<Refusals>) -> Result<Visit> {
        self.visits.enter(network.unwrap_or(&self.spec.network), refusals)
    }

    /// The sandbox, with the policy of who works in it; opened by whichever step comes first, the others wait for it.
    /// One that has ended since is opened again, and goes on with its files.
    pub(super) async fn open(&self) -> Result<Arc<dyn Sandbox>> {
        let mut opened = self.opened.lock().await;
        let now = match &mut *opened {
            Some(now) if now.sandbox.is_open() => now,
            slot => slot.insert(self.make().await?),
        };
        let wanted = self.visits.network().unwrap_or_else(|| self.spec.network.clone());
        if now.network.as_ref() != Some(&wanted) {
            now.network = None;
            now.sandbox.set_network(wanted.clone()).await?;
            now.network = Some(wanted);
        }
        Ok(now.sandbox.clone())
    }

    /// Lets those who work in it reach a host beyond their policy.
    pub(super) async fn reach(&self, host: &str) -> Result<()> {
        self.visits.reach(host);
        self.open().await.map(drop)
    }

    async fn make(&self) -> Result<Opened> {
        let sandbox = self.provider.open(self.spec.clone()).await?;
        self.met_by(&*sandbox).await?;
        sandbox.on_refusal(self.sink());
        self.visits.log(&self.name, &sandbox.isolation());
        Ok(Opened { sandbox, network: Some(self.spec.network.clone()) })
    }

    /// Ends a sandbox that is held in less well than the file demands; the run was let through on what the provider had
    /// foreseen.
    async fn met_by(&self, sandbox: &dyn Sandbox) -> Result<()> {
        let unmet = self.require.unmet(self.provider.name(), &sandbox.isolation());
        if unmet.is_empty() {
            return Ok(());
        }
        sandbox.terminate().await?;
        let message = format!("sandbox `{}`: {}", self.name, unmet.join("; "));
        Err(CapabilityError::new(ErrorKind::UNAVAILABLE, message))
    }

    /// Tells those who work in the sandbox of refused connections.
    fn sink(&self) -> RefusalSink {
        let (visits, name) = (self.visits.clone(), self.name.clone());
        Arc::new(move |refused| visits.refused(&name, refused))
    }

    /// Ends its processes, if it has any.
    pub(super) async fn terminate(&self) -> Result<()> {
        match self.opened.lock().await.take() {
            Some(opened) => opened.sandbox.terminate().await,
            None => Ok(()),
        }
    }

    async fn end(&self, keep_files: bool) -> Result<()> {
        if self.keep || keep_files {
            return self.terminate().await;
        }
        // Not terminated first: a provider may save the files of one that is, and nobody needs them.
        let opened = self.opened.lock().await.take();
        // Also where it was never opened here: an earlier process may have.
        let removed = self.provider.remove(self.id()).await;
        drop(opened);
        removed
    }
}

/// A run as its steps see it.
pub(super) struct RunContext {
    pub(super) run: RunId,
    pub(super) sandboxes: BTreeMap<String, Arc<SandboxSlot>>,
    pub(super) secrets: BTreeMap<String, RunSecret>,
    pub(super) masker: Masker,
    pub(super) components: BTreeMap<Digest, String>,
    pub(super) artifacts: PathBuf,
    /// What its attempts spend together.
    pub(super) meter: Arc<Meter>,
    pub(super) first: RunId,
    pub(super) providers: Providers,
}

impl RunContext {
    /// Fails where a secret cannot be masked.
    pub(super) fn new(run: RunId, setup: RunSetup, mut providers: Providers) -> Result<Self> {
        if let Some(Tier(provider)) = setup.provider {
            providers.sandboxes = provider;
        }
        let masker = Masker::new(setup.secrets.values().filter_map(RunSecret::here))?;
        let meter = Arc::new(Meter::default());
        meter.limit(setup.budget_micro_usd);
        let slot = |(name, spec): (String, SandboxSpec)| {
            let keep = setup.keep.contains(&name);
            let provider = providers.sandboxes.clone();
            let require = setup.require.get(&name).cloned().unwrap_or_default();
            let (opened, visits) = (Arc::default(), Arc::default());
            let slot = SandboxSlot { spec, provider, opened, keep, name: name.clone(), require, visits };
            (name, Arc::new(slot))
        };
        Ok(Self {
            first: setup.first.unwrap_or_else(|| run.clone()),
            run,
            sandboxes: setup.sandboxes.into_iter().map(slot).collect(),
            secrets: setup.secrets,
            masker,
            components: setup.components,
            artifacts: setup.artifacts,
            meter,
            providers,
        })
    }

    /// The run with another setup. Sandboxes that are the same stay as they are, open or not.
    pub(super) async fn revised(&self, setup: RunSetup) -> Result<Self> {
        let budget = setup.budget_micro_usd;
        let mut revised = Self::new(self.run.clone(), setup, self.providers.clone())?;
        // Attempts under way go on spending, now within the new budget.
        revised.meter = self.meter.clone();
        revised.meter.limit(budget);
        for (name, slot) in &mut revised.sandboxes {
            let Some(old) = self.sandboxes.get(name) else { continue };
            let open = old.opened.lock().await.is_some();
            // Whatever its image is called now: one that is open was made from what it was called then.
            let image = if open { &old.spec.image } else { &slot.spec.image };
            if (SandboxSpec { image: image.clone(), ..slot.spec.clone() }) == old.spec {
                *slot = Arc::new(SandboxSlot {
                    spec: old.spec.clone(),
                    provider: old.provider.clone(),
                    opened: old.opened.clone(),
                    keep: slot.keep,
                    name: name.clone(),
                    require: slot.require.clone(),
                    visits: old.visits.clone(),
                });
            }
        }
        Ok(revised)
    }

    /// Ends what another setup of the same run has no use for: sandboxes that it opens in another way, and, files
    /// included, those that it does not have.
    pub(super) async fn give_way(&self, to: &Self) {
        for (name, slot) in &self.sandboxes {
            let ended = match to.sandboxes.get(name) {
                None => slot.end(false).await,
                Some(new) if new.opened.lock().await.is_none() => slot.terminate().await,
                Some(_) => Ok(()),
            };
            if let Err(error) = ended {
                tracing::warn!("sandbox {} of run {} was not ended: {error}", slot.id(), self.run);
            }
        }
    }

    pub(super) fn sandbox(&self, name: &str) -> Result<Arc<SandboxSlot>> {
        self.sandboxes.get(name).cloned().ok_or_else(|| {
            CapabilityError::new(ErrorKind::NOT_FOUND, format!("the run has no sandbox {name}"))
        })
    }

    pub(super) fn secret(&self, name: &str) -> Option<RunSecret> {
        self.secrets.get(name).cloned()
    }

    /// Ends the sandboxes and deletes the files of those that are not kept.
    pub(super) async fn end(&self, keep_files: bool) {
        for slot in self.sandboxes.values() {
            if let Err(error) = slot.end(keep_files).await {
                tracing::warn!("sandbox {} of run {} was not removed: {error}", slot.id(), self.run);
            }
        }
    }
}
