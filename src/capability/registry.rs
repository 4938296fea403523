//! The registry: which repositories the operator works on, and how each is set up. Contacts none of them.

use super::{CapabilityError, Result};
use crate::step::ErrorKind;
use async_trait::async_trait;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Most repositories; a `for-each` takes no more items.
const REPOSITORIES_LIMIT: usize = 10_000;
/// Longest owner or name, in bytes, as on GitHub.
const NAME_LIMIT: usize = 100;
/// Longest URL, in bytes.
const URL_LIMIT: usize = 2048;
/// Longest name of a branch, in bytes.
const BRANCH_LIMIT: usize = 250;
/// Longest set-up, in bytes; `image/build` takes no more.
const SETUP_LIMIT: usize = 64 << 10;
/// Largest registry on disk, in bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// A registered repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// `OWNER/NAME`.
    pub full_name: String,
    /// An https URL or a local path; never holds a credential.
    pub url: String,
    /// The branch to work on; empty is the one that the remote's HEAD names.
    pub branch: String,
    /// Lines of shell that make a clone ready to work in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<String>,
}

/// Knows the registered repositories.
#[async_trait]
pub trait Registry: Send + Sync {
    /// All of them, in the order of their names.
    async fn list(&self) -> Result<Vec<Registered>>;
    /// Adds one, in place of one of the same name. `invalid` where a field makes no sense, `quota` where there are too
    /// many.
    async fn put(&self, repository: Registered) -> Result<()>;
    /// Forgets one. `not-found` where there is none of this name.
    async fn remove(&self, full_name: &str) -> Result<()>;
}

/// A registry in a file of the home, replaced whole at each change.
#[derive(Clone, Debug)]
pub struct FileRegistry {
    file: PathBuf,
    lock: PathBuf,
}

impl FileRegistry {
    /// The registry of a home; its file is made at the first change.
    pub fn new(home: &Path) -> Self {
        Self { file: home.join("repositories.json"), lock: home.join(".repositories.lock") }
    }

    fn read(&self) -> Result<BTreeMap<String, Registered>> {
        let failed = |error: &io::Error| {
            CapabilityError::io(format!("read the registry {}", self.file.display()), error)
        };
        let mut json = Vec::new();
        match fs::File::open(&self.file) {
            Ok(file) => file.take(FILE_LIMIT).read_to_end(&mut json).map_err(|error| failed(&error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(failed(&error)),
        };
        let all: Vec<Registered> = serde_json::from_slice(&json).map_err(|error| failed(&error.into()))?;
        Ok(all.into_iter().map(|one| (one.full_name.clone(), one)).collect())
    }

    /// Changes the registry while no other process does.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Registered>) -> Result<()>) -> Result<()> {
        let failed = |error: &io::Error| {
            CapabilityError::io(format!("change the registry {}", self.file.display()), error)
        };
        let lock =
            fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&self.lock);
        let lock = lock.map_err(|error| failed(&error))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(&errno.into()))?;
        let mut all = self.read()?;
        change(&mut all)?;
        let all: Vec<Registered> = all.into_values().collect();
        let json = serde_json::to_vec_pretty(&all).map_err(|error| failed(&error.into()))?;
        if all.len() > REPOSITORIES_LIMIT || json.len() as u64 >= FILE_LIMIT {
            return Err(CapabilityError::new(
                ErrorKind::QUOTA,
                format!(
                    "the registry has at most {REPOSITORIES_LIMIT} repositories and {} MiB",
                    FILE_LIMIT >> 20
                ),
            ));
        }
        write(&self.file, &json).map_err(|error| failed(&error))
    }
}

#[async_trait]
impl Registry for FileRegistry {
    async fn list(&self) -> Result<Vec<Registered>> {
        Ok(self.read()?.into_values().collect())
    }

    async fn put(&self, repository: Registered) -> Result<()> {
        check(&repository)?;
        self.change(|all| {
            all.insert(repository.full_name.clone(), repository);
            Ok(())
        })
    }

    async fn remove(&self, full_name: &str) -> Result<()> {
        self.change(|all| {
            all.remove(full_name).map(drop).ok_or_else(|| {
                let message = format!(
                    "no repository `{full_name}` is registered: `harvest repo list` shows those that are"
                );
                CapabilityError::new(ErrorKind::NOT_FOUND, message)
            })
        })
    }
}

