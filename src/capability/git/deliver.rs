//! Makes a commit outlive its run: as branch `harvest/RUN` of a local repository, else as a bundle for people to fetch.

use super::Delivery;
use super::address::Location;
use super::bare::{Bare, Origin};
use super::bundle::Header;
use super::command::{LOCAL_TIME, Sink};
use super::local::{LocalRepository, private_directory};
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use crate::step::ErrorKind;
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt as _;

/// Copies up to this size (in bytes) are bundled whole, so that the bundle can be fetched into an empty repository;
/// larger ones without the commits that the remote has.
const WHOLE: u64 = 64 << 20;
/// Largest bundle kept, in bytes.
const LARGEST: u64 = 4 << 30;

impl LocalRepository {
    /// See [`super::Repository::deliver`].
    pub(super) async fn deliver_commit(&self, sha: &str) -> Result<Delivery> {
        let bare = self.holding(sha, &[Origin::Received, Origin::Fetched]).await?;
        if let Location::Local(path) = &self.address.location {
            match self.deliver_branch(bare, path, sha).await {
                Ok(delivery) => return Ok(delivery),
                // The work must not be lost because a branch cannot be written; the bundle serves as well.
                Err(error) => tracing::warn!(%error, "no branch in the repository; keeping a bundle instead"),
            }
        }
        self.deliver_bundle(bare, sha).await
    }

    fn branch(&self) -> String {
        format!("harvest/{}", self.run)
    }

    async fn deliver_branch(&self, bare: &Bare, path: &Path, sha: &str) -> Result<Delivery> {
        let branch = self.branch();
        let reference = format!("refs/heads/{branch}");
        let delivery = Delivery {
            reference: reference.clone(),
            fetch: format!("git fetch {} {branch}", shell_word(&path.to_string_lossy())),
        };
        let _lock = bare.lock().await?;
        match self.present(path, &reference).await? {
            Some(present) if present == sha => return Ok(delivery),
            // The branch is this run's; but what a person has put on it since is theirs.
            Some(present) => {
                let own = bare.holds(Origin::Delivered, &present).await?;
                if !own && !bare.is_ancestor(&present, sha).await? {
                    return Err(CapabilityError::new(
                        ErrorKind::CONFLICT,
                        format!("{branch} of {} has commits that are not this run's", self.address.identity),
                    ));
                }
            }
            None => {}
        }
        self.push_local(bare, path, sha, &reference, true).await?;
        bare.keep(Origin::Delivered, sha).await?;
        Ok(delivery)
    }

    /// What a ref of the local repository holds.
    async fn present(&self, path: &Path, reference: &str) -> Result<Option<String>> {
        let view = self.view(path).await?;
        let finished = self
            .git
            .on(view.directory(), LOCAL_TIME)
            .owned_by(view.owner(), view.directory())
            .args(["rev-parse", "--verify", "--quiet", reference])
            .run()
            .await?;
        Ok(finished.ok.then(|| finished.stdout.trim().to_owned()))
    }

    async fn deliver_bundle(&self, bare: &Bare, sha: &str) -> Result<Delivery> {
        let branch = self.branch();
        let reference = format!("refs/heads/{branch}");
        let directory = self.places.artifacts.join(self.run.as_str());
        private_directory(&directory)?;
        // Two repositories of a run may share a short name.
        let digest = Digest::of(self.address.identity.as_bytes()).hex();
        let path = directory.join(format!("{}-{}.bundle", self.address.name, &digest[..8]));
        let _lock = bare.lock().await?;
        let mut needs = Vec::new();
        if bare.boundary().is_some() || bare.size().await? > WHOLE {
            for fetched in bare.all(Origin::Fetched).await? {
                if fetched != sha && bare.is_ancestor(&fetched, sha).await? {
                    needs.push(fetched);
                }
            }
        }
        let mut file =
            FileSink::create(directory.join(format!(".{}", ulid::Ulid::generate())), LARGEST).await?;
        file.take(Header::text(sha, &reference, &needs).as_bytes()).await?;
        let mut wanted = format!("{sha}\n");
        for need in &needs {
            wanted.push_str(&format!("^{need}\n"));
        }
        bare.git(LOCAL_TIME)
            .args(["pack-objects", "--quiet", "--revs", "--thin", "--stdout", "--delta-base-offset"])
            .input(wanted)
            .stream(&mut file)
            .await?
            .success("bundle the commit")?;
        file.keep(&path).await?;
        bare.keep(Origin::Delivered, sha).await?;
        Ok(Delivery {
            reference,
            fetch: format!("git fetch {} {branch}", shell_word(&path.to_string_lossy())),
        })
    }
}

/// A file being written; deleted unless kept.
pub(super) struct FileSink {
    file: tokio::fs::File,
    path: PathBuf,
    left: u64,
    limit: u64,
}

impl FileSink {
    /// A new file of at most `limit` bytes.
    pub(super) async fn create(path: PathBuf, limit: u64) -> Result<Self> {
        let file = tokio::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .await;
        let file = file.map_err(|error| CapabilityError::io(format!("make {}", path.display()), &error))?;
        Ok(Self { file, path, left: limit, limit })
    }

    /// Where it is until it is dropped.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Hands all that was taken to the system, so that other readers see it.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.file.flush().await.map_err(|error| CapabilityError::io("write a bundle", &error))
    }

    /// Syncs it and gives it its name.
    async fn keep(mut self, path: &Path) -> Result<()> {
        self.flush().await?;
        let done = async {
            self.file.sync_all().await?;
            tokio::fs::rename(&self.path, path).await
        };
        done.await.map_err(|error| CapabilityError::io(format!("write {}", path.display()), &error))
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            CapabilityError::new(
                ErrorKind::TOO_LARGE,
                format!("the bundle is larger than {} MiB; keep large files out of git", self.limit >> 20),
            )
        })?;
        self.file.write_all(bytes).await.map_err(|error| CapabilityError::io("write a bundle", &error))
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        // Once renamed there is nothing by this name.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A word for a POSIX shell, quoted where it must be.
fn shell_word(text: &str) -> String {
    let plain = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
