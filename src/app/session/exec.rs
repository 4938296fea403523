//! A command in the sandbox of a session, which has it for itself meanwhile.

use super::prompt::takes_prompts;
use super::record::Session;
use super::workflows::{SANDBOX, START, group};
use crate::app::{App, AppError};
use crate::capability::CapabilityError;
use crate::capability::sandbox::SandboxSpec;
use crate::engine::Groups;
use crate::engine::groups::{Holder, Kind, Place};
use crate::id::RunId;
use crate::step::ErrorKind;
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;

/// The right to use a session's sandbox, until dropped.
#[derive(Debug)]
pub struct Attached {
    /// The sandbox, as the session's runs open it.
    pub spec: SandboxSpec,
    /// Where the repository lies in it.
    pub path: String,
    _place: Place,
}

impl App {
    /// Takes the place of a session for something other than a run; calls `waits` once where others are before it.
    ///
    /// # Errors
    /// Where the session cannot be worked with.
    pub async fn attach(&self, id: &str, waits: impl FnOnce()) -> Result<Attached, AppError> {
        let (spec, path) = {
            let held = self.sessions.hold().await?;
            let mut session = self.known(&held, id).await?;
            let path = takes_prompts(&session)?;
            let spec = self.sandbox_of(&session).await?;
            session.used_at = Timestamp::now();
            held.write(&session)?;
            (spec, path)
        };
        let groups = Groups::new(self.home().join("groups"));
        let holder = Holder { run: RunId::generate(), since_ms: Timestamp::now().as_millisecond() };
        let group = group(id);
        let failed = |error| AppError::Config(format!("the group of the session `{id}`: {error}"));
        let place = match groups.try_take(Kind::Runs, &group, 1, &holder).map_err(failed)? {
            Some(place) => place,
            None => {
                waits();
                groups.take(Kind::Runs, &group, 1, &holder).await.map_err(failed)?
            }
        };
        // It may have ended while others were before.
        takes_prompts(&self.session(id).await?)?;
        Ok(Attached { spec, path, _place: place })
    }

    /// The sandbox as the runs of the session open it.
    async fn sandbox_of(&self, session: &Session) -> Result<SandboxSpec, AppError> {
        let inputs = [("repo", json!(session.wishes.repo))];
        let prepared = self.prepare_part(&START, session, &inputs).await?;
        let mut setup = self.ground.set_up(&prepared.run, &prepared.started, BTreeMap::new()).await?;
        setup.sandboxes.remove(SANDBOX).ok_or_else(|| {
            CapabilityError::new(ErrorKind::OTHER, format!("{} has no sandbox `{SANDBOX}`", START.name))
                .into()
        })
    }
}
