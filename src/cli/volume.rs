//! `harvest volume`: looks into volumes and changes them. A volume's content is hostile: the store never follows its links.

use super::{Failure, Outcome, print_json, print_line};
use crate::app::App;
use crate::run::LOCAL;
use std::io::Write;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Whose volumes: `local` (and `gvisor`), `docker` or `modal`.
    #[arg(long, global = true, default_value = LOCAL, value_name = "NAME")]
    provider: String,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List volumes, or the files of one.
    List {
        /// The volume.
        name: Option<String>,
        /// Below this path.
        #[arg(default_value = "")]
        path: String,
        /// One JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Write a file of a volume to stdout.
    Get {
        /// The volume.
        name: String,
        /// Path in the volume.
        path: String,
    },
    /// Copy a file into a volume, making it when missing.
    Put {
        /// The volume.
        name: String,
        /// Path in the volume.
        path: String,
        /// The file to copy; `-` is stdin.
        file: PathBuf,
    },
    /// Delete a file or directory of a volume, or the whole volume.
    Rm {
        /// The volume.
        name: String,
        /// Path in the volume; the volume itself where absent.
        path: Option<String>,
    },
}

/// Bytes of one file that `get` and `put` move.
const FILE_MAX: u64 = 1 << 30;

pub(super) async fn volume(app: &App, arguments: Arguments) -> Outcome {
    let volumes = app.tiers().get(&arguments.provider).await?.volumes();
    match arguments.command {
        Command::List { name: None, json, .. } => {
            let names = volumes.list().await?;
            if json {
                print_json(&names)?;
            } else {
                names.iter().try_for_each(|name| print_line(name))?;
            }
        }
        Command::List { name: Some(name), path, json } => {
            let entries = volumes.entries(&name, &path).await?;
            if json {
                let entry = |e: &crate::capability::volume::VolumeEntry| serde_json::json!({ "path": e.path, "size": e.size, "directory": e.directory });
                print_json(&entries.iter().map(entry).collect::<Vec<_>>())?;
            } else {
                for entry in entries {
                    let slash = if entry.directory { "/" } else { "" };
                    print_line(&format!("{:>12}  {}{slash}", entry.size, entry.path))?;
                }
            }
        }
        Command::Get { name, path } => {
            let found = volumes.get(&name, &path, FILE_MAX).await?;
            let missing = || {
                Failure::not_found(format!(
                    "volume `{name}` has no file `{path}`: `harvest volume list {name}` shows what it has"
                ))
            };
            let file = found.ok_or_else(missing)?;
            let _ = std::io::stdout().write_all(&file.content);
        }
        Command::Put { name, path, file } => {
            let content = read(&file)?;
            volumes.put(&name, &path, &content, None).await?;
        }
        Command::Rm { name, path } => volumes.remove(&name, path.as_deref().unwrap_or("")).await?,
    }
    Ok(0)
}

fn read(file: &PathBuf) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let failed = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", file.display()));
    let mut content = Vec::new();
    let source: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file).map_err(failed)?)
    };
    source.take(FILE_MAX + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > FILE_MAX {
        return Err(Failure::usage(format!("{} is larger than {} MiB", file.display(), FILE_MAX >> 20)));
    }
    Ok(content)
}
