//! `harvest upgrade`: a run goes on with a new version of its file, whichever process drives it.

use super::{Failure, Outcome, Talk, print_json, print_line, run_id};
use crate::app::{App, UpgradeRequest};
use crate::id::{RunId, StepId};
use crate::run::{Upgrade, Verdict};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Which run, and to what.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The run's id.
    run: String,
    /// The new version of its workflow file.
    file: PathBuf,
    /// An input that is new or gets another value, as for `harvest run`; the others stay as they are.
    #[arg(short, long = "input", value_name = "NAME=VALUE")]
    input: Vec<String>,
    /// Only say what would become of each step.
    #[arg(long)]
    dry_run: bool,
    /// Also do finished steps again that may have acted outside of the run's sandboxes.
    #[arg(long)]
    again: bool,
    /// Keep the outputs of this finished step, whatever has changed about it; may be repeated.
    #[arg(long, value_name = "STEP")]
    keep: Vec<String>,
    /// One JSON array: what becomes of each step.
    #[arg(long)]
    json: bool,
}

pub(super) async fn upgrade(app: App, arguments: Arguments, talk: Talk) -> Outcome {
    let id = run_id(&arguments.run)?;
    let request = UpgradeRequest {
        file: arguments.file,
        inputs: arguments
            .input
            .iter()
            .map(|input| super::run::read_input(input))
            .collect::<Result<_, _>>()?,
        again: arguments.again,
        keep: arguments.keep.iter().map(StepId::new).collect(),
        by: super::approve::who(),
    };
    let asked = match arguments.dry_run {
        true => app.foresee_upgrade(&id, &request).await,
        false => app.upgrade(&id, &request).await,
    };
    let upgrade = asked.map_err(|error| super::run::refused(error, talk))?;
    if arguments.json {
        print_json(&as_json(&upgrade))?;
    } else {
        lines(&upgrade).iter().try_for_each(|line| print_line(line))?;
    }
    if upgrade.is_refused() {
        return Err(refusal(&id, &upgrade));
    }
    if arguments.dry_run {
        return Ok(0);
    }
    match app.take_over(&id).await? {
        // The array is all that stdout holds.
        Some(driven) if arguments.json => Ok(driven.finish().await?.exit_code),
        Some(driven) => super::run::watch(&app, driven, false, talk).await,
        None => {
            if !talk.quiet {
                eprintln!("run {id} was upgraded; the process that drives it goes on with the new file");
            }
            Ok(0)
        }
    }
}

/// What stands against it, in one sentence a line.
fn refusal(id: &RunId, upgrade: &Upgrade) -> Failure {
    let mut message = format!("run {id} cannot be upgraded, and is as it was");
    for why in &upgrade.refusals {
        message.push_str(&format!("\n  {why}"));
    }
    for fate in upgrade.steps.iter().filter(|fate| fate.verdict == Verdict::Refuse) {
        message.push_str(&format!("\n  step `{}`: {}", fate.at, fate.why));
    }
    Failure::usage(message)
}

/// What becomes of each step, a line each.
fn lines(upgrade: &Upgrade) -> Vec<String> {
    let steps = upgrade.steps.iter();
    let steps =
        steps.map(|fate| format!("{:<8} {:<16} {}", fate.verdict.as_str(), fate.at.to_string(), fate.why));
    upgrade
        .refusals
        .iter()
        .map(|why| format!("{:<8} {:<16} {why}", "refuse", "the run"))
        .chain(steps)
        .collect()
}

/// The same as machines read it; what concerns the run as a whole has no step.
fn as_json(upgrade: &Upgrade) -> Vec<Value> {
    let whole =
        upgrade.refusals.iter().map(|why| json!({ "step": null, "verdict": Verdict::Refuse, "why": why }));
    whole.chain(upgrade.steps.iter().map(|fate| json!(fate))).collect()
}
