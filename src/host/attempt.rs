//! What the host functions of one attempt share: who calls, with what, until when, and where its words go.

use super::catalog::own_name;
use super::context::RunContext;
use super::output::Output;
use super::process::{Processes, Running};
use super::refusals::Refusals;
use crate::capability::meter::Account;
use crate::capability::sandbox::Chunk;
use crate::capability::{CapabilityError, Result};
use crate::step::{ErrorKind, StepCall};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// One attempt of one step.
pub(super) struct Attempt {
    pub(super) call: StepCall,
    pub(super) context: Arc<RunContext>,
    pub(super) output: Arc<Output>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) processes: Processes,
    /// What it spends.
    pub(super) account: Arc<Account>,
    /// When the attempt is stopped, where it has a limit.
    pub(super) deadline: Option<Instant>,
    /// Slots that parameters of the function name one by one, in snake_case.
    pub(super) named_slots: Vec<String>,
    /// Ids of sandboxes that the step created and that have not ended.
    pub(super) created: Mutex<BTreeSet<String>>,
}

impl Attempt {
    /// Bound slots that no parameter names: they go into the list of secrets.
    pub(super) fn further_slots(&self) -> impl Iterator<Item = &str> {
        self.call
            .secrets
            .keys()
            .map(String::as_str)
            .filter(|slot| !self.named_slots.iter().any(|named| named == slot))
    }

    /// The name under which the component keeps files between runs.
    pub(super) fn component_name(&self) -> Result<String> {
        let digest = &self.call.component;
        match self.context.components.get(digest) {
            Some(name) => Ok(own_name(name, digest)),
            None => Err(CapabilityError::new(
                ErrorKind::DENIED,
                "a component without a name has no place to keep files",
            )),
        }
    }

    /// The next output of a command, copied to the step's streams where `tee` asks for it.
    pub(super) async fn chunk(&self, running: &Running, tee: bool) -> Result<Option<Chunk>> {
        let chunk = self.processes.next(running).await?;
        match &chunk {
            Some(Chunk::Stdout(bytes)) if tee => self.output.text("stdout", bytes),
            Some(Chunk::Stderr(bytes)) if tee => self.output.text("stderr", bytes),
            _ => self.output.touch(),
        }
        self.output.room().await;
        Ok(chunk)
    }

    /// Notes a sandbox that ends with the attempt at the latest.
    pub(super) fn created(&self, id: String) {
        self.created.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Ends a sandbox that the step created.
    pub(super) async fn end_sandbox(&self, id: &str) {
        match self.context.providers.sandboxes.remove(id).await {
            Ok(()) => {
                self.created.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
            }
            Err(error) => tracing::warn!("sandbox {id} was not removed: {error}"),
        }
    }

    /// Kills what is left of the step's commands and sandboxes. The guest must not be running any more.
    pub(super) async fn end(&self) {
        self.processes.kill().await;
        self.account.close();
        let created = std::mem::take(&mut *self.created.lock().unwrap_or_else(PoisonError::into_inner));
        for id in created {
            self.end_sandbox(&id).await;
        }
    }
}
