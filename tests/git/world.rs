//! The home of a host, and repositories to work on.

pub(crate) use crate::harness::https::Server;
pub(crate) use crate::harness::repository::{git, sample};
use harvest::capability::git::{GitProvider as _, LocalGit, Repository};
use harvest::capability::secret::Secret;
use harvest::id::RunId;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The host's side: a home, a run, and a provider on it.
pub(crate) struct Host {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) run: RunId,
    pub(crate) provider: LocalGit,
}

impl Host {
    pub(crate) fn new(environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut all = BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]);
        all.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let provider = LocalGit::new(&directory.path().join("home"), all).unwrap();
        Self { provider, run: RunId::generate(), directory }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// A path beside the home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    pub(crate) async fn open(&self, repo: &str) -> Arc<dyn Repository> {
        self.provider.open(&self.run, repo, None).await.unwrap()
    }

    pub(crate) async fn open_with(&self, repo: &str, token: &str) -> Arc<dyn Repository> {
        self.provider.open(&self.run, repo, Some(Secret::new("token", token))).await.unwrap()
    }
}

/// Every file below `directory` that holds `text`.
pub(crate) fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(text.len()).any(|window| window == text.as_bytes())
        {
            found.push(path);
        }
    }
    found
}
