//! Making work outlive its sandbox: `git/commit` and `git/snapshot`.

use crate::checkpoint::{self, SNAPSHOT};
use crate::harvest::git::repositories::{self, Delivery, Repository};
use crate::harvest::run::run;
use crate::harvest::streams::streams::{self, Level};
use crate::history::{ground, head, is_ancestor};
use crate::record::Record;
use crate::signed::sign;
use crate::tree::git;
use crate::{Committed, Error, Kept, Sandbox, Secret};

/// Most changed paths listed.
const LISTED: usize = 10_000;

/// How to commit.
pub(crate) struct Options<'a> {
    /// What to sign with.
    pub(crate) signing_key: Option<&'a Secret>,
    /// Whether to skip the tree's hooks.
    pub(crate) no_verify: bool,
    /// Whether to commit where nothing changed.
    pub(crate) allow_empty: bool,
}

pub(crate) fn commit(
    sandbox: &Sandbox,
    path: &str,
    message: &str,
    options: &Options<'_>,
) -> Result<Committed, Error> {
    if message.trim().is_empty() {
        return Err(Error::Invalid("`message` is empty; say what changed".into()));
    }
    let mut record = Record::load(sandbox, path)?;
    let repository = repositories::open(&record.repo, None)?;
    checkpoint::unlock(sandbox, path)?;
    git(sandbox, path, &["add", "-A"]).run()?.success("stage the tree")?;
    let dirty = git(sandbox, path, &["diff", "--cached", "--quiet", "--no-ext-diff"]).run()?.code != 0;
    let before = head(sandbox, path)?;
    let due = dirty || (options.allow_empty && before == record.base);
    if due && let Err(error) = make_commit(sandbox, path, message, options) {
        // The commit may never come to be; the work stays.
        checkpoint::take(sandbox, path, &repository, &mut record, None)?;
        return Err(error);
    }
    if let Some(key) = options.signing_key {
        sign(sandbox, path, &record, key)?;
    }
    let sha = checkpoint::take(sandbox, path, &repository, &mut record, None)?.head;
    let ground = ground(sandbox, path, &record, &sha)?.unwrap_or_else(|| record.base.clone());
    if sha == ground {
        streams::log(Level::Info, "nothing changed since the clone");
        return Ok(Committed { changed: false, sha: None, files: Vec::new(), fetch: None });
    }
    let files = changed_files(sandbox, path, &ground, &sha)?;
    let fetch = deliver(sandbox, path, &repository, &record, &sha)?.map(|delivery| delivery.fetch);
    Ok(Committed { changed: true, sha: Some(sha), files, fetch })
}

fn make_commit(sandbox: &Sandbox, path: &str, message: &str, options: &Options<'_>) -> Result<(), Error> {
    let trailer = format!("Harvest-Run: {}", run::current().run);
    let message =
        git(sandbox, path, &["interpret-trailers", "--if-exists", "doNothing", "--trailer", &trailer])
            .input(format!("{}\n", message.trim_end()))
            .run()?
            .success("add the trailer to the message")?
            .stdout;
    let mut words = vec!["commit", "--quiet", "--cleanup=whitespace", "--file=-"];
    words.extend(options.no_verify.then_some("--no-verify"));
    words.extend(options.allow_empty.then_some("--allow-empty"));
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
    let Some(mut record) = Record::find(sandbox, path)? else {
        streams::log(Level::Info, &format!("there is no clone at {path}; nothing to keep"));
        return Ok(nothing);
    };
    let repository = repositories::open(&record.repo, None)?;
    let sha = checkpoint::take(sandbox, path, &repository, &mut record, message)?.snapshot;
    if record.others().any(|other| other == sha) {
        streams::log(Level::Info, "nothing changed since the clone");
        return Ok(nothing);
    }
    let delivery = deliver(sandbox, path, &repository, &record, &sha)?;
    let (reference, fetch) = delivery
        .map_or_else(|| (SNAPSHOT.to_owned(), None), |delivery| (delivery.reference, Some(delivery.fetch)));
    Ok(Kept { sha: Some(sha), ref_: reference, fetch })
}

fn changed_files(sandbox: &Sandbox, path: &str, base: &str, sha: &str) -> Result<Vec<String>, Error> {
    let words = ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", base, sha, "--"];
    let listed = git(sandbox, path, &words).run()?.success("list changed files")?.stdout;
    Ok(listed.split_terminator('\0').take(LISTED).map(str::to_owned).collect())
}

/// Makes a commit that a checkpoint has brought to the host fetchable after the run. None where the repository has it.
pub(crate) fn deliver(
    sandbox: &Sandbox,
    path: &str,
    repository: &Repository,
    record: &Record,
    sha: &str,
) -> Result<Option<Delivery>, Error> {
    for other in record.others() {
        if is_ancestor(sandbox, path, sha, other)? {
            streams::log(
                Level::Warn,
                &format!("HEAD went back to {sha}, which the repository has; there is nothing to deliver"),
            );
            return Ok(None);
        }
    }
    let delivery = repository.deliver(sha)?;
    streams::log(Level::Info, &format!("the work outlives the sandbox; have it with: {}", delivery.fetch));
    let event = serde_json::json!({
        "repo": record.repo, "sha": sha, "reference": delivery.reference, "fetch": delivery.fetch,
    });
    streams::event("delivery", &event.to_string());
    Ok(Some(delivery))
}
