//! `harvest session prompt`: one more prompt, which waits for those before it.

use super::{author, words};
use crate::app::session::Prompt;
use crate::app::{App, Serving};
use crate::cli::{Outcome, Talk, print_line};

/// What to ask for, of whom.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The session's id.
    id: String,
    /// The prompt; @FILE reads it from a file, - from stdin.
    #[arg(value_name = "TEXT|@FILE")]
    prompt: String,
    /// Who asks, as NAME <EMAIL>; git's configuration says it where absent.
    #[arg(long, value_name = "AUTHOR", value_parser = author)]
    author: Option<(String, String)>,
    /// One JSON object a line: every event of the run.
    #[arg(long)]
    json: bool,
    /// Leave the run to the `harvest serve` of this home, else to a process in the background, and print only its id.
    #[arg(long)]
    detach: bool,
}

pub(super) async fn prompt(app: App, arguments: Arguments, talk: Talk) -> Outcome {
    let asked = Prompt { text: words(&arguments.prompt)?, author: arguments.author };
    let driven = app.prompt_session(&arguments.id, &asked).await?;
    if !arguments.detach {
        return crate::cli::run::watch(&app, driven, arguments.json, talk).await;
    }
    let run = driven.run().clone();
    // Whoever drives it needs its lease, and with sled the journal as well.
    drop(driven);
    let home = app.home().clone();
    drop(app);
    if !Serving::is_served(&home) {
        crate::cli::background::start(&home)?;
    }
    print_line(run.as_str())?;
    Ok(0)
}
