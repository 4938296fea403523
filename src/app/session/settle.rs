//! Writing down what came of the runs of a session, once for each, by whichever process comes first.

use super::record::{Session, Standing};
use super::store::Held;
use super::workflows::{PROMPT, START, STOP};
use crate::app::{App, AppError};
use crate::capability::conversation::{Conversation, Said};
use crate::id::{RunId, StepId};
use crate::journal::RunRow;
use crate::run::{Outcome, Run};
use jiff::Timestamp;

/// The volume of what workflows keep between runs.
const VOLUME: &str = "harvest-state";

impl App {
    /// Writes down what came of a run that has just ended, where it is part of a session.
    pub async fn settle(&self, run: &RunId) {
        if let Err(error) = self.settle_run(run).await {
            tracing::warn!(
                "what came of run {run} was not written down: {error}; the next command on its session does it"
            );
        }
    }

    async fn settle_run(&self, run: &RunId) -> Result<(), AppError> {
        let all = self.sessions.all()?;
        let Some(session) = all.into_iter().find(|session| session.pending.contains(run)) else {
            return Ok(());
        };
        let held = self.sessions.hold().await?;
        if let Some(session) = self.sessions.find(&session.id)? {
            self.settled(&held, session).await?;
        }
        Ok(())
    }

    /// A session with what came of all its ended runs.
    pub(super) async fn settled(&self, held: &Held, mut session: Session) -> Result<Session, AppError> {
        if session.pending.is_empty() {
            return Ok(session);
        }
        let mut going_on = Vec::new();
        let pending = std::mem::take(&mut session.pending);
        let before = pending.len();
        for run in pending {
            match self.journal().row(&run).await? {
                Some(row) if row.finished_at.is_none() => going_on.push(run),
                Some(row) => self.write_down(&mut session, &row).await?,
                // It never began: its process died, or could not, after the session was told of it.
                None if session.standing == Standing::Starting => session.standing = Standing::Failed,
                None => {}
            }
        }
        let ends = session.standing == Standing::Stopped;
        let changed = going_on.len() < before;
        session.pending = going_on;
        if session.standing == Standing::Stopping && session.pending.is_empty() {
            // Its last run never began.
            session.standing = Standing::Ready;
        }
        if ends {
            self.end(held, &mut session).await?;
        } else if changed {
            held.write(&session)?;
        }
        Ok(session)
    }

    async fn write_down(&self, session: &mut Session, row: &RunRow) -> Result<(), AppError> {
        let (state, ..) = self.engine().replay(&row.run).await?;
        let succeeded = matches!(state.finished(), Some((Outcome::Succeeded, _)));
        session.used_at = session.used_at.max(row.finished_at.unwrap_or(session.used_at));
        let workflow = row.workflow.as_str();
        if workflow == START.name {
            session.path = output(&state, "clone", "path").filter(|_| succeeded);
            session.standing = if session.path.is_some() { Standing::Ready } else { Standing::Failed };
        } else if workflow == PROMPT.name {
            self.record(session, row, &state).await?;
        } else if workflow == STOP.name {
            session.standing = if succeeded { Standing::Stopped } else { Standing::Ready };
        }
        Ok(())
    }

    /// Adds a prompt and its answer to the session's file, and lays a copy into the volume that sandboxes see.
    async fn record(&self, session: &Session, row: &RunRow, state: &Run) -> Result<(), AppError> {
        let ended = row.finished_at.unwrap_or_else(Timestamp::now);
        let prompt =
            state.started().inputs.get("prompt").and_then(|prompt| prompt.as_str()).unwrap_or_default();
        let mut said = vec![Said { role: "user", content: prompt.to_owned(), at: row.started_at }];
        if let Some(result) = output(state, "agent", "result") {
            said.push(Said { role: "assistant", content: result, at: ended });
        }
        if let Some(error) = state.error() {
            said.push(Said { role: "error", content: error.error.to_string(), at: ended });
        }
        let outputs = state.outputs_of(&StepId::new("commit"));
        let files = outputs.and_then(|outputs| outputs.get("files")?.as_array()).into_iter().flatten();
        let files = files.filter_map(|file| file.as_str().map(str::to_owned)).collect();
        let conversation = Conversation::at(self.sessions.conversation(&session.id));
        conversation.add(row.run.clone(), said, files, ended).await?;
        let copy = conversation.bytes().await?;
        let path = format!("sessions/{}.db", session.id);
        // Sandboxes can write there, and may have put anything in the way. What counts is the session's own file.
        if let Err(error) = self.tiers().local().volumes().put(VOLUME, &path, &copy, None).await {
            tracing::warn!("{path} of the volume {VOLUME} was not brought up to date: {error}");
        }
        Ok(())
    }
}

/// An output of a step that succeeded, as text.
fn output(state: &Run, step: &str, name: &str) -> Option<String> {
    state.outputs_of(&StepId::new(step))?.get(name)?.as_str().map(str::to_owned)
}
