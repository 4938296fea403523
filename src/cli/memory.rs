//! `harvest memory`: looks into what agents remember of a repository, takes it out and puts it in.

use super::{Failure, Outcome, print_json, print_line};
use crate::app::App;
use crate::capability::sandbox::SandboxProvider;
use crate::run::LOCAL;
use serde_json::{Map, Value, json};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Where the agents work: `local` (and `gvisor`), `docker` or `modal`.
    #[arg(long, global = true, default_value = LOCAL, value_name = "NAME")]
    provider: String,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show what is remembered of a repository.
    Show {
        /// `OWNER/NAME`, a URL or a local path.
        repo: String,
        /// One JSON object: `{repo, volume, entities, relations}`.
        #[arg(long)]
        json: bool,
    },
    /// Write what is remembered of a repository to stdout, as JSON lines of the MCP memory server.
    Export {
        /// `OWNER/NAME`, a URL or a local path.
        repo: String,
    },
    /// Add a graph to what is remembered of a repository. Sessions at the same time lose nothing.
    Import {
        /// `OWNER/NAME`, a URL or a local path.
        repo: String,
        /// JSON lines as `export` writes them, or an object with `entities` and `relations`; `-` is stdin.
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Keep nothing else.
        #[arg(long)]
        replace: bool,
        /// One JSON object: `{entities, merged}`.
        #[arg(long)]
        json: bool,
    },
}

/// Bytes of a graph.
const GRAPH_MAX: u64 = 16 << 20;

pub(super) async fn memory(app: &App, Arguments { command, provider }: Arguments) -> Outcome {
    let provider = app.tiers().get(&provider).await?;
    match command {
        Command::Show { repo, json } => {
            let (volume, text) = kept(app, &provider, &repo).await?;
            show(&repo, &volume, &text, json)?;
        }
        Command::Export { repo } => {
            let (_, text) = kept(app, &provider, &repo).await?;
            // A reader that went away wants no more.
            let _ = std::io::stdout().write_all(text.as_bytes());
        }
        Command::Import { repo, file, replace, json } => {
            let arguments = json!({ "repo": repo, "graph": read(&file)?, "replace": replace });
            let saved = call(app, &provider, "import", arguments).await?;
            if json {
                print_json(&saved)?;
            } else {
                print_line(&format!("{} entities are remembered of {repo}", saved["entities"]))?;
            }
        }
    }
    Ok(0)
}

async fn call(
    app: &App,
    provider: &Arc<dyn SandboxProvider>,
    function: &str,
    arguments: Value,
) -> Result<Map<String, Value>, Failure> {
    let Value::Object(arguments) = arguments else { return Ok(Map::new()) };
    Ok(app.call(provider.clone(), "memory", function, arguments).await?)
}

/// The volume of a repository's graph, and the graph.
async fn kept(
    app: &App,
    provider: &Arc<dyn SandboxProvider>,
    repo: &str,
) -> Result<(String, String), Failure> {
    let found = call(app, provider, "find", json!({ "repo": repo })).await?;
    let volume = found["volume"].as_str().unwrap_or_default().to_owned();
    let file = provider.volumes().get(&volume, "memory.jsonl", GRAPH_MAX).await?;
    let file = file.ok_or_else(|| Failure::not_found(format!("nothing is remembered of {repo}")))?;
    Ok((volume, String::from_utf8_lossy(&file.content).into_owned()))
}

fn show(repo: &str, volume: &str, text: &str, json: bool) -> Result<(), Failure> {
    let items = text.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok());
    let (mut entities, mut relations) = (Vec::new(), Vec::new());
    for mut item in items {
        match item.remove("type").as_ref().and_then(Value::as_str) {
            Some("entity") => entities.push(item),
            Some("relation") => relations.push(item),
            _ => {}
        }
    }
    if json {
        return print_json(
            &json!({ "repo": repo, "volume": volume, "entities": entities, "relations": relations }),
        );
    }
    for entity in &entities {
        print_line(&format!("{} ({})", field(entity, "name"), field(entity, "entityType")))?;
        for observation in entity.get("observations").and_then(Value::as_array).into_iter().flatten() {
            print_line(&format!("  - {}", plain(observation.as_str().unwrap_or_default())))?;
        }
    }
    for relation in &relations {
        let [from, kind, to] = ["from", "relationType", "to"].map(|name| field(relation, name));
        print_line(&format!("{from} -- {kind} -> {to}"))?;
    }
    Ok(())
}

fn field(item: &Map<String, Value>, name: &str) -> String {
    plain(item.get(name).and_then(Value::as_str).unwrap_or_default())
}

/// An agent's words as one line that a terminal shows as it is.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("cannot read {}: {error}", file.display()));
    let mut text = String::new();
    let source: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file).map_err(failed)?)
    };
    source.take(GRAPH_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > GRAPH_MAX {
        return Err(Failure::usage(format!("{} is larger than {} MiB", file.display(), GRAPH_MAX >> 20)));
    }
    Ok(text)
}
