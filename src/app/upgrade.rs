//! From a run and a new version of its file to what becomes of its steps. The file is checked, its components are taken
//! in, its inputs and secrets are found, all before the run hears of it.

use super::start::{self, Ask};
use super::{App, AppError, files, hashes};
use crate::id::{Digest, RunId, StepId};
use crate::run::{Run, Terms, Upgrade, Version};
use crate::workflow::Workflow;
use crate::workflow::check::check;
use crate::workflow::inputs::read_inputs;
use crate::workflow::model::Action;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// What to move a run to.
#[derive(Clone, Debug)]
pub struct UpgradeRequest {
    /// The workflow file.
    pub file: PathBuf,
    /// Inputs that get another value, as text, by name or dotted path.
    pub inputs: Vec<(String, String)>,
    /// Whether finished steps that may have acted outside of the run's sandboxes may be done again.
    pub again: bool,
    /// Finished steps whose outputs stay, whatever has changed about them.
    pub keep: BTreeSet<StepId>,
    /// Who asks for it.
    pub by: Option<String>,
}

impl App {
    /// What an upgrade would do now, without doing it. No program is run for a secret.
    ///
    /// # Errors
    /// Every mistake in the file or the inputs.
    pub async fn foresee_upgrade(&self, run: &RunId, request: &UpgradeRequest) -> Result<Upgrade, AppError> {
        let (state, ..) = self.engine().replay(run).await?;
        let mut version = self.version(run, &state, request, Ask::Foreseen).await?;
        // Programs were not asked; what the run had of them, it will have again.
        let known = state.started().secrets.iter();
        version.secrets.extend(known.filter(|name| version.definition.secrets.contains_key(*name)).cloned());
        Ok(state.upgrade(&version, &self.terms(&state, request)?))
    }

    /// Moves a run to another version of its file, unless that is refused.
    ///
    /// # Errors
    /// Every mistake in the file or the inputs, or every secret without a value.
    pub async fn upgrade(&self, run: &RunId, request: &UpgradeRequest) -> Result<Upgrade, AppError> {
        let (state, ..) = self.engine().replay(run).await?;
        let version = self.version(run, &state, request, Ask::of(state.started())).await?;
        let terms = self.terms(&state, request)?;
        Ok(self.engine().upgrade(run, &version, &terms, state.upgrades(), request.by.clone()).await?)
    }

    async fn version(
        &self,
        run: &RunId,
        state: &Run,
        request: &UpgradeRequest,
        ask: Ask,
    ) -> Result<Version, AppError> {
        let text = files::read(&request.file)?;
        let name = request.file.display().to_string();
        let checked = check(&name, &text, &self.catalog(&request.file));
        let Some(workflow) = checked.workflow else {
            return Err(AppError::Invalid { file: name, diagnostics: checked.diagnostics });
        };
        let file = std::path::absolute(&request.file).unwrap_or_else(|_| request.file.clone());
        let directory = file.parent().map(ToOwned::to_owned).unwrap_or_default();
        let started = state.started();
        // An input keeps its value where the file still has it. What is absent may have a default now.
        let kept = started
            .inputs
            .iter()
            .filter(|(name, value)| !value.is_null() && workflow.inputs.contains_key(*name));
        let kept = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        let inputs = read_inputs(&workflow, request.inputs.clone(), Some(kept), &started.run)
            .map_err(|errors| AppError::Inputs(errors.iter().map(ToString::to_string).collect()))?;
        let hashes = hashes::of(&workflow.hashes, &directory)?;
        let secrets = start::secrets(&workflow, &directory, ask, self.tiers(), &started.provider).await?;
        let version = Version {
            definition: Arc::new(workflow),
            source: text,
            file: file.display().to_string(),
            inputs,
            secrets: secrets.keys().cloned().collect(),
            hashes,
        };
        // What its sandboxes need must be there before the run is told.
        let mut begun = started.clone();
        begun.definition = version.definition.clone();
        begun.inputs.clone_from(&version.inputs);
        begun.file.clone_from(&version.file);
        self.ground.set_up(run, &begun, secrets).await?;
        Ok(version)
    }

    fn terms(&self, state: &Run, request: &UpgradeRequest) -> Result<Terms, AppError> {
        let unknown = request.keep.iter().find(|id| state.definition(id).is_none());
        if let Some(id) = unknown {
            return Err(AppError::Inputs(vec![format!("`--keep {id}`: the run has no step `{id}`")]));
        }
        let mut digests = BTreeSet::new();
        components(state.workflow(), &mut digests);
        digests.retain(|digest| self.library.is_contained(digest));
        Ok(Terms { again: request.again, keep: request.keep.clone(), contained: digests })
    }
}

/// The components of a workflow and of those it runs.
fn components(workflow: &Workflow, found: &mut BTreeSet<Digest>) {
    for (_, step) in workflow.all_steps() {
        match &step.action {
            Action::Call(call) => _ = found.insert(call.digest),
            Action::Workflow(sub) => components(&sub.definition, found),
            Action::Approve(_) | Action::ForEach(_) => {}
        }
    }
}
