//! Images of an engine: layers are committed containers, named as local layers are, each with the id of the engine's image
//! in a file of its own. An equal step is never done twice, nor by two processes at once.

use super::super::local::shared::{
    COMMAND_LIMIT, ENGINE, HOST, Root, blocking, check, check_name, copy_key, follow, layer, missing,
    sources, too_long,
};
use super::super::local::{Lock, Manifest};
use super::super::{BuildLog, ImageSpec, Network, SandboxSpec, archive};
use super::{Inner, engine};
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use crate::step::ErrorKind;
use bollard::body_try_stream;
use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, CreateImageOptions, ListImagesOptions,
    RemoveImageOptions, TagImageOptions, UploadToContainerOptions,
};
use futures_util::StreamExt;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::Path;

/// Bytes of an archive sent at a time.
const PIECE: usize = 256 << 10;
/// File of a layer that holds the id of the engine's image.
const IMAGE: &str = "image";

impl Inner {
    /// Builds an image; `true` where every part of it was there already.
    pub(super) async fn build(
        &self,
        spec: &ImageSpec,
        name: Option<&str>,
        log: &BuildLog,
    ) -> Result<(String, bool)> {
        check(spec, name)?;
        let _hold = self.hold().await?;
        let base = if spec.base.is_empty() { HOST } else { &spec.base };
        let mut manifest = self.manifest(base).await?;
        manifest.apply(spec);
        let mut cached = true;
        if !spec.copy.is_empty() {
            cached &= self.copy_layer(&mut manifest, &spec.copy, log).await?;
        }
        for command in &spec.commands {
            cached &= self.command_layer(&mut manifest, command, log).await?;
        }
        // Only now: the commands may still write there.
        manifest.close(&spec.read_only)?;
        let (id, known) = self.images.save(manifest)?;
        if let Some(name) = name {
            self.images.tag(&id, name)?;
        }
        Ok((id, cached && known))
    }

    async fn copy_layer(
        &self,
        manifest: &mut Manifest,
        copies: &BTreeMap<String, String>,
        log: &BuildLog,
    ) -> Result<bool> {
        let parent = self.engine_image(manifest).await?;
        let copies = sources(copies, manifest.root)?;
        let failed = |error: io::Error| CapabilityError::io("copy files of the host into an image", &error);
        let key = {
            let (parent, copies) = (parent.clone(), copies.clone());
            blocking(move || copy_key(&parent, &copies).map_err(failed)).await?
        };
        let layer = format!("copy-{key}");
        let id = format!(".build-{key}");
        let lock = self.images.store.wait_for(&id).await?;
        let cached = self.recorded(&layer)?.is_some();
        if !cached {
            self.drop_container(&id).await?;
            let body = ContainerCreateBody {
                image: Some(parent),
                entrypoint: Some(vec!["/never-started".into()]),
                ..ContainerCreateBody::default()
            };
            let options =
                CreateContainerOptions { name: Some(self.name(&id)), ..CreateContainerOptions::default() };
            let doing = "copy files of the host into an image";
            self.engine
                .create_container(Some(options), body)
                .await
                .map_err(|error| engine::failed(doing, &error))?;
            let archive = blocking(move || {
                written(|archive| {
                    copies
                        .iter()
                        .try_for_each(|(target, source)| archive::add(archive, source, Path::new(target)))
                })
                .map_err(failed)
            })
            .await?;
            let options =
                UploadToContainerOptions { path: "/".into(), ..UploadToContainerOptions::default() };
            let sent = self
                .engine
                .upload_to_container(&self.name(&id), Some(options), body_try_stream(sent(archive)))
                .await;
            let made = match sent {
                Ok(()) => self.commit(&id, &layer).await.map(drop),
                Err(error) => Err(engine::failed(doing, &error)),
            };
            self.discard(&id, lock).await?;
            made?;
        } else {
            self.discard(&id, lock).await?;
        }
        log(if cached { "files to copy are unchanged" } else { "copied files of the host" });
        manifest.layers.insert(0, layer);
        Ok(cached)
    }

