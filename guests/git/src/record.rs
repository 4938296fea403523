//! Where a tree came from, kept where the sandbox cannot change it: an agent that could would have the host write into
//! any repository of the machine.

use crate::harvest::run::run;
use crate::harvest::sandbox::store::{self, Expectation};
use crate::{Error, Sandbox};
use serde_json::{Value, json};

/// The volume, after the component's own prefix.
const VOLUME: &str = "clones";

/// What is known of a clone.
pub(crate) struct Record {
    /// The repository as the step was given it.
    pub(crate) repo: String,
    /// The commit it started from.
    pub(crate) base: String,
    /// The branch checked out at first.
    pub(crate) branch: String,
    /// Which step made it.
    pub(crate) key: String,
}

/// The file of a tree: one for each run, sandbox and path.
fn file(sandbox: &Sandbox, path: &str) -> String {
    let path: String = normal(path)
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!(".{other:02x}"),
        })
        .collect();
    format!("{}/{}/{path}.json", run::current().run, sandbox.id())
}

/// A path without doubled, dotted or trailing parts.
pub(crate) fn normal(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

impl Record {
    /// Remembers the tree at `path`.
    pub(crate) fn save(&self, sandbox: &Sandbox, path: &str) -> Result<(), Error> {
        let Self { repo, base, branch, key } = self;
        let text = json!({"repo": repo, "base": base, "branch": branch, "key": key}).to_string();
        store::put(VOLUME, &file(sandbox, path), text.as_bytes(), &Expectation::Anything)?;
        Ok(())
    }

    /// What is known of the tree at `path`, none where `git/clone` did not make it in this run.
    pub(crate) fn find(sandbox: &Sandbox, path: &str) -> Result<Option<Self>, Error> {
        let Some(found) = store::get(VOLUME, &file(sandbox, path))? else { return Ok(None) };
        let value: Value = serde_json::from_slice(&found.content).unwrap_or_default();
        let field = |name: &str| value[name].as_str().map(str::to_owned);
        let [repo, base, branch, key] = ["repo", "base", "branch", "key"].map(field);
        let damaged =
            || Error::Other(format!("what is known of the clone at {path} is damaged; clone again"));
        let (repo, base) = (repo.ok_or_else(damaged)?, base.ok_or_else(damaged)?);
        Ok(Some(Self { repo, base, branch: branch.unwrap_or_default(), key: key.unwrap_or_default() }))
    }

    /// The same, where it must be known.
    pub(crate) fn load(sandbox: &Sandbox, path: &str) -> Result<Self, Error> {
        Self::find(sandbox, path)?.ok_or_else(|| {
            Error::NotFound(format!(
                "{path} was not made by git/clone in this run; clone first and pass its output `path`"
            ))
        })
    }
}
