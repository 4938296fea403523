//! What a run has cost: what was metered of its attempts, and of the others what they say of themselves.

use super::phase::StepState;
use super::planted::{Planted, planted};
use super::state::Run;
use crate::id::StepRef;
use crate::step::Spent;
use serde_json::{Map, Value};

impl Run {
    /// Dollars and tokens that the run has cost, where that is known: what was metered, and of attempts that nobody
    /// metered what they report in outputs named `cost_usd`, `input_tokens` and `output_tokens`.
    pub fn cost(&self) -> Option<(f64, u64)> {
        if self.spent == Spent::default() {
            return self.reported;
        }
        let (usd, tokens) = self.reported.unwrap_or_default();
        Some((usd + self.spent.usd(), tokens + self.spent.tokens()))
    }

    /// What was metered of the run so far.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Whether an attempt may still spend: it runs, or is being stopped.
    pub fn is_spending(&self, at: &StepRef, attempt: u32) -> bool {
        self.is_running(at, attempt) || self.is_leaving(at, attempt)
    }

    /// Adds what an attempt has spent; false where it cannot spend any more.
    pub(super) fn spend(&mut self, at: &StepRef, attempt: u32, spent: Spent) -> bool {
        if !self.is_spending(at, attempt) {
            return false;
        }
        if planted(Planted::RetrySpendsNothing) && attempt > 1 {
            return true;
        }
        self.spent.add(spent);
        let attempts = self.state_mut(at).into_iter().flat_map(|state| &mut state.attempts);
        if let Some(spender) = attempts.rev().find(|made| made.n == attempt) {
            spender.spent.add(spent);
        }
        true
    }

    /// Takes a step's own word for what it cost, where its attempt was not metered.
    pub(super) fn account(&mut self, at: &StepRef, outputs: &Map<String, Value>) {
        let metered =
            |state: &StepState| state.attempts.last().is_some_and(|last| last.spent != Spent::default());
        if self.state(at).is_some_and(metered) {
            return;
        }
        let Some(usd) = outputs.get("cost_usd").and_then(Value::as_f64) else { return };
        let tokens = |name: &str| outputs.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (sum, all) = self.reported.unwrap_or((0.0, 0));
        self.reported = Some((sum + usd, all + tokens("input_tokens") + tokens("output_tokens")));
    }
}
