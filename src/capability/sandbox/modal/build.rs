//! Images on Modal: each command is a layer that Modal builds on the one before, so that an equal step is built once. What
//! layers are called here is kept as local layers are, each with Modal's image in a file of its own.

use super::super::local::Manifest;
use super::super::local::shared::{
    COMMAND_LIMIT, HOST, Root, blocking, check, check_name, copy_key, missing, sources,
};
use super::super::{BuildLog, ImagePull, ImageSpec, archive};
use super::Inner;
use crate::capability::modal::messages::client as api;
use crate::capability::modal::{Fault, Options};
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use crate::step::ErrorKind;
use api::generic_result::GenericStatus;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;
use tonic::Code;

/// File of a layer that holds Modal's image.
const IMAGE: &str = "image";
/// Most bytes of output quoted when a command fails.
const QUOTE_LIMIT: usize = 4 << 10;
/// Most bytes of files that are copied into an image: they travel in one message.
const COPY_LIMIT: usize = 32 << 20;
/// Seconds that the server may keep one stream of a build's log open.
const JOIN_SECONDS: f32 = 55.0;
/// Failures in a row after which a build's log is given up.
const JOIN_FAILURES: u32 = 3;
const JOIN_PAUSE: Duration = Duration::from_millis(500);
/// Where copied files arrive before they are unpacked.
const ARCHIVE: &str = "harvest-files.tar";

impl Inner {
    /// Builds an image; `true` where every part of it was there already.
    pub(super) async fn build(
        &self,
        spec: &ImageSpec,
        name: Option<&str>,
        log: &BuildLog,
    ) -> Result<(String, bool)> {
        check(spec, name)?;
        possible(spec)?;
        let _hold = self.hold().await?;
        let base = if spec.base.is_empty() { HOST } else { &spec.base };
        let (mut manifest, mut cached) = match self.named(base).await? {
            Some(manifest) => (manifest, true),
            None => self.registry_layer(base, log).await?,
        };
        manifest.apply(spec);
        if !spec.copy.is_empty() {
            cached &= self.copy_layer(&mut manifest, &spec.copy, log).await?;
        }
        for (number, command) in (1..).zip(&spec.commands) {
            cached &= self.command_layer(&mut manifest, number, command, log).await?;
        }
        let (id, known) = self.images.save(manifest)?;
        if let Some(name) = name {
            self.images.tag(&id, name)?;
        }
        Ok((id, cached && known))
    }

    /// Makes an image of one in a registry, which Modal fetches.
    pub(super) async fn pull(
        &self,
        pull: &ImagePull,
        name: Option<&str>,
        log: &BuildLog,
    ) -> Result<(String, bool)> {
        if pull.auth_file.is_some() || pull.plain_http {
            let message = "Modal fetches images itself, over https and without this machine's credentials: leave them out";
            return Err(CapabilityError::new(ErrorKind::INVALID, message));
        }
        let name = name.unwrap_or(&pull.reference);
        check_name(name)?;
        let _hold = self.hold().await?;
        let (manifest, cached) = self.registry_layer(&pull.reference, log).await?;
        let (id, known) = self.images.save(manifest)?;
        self.images.tag(&id, name)?;
        Ok((id, cached && known))
    }

    /// What a sandbox of an image is made from. `not-found` where there is no such image.
    pub(super) async fn manifest(&self, image: &str) -> Result<Manifest> {
        if let Some(manifest) = self.named(image).await? {
            return Ok(manifest);
        }
        if image == HOST {
            let reference = self.host_image()?.to_owned();
            let log: BuildLog = std::sync::Arc::new(|line: &str| tracing::debug!("image: {line}"));
            return Ok(self.registry_layer(&reference, &log).await?.0);
        }
        let message = format!(
            "{}; one of a registry is made with `harvest image pull {image} --provider modal`",
            missing(image).message
        );
        Err(CapabilityError::new(ErrorKind::NOT_FOUND, message))
    }

    /// An image of Modal's own, by its id.
    pub(super) async fn of_modal(&self, image: &str) -> Result<Option<Manifest>> {
        if !image.starts_with("im-") {
            return Ok(None);
        }
        let request = api::ImageFromIdRequest { image_id: image.into() };
        match self.client.call(&request, Options::default()).await {
            Ok(found) => {
                let layer = format!("modal-{}", &Digest::of(found.image_id.as_bytes()).hex()[..40]);
                self.record_layer(&layer, &found.image_id)?;
                Ok(Some(on(layer)))
            }
            Err(fault) if fault.code == Code::NotFound => Ok(None),
            Err(fault) => Err(fault.explain(format!("look for the image {image}"))),
        }
    }

