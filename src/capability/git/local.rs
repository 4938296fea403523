//! [`LocalGit`]: the git capability with the git of this machine.

use super::address::{Address, GITHUB, Location};
use super::api::Api;
use super::bare::{Bare, Origin};
use super::bundle::is_sha;
use super::command::{Finished, Git, GitCommand, LOCAL_TIME, NETWORK_TIME};
use super::reference::{self, Listing};
use super::view::View;
use super::{Answer, Delivery, Fetched, GitProvider, Method, Repository};
use crate::capability::sandbox::Sandbox;
use crate::capability::secret::Secret;
use crate::capability::{CapabilityError, Result};
use crate::id::RunId;
use crate::step::ErrorKind;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Age past which a temporary file is left over from a killed process.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// Largest bundle taken from a sandbox unless said otherwise, in bytes.
const LARGEST_BUNDLE: u64 = 1 << 30;
/// Deepest history that can be asked for, in commits.
const DEEPEST: u32 = 1_000_000;

/// Opens repositories with the git of this machine, and keeps its copies of them under one home.
#[derive(Clone, Debug)]
pub struct LocalGit {
    git: Arc<Git>,
    places: Arc<Places>,
    github: String,
}

/// Directories of the host's, all closed to other users.
#[derive(Debug)]
pub(super) struct Places {
    /// Bare copies.
    pub(super) copies: PathBuf,
    /// Files on their way.
    pub(super) scratch: PathBuf,
    /// What runs leave behind for people.
    pub(super) artifacts: PathBuf,
    /// Largest bundle taken from a sandbox, in bytes.
    pub(super) largest_bundle: u64,
}

impl LocalGit {
    /// Keeps its files under `home` (`git/` and `artifacts/`). Of `environment`, which is the process's own, it uses
    /// PATH, what says how servers are reached (`SSL_CERT_FILE`, `GIT_SSL_CAINFO`, `https_proxy` and their like, HOME
    /// to find the certificates and proxies of the user's git configuration), and `HARVEST_GITHUB_URL`, the base of
    /// `owner/name` in place of `https://github.com`.
    pub fn new(home: &Path, environment: BTreeMap<String, String>) -> Result<Self> {
        let copies = home.join("git");
        let places = Places {
            scratch: copies.join("tmp"),
            artifacts: home.join("artifacts"),
            largest_bundle: LARGEST_BUNDLE,
            copies: copies.clone(),
        };
        let empty = copies.join("home");
        for directory in [&places.scratch, &places.artifacts, &empty] {
            private_directory(directory)?;
        }
        sweep(&places.scratch);
        let github = environment.get("HARVEST_GITHUB_URL").cloned().unwrap_or_else(|| GITHUB.to_owned());
        Ok(Self { git: Arc::new(Git::new(environment, &empty)), places: Arc::new(places), github })
    }

    /// Takes bundles of at most `bytes` from sandboxes, in place of 1 GiB.
    pub fn with_largest_bundle(mut self, bytes: u64) -> Self {
        let old = &*self.places;
        self.places = Arc::new(Places {
            copies: old.copies.clone(),
            scratch: old.scratch.clone(),
            artifacts: old.artifacts.clone(),
            largest_bundle: bytes,
        });
        self
    }
}

/// Makes a directory that only this user can enter, with its parents.
pub(super) fn private_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o700)
        .recursive(true)
        .create(path)
        .map_err(|error| CapabilityError::io(format!("make {}", path.display()), &error))
}

