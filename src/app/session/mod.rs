//! Sessions: an agent that goes on from prompt to prompt. A session is a chain of ordinary runs of three workflows that
//! are part of harvest; they share a sandbox, which keeps its files between them, a conversation, and a group of the
//! session's own, so that one is at work at a time and the others wait in line.
//!
//! What is known of a session is written down from the journal once a run has ended, by whichever process comes first:
//! the one that drove it, or the next that works with the session. So a process that dies loses nothing.

mod exec;
mod prompt;
mod record;
mod settle;
mod start;
mod stop;
mod store;
mod sweep;
mod workflows;

pub use exec::Attached;
pub use prompt::Prompt;
pub(super) use record::sandbox_id;
pub use record::{Session, Standing, Wishes, generate_id};
pub use start::Started;
pub use stop::{Haste, Stopped};
pub(super) use store::Records;

use super::{App, AppError};
use crate::capability::CapabilityError;
use crate::id::RunId;
use crate::run::RunStarted;
use crate::step::ErrorKind;
use store::Held;

/// Prompts of one session that may wait while one is at work.
pub const WAITING_MAX: usize = 10;

/// A session as it is listed.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Listed {
    /// What is known of it.
    #[serde(flatten)]
    pub session: Session,
    /// `starting`, `failed`, `idle`, `working`, `stopping` or `stopped`.
    pub state: &'static str,
    /// Runs that wait for the one that is at work.
    pub waiting: usize,
}

impl From<Session> for Listed {
    fn from(session: Session) -> Self {
        let state = match session.standing {
            Standing::Starting => "starting",
            Standing::Failed => "failed",
            Standing::Ready if session.pending.is_empty() => "idle",
            Standing::Ready => "working",
            Standing::Stopping => "stopping",
            Standing::Stopped => "stopped",
        };
        Self { state, waiting: session.pending.len().saturating_sub(1), session }
    }
}

impl App {
    /// The sessions of the home, the oldest first; those that have ended only with `all`.
    ///
    /// # Errors
    /// Where the records or the journal cannot be read.
    pub async fn sessions(&self, all: bool) -> Result<Vec<Listed>, AppError> {
        let mut sessions = self.sessions.all()?;
        if sessions.iter().any(|session| !session.pending.is_empty()) {
            let held = self.sessions.hold().await?;
            for session in &mut sessions {
                if let Some(known) = self.sessions.find(&session.id)? {
                    *session = self.settled(&held, known).await?;
                }
            }
        }
        Ok(sessions.into_iter().filter(|session| all || session.is_alive()).map(Listed::from).collect())
    }

    /// One session.
    ///
    /// # Errors
    /// Where there is none of that id, or its record cannot be read.
    pub async fn session(&self, id: &str) -> Result<Session, AppError> {
        let held = self.sessions.hold().await?;
        self.known(&held, id).await
    }

    /// A session with all results of its runs written down.
    async fn known(&self, held: &Held, id: &str) -> Result<Session, AppError> {
        let found = self.sessions.find(id)?.ok_or_else(|| {
            let message = format!("there is no session `{id}`: `harvest session list` shows them");
            CapabilityError::new(ErrorKind::NOT_FOUND, message)
        })?;
        self.settled(held, found).await
    }

    /// Waits for the end of a run that another process drives.
    ///
    /// # Errors
    /// Where the journal cannot be read.
    pub async fn wait_for_end(&self, run: &RunId) -> Result<u8, AppError> {
        loop {
            let (state, seq, _) = self.engine().replay(run).await?;
            if let Some((_, exit_code)) = state.finished() {
                return Ok(exit_code);
            }
            self.journal().changed(run, seq).await;
        }
    }

    /// Refuses to do a run of a session again by itself: its place is in the chain.
    pub(super) fn refuse_session(&self, started: &RunStarted) -> Result<(), AppError> {
        let Some(session) = &started.session else { return Ok(()) };
        let message = format!(
            "the run is part of the session `{0}`, which goes on with `harvest session prompt {0} TEXT`",
            session.id
        );
        Err(conflict(message))
    }
}

fn conflict(message: String) -> AppError {
    CapabilityError::new(ErrorKind::CONFLICT, message).into()
}
