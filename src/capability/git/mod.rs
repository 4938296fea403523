//! Git over the network, on the host's side of the wall.
//!
//! Transfers go through a bare repository that the host owns, with a configuration of its own: remote to bare with the
//! credential, bare to sandbox and back as a bundle. The host never runs git in a tree or with a configuration that a
//! sandbox can write, and no credential enters a sandbox.

mod address;
mod api;
mod bare;
mod bundle;
mod command;
mod deliver;
mod exchange;
mod failure;
mod local;
mod reference;
mod settings;
mod signature;
mod view;

pub use local::LocalGit;
pub use signature::sign;

use super::Result;
use super::sandbox::Sandbox;
use super::secret::Secret;
use crate::id::RunId;
use async_trait::async_trait;
use std::sync::Arc;

/// What a fetch brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The commit.
    pub sha: String,
    /// The branch it was taken from; `None` where the ref named is a tag or a commit.
    pub branch: Option<String>,
}

/// How a commit can be had once the sandbox is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The ref that now holds it: `refs/heads/harvest/RUN`.
    pub reference: String,
    /// The one line that fetches it, for people.
    pub fetch: String,
}

/// How an API is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// To read.
    Get,
    /// To make something.
    Post,
}

/// What an API answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, errors included.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// A repository, by owner/name (GitHub), URL or local path, and the host's bare copy of it.
#[async_trait]
pub trait Repository: Send + Sync {
    /// Short name for directories: the last part, without `.git`, made of `[A-Za-z0-9._-]`.
    fn name(&self) -> &str;
    /// Full identity: `host/owner/name`, or the canonical path of a local one.
    fn identity(&self) -> &str;
    /// The remote's commit for a ref (its HEAD by default) without fetching it. `not-found` where it has none.
    async fn resolve(&self, reference: Option<&str>) -> Result<Fetched>;
    /// Fetches a ref (the remote's HEAD by default) into the bare repository.
    async fn fetch(&self, reference: Option<&str>, depth: Option<u32>) -> Result<Fetched>;
    /// Writes a bundle of a commit that this run fetched into the sandbox at `path`; inside it is
    /// `refs/heads/harvest-base`. Where history is cut, `path.shallow` lists the commits it is cut at, fit to be
    /// `.git/shallow`.
    async fn send(&self, sandbox: &dyn Sandbox, sha: &str, path: &str) -> Result<()>;
    /// Reads a bundle from the sandbox into the bare repository under `refs/harvest/RUN/...`, with fsck and size limits,
    /// and returns the commit it holds.
    async fn receive(&self, sandbox: &dyn Sandbox, path: &str) -> Result<String>;
    /// Pushes a received commit to a branch of the remote. Never forces: `conflict` where the remote has moved on.
    async fn push(&self, sha: &str, branch: &str) -> Result<()>;
    /// Makes a received commit fetchable after the run: a local repository gets branch `harvest/RUN` (never its
    /// checked-out branch), any other a bundle kept as an artifact of the run.
    async fn deliver(&self, sha: &str) -> Result<Delivery>;
    /// Asks the GitHub API of the repository, with its credential. `path` is what stands behind `/repos/OWNER/NAME`.
    /// `rate-limited` where it is asked too often; `invalid` where the repository lies on no such server.
    async fn api(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer>;
}

/// Opens repositories.
#[async_trait]
pub trait GitProvider: Send + Sync {
    /// Opens a repository for one run. Nothing is contacted yet. `invalid` says which forms are understood.
    async fn open(&self, run: &RunId, repo: &str, credential: Option<Secret>) -> Result<Arc<dyn Repository>> {
        self.open_for(run, run, repo, credential).await
    }
    /// Opens a repository for one run of a session: it has the commits that any run of the session has fetched or made.
    /// `first` is the run that began the session.
    async fn open_for(
        &self,
        run: &RunId,
        first: &RunId,
        repo: &str,
        credential: Option<Secret>,
    ) -> Result<Arc<dyn Repository>>;
}
