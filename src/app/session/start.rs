//! The beginning of a session. Asked for twice, it begins once.

use super::conflict;
use super::record::{Session, Standing, Wishes, check_id};
use super::store::Held;
use crate::app::{App, AppError, Driven};
use crate::id::RunId;
use jiff::Timestamp;
use serde_json::{Map, json};
use std::path::Path;

/// What came of asking for a session.
pub enum Started {
    /// This process clones its repository.
    Begun(Box<Driven>),
    /// Another process does, in this run.
    Awaited(RunId),
    /// It has begun before.
    There(Box<Session>),
}

impl Wishes {
    /// Wishes whose repository is the same wherever they are read.
    #[must_use]
    pub fn anchored(mut self) -> Self {
        if self.repo.starts_with('.')
            && let Ok(path) = Path::new(&self.repo).canonicalize()
        {
            self.repo = path.display().to_string();
        }
        self
    }
}

impl App {
    /// Begins a session, unless it has begun.
    ///
    /// # Errors
    /// Where the id serves another session or one that has ended, or a run cannot begin.
    pub async fn start_session(&self, id: &str, wishes: Wishes) -> Result<Started, AppError> {
        check_id(id)?;
        let held = self.sessions.hold().await?;
        let Some(found) = self.sessions.find(id)? else { return self.begin_session(&held, id, wishes).await };
        let found = self.settled(&held, found).await?;
        if let Some(difference) = difference(&found.wishes, &wishes) {
            return Err(conflict(format!(
                "there is a session `{id}` already, with {difference}: choose another id, or ask for the same"
            )));
        }
        match found.standing {
            Standing::Stopping | Standing::Stopped => Err(conflict(format!(
                "the session `{id}` has ended: choose another id; `harvest volume get harvest-state sessions/{id}.db` has what was said"
            ))),
            Standing::Ready => Ok(Started::There(Box::new(found))),
            Standing::Starting | Standing::Failed => match found.pending.last().cloned() {
                Some(run) => match self.take_over(&run).await? {
                    Some(driven) => Ok(Started::Begun(Box::new(driven))),
                    None => Ok(Started::Awaited(run)),
                },
                None => {
                    // Nobody has worked in it: what a clone that failed has left is in the way.
                    self.remove_sandboxes(id).await?;
                    self.begin_session(&held, id, wishes).await
                }
            },
        }
    }

    async fn begin_session(&self, held: &Held, id: &str, wishes: Wishes) -> Result<Started, AppError> {
        let mut inputs = Map::new();
        for (name, value) in
            [("session", id), ("repo", &wishes.repo), ("branch", &wishes.branch), ("image", &wishes.image)]
        {
            inputs.insert(name.into(), json!(value));
        }
        let (prepared, first) = self.prepare_first(id, inputs).await?;
        let mut session = Session::new(id.to_owned(), wishes, first.clone(), Timestamp::now());
        session.pending.push(first);
        // Written first: a run that is known and does not exist is forgotten, the other way round it would be lost.
        held.write(&session)?;
        Ok(Started::Begun(Box::new(self.begin(prepared).await?)))
    }
}

/// How what is asked for differs from what there is, in words.
fn difference(there: &Wishes, asked: &Wishes) -> Option<String> {
    let word = |text: &str| if text.is_empty() { "none".to_owned() } else { format!("`{text}`") };
    let pairs = [
        ("repository", &there.repo, &asked.repo),
        ("branch", &there.branch, &asked.branch),
        ("image", &there.image, &asked.image),
        ("model", &there.model, &asked.model),
    ];
    for (what, there, asked) in pairs {
        if there != asked {
            return Some(format!("the {what} {}, not {}", word(there), word(asked)));
        }
    }
    (there.prompt != asked.prompt).then(|| "another prompt to begin with".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let there = Wishes {
            repo: "a/b".into(),
            branch: String::new(),
            image: "agent".into(),
            model: String::new(),
            prompt: None,
        };
        assert_eq!(difference(&there, &there), None);
        let asked = Wishes { branch: "next".into(), ..there.clone() };
        assert_eq!(difference(&there, &asked).unwrap(), "the branch none, not `next`");
        let asked = Wishes { prompt: Some(crate::id::Digest::of(b"x")), ..there.clone() };
        assert_eq!(difference(&there, &asked).unwrap(), "another prompt to begin with");
    }
}
