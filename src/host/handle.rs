//! What handles of guests stand for on the host, and how host functions fail. Handles are made here and nowhere else: a
//! component has what it was given.

#![allow(unreachable_pub)] // The generated bindings re-export these types.

use super::context::SandboxSlot;
use super::process::Running;
use crate::capability::git::Repository;
use crate::capability::sandbox::{Sandbox, SandboxSpec};
use crate::capability::{CapabilityError, Result};
use std::sync::Arc;

/// A sandbox in a guest's hands. One of the run is opened at first use, so that a step that does nothing with it costs
/// nothing.
pub enum SandboxHandle {
    /// A sandbox of the run.
    OfRun(Arc<SandboxSlot>),
    /// One that the step created; it ends with the handle.
    Created(Box<SandboxSpec>, Arc<dyn Sandbox>),
}

impl SandboxHandle {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::OfRun(slot) => slot.id(),
            Self::Created(_, sandbox) => sandbox.id(),
        }
    }

    /// What makes it what it is.
    pub(super) fn spec(&self) -> &SandboxSpec {
        match self {
            Self::OfRun(slot) => slot.spec(),
            Self::Created(spec, _) => spec,
        }
    }

    pub(super) async fn open(&self) -> Result<Arc<dyn Sandbox>> {
        match self {
            Self::OfRun(slot) => slot.open().await,
            Self::Created(_, sandbox) => Ok(sandbox.clone()),
        }
    }

    /// Lets it reach a host beyond its policy, for as long as the step works in it.
    pub(super) async fn reach(&self, host: &str) -> Result<()> {
        match self {
            Self::OfRun(slot) => slot.reach(host).await,
            Self::Created(spec, sandbox) => sandbox.set_network(spec.network.with(host)).await,
        }
    }
}

/// A command that a step runs.
#[derive(Clone)]
pub struct ProcessHandle {
    pub(super) running: Arc<Running>,
    /// Whether its output goes to the step's streams as well.
    pub(super) tee: bool,
}

/// A repository that a step opened.
pub struct RepositoryHandle(pub(super) Arc<dyn Repository>);

/// How a host function fails: with an error that the guest handles, or by ending the step.
#[derive(Debug)]
pub enum Failure {
    /// The guest sees it as a case of its error variant.
    Guest(CapabilityError),
    /// The guest is trapped.
    Trap(wasmtime::Error),
}

impl From<CapabilityError> for Failure {
    fn from(error: CapabilityError) -> Self {
        Self::Guest(error)
    }
}

impl From<wasmtime::component::ResourceTableError> for Failure {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}
