//! Where a tree came from, kept where the sandbox cannot change it: an agent that could would have the host write into
//! any repository of the machine.

use crate::harvest::sandbox::store::{self, Expectation};
use crate::{Error, Sandbox};
use serde_json::{Value, json};

/// The volume, after the component's own prefix.
const VOLUME: &str = "clones";

/// Most checkpoints remembered; what an older one holds is sent again where it is needed.
const REMEMBERED: usize = 100;

/// What is known of a clone.
#[derive(Clone)]
pub(crate) struct Record {
    /// The repository as the step was given it.
    pub(crate) repo: String,
    /// The commit it started from.
    pub(crate) base: String,
    /// The branch checked out at first.
    pub(crate) branch: String,
    /// Which step made it.
    pub(crate) key: String,
    /// Commits of the remote that were fetched into the tree later, oldest first.
    pub(crate) fetched: Vec<String>,
    /// Commits of the tree that the host has, oldest first.
    pub(crate) kept: Vec<String>,
}

/// The file of a tree: one for each sandbox and path. Ids of sandboxes are unique on the host; one that is kept for a
/// later run brings its trees along.
fn file(sandbox: &Sandbox, path: &str) -> String {
    let path: String = normal(path)
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!(".{other:02x}"),
        })
        .collect();
    format!("{}/{path}.json", sandbox.id())
}

/// A path without doubled, dotted or trailing parts.
pub(crate) fn normal(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

impl Record {
    /// A tree as it was cloned.
    pub(crate) fn new(repo: &str, base: &str, branch: &str, key: &str) -> Self {
        let [repo, base, branch, key] = [repo, base, branch, key].map(str::to_owned);
        Self { repo, base, branch, key, fetched: Vec::new(), kept: Vec::new() }
    }

    /// Remembers the tree at `path`.
    pub(crate) fn save(&self, sandbox: &Sandbox, path: &str) -> Result<(), Error> {
        let Self { repo, base, branch, key, fetched, kept } = self;
        let kept = &kept[kept.len().saturating_sub(REMEMBERED)..];
        let text = json!({
            "repo": repo, "base": base, "branch": branch, "key": key, "fetched": fetched, "kept": kept,
        });
        store::put(VOLUME, &file(sandbox, path), text.to_string().as_bytes(), &Expectation::Anything)?;
        Ok(())
    }

    /// What is known of the tree at `path`, none where `git/clone` did not make it in this sandbox.
    pub(crate) fn find(sandbox: &Sandbox, path: &str) -> Result<Option<Self>, Error> {
        let Some(found) = store::get(VOLUME, &file(sandbox, path))? else { return Ok(None) };
        let value: Value = serde_json::from_slice(&found.content).unwrap_or_default();
        let field = |name: &str| value[name].as_str().unwrap_or_default();
        let list = |name: &str| {
            let items = value[name].as_array().map(Vec::as_slice).unwrap_or_default();
            items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        if field("repo").is_empty() || field("base").is_empty() {
            return Err(Error::Other(format!(
                "what is known of the clone at {path} is damaged; clone again"
            )));
        }
        Ok(Some(Self {
            fetched: list("fetched"),
            kept: list("kept"),
            ..Self::new(field("repo"), field("base"), field("branch"), field("key"))
        }))
    }

    /// The same, where it must be known.
    pub(crate) fn load(sandbox: &Sandbox, path: &str) -> Result<Self, Error> {
        Self::find(sandbox, path)?.ok_or_else(|| {
            Error::NotFound(format!(
                "{path} was not made by git/clone in this sandbox; clone first and pass its output `path`"
            ))
        })
    }

    /// Commits of others: what was cloned and what was fetched since, the newest first.
    pub(crate) fn others(&self) -> impl Iterator<Item = &str> {
        self.fetched.iter().rev().chain([&self.base]).map(String::as_str)
    }
}
