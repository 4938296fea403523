//! Files of sandboxes that outlive their runs: those of runs that failed stay for `harvest retry`, the newest few.

use crate::app::{App, AppError};
use crate::id::RunId;
use crate::run::Outcome;
use std::collections::BTreeSet;

/// Runs whose sandboxes keep their files after the run has ended without success.
const ENDED_KEPT: usize = 5;

/// A sandbox that keeps its files for `harvest retry`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeptSandbox {
    /// Its id.
    pub sandbox: String,
    /// Its run.
    pub run: RunId,
    /// Its name in the workflow.
    pub name: String,
    /// The name of the workflow.
    pub workflow: String,
}

/// The run of a sandbox, and its name in the workflow. Sandboxes of other things have none.
pub(super) fn run_of(id: &str) -> Option<(RunId, &str)> {
    let (run, name) = id.split_once('-')?;
    Some((RunId::parse(run)?, name))
}

impl App {
    /// Removes the files that sandboxes of ended runs have left: those of runs that succeeded, whose process died before
    /// it had removed them, and those of all other runs but the newest. Sandboxes whose workflow says `keep: true`, and
    /// those without a run, stay.
    ///
    /// # Errors
    /// Where the sandboxes cannot be listed or removed, or a run cannot be followed.
    pub async fn prune_sandboxes(&self) -> Result<(), AppError> {
        let mut kept: BTreeSet<RunId> = BTreeSet::new();
        let mut left = self.tiers().list().await?;
        // Ids begin with their run's, which sorts by time: the newest come first.
        left.sort_by(|a, b| b.cmp(a));
        for (id, open) in left {
            let Some((run, name)) = run_of(&id) else { continue };
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
            if !self.keeps(&run, name).await? {
                self.tiers().remove(&id).await?;
            }
        }
        Ok(())
    }

    /// Every sandbox of an ended run that has files and is not asked to keep them for ever, newest first.
    pub(super) async fn kept_sandboxes(&self) -> Result<Vec<KeptSandbox>, AppError> {
        let mut kept = Vec::new();
        for (id, open) in self.tiers().list().await? {
            let Some((run, name)) = run_of(&id).filter(|_| !open) else { continue };
            let row = self.journal().row(&run).await?;
            let Some(row) = row.filter(|row| row.finished_at.is_some()) else { continue };
            // Where the run cannot be read, nobody knows what was asked of the sandbox: it stays.
            if !self.keeps(&run, name).await.unwrap_or(true) {
                let (name, workflow) = (name.to_owned(), row.workflow);
                kept.push(KeptSandbox { sandbox: id.clone(), run, name, workflow });
            }
        }
        kept.sort_by(|a, b| b.sandbox.cmp(&a.sandbox));
        Ok(kept)
    }

    /// Whether the workflow of a run says `keep: true` of a sandbox.
    async fn keeps(&self, run: &RunId, name: &str) -> Result<bool, AppError> {
        let (state, ..) = self.engine().replay(run).await?;
        Ok(state.workflow().sandboxes.get(name).is_some_and(|sandbox| sandbox.keep))
    }
}
