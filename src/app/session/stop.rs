//! The end of a session: what is not kept yet is saved, and the sandbox goes.

use super::conflict;
use super::record::{Session, Standing, session_of};
use super::store::Held;
use super::workflows::STOP;
use crate::app::{App, AppError, Driven};
use crate::engine::EngineError;
use crate::id::RunId;
use jiff::Timestamp;
use serde_json::json;

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// After the prompts that wait.
    Patient,
    /// The prompts at work and in line are cancelled first.
    Now,
    /// The same, and nothing is saved.
    Discarding,
}

/// What came of asking a session to stop.
pub enum Stopped {
    /// This process saves what is to be kept.
    Saving(Box<Driven>),
    /// Another process does, in this run.
    Awaited(RunId),
    /// It has ended.
    Done,
}

impl App {
    /// Ends a session. Asked for twice, it ends once.
    ///
    /// # Errors
    /// Where there is no such session, it is being cloned, one of its runs was interrupted, or the last one cannot begin.
    pub async fn stop_session(&self, id: &str, haste: Haste) -> Result<Stopped, AppError> {
        if haste != Haste::Patient {
            self.cancel_session(id, haste).await?;
        }
        let held = self.sessions.hold().await?;
        let mut session = self.known(&held, id).await?;
        match session.standing {
            Standing::Stopped => return Ok(Stopped::Done),
            Standing::Stopping => {
                if let Some(run) = session.pending.last().cloned() {
                    return match self.take_over(&run).await? {
                        Some(driven) => Ok(Stopped::Saving(Box::new(driven))),
                        None => Ok(Stopped::Awaited(run)),
                    };
                }
            }
            Standing::Starting if !session.pending.is_empty() => {
                return Err(conflict(format!(
                    "the session `{id}` is still starting: wait for it, or stop it with --now"
                )));
            }
            _ => {}
        }
        for run in &session.pending {
            // It would go on later, and find neither sandbox nor session.
            if !self.is_driven(run)? {
                return Err(conflict(format!(
                    "run {run} of the session `{id}` was interrupted: `harvest resume` carries it on, `harvest session stop {id} --now` cancels it"
                )));
            }
        }
        let path = session.path.clone().filter(|_| haste != Haste::Discarding);
        let Some(path) = path else {
            self.end(&held, &mut session).await?;
            return Ok(Stopped::Done);
        };
        let inputs = [("repo", json!(session.wishes.repo)), ("path", json!(path))];
        let prepared = self.prepare_part(&STOP, &session, &inputs).await?;
        session.pending.push(prepared.run.clone());
        session.standing = Standing::Stopping;
        held.write(&session)?;
        Ok(Stopped::Saving(Box::new(self.begin(prepared).await?)))
    }

    /// Cancels what is at work and in line, and waits for its end.
    async fn cancel_session(&self, id: &str, haste: Haste) -> Result<(), AppError> {
        let pending = {
            let held = self.sessions.hold().await?;
            let session = self.known(&held, id).await?;
            // A run that saves is what was asked for.
            let keep = usize::from(session.standing == Standing::Stopping && haste == Haste::Now);
            let count = session.pending.len().saturating_sub(keep);
            session.pending[..count].to_vec()
        };
        let note = Some("the session was stopped".to_owned());
        for run in &pending {
            match self.engine().cancel(run, note.clone()).await {
                Ok(_) | Err(EngineError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for run in &pending {
            match self.take_over(run).await {
                // Its process is gone: it is ended here.
                Ok(Some(driven)) => drop(driven.finish().await?),
                Ok(None) => drop(self.wait_for_end(run).await?),
                Err(AppError::Engine(EngineError::NotFound(_))) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes what belongs to a session that has ended.
    pub(super) async fn end(&self, held: &Held, session: &mut Session) -> Result<(), AppError> {
        // Marked first: killed in between, the next `harvest gc` finds sandboxes of a session that has ended.
        (session.standing, session.used_at) = (Standing::Stopped, Timestamp::now());
        session.pending.clear();
        held.write(session)?;
        self.remove_sandboxes(&session.id).await
    }

    /// Removes the sandboxes of a session, files included.
    pub(super) async fn remove_sandboxes(&self, id: &str) -> Result<(), AppError> {
        for (sandbox, _) in self.tiers().local().list().await? {
            if session_of(&sandbox) == Some(id) {
                self.tiers().local().remove(&sandbox).await?;
            }
        }
        Ok(())
    }
}
