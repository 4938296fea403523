//! Faults that people inject into a run, to see their workflow meet them: what they are, and how they are written.
//! Journalled with the run, like mocks; nothing here decides when one strikes.

use crate::step::StepError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A fault, and the attempts that it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// What happens.
    pub fault: Fault,
    /// Which attempt, from 1; `None` is every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// What happens to an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The process of harvest dies once the attempt is journalled, and before anything of it is done.
    Crash,
    /// The process of harvest dies once the attempt is done, and before that is journalled.
    CrashAfter,
    /// The attempt fails like this, and nothing is called.
    Error(StepError),
    /// The attempt takes this many milliseconds longer: its limits of time count them.
    Slow(u64),
    /// The sandboxes of the step are lost while it uses them.
    Lost,
}

impl Injected {
    /// Whether the fault is for this attempt.
    pub fn is_for(&self, attempt: u32) -> bool {
        self.attempt.is_none_or(|wanted| wanted == attempt)
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            Fault::Crash => f.write_str("crash")?,
            Fault::CrashAfter => f.write_str("crash-after")?,
            Fault::Error(error) => write!(f, "error:{}", error.kind)?,
            Fault::Slow(ms) if ms % 1000 == 0 => write!(f, "slow:{}s", ms / 1000)?,
            Fault::Slow(ms) => write!(f, "slow:{ms}ms")?,
            Fault::Lost => f.write_str("lost")?,
        }
        match self.attempt {
            Some(attempt) => write!(f, "@{attempt}"),
            None => f.write_str("@*"),
        }
    }
}