/// Deletes what killed processes left in `scratch`.
fn sweep(scratch: &Path) {
    let Ok(entries) = fs::read_dir(scratch) else { return };
    for entry in entries.flatten() {
        let old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > STALE));
        if old {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

#[async_trait]
impl GitProvider for LocalGit {
    async fn open_for(
        &self,
        run: &RunId,
        first: &RunId,
        repo: &str,
        credential: Option<Secret>,
    ) -> Result<Arc<dyn Repository>> {
        // Runs name refs and directories here.
        let plain = |run: &RunId| {
            !run.as_str().is_empty() && run.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if !plain(run) || !plain(first) {
            return Err(CapabilityError::new(ErrorKind::INVALID, "the run's id is no ULID"));
        }
        if credential.as_ref().is_some_and(|secret| secret.expose().chars().any(char::is_control)) {
            return Err(CapabilityError::new(
                ErrorKind::INVALID,
                "the credential holds a line break or another control character; store it without",
            ));
        }
        let address = Address::parse(repo, &self.github)?;
        let bare =
            |shallow| Bare::new(self.git.clone(), &self.places.copies, &address.identity, shallow, first);
        Ok(Arc::new(LocalRepository {
            git: self.git.clone(),
            places: self.places.clone(),
            run: run.clone(),
            whole: bare(false),
            shallow: bare(true),
            // A token is for servers; a local repository needs none.
            credential: credential.filter(|_| matches!(address.location, Location::Remote { .. })),
            address,
        }))
    }
}

/// A repository that one run has opened.
#[derive(Debug)]
pub(super) struct LocalRepository {
    pub(super) git: Arc<Git>,
    pub(super) places: Arc<Places>,
    pub(super) run: RunId,
    pub(super) address: Address,
    credential: Option<Secret>,
    whole: Bare,
    shallow: Bare,
}

/// A ref of the remote that was found.
struct Found {
    /// What to ask the remote for: a full ref or a commit.
    wanted: String,
    fetched: Fetched,
}

impl LocalRepository {
    /// Runs `command` with this repository as its remote; `arguments` receives what to call it.
    async fn contact(
        &self,
        command: GitCommand,
        arguments: impl FnOnce(&str) -> Vec<String>,
    ) -> Result<Finished> {
        match &self.address.location {
            Location::Remote { url, origin } => {
                let command = command.args(arguments(url));
                self.git.online(command, origin, self.credential.as_ref()).run().await
            }
            Location::Local(path) => {
                let view = self.view(path).await?;
                let server = self
                    .git
                    .command(NETWORK_TIME)
                    .args(["upload-pack", "--strict"])
                    .args([view.directory()])
                    .owned_by(view.owner(), view.directory());
                transfer(server, command, arguments).await
            }
        }
    }

    /// Looks at the local repository at `path`.
    pub(super) async fn view(&self, path: &Path) -> Result<View> {
        let (path, scratch) = (path.to_owned(), self.places.scratch.clone());
        tokio::task::spawn_blocking(move || View::open(&path, &scratch))
            .await
            .map_err(|_| CapabilityError::new(ErrorKind::OTHER, "looking at the repository panicked"))?
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} {}", self.address.identity)
    }

    async fn list(&self, patterns: &[String]) -> Result<Listing> {
        if !self.whole.exists() {
            self.whole.lock().await?;
        }
        let command = self.whole.git(NETWORK_TIME);
        let finished = self
            .contact(command, |remote| {
                let mut args = vec!["ls-remote".to_owned(), "--symref".into(), "--".into(), remote.into()];
                args.extend_from_slice(patterns);
                args
            })
            .await?
            .success(&self.doing("reach"))?;
        Ok(Listing::parse(&finished.stdout))
    }

    async fn find(&self, name: Option<&str>) -> Result<Found> {
        let Some(name) = name else { return self.find_head().await };
        reference::check(name)?;
        if is_sha(name) {
            let fetched = Fetched { sha: name.to_owned(), branch: None };
            return Ok(Found { wanted: name.to_owned(), fetched });
        }
        let candidates: Vec<String> = if name.starts_with("refs/") {
            vec![name.to_owned()]
        } else {
            vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")]
        };
        let patterns: Vec<String> =
            candidates.iter().flat_map(|full| [full.clone(), format!("{full}^{{}}")]).collect();
        let listing = self.list(&patterns).await?;
        for full in candidates {
            if let Some(sha) = listing.get(&format!("{full}^{{}}")).or_else(|| listing.get(&full)) {
                let branch = full.strip_prefix("refs/heads/").map(str::to_owned);
                return Ok(Found { fetched: Fetched { sha: sha.to_owned(), branch }, wanted: full });
            }
        }
        Err(self.missing(name).await?)
    }

    async fn find_head(&self) -> Result<Found> {
        let listing = self.list(&["HEAD".to_owned()]).await?;
        let sha = listing.get("HEAD").ok_or_else(|| {
            CapabilityError::new(
                ErrorKind::NOT_FOUND,
                format!(
                    "{} has no commit that its HEAD leads to; make a first commit, or name a branch with ref:",
                    self.address.identity
                ),
            )
        })?;
        let branch = listing.head().map(str::to_owned);
        let wanted =
            branch.as_ref().map_or_else(|| "HEAD".to_owned(), |branch| format!("refs/heads/{branch}"));
        Ok(Found { wanted, fetched: Fetched { sha: sha.to_owned(), branch } })
    }

    /// The error for a ref that the remote does not have, with names that may have been meant.
    async fn missing(&self, name: &str) -> Result<CapabilityError> {
        let listing = self.list(&["refs/heads/*".to_owned()]).await?;
        let near = listing.nearest(name);
        let hint = if !near.is_empty() {
            format!("; did you mean {}?", near.join(", "))
        } else if listing.some().is_empty() {
            "; it has no branch at all".to_owned()
        } else {
            format!("; it has {} and others", listing.some().join(", "))
        };
        let short = if name.len() >= 7 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            " (a commit is named by all 40 of its digits, in lower case)"
        } else {
            ""
        };
        Ok(CapabilityError::new(
            ErrorKind::NOT_FOUND,
            format!("{} has no branch or tag {name:?}{short}{hint}", self.address.identity),
        ))
    }

    /// Fetches `wanted` into `bare` and returns its commit.
    async fn bring(&self, bare: &Bare, wanted: &str, depth: Option<u32>) -> Result<String> {
        let incoming = bare.incoming();
        let fetch = |refspec: String| {
            let depth = depth.map(|depth| format!("--depth={depth}"));
            self.contact(bare.git(NETWORK_TIME), move |remote| {
                let fixed = [
                    "fetch",
                    "--quiet",
                    "--no-tags",
                    "--no-write-fetch-head",
                    "--no-recurse-submodules",
                    "--force",
                ];
                let mut args: Vec<String> = fixed.iter().map(|arg| (*arg).to_owned()).collect();
                args.extend(depth);
                args.extend(["--".to_owned(), remote.to_owned(), refspec]);
                args
            })
        };
        let finished = fetch(format!("+{wanted}:{incoming}")).await?;
        if !finished.ok && is_sha(wanted) {
            // Some servers give only what their refs lead to: bring all branches, then look.
            let everything = fetch(format!("+refs/heads/*:{}heads/*", bare.prefix())).await?;
            everything.success(&self.doing("fetch"))?;
            return bare.commit(wanted).await?.ok_or_else(|| {
                CapabilityError::new(
                    ErrorKind::NOT_FOUND,
                    format!("{} has no commit {wanted} that its branches lead to", self.address.identity),
                )
            });
        }
        finished.success(&self.doing("fetch"))?;
        bare.commit(&incoming).await?.ok_or_else(|| {
            CapabilityError::new(
                ErrorKind::INVALID,
                format!("{wanted} of {} leads to no commit; name a branch", self.address.identity),
            )
        })
    }

    /// The copies that have been made, the whole one first.
    pub(super) fn copies(&self) -> impl Iterator<Item = &Bare> {
        [&self.whole, &self.shallow].into_iter().filter(|bare| bare.exists())
    }

    /// The copy with whole history.
    pub(super) fn whole(&self) -> &Bare {
        &self.whole
    }

    /// The copy in which this run has `sha` from one of `origins`, by itself or in the history of another commit.
    pub(super) async fn holding(&self, sha: &str, origins: &[Origin]) -> Result<&Bare> {
        for bare in self.copies() {
            for origin in origins {
                if bare.holds(*origin, sha).await? {
                    return Ok(bare);
                }
            }
        }
        for bare in self.copies() {
            for origin in origins {
                if bare.contains(*origin, sha).await? {
                    bare.keep(*origin, sha).await?;
                    return Ok(bare);
                }
            }
        }
        Err(CapabilityError::new(
            ErrorKind::NOT_FOUND,
            format!("this run has no commit {sha} of {}; fetch or receive it first", self.address.identity),
        ))
    }
}

