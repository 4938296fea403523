//! Places in groups, for a run and for its steps: asked for, waited for, held.

use super::{Done, Driver};
use crate::engine::EngineError;
use crate::engine::groups::{Holder, Kind, Place};
use crate::id::StepRef;
use crate::run::{Event, Membership};
use crate::step::{ErrorKind, StepError};
use crate::workflow::model::OnConflict;
use std::io;
use tokio::task::Id;

/// What came of asking for a place.
pub(super) enum Asked {
    /// It is there, or none is needed.
    Yes(Option<Place>),
    /// It is waited for.
    Later,
    /// There is none.
    No(StepError),
}

impl Driver {
    /// Gets the run its place in its group.
    pub(super) async fn admit(&mut self) -> Result<(), EngineError> {
        if self.waiting.contains_key(&None) {
            return Ok(());
        }
        let asked = match self.run.own_membership() {
            Ok(member) => self.ask(None, member).await?,
            Err(error) => Asked::No(error),
        };
        match asked {
            Asked::Yes(place) => {
                self.place = place;
                self.record(Event::RunAdmitted).await
            }
            Asked::Later => Ok(()),
            Asked::No(error) => self.record(Event::RunRefused { error }).await,
        }
    }

    /// Gets an admitted run the place again that it held before its process ended.
    pub(super) async fn hold_place_again(&mut self) -> Result<(), EngineError> {
        let Ok(Some(member)) = self.run.own_membership() else { return Ok(()) };
        let holder = self.holder();
        let (groups, journal) = (self.engine.groups.clone(), self.engine.journal.clone());
        let mut taking = std::pin::pin!(groups.take(Kind::Runs, &member.group, member.limit, &holder));
        while self.run.error().is_none() {
            tokio::select! {
                place = &mut taking => {
                    self.place = Some(place.map_err(|error| self.no_groups(&error))?);
                    break;
                }
                () = journal.changed(&self.id, self.seq) => self.absorb().await?,
            }
        }
        Ok(())
    }

    /// Asks for a place in a group, for a step or for the run itself.
    pub(super) async fn ask(
        &mut self,
        who: Option<&StepRef>,
        member: Option<Membership>,
    ) -> Result<Asked, EngineError> {
        let Some(member) = member else { return Ok(Asked::Yes(None)) };
        let kind = if who.is_some() { Kind::Steps } else { Kind::Runs };
        let Membership { group, limit, on_conflict } = member;
        let holder = self.holder();
        let free = self.engine.groups.try_take(kind, &group, limit, &holder);
        if let Some(place) = free.map_err(|error| self.no_groups(&error))? {
            return Ok(Asked::Yes(Some(place)));
        }
        match on_conflict {
            OnConflict::Reject => {
                let message =
                    format!("the group `{group}` is full: {limit} at once, and `on-conflict: reject`");
                return Ok(Asked::No(StepError::new(ErrorKind::CONFLICT, message)));
            }
            OnConflict::CancelOld => self.cancel_oldest(kind, &group).await?,
            OnConflict::Queue => {}
        }
        self.queue(who, &group).await?;
        let groups = self.engine.groups.clone();
        let who = who.cloned();
        let waiter = who.clone();
        let task = self
            .tasks
            .spawn(async move { Done::Placed(waiter, groups.take(kind, &group, limit, &holder).await) });
        self.waiting.insert(who, task);
        Ok(Asked::Later)
    }

    /// Journals that somebody waits, where that is new.
    async fn queue(&mut self, who: Option<&StepRef>, group: &str) -> Result<(), EngineError> {
        let group = group.to_owned();
        match who {
            None if self.run.is_due() => self.record(Event::RunQueued { group }).await,
            Some(at) => match self.run.due_attempt(at) {
                Some(attempt) => self.record(Event::StepQueued { at: at.clone(), attempt, group }).await,
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    async fn cancel_oldest(&self, kind: Kind, group: &str) -> Result<(), EngineError> {
        let holders = self.engine.groups.holders(kind, group).map_err(|error| self.no_groups(&error))?;
        let Some(oldest) = holders.into_iter().find(|holder| holder.run != self.id) else { return Ok(()) };
        let note = format!("run {} took its place in the group `{group}`", self.id);
        match self.engine.cancel(&oldest.run, Some(note)).await {
            // A run of another home's journal, or one that was deleted: its place will be free when its process ends.
            Ok(_) | Err(EngineError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn holder(&self) -> Holder {
        Holder { run: self.id.clone(), since_ms: self.engine.clock.now().as_millisecond() }
    }

    fn no_groups(&self, error: &io::Error) -> EngineError {
        EngineError::Groups { run: self.id.clone(), why: error.to_string() }
    }

    /// Goes on with what has waited for a place.
    pub(super) async fn placed(
        &mut self,
        id: Id,
        who: Option<StepRef>,
        place: io::Result<Place>,
    ) -> Result<(), EngineError> {
        let place = place.map_err(|error| self.no_groups(&error))?;
        // Nobody wants a place any more that is not waited for, or that another wait has followed.
        if self.waiting.get(&who).is_none_or(|wait| wait.id() != id) {
            return Ok(());
        }
        self.waiting.remove(&who);
        let Some(at) = who else {
            self.place = Some(place);
            return self.record(Event::RunAdmitted).await;
        };
        let Some(attempt) = self.run.queued_attempt(&at) else { return Ok(()) };
        match self.run.reuse(&at) {
            Ok(reuse) => self.begin(at, attempt, Some(place), reuse.map(|reuse| reuse.key)).await,
            Err(error) => self.refuse(at, attempt, error).await,
        }
    }
}
