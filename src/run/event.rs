//! What can happen to a run. Facts in the past tense, journalled before they take effect, never edited. Variants and
//! fields are only ever added, with defaults: journals replay for ever.

use crate::id::{RunId, StepId, StepRef};
use crate::step::{Spent, StepError};
use crate::workflow::Workflow;
use crate::workflow::fault::Injected;
use crate::workflow::model::Mock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A fact about a run. Its time is that of its journal record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The run exists. Everything it will ever need of its file is in here.
    RunStarted(Box<RunStarted>),
    /// The run waits for its place in a group.
    RunQueued {
        /// The group's name.
        group: String,
    },
    /// The run has its place in the group, and its steps may begin.
    RunAdmitted,
    /// The run gets no place: the group is full, and it was not to wait.
    RunRefused {
        /// Why.
        error: StepError,
    },
    /// A step waits for its place in a group.
    StepQueued {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
        /// The attempt to come.
        attempt: u32,
        /// The group's name.
        group: String,
    },
    /// An attempt is about to be made.
    StepStarted {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
        /// Which attempt, from 1.
        attempt: u32,
        /// Names the side effect, where the file says how.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency_key: Option<String>,
    },
    /// An attempt has used a paid service. Journalled while it runs, so that what is spent is known whatever becomes of it.
    StepSpent {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
        /// Which attempt.
        attempt: u32,
        /// What it used.
        spent: Spent,
    },
    /// The attempt produced its outputs.
    StepSucceeded {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
        /// Which attempt.
        attempt: u32,
        /// What it returned, by name.
        outputs: Map<String, Value>,
    },
    /// The outputs of an earlier call with the same key were taken in place of a call.
    StepReused {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
        /// What the earlier call returned.
        outputs: Map<String, Value>,
        /// The run that made the call.
        source: RunId,
    },
    /// The attempt ended without outputs.
    StepFailed {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
        /// Which attempt.
        attempt: u32,
        /// Why.
        error: StepError,
        /// Drawn by the driver: the share, in thousandths, of the backoff delay to wait where the step retries.
        #[serde(default)]
        jitter: u16,
    },
    /// The step will not run.
    StepSkipped {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
        /// Why, as a sentence.
        reason: String,
    },
    /// A started `for-each` knows its items.
    LoopStarted {
        /// Which step.
        step: StepId,
        /// Its items, in order.
        items: Vec<LoopItem>,
    },
    /// A started `approve` asks.
    ApprovalRequested {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
        /// What it asks.
        message: String,
    },
    /// Somebody answered.
    ApprovalGiven {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
        /// Whether they said yes.
        approved: bool,
        /// What they said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Who they are, as far as the machine knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A time that the run was waiting for has come.
    TimerElapsed {
        /// Which of its timers.
        timer: Timer,
    },
    /// Somebody asked for the run to stop.
    CancelRequested {
        /// What they said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// The process that ran the attempts is gone; what became of them is unknown.
    HostLost,
    /// The run ended. Nothing follows it but `RunRetried` and `RunUpgraded`.
    RunFinished {
        /// How.
        state: Outcome,
        /// What `harvest run` exits with.
        exit_code: u8,
        /// The workflow's outputs, as far as they could be computed.
        outputs: Map<String, Value>,
        /// The root cause where it did not succeed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<RunError>,
    },
    /// Somebody asked for a run that ended without success to go on: what succeeded stays, the rest is done again.
    RunRetried {
        /// What they said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// The run goes on with another version of its file, also where it had ended without success.
    RunUpgraded(Box<RunUpgraded>),
}

/// An item of a `for-each`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoopItem {
    /// What it is known by.
    pub key: String,
    /// The item.
    pub value: Value,
}

/// The beginning of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// The workflow's name.
    pub workflow: String,
    /// The checked workflow, component digests included.
    pub definition: Arc<Workflow>,
    /// The text it was checked from.
    pub source: String,
    /// The file's absolute path; for people, never read again.
    pub file: String,
    /// Input values, defaults included.
    pub inputs: Map<String, Value>,
    /// What expressions see as `run`: `id`, `workflow`, `trigger`, `author`.
    pub run: Map<String, Value>,
    /// Names of the secrets that had a value.
    #[serde(default)]
    pub secrets: std::collections::BTreeSet<String>,
    /// What `hash()` of each name or pattern was.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub hashes: std::collections::BTreeMap<String, String>,
    /// Answers that stand in for steps, by `step` or `step[item]`, one an attempt; the last one repeats.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub mocks: std::collections::BTreeMap<String, Vec<Mock>>,
    /// Faults that steps are to meet, by `step` or `step[item]`; one for a certain attempt stands before one for all.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub injected: std::collections::BTreeMap<String, Vec<Injected>>,
    /// The run and step that wait for this one, where it is a step of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What makes its sandboxes, for as long as it lives.
    #[serde(default = "local", skip_serializing_if = "is_local")]
    pub provider: String,
    /// The session that the run is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<PartOf>,
}