/// Runs `client` against `server`, joined by a socket that no one else can reach.
pub(super) async fn transfer(
    server: GitCommand,
    client: GitCommand,
    arguments: impl FnOnce(&str) -> Vec<String>,
) -> Result<Finished> {
    let (ours, theirs) = UnixStream::pair().map_err(|error| CapabilityError::io("make a socket", &error))?;
    let server = server.serve(OwnedFd::from(theirs))?;
    let ours = OwnedFd::from(ours);
    let remote = format!("fd::{}", ours.as_raw_fd());
    let mut finished = client.args(arguments(&remote)).inherit(ours).run().await?;
    let words = server.words().await;
    if !finished.ok {
        finished.words = format!("{words}\n{}", finished.words);
    }
    Ok(finished)
}

#[async_trait]
impl Repository for LocalRepository {
    fn name(&self) -> &str {
        &self.address.name
    }

    fn identity(&self) -> &str {
        &self.address.identity
    }

    async fn resolve(&self, reference: Option<&str>) -> Result<Fetched> {
        Ok(self.find(reference).await?.fetched)
    }

    async fn fetch(&self, reference: Option<&str>, depth: Option<u32>) -> Result<Fetched> {
        if depth.is_some_and(|depth| !(1..=DEEPEST).contains(&depth)) {
            return Err(CapabilityError::new(ErrorKind::INVALID, format!("depth is 1 to {DEEPEST} commits")));
        }
        let found = self.find(reference).await?;
        let bare = if depth.is_some() { &self.shallow } else { &self.whole };
        let _lock = bare.lock().await?;
        let sha = self.bring(bare, &found.wanted, depth).await?;
        bare.keep(Origin::Fetched, &sha).await?;
        Ok(Fetched { sha, branch: found.fetched.branch })
    }

