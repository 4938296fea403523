//! From a run that begins, or goes on, to what the host needs for it: sandboxes evaluated, secrets at hand.

use super::tiers::Tiers;
use super::{App, AppError};
use crate::capability::CapabilityError;
use crate::capability::git::{GitProvider, LocalGit};
use crate::capability::registry::Registry;
use crate::capability::sandbox::{ImageSpec, SandboxProvider, SandboxSpec};
use crate::capability::secret::RunSecret;
use crate::capability::stream::{LocalStreams, StreamStore};
use crate::config::Home;
use crate::engine::{Preparer, Surroundings};
use crate::host::{HostExecutor, Library, Providers, RunSetup, Tier};
use crate::id::RunId;
use crate::isolation::PROVIDERS;
use crate::run::{Event, Run, RunStarted};
use crate::step::{ErrorKind, StepError};
use crate::workflow::model::{SandboxTemplate, Template};
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Key of an image definition: what is different for one provider.
const VARIANTS: &str = "providers";

/// What runs are prepared with.
pub(super) struct Ground {
    pub(super) home: Home,
    pub(super) tiers: Arc<Tiers>,
    pub(super) host: Arc<HostExecutor>,
}

#[async_trait]
impl Preparer for Ground {
    async fn prepare(&self, run: &RunId, started: &RunStarted) -> Result<Surroundings, StepError> {
        let directory = Path::new(&started.file).parent().map(ToOwned::to_owned).unwrap_or_default();
        let secrets = super::start::secrets(
            &started.definition,
            &directory,
            super::start::Ask::of(started),
            &self.tiers,
            &started.provider,
        )
        .await
        .map_err(step_error)?;
        let names = secrets.keys().cloned().collect();
        let hashes = super::hashes::of(&started.definition.hashes, &directory).map_err(step_error)?;
        let setup = self.set_up(run, started, secrets).await.map_err(step_error)?;
        self.host.revise(run, setup).await.map_err(|error| StepError::new(error.kind, error.message))?;
        Ok(Surroundings { secrets: names, hashes })
    }
}

fn step_error(error: AppError) -> StepError {
    let kind = match &error {
        AppError::Secret(_) => ErrorKind::AUTH_ERROR,
        AppError::Capability(error) => error.kind.clone(),
        _ => ErrorKind::INVALID,
    };
    StepError::new(kind, error.to_string())
}

impl Ground {
    /// Evaluates what the run needs of the host. The same run gets the same sandboxes after a restart.
    pub(super) async fn set_up(
        &self,
        run: &RunId,
        started: &RunStarted,
        secrets: BTreeMap<String, RunSecret>,
    ) -> Result<RunSetup, AppError> {
        let state = Run::begin(0, &Event::RunStarted(Box::new(started.clone())))
            .map_err(|error| AppError::Config(error.to_string()))?;
        let mut setup = RunSetup {
            secrets,
            budget_micro_usd: started.definition.budget_micro_usd,
            artifacts: self.home.join("artifacts").join(run.as_str()),
            first: started.session.as_ref().map(|session| session.first.clone()),
            ..RunSetup::default()
        };
        let provider = self.tiers.get(&started.provider).await?;
        setup.provider = Some(Tier(provider.clone()));
        let workflow = state.workflow();
        // Where answers stand in for steps, a sandbox may never be opened.
        if started.mocks.is_empty() {
            // One that is out of reach is a matter of the steps, which may be tried again.
            if let Err(error) = provider.admitted().await
                && error.kind == ErrorKind::AUTH_ERROR
            {
                return Err(error.into());
            }
            super::require::met(&*provider, workflow).await?;
        }
        for (name, template) in &workflow.sandboxes {
            let mut spec = sandbox(&state, name, template)?;
            spec.id = match &started.session {
                Some(session) => super::session::sandbox_id(&session.id, name),
                None => format!("{run}-{name}"),
            };
            if let Some(fallback) = &template.image_fallback
                && spec.image != "host"
                && provider.find_image(&spec.image).await?.is_none()
            {
                spec.image = text(&state, name, "image.fallback", fallback)?;
            }
            // Where answers stand in for steps, a sandbox may never be opened.
            let needed = started.mocks.is_empty() && spec.image != "host";
            if needed && provider.find_image(&spec.image).await?.is_none() {
                let message = format!(
                    "sandbox `{name}`: there is no image `{}`: build it with `harvest image build FILE --name {}`, or write `image: host`",
                    spec.image, spec.image
                );
                return Err(CapabilityError::new(ErrorKind::NOT_FOUND, message).into());
            }
            if !template.require.is_empty() {
                setup.require.insert(name.clone(), template.require.clone());
            }
            if template.keep || started.session.is_some() {
                setup.keep.insert(name.clone());
            }
            setup.sandboxes.insert(name.clone(), spec);
        }
        let calls = workflow.all_steps().filter_map(|(_, step)| step.call());
        setup.components = calls.map(|call| (call.digest, call.component.clone())).collect();
        Ok(setup)
    }
}

