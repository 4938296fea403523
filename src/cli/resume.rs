//! `harvest resume`: carries on every run of this home whose process is gone, all at once: one that waits for an
//! approval or a place in a group holds up no other.

use super::follow::{Follower, News};
use super::run::Interrupts;
use super::{Failure, Outcome, Talk};
use crate::app::{App, Driven};
use crate::id::RunId;
use crate::journal::{RunFilter, RunRow};
use crate::run::Event;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

/// Takes no arguments yet.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One JSON object a line, as `harvest run --json` prints them.
    #[arg(long)]
    json: bool,
}

/// Runs carried on by one call.
const RUNS_MAX: usize = 10_000;

/// Files that this process may have open where the machine allows it: each run holds some.
const FILES_MAX: u64 = 1 << 16;

pub(super) async fn resume(app: App, arguments: &Arguments, talk: Talk) -> Outcome {
    more_files();
    // What a process left that died between the end of a run and the removal of its files.
    if let Err(error) = app.prune_sandboxes().await {
        tracing::warn!("files of ended runs were not removed: {error}");
    }
    let filter = RunFilter { unfinished: true, ..RunFilter::default() };
    let mut rows = app.journal().list(filter, RUNS_MAX).await?;
    rows.reverse();
    let mut worst = 0;
    let mut resumed = Vec::new();
    for row in rows {
        match app.take_over(&row.run).await {
            Ok(Some(driven)) => {
                if !talk.quiet {
                    eprintln!("resuming {} ({})", row.run, row.workflow);
                }
                resumed.push((row, driven));
            }
            Ok(None) => {}
            // What keeps one run from going on is no reason for the others.
            Err(error) => {
                eprintln!("run {} ({}) cannot go on: {error}", row.run, row.workflow);
                worst = worst.max(error.exit_code());
            }
        }
    }
    if resumed.is_empty() && worst == 0 && !talk.quiet {
        eprintln!("nothing to resume");
    }
    let several = resumed.len() > 1 || arguments.json;
    let Some((_, only)) = resumed.pop_if(|_| !several) else {
        return Ok(worst.max(together(&app, resumed, arguments.json, talk).await?));
    };
    Ok(worst.max(super::run::watch(&app, only, false, talk).await?))
}

/// Drives runs side by side, with a line for what matters of each. The first interrupt cancels them, the second leaves
/// them as they are.
async fn together(app: &App, resumed: Vec<(RunRow, Driven)>, json: bool, talk: Talk) -> Outcome {
    let runs: Vec<RunId> = resumed.iter().map(|(row, _)| row.run.clone()).collect();
    let mut driving: FuturesUnordered<_> =
        resumed.into_iter().map(|(row, driven)| one_of_them(app, row, driven, json, talk)).collect();
    let mut interrupts = Interrupts::listen();
    let mut interrupted = false;
    let mut worst = 0;
    loop {
        tokio::select! {
            biased;
            signal = interrupts.next() => {
                if std::mem::replace(&mut interrupted, true) {
                    let message = "left the runs as they are; `harvest resume` carries them on".into();
                    return Err(Failure { exit_code: 130, message });
                }
                for run in &runs {
                    app.engine().cancel(run, Some(format!("{signal} received"))).await?;
                }
            }
            ended = driving.next() => match ended {
                Some(exit_code) => worst = worst.max(exit_code),
                None => return Ok(worst),
            },
        }
    }
}

/// Drives one run of several and returns its exit code.
async fn one_of_them(app: &App, row: RunRow, driven: Driven, json: bool, talk: Talk) -> u8 {
    let run = &row.run;
    let shown = async {
        let mut follower = Follower::new(app, run.clone(), true, false);
        loop {
            let news = follower.next().await?;
            if news.is_empty() {
                return Ok(());
            }
            for item in news {
                let News::Event(seq, at_ms, event) = item else { continue };
                if json {
                    super::print_json(&super::events::as_json(run, seq, at_ms, &event))?;
                } else if let Event::ApprovalRequested { at, message } = &*event
                    && !talk.quiet
                {
                    eprintln!("run {run} asks: {message}: `harvest approve {run} '{at}'`, or reject");
                }
            }
        }
    };
    let (ended, shown): (_, Result<(), Failure>) = tokio::join!(driven.finish(), shown);
    let failure = match (ended, shown) {
        (Ok(ended), Ok(())) => {
            if !json && !talk.quiet {
                let why = ended.error.as_ref().map(|error| format!(": {}", error.error)).unwrap_or_default();
                let state = ended.state.as_str().replace('_', " ");
                eprintln!("run {run} ({}) {state}{why}", row.workflow);
            }
            app.retain(run).await;
            return ended.exit_code;
        }
        (Err(error), _) => Failure::from(error),
        (_, Err(failure)) => failure,
    };
    eprintln!("run {run} ({}) cannot go on: {}", row.workflow, failure.message);
    failure.exit_code
}

/// Asks for as many open files as the machine allows this process, within reason.
fn more_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(FILES_MAX, |maximum| maximum.min(FILES_MAX));
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        // Without more, fewer runs go on at once; each says so itself.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
