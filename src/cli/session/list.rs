//! `harvest session list`.

use crate::app::App;
use crate::app::session::Listed;
use crate::cli::{Failure, Outcome, print_json, print_line};

/// What to list.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Those that have ended, too.
    #[arg(long)]
    all: bool,
    /// One JSON array.
    #[arg(long)]
    json: bool,
}

pub(super) async fn list(app: &App, arguments: &Arguments) -> Outcome {
    let sessions = app.sessions(arguments.all).await?;
    if arguments.json {
        print_json(&sessions)?;
        return Ok(0);
    }
    if sessions.is_empty() {
        eprintln!("no sessions: begin one with `harvest session start REPO`");
        return Ok(0);
    }
    sessions.iter().try_for_each(print_row)?;
    Ok(0)
}

fn print_row(listed: &Listed) -> Result<(), Failure> {
    let Listed { session, state, waiting } = listed;
    let waits = if *waiting > 0 { format!("  {waiting} waiting") } else { String::new() };
    print_line(&format!(
        "{:<16}  {state:<9}  {}  {}  {}{waits}",
        session.id,
        session.used_at.strftime("%Y-%m-%d %H:%M:%S"),
        session.conversation,
        session.wishes.repo
    ))
}