    async fn command_layer(&self, manifest: &mut Manifest, command: &str, log: &BuildLog) -> Result<bool> {
        let parent = self.engine_image(manifest).await?;
        let key = (parent, command, &manifest.env, &manifest.user, &manifest.workdir);
        let key = serde_json::to_vec(&key)
            .map_err(|error| CapabilityError::io("describe a command of an image", &error.into()))?;
        let key = &Digest::of(&key).hex()[..40];
        let layer = format!("run-{key}");
        let id = format!(".build-{key}");
        // Whoever builds the same layer waits here, and then finds it.
        let lock = self.images.store.wait_for(&id).await?;
        let cached = self.recorded(&layer)?.is_some();
        if cached {
            log(&format!("$ {command} (cached)"));
            self.discard(&id, lock).await?;
        } else {
            log(&format!("$ {command}"));
            self.run_command(key, lock, manifest, command, log).await?;
        }
        manifest.layers.insert(0, layer);
        Ok(cached)
    }

    /// Runs a command in a fresh container and makes what it changed a layer.
    async fn run_command(
        &self,
        key: &str,
        lock: Lock,
        manifest: &Manifest,
        command: &str,
        log: &BuildLog,
    ) -> Result<()> {
        let id = &format!(".build-{key}");
        let failed = |error: io::Error| CapabilityError::io("build an image", &error);
        let keep = lock.share().map_err(failed)?;
        // What an earlier build left when it was interrupted.
        self.drop_container(id).await?;
        let spec = SandboxSpec { id: id.clone(), network: Network::Host, ..SandboxSpec::default() };
        let result = async {
            let guest = self.start(&spec, manifest, lock).await?;
            let followed = tokio::time::timeout(COMMAND_LIMIT, follow(&guest, command, log)).await;
            guest.end().await?;
            let followed = followed.unwrap_or_else(|_| Err(too_long(command)));
            followed?;
            self.commit(id, &format!("run-{key}")).await.map(drop)
        };
        let result = result.await;
        self.discard(id, keep).await?;
        result
    }

    /// Makes what a container changed a layer of this name, on top of what it was made from, and returns the engine's id.
    pub(super) async fn commit(&self, id: &str, layer: &str) -> Result<String> {
        let options = CommitContainerOptions {
            container: Some(self.name(id)),
            // With a name, no clean-up of the engine takes it for left over.
            repo: Some(self.scope.clone()),
            tag: Some(layer.into()),
            pause: true,
            ..CommitContainerOptions::default()
        };
        let made = self.engine.commit_container(options, ContainerConfig::default()).await;
        let made = made.map_err(|error| engine::failed(format!("save the files of sandbox {id}"), &error))?;
        let image = with_algorithm(&made.id);
        self.record(layer, &image)?;
        Ok(image)
    }

