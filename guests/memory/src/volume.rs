//! Which volume is a repository's, and its graph there.

use crate::Error;
use crate::graph::Graph;
use crate::harvest::git::repositories;
use crate::harvest::sandbox::store::{self, Expectation};

/// The graph's file.
const GRAPH: &str = "memory.jsonl";
/// The file that says whose the volume is.
const IDENTITY: &str = "identity";
/// What the host puts before the names of this component's volumes.
const PREFIX: &str = "harvest-memory-";
/// Longest part of a name, in bytes.
const PART: usize = 48;

/// A repository's volume, by its name after the component's prefix.
pub(crate) struct Volume(String);

/// A graph with what is needed to replace it.
pub(crate) struct Kept {
    /// The graph; none where there has never been one.
    pub(crate) graph: Option<Graph>,
    version: Option<String>,
}

impl Volume {
    /// The volume of `repo`: `OWNER-NAME`, or that with eight digits where another repository has it.
    pub(crate) fn of(repo: &str) -> Result<Self, Error> {
        let identity = repositories::open(repo, None)?.identity();
        for name in names(&identity) {
            if owned(&name, &identity)? {
                return Ok(Self(name));
            }
        }
        Err(Error::Conflict(format!("the volumes for the memory of {identity} belong to other repositories")))
    }

    /// The same, none where it has not been made.
    pub(crate) fn find(repo: &str) -> Result<Option<Self>, Error> {
        let identity = repositories::open(repo, None)?.identity();
        for name in names(&identity) {
            if store::get(&name, IDENTITY)?.is_some_and(|found| found.content == identity.as_bytes()) {
                return Ok(Some(Self(name)));
            }
        }
        Ok(None)
    }

    /// Its name as the operator sees it.
    pub(crate) fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.0)
    }

    /// Its graph as it is now.
    pub(crate) fn read(&self) -> Result<Kept, Error> {
        let Some(found) = store::get(&self.0, GRAPH)? else { return Ok(Kept { graph: None, version: None }) };
        let parsed = Graph::parse(&String::from_utf8_lossy(&found.content));
        Ok(Kept { graph: Some(parsed.graph), version: Some(found.version) })
    }

    /// Replaces what was read. False where another run was faster.
    pub(crate) fn replace(&self, read: &Kept, graph: &Graph) -> Result<bool, Error> {
        let expected = match &read.version {
            Some(version) => Expectation::Version(version.clone()),
            None => Expectation::Nothing,
        };
        match store::put(&self.0, GRAPH, graph.text().as_bytes(), &expected) {
            Ok(_) => Ok(true),
            Err(Error::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether the volume is the repository's, making it so where it is nobody's.
fn owned(name: &str, identity: &str) -> Result<bool, Error> {
    match store::put(name, IDENTITY, identity.as_bytes(), &Expectation::Nothing) {
        Ok(_) => Ok(true),
        Err(Error::Conflict(_)) => {
            Ok(store::get(name, IDENTITY)?.is_some_and(|found| found.content == identity.as_bytes()))
        }
        Err(error) => Err(error),
    }
}

/// The names that a repository's volume may have, the one to prefer first.
fn names(identity: &str) -> [String; 2] {
    let plain = plain_name(identity);
    let other = format!("{plain}-{:08x}", fnv(identity));
    [plain, other]
}

/// `OWNER-NAME` of `host/owner/name` or of a path, fit for a volume's name.
fn plain_name(identity: &str) -> String {
    let mut parts = identity.rsplit('/').filter(|part| !part.is_empty());
    let name = parts.next().unwrap_or("repository");
    let owner = parts.next().unwrap_or("local");
    format!("{}-{}", part(owner), part(name))
}

fn part(text: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let text: String = text.chars().take(PART).map(fit).collect();
    let text = text.trim_start_matches(['.', '-', '_']);
    if text.is_empty() { "x".to_owned() } else { text.to_owned() }
}

/// FNV-1a, 32 bits: tells names apart, protects nothing.
fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
