//! A run that only waits is put aside: what stays of it is a [`Rest`], a line where a driver was tens of kilobytes.

use super::{Driver, Turn};
use crate::engine::groups::Place;
use crate::engine::{Ended, Engine, EngineError};
use crate::id::{RunId, StepRef};
use crate::run::{Event, Timer};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// How far away the next timer of a run is that is put aside. Ending sandboxes and asking for secrets again costs more
/// than keeping a run at hand for less.
const REST_MIN: SignedDuration = SignedDuration::from_secs(30);

/// How far a run was driven.
pub(in crate::engine) enum Progress {
    /// To its end.
    Ended {
        ended: Ended,
        /// Whether the host was prepared, and so has removed what is left of it.
        prepared: bool,
    },
    /// It only waits.
    Rests(Rest),
    /// It is a step of this run, which drives it.
    IsStepOf(RunId),
    /// It cannot go on.
    Stuck {
        /// Its last event, where it could be read.
        seq: Option<u64>,
        error: EngineError,
    },
}

/// What is left of a run that only waits: for a person, or for a time.
#[derive(Debug)]
pub(in crate::engine) struct Rest {
    /// Its last event. Another one ends the rest.
    pub(in crate::engine) seq: u64,
    /// When it goes on by itself.
    pub(in crate::engine) until: Option<Timestamp>,
    /// Its place in its group, which it does not give up.
    place: Option<Place>,
}

/// Where a driver tells what it sees.
pub(in crate::engine) type Tell = mpsc::Sender<Told>;

/// What a driver tells.
pub(in crate::engine) enum Told {
    /// It takes up a run, for the first time in this process.
    Begins {
        run: RunId,
        workflow: String,
        /// Its last event.
        seq: u64,
        /// What it asks.
        questions: Vec<(StepRef, String)>,
    },
    /// Something was journalled.
    Event { run: RunId, seq: u64, at_ms: i64, event: Box<Event> },
}

impl Driver {
    /// Drives a run until it has ended or only waits; `rest` is what was left of it the last time.
    pub(in crate::engine) async fn advance(
        engine: Engine,
        id: RunId,
        rest: Option<Rest>,
        tell: Tell,
        loading: OwnedSemaphorePermit,
    ) -> Progress {
        let mut driver = match Self::load(engine, id).await {
            Ok(driver) => driver,
            Err(error) => return Progress::Stuck { seq: None, error },
        };
        (driver.loading, driver.prepared) = (Some(loading), None);
        match driver.go_on(rest, tell).await {
            Ok(progress) => progress,
            Err(error) => Progress::Stuck { seq: Some(driver.seq), error },
        }
    }

    async fn go_on(&mut self, rest: Option<Rest>, tell: Tell) -> Result<Progress, EngineError> {
        match rest {
            Some(Rest { seq, place, .. }) => {
                (self.place, self.tell) = (place, Some(tell));
                self.tell_after(seq).await?;
            }
            None => {
                if let Some(parent) = self.goes_on_with().await? {
                    return Ok(Progress::IsStepOf(parent));
                }
                self.begin_telling(&tell).await;
                self.tell = Some(tell);
            }
        }
        self.recover().await?;
        loop {
            match self.turn().await? {
                Turn::Ended(ended) => {
                    return Ok(Progress::Ended { ended, prepared: self.prepared.is_some() });
                }
                Turn::Moved => {}
                Turn::Waits(timer) if self.may_rest(timer.as_ref()) => {
                    return Ok(Progress::Rests(self.rest(timer).await));
                }
                Turn::Waits(timer) => self.wait(timer).await?,
            }
        }
    }

    /// The run that this one is a step of, where that one has not ended.
    async fn goes_on_with(&self) -> Result<Option<RunId>, EngineError> {
        let Some(parent) = &self.run.started().parent else { return Ok(None) };
        match self.engine.replay(&parent.run).await {
            Ok((state, ..)) => Ok(state.finished().is_none().then(|| parent.run.clone())),
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether nothing is to be done before the timer is due, and that is long.
    fn may_rest(&self, timer: Option<&(Timer, i64)>) -> bool {
        let soon = self.engine.clock.now().saturating_add(REST_MIN).unwrap_or(Timestamp::MAX);
        self.in_flight.is_empty()
            && self.waiting.is_empty()
            && timer.is_none_or(|(_, until_ms)| *until_ms > soon.as_millisecond())
    }

    async fn rest(&mut self, timer: Option<(Timer, i64)>) -> Rest {
        if self.prepared.is_some() {
            self.engine.executor.release(&self.id, true).await;
        }
        let until = timer.and_then(|(_, until_ms)| Timestamp::from_millisecond(until_ms).ok());
        Rest { seq: self.seq, until, place: self.place.take() }
    }

    async fn begin_telling(&self, tell: &Tell) {
        let told = Told::Begins {
            run: self.id.clone(),
            workflow: self.run.started().workflow.clone(),
            seq: self.seq,
            questions: self
                .run
                .questions()
                .into_iter()
                .map(|(at, message)| (at, message.to_owned()))
                .collect(),
        };
        // Nobody may listen any more.
        let _ = tell.send(told).await;
    }

    /// Tells of an event, where somebody listens.
    pub(super) async fn tell(&self, seq: u64, at_ms: i64, event: &Event) {
        let Some(tell) = &self.tell else { return };
        let event = Box::new(event.clone());
        let _ = tell.send(Told::Event { run: self.id.clone(), seq, at_ms, event }).await;
    }

    /// Tells of the events after `seq` that others have written and the state holds already.
    pub(super) async fn tell_after(&self, seq: u64) -> Result<(), EngineError> {
        if self.tell.is_some() && seq < self.seq {
            for (seq, at_ms, event) in self.engine.events(&self.id, seq).await? {
                if seq <= self.seq {
                    self.tell(seq, at_ms, &event).await;
                }
            }
        }
        Ok(())
    }
}
