//! `harvest:run/ledger`: what a step spends.

use super::bindings::harvest::run::ledger::{Host, Spending};
use super::instance::State;

/// Millionths in one.
const MILLION: f64 = 1e6;

impl Host for State {
    async fn spent(&mut self) -> wasmtime::Result<Spending> {
        let spent = self.attempt.account.spent();
        let (input_tokens, output_tokens) = (spent.input_tokens, spent.output_tokens);
        Ok(Spending { usd: spent.usd(), input_tokens, output_tokens })
    }

    async fn left(&mut self) -> wasmtime::Result<Option<f64>> {
        Ok(self.attempt.account.left().map(|micro_usd| micro_usd as f64 / MILLION))
    }

    async fn limit(&mut self, usd: f64) -> wasmtime::Result<()> {
        // What is no number, or below nothing, becomes nothing.
        self.attempt.account.limit((usd * MILLION).round() as u64);
        Ok(())
    }
}
