//! Images from elsewhere and for elsewhere: imported from files, pulled from registries, exported as OCI layouts.

mod archive;
mod document;
mod export;
mod layout;
mod login;
mod reference;
mod registry;
mod stream;
mod unpack;

use super::image::{Images, Manifest, Root, check_name};
use super::{LocalProvider, build::blocking};
use crate::capability::sandbox::{BuildLog, ImagePull};
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use crate::step::ErrorKind;
use archive::Limits;
use document::{Configuration, READ_ONLY_LABEL, Settings, parse_digest};
use futures_util::{StreamExt, TryStreamExt};
use layout::{Layout, Source};
use login::Found;
use reference::Reference;
use registry::Registry;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use stream::{Measured, broken, decompress};
use unpack::{OPAQUE_MARK, unpack};

/// Layers that are fetched at once: enough to hide the registry's pauses.
const FETCHES: usize = 3;

fn invalid(message: impl Into<String>) -> CapabilityError {
    CapabilityError::new(ErrorKind::INVALID, message)
}

fn too_large(message: impl Into<String>) -> CapabilityError {
    CapabilityError::new(ErrorKind::TOO_LARGE, message)
}

impl LocalProvider {
    /// Makes an image of a file or directory; `true` where it was there already.
    pub(super) async fn import(&self, source: &Path, name: &str, log: &BuildLog) -> Result<(String, bool)> {
        check_name(name)?;
        let (images, source, name, log) =
            (self.images.clone(), source.to_owned(), name.to_owned(), log.clone());
        blocking(move || {
            // Until the image is saved, nothing names its layers.
            let _hold = images.store.hold()?;
            let mut stack = Stack::new(&images, &log);
            let settings = match Source::open(&source)? {
                Source::RootFs(file) => {
                    stack.root_file_system(&file)?;
                    Settings::default()
                }
                Source::Image(layout) => stack.layout(&layout)?,
            };
            stack.save(settings, &name)
        })
        .await
    }

    /// Makes an image of one in a registry; `true` where it was there already.
    pub(super) async fn pull(
        &self,
        pull: &ImagePull,
        name: Option<&str>,
        log: &BuildLog,
    ) -> Result<(String, bool)> {
        let reference = Reference::parse(&pull.reference)?;
        let name = name.unwrap_or(&pull.reference).to_owned();
        check_name(&name)?;
        let found = match &pull.auth_file {
            Some(file) => login::find(file, &reference.registry)?,
            None => Found { login: None, elsewhere: false },
        };
        let registry = Registry::new(reference, found, pull.plain_http)?;
        let (config, layers) = registry.image().await?;
        let config = Configuration::parse(&config, layers.len())?;
        let diff_ids =
            config.rootfs.diff_ids.iter().map(|text| parse_digest(text)).collect::<Result<Vec<_>>>()?;
        let store = self.images.store.clone();
        // Until the image is saved, nothing may name its layers.
        let _hold = blocking(move || store.hold()).await?;
        let known = Stack::new(&self.images, log).known(&diff_ids);
        let (registry, count) = (&registry, layers.len());
        let fetches = layers.into_iter().enumerate().map(|(number, layer)| async move {
            if number < known {
                return Ok(None);
            }
            log(&format!("fetching layer {} of {count} ({} MiB)", number + 1, layer.size >> 20));
            registry.layer(&layer, self.scratch_file()?).await.map(Some)
        });
        let files: Vec<Option<File>> =
            futures_util::stream::iter(fetches).buffered(FETCHES).try_collect().await?;
        let (images, log) = (self.images.clone(), log.clone());
        blocking(move || {
            let mut stack = Stack::new(&images, &log);
            for (diff_id, file) in diff_ids.iter().zip(files) {
                // Its own digest was checked as it came in.
                stack.layer(diff_id, None, || match file {
                    Some(mut file) => {
                        file.rewind().map_err(|error| CapabilityError::io("read a layer", &error))?;
                        Ok(Box::new(file))
                    }
                    None => Err(CapabilityError::new(
                        ErrorKind::CONFLICT,
                        format!("layer {diff_id} went away meanwhile; pull the image again"),
                    )),
                })?;
            }
            stack.save(config.config.unwrap_or_default(), &name)
        })
        .await
    }

