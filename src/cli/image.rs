//! `harvest image`: builds, imports, pulls, exports, lists and removes images.

use super::{Failure, Outcome, Talk, print_json, print_line};
use crate::app::App;
use crate::capability::sandbox::{BuildLog, ImagePull};
use crate::run::LOCAL;
use std::path::PathBuf;
use std::sync::Arc;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Build an image from a definition file; parts built before are taken from the cache.
    Build {
        /// The definition: YAML with `base`, `commands`, `env`, `copy`, `read_only`, `workdir`, `user`, and under `providers`
        /// what is different for one.
        file: PathBuf,
        /// The name to give it; the file's stem by default.
        #[arg(long)]
        name: Option<String>,
        /// What builds and keeps it: `local` (for `gvisor` too), `docker` or `modal`.
        #[arg(long, default_value = "local", value_name = "NAME")]
        provider: String,
        /// One JSON object: `{id, name, cached}`.
        #[arg(long)]
        json: bool,
    },
    /// Make an image of a root file system (FILE.tar, also .gz and .zst), of an OCI image layout (a directory or a tar of
    /// one) or of what `docker save` wrote; which of them it is shows in the content.
    Import {
        /// The file or directory.
        source: PathBuf,
        /// The name to give it.
        #[arg(long)]
        name: String,
        /// One JSON object: `{id, name, cached}`.
        #[arg(long)]
        json: bool,
    },
    /// Fetch an image from a registry. Layers that are there already are not fetched.
    Pull {
        /// `[REGISTRY/]REPOSITORY[:TAG][@sha256:DIGEST]`, such as `debian:bookworm` or `ghcr.io/owner/name:1.0`.
        reference: String,
        /// The name to give it; the reference by default.
        #[arg(long)]
        name: Option<String>,
        /// Credentials: a config.json of Docker's with `auths`; `$DOCKER_CONFIG/config.json` or
        /// `~/.docker/config.json` by default, where it is there.
        #[arg(long, value_name = "FILE")]
        auth_file: Option<PathBuf>,
        /// Speak plain http with a registry that is not this machine. Anyone on the way can read the credentials.
        #[arg(long)]
        plain_http: bool,
        /// What fetches and keeps it: `local` (for `gvisor` too) or `modal`.
        #[arg(long, default_value = "local", value_name = "NAME")]
        provider: String,
        /// One JSON object: `{id, name, cached}`.
        #[arg(long)]
        json: bool,
    },
    /// Write an image as an OCI image layout, which other programs read.
    Export {
        /// Name or id of the image.
        image: String,
        /// A new directory, or a new file that ends in `.tar`.
        target: PathBuf,
    },
    /// Take a name of an image away, and with the last one the image; an id goes with all its names.
    Rm {
        /// Name or id of the image.
        image: String,
        /// Whose image: `local` (for `gvisor` too) or `modal`.
        #[arg(long, default_value = "local", value_name = "NAME")]
        provider: String,
    },
    /// List images, newest first.
    List {
        /// Whose images: `local` (and `gvisor`), `docker` or `modal`.
        #[arg(long, default_value = "local", value_name = "NAME")]
        provider: String,
        /// One JSON array of `{id, names, created_at, layers, bytes, durable}`.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn image(app: &App, command: Command, talk: Talk) -> Outcome {
    match command {
        Command::Build { file, name, provider, json } => {
            let name = match name.or_else(|| Some(file.file_stem()?.to_str()?.to_owned())) {
                Some(name) => name,
                None => return Err(Failure::usage("pass `--name NAME`: the file's own name is no text")),
            };
            let spec = app.read_image(&file, &provider)?;
            let made =
                app.tiers().get(&provider).await?.build_image(&spec, Some(&name), log(talk, json)).await?;
            print_made(&name, made, json)?;
        }
        Command::Import { source, name, json } => {
            let made = app.tiers().local().import_image(&source, &name, log(talk, json)).await?;
            print_made(&name, made, json)?;
        }
        Command::Pull { reference, name, auth_file, plain_http, provider, json } => {
            // Whoever fetches elsewhere has no use for what this machine knows.
            let auth_file = auth_file.or_else(|| docker_config().filter(|_| provider == LOCAL));
            let pull = ImagePull { reference, plain_http, auth_file };
            let provider = app.tiers().get(&provider).await?;
            let made = provider.pull_image(&pull, name.as_deref(), log(talk, json)).await?;
            print_made(&name.unwrap_or(pull.reference), made, json)?;
        }
        Command::Export { image, target } => {
            app.tiers().local().export_image(&image, &target, log(talk, false)).await?;
        }
        Command::Rm { image, provider } => {
            match app.tiers().get(&provider).await?.remove_image(&image).await? {
                Some(id) => print_line(&format!("removed {id}"))?,
                None => print_line(&format!("removed the name {image}; the image has others"))?,
            }
        }
        Command::List { provider, json } => {
            let images = app.tiers().get(&provider).await?.list_images().await?;
            if json {
                print_json(&images)?;
                return Ok(0);
            }
            for image in images {
                let names = if image.names.is_empty() { "-".to_owned() } else { image.names.join(", ") };
                let created = image.created_at.strftime("%Y-%m-%d %H:%M:%S");
                let soon = if image.durable { "" } else { "  not yet on disk for good" };
                print_line(&format!(
                    "{:<24} {}  {created}  {:>6} MiB{soon}",
                    names,
                    image.id,
                    image.bytes >> 20
                ))?;
            }
        }
    }
    Ok(0)
}

/// Lines of progress, on stderr.
fn log(talk: Talk, json: bool) -> BuildLog {
    let quiet = talk.quiet || json;
    Arc::new(move |line| {
        if !quiet {
            eprintln!("  {line}");
        }
    })
}

fn print_made(name: &str, (id, cached): (String, bool), json: bool) -> Result<(), Failure> {
    if json {
        return print_json(&serde_json::json!({ "id": id, "name": name, "cached": cached }));
    }
    print_line(&format!("{name} {id}{}", if cached { " (cached)" } else { "" }))
}

/// Where Docker keeps credentials, where it has any.
fn docker_config() -> Option<PathBuf> {
    let directory = match std::env::var_os("DOCKER_CONFIG") {
        Some(directory) => PathBuf::from(directory),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".docker"),
    };
    Some(directory.join("config.json")).filter(|file| file.is_file())
}