/// The provider of runs that name none, and of those from before there was another.
pub const LOCAL: &str = "local";

fn local() -> String {
    LOCAL.into()
}

fn is_local(provider: &str) -> bool {
    provider == LOCAL
}

/// The session that a run is a part of: its sandboxes are named after the session and stay when the run ends, and it
/// goes on with the commits that the runs before it have brought to the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartOf {
    /// The session's id.
    pub id: String,
    /// The run that began it.
    pub first: RunId,
}

/// The version of a file that a run follows, and what of the world it found for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The checked workflow, component digests included.
    pub definition: Arc<Workflow>,
    /// The text it was checked from.
    pub source: String,
    /// The file's absolute path; for people, never read again.
    pub file: String,
    /// Input values, defaults included.
    pub inputs: Map<String, Value>,
    /// Names of the secrets that had a value.
    #[serde(default)]
    pub secrets: std::collections::BTreeSet<String>,
    /// What `hash()` of each name or pattern was.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub hashes: std::collections::BTreeMap<String, String>,
}

/// The move of a run to another version. What was decided is in here, so that a replay decides nothing anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunUpgraded {
    /// What it follows from now on.
    #[serde(flatten)]
    pub version: Version,
    /// How many events the decision was made from: it is of no use after others.
    pub after: u64,
    /// What becomes of steps; one that is not named stays as it is, or is new.
    #[serde(default)]
    pub steps: Vec<Fate>,
    /// The items of loops that go on item by item, in order.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub loops: std::collections::BTreeMap<StepId, Vec<LoopItem>>,
    /// Who upgraded it, as far as the machine knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What becomes of a step of a run that is upgraded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// Which step.
    #[serde(flatten)]
    pub at: StepRef,
    /// What.
    pub verdict: Verdict,
    /// Why, as a sentence without a full stop.
    pub why: String,
}

/// What becomes of a step in an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It stays as it is: finished with its outputs, or at work.
    Keep,
    /// It has not been done yet, and will be.
    Run,
    /// It has finished, and is done again.
    ReRun,
    /// It is at work: that is stopped, and done again.
    Restart,
    /// The new file does not have it; its outputs go.
    Drop,
    /// The run cannot be upgraded because of it.
    Refuse,
}

impl Verdict {
    /// The word in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Run => "run",
            Self::ReRun => "re-run",
            Self::Restart => "restart",
            Self::Drop => "drop",
            Self::Refuse => "refuse",
        }
    }
}

/// Who waits for a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The run.
    pub run: RunId,
    /// Its step.
    #[serde(flatten)]
    pub at: StepRef,
}

/// A time that a run waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timer {
    /// The delay before this attempt of a step.
    Retry {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
        /// The attempt that will follow.
        attempt: u32,
    },
    /// The time that a step may wait for its place in a group.
    Queue {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
        /// The attempt that waits.
        attempt: u32,
    },
    /// The time that an answer may take.
    Approval {
        /// Which step.
        #[serde(flatten)]
        at: StepRef,
    },
    /// The time that the run may wait for its place in a group.
    RunQueue,
    /// The run's own `timeout`.
    Run,
    /// The time that `finally` may take.
    Finally,
}

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every step succeeded or was skipped.
    Succeeded,
    /// A step used up its attempts.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// A step or the run took too long.
    TimedOut,
}

impl Outcome {
    /// The word in listings, JSON and expressions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Why a run did not succeed: the first failure, not what followed from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// The step that failed, unless it was the run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepId>,
    /// The item it was done for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// How and why.
    #[serde(flatten)]
    pub error: StepError,
}

/// Work that the state calls for right now; derived, never stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Get the run its place in its group, then journal `RunAdmitted`.
    Admit,
    /// Journal `StepStarted`, then make the attempt.
    Start {
        /// Which step.
        at: StepRef,
        /// Which attempt.
        attempt: u32,
    },
    /// Journal `StepSkipped`.
    Skip {
        /// Which step.
        at: StepRef,
        /// Why.
        reason: String,
    },
    /// Stop the attempt and journal how it ended.
    Stop {
        /// Which step.
        at: StepRef,
        /// Which attempt.
        attempt: u32,
    },
    /// Journal `TimerElapsed` once the clock reaches the time.
    Wait {
        /// Which timer.
        timer: Timer,
        /// Milliseconds since 1970.
        until_ms: i64,
    },
    /// Journal `RunFinished`.
    Finish(Box<Finish>),
}

/// What `RunFinished` will say.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// How the run ends.
    pub state: Outcome,
    /// The workflow's outputs.
    pub outputs: Map<String, Value>,
    /// The root cause.
    pub error: Option<RunError>,
}
