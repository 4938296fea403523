//! Images on disk: a manifest each, named by its content, and a table of names. Layers lie beside them.

use super::durable::{self, Background};
use super::plan::Ids;
use super::points::reach;
use super::store::{Store, open_lock, unique};
use super::{base, squash, stack};
use crate::capability::sandbox::{ImageInfo, ImageSpec};
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use crate::step::ErrorKind;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Name of the image that is this machine's own userland.
pub(in crate::capability::sandbox) const HOST: &str = "host";
/// Longest name of an image, in characters.
const NAME_LIMIT: usize = 128;

/// What lies beneath the layers of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::capability::sandbox) enum Root {
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
pub(in crate::capability::sandbox) struct Manifest {
    #[serde(default, skip_serializing_if = "Root::is_host")]
    pub(in crate::capability::sandbox) root: Root,
    /// Names of layers, topmost first, without the base.
    pub(in crate::capability::sandbox) layers: Vec<String>,
    pub(in crate::capability::sandbox) env: BTreeMap<String, String>,
    pub(in crate::capability::sandbox) workdir: Option<String>,
    pub(in crate::capability::sandbox) user: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::capability::sandbox) read_only: Vec<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Stored {
    created_at: jiff::Timestamp,
    /// Unknown for a snapshot: it is measured when nobody waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    pub(super) manifest: Manifest,
}

impl Manifest {
    /// Takes over environment, directory and user of an image definition.
    pub(in crate::capability::sandbox) fn apply(&mut self, spec: &ImageSpec) {
        self.env.extend(spec.env.clone());
        self.workdir = spec.workdir.clone().or(self.workdir.take());
        self.user = spec.user.clone().or(self.user.take());
    }

    /// Closes directories for writing.
    pub(in crate::capability::sandbox) fn close(&mut self, directories: &[String]) -> Result<()> {
        for directory in directories {
            if !directory.starts_with('/') || directory.trim_matches('/').is_empty() {
                let message = format!("`{directory}` cannot be read-only: give an absolute path below /");
                return Err(CapabilityError::new(ErrorKind::INVALID, message));
            }
            if !self.read_only.contains(directory) {
                self.read_only.push(directory.clone());
            }
        }
        Ok(())
    }

    fn id(&self) -> Result<Digest> {
        Ok(Digest::of(&serde_json::to_vec(self).map_err(|error| failed("describe", &error.into()))?))
    }
}

fn failed(doing: &str, error: &io::Error) -> CapabilityError {
    CapabilityError::io(format!("{doing} an image"), error)
}

/// How long the record of a new sandbox may not be on disk.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// The images of a home.
#[derive(Clone, Debug)]
pub(in crate::capability::sandbox) struct Images {
    pub(in crate::capability::sandbox) store: Store,
    pub(in crate::capability::sandbox) ids: Ids,
    /// What is done after a snapshot is in use.
    background: Arc<Background>,
}

impl Images {
    /// The images below a store. Those that a process left while they were being synced are settled in the background.
    pub(in crate::capability::sandbox) fn open(store: Store, ids: Ids) -> Result<Self> {
        let images = Self { store, ids, background: Arc::default() };
        for image in durable::recover(&images.store)? {
            if let Ok(Stored { manifest, .. }) = images.load(&image) {
                images.settle_later(image, manifest, images.disk()?, || ());
            }
        }
        Ok(images)
    }

    /// The file system that the layers are on.
    pub(super) fn disk(&self) -> Result<fs::File> {
        fs::File::open(self.store.layers()).map_err(|error| failed("sync", &error))
    }

    /// Names of the layers to use for a manifest, topmost first, without the base: those that it names, or where one is
    /// gone what they were squashed to.
    pub(super) fn layers(&self, manifest: &Manifest) -> Result<Vec<String>> {
        let missing = |layers: &[String]| {
            layers.iter().map(|name| self.store.layers().join(name)).find(|layer| !layer.is_dir())
        };
        let mut layers = manifest.layers.clone();
        if missing(&layers).is_some() {
            layers = squash::flat(&self.store, &layers);
        }
        match missing(&layers) {
            None => Ok(layers),
            Some(layer) => Err(CapabilityError::new(
                ErrorKind::NOT_FOUND,
                format!("layer {} of the image is gone; build the image again", layer.display()),
            )),
        }
    }

    /// Directories of a manifest's layers with the base, topmost first.
    pub(super) fn lower(&self, manifest: &Manifest) -> Result<Vec<PathBuf>> {
        let layers = self.layers(manifest)?;
        let mut lower: Vec<_> = layers.iter().map(|name| self.store.layers().join(name)).collect();
        if manifest.root == Root::Host {
            lower.push(base::layer(&self.store, self.ids)?);
        }
        Ok(lower)
    }