    /// Writes an image as an OCI layout.
    pub(super) async fn export(&self, image: &str, target: &Path, log: &BuildLog) -> Result<()> {
        let (images, image, target, log) =
            (self.images.clone(), image.to_owned(), target.to_owned(), log.clone());
        blocking(move || {
            let _hold = images.store.hold()?;
            export::export(&images, &image, &target, &log)
        })
        .await
    }

    /// A file without a name, which goes with whoever holds it.
    fn scratch_file(&self) -> Result<File> {
        let directory = self.images.store.layers();
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open(&directory, flags, Mode::from_raw_mode(0o600)).map(File::from).map_err(|errno| {
            CapabilityError::io(format!("make a file in {}", directory.display()), &errno.into())
        })
    }
}

/// Layers as they come to lie on each other.
struct Stack<'a> {
    images: &'a Images,
    log: &'a BuildLog,
    /// Names, topmost first.
    layers: Vec<String>,
    /// What the layers that are still to come may hold.
    limits: Limits,
}

impl<'a> Stack<'a> {
    fn new(images: &'a Images, log: &'a BuildLog) -> Self {
        Self { images, log, layers: Vec::new(), limits: Limits::default() }
    }

    /// How many of these layers, from the lowest on, are there already.
    fn known(mut self, diff_ids: &[Digest]) -> usize {
        diff_ids.iter().take_while(|diff_id| self.push_known(diff_id)).count()
    }

    /// Puts a layer on top where it is there already.
    fn push_known(&mut self, diff_id: &Digest) -> bool {
        let names = [plain_name(diff_id), self.leaning_name(diff_id)];
        let known = names.into_iter().find(|name| self.images.store.layers().join(name).is_dir());
        known.map(|name| self.layers.insert(0, name)).is_some()
    }

    /// The name of a layer that takes owners and permissions of directories from those below.
    fn leaning_name(&self, diff_id: &Digest) -> String {
        format!("{}-{}", plain_name(diff_id), &Digest::of(self.layers.join(" ").as_bytes()).hex()[..16])
    }

