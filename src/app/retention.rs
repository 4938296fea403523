//! Files of sandboxes that outlive their runs: those of runs that failed stay for `harvest retry`, the newest few.

use super::{App, AppError};
use crate::id::RunId;
use crate::run::Outcome;
use std::collections::BTreeSet;

/// Runs whose sandboxes keep their files after the run has ended without success.
const ENDED_KEPT: usize = 5;

impl App {
    /// Removes the files that sandboxes of ended runs have left: those of runs that succeeded, whose process died before
    /// it had removed them, and those of all other runs but the newest. Sandboxes whose workflow says `keep: true`, and
    /// those without a run, stay.
    ///
    /// # Errors
    /// Where the sandboxes cannot be listed or removed, or a run cannot be followed.
    pub async fn prune_sandboxes(&self) -> Result<(), AppError> {
        let mut kept: BTreeSet<RunId> = BTreeSet::new();
        let mut left = self.provider().list().await?;
        // Ids begin with their run's, which sorts by time: the newest come first.
        left.sort_by(|a, b| b.cmp(a));
        for (id, open) in left {
            let Some((run, name)) =
                id.split_once('-').and_then(|(run, name)| Some((RunId::parse(run)?, name)))
            else {
                continue;
            };
            let row = self.journal().row(&run).await?.filter(|row| row.finished_at.is_some());
            let Some(row) = row.filter(|_| !open) else { continue };
            let may_go_on = row.state != Outcome::Succeeded.as_str();
            if kept.contains(&run) {
                continue;
            }
            if may_go_on && kept.len() < ENDED_KEPT {
                kept.insert(run);
                continue;
            }
            let (state, ..) = self.engine().replay(&run).await?;
            if !state.workflow().sandboxes.get(name).is_some_and(|sandbox| sandbox.keep) {
                self.provider().remove(&id).await?;
            }
        }
        Ok(())
    }
}
