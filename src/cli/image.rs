//! `harvest image`: builds and lists images.

use super::{Failure, Outcome, Talk, print_json, print_line};
use crate::app::App;
use std::path::PathBuf;
use std::sync::Arc;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Build an image from a definition file; parts built before are taken from the cache.
    Build {
        /// The definition: YAML with `base`, `commands`, `env`, `copy`, `read_only`, `workdir`, `user`.
        file: PathBuf,
        /// The name to give it; the file's stem by default.
        #[arg(long)]
        name: Option<String>,
        /// One JSON object: `{id, name, cached}`.
        #[arg(long)]
        json: bool,
    },
    /// List images, newest first.
    List {
        /// One JSON array.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn image(app: &App, command: Command, talk: Talk) -> Outcome {
    match command {
        Command::Build { file, name, json } => {
            let name = match name.or_else(|| Some(file.file_stem()?.to_str()?.to_owned())) {
                Some(name) => name,
                None => return Err(Failure::usage("pass `--name NAME`: the file's own name is no text")),
            };
            let spec = app.read_image(&file)?;
            let quiet = talk.quiet || json;
            let log: crate::capability::sandbox::BuildLog = Arc::new(move |line| {
                if !quiet {
                    eprintln!("  {line}");
                }
            });
            let (id, cached) = app.provider().build_image(&spec, Some(&name), log).await?;
            if json {
                print_json(&serde_json::json!({ "id": id, "name": name, "cached": cached }))?;
            } else {
                print_line(&format!("{name} {id}{}", if cached { " (cached)" } else { "" }))?;
            }
        }
        Command::List { json } => {
            let images = app.provider().list_images().await?;
            if json {
                print_json(&images)?;
                return Ok(0);
            }
            for image in images {
                let names = if image.names.is_empty() { "-".to_owned() } else { image.names.join(", ") };
                let created = image.created_at.strftime("%Y-%m-%d %H:%M:%S");
                print_line(&format!("{:<24} {}  {created}  {:>6} MiB", names, image.id, image.bytes >> 20))?;
            }
        }
    }
    Ok(0)
}
