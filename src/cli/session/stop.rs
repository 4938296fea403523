//! `harvest session stop`: saves what is to be kept, and removes the sandbox.

use crate::app::App;
use crate::app::session::{Haste, Standing, Stopped};
use crate::cli::{Failure, Outcome, Talk};

/// What to stop, and how.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The session's id.
    id: String,
    /// Cancel the prompts that are at work or wait; without, they are done first.
    #[arg(long)]
    now: bool,
    /// Cancel them, and give up what is not committed and not remembered.
    #[arg(long)]
    discard: bool,
    /// One JSON object a line: every event of the run.
    #[arg(long)]
    json: bool,
}

pub(super) async fn stop(app: &App, arguments: Arguments, talk: Talk) -> Outcome {
    let haste = match (arguments.discard, arguments.now) {
        (true, _) => Haste::Discarding,
        (false, true) => Haste::Now,
        (false, false) => Haste::Patient,
    };
    let id = &arguments.id;
    let code = match app.stop_session(id, haste).await? {
        Stopped::Saving(driven) => crate::cli::run::watch(app, *driven, arguments.json, talk).await?,
        Stopped::Awaited(run) => {
            if !talk.quiet {
                eprintln!("run {run} stops the session {id}; waiting for it");
            }
            app.wait_for_end(&run).await?
        }
        Stopped::Done => 0,
    };
    if app.session(id).await?.standing == Standing::Stopped {
        if !talk.quiet {
            eprintln!("the session {id} has ended; its sandbox is gone");
        }
        return Ok(code);
    }
    let message = format!(
        "the session {id} goes on, with all that is in its sandbox: try again, or give up what was not saved with --discard"
    );
    Err(Failure { exit_code: code.max(1), message })
}
