//! The steps `memory/...`: an agent's knowledge graph, kept between runs.
//!
//! The graph is copied into the sandbox and merged back; there is no live mount, so runs at the same time never
//! overwrite each other.
#![allow(missing_docs, clippy::too_many_arguments)] // Of the bindings, and of steps as workflows see them.

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/git", "../../wit/run", "../../wit/streams", "wit"],
    world: "harvest:memory-steps/memory",
    generate_all,
});

mod graph;
mod volume;

use graph::{Graph, merge};
use harvest::streams::streams::{self, Level};
use volume::Volume;

/// Where the graph goes unless said otherwise.
const DIRECTORY: &str = "/root/.mcp-memory";
/// The seed taken where none is named and this one is there.
const SEED: &str = "/app/memory-seed.json";
/// Largest graph or seed read, in bytes.
const LARGEST: u64 = 16 << 20;
/// How often a merge is tried again because another run was faster.
const ATTEMPTS: usize = 50;

struct Steps;

impl Guest for Steps {
    fn mount(
        sandbox: &Sandbox,
        repo: String,
        dir: Option<String>,
        seed: Option<String>,
    ) -> Result<Mounted, Error> {
        let files = Files::new(dir)?;
        let volume = Volume::of(&repo)?;
        let (graph, seeded) = begin(sandbox, &volume, seed.as_deref())?;
        let text = graph.text();
        sandbox.write_file(&files.graph, text.as_bytes(), 0o644)?;
        sandbox.write_file(&files.base, text.as_bytes(), 0o644)?;
        Ok(Mounted { path: files.graph, entities: count(graph.entities.len()), seeded })
    }

    fn save(sandbox: &Sandbox, repo: String, dir: Option<String>) -> Result<Saved, Error> {
        let files = Files::new(dir)?;
        let volume = Volume::of(&repo)?;
        let base = read(sandbox, &files.base)?.unwrap_or_default();
        let ours = read(sandbox, &files.graph)?;
        if ours.as_ref().is_some_and(|ours| ours.malformed > 0) {
            streams::log(
                Level::Warn,
                "the graph holds lines that make no sense; nothing is deleted from memory",
            );
        }
        change(&volume, &base.graph, |theirs| match &ours {
            // No file, no change.
            None => theirs.clone(),
            // What a damaged file lacks was not deleted by anyone.
            Some(ours) if ours.malformed > 0 || base.malformed > 0 => {
                merge(&Graph::default(), &ours.graph, theirs)
            }
            Some(ours) => merge(&base.graph, &ours.graph, theirs),
        })
    }

    fn find(repo: String) -> Result<Kept, Error> {
        let found = Volume::find(&repo)?.map(|volume| Ok((volume.full_name(), volume.read()?.graph)));
        match found.transpose()? {
            Some((volume, Some(graph))) => Ok(Kept {
                volume,
                entities: count(graph.entities.len()),
                relations: count(graph.relations.len()),
            }),
            _ => Err(Error::NotFound(format!(
                "nothing is remembered of {repo}; a run with memory/save begins it, or harvest memory import"
            ))),
        }
    }

    fn import(repo: String, graph: String, replace: Option<bool>) -> Result<Saved, Error> {
        let given = Graph::parse(&graph);
        if given.malformed > 0 {
            return Err(Error::Invalid(format!(
                "{} entries of the graph make no sense; nothing is imported",
                given.malformed
            )));
        }
        let volume = Volume::of(&repo)?;
        change(&volume, &Graph::default(), |theirs| match replace {
            Some(true) => given.graph.clone(),
            _ => merge(&Graph::default(), &given.graph, theirs),
        })
    }
}

/// Changes a kept graph, again where another run was faster. `base` is what the caller took it for.
fn change(volume: &Volume, base: &Graph, new: impl Fn(&Graph) -> Graph) -> Result<Saved, Error> {
    for _ in 0..ATTEMPTS {
        let kept = volume.read()?;
        let theirs = kept.graph.clone().unwrap_or_default();
        let result = new(&theirs);
        if result == theirs || volume.replace(&kept, &result)? {
            return Ok(Saved { entities: count(result.entities.len()), merged: theirs != *base });
        }
    }
    Err(Error::Conflict(format!("other runs changed the memory {ATTEMPTS} times meanwhile; try again")))
}

/// The graph to begin with, and whether that was the seed.
fn begin(sandbox: &Sandbox, volume: &Volume, seed: Option<&str>) -> Result<(Graph, bool), Error> {
    let kept = volume.read()?;
    if let Some(graph) = kept.graph {
        return Ok((graph, false));
    }
    let Some(parsed) = read(sandbox, seed.unwrap_or(SEED))? else {
        return match seed {
            Some(path) => Err(Error::NotFound(format!("there is no seed at {path} in the sandbox"))),
            None => Ok((Graph::default(), false)),
        };
    };
    if parsed.malformed > 0 {
        let path = seed.unwrap_or(SEED);
        return Err(Error::Invalid(format!("{} entries of the seed {path} make no sense", parsed.malformed)));
    }
    if volume.replace(&kept, &parsed.graph)? {
        return Ok((parsed.graph, true));
    }
    // Another run has begun it meanwhile.
    Ok((volume.read()?.graph.unwrap_or_default(), false))
}

/// The files in the sandbox.
struct Files {
    graph: String,
    base: String,
}

impl Files {
    fn new(directory: Option<String>) -> Result<Self, Error> {
        let directory = directory.unwrap_or_else(|| DIRECTORY.to_owned());
        if !directory.starts_with('/') {
            return Err(Error::Invalid(format!(
                "`dir` must be an absolute path in the sandbox, not {directory:?}"
            )));
        }
        let directory = directory.trim_end_matches('/');
        Ok(Self {
            graph: format!("{directory}/memory.jsonl"),
            base: format!("{directory}/.harvest-base.jsonl"),
        })
    }
}

/// A graph in the sandbox, none where there is no file.
fn read(sandbox: &Sandbox, path: &str) -> Result<Option<graph::Parsed>, Error> {
    match sandbox.read_file(path, LARGEST) {
        Ok(bytes) => Ok(Some(Graph::parse(&String::from_utf8_lossy(&bytes)))),
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

export!(Steps);
