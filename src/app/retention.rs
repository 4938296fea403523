//! Files of sandboxes that outlive their runs: those of runs that failed stay for `harvest retry`, the newest few.

use super::{App, AppError};
use crate::id::RunId;
use std::collections::BTreeSet;

/// Runs whose sandboxes keep their files after the run has ended without success.
const ENDED_KEPT: usize = 5;

impl App {
    /// Removes the files that sandboxes of ended runs have left, all but those of the newest runs. Sandboxes whose
    /// workflow says `keep: true`, and those without a run, stay.
    pub(super) async fn prune_sandboxes(&self) -> Result<(), AppError> {
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
            let ended = self.journal().row(&run).await?.is_some_and(|row| row.finished_at.is_some());
            if open || !ended || kept.contains(&run) {
                continue;
            }
            if kept.len() < ENDED_KEPT {
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
