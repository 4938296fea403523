//! Carrying a session's own commits forward, onto what others have pushed meanwhile.
//!
//! It happens in a work tree beside the session's, so that a conflict or a crash leaves that one as it was. What was not
//! committed is carried along and stays uncommitted.

use crate::checkpoint::Standing;
use crate::harvest::git::repositories::Repository;
use crate::history::{ground, is_ancestor};
use crate::record::Record;
use crate::tree::{Command, command, git, line};
use crate::{Error, Sandbox};

/// What became of the remote's branch.
pub(crate) enum Carried {
    /// The session's commits stand on it now.
    Forward,
    /// They did already.
    Already,
}

/// Fetches `branch` and puts the session's own commits on top of it. `conflict` where they do not fit, or where commits
/// of others would have to be rewritten.
pub(crate) fn carry(
    sandbox: &Sandbox,
    path: &str,
    repository: &Repository,
    record: &mut Record,
    branch: &str,
    standing: &Standing,
) -> Result<Carried, Error> {
    let onto = fetch(sandbox, path, repository, record, branch)?;
    if is_ancestor(sandbox, path, &onto, &standing.head)? {
        return Ok(Carried::Already);
    }
    let Some(ground) = ground(sandbox, path, record, &standing.head)? else {
        return Err(Error::Conflict(format!(
            "the session took commits of others away: the tree was cloned at {}, which HEAD no longer holds, and to \
             push would rewrite them",
            record.base
        )));
    };
    let beside = Beside::open(sandbox, path, &standing.head)?;
    let head = beside.rebase(&ground, &onto)?;
    let tree = beside.apply(standing)?;
    beside.close()?;
    advance(sandbox, path, standing, &head, &tree)?;
    Ok(Carried::Forward)
}

/// Brings the remote's branch into the tree and returns where it is.
fn fetch(
    sandbox: &Sandbox,
    path: &str,
    repository: &Repository,
    record: &mut Record,
    branch: &str,
) -> Result<String, Error> {
    let sha = repository.fetch(Some(&format!("refs/heads/{branch}")), None)?.sha;
    let bundle = format!("{path}/.git/harvest.bundle");
    repository.send(sandbox, &sha, &bundle)?;
    let tracking = format!("+refs/heads/harvest-base:refs/remotes/origin/{branch}");
    git(sandbox, path, &["fetch", "-q", "--no-tags", "--", &bundle, &tracking])
        .run()?
        .success("fetch the branch")?;
    command(sandbox, &["rm", "-f", "--", &bundle]).run()?.success("remove the bundle")?;
    if !record.others().any(|other| other == sha) {
        record.fetched.push(sha.clone());
        record.save(sandbox, path)?;
    }
    Ok(sha)
}

/// A work tree beside the session's.
struct Beside<'a> {
    sandbox: &'a Sandbox,
    path: &'a str,
    place: String,
}

impl<'a> Beside<'a> {
    /// Checks `commit` out there, in place of what an attempt that was cut short left.
    fn open(sandbox: &'a Sandbox, path: &'a str, commit: &str) -> Result<Self, Error> {
        let beside = Self { sandbox, path, place: format!("{path}/.git/harvest-rebase") };
        beside.close()?;
        let words = ["worktree", "add", "--quiet", "--detach", &beside.place, commit];
        beside.quiet(path, &words).run()?.success("make a work tree to rebase in")?;
        Ok(beside)
    }

    /// Git without the hooks and habits that the sandbox's configuration may hold.
    fn quiet(&self, place: &str, words: &[&str]) -> Command<'a> {
        let mut all = vec![
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "rebase.autoSquash=false",
            "-c",
            "rebase.autoStash=false",
            "-c",
            "rebase.updateRefs=false",
            "-c",
            "commit.gpgSign=false",
            "-c",
            "rerere.enabled=false",
        ];
        all.extend(words);
        git(self.sandbox, place, &all)
    }

    /// Puts the commits after `ground` onto `onto`, and returns the last of them.
    fn rebase(&self, ground: &str, onto: &str) -> Result<String, Error> {
        let words = ["rebase", "--quiet", "--rebase-merges", "--onto", onto, ground];
        let finished = self.quiet(&self.place, &words).by_someone()?.shown().run()?;
        if finished.code != 0 {
            return Err(self.conflict(&finished.complaint("rebase"))?);
        }
        line(
            self.sandbox,
            &self.place,
            &["rev-parse", "--verify", "HEAD^{commit}"],
            "read the rebased commit",
        )
    }

    /// Puts what was not committed on top, and returns the tree that comes of it.
    fn apply(&self, standing: &Standing) -> Result<String, Error> {
        if standing.snapshot != standing.head {
            let words = ["cherry-pick", "--no-commit", &standing.snapshot];
            let finished = self.quiet(&self.place, &words).by_someone()?.run()?;
            if finished.code != 0 {
                return Err(self.conflict(&finished.complaint("carry over what is not committed"))?);
            }
        }
        line(self.sandbox, &self.place, &["write-tree"], "write the rebased tree")
    }

    /// The error for changes that do not fit.
    fn conflict(&self, complaint: &str) -> Result<Error, Error> {
        let words = ["diff", "--name-only", "--diff-filter=U"];
        let files = line(self.sandbox, &self.place, &words, "list conflicts")?.replace('\n', ", ");
        self.close()?;
        Ok(Error::Conflict(if files.is_empty() {
            complaint.to_owned()
        } else {
            format!("others changed the same lines of {files}")
        }))
    }

    fn close(&self) -> Result<(), Error> {
        let remove = "rm -rf -- \"$1\"";
        command(self.sandbox, &["sh", "-c", remove, "sh", &self.place])
            .run()?
            .success("remove the work tree")?;
        git(self.sandbox, self.path, &["worktree", "prune"]).run()?.success("forget the work tree")?;
        Ok(())
    }
}

/// Moves the session's own tree and branch. Each step leaves a state from which the next attempt comes to the same end.
fn advance(sandbox: &Sandbox, path: &str, standing: &Standing, head: &str, tree: &str) -> Result<(), Error> {
    let step =
        |words: &[&str]| git(sandbox, path, words).run()?.success("move the tree to the rebased commits");
    step(&["add", "-A"])?;
    // Changes nothing where a program changed the tree since the checkpoint.
    let from = format!("{}^{{tree}}", standing.snapshot);
    let moved = git(sandbox, path, &["read-tree", "-m", "-u", &from, tree]).run()?;
    if moved.code != 0 {
        let why = moved.complaint("move the tree to the rebased commits");
        return Err(Error::Conflict(format!("{why}; is a program still running in the sandbox?")));
    }
    step(&["update-ref", "-m", "harvest: carry forward", "HEAD", head, &standing.head])?;
    step(&["reset", "--quiet"])?;
    Ok(())
}
