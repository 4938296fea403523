//! `harvest cancel`: asks a run to stop, whichever process drives it.

use super::{Outcome, Talk, run_id};
use crate::app::App;

/// Which run.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The run's id.
    run: String,
    /// Why; kept in the journal.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

pub(super) async fn cancel(app: App, arguments: Arguments, talk: Talk) -> Outcome {
    let id = run_id(&arguments.run)?;
    if !app.engine().cancel(&id, arguments.note).await? {
        if !talk.quiet {
            eprintln!("run {id} has already ended");
        }
        return Ok(0);
    }
    // Where nobody drives the run any more, its `finally` steps still have to run: do it here.
    match app.take_over(&id).await? {
        Some(driven) => {
            let ended = driven.finish().await?;
            if !talk.quiet {
                eprintln!("run {id}: {}", ended.state.as_str());
            }
        }
        None if !talk.quiet => eprintln!("run {id} was asked to stop"),
        None => {}
    }
    Ok(0)
}
