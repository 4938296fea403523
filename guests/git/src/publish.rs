//! Sending a branch to its remote: `git/push`.

use crate::harvest::git::repositories::{self, Repository};
use crate::harvest::streams::streams::{self, Level};
use crate::keep::{bring, head};
use crate::record::Record;
use crate::tree::{command, git, line};
use crate::{Error, Pushed, Sandbox, Secret, Strategy};

/// How often a branch that moves on is followed.
const ATTEMPTS: u32 = 3;

pub(crate) fn push(
    sandbox: &Sandbox,
    token: Option<&Secret>,
    path: &str,
    reference: Option<&str>,
    strategy: Strategy,
) -> Result<Pushed, Error> {
    let record = Record::load(sandbox, path)?;
    let branch = match reference {
        Some(name) => name.strip_prefix("refs/heads/").unwrap_or(name).to_owned(),
        None => line(
            sandbox,
            path,
            &["symbolic-ref", "--short", "HEAD"],
            "tell the branch checked out; name one with `ref`",
        )?,
    };
    let repository = repositories::open(&record.repo, token)?;
    let mut known = vec![record.base.clone()];
    for attempt in 1.. {
        let sha = head(sandbox, path)?;
        let without: Vec<&str> = known.iter().map(String::as_str).collect();
        if !bring(sandbox, path, &repository, &without, &sha)? && !known.contains(&sha) {
            return Err(Error::Conflict(format!("HEAD went back to {sha}; a push never takes commits away")));
        }
        match repository.push(&sha, &branch) {
            Ok(()) => return Ok(Pushed { sha, ref_: format!("refs/heads/{branch}") }),
            Err(Error::Conflict(why)) if matches!(strategy, Strategy::FetchRebase) && attempt < ATTEMPTS => {
                streams::log(Level::Info, &format!("{branch} has moved on ({why}); rebasing on it"));
                known.push(rebase(sandbox, path, &repository, &branch)?);
            }
            Err(error) => return Err(error),
        }
    }
    unreachable!("the last attempt returns")
}

/// Puts the tree's own commits on top of the remote's branch and returns where that is.
fn rebase(sandbox: &Sandbox, path: &str, repository: &Repository, branch: &str) -> Result<String, Error> {
    let remote = repository.fetch(Some(&format!("refs/heads/{branch}")), None)?.sha;
    let bundle = format!("{path}/.git/harvest.bundle");
    repository.send(sandbox, &remote, &bundle)?;
    let tracking = format!("+refs/heads/harvest-base:refs/remotes/origin/{branch}");
    git(sandbox, path, &["fetch", "-q", "--no-tags", "--", &bundle, &tracking])
        .run()?
        .success("fetch the branch")?;
    command(sandbox, &["rm", "-f", "--", &bundle]).run()?.success("remove the bundle")?;
    let finished = git(sandbox, path, &["rebase", "--quiet", &remote]).shown().run()?;
    if finished.code != 0 {
        git(sandbox, path, &["rebase", "--abort"]).run()?;
        return Err(Error::Conflict(finished.complaint(&format!("rebase on {branch}"))));
    }
    Ok(remote)
}
