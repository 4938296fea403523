//! From a file and inputs to a run that can begin: everything that can be wrong is found before anything is journalled.

use super::tiers::Tiers;
use super::{App, AppError, author, files};
use crate::capability::CapabilityError;
use crate::capability::secret::RunSecret;
use crate::capability::secret_source::{self, Found, Keeper};
use crate::host::Components;
use crate::id::RunId;
use crate::run::RunStarted;
use crate::step::ErrorKind;
use crate::workflow::Workflow;
use crate::workflow::check::{self, Checked, check};
use crate::workflow::inputs::read_inputs;
use crate::workflow::model::Mock;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to run, with what.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// The workflow file.
    pub file: PathBuf,
    /// The text of a workflow that is part of harvest; `file` is only its name then.
    pub text: Option<&'static str>,
    /// Inputs as text, by name or dotted path.
    pub inputs: Vec<(String, String)>,
    /// Inputs as values, by name.
    pub json: Option<Map<String, Value>>,
    /// A file of answers that stand in for steps.
    pub mocks: Option<PathBuf>,
    /// Faults to inject, each as `STEP=FAULT@ATTEMPT`.
    pub inject: Vec<String>,
    /// What asked for the run: `cli`, `api`, `schedule` ...
    pub trigger: String,
    /// What makes its sandboxes: one of [`PROVIDERS`](crate::isolation::PROVIDERS).
    pub provider: String,
}

/// A run that is good to begin.
#[derive(Debug)]
pub struct Prepared {
    /// Its id.
    pub run: RunId,
    /// What will be journalled first.
    pub started: RunStarted,
    /// Its secrets, by name.
    pub secrets: BTreeMap<String, RunSecret>,
}

impl AppError {
    /// The diagnostics as people read them, where a workflow file is what is wrong.
    pub fn diagnostics(&self, color: bool) -> Option<String> {
        let Self::Invalid { diagnostics, .. } = self else { return None };
        Some(diagnostics.iter().map(|diagnostic| diagnostic.render(color)).collect::<Vec<_>>().join("\n"))
    }
}

impl App {
    /// Checks a file against the components it names. Returns its text and what was found.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn check_file(&self, file: &Path) -> Result<(String, Checked), AppError> {
        let text = files::read(file)?;
        let checked = self.check_text(file, &text);
        Ok((text, checked))
    }

    fn check_text(&self, file: &Path, text: &str) -> Checked {
        check(&file.display().to_string(), text, &self.catalog(file))
    }

    /// The components that a file can name.
    pub(super) fn catalog(&self, file: &Path) -> Components {
        let directory = file.parent().map(ToOwned::to_owned).unwrap_or_default();
        Components::new(self.library.clone(), directory)
    }

    /// Gets a run ready to begin.
    ///
    /// # Errors
    /// Every mistake in the file, every mistake in the inputs, or every secret without a value.
    pub async fn prepare(&self, request: &StartRequest) -> Result<Prepared, AppError> {
        self.prepare_with(request, Ask::Everything).await
    }

    /// Gets a run ready, as far as the values of its secrets are asked for.
    pub(super) async fn prepare_with(&self, request: &StartRequest, ask: Ask) -> Result<Prepared, AppError> {
        let (text, checked) = match request.text {
            Some(text) => (text.to_owned(), self.check_text(&request.file, text)),
            None => self.check_file(&request.file)?,
        };
        let Some(workflow) = checked.workflow else {
            let file = request.file.display().to_string();
            return Err(AppError::Invalid { file, diagnostics: checked.diagnostics });
        };
        let absolute = request.text.is_none().then(|| std::path::absolute(&request.file).ok()).flatten();
        let file = absolute.unwrap_or_else(|| request.file.clone());
        let directory = file.parent().map(ToOwned::to_owned).unwrap_or_default();
        let run = RunId::generate();
        let about = about(&run, &workflow, &request.trigger);
        let inputs = read_inputs(&workflow, request.inputs.clone(), request.json.clone(), &about)
            .map_err(|errors| AppError::Inputs(errors.iter().map(ToString::to_string).collect()))?;
        let hashes = super::hashes::of(&workflow.hashes, &directory)?;
        let mocks = request
            .mocks
            .as_deref()
            .map(|mocks| self.mocks_of(mocks, &workflow, &request.file))
            .transpose()?;
        let mocks = mocks.unwrap_or_default();
        let injected = check::injections(&request.inject, &workflow, &self.catalog(&request.file))
            .map_err(AppError::Inputs)?;
        let ask = if mocks.is_empty() { ask } else { Ask::WhatThereIs };
        let secrets = secrets(&workflow, &directory, ask, self.tiers(), &request.provider).await?;
        let started = RunStarted {
            workflow: workflow.name.clone(),
            definition: Arc::new(workflow),
            source: text,
            file: file.display().to_string(),
            inputs,
            run: about,
            secrets: secrets.keys().cloned().collect(),
            hashes,
            mocks,
            injected,
            parent: None,
            provider: request.provider.clone(),
            session: None,
        };
        Ok(Prepared { run, started, secrets })
    }

    /// The answers in a file that stand in for steps of the workflow in `file`.
    fn mocks_of(
        &self,
        mocks: &Path,
        workflow: &Workflow,
        file: &Path,
    ) -> Result<BTreeMap<String, Vec<Mock>>, AppError> {
        let name = mocks.display().to_string();
        check::mocks(&name, &files::read(mocks)?, workflow, &self.catalog(file))
            .map_err(|diagnostics| AppError::Invalid { file: name, diagnostics })
    }
}

