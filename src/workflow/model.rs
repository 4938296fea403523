//! A checked workflow: what the checker makes of a file and the run core follows. Serialised into `RunStarted`, so a
//! run never depends on a file that changes. Fields are only ever added, with defaults, so that old journals replay.
//!
//! In every `Value`, of inputs, arguments and outputs alike, a duration is a whole number of milliseconds, a size a
//! whole number of bytes, bytes are base64 text, and what is absent is null.

use super::types::{Field, Type};
use crate::id::{Digest, StepId};
use crate::isolation::Require;
use crate::network::Network;
use crate::step::{ErrorKind, Permission, StepError};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A workflow whose every reference is known to resolve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Inputs, in the order of the file.
    pub inputs: IndexMap<String, Input>,
    /// Secrets by name.
    pub secrets: IndexMap<String, SecretSource>,
    /// Sandboxes by name.
    pub sandboxes: IndexMap<String, SandboxTemplate>,
    /// Milliseconds the whole run may take, `finally` excluded.
    pub timeout_ms: Option<u64>,
    /// Millionths of a US dollar that a run may spend in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_micro_usd: Option<u64>,
    /// How many runs of one group go on at once; over inputs and `run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// What starts runs by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// Steps in the order of the file.
    pub steps: IndexMap<StepId, Step>,
    /// Steps that run once the others have ended, however they ended.
    pub finally: IndexMap<StepId, Step>,
    /// Milliseconds `finally` may take.
    pub finally_timeout_ms: u64,
    /// Outputs in the order of the file, with their types.
    pub outputs: IndexMap<String, Output>,
    /// What its expressions ask `hash` for: names and patterns of files, sorted, each once. Those of sub-workflows are
    /// in their own definitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hashes: Vec<String>,
}

/// An input that a run is started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Its type.
    pub ty: Type,
    /// The value where none is given; may refer to `run` alone.
    pub default: Option<Template>,
    /// A regular expression the text must match.
    pub pattern: Option<String>,
    /// Least value, or least length of text and lists.
    pub min: Option<f64>,
    /// Greatest value, or greatest length of text and lists.
    pub max: Option<f64>,
    /// What it is.
    pub description: Option<String>,
}

/// Where the value of a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSource {
    /// Tried in order, as written: `env:NAME`, `file:PATH`, `command:...`, `modal:SECRET/KEY`.
    pub from: Vec<String>,
    /// Whether the run may start without it.
    pub optional: bool,
}

/// A sandbox of the run. Texts are templates over `inputs` and `run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxTemplate {
    /// Image name.
    pub image: Template,
    /// Used where the image does not exist.
    pub image_fallback: Option<Template>,
    /// Mount path -> volume name.
    pub volumes: BTreeMap<String, Template>,
    /// Environment.
    pub env: BTreeMap<String, Template>,
    /// What it may reach.
    pub network: Network,
    /// Cores.
    pub cpu: Option<f64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes of files of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
    /// Milliseconds of life.
    pub timeout_ms: Option<u64>,
    /// Working directory.
    pub workdir: Option<String>,
    /// User inside.
    pub user: Option<String>,
    /// Whether its files stay after the run.
    pub keep: bool,
    /// How well it must be held in.
    #[serde(default, skip_serializing_if = "Require::is_empty")]
    pub require: Require,
}

impl SandboxTemplate {
    /// Whether what a call does in it stays in it: there is no network meanwhile, and no volumes that others see.
    pub fn is_closed_to(&self, call: &Call) -> bool {
        *call.network.as_ref().unwrap_or(&self.network) == Network::None && self.volumes.is_empty()
    }
}

/// A step: what it does, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// Steps that must have ended well or been skipped (`needs:`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<StepId>,
    /// Steps whose outputs its templates read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<Read>,
    /// Runs only where this is true; skipped otherwise. CEL, without `${{ }}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Expression>,
    /// Whether the run goes on where this step fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continue_on_error: bool,
    /// Types of its outputs, as `steps.ID` has them.
    #[serde(default)]
    pub outputs: Vec<Field>,
}

impl Step {
    /// The call that it makes, if it is one.
    pub fn call(&self) -> Option<&Call> {
        if let Action::Call(call) = &self.action { Some(call) } else { None }
    }

    /// How long its attempts may take and when another follows; none where it has no attempts of its own.
    pub fn attempts(&self) -> Option<&Attempts> {
        match &self.action {
            Action::Call(call) => Some(&call.attempts),
            Action::Workflow(workflow) => Some(&workflow.attempts),
            Action::Approve(_) | Action::ForEach(_) => None,
        }
    }