    /// Modal's image that a manifest begins with.
    pub(super) fn modal_image(&self, manifest: &Manifest) -> Result<String> {
        let layer = manifest.layers.first().map(String::as_str).unwrap_or_default();
        self.recorded(layer)?.ok_or_else(|| {
            let message = format!("layer {layer} of the image is gone; build the image again");
            CapabilityError::new(ErrorKind::NOT_FOUND, message)
        })
    }

    /// Notes Modal's image of a layer.
    pub(super) fn record_layer(&self, layer: &str, image: &str) -> Result<()> {
        let written = |directory: &Path| {
            fs::write(directory.join(IMAGE), image)
                .map_err(|error| CapabilityError::io(format!("note the layer {layer}"), &error))
        };
        self.images.store.publish_layer(layer, written).map(drop)
    }

    fn recorded(&self, layer: &str) -> Result<Option<String>> {
        match fs::read_to_string(self.images.store.layers().join(layer).join(IMAGE)) {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CapabilityError::io(format!("read the layer {layer}"), &error)),
        }
    }

    /// An image that this home has a name or an id for, or Modal has an id for.
    async fn named(&self, image: &str) -> Result<Option<Manifest>> {
        if image != HOST && self.images.find(image)?.is_some() {
            return self.images.manifest(image).map(Some);
        }
        self.of_modal(image).await
    }

    fn host_image(&self) -> Result<&str> {
        self.options.host_image.as_deref().ok_or_else(|| {
            CapabilityError::new(
                ErrorKind::INVALID,
                "`image: host` is this machine's own userland, which Modal does not have: name an image, or write what it \
                 stands for on Modal as `modal: { host-image: debian:bookworm-slim }` in config.yaml",
            )
        })
    }

    async fn registry_layer(&self, reference: &str, log: &BuildLog) -> Result<(Manifest, bool)> {
        let reference = if reference == HOST { self.host_image()? } else { reference };
        if reference.split_whitespace().count() != 1 {
            return Err(CapabilityError::new(
                ErrorKind::INVALID,
                format!("`{reference}` is no reference of an image"),
            ));
        }
        let key = &Digest::of(reference.as_bytes()).hex()[..40];
        let build = Build {
            layer: format!("from-{key}"),
            title: format!("FROM {reference}"),
            failed: format!("Modal cannot use the image `{reference}`"),
            image: api::Image {
                dockerfile_commands: vec![format!("FROM {reference}")],
                ..Default::default()
            },
        };
        let cached = self.layer(&build, log).await?;
        Ok((on(build.layer), cached))
    }

    async fn command_layer(
        &self,
        manifest: &mut Manifest,
        number: usize,
        command: &str,
        log: &BuildLog,
    ) -> Result<bool> {
        let parent = self.modal_image(manifest)?;
        let mut lines = vec!["FROM base".to_owned()];
        lines.extend(environment(&manifest.env)?);
        lines.extend(workdir(manifest.workdir.as_deref())?);
        lines.push(run(command)?);
        let build = Build {
            layer: format!("run-{}", key(&parent, &lines)?),
            title: format!("$ {command}"),
            failed: format!("command {number} of the image, `{command}`, failed on Modal"),
            image: api::Image {
                dockerfile_commands: lines,
                base_images: based(&parent),
                ..Default::default()
            },
        };
        let cached = self.layer(&build, log).await?;
        manifest.layers.insert(0, build.layer);
        Ok(cached)
    }

    async fn copy_layer(
        &self,
        manifest: &mut Manifest,
        copies: &BTreeMap<String, String>,
        log: &BuildLog,
    ) -> Result<bool> {
        let parent = self.modal_image(manifest)?;
        let copies = sources(copies, Root::None)?;
        let (of, failed) = (parent.clone(), |error: io::Error| {
            CapabilityError::io("copy files of the host into an image", &error)
        });
        let (key, data) = blocking(move || {
            let key = copy_key(&of, &copies).map_err(failed)?;
            let mut archive = tar::Builder::new(Limited(Vec::new()));
            let added = copies
                .iter()
                .try_for_each(|(target, source)| archive::add(&mut archive, source, Path::new(target)))
                .and_then(|()| archive.into_inner());
            Ok((key, added.map_err(failed)?.0))
        })
        .await?;
        let lines = vec![
            "FROM base".to_owned(),
            format!("COPY {ARCHIVE} /{ARCHIVE}"),
            format!("RUN tar -xf /{ARCHIVE} -C / && rm /{ARCHIVE}"),
        ];
        let file = api::ImageContextFile { filename: ARCHIVE.into(), data: data.into() };
        let build = Build {
            layer: format!("copy-{key}"),
            title: "copying files of the host".into(),
            failed: "Modal cannot copy files into the image".into(),
            image: api::Image {
                dockerfile_commands: lines,
                base_images: based(&parent),
                context_files: vec![file],
                ..Default::default()
            },
        };
        let cached = self.layer(&build, log).await?;
        manifest.layers.insert(0, build.layer);
        Ok(cached)
    }

    /// A layer, built where this home does not know it. Whoever builds the same one waits here, and then finds it.
    async fn layer(&self, build: &Build, log: &BuildLog) -> Result<bool> {
        let id = format!(".build-{}", build.layer);
        let lock = self.images.store.wait_for(&id).await?;
        let made = async {
            if self.recorded(&build.layer)?.is_some() {
                log(&format!("{} (cached)", build.title));
                return Ok(true);
            }
            let building = tokio::time::timeout(COMMAND_LIMIT, self.make(build, log)).await;
            let (image, cached) = building.map_err(|_| {
                let limit = COMMAND_LIMIT.as_secs();
                CapabilityError::new(
                    ErrorKind::TIMED_OUT,
                    format!("{}: it took longer than {limit} s", build.failed),
                )
            })??;
            self.record_layer(&build.layer, &image)?;
            Ok(cached)
        };
        let made = made.await;
        self.discard(&id, lock).await?;
        made
    }

    /// Has Modal build a layer. Returns its image and whether it was there already.
    async fn make(&self, build: &Build, log: &BuildLog) -> Result<(String, bool)> {
        let request = api::ImageGetOrCreateRequest {
            image: Some(build.image.clone()),
            app_id: self.client.app().await?.to_owned(),
            namespace: api::DeploymentNamespace::Workspace.into(),
            builder_version: self.client.builder_version().await?.to_owned(),
            ..Default::default()
        };
        let answer = self.client.call(&request, Options::default()).await;
        let answer = answer.map_err(|fault| fault.explain(format!("build `{}`", build.title)))?;
        let known = answer.result.filter(|result| result.status() != GenericStatus::Unspecified);
        log(&match &known {
            Some(result) if result.status() == GenericStatus::Success => format!("{} (cached)", build.title),
            _ => build.title.clone(),
        });
        let cached = known.is_some();
        let mut tail = String::new();
        let result = match known {
            Some(result) => result,
            None => self.join(&answer.image_id, &build.title, log, &mut tail).await?,
        };
        match result.status() {
            GenericStatus::Success => Ok((answer.image_id, cached)),
            status => Err(build.ended(status, &result, &tail)),
        }
    }

    /// Follows a build to its end, however often its log breaks off.
    async fn join(
        &self,
        image: &str,
        title: &str,
        log: &BuildLog,
        tail: &mut String,
    ) -> Result<api::GenericResult> {
        let mut request = api::ImageJoinStreamingRequest {
            image_id: image.into(),
            timeout: JOIN_SECONDS,
            include_logs_for_finished: true,
            ..Default::default()
        };
        let (mut failures, mut line) = (0, String::new());
        loop {
            let joined = self.join_once(&mut request, (title, log), &mut line, tail, &mut failures).await;
            match joined {
                Ok(Some(result)) => {
                    if !line.is_empty() {
                        log(&line);
                    }
                    return Ok(result);
                }
                Ok(None) => {}
                Err(fault) => {
                    failures += 1;
                    if !fault.is_passing() || failures == JOIN_FAILURES {
                        return Err(fault.explain("follow the build of an image"));
                    }
                    self.client.clock().pause(JOIN_PAUSE).await;
                }
            }
        }
    }

    async fn join_once(
        &self,
        request: &mut api::ImageJoinStreamingRequest,
        (title, log): (&str, &BuildLog),
        line: &mut String,
        tail: &mut String,
        failures: &mut u32,
    ) -> std::result::Result<Option<api::GenericResult>, Fault> {
        let mut stream = self.client.stream(&*request).await?;
        while let Some(message) = stream.message().await? {
            *failures = 0;
            if !message.entry_id.is_empty() {
                request.last_entry_id = message.entry_id;
            }
            for said in message.task_logs.iter().map(|said| said.data.as_str()) {
                tail.push_str(said);
                let surplus = tail.floor_char_boundary(tail.len().saturating_sub(QUOTE_LIMIT));
                tail.drain(..surplus);
                for piece in said.split_inclusive('\n') {
                    if line.len() < QUOTE_LIMIT {
                        line.push_str(piece);
                    }
                    if piece.ends_with('\n') {
                        let whole = line.trim_end_matches(['\n', '\r']);
                        // A builder that says itself what it runs has been announced already.
                        if whole != title {
                            log(whole);
                        }
                        line.clear();
                    }
                }
            }
            if let Some(result) = message.result.filter(|it| it.status() != GenericStatus::Unspecified) {
                return Ok(Some(result));
            }
        }
        Ok(None)
    }
}

