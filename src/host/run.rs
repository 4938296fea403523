//! `harvest:run`: who a step is.

use super::bindings::harvest::run::run::{Host, Info};
use super::instance::State;
use crate::id::Digest;

impl Host for State {
    async fn current(&mut self) -> wasmtime::Result<Info> {
        let call = &self.attempt.call;
        let remaining =
            self.attempt.deadline.map(|deadline| deadline.duration_since(tokio::time::Instant::now()));
        let name = call.idempotency_key.clone().unwrap_or_else(|| format!("{}/{}", call.run, call.at));
        Ok(Info {
            run: call.run.to_string(),
            workflow: call.workflow.clone(),
            step: call.at.step.to_string(),
            item: call.at.item.clone(),
            attempt: call.attempt,
            // The same for every attempt; a digest, so that services with narrow alphabets take it.
            idempotency_key: Digest::of(name.as_bytes()).hex()[..32].to_owned(),
            remaining_ms: remaining.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}
