//! Where a step stands, and how it got there.

use super::planted::{Planted, planted};
use crate::step::{Spent, StepError};

/// Where a step stands, and how it got there.
#[derive(Clone, Debug, PartialEq)]
pub struct StepState {
    /// Where it stands.
    pub phase: Phase,
    /// Its attempts so far, oldest first.
    pub attempts: Vec<Attempt>,
    /// Attempts that no longer count, since the run was retried after them.
    pub(super) forgiven: u32,
}

/// One attempt in the past or present.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its number, from 1.
    pub n: u32,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    /// Milliseconds since 1970; `None` while it runs.
    pub finished_ms: Option<i64>,
    /// Why it failed, if it did.
    pub error: Option<StepError>,
    /// Names its side effect, where the file says how.
    pub idempotency_key: Option<String>,
    /// What it has used of paid services, as far as that was metered.
    pub spent: Spent,
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Not begun, or about to try again.
    Waiting {
        /// The attempt to come.
        attempt: u32,
    },
    /// Waits for its place in a group.
    Queued {
        /// The attempt to come.
        attempt: u32,
        /// Milliseconds since 1970.
        since_ms: i64,
    },
    /// An attempt is with the host.
    Running {
        /// Which.
        attempt: u32,
    },
    /// Its items are at work: a `for-each`.
    Open,
    /// It waits for an answer: an `approve`.
    Asking {
        /// Milliseconds since 1970.
        since_ms: i64,
        /// What it asks.
        message: String,
    },
    /// The delay before a further attempt.
    Backoff {
        /// The attempt to come.
        attempt: u32,
        /// Milliseconds since 1970.
        until_ms: i64,
    },
    /// It returned outputs.
    Succeeded,
    /// It used up its attempts.
    Failed,
    /// It was stopped with the run.
    Stopped,
    /// It did not apply.
    Skipped {
        /// Why, as a sentence.
        reason: String,
    },
}

impl Phase {
    /// The word in JSON and expressions.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "pending",
            Self::Queued { .. } => "queued",
            Self::Running { .. } | Self::Open => "running",
            Self::Asking { .. } | Self::Backoff { .. } => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "cancelled",
            Self::Skipped { .. } => "skipped",
        }
    }

    /// Whether nothing more will happen to the step.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stopped | Self::Skipped { .. })
    }

    /// Whether something of it goes on that a stop must wait for.
    pub(super) fn is_at_work(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Open)
    }
}

impl StepState {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Waiting { attempt: 1 }, attempts: Vec::new(), forgiven: 0 }
    }

    pub(super) fn begin(&mut self, attempt: u32, at_ms: i64, idempotency_key: Option<String>) {
        self.phase = Phase::Running { attempt };
        let n = attempt;
        let (finished_ms, error, spent) = (None, None, Spent::default());
        self.attempts.push(Attempt { n, started_ms: at_ms, finished_ms, error, idempotency_key, spent });
    }

    /// Notes the end of the attempt that is under way.
    pub(super) fn end(&mut self, at_ms: i64, error: Option<&StepError>) {
        if let Some(last) = self.attempts.last_mut() {
            last.finished_ms = Some(at_ms);
            last.error = error.cloned();
        }
    }

    /// Ends what waits but does not run, as a stop does.
    pub(super) fn close(&mut self, at_ms: i64) {
        if planted(Planted::QuestionLeftOpen) && matches!(self.phase, Phase::Asking { .. }) {
            return;
        }
        if matches!(self.phase, Phase::Asking { .. }) {
            self.end(at_ms, None);
        }
        if matches!(self.phase, Phase::Asking { .. } | Phase::Backoff { .. } | Phase::Queued { .. }) {
            self.phase = Phase::Stopped;
        }
    }

    /// Makes it due again, with none of its attempts counted. They stay on record.
    pub(super) fn renew(&mut self) {
        self.forgiven = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        self.phase = Phase::Waiting { attempt: self.forgiven.saturating_add(1) };
    }

    /// Attempts that count and were not lost with their host, the one under way included.
    pub fn counted_tries(&self) -> u32 {
        let (counted, lost) = self.tries();
        self.forgiven + counted - lost
    }

    /// What its attempts have used of paid services.
    pub fn spent(&self) -> Spent {
        let mut all = Spent::default();
        self.attempts.iter().for_each(|attempt| all.add(attempt.spent));
        all
    }

    /// What the attempts used that the next one goes on with: those lost with their host since one last counted.
    pub fn spent_by_lost(&self) -> Spent {
        use crate::step::ErrorKind;
        let lost = |attempt: &&Attempt| {
            attempt.error.as_ref().is_some_and(|error| error.kind == ErrorKind::HOST_LOST)
        };
        let mut all = Spent::default();
        let before = self.attempts.iter().rev().skip_while(|attempt| attempt.finished_ms.is_none());
        before.take_while(lost).for_each(|attempt| all.add(attempt.spent));
        all
    }

    /// Attempts that count, and how many of them were lost with their host.
    pub(super) fn tries(&self) -> (u32, u32) {
        use crate::step::ErrorKind;
        let counted = self.attempts.iter().skip(self.forgiven as usize);
        let is_lost = |attempt: &&Attempt| {
            attempt.error.as_ref().is_some_and(|error| error.kind == ErrorKind::HOST_LOST)
        };
        let lost = counted.clone().filter(is_lost).count();
        (counted.count() as u32, lost as u32)
    }
}
