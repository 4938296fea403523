//! Making work outlive its sandbox: `git/commit` and `git/snapshot`.

use crate::harvest::git::repositories::{self, Delivery, Repository};
use crate::harvest::run::run;
use crate::harvest::streams::streams::{self, Level};
use crate::record::Record;
use crate::tree::{command, git, line};
use crate::{Committed, Error, Kept, Sandbox};

/// Most changed paths listed.
const LISTED: usize = 10_000;
/// Where a snapshot's commit is in the sandbox.
const SNAPSHOT: &str = "refs/harvest/snapshot";

pub(crate) fn commit(
    sandbox: &Sandbox,
    path: &str,
    message: &str,
    no_verify: bool,
    allow_empty: bool,
) -> Result<Committed, Error> {
    if message.trim().is_empty() {
        return Err(Error::Invalid("`message` is empty; say what changed".into()));
    }
    let record = Record::load(sandbox, path)?;
    git(sandbox, path, &["add", "-A"]).run()?.success("stage the tree")?;
    let dirty = git(sandbox, path, &["diff", "--cached", "--quiet", "--no-ext-diff"]).run()?.code != 0;
    let before = head(sandbox, path)?;
    if dirty || (allow_empty && before == record.base) {
        make_commit(sandbox, path, message, no_verify, allow_empty)?;
    }
    let sha = head(sandbox, path)?;
    if sha == record.base {
        streams::log(Level::Info, "nothing changed since the clone");
        return Ok(Committed { changed: false, sha: None, files: Vec::new(), fetch: None });
    }
    let files = changed_files(sandbox, path, &record.base, &sha)?;
    let repository = repositories::open(&record.repo, None)?;
    let fetch = deliver(sandbox, path, &repository, &record, &sha)?.map(|delivery| delivery.fetch);
    Ok(Committed { changed: true, sha: Some(sha), files, fetch })
}

fn make_commit(
    sandbox: &Sandbox,
    path: &str,
    message: &str,
    no_verify: bool,
    allow_empty: bool,
) -> Result<(), Error> {
    let trailer = format!("Harvest-Run: {}", run::current().run);
    let message =
        git(sandbox, path, &["interpret-trailers", "--if-exists", "doNothing", "--trailer", &trailer])
            .input(&format!("{}\n", message.trim_end()))
            .run()?
            .success("add the trailer to the message")?
            .stdout;
    let mut words = vec!["commit", "--quiet", "--cleanup=whitespace", "--file=-"];
    words.extend(no_verify.then_some("--no-verify"));
    words.extend(allow_empty.then_some("--allow-empty"));
    let finished = git(sandbox, path, &words).input(&message).shown().run()?;
    if finished.code != 0 && finished.stderr.contains("tell me who you are") {
        return Err(Error::Invalid(
            "git does not know who commits; put a git/configure step before this one".into(),
        ));
    }
    finished.success(
        "commit; where a hook of the repository refused, mend what it says or set no_verify: true",
    )?;
    Ok(())
}

pub(crate) fn snapshot(sandbox: &Sandbox, path: &str, message: Option<&str>) -> Result<Kept, Error> {
    let nothing = Kept { sha: None, ref_: String::new(), fetch: None };
    let Some(record) = Record::find(sandbox, path)? else {
        streams::log(Level::Info, &format!("there is no clone at {path}; nothing to keep"));
        return Ok(nothing);
    };
    let before = head(sandbox, path)?;
    let tree = write_tree(sandbox, path)?;
    let same = line(sandbox, path, &["rev-parse", "HEAD^{tree}"], "read HEAD")? == tree;
    let sha = if same {
        before
    } else {
        let message = format!(
            "{}\n\nHarvest-Run: {}\n",
            message.unwrap_or("wip: snapshot").trim_end(),
            run::current().run
        );
        let known = git(sandbox, path, &["config", "user.email"]).run()?.code == 0;
        let mut command =
            git(sandbox, path, &["commit-tree", "--no-gpg-sign", "-p", &before, &tree]).input(&message);
        if !known {
            for role in ["AUTHOR", "COMMITTER"] {
                command = command
                    .env(&format!("GIT_{role}_NAME"), "Harvest")
                    .env(&format!("GIT_{role}_EMAIL"), "harvest@localhost");
            }
        }
        command.run()?.success("make the snapshot's commit")?.stdout.trim().to_owned()
    };
    if sha == record.base {
        streams::log(Level::Info, "nothing changed since the clone");
        return Ok(nothing);
    }
    line(sandbox, path, &["update-ref", SNAPSHOT, &sha], "name the snapshot")?;
    let repository = repositories::open(&record.repo, None)?;
    let delivery = deliver(sandbox, path, &repository, &record, &sha)?;
    let (reference, fetch) = delivery
        .map_or_else(|| (SNAPSHOT.to_owned(), None), |delivery| (delivery.reference, Some(delivery.fetch)));
    Ok(Kept { sha: Some(sha), ref_: reference, fetch })
}