    /// Puts a layer on top, unpacking it where it is missing. `packed` are digest and size that its blob must have.
    fn layer<'b>(
        &mut self,
        diff_id: &Digest,
        packed: Option<&(Digest, u64)>,
        open: impl FnOnce() -> Result<Box<dyn Read + Send + 'b>>,
    ) -> Result<()> {
        if self.push_known(diff_id) {
            return Ok(());
        }
        (self.log)(&format!("unpacking layer {diff_id}"));
        self.unpack(open()?, Some(diff_id), packed, |_| Ok(()))
    }

    /// Puts all layers of a layout on top of each other.
    fn layout(&mut self, layout: &Layout) -> Result<Settings> {
        let parts = layout.image()?;
        let config = Configuration::parse(&parts.config, parts.layers.len())?;
        for (diff_id, layer) in config.rootfs.diff_ids.iter().zip(&parts.layers) {
            self.layer(&parse_digest(diff_id)?, layer.digest.as_ref(), || layout.blob(layer))?;
        }
        Ok(config.config.unwrap_or_default())
    }

    /// Puts the archive of a root file system at the bottom.
    fn root_file_system(&mut self, file: &File) -> Result<()> {
        (self.log)("unpacking the root file system");
        self.unpack(file, None, None, |root| {
            if root.join("oci-layout").is_file() && root.join("index.json").is_file() {
                return Err(invalid(
                    "this is a compressed OCI layout; unpack it (gunzip, unzstd) and import the plain tar",
                ));
            }
            Ok(())
        })
    }

    fn unpack(
        &mut self,
        source: impl Read,
        diff_id: Option<&Digest>,
        packed: Option<&(Digest, u64)>,
        inspect: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let store = &self.images.store;
        let below: Vec<PathBuf> = self.layers.iter().map(|name| store.layers().join(name)).collect();
        let mut size = 0;
        let layer = store.stage_layer(|directory| {
            let mut measured = Measured::new(source, self.limits.bytes, "the layer");
            let content = decompress(&mut measured).map_err(|error| broken("the layer", error))?;
            let unpacked = unpack(content, directory, &below, self.images.ids, &self.limits)?;
            let found = measured.finish().map_err(|error| broken("the layer", error))?;
            if packed.is_some_and(|packed| *packed != found)
                || diff_id.is_some_and(|diff_id| *diff_id != unpacked.digest)
            {
                let name = diff_id.map(ToString::to_string).unwrap_or_default();
                return Err(invalid(format!(
                    "layer {name} is not what its digest says: it is damaged or forged"
                )));
            }
            inspect(directory)?;
            if let Some(skipped) = unpacked.skipped {
                (self.log)(&skipped);
            }
            size = unpacked.size;
            let leans = unpacked.leans_on_layers_below;
            Ok(if leans { self.leaning_name(&unpacked.digest) } else { plain_name(&unpacked.digest) })
        })?;
        self.limits.bytes = self.limits.bytes.saturating_sub(size);
        self.layers.insert(0, layer);
        Ok(())
    }

    /// Names the stack an image.
    fn save(self, settings: Settings, name: &str) -> Result<(String, bool)> {
        let mut manifest = manifest(settings)?;
        for layer in self.layers {
            let path = self.images.store.layers().join(&layer);
            manifest.layers.push(layer);
            // The kernel does not look for the mark on the root of a layer.
            if is_opaque(&path)? {
                break;
            }
        }
        let saved = self.images.save(manifest)?;
        self.images.tag(&saved.0, name)?;
        Ok(saved)
    }
}

fn plain_name(diff_id: &Digest) -> String {
    format!("oci-{}", diff_id.hex())
}

fn is_opaque(layer: &Path) -> Result<bool> {
    let mut value = [0; 1];
    match rustix::fs::lgetxattr(layer, OPAQUE_MARK, &mut value) {
        Ok(_) => Ok(value == *b"y"),
        Err(rustix::io::Errno::NODATA) => Ok(false),
        Err(errno) => Err(CapabilityError::io(format!("read layer {}", layer.display()), &errno.into())),
    }
}

/// What an image says of itself, in our words, still without its layers.
fn manifest(settings: Settings) -> Result<Manifest> {
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let mut env = std::collections::BTreeMap::new();
    for variable in settings.env.unwrap_or_default() {
        // One without a value is taken away elsewhere, and is nothing here.
        if let Some((key, value)) = variable.split_once('=').filter(|(key, _)| !key.is_empty()) {
            env.insert(key.to_owned(), value.to_owned());
        }
    }
    let workdir =
        text(settings.working_dir).map(|path| if path.starts_with('/') { path } else { format!("/{path}") });
    let user = text(settings.user);
    let read_only = match settings.labels.unwrap_or_default().remove(READ_ONLY_LABEL) {
        Some(json) => serde_json::from_str::<Vec<String>>(&json)
            .ok()
            .filter(|paths| paths.iter().all(|path| path.starts_with('/')))
            .ok_or_else(|| {
                invalid(format!("label `{READ_ONLY_LABEL}` of the image is no list of absolute paths"))
            })?,
        None => Vec::new(),
    };
    let said =
        env.iter().flat_map(|(key, value)| [key, value]).chain(&workdir).chain(&user).chain(&read_only);
    if said.into_iter().any(|text| text.contains('\0')) {
        return Err(invalid("the image's configuration has a NUL in its environment, directory or user"));
    }
    Ok(Manifest { root: Root::None, env, workdir, user, read_only, ..Manifest::default() })
}

#[cfg(test)]
mod tests;
