//! `harvest resume`: carries on every run of this home whose process is gone.

use super::{Outcome, Talk};
use crate::app::App;
use crate::journal::RunFilter;

/// Takes no arguments yet.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One JSON object a line, as `harvest run --json` prints them.
    #[arg(long)]
    json: bool,
}

/// Runs carried on by one call.
const RUNS_MAX: usize = 10_000;

pub(super) async fn resume(app: App, arguments: &Arguments, talk: Talk) -> Outcome {
    // What a process left that died between the end of a run and the removal of its files.
    if let Err(error) = app.prune_sandboxes().await {
        tracing::warn!("files of ended runs were not removed: {error}");
    }
    let filter = RunFilter { unfinished: true, ..RunFilter::default() };
    let mut rows = app.journal().list(filter, RUNS_MAX).await?;
    rows.reverse();
    let mut worst = 0;
    let mut resumed = 0;
    for row in rows {
        let Some(driven) = app.take_over(&row.run).await? else { continue };
        resumed += 1;
        if !talk.quiet {
            eprintln!("resuming {} ({})", row.run, row.workflow);
        }
        worst = worst.max(super::run::watch(&app, driven, arguments.json, talk).await?);
    }
    if resumed == 0 && !talk.quiet {
        eprintln!("nothing to resume");
    }
    Ok(worst)
}