/// The tree's files as a tree object, by an index of its own: the branch's index stays as it is.
fn write_tree(sandbox: &Sandbox, path: &str) -> Result<String, Error> {
    let index = format!("{path}/.git/harvest-index");
    let words =
        ["sh", "-c", "test ! -e \"$1/.git/index\" || cp -- \"$1/.git/index\" \"$2\"", "sh", path, &index];
    command(sandbox, &words).run()?.success("copy the index")?;
    let step = |words: &[&str]| {
        git(sandbox, path, words).env("GIT_INDEX_FILE", &index).run()?.success("take the snapshot")
    };
    step(&["add", "-A"])?;
    let tree = step(&["write-tree"])?.stdout.trim().to_owned();
    command(sandbox, &["rm", "-f", "--", &index]).run()?.success("remove the index")?;
    Ok(tree)
}

pub(crate) fn head(sandbox: &Sandbox, path: &str) -> Result<String, Error> {
    line(sandbox, path, &["rev-parse", "--verify", "HEAD^{commit}"], "read HEAD")
}

fn changed_files(sandbox: &Sandbox, path: &str, base: &str, sha: &str) -> Result<Vec<String>, Error> {
    let words = ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", base, sha, "--"];
    let listed = git(sandbox, path, &words).run()?.success("list changed files")?.stdout;
    Ok(listed.split_terminator('\0').take(LISTED).map(str::to_owned).collect())
}

/// Brings a commit to the host. False where it holds nothing that the host does not have.
pub(crate) fn bring(
    sandbox: &Sandbox,
    path: &str,
    repository: &Repository,
    known: &[&str],
    sha: &str,
) -> Result<bool, Error> {
    let without: Vec<String> = known.iter().map(|known| format!("^{known}")).collect();
    let mut words = vec!["rev-list", "--max-count=1", sha];
    words.extend(without.iter().map(String::as_str));
    if line(sandbox, path, &words, "look for new commits")?.is_empty() {
        return Ok(false);
    }
    // A bundle names refs, not commits; this one is for no one else.
    let outgoing = "refs/harvest/outgoing";
    line(sandbox, path, &["update-ref", outgoing, sha], "name the commit")?;
    let bundle = format!("{path}/.git/harvest.bundle");
    let mut words = vec!["bundle", "create", "--quiet", &bundle, outgoing];
    words.extend(without.iter().map(String::as_str));
    git(sandbox, path, &words).run()?.success("bundle the commit")?;
    let received = repository.receive(sandbox, &bundle)?;
    command(sandbox, &["rm", "-f", "--", &bundle]).run()?.success("remove the bundle")?;
    if received == sha {
        return Ok(true);
    }
    Err(Error::Conflict(format!(
        "the tree changed meanwhile: {received} came in place of {sha}; is a program still running in the sandbox?"
    )))
}

fn deliver(
    sandbox: &Sandbox,
    path: &str,
    repository: &Repository,
    record: &Record,
    sha: &str,
) -> Result<Option<Delivery>, Error> {
    if !bring(sandbox, path, repository, &[&record.base], sha)? {
        streams::log(
            Level::Warn,
            &format!("HEAD went back to {sha}, which the repository has; there is nothing to deliver"),
        );
        return Ok(None);
    }
    let delivery = repository.deliver(sha)?;
    streams::log(Level::Info, &format!("the work outlives the sandbox; have it with: {}", delivery.fetch));
    let event = serde_json::json!({
        "repo": record.repo, "sha": sha, "reference": delivery.reference, "fetch": delivery.fetch,
    });
    streams::event("delivery", &event.to_string());
    Ok(Some(delivery))
}
