//! What the host itself knows of a session. Nothing in here comes from a sandbox unchecked.

use crate::capability::CapabilityError;
use crate::id::{Digest, RunId};
use crate::step::ErrorKind;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Characters of a session's id.
const ID_MAX: usize = 40;

/// What was asked for when a session began. The same id with the same wishes is the same session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// The repository: owner/name, a URL, or a local path.
    pub repo: String,
    /// Branch, tag or commit; empty is the remote's HEAD.
    #[serde(default)]
    pub branch: String,
    /// Image of the sandbox.
    pub image: String,
    /// Model; empty is the CLI's default.
    #[serde(default)]
    pub model: String,
    /// The digest of the prompt that it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Digest>,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Its repository is being cloned.
    Starting,
    /// It could not begin; it may be tried again.
    Failed,
    /// It takes prompts.
    Ready,
    /// It takes no more prompts, and ends once those that wait are done.
    Stopping,
    /// It has ended, and its sandbox is gone.
    Stopped,
}

/// A session: a chain of runs that share a sandbox and a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its id, `[a-z0-9-]{1,40}`.
    pub id: String,
    /// What was asked for.
    #[serde(flatten)]
    pub wishes: Wishes,
    /// The id of its conversation, a UUID.
    pub conversation: String,
    /// The run that began it.
    pub first: RunId,
    /// Where it stands.
    pub standing: Standing,
    /// Where its repository lies in the sandbox, once it is cloned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether the prompt that it began with was given.
    #[serde(default)]
    pub prompted: bool,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used.
    pub used_at: Timestamp,
    /// Runs whose results are not written down yet, in the order in which they began.
    #[serde(default)]
    pub pending: Vec<RunId>,
}

impl Session {
    /// A session that is about to begin with this run.
    pub(super) fn new(id: String, wishes: Wishes, first: RunId, now: Timestamp) -> Self {
        Self {
            id,
            wishes,
            conversation: conversation_id(&first),
            first,
            standing: Standing::Starting,
            path: None,
            prompted: false,
            created_at: now,
            used_at: now,
            pending: Vec::new(),
        }
    }

    /// Whether its sandbox is to be kept.
    pub(super) fn is_alive(&self) -> bool {
        self.standing != Standing::Stopped
    }
}

/// An id for a session that was given none.
pub fn generate_id() -> String {
    // Its end is random, its beginning is the time.
    let run = RunId::generate();
    format!("s-{}", &run.as_str()[run.as_str().len() - 10..])
}

/// Refuses what is no id of a session.
pub(super) fn check_id(id: &str) -> Result<(), CapabilityError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=ID_MAX).contains(&id.len()) && id.bytes().all(fits) {
        return Ok(());
    }
    Err(CapabilityError::new(
        ErrorKind::INVALID,
        format!("`{id}` is no id of a session: 1 to {ID_MAX} of a-z, 0-9 and `-`"),
    ))
}

/// Names a sandbox of a session: no other one has this name, whatever the session and the sandbox are called, since
/// neither ids of sessions nor those of runs have an underscore.
pub(in crate::app) fn sandbox_id(session: &str, name: &str) -> String {
    format!("session_{session}_{name}")
}

/// The session of a sandbox. Sandboxes of other things have none.
pub(super) fn session_of(sandbox: &str) -> Option<&str> {
    Some(sandbox.strip_prefix("session_")?.split_once('_')?.0)
}

/// A UUID for the conversation of a session, known before the first prompt so that others can wait behind it.
fn conversation_id(first: &RunId) -> String {
    let mut hex = Digest::of(format!("session/{first}").as_bytes()).hex()[..32].to_owned();
    // Version 8 and variant 2: a UUID by rules of one's own.
    hex.replace_range(12..13, "8");
    hex.replace_range(16..17, "8");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sandboxes_are_those_of_their_session_alone(
            session in "[a-z0-9-]{1,40}",
            name in "[a-z][a-z0-9_]{0,20}",
        ) {
            let id = sandbox_id(&session, &name);
            prop_assert_eq!(session_of(&id), Some(session.as_str()));
            prop_assert!(check_id(&session).is_ok());
            // No run's: retention of runs never takes it.
            let run = id.split_once('-').and_then(|(run, _)| RunId::parse(run));
            prop_assert_eq!(run, None);
        }
    }

    #[test]
    fn ids_that_are_generated_are_good_and_conversations_are_uuids() {
        assert!(check_id(&generate_id()).is_ok());
        assert_ne!(generate_id(), generate_id());
        let first = RunId::generate();
        assert_eq!(conversation_id(&first), conversation_id(&first));
        assert_eq!(conversation_id(&first).len(), 36);
        for bad in ["", "A", "a_b", "../x", "a.b", &"a".repeat(41)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
