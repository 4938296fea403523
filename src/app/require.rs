//! What workflows demand of their sandboxes, held against what this machine does: before anything runs.

use super::AppError;
use crate::capability::CapabilityError;
use crate::capability::sandbox::{SandboxProvider, SandboxSpec};
use crate::isolation::Isolation;
use crate::step::ErrorKind;
use crate::workflow::Workflow;
use crate::workflow::model::{Action, SandboxTemplate};
use std::time::Duration;

/// Refuses a workflow, those that it runs as steps included, that demands more of a sandbox than the provider does here.
///
/// # Errors
/// `unavailable`, with every demand that is not met.
pub(super) async fn met(provider: &dyn SandboxProvider, workflow: &Workflow) -> Result<(), AppError> {
    let mut unmet = Vec::new();
    let mut open = vec![workflow];
    while let Some(workflow) = open.pop() {
        for (name, template) in workflow.sandboxes.iter().filter(|(_, it)| !it.require.is_empty()) {
            let isolation = foreseen(provider, template).await?;
            let all = template.require.unmet(provider.name(), &isolation);
            unmet.extend(all.iter().map(|why| format!("{}: sandbox `{name}`: {why}", workflow.name)));
        }
        open.extend(workflow.all_steps().filter_map(|(_, step)| match &step.action {
            Action::Workflow(sub) => Some(&*sub.definition),
            _ => None,
        }));
    }
    if unmet.is_empty() {
        return Ok(());
    }
    Err(CapabilityError::new(ErrorKind::UNAVAILABLE, unmet.join("\n")).into())
}

/// How well a sandbox would be held in here. No expression has a part in that.
pub(super) async fn foreseen(
    provider: &dyn SandboxProvider,
    template: &SandboxTemplate,
) -> Result<Isolation, AppError> {
    let spec = SandboxSpec {
        network: template.network.clone(),
        cpu: template.cpu,
        memory: template.memory,
        disk: template.disk,
        timeout: template.timeout_ms.map(Duration::from_millis),
        ..SandboxSpec::default()
    };
    Ok(provider.isolation(&spec).await?)
}