    /// The bound on how many of its group run at once, if it has one.
    pub fn concurrency(&self) -> Option<&Concurrency> {
        match &self.action {
            Action::Call(call) => call.concurrency.as_ref(),
            Action::Workflow(workflow) => workflow.concurrency.as_ref(),
            Action::Approve(_) | Action::ForEach(_) => None,
        }
    }

    /// Its own steps, where it does them for each item of a list.
    pub fn body(&self) -> Option<&IndexMap<StepId, Step>> {
        if let Action::ForEach(each) = &self.action { Some(&each.steps) } else { None }
    }
}

impl Workflow {
    /// Whether runs need the value of a secret: those that only sign requests to webhooks are for whoever listens.
    pub fn hands_out(&self, secret: &str) -> bool {
        let signs =
            |trigger: &Trigger| matches!(trigger, Trigger::Webhook(hook) if hook.hmac_sha256 == secret);
        let reveals = |permission: &Permission| matches!(permission, Permission::Reveal(names) if names.iter().any(|name| name == secret));
        let uses = |call: &Call| {
            call.secrets.values().any(|name| name == secret) || call.permissions.iter().any(reveals)
        };
        !self.triggers.iter().any(signs) || self.all_steps().filter_map(|(_, step)| step.call()).any(uses)
    }

    /// Every step with its id, those of `finally` and of loops included, in the order of the file.
    pub fn all_steps(&self) -> impl Iterator<Item = (&StepId, &Step)> {
        self.steps
            .iter()
            .chain(&self.finally)
            .flat_map(|(id, step)| std::iter::once((id, step)).chain(step.body().into_iter().flatten()))
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Calls a function of a component.
    Call(Box<Call>),
    /// Runs another workflow and waits for it.
    Workflow(Box<SubWorkflow>),
    /// Waits for a person.
    Approve(Box<Approval>),
    /// Does its own steps once for each item of a list.
    ForEach(Box<ForEach>),
}

/// A call of a function of a component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// As written: `git/clone`, `./team.wasm#lint`.
    pub uses: String,
    /// The component's name.
    pub component: String,
    /// The component's content.
    pub digest: Digest,
    /// The function, in snake_case.
    pub function: String,
    /// Arguments by parameter.
    pub with: IndexMap<String, Template>,
    /// Sandbox parameter -> sandbox name.
    pub sandboxes: BTreeMap<String, String>,
    /// What those sandboxes may reach while it works, in place of their own policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Secret slot -> secret name.
    pub secrets: BTreeMap<String, String>,
    /// Granted ambient powers.
    pub permissions: Vec<Permission>,
    /// How long attempts may take, and when another follows.
    pub attempts: Attempts,
    /// How many steps of one group run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// When outputs of an earlier call are taken in place of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// Names the side effect, so that whoever carries it out can tell a repetition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<Template>,
}

/// Another workflow, run as a step. Its inputs are `with`, its outputs those of the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubWorkflow {
    /// As written: `./other.yaml`.
    pub uses: String,
    /// The workflow itself: a run never depends on a file that changes.
    pub definition: std::sync::Arc<Workflow>,
    /// Inputs by name.
    pub with: IndexMap<String, Template>,
    /// How long attempts may take, and when another follows.
    pub attempts: Attempts,
    /// How many steps of one group run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
}

/// A question to a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    /// What is asked.
    pub message: Template,
    /// Milliseconds to wait for an answer; none means for ever.
    pub timeout_ms: Option<u64>,
    /// Whether no answer in time means yes.
    pub approve_on_timeout: bool,
}

/// Steps done once for each item of a list. None of them is a `ForEach` itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForEach {
    /// The name by which its steps see the item.
    pub item: String,
    /// The list.
    pub items: Expression,
    /// Names an item, over the item: text that no other item has.
    pub key: Expression,
    /// Items at once, at least 1.
    pub parallel: u32,
    /// Whether the other items go on where one fails, and the step succeeds.
    pub continue_on_failure: bool,
    /// Its steps, in the order of the file.
    pub steps: IndexMap<StepId, Step>,
}

/// How long attempts may take, and when another one follows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempts {
    /// Milliseconds one attempt may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Milliseconds of silence after which an attempt is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// When to try again.
    #[serde(default)]
    pub retry: Retry,
}

/// A bound on what happens at once, across the runs of a home.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concurrency {
    /// Names the group.
    pub group: Template,
    /// Members that may be at work at once, at least 1.
    pub limit: u32,
    /// What happens to one more.
    pub on_conflict: OnConflict,
    /// Milliseconds to wait in the queue; none means for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What happens to a member of a full group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnConflict {
    /// It waits, first come, first served.
    Queue,
    /// It fails with `conflict`.
    Reject,
    /// The run of the oldest member is cancelled, and it takes that place.
    CancelOld,
}

