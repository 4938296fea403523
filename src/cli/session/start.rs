//! `harvest session start`: a clone to work in, and the first prompt where one is given.

use super::{author, words};
use crate::app::App;
use crate::app::session::{Prompt, Started, Wishes, generate_id};
use crate::cli::{Failure, Outcome, Talk, print_json, print_line};
use crate::id::Digest;
use serde_json::json;

/// What to begin with.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    /// The repository: owner/name, a URL, or a local path.
    repo: String,
    /// The session's id, 1 to 40 of a-z, 0-9 and `-`; a new one where absent.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Branch, tag or commit; the remote's HEAD where absent.
    #[arg(long, value_name = "REF")]
    branch: Option<String>,
    /// Image of the sandbox.
    #[arg(long, default_value = "agent", value_name = "IMAGE")]
    image: String,
    /// Model of all prompts; the CLI's default where absent.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The first prompt; @FILE reads it from a file, - from stdin.
    #[arg(long, value_name = "TEXT|@FILE")]
    prompt: Option<String>,
    /// Who asks, as NAME <EMAIL>; git's configuration says it where absent.
    #[arg(long, value_name = "AUTHOR", value_parser = author)]
    author: Option<(String, String)>,
    /// One JSON object a line: every event of the runs, the session last.
    #[arg(long)]
    json: bool,
}

pub(super) async fn start(app: &App, arguments: Arguments, talk: Talk) -> Outcome {
    let prompt = arguments.prompt.as_deref().map(words).transpose()?;
    let id = arguments.id.unwrap_or_else(generate_id);
    let wishes = Wishes {
        repo: arguments.repo,
        branch: arguments.branch.unwrap_or_default(),
        image: arguments.image,
        model: arguments.model.unwrap_or_default(),
        prompt: prompt.as_ref().map(|prompt| Digest::of(prompt.as_bytes())),
    };
    let code = match app.start_session(&id, wishes.anchored()).await? {
        Started::Begun(driven) => crate::cli::run::watch(app, *driven, arguments.json, talk).await?,
        Started::Awaited(run) => {
            say(talk, || format!("the session {id} is being started by run {run}; waiting for it"));
            app.wait_for_end(&run).await?
        }
        Started::There(_) => {
            say(talk, || format!("the session {id} is there already"));
            0
        }
    };
    if code != 0 {
        let message = format!("the session {id} could not begin; the same command tries it again");
        return Err(Failure { exit_code: code, message });
    }
    let session = app.session(&id).await?;
    let code = match prompt.filter(|_| !session.prompted) {
        Some(text) => {
            let asked = Prompt { text, author: arguments.author };
            let driven = app.prompt_session(&id, &asked).await?;
            crate::cli::run::watch(app, driven, arguments.json, talk).await?
        }
        None => 0,
    };
    if arguments.json {
        print_json(&json!({ "session": app.session(&id).await? }))?;
    } else {
        print_line(&id)?;
    }
    Ok(code)
}

fn say(talk: Talk, line: impl FnOnce() -> String) {
    if !talk.quiet {
        eprintln!("{}", line());
    }
}
