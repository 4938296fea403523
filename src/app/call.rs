//! One call of a component outside of any run: for commands that do what a step does.

use super::{App, AppError};
use crate::capability::CapabilityError;
use crate::capability::sandbox::SandboxProvider;
use crate::host::{Components, RunSetup, Tier};
use crate::id::{RunId, StepId};
use crate::step::{Executor as _, StepCall};
use crate::workflow::types::Catalog as _;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long it may take.
const TIME_LIMIT: Duration = Duration::from_secs(600);

impl App {
    /// Calls a function of a component that is part of harvest, which gets neither a sandbox nor secrets, and the volumes of
    /// this provider. Returns its outputs.
    ///
    /// # Errors
    /// Those of the step.
    pub async fn call(
        &self,
        provider: Arc<dyn SandboxProvider>,
        component: &str,
        function: &str,
        arguments: Map<String, Value>,
    ) -> Result<Map<String, Value>, AppError> {
        let digest = Components::new(self.library.clone(), self.home.path())
            .component(component)
            .map_err(|error| AppError::Config(format!("component {component}: {error}")))?
            .digest;
        let run = RunId::generate();
        let setup = RunSetup {
            components: BTreeMap::from([(digest, component.to_owned())]),
            artifacts: self.home.join("artifacts").join(run.as_str()),
            provider: Some(Tier(provider)),
            ..RunSetup::default()
        };
        self.ground.host.register(&run, setup)?;
        let call = StepCall {
            run: run.clone(),
            workflow: component.to_owned(),
            at: StepId::new(function).into(),
            attempt: 1,
            idempotency_key: None,
            component: digest,
            function: function.to_owned(),
            arguments,
            sandboxes: BTreeMap::new(),
            network: None,
            secrets: BTreeMap::new(),
            permissions: Vec::new(),
            timeout: Some(TIME_LIMIT),
            idle_timeout: None,
            lose_sandboxes: false,
            spent_before: 0,
            expenses: Default::default(),
        };
        let result = self.ground.host.execute(call, CancellationToken::new()).await;
        self.ground.host.release(&run, false).await;
        result.map_err(|error| CapabilityError::new(error.kind, error.message).into())
    }
}