/// When the outputs of an earlier call are taken in place of a call. The component's content and the function are part
/// of every key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cache {
    /// Values that must be the same.
    pub key: Vec<Expression>,
    /// Milliseconds that outputs are good for; none means for ever.
    pub ttl_ms: Option<u64>,
    /// Where this is true the call is made, and its outputs replace the kept ones.
    pub bypass: Option<Expression>,
}

/// An answer that stands in for an attempt of a step, where a run only tries its workflow out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mock {
    /// It returns these.
    Outputs(serde_json::Map<String, Value>),
    /// It fails.
    Error(StepError),
}

/// A data edge: one step reads another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The step read.
    pub step: StepId,
    /// Whether the reader copes with that step having been skipped (`steps.x.?y`, `orValue`); else it is skipped too.
    pub tolerant: bool,
}

/// When and how often an attempt follows a failed one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// Kinds of error that are retried; empty means every kind except `cancelled`.
    pub on: Vec<ErrorKind>,
    /// Milliseconds before the second attempt.
    pub first_ms: u64,
    /// Each further delay is this many times the one before.
    pub factor: f64,
    /// Longest delay in milliseconds.
    pub max_ms: u64,
    /// Whether the delay is drawn between zero and its full length.
    pub jitter: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 1, on: Vec::new(), first_ms: 1_000, factor: 2.0, max_ms: 60_000, jitter: true }
    }
}

/// What starts runs by itself, while `harvest serve` runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Times.
    Schedule(Schedule),
    /// A request to a path.
    Webhook(Webhook),
    /// The end of a run of another workflow.
    Workflow(Completion),
}

/// Times at which runs start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name within the workflow.
    pub id: String,
    /// When.
    pub times: Times,
    /// Milliseconds: each run starts this much later at most, by a draw of its own.
    pub jitter_ms: u64,
    /// What happens where the run before has not ended.
    pub overlap: Overlap,
    /// Milliseconds after its time within which a missed run still starts.
    pub catch_up_ms: u64,
    /// Which of several missed runs start.
    pub keep: Keep,
    /// Failed runs in a row after which the schedule pauses; none means never.
    pub pause_after_failures: Option<u32>,
    /// Inputs of its runs.
    pub inputs: IndexMap<String, Template>,
}

/// When a schedule is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Times {
    /// Every so many milliseconds since 1970, plus an offset.
    Every {
        /// The interval.
        every_ms: u64,
        /// The offset, less than the interval.
        offset_ms: u64,
    },
    /// A cron expression of five fields in a time zone.
    Cron {
        /// As written.
        expression: String,
        /// An IANA name.
        time_zone: String,
    },
}

/// What happens to a due run while the one before goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// It does not start.
    #[default]
    Skip,
    /// One waits, further ones do not start.
    BufferOne,
    /// All wait.
    BufferAll,
    /// The one before is cancelled first.
    CancelOther,
    /// Both go on.
    AllowAll,
}

/// Which of several missed runs start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The newest.
    #[default]
    Latest,
    /// Each of them.
    All,
    /// None.
    None,
}

/// A request that starts a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Webhook {
    /// Its name within the workflow.
    pub id: String,
    /// Its path, below `/hooks/`.
    pub path: String,
    /// The secret that signs requests with HMAC-SHA-256.
    pub hmac_sha256: String,
    /// Only where this is true, over `event`.
    pub condition: Option<Expression>,
    /// Inputs of its runs, over `event`.
    pub inputs: IndexMap<String, Template>,
}

/// The end of another workflow's run, which starts one of this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The other workflow.
    pub name: String,
    /// `succeeded`, `failed`, `cancelled`, `timed_out`; empty means any.
    pub status: Vec<String>,
    /// Inputs of its runs.
    pub inputs: IndexMap<String, Template>,
}

/// An output of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its value.
    pub value: Template,
    /// Its type.
    pub ty: Type,
}

/// CEL text that has been checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(pub String);

/// A value with holes for expressions, already shaped like the type it must have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Template {
    /// No holes.
    Literal(Value),
    /// Exactly one `${{ }}`: keeps the type of its value.
    Expression(Expression),
    /// Text with holes; scalars only.
    Text(Vec<Part>),
    /// A list with holes in its items.
    List(Vec<Template>),
    /// An object with holes in its values.
    Object(IndexMap<String, Template>),
}

/// A piece of a text template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// The value of an expression, as text.
    Expression(Expression),
}
