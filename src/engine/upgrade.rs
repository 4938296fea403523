//! Moves runs to other versions of their files, whichever process drives them.

use super::{Engine, EngineError, broken, row};
use crate::id::RunId;
use crate::journal::{JournalError, Record};
use crate::run::{Event, Terms, Upgrade, Version};

impl Engine {
    /// Decides on the newest state what becomes of each step, and journals it unless something is refused. `upgrades` is
    /// how often the run had been upgraded when the version was prepared.
    ///
    /// # Errors
    /// Where the journal fails or has no such run.
    pub async fn upgrade(
        &self,
        run: &RunId,
        version: &Version,
        terms: &Terms,
        upgrades: u32,
        by: Option<String>,
    ) -> Result<Upgrade, EngineError> {
        loop {
            let (mut state, seq, _) = self.replay(run).await?;
            let mut upgrade = state.upgrade(version, terms);
            if state.upgrades() != upgrades {
                upgrade.refusals.push("somebody else has upgraded it meanwhile: try again".into());
            }
            if upgrade.is_refused() {
                return Ok(upgrade);
            }
            upgrade.event.by.clone_from(&by);
            let event = Event::RunUpgraded(Box::new(upgrade.event.clone()));
            let at = self.clock.now();
            state.apply(at.as_millisecond(), &event).map_err(|error| broken(run, &error))?;
            let row = row(run, &state, None);
            match self.journal.append(run, seq, vec![Record::of(seq + 1, at, &event)?], row).await {
                Ok(()) => return Ok(upgrade),
                Err(JournalError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
