//! A checked workflow: what the checker makes of a file and the run core follows. Serialised into `RunStarted`, so a
//! run never depends on a file that changes. Fields are only ever added, with defaults, so that old journals replay.
//!
//! In every `Value`, of inputs, arguments and outputs alike, a duration is a whole number of milliseconds, a size a
//! whole number of bytes, bytes are base64 text, and what is absent is null.

use super::types::{Field, Type};
use crate::id::{Digest, StepId};
use crate::network::Network;
use crate::step::{ErrorKind, Permission};
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
    /// Steps in the order of the file.
    pub steps: IndexMap<StepId, Step>,
    /// Steps that run once the others have ended, however they ended.
    pub finally: IndexMap<StepId, Step>,
    /// Milliseconds `finally` may take.
    pub finally_timeout_ms: u64,
    /// Outputs in the order of the file, with their types.
    pub outputs: IndexMap<String, Output>,
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
    /// Milliseconds of life.
    pub timeout_ms: Option<u64>,
    /// Working directory.
    pub workdir: Option<String>,
    /// User inside.
    pub user: Option<String>,
    /// Whether its files stay after the run.
    pub keep: bool,
}

/// A step that calls a function of a component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
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
    /// Secret slot -> secret name.
    pub secrets: BTreeMap<String, String>,
    /// Granted ambient powers.
    pub permissions: Vec<Permission>,
    /// Steps that must have ended well or been skipped (`needs:`).
    pub needs: Vec<StepId>,
    /// Steps whose outputs its templates read.
    pub reads: Vec<Read>,
    /// Runs only where this is true; skipped otherwise. CEL, without `${{ }}`.
    pub condition: Option<Expression>,
    /// Milliseconds one attempt may take.
    pub timeout_ms: Option<u64>,
    /// Milliseconds of silence after which an attempt is stopped.
    pub idle_timeout_ms: Option<u64>,
    /// When to try again.
    pub retry: Retry,
    /// Types of its outputs.
    pub outputs: Vec<Field>,
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
