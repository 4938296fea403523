//! Whether a step is to run: decided by what it needs, what it reads, and its condition.

use super::phase::Phase;
use super::planted::{Planted, planted};
use super::state::Run;
use crate::id::{StepId, StepRef};
use crate::workflow::cel::EvalError;
use crate::workflow::template::condition;

/// What became of the decision to run a step.
pub(super) enum Verdict {
    /// Its dependencies are not settled.
    NotYet,
    /// It is to run.
    Start,
    /// It is not to run, and why.
    Skip(String),
}

impl Run {
    /// The verdict on a step that has not begun.
    pub(super) fn verdict(&self, at: &StepRef) -> Verdict {
        let Some(definition) = self.definition(&at.step) else { return Verdict::NotYet };
        for need in &definition.needs {
            match self.beside(at, need) {
                Some(Phase::Succeeded | Phase::Skipped { .. }) => {}
                Some(Phase::Failed) if self.definition(need).is_some_and(|step| step.continue_on_error) => {}
                Some(Phase::Failed) if planted(Planted::FailedNeedIgnored) => {}
                Some(Phase::Failed | Phase::Stopped) => {
                    return Verdict::Skip(format!("it needs `{need}`, which failed"));
                }
                _ => return Verdict::NotYet,
            }
        }
        for read in &definition.reads {
            let Some(phase) = self.beside(at, &read.step) else { return Verdict::NotYet };
            // A finally step may read what never ran; within a section one waits for what is read.
            let over = self.is_of_finally(&at.step) && !self.is_of_finally(&read.step);
            match phase {
                Phase::Succeeded => {}
                Phase::Running { .. } if planted(Planted::ReadTooEarly) => {}
                _ if read.tolerant && (over || phase.is_settled()) => {}
                Phase::Skipped { .. } => {
                    return Verdict::Skip(format!("it reads `{}`, which was skipped", read.step));
                }
                _ if over || phase.is_settled() => {
                    return Verdict::Skip(format!("it reads `{}`, which did not succeed", read.step));
                }
                _ => return Verdict::NotYet,
            }
        }
        let Some(expression) = &definition.condition else { return Verdict::Start };
        match self.with_scope(at, |scope| condition(expression, scope)) {
            Ok(true) => Verdict::Start,
            Ok(false) if planted(Planted::ConditionIgnored) => Verdict::Start,
            Ok(false) => Verdict::Skip(format!("its condition is false: {}", expression.0)),
            Err(EvalError::Skipped(step)) => {
                Verdict::Skip(format!("its condition reads `{step}`, which was skipped"))
            }
            // The attempt fails with the reason: see `arguments`.
            Err(EvalError::Failed(_)) => Verdict::Start,
        }
    }

    /// Where a step stands that another one names: one of the same item, or one that is done once.
    pub(super) fn beside(&self, at: &StepRef, other: &StepId) -> Option<&Phase> {
        let inner = at.item.as_ref().and_then(|key| self.item(&at.step, key)?.steps.get(other));
        inner.or_else(|| self.steps.get(other)).map(|state| &state.phase)
    }
}