    async fn send(&self, sandbox: &dyn Sandbox, sha: &str, path: &str) -> Result<()> {
        self.send_bundle(sandbox, sha, path).await
    }

    async fn receive(&self, sandbox: &dyn Sandbox, path: &str) -> Result<String> {
        self.receive_bundle(sandbox, path).await
    }

    async fn push(&self, sha: &str, branch: &str) -> Result<()> {
        reference::check(branch)?;
        let bare = self.holding(sha, &[Origin::Received, Origin::Fetched]).await?;
        let target = format!("refs/heads/{branch}");
        match &self.address.location {
            Location::Local(path) => self.push_local(bare, path, sha, &target, false).await,
            Location::Remote { .. } => {
                let finished = self
                    .contact(bare.git(NETWORK_TIME), |remote| {
                        let refspec = format!("{sha}:{target}");
                        ["push", "--quiet", "--no-verify", "--no-signed", "--", remote, &refspec]
                            .map(str::to_owned)
                            .to_vec()
                    })
                    .await?;
                finished.success(&self.doing(&format!("push {branch} to")))?;
                Ok(())
            }
        }
    }

    async fn deliver(&self, sha: &str) -> Result<Delivery> {
        self.deliver_commit(sha).await
    }

    async fn api(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer> {
        let api = Api::of(&self.address)?;
        let Some(credential) = &self.credential else {
            return Err(CapabilityError::new(
                ErrorKind::DENIED,
                format!("the API of {} wants a token: secrets: {{token: NAME}}", self.address.identity),
            ));
        };
        api.ask(self.git.settings(), credential, method, path, body).await
    }
}

impl LocalRepository {
    /// Fetches a commit of this run from `bare` into the ref `target` of the local repository at `path`.
    pub(super) async fn push_local(
        &self,
        bare: &Bare,
        path: &Path,
        sha: &str,
        target: &str,
        force: bool,
    ) -> Result<()> {
        let view = self.view(path).await?;
        if view.checked_out(target)? {
            return Err(CapabilityError::new(
                ErrorKind::CONFLICT,
                format!("{} has {target} checked out; push to another branch", self.address.identity),
            ));
        }
        let source = bare.reference(Origin::Received, sha);
        let source = if bare.holds(Origin::Received, sha).await? {
            source
        } else {
            bare.reference(Origin::Fetched, sha)
        };
        // The repository's owner sees the refs of this run alone.
        let server = self
            .git
            .command(LOCAL_TIME)
            .config("transfer.hideRefs", "refs")
            .config("transfer.hideRefs", &format!("!{}", bare.prefix().trim_end_matches('/')))
            .args(["upload-pack", "--strict"])
            .args([bare.path()]);
        let client = self.git.on(view.directory(), LOCAL_TIME).owned_by(view.owner(), view.directory());
        let finished = transfer(server, client, |remote| {
            let refspec = format!("{}{source}:{target}", if force { "+" } else { "" });
            ["fetch", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--", remote, &refspec]
                .map(str::to_owned)
                .to_vec()
        })
        .await?;
        view.adopt()
            .map_err(|error| CapabilityError::io(self.doing("hand new files to the owner of"), &error))?;
        finished.success(&self.doing(&format!("write {target} into")))?;
        Ok(())
    }
}
