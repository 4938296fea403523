//! Making a tree: `git/clone` and `git/configure`.

use crate::harvest::git::repositories::{self, Repository};
use crate::harvest::run::run;
use crate::harvest::streams::streams;
use crate::record::{Record, normal};
use crate::tree::{command, git, line};
use crate::{Cloned, Error, Identity, Sandbox, Secret};

/// Where trees go unless said otherwise.
const PARENT: &str = "/workspace";
/// What marks commits made under harvest.
const MARK: &str = " (Harvest)";

pub(crate) fn clone(
    sandbox: &Sandbox,
    token: Option<&Secret>,
    repo: &str,
    reference: Option<&str>,
    into: Option<&str>,
    depth: Option<u32>,
) -> Result<Cloned, Error> {
    let parent = into.unwrap_or(PARENT);
    if !parent.starts_with('/') || parent.split('/').any(|part| part == "..") {
        return Err(Error::Invalid(format!(
            "`into` must be an absolute path in the sandbox, not {parent:?}"
        )));
    }
    let repository = repositories::open(repo, token)?;
    let path = normal(&format!("{parent}/{}", repository.name()));
    let info = run::current();
    make_room(sandbox, &path, &info.idempotency_key)?;
    streams::progress(&format!("fetching {}", repository.identity()));
    let fetched = repository.fetch(reference, depth)?;

    // An attempt that ends in the middle leaves nothing under the tree's own name.
    let unfinished = format!("{parent}/.harvest-clone-{}-{}", info.run, info.step);
    command(sandbox, &["rm", "-rf", "--", &unfinished]).run()?.success("remove an unfinished clone")?;
    let branch = fetched.branch.unwrap_or_else(|| format!("harvest/{}", info.run));
    let remote = Remote { url: origin(repo, &repository), branch: &branch, sha: &fetched.sha };
    fill(sandbox, &repository, &unfinished, &remote)?;
    Record::new(repo, &fetched.sha, &branch, &info.idempotency_key).save(sandbox, &path)?;
    command(sandbox, &["mv", "-T", "--", &unfinished, &path]).run()?.success("name the finished clone")?;
    Ok(Cloned { path, sha: fetched.sha, branch })
}

/// Refuses a tree that someone else made; replaces one that an earlier attempt of this step made.
fn make_room(sandbox: &Sandbox, path: &str, key: &str) -> Result<(), Error> {
    // Empty directories go, such as an image may bring.
    let gone = "test ! -e \"$1\" || rmdir -- \"$1\" 2>/dev/null";
    if command(sandbox, &["sh", "-c", gone, "sh", path]).run()?.code == 0 {
        return Ok(());
    }
    if Record::find(sandbox, path)?.is_none_or(|record| record.key != key) {
        return Err(Error::Conflict(format!(
            "{path} exists already; clone into another directory with `into`"
        )));
    }
    command(sandbox, &["rm", "-rf", "--", path]).run()?.success("replace the clone of an earlier attempt")?;
    Ok(())
}

/// What the tree is to know of where it came from.
struct Remote<'a> {
    url: String,
    branch: &'a str,
    sha: &'a str,
}

/// The URL for people and programs in the sandbox; never holds a credential, since a repository's name cannot.
fn origin(repo: &str, repository: &Repository) -> String {
    if repo.contains("://") || repo.starts_with('/') {
        return repo.to_owned();
    }
    let identity = repository.identity();
    if identity.starts_with('/') { identity } else { format!("https://{identity}.git") }
}

fn fill(sandbox: &Sandbox, repository: &Repository, path: &str, remote: &Remote<'_>) -> Result<(), Error> {
    let Remote { url, branch, sha } = remote;
    command(sandbox, &["git", "-c", "init.defaultBranch=main", "init", "-q", "--", path])
        .run()?
        .success("make the tree; is git in the image?")?;
    let bundle = format!("{path}/.git/harvest.bundle");
    repository.send(sandbox, sha, &bundle)?;
    // Where history is cut, git must know before it looks at what the bundle holds.
    let cut = "test ! -e \"$1.shallow\" || mv -- \"$1.shallow\" \"$2/.git/shallow\"";
    command(sandbox, &["sh", "-c", cut, "sh", &bundle, path]).run()?.success("note where history is cut")?;
    streams::progress("checking out");
    let step = |words: &[&str]| git(sandbox, path, words).run()?.success("check out the tree");
    let tracking = format!("refs/remotes/origin/{branch}");
    step(&["fetch", "-q", "--no-tags", "--", &bundle, "+refs/heads/harvest-base:refs/harvest/base"])?;
    step(&["config", "remote.origin.url", url])?;
    step(&["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"])?;
    step(&["update-ref", &tracking, sha])?;
    step(&["checkout", "-q", "-B", branch, "--track", &format!("origin/{branch}")])?;
    command(sandbox, &["rm", "-f", "--", &bundle]).run()?.success("remove the bundle")?;
    Ok(())
}

pub(crate) fn configure(sandbox: &Sandbox, path: &str, name: &str, email: &str) -> Result<Identity, Error> {
    for (what, text) in [("name", name), ("email", email)] {
        if text.trim().is_empty() || text.len() > 256 || text.contains(['\n', '\r', '\0', '<', '>']) {
            return Err(Error::Invalid(format!(
                "`{what}` is 1 to 256 characters without <, > and line breaks"
            )));
        }
    }
    let name = name.trim();
    let name = if name.ends_with(MARK) { name.to_owned() } else { format!("{name}{MARK}") };
    let settings = [
        ("user.name", name.as_str()),
        ("user.email", email),
        ("push.autoSetupRemote", "true"),
        ("init.defaultBranch", "main"),
    ];
    for (key, value) in settings {
        line(sandbox, path, &["config", key, value], "configure git; is `path` the output of git/clone?")?;
    }
    Ok(Identity { author: format!("{name} <{email}>") })
}
