//! Sending a branch to its remote: `git/push`. Nothing is ever forced, and what cannot be pushed is kept.

use crate::carry::{Carried, carry};
use crate::checkpoint::{self, Standing};
use crate::harvest::git::repositories::{self, Repository};
use crate::harvest::run::run;
use crate::harvest::streams::streams::{self, Level};
use crate::history::{ground, is_ancestor};
use crate::keep::deliver;
use crate::record::Record;
use crate::signed::sign;
use crate::tree::line;
use crate::{Error, Pushed, Sandbox, Secret, Strategy};

/// How often a branch that moves on is tried.
const ATTEMPTS: u32 = 3;

/// What to push where.
pub(crate) struct Options<'a> {
    /// The credential for the remote.
    pub(crate) token: Option<&'a Secret>,
    /// What to sign with.
    pub(crate) signing_key: Option<&'a Secret>,
    /// The branch.
    pub(crate) reference: Option<&'a str>,
    /// What to do where it has moved on.
    pub(crate) strategy: Strategy,
}

pub(crate) fn push(sandbox: &Sandbox, path: &str, options: &Options<'_>) -> Result<Pushed, Error> {
    let mut record = Record::load(sandbox, path)?;
    let branch = match options.reference {
        Some(name) => name.strip_prefix("refs/heads/").unwrap_or(name).to_owned(),
        None => line(
            sandbox,
            path,
            &["symbolic-ref", "--short", "HEAD"],
            "tell the branch checked out; name one with `ref`",
        )?,
    };
    let repository = repositories::open(&record.repo, options.token)?;
    for attempt in 1.. {
        if let Some(key) = options.signing_key {
            sign(sandbox, path, &record, key)?;
        }
        // All of it is at the host before anything is risked.
        let standing = checkpoint::take(sandbox, path, &repository, &mut record, None)?;
        if let Err(error) = fit(sandbox, path, &record, &standing) {
            return Err(keep(sandbox, path, &repository, &record, &standing, error));
        }
        let why = match repository.push(&standing.head, &branch) {
            Ok(()) => return Ok(Pushed { sha: standing.head, ref_: format!("refs/heads/{branch}") }),
            Err(Error::Conflict(why)) if matches!(options.strategy, Strategy::FetchRebase) => why,
            Err(error) => return Err(keep(sandbox, path, &repository, &record, &standing, error)),
        };
        if attempt == ATTEMPTS {
            let why = format!("{branch} moved on during each of {ATTEMPTS} tries: {why}");
            return Err(panic(sandbox, path, &repository, &record, &standing, why));
        }
        streams::log(Level::Info, &format!("{branch} has moved on ({why}); rebasing on it"));
        match carry(sandbox, path, &repository, &mut record, &branch, &standing) {
            Ok(Carried::Forward) => {}
            // It was refused for another reason, which a rebase does not change.
            Ok(Carried::Already) => {
                return Err(keep(sandbox, path, &repository, &record, &standing, Error::Conflict(why)));
            }
            Err(Error::Conflict(why)) => {
                return Err(panic(sandbox, path, &repository, &record, &standing, why));
            }
            Err(error) => return Err(keep(sandbox, path, &repository, &record, &standing, error)),
        }
    }
    unreachable!("the last attempt returns")
}

/// Refuses a HEAD that lacks commits of others beneath it, or has nothing beyond an old one of theirs.
fn fit(sandbox: &Sandbox, path: &str, record: &Record, standing: &Standing) -> Result<(), Error> {
    let head = &standing.head;
    if record.others().any(|other| other == head) || ground(sandbox, path, record, head)?.is_some() {
        return Ok(());
    }
    if is_ancestor(sandbox, path, head, &record.base)? {
        return Err(Error::Conflict(format!("HEAD went back to {head}; a push never takes commits away")));
    }
    Ok(())
}

/// The panic button: a branch of its own on the remote for all there is, and the error that says so.
fn panic(
    sandbox: &Sandbox,
    path: &str,
    repository: &Repository,
    record: &Record,
    standing: &Standing,
    why: String,
) -> Error {
    let branch = format!("harvest/panic-{}-{}", run::current().run, &standing.snapshot[..8]);
    match repository.push(&standing.snapshot, &branch) {
        Ok(()) => {
            let event = serde_json::json!({
                "repo": record.repo, "sha": standing.snapshot, "reference": format!("refs/heads/{branch}"),
            });
            streams::event("delivery", &event.to_string());
            Error::Conflict(format!("{why}; all of it is on branch {branch} of {}", repository.identity()))
        }
        Err(mut error) => {
            streams::log(Level::Warn, &format!("cannot push {branch}: {}", error.text()));
            keep(sandbox, path, repository, record, standing, Error::Conflict(why))
        }
    }
}

/// Makes the work fetchable after the run and adds to the error how.
fn keep(
    sandbox: &Sandbox,
    path: &str,
    repository: &Repository,
    record: &Record,
    standing: &Standing,
    error: Error,
) -> Error {
    let more = match deliver(sandbox, path, repository, record, &standing.snapshot) {
        Ok(Some(delivery)) => format!("; all of it is kept, have it with: {}", delivery.fetch),
        Ok(None) => return error,
        Err(mut why) => format!("; all of it is kept by the host, but not delivered: {}", why.text()),
    };
    error.with(&more)
}
