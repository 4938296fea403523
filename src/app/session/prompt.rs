//! A prompt of a session: a run that takes its turn.

use super::record::{Session, Standing};
use super::workflows::PROMPT;
use super::{WAITING_MAX, conflict};
use crate::app::{App, AppError, Driven};
use crate::capability::CapabilityError;
use crate::step::ErrorKind;
use jiff::Timestamp;
use serde_json::json;

/// What to ask an agent for.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The words.
    pub text: String,
    /// Name and email of who asks; git's own configuration says it where absent.
    pub author: Option<(String, String)>,
}

impl App {
    /// Puts a prompt in the line of a session.
    ///
    /// # Errors
    /// Where the session takes no prompts, too many wait, or the run cannot begin.
    pub async fn prompt_session(&self, id: &str, asked: &Prompt) -> Result<Driven, AppError> {
        let held = self.sessions.hold().await?;
        let mut session = self.known(&held, id).await?;
        let path = takes_prompts(&session)?;
        if session.pending.len() > WAITING_MAX {
            let message = format!(
                "{WAITING_MAX} prompts of the session `{id}` wait already: come back when it has answered some, or cancel one with `harvest cancel RUN`"
            );
            return Err(CapabilityError::new(ErrorKind::QUOTA, message).into());
        }
        if asked.text.trim().is_empty() {
            return Err(
                CapabilityError::new(ErrorKind::INVALID, "the prompt is empty: say what to do").into()
            );
        }
        let mut inputs = vec![
            ("conversation", json!(session.conversation)),
            ("path", json!(path)),
            ("prompt", json!(asked.text)),
            ("model", json!(session.wishes.model)),
        ];
        if let Some((name, email)) = &asked.author {
            inputs.push(("author", json!({ "name": name, "email": email })));
        }
        let prepared = self.prepare_part(&PROMPT, &session, &inputs).await?;
        session.pending.push(prepared.run.clone());
        session.prompted = true;
        session.used_at = Timestamp::now();
        held.write(&session)?;
        self.begin(prepared).await
    }
}

/// Where the repository of a session that can be worked with lies in its sandbox.
pub(super) fn takes_prompts(session: &Session) -> Result<String, AppError> {
    let id = &session.id;
    match (session.standing, &session.path) {
        (Standing::Ready, Some(path)) => Ok(path.clone()),
        (Standing::Starting, _) => {
            Err(conflict(format!("the session `{id}` is still starting: wait for `harvest session start`")))
        }
        (Standing::Stopping | Standing::Stopped, _) => {
            Err(conflict(format!("the session `{id}` has ended: start one with another id")))
        }
        _ => Err(conflict(format!(
            "the session `{id}` could not begin: `harvest session start` with the same id tries it again"
        ))),
    }
}