impl App {
    /// Reads an image definition as it is for one provider; paths under `copy` are relative to its directory.
    ///
    /// # Errors
    /// Where the file cannot be read or is no image definition, for this provider or another.
    pub fn read_image(&self, file: &Path, provider: &str) -> Result<ImageSpec, AppError> {
        let say = |what: &dyn std::fmt::Display| AppError::File(format!("{}: {what}", file.display()));
        let text = super::files::read(file)?;
        let value =
            crate::workflow::data::read(&file.display().to_string(), &text).map_err(|error| say(&error))?;
        let mut spec = image_of(value, provider).map_err(|error| say(&error))?;
        let directory = file.parent().unwrap_or(Path::new("."));
        for source in spec.copy.values_mut() {
            let path = directory.join(&*source);
            let found = path
                .canonicalize()
                .map_err(|error| say(&format!("`copy` of {}: {error}", path.display())))?;
            *source = found.display().to_string();
        }
        Ok(spec)
    }
}

/// The definition for one provider: what it has under `providers` stands in place of the same keys of all.
fn image_of(mut value: Value, provider: &str) -> Result<ImageSpec, String> {
    let variants = value.as_object_mut().and_then(|definition| definition.remove(VARIANTS));
    let read = |value| serde_json::from_value::<ImageSpec>(value).map_err(|error| error.to_string());
    let mut spec = read(value.clone())?;
    let Some(variants) = variants else { return Ok(spec) };
    let wrong = || format!("`{VARIANTS}` maps names of providers to keys of a definition");
    for (name, variant) in variants.as_object().ok_or_else(wrong)? {
        if !PROVIDERS.contains(&name.as_str()) {
            return Err(format!("`{VARIANTS}.{name}`: the providers are {}", PROVIDERS.join(", ")));
        }
        let keys = variant.as_object().ok_or_else(wrong)?.clone();
        let mut whole = value.clone();
        if let Some(definition) = whole.as_object_mut() {
            definition.extend(keys);
        }
        let variant = read(whole).map_err(|error| format!("`{VARIANTS}.{name}`: {error}"))?;
        if name == provider {
            spec = variant;
        }
    }
    Ok(spec)
}

pub(super) fn sandbox(state: &Run, name: &str, template: &SandboxTemplate) -> Result<SandboxSpec, AppError> {
    let map = |key: &str, templates: &BTreeMap<String, Template>| {
        templates
            .iter()
            .map(|(at, template)| Ok((at.clone(), text(state, name, &format!("{key}.{at}"), template)?)))
            .collect::<Result<BTreeMap<_, _>, AppError>>()
    };
    Ok(SandboxSpec {
        id: String::new(),
        image: text(state, name, "image", &template.image)?,
        volumes: map("volumes", &template.volumes)?,
        env: map("env", &template.env)?,
        network: template.network.clone(),
        cpu: template.cpu,
        memory: template.memory,
        disk: template.disk,
        timeout: template.timeout_ms.map(Duration::from_millis),
        workdir: template.workdir.clone(),
        user: template.user.clone(),
    })
}

fn text(state: &Run, sandbox: &str, key: &str, template: &Template) -> Result<String, AppError> {
    let wrong = |what: String| AppError::Inputs(vec![format!("sandbox `{sandbox}`, `{key}`: {what}")]);
    match state.setting(template).map_err(wrong)? {
        Value::String(text) => Ok(text),
        other => Err(wrong(format!("it is {other}, and must be text"))),
    }
}

/// The program that becomes the first process of a sandbox: this one, whatever became of its file since.
pub(super) fn launcher() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

pub(super) fn streams(home: &Home) -> Result<Arc<dyn StreamStore>, AppError> {
    Ok(Arc::new(LocalStreams::open(home.path())?))
}

pub(super) fn host(
    home: &Home,
    library: Library,
    sandboxes: Arc<dyn SandboxProvider>,
    registry: Arc<dyn Registry>,
    streams: Arc<dyn StreamStore>,
) -> Result<Arc<HostExecutor>, AppError> {
    let git: Arc<dyn GitProvider> = Arc::new(LocalGit::new(home.path(), std::env::vars().collect())?);
    let providers = Providers { sandboxes, git: Some(git), registry, streams };
    Ok(Arc::new(HostExecutor::new(library, providers)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_provider_has_its_own_keys_of_an_image_and_shares_the_others() {
        let definition = json!({
            "base": "host", "commands": ["a"], "env": { "A": "1" },
            "providers": { "modal": { "base": "debian:bookworm-slim", "commands": ["b", "c"] } },
        });
        let local = image_of(definition.clone(), "local").unwrap();
        assert_eq!((&*local.base, &*local.commands), ("host", &["a".to_owned()][..]));
        let modal = image_of(definition.clone(), "modal").unwrap();
        assert_eq!((&*modal.base, modal.commands.len(), &*modal.env["A"]), ("debian:bookworm-slim", 2, "1"));
        let wrong =
            |variants| image_of(json!({ "base": "host", "providers": variants }), "local").unwrap_err();
        insta::assert_snapshot!(wrong(json!({ "moda": {} })), @"`providers.moda`: the providers are local, gvisor, docker, modal");
        assert!(
            wrong(json!({ "modal": { "bas": "x" } })).starts_with("`providers.modal`: unknown field `bas`")
        );
        assert!(wrong(json!(["modal"])).contains("maps names of providers"));
    }
}
