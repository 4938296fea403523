//! Checkpoints: all that a session has made, in the host's own repository, where nothing in the sandbox reaches it.
//!
//! A checkpoint is one commit. Its tree is the tree as it stands, and its history holds every commit that lies in the
//! repository of the sandbox: on a branch, in a stash, in the log of HEAD, or left behind without a name. So it makes no
//! difference by which way a session, or a program in it, threw something away.

use crate::harvest::git::repositories::Repository;
use crate::harvest::run::run;
use crate::harvest::streams::streams::{self, Level};
use crate::history::{head, present, tips};
use crate::record::Record;
use crate::tree::{command, git, line};
use crate::{Error, Sandbox};

/// Where the newest snapshot is in the sandbox, so that one of the same tree is not made again.
pub(crate) const SNAPSHOT: &str = "refs/harvest/snapshot";
/// Where the newest checkpoint is in the sandbox.
const CHECKPOINT: &str = "refs/harvest/checkpoint";
/// What a snapshot says unless the caller says otherwise.
const MESSAGE: &str = "wip: snapshot";
/// Most parents of a commit made here; more commits are joined by several.
const PARENTS: usize = 100;
/// Prints the commits among the loose objects: whatever was made here lately, named or not.
const LOOSE: &str = "cd \"$1/.git/objects\" && find . -type f -path './??/*' | tr -d ./ | \
    git -c safe.directory='*' -C \"$1\" cat-file --batch-check='%(objecttype) %(objectname)' | \
    sed -n 's/^commit //p'";

/// A tree as a checkpoint found it.
pub(crate) struct Standing {
    /// HEAD.
    pub(crate) head: String,
    /// HEAD with what was not committed on top; HEAD itself where there was nothing.
    pub(crate) snapshot: String,
}

/// Brings everything to the host that it does not have yet.
pub(crate) fn take(
    sandbox: &Sandbox,
    path: &str,
    repository: &Repository,
    record: &mut Record,
    message: Option<&str>,
) -> Result<Standing, Error> {
    unlock(sandbox, path)?;
    let head = head(sandbox, path)?;
    let snapshot = snapshot(sandbox, path, &head, message.unwrap_or(MESSAGE))?;
    let kept = record.kept.iter().rev().map(String::as_str);
    let known: Vec<String> =
        present(sandbox, path, record.others().chain(kept))?.into_iter().map(str::to_owned).collect();
    let mut made = tips(&made(sandbox, path, &known, &snapshot)?);
    if !made.is_empty() {
        if made[..] != [snapshot.clone()] {
            made.retain(|commit| *commit != snapshot);
            made.insert(0, snapshot.clone());
        }
        let checkpoint = join(sandbox, path, &snapshot, made)?;
        match bring(sandbox, path, repository, &known, &checkpoint) {
            // What is committed must not be lost because of what is not.
            Err(Error::TooLarge(why)) if checkpoint != head => {
                streams::log(Level::Warn, &format!("only what is committed is kept: {why}"));
                bring(sandbox, path, repository, &known, &head)?;
                record.kept.push(head.clone());
            }
            brought => {
                brought?;
                record.kept.push(checkpoint);
            }
        }
        record.save(sandbox, path)?;
    }
    Ok(Standing { head, snapshot })
}

/// Removes locks whose holders were killed: those of refs that only steps write, and, where an earlier attempt of this
/// step ended in the middle, all that git may have held then.
pub(crate) fn unlock(sandbox: &Sandbox, path: &str) -> Result<(), Error> {
    let stale = if run::current().attempt > 1 {
        "rm -f -- \"$1/.git/index.lock\" \"$1/.git/HEAD.lock\"; find \"$1/.git/refs\" -name '*.lock' -exec rm -f {} +"
    } else {
        "rm -f -- \"$1\"/.git/refs/harvest/*.lock"
    };
    command(sandbox, &["sh", "-c", stale, "sh", path])
        .run()?
        .success("remove the locks of killed commands")?;
    Ok(())
}

/// The tree as a commit on HEAD, without touching branch, index or hooks.
fn snapshot(sandbox: &Sandbox, path: &str, head: &str, message: &str) -> Result<String, Error> {
    let tree = write_tree(sandbox, path)?;
    let name = |commit: &str| git(sandbox, path, &["log", "-1", "--format=%T %P", commit, "--"]).run();
    if name(head)?.success("read HEAD")?.stdout.split(' ').next() == Some(&tree) {
        return Ok(head.to_owned());
    }
    let last = name(SNAPSHOT)?;
    if last.code == 0 && last.stdout.trim() == format!("{tree} {head}") {
        return line(sandbox, path, &["rev-parse", SNAPSHOT], "read the last snapshot");
    }
    let message = format!("{}\n\nHarvest-Run: {}\n", message.trim_end(), run::current().run);
    let made = commit_tree(sandbox, path, &tree, &[head.to_owned()], &message)?;
    line(sandbox, path, &["update-ref", SNAPSHOT, &made], "name the snapshot")?;
    Ok(made)
}

