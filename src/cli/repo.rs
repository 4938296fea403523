//! `harvest repo`: keeps the registry of repositories that workflows read with `repos/list`.

use super::{Failure, Outcome, print_json, print_line};
use crate::app::App;
use crate::capability::registry::Registered;
use crate::config;
use std::path::Path;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Register a repository, or change one that is registered.
    Add {
        /// `OWNER/NAME`.
        name: String,
        /// Where it is, as an https URL or a local path; on GitHub by default.
        #[arg(long, default_value = "")]
        url: String,
        /// The branch to work on; the one that the remote's HEAD names by default.
        #[arg(long, default_value = "")]
        branch: String,
        /// Lines of shell that make a clone ready to work in; `@FILE` reads them from a file.
        #[arg(long, value_name = "TEXT|@FILE")]
        setup: Option<String>,
    },
    /// List the registered repositories, by name.
    List {
        /// One JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Forget a repository. Nothing of it is deleted.
    Rm {
        /// `OWNER/NAME`.
        name: String,
    },
}

pub(super) async fn repo(app: &App, command: Command) -> Outcome {
    let registry = app.registry();
    match command {
        Command::Add { name, url, branch, setup } => {
            let setup = setup.map(read).transpose()?;
            let url = if url.is_empty() { config::github_url(&name) } else { absolute(url)? };
            registry.put(Registered { full_name: name, url, branch, setup }).await?;
        }
        Command::List { json } => {
            let all = registry.list().await?;
            if json {
                print_json(&all)?;
                return Ok(0);
            }
            for Registered { full_name, url, branch, setup } in all {
                let branch = if branch.is_empty() { String::new() } else { format!("  branch {branch}") };
                let setup = if setup.is_some() { "  with set-up" } else { "" };
                print_line(&format!("{full_name:<32} {url}{branch}{setup}"))?;
            }
        }
        Command::Rm { name } => registry.remove(&name).await?,
    }
    Ok(0)
}

/// The set-up as text.
fn read(setup: String) -> Result<String, Failure> {
    match setup.strip_prefix('@') {
        None => Ok(setup),
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("cannot read the set-up {file}: {error}"))),
    }
}

/// A path from the root: the registry is read from any directory.
fn absolute(url: String) -> Result<String, Failure> {
    if url != "." && url != ".." && !url.starts_with("./") && !url.starts_with("../") {
        return Ok(url);
    }
    let found = Path::new(&url).canonicalize();
    let found =
        found.map_err(|error| Failure::usage(format!("cannot find the repository {url}: {error}")))?;
    found
        .into_os_string()
        .into_string()
        .map_err(|path| Failure::usage(format!("the path {} is no text", path.display())))
}
