//! What the engine needs done and the host does: one attempt of one step. A leaf: it knows neither of them.

use crate::id::{Digest, RunId, StepRef};
use crate::network::Network;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Why an attempt failed, as one kebab-case word: `network`, `exited`, `host-lost`. Components bring kinds of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorKind(std::borrow::Cow<'static, str>);

impl ErrorKind {
    /// The attempt took longer than its `timeout`.
    pub const TIMED_OUT: Self = Self::known("timed-out");
    /// No output for the step's `idle-timeout`.
    pub const IDLE_TIMED_OUT: Self = Self::known("idle-timed-out");
    /// The component trapped, or used up its CPU budget.
    pub const TRAPPED: Self = Self::known("trapped");
    /// The component asked for more memory than it may have.
    pub const OUT_OF_MEMORY: Self = Self::known("out-of-memory");
    /// The sandbox ended under the step.
    pub const SANDBOX_LOST: Self = Self::known("sandbox-lost");
    /// The process that ran the attempt is gone.
    pub const HOST_LOST: Self = Self::known("host-lost");
    /// The attempt was stopped on request.
    pub const CANCELLED: Self = Self::known("cancelled");
    /// The capability or the grant says no.
    pub const DENIED: Self = Self::known("denied");
    /// What was named does not exist.
    pub const NOT_FOUND: Self = Self::known("not-found");
    /// The request makes no sense as written.
    pub const INVALID: Self = Self::known("invalid");
    /// Something else holds or changed it.
    pub const CONFLICT: Self = Self::known("conflict");
    /// A remote could not be reached.
    pub const NETWORK: Self = Self::known("network");
    /// A capability cannot serve now, or not on this machine.
    pub const UNAVAILABLE: Self = Self::known("unavailable");
    /// A remote asked to come back later.
    pub const RATE_LIMITED: Self = Self::known("rate-limited");
    /// A size limit was reached.
    pub const TOO_LARGE: Self = Self::known("too-large");
    /// A count, space or money limit was reached.
    pub const QUOTA: Self = Self::known("quota");
    /// None of the others.
    pub const OTHER: Self = Self::known("other");
    /// A credential is missing or was refused.
    pub const AUTH_ERROR: Self = Self::known("auth-error");

    /// Somebody said no.
    pub const REJECTED: Self = Self::known("rejected");
    /// The run of a sub-workflow failed.
    pub const FAILED: Self = Self::known("failed");

    /// Kinds that the host may raise for any step.
    pub const HOST: [Self; 7] = [
        Self::TIMED_OUT,
        Self::IDLE_TIMED_OUT,
        Self::TRAPPED,
        Self::OUT_OF_MEMORY,
        Self::SANDBOX_LOST,
        Self::HOST_LOST,
        Self::CANCELLED,
    ];

    const fn known(kind: &'static str) -> Self {
        Self(std::borrow::Cow::Borrowed(kind))
    }

    /// A kind as a component spelled it.
    pub fn new(kind: impl Into<String>) -> Self {
        Self(std::borrow::Cow::Owned(kind.into()))
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How an attempt failed: a kind for machines, a message for people. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct StepError {
    /// Decides retries and the exit code.
    pub kind: ErrorKind,
    /// One or a few sentences, at most 8 KiB.
    pub message: String,
}

impl StepError {
    /// An error of `kind`; the message is cut at 8 KiB.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        const LIMIT: usize = 8 << 10;
        let mut message = message.into();
        if message.len() > LIMIT {
            message.truncate(message.floor_char_boundary(LIMIT));
            message.push_str(" [cut]");
        }
        Self { kind, message }
    }
}

/// A power that a component imports and the workflow file grants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Create further sandboxes.
    Sandboxes,
    /// Build and tag images.
    Images,
    /// Administer volumes.
    Volumes,
    /// Read the registry of repositories.
    Repos,
    /// A private directory.
    Scratch,
    /// Outgoing HTTP to these hosts.
    Http(Vec<String>),
    /// Read the text of these secrets.
    Reveal(Vec<String>),
}

/// One attempt, with everything it is handed.
#[derive(Clone, Debug)]
pub struct StepCall {
    /// The run it belongs to.
    pub run: RunId,
    /// The workflow's name.
    pub workflow: String,
    /// The step, and the item it is done for.
    pub at: StepRef,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// The name of its side effect, where the file gives one.
    pub idempotency_key: Option<String>,
    /// The component, by content.
    pub component: Digest,
    /// The function, in snake_case.
    pub function: String,
    /// Arguments by parameter name in snake_case, handles excluded.
    pub arguments: Map<String, Value>,
    /// Sandbox parameters (snake_case) and the sandbox of the run each receives.
    pub sandboxes: BTreeMap<String, String>,
    /// What those sandboxes may reach during the attempt, where that is not what they reach otherwise.
    pub network: Option<Network>,
    /// Secret slots (snake_case) and the secret of the run each receives.
    pub secrets: BTreeMap<String, String>,
    /// Granted ambient powers.
    pub permissions: Vec<Permission>,
    /// Wall-clock limit of the attempt; the executor enforces it.
    pub timeout: Option<Duration>,
    /// Limit of silence; the executor enforces it.
    pub idle_timeout: Option<Duration>,
    /// Whether its sandboxes are to be lost while it uses them, for somebody who wants to see what then happens.
    pub lose_sandboxes: bool,
}

/// The outputs of a step as an object in snake_case, or why there are none.
pub type StepResult = Result<Map<String, Value>, StepError>;

/// Runs attempts. The host implements it; the engine calls it.
#[async_trait]
pub trait Executor: Send + Sync {
    /// Runs one attempt to its end. When `cancel` fires, stops it within its grace period and returns
    /// [`ErrorKind::CANCELLED`]. Leaves no process behind, whatever it returns.
    async fn execute(&self, call: StepCall, cancel: CancellationToken) -> StepResult;

    /// Ends what the run holds (its sandboxes) once nothing of it runs any more. `keep_files` where it may be retried.
    async fn release(&self, run: &RunId, keep_files: bool);
}