    /// Takes the names of the engine's images away whose layers are gone, and with them what no container needs.
    pub(super) async fn forget(&self) -> Result<()> {
        let store = self.images.store.clone();
        // Whoever makes a layer has named the image before.
        let Some(_exclusive) = blocking(move || store.try_exclude()).await? else { return Ok(()) };
        let failed = |error| engine::failed("remove images that nothing needs", &error);
        let named = HashMap::from([("reference".to_owned(), vec![format!("{}:*", self.scope)])]);
        let options = ListImagesOptions { filters: Some(named), ..ListImagesOptions::default() };
        let images = self.engine.list_images(Some(options)).await.map_err(failed)?;
        for name in images.iter().flat_map(|image| &image.repo_tags) {
            let layer = name.rsplit_once(':').map_or("", |(_, layer)| layer);
            if !self.images.store.layers().join(layer).is_dir() {
                let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
                match self.engine.remove_image(name, Some(options), None).await {
                    Err(error) if !engine::is_missing(&error) => return Err(failed(error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn record(&self, layer: &str, image: &str) -> Result<()> {
        let written = |directory: &Path| {
            fs::write(directory.join(IMAGE), image)
                .map_err(|error| CapabilityError::io(format!("note the layer {layer}"), &error))
        };
        self.images.store.publish_layer(layer, written).map(drop)
    }

    /// The engine's image of a layer, where there is such a layer.
    fn recorded(&self, layer: &str) -> Result<Option<String>> {
        match fs::read_to_string(self.images.store.layers().join(layer).join(IMAGE)) {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CapabilityError::io(format!("read the layer {layer}"), &error)),
        }
    }

    /// The engine's image that a sandbox of this manifest starts from.
    pub(super) async fn engine_image(&self, manifest: &Manifest) -> Result<String> {
        match manifest.layers.first() {
            Some(layer) => self.recorded(layer)?.ok_or_else(|| {
                CapabilityError::new(
                    ErrorKind::NOT_FOUND,
                    format!("layer {layer} of the image is gone; build the image again"),
                )
            }),
            None => self.host_image().await,
        }
    }

    /// The skeleton of image `host`, handed to the engine at first use.
    async fn host_image(&self) -> Result<String> {
        let skeleton = layer(&self.images.store, self.images.ids)?;
        let name = skeleton.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let layer = format!("{ENGINE}{name}");
        let lock = self.images.store.wait_for(&format!(".build-{name}")).await?;
        let image = match self.recorded(&layer)? {
            Some(image) => image,
            None => {
                let failed = |error: io::Error| {
                    CapabilityError::io("hand the base of sandboxes to the engine", &error)
                };
                let archive =
                    written(|archive| archive::add(archive, &skeleton, Path::new(""))).map_err(failed)?;
                let doing = "import the base of sandboxes";
                let options =
                    CreateImageOptions { from_src: Some("-".into()), ..CreateImageOptions::default() };
                let mut importing = Box::pin(self.engine.create_image(
                    Some(options),
                    Some(body_try_stream(sent(archive))),
                    None,
                ));
                let mut image = String::new();
                while let Some(step) = importing.next().await {
                    // The last thing that is said is the id.
                    image = step.map_err(|error| engine::failed(doing, &error))?.status.unwrap_or(image);
                }
                let image = with_algorithm(image.trim());
                let tag = TagImageOptions { repo: Some(self.scope.clone()), tag: Some(layer.clone()) };
                self.engine
                    .tag_image(&image, Some(tag))
                    .await
                    .map_err(|error| engine::failed(doing, &error))?;
                self.record(&layer, &image)?;
                image
            }
        };
        self.discard(&format!(".build-{name}"), lock).await?;
        Ok(image)
    }

    /// What a sandbox of an image is made from: one of harvest's, or else one that the engine has.
    pub(super) async fn manifest(&self, image: &str) -> Result<Manifest> {
        if self.images.find(image)?.is_some() {
            return self.images.manifest(image);
        }
        self.of_engine(image).await?.map(|(_, manifest)| manifest).ok_or_else(|| {
            let error = missing(image);
            let message = format!("{}; what the engine has (`docker pull`) is found too", error.message);
            CapabilityError::new(error.kind, message)
        })
    }

    /// An image of the engine's own: its id, and a manifest on it.
    pub(super) async fn of_engine(&self, image: &str) -> Result<Option<(String, Manifest)>> {
        // A name that the engine could not have would be an error of another kind.
        if check_name(image).is_err() && Digest::parse(image).is_none() {
            return Ok(None);
        }
        let found = match self.engine.inspect_image(image).await {
            Ok(found) => found,
            Err(error) if engine::is_missing(&error) => return Ok(None),
            Err(error) => return Err(engine::failed(format!("look for the image {image}"), &error)),
        };
        let id = found.id.unwrap_or_default();
        let hex = id.trim_start_matches("sha256:");
        let layer = format!("{ENGINE}{}", &hex[..hex.len().min(40)]);
        self.record(&layer, &id)?;
        let config = found.config.unwrap_or_default();
        let pair =
            |line: String| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let manifest = Manifest {
            root: Root::None,
            layers: vec![layer],
            env: config.env.unwrap_or_default().into_iter().filter_map(pair).collect(),
            workdir: some(config.working_dir),
            user: some(config.user),
            ..Manifest::default()
        };
        Ok(Some((id, manifest)))
    }
}

/// An id of the engine's in full: Podman leaves out the algorithm.
fn with_algorithm(id: &str) -> String {
    if id.contains(':') { id.to_owned() } else { format!("sha256:{id}") }
}

/// An archive in a file without a name.
fn written(fill: impl FnOnce(&mut tar::Builder<File>) -> io::Result<()>) -> io::Result<File> {
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(std::env::temp_dir(), flags, rustix::fs::Mode::from_raw_mode(0o600))?;
    let mut archive = tar::Builder::new(File::from(file));
    fill(&mut archive)?;
    let mut file = archive.into_inner()?;
    file.rewind()?;
    Ok(file)
}

/// A file as the body of a request.
fn sent(file: File) -> impl futures_util::Stream<Item = io::Result<bytes::Bytes>> {
    futures_util::stream::try_unfold(file, |mut file| async move {
        let reading = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::with_capacity(PIECE);
            let count = (&mut file).take(PIECE as u64).read_to_end(&mut piece)?;
            Ok::<_, io::Error>((count > 0).then(|| (bytes::Bytes::from(piece), file)))
        });
        reading.await.map_err(io::Error::other)?
    })
}
