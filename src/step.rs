//! What the engine needs done and the host does: one attempt of one step. A leaf: it knows neither of them.

use crate::id::{Digest, RunId, StepRef};
use crate::network::Network;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tokio::sync::mpsc;
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
    /// The run, or the step, has used up what it may spend.
    pub const BUDGET_EXCEEDED: Self = Self::known("budget-exceeded");

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

/// What was used of paid services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Millionths of a US dollar: whole numbers, so that sums are the same wherever they are made.
    pub micro_usd: u64,
    /// Tokens read, those from a cache included.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens written.
    #[serde(default)]
    pub output_tokens: u64,
}

/// An amount as workflow files write it, as `0.50 USD`: with two decimals, and up to six where it has them.
pub fn in_usd(micro_usd: u64) -> String {
    let decimals = format!("{:06}", micro_usd % 1_000_000);
    format!("{}.{:0<2} USD", micro_usd / 1_000_000, decimals.trim_end_matches('0'))
}

impl Spent {
    /// US dollars.
    pub fn usd(&self) -> f64 {
        self.micro_usd as f64 / 1e6
    }

    /// Tokens read and written.
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// What there is beyond what is known already.
    pub fn beyond(self, known: Self) -> Self {
        Self {
            micro_usd: self.micro_usd.saturating_sub(known.micro_usd),
            input_tokens: self.input_tokens.saturating_sub(known.input_tokens),
            output_tokens: self.output_tokens.saturating_sub(known.output_tokens),
        }
    }

    /// Adds what else was used.
    pub fn add(&mut self, more: Self) {
        self.micro_usd = self.micro_usd.saturating_add(more.micro_usd);
        self.input_tokens = self.input_tokens.saturating_add(more.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(more.output_tokens);
    }
}

/// An expense of an attempt: the step, which attempt, and what it used.
pub type Expense = (StepRef, u32, Spent);

/// Where attempts tell what they spend, as soon as they have: a host that dies takes no bill with it.
#[derive(Clone, Debug, Default)]
pub struct Expenses(Option<mpsc::UnboundedSender<Expense>>);

impl Expenses {
    /// A ledger, and where its entries arrive. Unbounded: each entry is a message of a model, which takes seconds.
    pub fn ledger() -> (Self, mpsc::UnboundedReceiver<Expense>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    /// Tells what an attempt has spent. Nobody may be listening.
    pub fn tell(&self, at: &StepRef, attempt: u32, spent: Spent) {
        if let Some(sender) = &self.0 {
            // Whoever drove the run has gone, and with it the attempt.
            let _ = sender.send((at.clone(), attempt, spent));
        }
    }
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
    /// Millionths of a US dollar that the run had spent when the attempt began.
    pub spent_before: u64,
    /// Where it tells what it spends.
    pub expenses: Expenses,
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
