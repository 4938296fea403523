//! `harvest rerun`: a new run of the workflow that an earlier run was started with, with some of its inputs replaced.

use super::{Outcome, Talk, run_id};
use crate::app::App;

/// Which run, with what.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The earlier run's id.
    run: String,
    /// An input that replaces the earlier one, as for `harvest run`.
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    input: Vec<String>,
    /// One JSON object a line: every event of the run.
    #[arg(long)]
    json: bool,
}

pub(super) async fn rerun(app: App, arguments: Arguments, talk: Talk) -> Outcome {
    let id = run_id(&arguments.run)?;
    let inputs: Vec<_> =
        arguments.input.iter().map(|input| super::run::read_input(input)).collect::<Result<_, _>>()?;
    let prepared = app.prepare_again(&id, inputs, "rerun").await?;
    let driven = app.begin(prepared).await?;
    super::run::watch(&app, driven, arguments.json, talk).await
}
