//! What a tree's history says: whose commits are whose. Reads only; changes nothing.

use crate::record::Record;
use crate::tree::{git, line};
use crate::{Error, Sandbox};
use std::collections::HashSet;

/// The commit that is checked out.
pub(crate) fn head(sandbox: &Sandbox, path: &str) -> Result<String, Error> {
    line(sandbox, path, &["rev-parse", "--verify", "HEAD^{commit}"], "read HEAD")
}

/// Whether one commit is in the history of another.
pub(crate) fn is_ancestor(sandbox: &Sandbox, path: &str, older: &str, newer: &str) -> Result<bool, Error> {
    Ok(git(sandbox, path, &["merge-base", "--is-ancestor", older, newer]).run()?.code == 0)
}

/// The newest commit of others that `commit` still stands on; none where their commits were taken away beneath it.
pub(crate) fn ground(
    sandbox: &Sandbox,
    path: &str,
    record: &Record,
    commit: &str,
) -> Result<Option<String>, Error> {
    for other in record.others() {
        if is_ancestor(sandbox, path, other, commit)? {
            return Ok(Some(other.to_owned()));
        }
    }
    Ok(None)
}

/// Those of `commits` that the tree's repository has.
pub(crate) fn present<'a>(
    sandbox: &Sandbox,
    path: &str,
    commits: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<&'a str>, Error> {
    let commits: Vec<&str> = commits.into_iter().collect();
    let found = git(sandbox, path, &["cat-file", "--batch-check=%(objecttype)"])
        .input(format!("{}\n", commits.join("\n")))
        .run()?
        .success("look for commits")?
        .stdout;
    Ok(commits
        .into_iter()
        .zip(found.lines())
        .filter(|(_, kind)| *kind == "commit")
        .map(|(sha, _)| sha)
        .collect())
}

/// The commits that no other one of `listed` builds on, in the order listed. `listed` is what `rev-list --parents`
/// prints.
pub(crate) fn tips(listed: &str) -> Vec<String> {
    let lines = || listed.lines().map(|line| line.split(' '));
    let parents: HashSet<&str> = lines().flat_map(|words| words.skip(1)).collect();
    lines()
        .filter_map(|mut words| words.next())
        .filter(|sha| !sha.is_empty() && !parents.contains(sha))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::tips;

    #[test]
    fn tips_are_what_nothing_builds_on() {
        assert_eq!(tips(""), Vec::<String>::new());
        assert_eq!(tips("c b\nb a\nd b a\ne\n"), ["c", "d", "e"]);
    }
}
