//! What attempts spend: journalled as soon as they tell of it, and bounded for the runs that are steps.

use super::Driver;
use crate::engine::EngineError;
use crate::run::Event;
use crate::step::{ErrorKind, Expense, Spent, StepError, in_usd};
use crate::workflow::Workflow;
use std::sync::Arc;

impl Driver {
    /// A workflow that is a step: it may spend no more than this run has left.
    pub(super) fn within_budget(&self, definition: &Arc<Workflow>) -> Result<Arc<Workflow>, StepError> {
        let Some(budget) = self.run.workflow().budget_micro_usd else { return Ok(definition.clone()) };
        let left = budget.saturating_sub(self.run.spent().micro_usd);
        if left == 0 {
            let message = format!("the run's budget of {} is used up", in_usd(budget));
            return Err(StepError::new(ErrorKind::BUDGET_EXCEEDED, message));
        }
        let own = definition.budget_micro_usd.unwrap_or(left);
        Ok(Arc::new(Workflow { budget_micro_usd: Some(own.min(left)), ..(**definition).clone() }))
    }

    /// Journals what attempts have told of their expenses.
    pub(super) async fn book(&mut self, (at, attempt, spent): Expense) -> Result<(), EngineError> {
        if spent == Spent::default() || !self.run.is_spending(&at, attempt) {
            return Ok(());
        }
        self.record(Event::StepSpent { at, attempt, spent }).await
    }

    /// Journals all that has been told.
    pub(super) async fn book_all(&mut self) -> Result<(), EngineError> {
        while let Ok(expense) = self.ledger.try_recv() {
            self.book(expense).await?;
        }
        Ok(())
    }
}
