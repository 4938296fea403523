//! `harvest session`: an agent that goes on from prompt to prompt.

mod exec;
mod list;
mod prompt;
mod start;
mod stop;

use super::{Failure, Outcome, Talk};
use crate::app::App;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Begin a session on a repository and print its id; with an id that there is, nothing begins anew.
    Start(start::Arguments),
    /// Ask the agent of a session for something; prompts of one session wait for each other.
    Prompt(prompt::Arguments),
    /// Run one command in the sandbox of a session.
    Exec(exec::Arguments),
    /// Save the memory and the work of a session and remove its sandbox.
    Stop(stop::Arguments),
    /// List sessions, the oldest first.
    List(list::Arguments),
}

pub(super) async fn session(app: App, command: Command, talk: Talk) -> Outcome {
    match command {
        Command::Start(arguments) => start::start(&app, arguments, talk).await,
        Command::Prompt(arguments) => prompt::prompt(app, arguments, talk).await,
        Command::Exec(arguments) => exec::exec(&app, arguments).await,
        Command::Stop(arguments) => stop::stop(&app, arguments, talk).await,
        Command::List(arguments) => list::list(&app, &arguments).await,
    }
}

/// A prompt as typed: words, `@FILE`, or `-` for what comes on stdin.
fn words(text: &str) -> Result<String, Failure> {
    match text {
        "-" => super::run::read_text("/dev/stdin".as_ref()),
        _ => match text.strip_prefix('@') {
            Some(path) => super::run::read_text(path.as_ref()),
            None => Ok(text.to_owned()),
        },
    }
}

/// Reads `NAME <EMAIL>`.
fn author(text: &str) -> Result<(String, String), String> {
    let parts = text.trim().strip_suffix('>').and_then(|text| text.rsplit_once('<'));
    match parts {
        Some((name, email)) if !name.trim().is_empty() && !email.trim().is_empty() => {
            Ok((name.trim().to_owned(), email.trim().to_owned()))
        }
        _ => Err("write it as NAME <EMAIL>".to_owned()),
    }
}
