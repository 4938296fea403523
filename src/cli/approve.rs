//! `harvest approve` and `harvest reject`: answer a step that waits for a person, whichever process drives its run.

use super::{Failure, Outcome, Talk, run_id};
use crate::app::App;
use crate::id::{RunId, StepRef};

/// Which question.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The run's id.
    run: String,
    /// The step that asks; `step[item]` in a loop.
    step: String,
    /// Why; kept in the journal.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

pub(super) async fn answer(app: &App, arguments: Arguments, approved: bool, talk: Talk) -> Outcome {
    let id = run_id(&arguments.run)?;
    let at = StepRef::parse(&arguments.step);
    if !app.engine().answer(&id, &at, approved, arguments.note, who()).await? {
        return Err(not_asking(app, &id, &at).await?);
    }
    if !talk.quiet {
        let how = if approved { "approved" } else { "rejected" };
        let hint = if app.is_driven(&id)? {
            ""
        } else {
            "; nobody drives the run now: `harvest resume` carries it on"
        };
        eprintln!("{how} {at} of run {id}{hint}");
    }
    Ok(0)
}

/// Who answers, as this machine knows them.
pub(super) fn who() -> Option<String> {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok().filter(|name| !name.is_empty())
}

/// Says what the step does in place of asking.
async fn not_asking(app: &App, id: &RunId, at: &StepRef) -> Result<Failure, Failure> {
    let (run, ..) = app.engine().replay(id).await?;
    let asking: Vec<String> = run.questions().iter().map(|(at, _)| format!("`{at}`")).collect();
    let now = match run.state(at) {
        None if run.definition(&at.step).is_none() => {
            return Ok(Failure::not_found(format!("run {id} has no step `{at}`")));
        }
        None => "has not begun",
        Some(state) => state.phase.as_str(),
    };
    let instead = if asking.is_empty() {
        "no step of the run does".to_owned()
    } else {
        format!("{} does", asking.join(", "))
    };
    Ok(Failure::usage(format!("step `{at}` waits for no answer (it is {now}); {instead}")))
}
