//! `harvest:run`: who a step is.

use super::bindings::harvest::run::run::{Host, Info};
use super::instance::State;
use crate::id::Digest;

impl Host for State {
    async fn current(&mut self) -> wasmtime::Result<Info> {
        let call = &self.attempt.call;
        let remaining =
            self.attempt.deadline.map(|deadline| deadline.duration_since(tokio::time::Instant::now()));
        Ok(Info {
            run: call.run.to_string(),
            workflow: call.workflow.clone(),
            step: call.step.to_string(),
            attempt: call.attempt,
            // The same for every attempt; a digest, so that services with narrow alphabets take it.
            idempotency_key: Digest::of(format!("{}/{}", call.run, call.step).as_bytes()).hex()[..32]
                .to_owned(),
            remaining_ms: remaining.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
        })
    }
}
