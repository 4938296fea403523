//! `harvest retry`: a run that ended without success goes on: what succeeded stays, everything else is done again.

use super::{Failure, Outcome, Talk, run_id};
use crate::app::{App, Retried};

/// Which run.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The run's id.
    run: String,
    /// Why; kept in the journal.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// One JSON object a line, as `harvest run --json` prints them.
    #[arg(long)]
    json: bool,
}

pub(super) async fn retry(app: App, arguments: Arguments, talk: Talk) -> Outcome {
    let id = run_id(&arguments.run)?;
    let (run, ..) = app.engine().replay(&id).await?;
    if let Some(parent) = &run.started().parent {
        return Err(Failure::usage(format!(
            "run {id} is the step `{}` of run {}: retry that one",
            parent.at, parent.run
        )));
    }
    match app.retry(&id, arguments.note).await? {
        Retried::Begun(driven) => super::run::watch(&app, *driven, arguments.json, talk).await,
        Retried::Refused => {
            let why = if run.finished().is_some() { "it has succeeded" } else { "it has not ended" };
            Err(Failure::usage(format!("run {id} cannot be retried: {why}")))
        }
        Retried::Busy => {
            Err(Failure { exit_code: 1, message: format!("another process drives run {id} already") })
        }
    }
}