    /// The id behind a name or an id.
    pub(in crate::capability::sandbox) fn find(&self, image: &str) -> Result<Option<String>> {
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
        let path = self.path(&id).filter(|path| path.is_file());
        // An image that is asked for is one that is in use.
        path.iter().for_each(|path| drop(touch(path)));
        Ok(path.is_some().then_some(id))
    }

    /// The image behind a name or an id.
    pub(in crate::capability::sandbox) fn manifest(&self, image: &str) -> Result<Manifest> {
        Ok(self.dated(image)?.0)
    }

    /// The image behind a name or an id, and when it was made; `host` is always as old as it can be.
    pub(super) fn dated(&self, image: &str) -> Result<(Manifest, jiff::Timestamp)> {
        let missing = || missing(image);
        let id = self.find(image)?.ok_or_else(missing)?;
        if id == HOST {
            return Ok((Manifest::default(), jiff::Timestamp::UNIX_EPOCH));
        }
        let stored = self.load(&self.path(&id).ok_or_else(missing)?)?;
        Ok((stored.manifest, stored.created_at))
    }

    /// Saves a manifest whose layers are on disk. Returns its id and whether it was there before.
    pub(in crate::capability::sandbox) fn save(&self, manifest: Manifest) -> Result<(String, bool)> {
        let id = manifest.id()?;
        let path = self.file(&id);
        if path.is_file() {
            drop(touch(&path));
            return Ok((id.to_string(), true));
        }
        self.settle_below(&manifest)?;
        let layers = self.layers(&manifest)?;
        let bytes = layers
            .iter()
            .map(|layer| super::copy::disk_usage(&self.store.layers().join(layer)))
            .sum::<io::Result<u64>>()
            .map_err(|error| failed("measure", &error))?;
        let stored = Stored { created_at: jiff::Timestamp::now(), bytes: Some(bytes), manifest };
        let json = serde_json::to_vec_pretty(&stored).map_err(|error| failed("describe", &error.into()))?;
        write_atomically(&path, &json).map_err(|error| failed("save", &error))?;
        Ok((id.to_string(), false))
    }

    /// Saves a manifest whose layers may not be on disk, and waits for no disk. `disk` is what [`Images::disk`] returned
    /// before the layers were made, `then` is done once all is synced.
    pub(super) fn save_unsynced(
        &self,
        manifest: Manifest,
        disk: fs::File,
        then: impl FnOnce() + Send + 'static,
    ) -> Result<String> {
        let id = manifest.id()?;
        let path = self.file(&id);
        let stored = Stored { created_at: jiff::Timestamp::now(), bytes: None, manifest };
        let publish = |json: Vec<u8>| {
            replace(&path, &json, |file| {
                if durable::mark(file, self.store.boot()).is_err() {
                    // No mark can be kept here, so it must not be needed.
                    rustix::fs::syncfs(&disk)?;
                    file.sync_all()?;
                }
                reach("marked");
                Ok(())
            })
        };
        serde_json::to_vec_pretty(&stored)
            .map_err(io::Error::from)
            .and_then(publish)
            .map_err(|error| failed("save", &error))?;
        reach("published");
        self.settle_later(path, stored.manifest, disk, then);
        Ok(id.to_string())
    }

    fn settle_later(
        &self,
        image: PathBuf,
        manifest: Manifest,
        disk: fs::File,
        then: impl FnOnce() + Send + 'static,
    ) {
        let images = Self { background: Arc::default(), ..self.clone() };
        self.background.start("sandbox-sync", move |shared| {
            if let Err(error) = durable::settle(&images.store, &image, &manifest.layers, &disk) {
                tracing::warn!(image = %image.display(), "a snapshot could not be synced: {error}");
                return;
            }
            then();
            if squash::is_due(&squash::flat(&images.store, &manifest.layers))
                && let Ok(_turn) = shared.squashing.try_lock()
                && let Err(error) = squash::squash(&images, &manifest, &shared.stop)
            {
                tracing::warn!(image = %image.display(), "{error}");
            }
        });
    }

    /// Has the record of a new sandbox synced, and waits for nothing. Not at once: the kernel lets whoever makes files in the
    /// same directories wait for a sync, and many a sandbox is gone before.
    pub(super) fn settle_sandbox(&self, id: &str) {
        let (store, id) = (self.store.clone(), id.to_owned());
        self.background.start_later("sandbox-sync", SETTLE_AFTER, move || {
            if let Err(error) = stack::settle(&store, &id) {
                tracing::warn!(sandbox = id, "what it is made from could not be synced: {error}");
            }
        });
    }

    /// Syncs the snapshots that an image rests on, before something durable names them.
    fn settle_below(&self, manifest: &Manifest) -> Result<()> {
        for (path, stored) in self.unsettled()? {
            if stored.manifest.layers.iter().any(|layer| manifest.layers.contains(layer)) {
                durable::settle(&self.store, &path, &stored.manifest.layers, &self.disk()?)
                    .map_err(|error| failed("sync", &error))?;
            }
        }
        Ok(())
    }

