//! What a run of a file would do, be handed and be allowed, before anything runs.

use super::start::Ask;
use super::{App, AppError, Prepared, StartRequest, require, setup};
use crate::capability::secret::RunSecret;
use crate::run::{Event, Expected, Run};
use crate::step::Permission;
use crate::workflow::Workflow;
use crate::workflow::model::{Action, Step};
use crate::workflow::types::Catalog;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

impl App {
    /// The plan of a run as data: `{workflow, inputs, secrets, sandboxes, steps}`.
    ///
    /// # Errors
    /// Every mistake in the file or the inputs. Secrets may be missing: the plan says so.
    pub async fn plan(&self, request: &StartRequest) -> Result<Value, AppError> {
        let Prepared { started, secrets: held, .. } = self.prepare_with(request, Ask::Foreseen).await?;
        let state = Run::begin(0, &Event::RunStarted(Box::new(started.clone())))
            .map_err(|error| AppError::Config(error.to_string()))?;
        let workflow = state.workflow();
        let secrets: Map<String, Value> = workflow
            .secrets
            .iter()
            .map(|(name, source)| {
                let secret = held.get(name);
                let present = secret.is_some_and(|secret| secret.here().is_some());
                let mut value =
                    json!({ "from": source.from, "optional": source.optional, "present": present });
                if let Some(kept) = secret.and_then(RunSecret::kept) {
                    value["kept"] = json!(format!("{}/{}", kept.name, kept.key));
                }
                (name.clone(), value)
            })
            .collect();
        let provider = self.tiers().get(&started.provider).await?;
        let mut sandboxes = Map::new();
        for (name, template) in &workflow.sandboxes {
            let spec = setup::sandbox(&state, name, template)?;
            let seen = seen_in(workflow, name, &self.catalog(&request.file));
            let isolation = require::foreseen(&*provider, template).await?;
            sandboxes.insert(
                name.clone(),
                json!({
                    "image": spec.image,
                    "network": spec.network,
                    "volumes": spec.volumes,
                    "env": spec.env.keys().collect::<Vec<_>>(),
                    "secrets_in_commands": seen,
                    "unmet": template.require.unmet(provider.name(), &isolation),
                    "isolation": isolation,
                }),
            );
            let kept = kept_in(workflow, name, &held);
            if !kept.is_empty() {
                sandboxes[name]["secrets_by_name"] = json!(kept);
            }
            if !provider.caveats().is_empty() {
                sandboxes[name]["caveats"] = json!(provider.caveats());
            }
        }
        let steps: Vec<Value> = state
            .expected()
            .iter()
            .filter_map(|(id, expected)| {
                let step = state.definition(id)?;
                let kept = state.foreseen_reuse(id).is_some_and(|reuse| self.engine().has_kept(&reuse));
                let mut value = step_json(step, expected, kept);
                value["step"] = json!(id);
                value["finally"] = workflow.finally.contains_key(id).into();
                value["with"] = json!(state.handed(id));
                Some(value)
            })
            .collect();
        Ok(json!({
            "workflow": workflow.name,
            "inputs": started.inputs,
            "secrets": secrets,
            "sandboxes": sandboxes,
            "steps": steps,
        }))
    }
}

fn step_json(step: &Step, expected: &Expected, kept: bool) -> Value {
    let (would, why) = match expected {
        Expected::Runs if kept => ("be taken from earlier outputs", None),
        Expected::Runs => ("run", None),
        Expected::Skipped(why) => ("be skipped", Some(why)),
        Expected::Depends(why) => ("depend", Some(why)),
    };
    let mut value = json!({ "would": would });
    if let Some(why) = why {
        value["why"] = json!(why);
    }
    match &step.action {
        Action::Call(call) => {
            value["uses"] = json!(call.uses);
            value["component"] = json!({ "name": call.component, "digest": call.digest });
            value["sandboxes"] = json!(call.sandboxes);
            if let Some(network) = &call.network {
                value["network"] = json!(network);
            }
            value["secrets"] = json!(call.secrets);
            value["permissions"] = json!(call.permissions.iter().map(permission).collect::<Vec<_>>());
        }
        Action::Workflow(workflow) => value["uses"] = json!(workflow.uses),
        Action::Approve(_) => value["uses"] = json!("approve"),
        Action::ForEach(each) => {
            value["uses"] = json!("for-each");
            value["items"] = json!(each.items);
            value["steps"] = json!(each.steps.keys().collect::<Vec<_>>());
        }
    }
    value
}

fn permission(permission: &Permission) -> String {
    match permission {
        Permission::Sandboxes => "sandboxes".into(),
        Permission::Images => "images".into(),
        Permission::Volumes => "volumes".into(),
        Permission::Repos => "repos".into(),
        Permission::Scratch => "scratch".into(),
        Permission::Http(hosts) => format!("http to {}", hosts.join(", ")),
        Permission::Reveal(names) => format!("the text of {}", names.join(", ")),
    }
}

/// The secrets that steps hand to commands of a sandbox, as `STEP.slot`: whatever runs there can read them meanwhile.
/// A slot that a function takes by whatever name becomes a variable; what others do with a slot is their component's
/// own affair: the embedded `git` and `claude` keep tokens and model keys outside.
fn seen_in(workflow: &Workflow, sandbox: &str, catalog: &dyn Catalog) -> Vec<String> {
    let mut seen = Vec::new();
    for (id, call) in workflow.all_steps().filter_map(|(id, step)| Some((id, step.call()?))) {
        let component = catalog.component(call.uses.split(['/', '#']).next().unwrap_or_default());
        let any = component
            .ok()
            .and_then(|component| component.function(&call.function).map(|f| f.any_secrets.is_some()))
            .unwrap_or(false);
        if any && call.sandboxes.values().any(|name| name == sandbox) {
            seen.extend(call.secrets.keys().map(|slot| format!("{id}.{slot}")));
        }
    }
    seen
}

/// The secrets of steps in a sandbox that its provider keeps, as `STEP.slot`: if a component hands one on, it is as a
/// variable, and no gateway can keep it outside.
fn kept_in(workflow: &Workflow, sandbox: &str, held: &BTreeMap<String, RunSecret>) -> Vec<String> {
    let kept = |name: &String| held.get(name).is_some_and(|secret| secret.kept().is_some());
    workflow
        .all_steps()
        .filter_map(|(id, step)| Some((id, step.call()?)))
        .filter(|(_, call)| call.sandboxes.values().any(|name| name == sandbox))
        .flat_map(|(id, call)| {
            let slots = call.secrets.iter().filter(|(_, name)| kept(name));
            slots.map(move |(slot, _)| format!("{id}.{slot}"))
        })
        .collect()
}