/// The tree's files as a tree object, by an index of its own: the branch's index stays as it is.
fn write_tree(sandbox: &Sandbox, path: &str) -> Result<String, Error> {
    let index = format!("{path}/.git/harvest-index");
    // With its time: from that git tells which files it must read, since they changed while the index was written.
    let copy =
        "rm -f -- \"$2\" \"$2.lock\"; test ! -e \"$1/.git/index\" || cp -p -- \"$1/.git/index\" \"$2\"";
    command(sandbox, &["sh", "-c", copy, "sh", path, &index]).run()?.success("copy the index")?;
    let step = |words: &[&str]| {
        git(sandbox, path, words).env("GIT_INDEX_FILE", &index).run()?.success("take the snapshot")
    };
    step(&["add", "-A"])?;
    let tree = step(&["write-tree"])?.stdout.trim().to_owned();
    command(sandbox, &["rm", "-f", "--", &index]).run()?.success("remove the index")?;
    Ok(tree)
}

/// The commits of the sandbox's repository without those known, each with its parents.
fn made(sandbox: &Sandbox, path: &str, known: &[String], snapshot: &str) -> Result<String, Error> {
    let loose = command(sandbox, &["sh", "-c", LOOSE, "sh", path]).run()?;
    let mut starts = format!("{snapshot}\n{}", loose.stdout);
    for commit in known {
        starts.push_str(&format!("^{commit}\n"));
    }
    let all = ["rev-list", "--parents", "--ignore-missing", "--all", "--reflog", "--stdin"];
    let listed = git(sandbox, path, &all).input(&starts).run()?;
    if listed.code == 0 {
        return Ok(listed.stdout);
    }
    // A repository with damaged corners still has a branch.
    streams::log(
        Level::Warn,
        &listed.complaint("look through all commits of the sandbox; only HEAD's are kept"),
    );
    let mut words = vec!["rev-list".to_owned(), "--parents".into(), snapshot.into()];
    words.extend(known.iter().map(|commit| format!("^{commit}")));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(git(sandbox, path, &words).run()?.success("look for new commits")?.stdout)
}

/// One commit whose history holds all of `commits`, of which the first is the snapshot.
fn join(sandbox: &Sandbox, path: &str, snapshot: &str, mut commits: Vec<String>) -> Result<String, Error> {
    let tree = format!("{snapshot}^{{tree}}");
    let message = "harvest: checkpoint\n\nHolds what the session made, whatever became of it.\n";
    while commits.len() > 1 {
        let rest = commits.split_off(commits.len().min(PARENTS));
        let joined = commit_tree(sandbox, path, &tree, &commits, message)?;
        commits = [vec![joined], rest].concat();
    }
    Ok(commits.remove(0))
}

fn commit_tree(
    sandbox: &Sandbox,
    path: &str,
    tree: &str,
    parents: &[String],
    message: &str,
) -> Result<String, Error> {
    let mut words = vec!["commit-tree", "--no-gpg-sign"];
    words.extend(parents.iter().flat_map(|parent| ["-p", parent]));
    words.push(tree);
    let made = git(sandbox, path, &words).by_someone()?.input(message).run()?;
    Ok(made.success("make the snapshot's commit")?.stdout.trim().to_owned())
}

/// Brings a commit to the host, which has those known.
fn bring(
    sandbox: &Sandbox,
    path: &str,
    repository: &Repository,
    known: &[String],
    sha: &str,
) -> Result<(), Error> {
    // A bundle names refs, not commits.
    line(sandbox, path, &["update-ref", CHECKPOINT, sha], "name the checkpoint")?;
    let bundle = format!("{path}/.git/harvest.bundle");
    let input: String = known.iter().map(|commit| format!("^{commit}\n")).collect();
    git(sandbox, path, &["bundle", "create", "--quiet", &bundle, CHECKPOINT, "--stdin"])
        .input(&input)
        .run()?
        .success("bundle the commits")?;
    let received = repository.receive(sandbox, &bundle)?;
    command(sandbox, &["rm", "-f", "--", &bundle]).run()?.success("remove the bundle")?;
    if received == sha {
        return Ok(());
    }
    Err(Error::Conflict(format!(
        "the tree changed meanwhile: {received} came in place of {sha}; is a program still running in the sandbox?"
    )))
}
