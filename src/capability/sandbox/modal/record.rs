//! What this home knows of a sandbox, written before Modal is asked for anything, so that no crash makes a second one.

use super::super::SandboxSpec;
use super::super::local::{Manifest, Store};
use crate::capability::modal::Key;
use crate::capability::{CapabilityError, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Longest name of a sandbox on Modal, in characters.
const NAME_LIMIT: usize = 64;

/// A sandbox as its home has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What it was first opened as.
    pub(super) spec: SandboxSpec,
    /// What it was first made from.
    pub(super) manifest: Manifest,
    /// How many sandboxes of Modal it has been, from 1.
    pub(super) generation: u64,
    /// Modal's image that this generation begins with.
    pub(super) image: String,
    /// Modal's sandbox of this generation, once it is known.
    pub(super) sandbox: Option<String>,
    /// Whether `image` holds its files, and not only what it was made from.
    #[serde(default)]
    pub(super) suspended: bool,
    /// Modal's sandbox of the generation before, where it is not known to have ended.
    #[serde(default)]
    pub(super) leaving: Option<String>,
}

impl Record {
    /// The name on Modal: the same for all generations, of which one runs at a time.
    pub(super) fn name(scope: &str, id: &str) -> String {
        let hash: String = Key::of(&[scope, id]).as_str().chars().filter(|c| *c != '-').take(16).collect();
        let room = NAME_LIMIT - hash.len() - 1;
        format!("{}-{hash}", &id[..id.len().min(room)])
    }

    /// The key under which this generation is created, however often that is asked for.
    pub(super) fn key(&self, scope: &str, id: &str) -> Key {
        Key::of(&["sandbox", scope, id, &self.generation.to_string()])
    }

    fn path(store: &Store, id: &str) -> PathBuf {
        store.sandbox(id).join("modal.json")
    }

    /// What is known of a sandbox, `None` where there is none.
    pub(super) fn read(store: &Store, id: &str) -> Result<Option<Self>> {
        let path = Self::path(store, id);
        let failed = |error: io::Error| CapabilityError::io(format!("read {}", path.display()), &error);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Notes it; on disk when this returns.
    pub(super) fn write(&self, store: &Store, id: &str) -> Result<()> {
        let path = Self::path(store, id);
        serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .and_then(|json| replace(&path, &json))
            .map_err(|error| CapabilityError::io(format!("note what sandbox {id} is"), &error))
    }
}

/// Writes a file whole, synced, with its directory.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::other("a file has a directory"))?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ_between_homes_and_ids() {
        let long = "x".repeat(100);
        let names =
            ["a", "run-1-main", &long, &format!("{}y", "x".repeat(99))].map(|id| Record::name("scope", id));
        assert!(names.iter().all(|name| name.len() <= NAME_LIMIT), "{names:?}");
        assert_ne!(names[2], names[3]);
        assert_ne!(Record::name("scope", "a"), Record::name("other", "a"));
        assert!(names[1].starts_with("run-1-main-"), "{}", names[1]);
    }
}
