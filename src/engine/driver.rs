//! The loop of one run, with its only `select!`. Level-triggered: it compares what should be happening with what is.

use super::{Ended, Engine, EngineError, broken, row};
use crate::id::{RunId, StepId};
use crate::journal::{JournalError, Record};
use crate::run::{Command, Event, Run, Timer, exit_code};
use crate::step::{ErrorKind, StepCall, StepError, StepResult};
use crate::workflow::model::Step;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

/// Attempts of one run that may be with the host at once.
const IN_FLIGHT_MAX: usize = 64;

/// Bytes of one step's outputs as JSON.
const OUTPUTS_MAX: usize = 1 << 20;

/// Times that an event is tried again after another process wrote in between.
const CONFLICTS_MAX: u32 = 100;

pub(super) struct Driver {
    engine: Engine,
    id: RunId,
    run: Run,
    seq: u64,
    last: Event,
    tasks: JoinSet<StepResult>,
    in_flight: HashMap<Id, Flight>,
}

/// An attempt that is with the host.
struct Flight {
    step: StepId,
    attempt: u32,
    cancel: CancellationToken,
}

impl Driver {
    pub(super) async fn load(engine: Engine, id: RunId) -> Result<Self, EngineError> {
        let (run, seq, last) = engine.replay(&id).await?;
        Ok(Self { engine, id, run, seq, last, tasks: JoinSet::new(), in_flight: HashMap::new() })
    }

    pub(super) async fn drive(mut self) -> Result<Ended, EngineError> {
        // Nothing is in flight here, so what the journal says is running was lost with its host.
        if self.run.finished().is_none() && self.run.has_running() {
            self.record(Event::HostLost).await?;
        }
        loop {
            if let Event::RunFinished { state, exit_code, outputs, error } = &self.last {
                self.engine.executor.release(&self.id).await;
                let (outputs, error) = (outputs.clone(), error.clone());
                return Ok(Ended { state: *state, exit_code: *exit_code, outputs, error });
            }
            let before = self.seq;
            let timer = self.carry_out().await?;
            if self.seq == before {
                self.wait(timer).await?;
            }
        }
    }

    /// Starts what should be happening and is not. Returns the timer that is due first.
    async fn carry_out(&mut self) -> Result<Option<(Timer, i64)>, EngineError> {
        let mut first: Option<(Timer, i64)> = None;
        for command in self.run.commands() {
            match command {
                Command::Start { step, attempt } => {
                    if self.in_flight.len() < IN_FLIGHT_MAX {
                        self.start(step, attempt).await?;
                    }
                }
                Command::Skip { step, reason } => self.record(Event::StepSkipped { step, reason }).await?,
                Command::Stop { step, attempt } => {
                    let flights = self.in_flight.values();
                    for flight in flights.filter(|f| f.step == step && f.attempt == attempt) {
                        flight.cancel.cancel();
                    }
                }
                Command::Wait { timer, until_ms } => {
                    if first.as_ref().is_none_or(|(_, earliest)| until_ms < *earliest) {
                        first = Some((timer, until_ms));
                    }
                }
                Command::Finish(finish) => {
                    let code = exit_code::exit_code(finish.state, finish.error.as_ref());
                    let (outputs, error) = (finish.outputs, finish.error);
                    let event = Event::RunFinished { state: finish.state, exit_code: code, outputs, error };
                    self.record(event).await?;
                }
            }
        }
        Ok(first)
    }

    async fn start(&mut self, step: StepId, attempt: u32) -> Result<(), EngineError> {
        self.record(Event::StepStarted { step: step.clone(), attempt }).await?;
        if !self.run.is_running(&step, attempt) {
            return Ok(());
        }
        let call = match self.call(&step, attempt) {
            Ok(call) => call,
            Err(error) => {
                return self.record(Event::StepFailed { step, attempt, error, jitter: jitter() }).await;
            }
        };
        let executor = self.engine.executor.clone();
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let task = self.tasks.spawn(async move { executor.execute(call, token).await });
        self.in_flight.insert(task.id(), Flight { step, attempt, cancel });
        Ok(())
    }

