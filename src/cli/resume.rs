//! `harvest resume`: carries on every run of this home whose process is gone, all at once: one that waits for an
//! approval or a place in a group holds up no other.

use super::dispatched::Report;
use super::run::Interrupts;
use super::{Failure, Outcome, Talk};
use crate::app::App;
use crate::engine::dispatcher::Scope;
use crate::id::RunId;

/// How to show it.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One JSON object a line, as `harvest run --json` prints them.
    #[arg(long)]
    json: bool,
    /// Say when at work, and then nothing more: for whoever starts this as a process in the background.
    #[arg(long, hide = true)]
    background: bool,
}

pub(super) async fn resume(app: App, arguments: &Arguments, talk: Talk) -> Outcome {
    if arguments.background {
        super::background::at_work()?;
    }
    super::dispatched::make_room();
    // What a process left that died between the end of a run and the removal of its files.
    if let Err(error) = app.prune_sandboxes().await {
        tracing::warn!("files of ended runs were not removed: {error}");
    }
    // One alone is shown as if it had never been interrupted.
    match &app.interrupted(2).await?[..] {
        [] => {
            if !talk.quiet {
                eprintln!("nothing to resume");
            }
            Ok(0)
        }
        [only] if !arguments.json => match app.take_over(only).await {
            Ok(Some(driven)) => super::run::watch(&app, driven, false, talk).await,
            Ok(None) => Ok(0),
            Err(error) => {
                eprintln!("run {only} cannot go on: {error}");
                Ok(error.exit_code())
            }
        },
        _ => together(&app, arguments.json, talk).await,
    }
}

/// Drives runs side by side, with a line for what matters of each. The first interrupt cancels them, the second leaves
/// them as they are.
async fn together(app: &App, json: bool, talk: Talk) -> Outcome {
    let mut dispatcher = app.dispatcher(Scope::Interrupted);
    let mut report = Report::new(app, json, talk);
    let mut interrupts = Interrupts::listen();
    let mut interrupted = false;
    loop {
        tokio::select! {
            biased;
            signal = interrupts.next() => {
                if std::mem::replace(&mut interrupted, true) {
                    let message = "left the runs as they are; `harvest resume` carries them on".into();
                    return Err(Failure { exit_code: 130, message });
                }
                for run in dispatcher.runs().cloned().collect::<Vec<RunId>>() {
                    app.engine().cancel(&run, Some(format!("{signal} received"))).await?;
                }
            }
            news = dispatcher.next() => match news? {
                Some(news) => report.show(news).await?,
                None => return Ok(report.worst),
            },
        }
    }
}