    /// Snapshots that are not yet known to be on disk.
    pub(super) fn unsettled(&self) -> Result<Vec<(PathBuf, Stored)>> {
        let files = super::store::names_in(&self.store.images())?;
        let paths = files.iter().map(|file| self.store.images().join(file));
        let marked = paths.filter(|path| !durable::is_durable(path));
        Ok(marked
            .filter_map(|path| Some((self.load(&path).ok()?, path)))
            .map(|(s, path)| (path, s))
            .collect())
    }

    /// Points a name at an image.
    pub(in crate::capability::sandbox) fn tag(&self, image: &str, name: &str) -> Result<()> {
        check_name(name)?;
        let _hold = self.store.hold()?;
        let _lock = self.lock_names()?;
        let id = self.find(image)?.ok_or_else(|| {
            CapabilityError::new(
                ErrorKind::NOT_FOUND,
                format!("there is no image `{image}` to name `{name}`"),
            )
        })?;
        if let Some(path) = self.path(&id).filter(|path| path.is_file()) {
            // What has a name does not vanish with the power.
            let layers = self.load(&path)?.manifest.layers;
            durable::settle(&self.store, &path, &layers, &self.disk()?)
                .map_err(|error| failed("sync", &error))?;
        }
        let mut names = self.names()?;
        names.insert(name.into(), id);
        self.write_names(&names)
    }

    /// Takes a name away, and with the last one the image; an id goes with all its names. Returns the id of an image that
    /// is gone. Its layers stay for whoever else names them, until they are collected.
    pub(in crate::capability::sandbox) fn remove(&self, image: &str) -> Result<Option<String>> {
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
    pub(in crate::capability::sandbox) fn list(&self) -> Result<Vec<ImageInfo>> {
        let names = self.names()?;
        let mut images = Vec::new();
        for file in super::store::names_in(&self.store.images())? {
            let Some(digest) = file.strip_suffix(".json").and_then(Digest::parse) else { continue };
            let path = self.store.images().join(&file);
            let stored = match self.load(&path) {
                // Removed meanwhile.
                Err(error) if error.kind == ErrorKind::NOT_FOUND => continue,
                stored => stored?,
            };
            let bytes = stored.bytes.or_else(|| durable::measured(&path)).unwrap_or_else(|| {
                let layers = stored.manifest.layers.iter().map(|layer| self.store.layers().join(layer));
                layers.filter_map(|layer| super::copy::disk_usage(&layer).ok()).sum()
            });
            let id = digest.to_string();
            images.push(ImageInfo {
                names: names.iter().filter(|(_, to)| **to == id).map(|(name, _)| name.clone()).collect(),
                id,
                created_at: stored.created_at,
                layers: stored.manifest.layers.len(),
                bytes,
                durable: durable::is_durable(&path),
            });
        }
        images.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(images)
    }

    /// The table of names.
    pub(super) fn names(&self) -> Result<BTreeMap<String, String>> {
        match fs::read(self.store.images().join("names")) {
            Ok(json) => serde_json::from_slice(&json).map_err(|error| failed("find", &error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(failed("find", &error)),
        }
    }

    pub(super) fn path(&self, id: &str) -> Option<PathBuf> {
        Some(self.file(&Digest::parse(id)?))
    }

    fn file(&self, id: &Digest) -> PathBuf {
        self.store.images().join(format!("{}.json", id.hex()))
    }

    pub(super) fn load(&self, path: &Path) -> Result<Stored> {
        fs::read(path)
            .and_then(|json| Ok(serde_json::from_slice(&json)?))
            .map_err(|error| CapabilityError::io(format!("read the image {}", path.display()), &error))
    }
}

/// Says what to do where there is no such image.
pub(in crate::capability::sandbox) fn missing(image: &str) -> CapabilityError {
    CapabilityError::new(
        ErrorKind::NOT_FOUND,
        format!(
            "there is no image `{image}`; make it with `harvest image build`, `import` or `pull`, or use `{HOST}`"
        ),
    )
}

/// Checks a name before it is kept. `host` and what looks like a digest would hide something else.
pub(in crate::capability::sandbox) fn check_name(name: &str) -> Result<()> {
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

/// Notes that an image is used now.
fn touch(image: &Path) -> io::Result<()> {
    fs::File::open(image)?.set_modified(std::time::SystemTime::now())
}

/// Replaces a file whole, on disk before anyone sees it.
pub(super) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, fs::File::sync_all)?;
    fs::File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// Replaces a file whole. After a loss of power it may be the old one, or empty.
pub(super) fn write_unsynced(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, |_| Ok(()))
}

fn replace(path: &Path, content: &[u8], finish: impl Fn(&fs::File) -> io::Result<()>) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::other("a file needs a directory"))?;
    let temporary = directory.join(unique(".writing"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(content)?;
    finish(&file)?;
    fs::rename(&temporary, path)
}
