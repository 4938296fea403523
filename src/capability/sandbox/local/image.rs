//! Images on disk: a manifest each, named by its content, and a table of names. Layers lie beside them.

use super::base;
use super::plan::Ids;
use super::store::{Store, open_lock, unique};
use crate::capability::sandbox::ImageInfo;
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use crate::step::ErrorKind;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Name of the image that is this machine's own userland.
pub(super) const HOST: &str = "host";
/// Longest name of an image, in characters.
const NAME_LIMIT: usize = 128;

/// What lies beneath the layers of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Root {
    /// The skeleton of a file tree, with this machine's own userland in it.
    #[default]
    Host,
    /// Nothing: the layers are a whole root file system.
    None,
}

impl Root {
    fn is_host(&self) -> bool {
        *self == Self::Host
    }
}

/// What a sandbox is made from. Equal manifests are one image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    #[serde(default, skip_serializing_if = "Root::is_host")]
    pub(super) root: Root,
    /// Names of layers, topmost first, without the base.
    pub(super) layers: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) workdir: Option<String>,
    pub(super) user: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) read_only: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    created_at: jiff::Timestamp,
    bytes: u64,
    manifest: Manifest,
}

impl Manifest {
    fn id(&self) -> Result<Digest> {
        Ok(Digest::of(&serde_json::to_vec(self).map_err(|error| failed("describe", &error.into()))?))
    }
}

fn failed(doing: &str, error: &io::Error) -> CapabilityError {
    CapabilityError::io(format!("{doing} an image"), error)
}

/// The images of a home.
#[derive(Clone, Debug)]
pub(super) struct Images {
    pub(super) store: Store,
    pub(super) ids: Ids,
}

impl Images {
    /// Directories of a manifest's layers with the base, topmost first.
    pub(super) fn lower(&self, manifest: &Manifest) -> Result<Vec<std::path::PathBuf>> {
        let mut lower: Vec<_> = manifest.layers.iter().map(|name| self.store.layers().join(name)).collect();
        if let Some(missing) = lower.iter().find(|layer| !layer.is_dir()) {
            return Err(CapabilityError::new(
                ErrorKind::NOT_FOUND,
                format!("layer {} of the image is gone; build the image again", missing.display()),
            ));
        }
        if manifest.root == Root::Host {
            lower.push(base::layer(&self.store, self.ids)?);
        }
        Ok(lower)
    }

    /// The id behind a name or an id.
    pub(super) fn find(&self, image: &str) -> Result<Option<String>> {
        if image == HOST {
            return Ok(Some(HOST.into()));
        }
        let id = match self.names()?.remove(image) {
            Some(id) => id,
            None => match Digest::parse(image) {
                Some(digest) => digest.to_string(),
                None => return Ok(None),
            },
        };
        Ok(self.path(&id).is_some_and(|path| path.is_file()).then_some(id))
    }

    /// The image behind a name or an id.
    pub(super) fn manifest(&self, image: &str) -> Result<Manifest> {
        Ok(self.dated(image)?.0)
    }

    /// The image behind a name or an id, and when it was made; `host` is always as old as it can be.
    pub(super) fn dated(&self, image: &str) -> Result<(Manifest, jiff::Timestamp)> {
        let missing = || {
            CapabilityError::new(
                ErrorKind::NOT_FOUND,
                format!(
                    "there is no image `{image}`; make it with `harvest image build`, `import` or `pull`, or use `{HOST}`"
                ),
            )
        };
        let id = self.find(image)?.ok_or_else(missing)?;
        if id == HOST {
            return Ok((Manifest::default(), jiff::Timestamp::UNIX_EPOCH));
        }
        let stored = self.load(&self.path(&id).ok_or_else(missing)?)?;
        Ok((stored.manifest, stored.created_at))
    }

    /// Saves a manifest whose layers are on disk. Returns its id and whether it was there before.
    pub(super) fn save(&self, manifest: Manifest) -> Result<(String, bool)> {
        let id = manifest.id()?;
        let path = self.store.images().join(format!("{}.json", id.hex()));
        if path.is_file() {
            return Ok((id.to_string(), true));
        }
        let bytes = manifest
            .layers
            .iter()
            .map(|layer| super::copy::disk_usage(&self.store.layers().join(layer)))
            .sum::<io::Result<u64>>()
            .map_err(|error| failed("measure", &error))?;
        let stored = Stored { created_at: jiff::Timestamp::now(), bytes, manifest };
        let json = serde_json::to_vec_pretty(&stored).map_err(|error| failed("describe", &error.into()))?;
        write_atomically(&path, &json).map_err(|error| failed("save", &error))?;
        Ok((id.to_string(), false))
    }

