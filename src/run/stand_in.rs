//! What stands in for steps, or strikes them, in a run that somebody tries out.

use super::Run;
use crate::id::StepRef;
use crate::run::StepState;
use crate::workflow::fault::Fault;
use crate::workflow::model::Mock;
use std::collections::BTreeMap;

impl Run {
    /// What stands in for this attempt, where the run only tries its workflow out.
    pub fn mock(&self, at: &StepRef) -> Option<&Mock> {
        let mocks = &self.started.mocks;
        let answers = mocks.get(&at.to_string()).or_else(|| mocks.get(at.step.as_str()))?;
        let tries = self.state(at).map_or(1, StepState::counted_tries).max(1) as usize;
        answers.get(tries - 1).or_else(|| answers.last())
    }

    /// The answers that stand in for steps of the workflow that a step runs.
    pub fn mocks_inside(&self, at: &StepRef) -> BTreeMap<String, Vec<Mock>> {
        let mut inside = BTreeMap::new();
        // Those for this one item win over those for every item.
        for prefix in [format!("{}/", at.step), format!("{at}/")] {
            let inner = |(path, answers): (&String, &Vec<Mock>)| {
                path.strip_prefix(&prefix).map(|path| (path.to_owned(), answers.clone()))
            };
            inside.extend(self.started.mocks.iter().filter_map(inner));
        }
        inside
    }

    /// The fault that this attempt is to meet, where somebody injected one.
    pub fn injected(&self, at: &StepRef, attempt: u32) -> Option<&Fault> {
        let injected = &self.started.injected;
        let of = |name: &str| injected.get(name)?.iter().find(|injected| injected.is_for(attempt));
        of(&at.to_string()).or_else(|| of(at.step.as_str())).map(|injected| &injected.fault)
    }
}