/// One layer to be made.
struct Build {
    layer: String,
    title: String,
    failed: String,
    image: api::Image,
}

impl Build {
    fn ended(&self, status: GenericStatus, result: &api::GenericResult, tail: &str) -> CapabilityError {
        let kind = match status {
            GenericStatus::Timeout => ErrorKind::TIMED_OUT,
            GenericStatus::InternalFailure | GenericStatus::MemoryManagerEviction => ErrorKind::UNAVAILABLE,
            _ => ErrorKind::OTHER,
        };
        let parts = [&*self.failed, result.exception.trim(), tail.trim_end()];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        CapabilityError::new(kind, parts.join(":\n"))
    }
}

/// Refuses what Modal has nothing for.
fn possible(spec: &ImageSpec) -> Result<()> {
    let Some(directory) = spec.read_only.first() else { return Ok(()) };
    Err(CapabilityError::new(
        ErrorKind::INVALID,
        format!(
            "Modal has no read-only directories in a sandbox: leave `read_only: [{directory}]` out, or use the provider `local`"
        ),
    ))
}

/// A manifest on one layer.
fn on(layer: String) -> Manifest {
    Manifest { root: Root::None, layers: vec![layer], ..Manifest::default() }
}

fn based(parent: &str) -> Vec<api::BaseImage> {
    vec![api::BaseImage { image_id: parent.into(), docker_tag: "base".into() }]
}

