//! `harvest session exec`: one command where the agent works.

use crate::app::App;
use crate::capability::sandbox::ExecSpec;
use crate::cli::exec::{close, duration, run_in, variable};
use crate::cli::{Outcome, print_json};
use serde_json::json;
use std::time::Duration;

/// What to run, and where.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The session's id.
    id: String,
    /// Longest time, as in `30s` or `5m`; the command and everything it started are killed after it.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// A variable of the command's environment.
    #[arg(long, value_name = "KEY=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Directory to run it in; the repository where absent.
    #[arg(long, value_name = "DIR")]
    workdir: Option<String>,
    /// One JSON object a line, the last of them the outcome.
    #[arg(long)]
    json: bool,
    /// The command.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(super) async fn exec(app: &App, arguments: Arguments) -> Outcome {
    let waits = || eprintln!("waiting for what the session {} is doing", arguments.id);
    let attached = app.attach(&arguments.id, waits).await?;
    let command = ExecSpec {
        command: arguments.command,
        env: arguments.env.into_iter().collect(),
        workdir: Some(arguments.workdir.unwrap_or_else(|| attached.path.clone())),
        ..ExecSpec::default()
    };
    match run_in(
        app.tiers().local().as_ref(),
        attached.spec.clone(),
        command,
        arguments.timeout,
        arguments.json,
    )
    .await
    {
        Ok(end) => close(&end, arguments.timeout, arguments.json),
        Err(failure) if arguments.json => {
            print_json(&json!({ "outcome": "failed", "message": failure.message }))?;
            Ok(failure.exit_code)
        }
        Err(failure) => Err(failure),
    }
}