impl App {
    /// Gets a new run ready with the workflow of an earlier one and its inputs, some of them replaced.
    ///
    /// # Errors
    /// Where there is no such run, or it is part of a session, or its inputs do not fit any more, or a secret has no
    /// value.
    pub async fn prepare_again(
        &self,
        earlier: &RunId,
        inputs: Vec<(String, String)>,
        trigger: &str,
    ) -> Result<Prepared, AppError> {
        let (state, ..) = self.engine().replay(earlier).await?;
        let earlier = state.started();
        self.refuse_session(earlier)?;
        let run = RunId::generate();
        let about = about(&run, &earlier.definition, trigger);
        let inputs = read_inputs(&earlier.definition, inputs, Some(earlier.inputs.clone()), &about)
            .map_err(|errors| AppError::Inputs(errors.iter().map(ToString::to_string).collect()))?;
        let directory = Path::new(&earlier.file).parent().map(ToOwned::to_owned).unwrap_or_default();
        let hashes = super::hashes::of(&earlier.definition.hashes, &directory)?;
        let ask = Ask::of(earlier);
        let secrets = secrets(&earlier.definition, &directory, ask, self.tiers(), &earlier.provider).await?;
        let started = RunStarted {
            inputs,
            run: about,
            secrets: secrets.keys().cloned().collect(),
            hashes,
            parent: None,
            ..earlier.clone()
        };
        Ok(Prepared { run, started, secrets })
    }
}

/// How the values of secrets are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// All of them must be there.
    Everything,
    /// A run that only tries its workflow out does without those that are not.
    WhatThereIs,
    /// The same, and no program is run and no provider asked for one: nothing is to happen yet.
    Foreseen,
}

impl Ask {
    /// As a run needs it.
    pub(super) fn of(started: &RunStarted) -> Self {
        if started.mocks.is_empty() { Self::Everything } else { Self::WhatThereIs }
    }
}

/// The secrets that a workflow names, for sandboxes of this provider. A run that only tries its workflow out does without
/// those it lacks.
///
/// # Errors
/// Where one that is not optional is nowhere; all of them are named, with everything that was tried.
pub(super) async fn secrets(
    workflow: &Workflow,
    directory: &Path,
    ask: Ask,
    tiers: &Tiers,
    provider: &str,
) -> Result<BTreeMap<String, RunSecret>, AppError> {
    let scheme = format!("{provider}:");
    let named =
        workflow.secrets.values().flat_map(|source| &source.from).any(|from| from.starts_with(&scheme));
    let asked = if named && ask != Ask::Foreseen { Some(tiers.get(provider).await?) } else { None };
    let keeper = match &asked {
        Some(provider) => Keeper::Provider(&**provider),
        None if named => Keeper::Foreseen(provider),
        None => Keeper::Nobody,
    };
    let mut found = BTreeMap::new();
    let mut missing = Vec::new();
    for (name, source) in &workflow.secrets {
        let sources: Vec<String> = source
            .from
            .iter()
            .filter(|from| ask != Ask::Foreseen || !from.starts_with("command:"))
            .cloned()
            .collect();
        match secret_source::resolve(name, &sources, directory, keeper).await.map_err(unreadable)? {
            Found::Secret(secret) => drop(found.insert(name.clone(), secret)),
            Found::Nothing(_)
                if source.optional || ask != Ask::Everything || !workflow.hands_out(name) => {}
            Found::Nothing(tried) => missing.push(format!(
                "secret `{name}` has no value: tried {}; set one of them, or write `optional: true` where the workflow can do without",
                tried.join(", ")
            )),
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(AppError::Secret(missing.join("\n"))) }
}

/// Why a secret could not be asked for: a provider that does not answer is no mistake in the configuration.
fn unreadable(error: CapabilityError) -> AppError {
    match [ErrorKind::UNAVAILABLE, ErrorKind::RATE_LIMITED].contains(&error.kind) {
        true => AppError::Capability(error),
        false => AppError::Secret(error.message),
    }
}

/// What expressions see as `run`.
fn about(run: &RunId, workflow: &Workflow, trigger: &str) -> Map<String, Value> {
    let about =
        json!({ "id": run, "workflow": workflow.name, "trigger": trigger, "author": author::author() });
    match about {
        Value::Object(about) => about,
        _ => Map::new(),
    }
}
