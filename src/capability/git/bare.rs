//! The host's own bare copy of a repository: a cache shared by all runs on it, with refs for each run.
//!
//! A copy with cut history is kept apart from the whole one, since where history ends holds for a whole copy. A run
//! reads only what it has fetched or made itself: the cache must not hand one run what another's credential brought.

use super::bundle::is_sha;
use super::command::{Finished, Git, GitCommand, LOCAL_TIME};
use crate::capability::{CapabilityError, Result};
use crate::id::{Digest, RunId};
use crate::step::ErrorKind;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for other runs on the same repository.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How often to look whether they are done.
const LOOK: Duration = Duration::from_millis(20);

/// Why a commit is in the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It came from the remote.
    Fetched,
    /// A sandbox made it.
    Received,
    /// It was put where it outlives the run.
    Delivered,
}

impl Origin {
    fn word(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Received => "received",
            Self::Delivered => "delivered",
        }
    }
}

/// One bare copy, for one run.
#[derive(Clone, Debug)]
pub(super) struct Bare {
    git: Arc<Git>,
    path: PathBuf,
    run: RunId,
}

/// Keeps other writers off a copy until dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Bare {
    /// The copy of `identity` under `directory`.
    pub(super) fn new(git: Arc<Git>, directory: &Path, identity: &str, shallow: bool, run: &RunId) -> Self {
        let digest = Digest::of(identity.as_bytes()).hex();
        let suffix = if shallow { "-shallow" } else { "" };
        Self { git, path: directory.join(format!("{digest}{suffix}.git")), run: run.clone() }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it has been made.
    pub(super) fn exists(&self) -> bool {
        self.path.join("HEAD").exists()
    }

    /// A command on it.
    pub(super) fn git(&self, time: Duration) -> GitCommand {
        self.git.on(&self.path, time)
    }

    async fn run<const N: usize>(&self, args: [&str; N]) -> Result<Finished> {
        self.git(LOCAL_TIME).args(args).run().await
    }

    /// Waits for other writers, makes the copy where it is missing, and clears what a killed one left behind.
    pub(super) async fn lock(&self) -> Result<Lock> {
        let path = self.path.with_extension("lock");
        let broken = |error: &std::io::Error| CapabilityError::io(format!("lock {}", path.display()), error);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| broken(&error))?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(CapabilityError::new(
                        ErrorKind::TIMED_OUT,
                        "other runs kept the host's copy of the repository busy for 30 minutes",
                    ));
                }
                Err(TryLockError::Error(error)) => return Err(broken(&error)),
            }
        }
        if self.exists() {
            for name in ["shallow.lock", "packed-refs.lock", "config.lock"] {
                let _ = fs::remove_file(self.path.join(name));
            }
            remove_locks(&self.path.join("refs/harvest").join(self.run.as_str()));
        } else {
            let _ = fs::remove_dir_all(&self.path);
            self.git
                .command(LOCAL_TIME)
                .args(["init", "--quiet", "--bare", "--template=", "--object-format=sha1"])
                .args([&self.path])
                .run()
                .await?
                .success("make the host's copy of the repository")?;
        }
        Ok(Lock { _file: file })
    }

    /// The ref of this run for a commit.
    pub(super) fn reference(&self, origin: Origin, sha: &str) -> String {
        format!("refs/harvest/{}/{}/{sha}", self.run, origin.word())
    }

    /// A ref of this run for something on its way in.
    pub(super) fn incoming(&self) -> String {
        format!("refs/harvest/{}/incoming", self.run)
    }

    /// The prefix of this run's refs.
    pub(super) fn prefix(&self) -> String {
        format!("refs/harvest/{}/", self.run)
    }

    /// Remembers a commit.
    pub(super) async fn keep(&self, origin: Origin, sha: &str) -> Result<()> {
        let reference = self.reference(origin, sha);
        self.run(["update-ref", &reference, sha]).await?.success("keep a commit in the host's copy")?;
        Ok(())
    }

    /// Whether this run has the commit from `origin`.
    pub(super) async fn holds(&self, origin: Origin, sha: &str) -> Result<bool> {
        if !is_sha(sha) || !self.exists() {
            return Ok(false);
        }
        Ok(self.run(["rev-parse", "--verify", "--quiet", &self.reference(origin, sha)]).await?.ok)
    }

    /// Whether a commit that this run has from `origin` is `sha` or has it in its history.
    pub(super) async fn contains(&self, origin: Origin, sha: &str) -> Result<bool> {
        if !is_sha(sha) || !self.exists() {
            return Ok(false);
        }
        let (contains, prefix) =
            (format!("--contains={sha}"), format!("{}{}/", self.prefix(), origin.word()));
        // A commit that the copy lacks is an error to git, and contained in nothing.
        let finished = self.run(["for-each-ref", "--count=1", &contains, &prefix]).await?;
        Ok(finished.ok && !finished.stdout.is_empty())
    }

    /// The commit that a name of the copy leads to.
    pub(super) async fn commit(&self, name: &str) -> Result<Option<String>> {
        let name = format!("{name}^{{commit}}");
        let finished = self.run(["rev-parse", "--verify", "--quiet", "--end-of-options", &name]).await?;
        // With --end-of-options some versions print the option too; the name is the last line.
        Ok(finished.stdout.lines().last().filter(|line| finished.ok && is_sha(line)).map(str::to_owned))
    }

    /// Commits of this run from `origin`.
    pub(super) async fn all(&self, origin: Origin) -> Result<Vec<String>> {
        let prefix = format!("{}{}/", self.prefix(), origin.word());
        let finished = self.run(["for-each-ref", "--format=%(objectname)", &prefix]).await?;
        Ok(finished.stdout.lines().filter(|line| is_sha(line)).map(str::to_owned).collect())
    }

    /// Whether one commit is in the history of another.
    pub(super) async fn is_ancestor(&self, older: &str, newer: &str) -> Result<bool> {
        Ok(self.run(["merge-base", "--is-ancestor", older, newer]).await?.ok)
    }

    /// Where history is cut, as lines of commits; none where it is whole.
    pub(super) fn boundary(&self) -> Option<String> {
        fs::read_to_string(self.path.join("shallow")).ok().filter(|text| !text.is_empty())
    }

    /// Bytes of its packs and loose objects.
    pub(super) async fn size(&self) -> Result<u64> {
        let finished = self.run(["count-objects", "-v"]).await?;
        let kib = finished
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("size: ").or_else(|| line.strip_prefix("size-pack: ")))
            .filter_map(|number| number.parse::<u64>().ok())
            .sum::<u64>();
        Ok(kib << 10)
    }
}

/// Deletes ref locks below `directory`; the caller holds the copy's own lock, so their makers are gone.
fn remove_locks(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            remove_locks(&path);
        } else if path.extension().is_some_and(|extension| extension == "lock") {
            let _ = fs::remove_file(path);
        }
    }
}