    /// Points a name at an image.
    pub(super) fn tag(&self, image: &str, name: &str) -> Result<()> {
        check_name(name)?;
        let _lock = self.lock_names()?;
        let id = self.find(image)?.ok_or_else(|| {
            CapabilityError::new(
                ErrorKind::NOT_FOUND,
                format!("there is no image `{image}` to name `{name}`"),
            )
        })?;
        let mut names = self.names()?;
        names.insert(name.into(), id);
        self.write_names(&names)
    }

    /// Takes a name away, and with the last one the image; an id goes with all its names. Returns the id of an image that
    /// is gone. Its layers stay for whoever else names them, until they are collected.
    pub(super) fn remove(&self, image: &str) -> Result<Option<String>> {
        if image == HOST {
            let message = format!("`{HOST}` is this machine itself and cannot be removed");
            return Err(CapabilityError::new(ErrorKind::INVALID, message));
        }
        let _lock = self.lock_names()?;
        let missing = || {
            let message = format!("there is no image `{image}`: `harvest image list` shows those there are");
            CapabilityError::new(ErrorKind::NOT_FOUND, message)
        };
        let mut names = self.names()?;
        let id = match names.remove(image) {
            Some(id) => id,
            None => self.find(image)?.ok_or_else(missing)?,
        };
        if Digest::parse(image).is_some() {
            names.retain(|_, to| *to != id);
        }
        // The names first: what a crash leaves is an image without one, never a name without an image.
        self.write_names(&names)?;
        if names.values().any(|to| *to == id) {
            return Ok(None);
        }
        let path = self.path(&id).ok_or_else(missing)?;
        match fs::remove_file(&path).and_then(|()| fs::File::open(self.store.images())?.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &error)),
            _ => Ok(Some(id)),
        }
    }

    fn lock_names(&self) -> Result<fs::File> {
        let lock = open_lock(&self.store.images().join(".names.lock"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|errno| failed("name", &errno.into()))?;
        Ok(lock)
    }

    fn write_names(&self, names: &BTreeMap<String, String>) -> Result<()> {
        let json = serde_json::to_vec_pretty(names).map_err(|error| failed("name", &error.into()))?;
        write_atomically(&self.store.images().join("names"), &json).map_err(|error| failed("name", &error))
    }

    /// All images, newest first.
    pub(super) fn list(&self) -> Result<Vec<ImageInfo>> {
        let names = self.names()?;
        let mut images = Vec::new();
        for file in super::store::names_in(&self.store.images())? {
            let Some(digest) = file.strip_suffix(".json").and_then(Digest::parse) else { continue };
            let stored = self.load(&self.store.images().join(&file))?;
            let id = digest.to_string();
            images.push(ImageInfo {
                names: names.iter().filter(|(_, to)| **to == id).map(|(name, _)| name.clone()).collect(),
                id,
                created_at: stored.created_at,
                layers: stored.manifest.layers.len(),
                bytes: stored.bytes,
            });
        }
        images.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(images)
    }

    fn names(&self) -> Result<BTreeMap<String, String>> {
        match fs::read(self.store.images().join("names")) {
            Ok(json) => serde_json::from_slice(&json).map_err(|error| failed("find", &error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(failed("find", &error)),
        }
    }

    fn path(&self, id: &str) -> Option<std::path::PathBuf> {
        Some(self.store.images().join(format!("{}.json", Digest::parse(id)?.hex())))
    }

    fn load(&self, path: &Path) -> Result<Stored> {
        fs::read(path)
            .and_then(|json| Ok(serde_json::from_slice(&json)?))
            .map_err(|error| CapabilityError::io(format!("read the image {}", path.display()), &error))
    }
}

/// Checks a name before it is kept. `host` and what looks like a digest would hide something else.
pub(super) fn check_name(name: &str) -> Result<()> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts
        && name.len() <= NAME_LIMIT
        && name.bytes().all(known)
        && name != HOST
        && Digest::parse(name).is_none()
    {
        return Ok(());
    }
    Err(CapabilityError::new(
        ErrorKind::INVALID,
        format!(
            "`{name}` cannot name an image: start with a letter or digit, then at most {} of A-Z, a-z, 0-9 and `._-/:@`; `{HOST}` is taken",
            NAME_LIMIT - 1
        ),
    ))
}

/// Replaces a file whole, on disk before anyone sees it.
pub(super) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::other("a file needs a directory"))?;
    let temporary = directory.join(unique(".writing"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(directory)?.sync_all()
}
