//! The composition root: the only place that knows both the engine and the host, every store and every provider.

mod author;
mod call;
mod catalogs;
pub mod doctor;
mod error;
mod files;
mod fix;
mod hashes;
pub mod journals;
mod plan;
mod require;
pub mod retention;
mod schema;
mod serving;
pub mod session;
mod setup;
mod start;
pub mod tiers;
pub mod transfer;
mod upgrade;

pub use catalogs::Catalogs;
pub use error::AppError;
pub use schema::WrittenSchema;
pub use serving::Serving;
pub use start::{Prepared, StartRequest};
pub use tiers::Tiers;
pub use upgrade::UpgradeRequest;

use crate::capability::registry::{FileRegistry, Registry};
use crate::capability::sandbox::local::Upstream;
use crate::capability::stream::StreamStore;
use crate::config::{self, Configuration, Home};
use crate::engine::dispatcher::{Dispatcher, Scope};
use crate::engine::{Ended, Engine, EngineError, Lease, Leases, SystemClock};
use crate::host::Library;
use crate::id::{RunId, StepId};
use crate::journal::{Journal, MAX_LIMIT};
use crate::run::Run;
use std::sync::Arc;

/// Everything that works on one home.
pub struct App {
    home: Home,
    configuration: Configuration,
    journal: Arc<dyn Journal>,
    streams: Arc<dyn StreamStore>,
    tiers: Arc<Tiers>,
    registry: Arc<dyn Registry>,
    library: Library,
    ground: Arc<setup::Ground>,
    engine: Engine,
    leases: Leases,
    sessions: session::Records,
}

/// What came of the wish to go on with a run that failed.
pub enum Retried {
    /// This process goes on with it.
    Begun(Box<Driven>),
    /// It has not failed.
    Refused,
    /// Another process holds it.
    Busy,
}

/// A run that this process holds the lease of.
pub struct Driven {
    engine: Engine,
    run: RunId,
    _lease: Lease,
}

impl Driven {
    /// Which run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// Drives it to its end.
    ///
    /// # Errors
    /// Where the journal fails; the run can be resumed.
    pub async fn finish(self) -> Result<Ended, EngineError> {
        self.engine.drive(&self.run).await
    }
}

impl App {
    /// Opens a home with everything in it.
    ///
    /// # Errors
    /// A sentence that names what cannot be used.
    pub fn open(home: Home) -> Result<Self, AppError> {
        let config = |what: &str, error: &dyn std::fmt::Display| AppError::Config(format!("{what}: {error}"));
        let configuration = Configuration::read(&home).map_err(AppError::Config)?;
        let journal = journals::open(&home, &configuration)?;
        let streams = setup::streams(&home)?;
        let tiers = Arc::new(Tiers::open(home.path(), &configuration.modal)?);
        let library = Library::open(home.path()).map_err(|error| config("the component library", &error))?;
        let registry: Arc<dyn Registry> = Arc::new(FileRegistry::new(home.path()));
        let host = setup::host(&home, library.clone(), tiers.local(), registry.clone(), streams.clone())?;
        let leases = Leases::open(&home.join("leases")).map_err(|error| config("the leases", &error))?;
        let ground = Arc::new(setup::Ground { home: home.clone(), tiers: tiers.clone(), host: host.clone() });
        let clock = Arc::new(SystemClock);
        let engine = Engine::new(journal.clone(), host, ground.clone(), clock, home.path());
        Ok(Self {
            configuration,
            journal,
            streams,
            tiers,
            registry,
            library,
            ground,
            engine,
            leases,
            sessions: session::Records::of(&home),
            home,
        })
    }

    /// The home.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The journal.
    pub fn journal(&self) -> &dyn Journal {
        self.journal.as_ref()
    }

    /// The journal, for whoever outlives a borrow of this.
    pub fn shared_journal(&self) -> Arc<dyn Journal> {
        self.journal.clone()
    }

    /// What steps say.
    pub fn streams(&self) -> &dyn StreamStore {
        self.streams.as_ref()
    }

    /// What makes sandboxes, images and volumes, by name.
    pub fn tiers(&self) -> &Tiers {
        &self.tiers
    }