fn key(parent: &str, lines: &[String]) -> Result<String> {
    let text = serde_json::to_vec(&(parent, lines))
        .map_err(|error| CapabilityError::io("describe a command of an image", &error.into()))?;
    Ok(Digest::of(&text).hex()[..40].to_owned())
}

fn environment(env: &BTreeMap<String, String>) -> Result<Vec<String>> {
    env.iter().map(|(name, value)| Ok(format!("ENV {name}={}", quoted(value)?))).collect()
}

fn workdir(directory: Option<&str>) -> Result<Option<String>> {
    directory.map(|directory| Ok(format!("WORKDIR {}", quoted(directory)?))).transpose()
}

/// A value as Dockerfiles take it, as it is.
fn quoted(value: &str) -> Result<String> {
    if value.contains(['\n', '\r', '\0']) {
        let message = "environment and directory of an image for Modal are of one line each";
        return Err(CapabilityError::new(ErrorKind::INVALID, message));
    }
    let mut text = String::from('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\' | '$') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    Ok(text)
}

/// A command as a line of a Dockerfile: as it is where that is one line, else as the arguments of a shell.
fn run(command: &str) -> Result<String> {
    let plain = !command.contains(['\n', '\r'])
        && !command.ends_with('\\')
        && !command.trim_start().starts_with(['[', '-', '<']);
    if plain {
        return Ok(format!("RUN {}", command.trim()));
    }
    let words = serde_json::to_string(&["/bin/sh", "-c", command])
        .map_err(|error| CapabilityError::io("write a command of an image", &error.into()))?;
    Ok(format!("RUN {words}"))
}

/// Takes what fits into one message.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > COPY_LIMIT {
            let message = format!(
                "they are more than {} MiB: put them into a volume, or fetch them by a command",
                COPY_LIMIT >> 20
            );
            return Err(io::Error::other(message));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_values_reach_the_shell_as_they_are() {
        for (command, line) in [
            ("apt-get update && echo $A", "RUN apt-get update && echo $A"),
            ("two\nlines", r#"RUN ["/bin/sh","-c","two\nlines"]"#),
            ("ends with \\", r#"RUN ["/bin/sh","-c","ends with \\"]"#),
            ("[ -e /x ]", r#"RUN ["/bin/sh","-c","[ -e /x ]"]"#),
            ("--mount=x", r#"RUN ["/bin/sh","-c","--mount=x"]"#),
        ] {
            assert_eq!(run(command).unwrap(), line);
        }
        assert_eq!(quoted(r#"a "b" $C \d"#).unwrap(), r#""a \"b\" \$C \\d""#);
        assert_eq!(quoted("a\nb").unwrap_err().kind, ErrorKind::INVALID);
    }

    #[test]
    fn a_layer_is_named_by_all_that_makes_it() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let one = key("im-1", &lines(&["FROM base", "RUN a"])).unwrap();
        assert_eq!(one, key("im-1", &lines(&["FROM base", "RUN a"])).unwrap());
        assert_ne!(one, key("im-2", &lines(&["FROM base", "RUN a"])).unwrap());
        assert_ne!(one, key("im-1", &lines(&["FROM base", "ENV A=\"1\"", "RUN a"])).unwrap());
    }
}