/// Replaces a file whole, on disk before anyone sees it.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    // Whoever changes the registry holds its lock, so one name is enough.
    let temporary = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn check(repository: &Registered) -> Result<()> {
    let invalid = |message: String| Err(CapabilityError::new(ErrorKind::INVALID, message));
    let Registered { full_name, url, branch, setup } = repository;
    if !full_name.split_once('/').is_some_and(|(owner, name)| is_name(owner) && is_name(name)) {
        return invalid(format!(
            "`{full_name:.200}` is no OWNER/NAME: both begin with a letter or digit and have at most {NAME_LIMIT} of A-Z, a-z, 0-9 and `._-`"
        ));
    }
    let plain = |text: &str, limit: usize| text.len() <= limit && !text.chars().any(char::is_control);
    if url.is_empty() || !plain(url, URL_LIMIT) {
        return invalid(format!("the URL of {full_name} is 1 to {URL_LIMIT} printable characters"));
    }
    if let Ok(parsed) = reqwest::Url::parse(url)
        && (parsed.password().is_some() || !parsed.username().is_empty())
    {
        return invalid(format!(
            "the URL of {full_name} must not hold a credential: workflows bind one to the slot `token`"
        ));
    }
    if !plain(branch, BRANCH_LIMIT) || branch.contains(' ') || branch.starts_with('-') {
        return invalid(format!("`{branch:.300}` is no name of a branch"));
    }
    if setup.as_ref().is_some_and(|setup| setup.len() > SETUP_LIMIT || setup.contains('\0')) {
        return invalid(format!(
            "the set-up of {full_name} is text of at most {} KiB; keep a script in the repository",
            SETUP_LIMIT >> 10
        ));
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME_LIMIT
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(full_name: &str) -> Registered {
        let url = format!("https://example.com/{full_name}");
        Registered { full_name: full_name.into(), url, branch: "main".into(), setup: None }
    }

    #[tokio::test]
    async fn what_is_registered_stays_in_order_until_it_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let registry = FileRegistry::new(home.path());
        assert_eq!(registry.list().await.unwrap(), []);
        for name in ["b/b", "a/b", "a/B-1"] {
            registry.put(repository(name)).await.unwrap();
        }
        let changed = Registered { setup: Some("make".into()), ..repository("a/b") };
        registry.put(changed.clone()).await.unwrap();
        let again = FileRegistry::new(home.path());
        assert_eq!(again.list().await.unwrap(), [repository("a/B-1"), changed, repository("b/b")]);
        again.remove("a/b").await.unwrap();
        assert_eq!(registry.list().await.unwrap(), [repository("a/B-1"), repository("b/b")]);
        assert_eq!(registry.remove("a/b").await.unwrap_err().kind, ErrorKind::NOT_FOUND);
    }

    #[tokio::test]
    async fn changes_of_several_at_once_are_all_kept() {
        let home = tempfile::tempdir().unwrap();
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let registry = FileRegistry::new(home.path());
                std::thread::spawn(move || {
                    let name = format!("owner/n{number}");
                    futures_util::FutureExt::now_or_never(registry.put(repository(&name))).unwrap().unwrap();
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(FileRegistry::new(home.path()).list().await.unwrap().len(), 8);
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let registry = FileRegistry::new(home.path());
        let good = repository("a/b");
        for bad in [
            repository("a"),
            repository("a/b/c"),
            repository("../b"),
            repository("-a/b"),
            repository(&format!("a/{}", "b".repeat(NAME_LIMIT + 1))),
            Registered { url: String::new(), ..good.clone() },
            Registered { url: "https://u:password@example.com/a".into(), ..good.clone() },
            Registered { url: "a\nb".into(), ..good.clone() },
            Registered { branch: "-x".into(), ..good.clone() },
            Registered { setup: Some("x".repeat(SETUP_LIMIT + 1)), ..good.clone() },
        ] {
            let error = registry.put(bad.clone()).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::INVALID, "{bad:?}");
            assert!(!error.message.contains("password@"));
        }
        assert_eq!(registry.list().await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_damaged_file_is_no_empty_registry() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("repositories.json"), "[{").unwrap();
        let registry = FileRegistry::new(home.path());
        assert!(registry.list().await.unwrap_err().message.contains("repositories.json"));
        assert!(registry.put(repository("a/b")).await.is_err());
        assert_eq!(fs::read_to_string(home.path().join("repositories.json")).unwrap(), "[{");
    }
}