    /// The operator's repositories.
    pub fn registry(&self) -> &dyn Registry {
        self.registry.as_ref()
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Journals the beginning of a prepared run and takes its lease.
    ///
    /// # Errors
    /// Where the journal fails.
    pub async fn begin(&self, prepared: Prepared) -> Result<Driven, AppError> {
        let Prepared { run, started, secrets } = prepared;
        let lease =
            self.lease(&run)?.ok_or_else(|| AppError::Config(format!("another process drives run {run}")))?;
        if let Err(error) = self.prune_sandboxes().await {
            tracing::warn!("files of ended runs were not removed: {error}");
        }
        let setup = self.ground.set_up(&run, &started, secrets).await?;
        self.engine.begin(&run, started).await?;
        self.ground.host.register(&run, setup)?;
        Ok(Driven { engine: self.engine.clone(), run, _lease: lease })
    }

    /// Takes over a run that nobody drives, `None` where a living process does or where it has ended.
    ///
    /// # Errors
    /// Where the run cannot be followed, or a secret it needs has no value any more.
    pub async fn take_over(&self, run: &RunId) -> Result<Option<Driven>, AppError> {
        let Some(lease) = self.lease(run)? else { return Ok(None) };
        let (state, ..) = self.engine.replay(run).await?;
        if state.finished().is_some() {
            return Ok(None);
        }
        let started = state.started();
        // A step of another run goes on with that one, which asks for it.
        if let Some(parent) = &started.parent
            && self.engine.replay(&parent.run).await.is_ok_and(|(state, ..)| state.finished().is_none())
        {
            return Ok(None);
        }
        self.go_on(run, &state, lease).await.map(Some)
    }

    /// Gets the host ready for a run that this process has the lease of.
    async fn go_on(&self, run: &RunId, state: &Run, lease: Lease) -> Result<Driven, AppError> {
        let started = state.started();
        let directory =
            std::path::Path::new(&started.file).parent().map(ToOwned::to_owned).unwrap_or_default();
        let ask = start::Ask::of(started);
        let secrets =
            start::secrets(&started.definition, &directory, ask, self.tiers(), &started.provider).await?;
        let setup = self.ground.set_up(run, started, secrets).await?;
        self.ground.host.register(run, setup)?;
        Ok(Driven { engine: self.engine.clone(), run: run.clone(), _lease: lease })
    }

    /// Makes a run that ended without success due again, and takes it over.
    ///
    /// # Errors
    /// Where it is part of a session, which goes on with a new prompt, or as for [`App::take_over`]; the run is due again then, for `harvest resume`.
    pub async fn retry(&self, run: &RunId, note: Option<String>) -> Result<Retried, AppError> {
        // Held before it is due, so that nobody else takes it up in between.
        let Some(lease) = self.lease(run)? else { return Ok(Retried::Busy) };
        self.refuse_session(self.engine.replay(run).await?.0.started())?;
        if !self.engine.retry(run, note).await? {
            return Ok(Retried::Refused);
        }
        let (state, ..) = self.engine.replay(run).await?;
        Ok(Retried::Begun(Box::new(self.go_on(run, &state, lease).await?)))
    }

    /// Drives many runs at once.
    pub fn dispatcher(&self, scope: Scope) -> Dispatcher {
        Dispatcher::new(self.engine.clone(), self.leases.clone(), scope)
    }

    /// The right to serve this home, `None` where a living process has it.
    ///
    /// # Errors
    /// Where its lock cannot be made.
    pub fn begin_serving(&self) -> Result<Option<Serving>, AppError> {
        Serving::begin(&self.home).map_err(|error| {
            AppError::Config(format!("cannot lock {}: {error}", Serving::path(&self.home).display()))
        })
    }

    /// Runs that nobody drives, oldest first, at most `limit`.
    ///
    /// # Errors
    /// Where the journal or a lease cannot be looked at.
    pub async fn interrupted(&self, limit: usize) -> Result<Vec<RunId>, AppError> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.journal.unfinished(after, MAX_LIMIT).await?;
            let Some((last, _)) = page.last() else { return Ok(found) };
            after = Some(last.clone());
            for (run, _) in page {
                if found.len() == limit {
                    return Ok(found);
                }
                if self.lease(&run)?.is_some() && !self.is_driven_by_another_run(&run).await? {
                    found.push(run);
                }
            }
        }
    }

    /// Whether a run that has not ended drives this one, which is a step of it.
    async fn is_driven_by_another_run(&self, run: &RunId) -> Result<bool, AppError> {
        // One that cannot be followed is found when it is taken up.
        let Ok((state, ..)) = self.engine.replay(run).await else { return Ok(false) };
        Ok(match &state.started().parent {
            Some(parent) => {
                self.engine.replay(&parent.run).await.is_ok_and(|(state, ..)| state.finished().is_none())
            }
            None => false,
        })
    }

    /// Whether a living process drives the run.
    ///
    /// # Errors
    /// Where the lease cannot be looked at.
    pub fn is_driven(&self, run: &RunId) -> Result<bool, AppError> {
        Ok(self.lease(run)?.is_none())
    }

    /// The lines by which people fetch what the steps of a run committed.
    ///
    /// # Errors
    /// Where the run cannot be followed.
    pub async fn fetch_lines(&self, run: &RunId) -> Result<Vec<String>, AppError> {
        let (state, ..) = self.engine.replay(run).await?;
        let workflow = state.workflow();
        let steps = workflow.steps.keys().chain(workflow.finally.keys());
        let line = |step: &StepId| Some(state.outputs_of(step)?.get("fetch")?.as_str()?.to_owned());
        Ok(steps.filter_map(line).filter(|line| !line.is_empty()).collect())
    }

    fn lease(&self, run: &RunId) -> Result<Option<Lease>, AppError> {
        self.leases
            .take(run)
            .map_err(|error| AppError::Config(format!("cannot take the lease of run {run}: {error}")))
    }
}

/// The services that gateways of sandboxes may lead to, with the operator's own credentials.
fn upstreams() -> Vec<Upstream> {
    use crate::capability::sandbox::Credential;
    use crate::capability::secret::Secret;
    let from_env = |variable: &str, header: &str, prefix: &str| {
        let value = std::env::var(variable).ok().filter(|value| !value.trim().is_empty())?;
        let secret = Secret::new(variable.to_ascii_lowercase(), value.trim());
        Some(Credential { header: header.into(), prefix: prefix.into(), secret })
    };
    let credential = from_env("ANTHROPIC_API_KEY", "x-api-key", "")
        .or_else(|| from_env("CLAUDE_CODE_OAUTH_TOKEN", "authorization", "Bearer "));
    let service = |name: &str, base_url| {
        let (name, credentials) = (name.to_owned(), Vec::new());
        Upstream { name, base_url, credentials, metered: false }
    };
    vec![
        Upstream {
            name: "anthropic".into(),
            base_url: config::anthropic_base_url(),
            credentials: credential.into_iter().collect(),
            metered: true,
        },
        service("github-mcp", config::github_mcp_url()),
        service("linear-mcp", config::linear_mcp_url()),
        service("gemini", config::gemini_url()),
        service("sentry", config::sentry_url("sentry.io")),
        service("sentry-us", config::sentry_url("us.sentry.io")),
        service("sentry-de", config::sentry_url("de.sentry.io")),
    ]
}