    fn call(&self, step: &StepId, attempt: u32) -> Result<StepCall, StepError> {
        let arguments = self.run.arguments(step)?;
        let definition = self
            .run
            .definition(step)
            .and_then(Step::call)
            .ok_or_else(|| StepError::new(ErrorKind::INVALID, "the workflow has no such call"))?;
        Ok(StepCall {
            run: self.id.clone(),
            workflow: self.run.started().workflow.clone(),
            step: step.clone(),
            attempt,
            component: definition.digest,
            function: definition.function.clone(),
            arguments,
            sandboxes: definition.sandboxes.clone(),
            secrets: definition.secrets.clone(),
            permissions: definition.permissions.clone(),
            timeout: definition.attempts.timeout_ms.map(Duration::from_millis),
            idle_timeout: definition.attempts.idle_timeout_ms.map(Duration::from_millis),
        })
    }

    /// Waits for the first thing to happen and journals it.
    async fn wait(&mut self, timer: Option<(Timer, i64)>) -> Result<(), EngineError> {
        let due = timer.as_ref().and_then(|(_, until_ms)| jiff::Timestamp::from_millisecond(*until_ms).ok());
        let clock = self.engine.clock.clone();
        let journal = self.engine.journal.clone();
        let elapsed = async {
            match due {
                Some(due) => clock.wait_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(ended) = self.tasks.join_next_with_id() => {
                let (id, result) = match ended {
                    Ok((id, result)) => (id, result),
                    // A panic in a step's own task is a bug of the host; the run goes on without it.
                    Err(error) => (error.id(), Err(StepError::new(ErrorKind::TRAPPED, "the host failed while it ran the step: this is a bug in harvest"))),
                };
                self.end(id, result).await
            }
            () = journal.changed(&self.id, self.seq) => self.absorb().await,
            () = elapsed => match timer {
                Some((timer, _)) => self.record(Event::TimerElapsed { timer }).await,
                None => Ok(()),
            },
        }
    }

    async fn end(&mut self, id: Id, result: StepResult) -> Result<(), EngineError> {
        let Some(Flight { step, attempt, .. }) = self.in_flight.remove(&id) else { return Ok(()) };
        let result = result.and_then(|outputs| {
            let size = serde_json::to_vec(&outputs).map_or(usize::MAX, |text| text.len());
            let message = format!(
                "its outputs are larger than {} KiB; keep large data in files or artifacts",
                OUTPUTS_MAX >> 10
            );
            if size > OUTPUTS_MAX { Err(StepError::new(ErrorKind::TOO_LARGE, message)) } else { Ok(outputs) }
        });
        self.record(match result {
            Ok(outputs) => Event::StepSucceeded { step, attempt, outputs },
            Err(error) => Event::StepFailed { step, attempt, error, jitter: jitter() },
        })
        .await
    }

    /// Applies what other processes wrote (a cancel, for instance).
    async fn absorb(&mut self) -> Result<(), EngineError> {
        for (seq, at_ms, event) in self.engine.events(&self.id, self.seq).await? {
            self.run.apply(at_ms, &event).map_err(|error| broken(&self.id, &error))?;
            (self.seq, self.last) = (seq, event);
        }
        Ok(())
    }

    /// Journals an event and applies it, in that order as far as anyone can see: nothing acts on the state in between.
    /// Where another process wrote first, its events are applied before, and an event they made meaningless is dropped.
    async fn record(&mut self, event: Event) -> Result<(), EngineError> {
        for conflicts in 0..CONFLICTS_MAX {
            let at = self.engine.clock.now();
            let mut next = None;
            if let Err(error) = self.run.apply(at.as_millisecond(), &event) {
                return if conflicts > 0 { Ok(()) } else { Err(broken(&self.id, &error)) };
            }
            if self.run.finished().is_some() {
                next = Some(at);
            }
            let row = row(&self.id, &self.run, next);
            let records = vec![Record::of(self.seq + 1, at, &event)?];
            match self.engine.journal.append(&self.id, self.seq, records, row).await {
                Ok(()) => {
                    self.seq += 1;
                    self.last = event;
                    return Ok(());
                }
                Err(JournalError::Conflict { .. }) => {
                    (self.run, self.seq, self.last) = self.engine.replay(&self.id).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(EngineError::Broken { run: self.id.clone(), why: "another process keeps writing to it".into() })
    }
}

/// A share of the backoff delay in thousandths. Its quality does not matter, only that runs differ.
fn jitter() -> u16 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0) % 1001) as u16
}
