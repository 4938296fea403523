//! `harvest:sandbox/sandboxes`: further sandboxes, for components that were granted them.

use super::bindings::harvest::sandbox::sandboxes::{Host, Network, Spec};
use super::handle::{Failure, SandboxHandle};
use super::instance::State;
use crate::capability::sandbox::SandboxSpec;
use crate::capability::{CapabilityError, sandbox};
use crate::id::Digest;
use crate::step::ErrorKind;
use std::sync::Arc;
use wasmtime::component::Resource;

/// Sandboxes that one attempt may create.
const CREATED_LIMIT: usize = 16;

impl Host for State {
    async fn create(&mut self, spec: Spec) -> Result<Resource<SandboxHandle>, Failure> {
        let network = match spec.network {
            Network::None => sandbox::Network::None,
            Network::Host => sandbox::Network::Host,
            Network::Allow(domains) => sandbox::Network::Allow(domains),
        };
        let env = spec.env.into_iter().collect();
        self.create_sandbox(SandboxSpec { image: spec.image, env, network, ..SandboxSpec::default() }).await
    }
}

impl State {
    /// Opens a sandbox that lives until its handle is dropped, at latest until the attempt ends.
    pub(super) async fn create_sandbox(
        &mut self,
        spec: SandboxSpec,
    ) -> Result<Resource<SandboxHandle>, Failure> {
        if self.created == CREATED_LIMIT {
            let message = format!("a step creates at most {CREATED_LIMIT} sandboxes");
            return Err(CapabilityError::new(ErrorKind::QUOTA, message).into());
        }
        self.created += 1;
        let call = &self.attempt.call;
        // Keys of items may hold anything; ids may not.
        let item = call.at.item.as_ref().map(|item| format!("-{}", &Digest::of(item.as_bytes()).hex()[..8]));
        let (step, item) = (&call.at.step, item.unwrap_or_default());
        let id = format!("{}-{step}{item}-{}-{}", call.run, call.attempt, self.created).to_lowercase();
        self.attempt.created(id.clone());
        let spec = SandboxSpec { id, ..spec };
        let sandbox = self.attempt.context.providers.sandboxes.open(spec.clone()).await?;
        // Its network is an argument of the step: what to write there is the component's own affair.
        let (refusals, name) = (self.attempt.refusals.clone(), sandbox.id().to_owned());
        sandbox.on_refusal(Arc::new(move |refused| refusals.note(&name, None, refused)));
        Ok(self.table.push(SandboxHandle::Created(Box::new(spec), sandbox))?)
    }

    /// Drops a handle; a sandbox that the step created ends with it.
    pub(super) async fn end_created(&mut self, sandbox: Resource<SandboxHandle>) -> wasmtime::Result<()> {
        if let SandboxHandle::Created(_, sandbox) = self.table.delete(sandbox)? {
            self.attempt.end_sandbox(sandbox.id()).await;
        }
        Ok(())
    }
}
