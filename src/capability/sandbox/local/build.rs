//! Builds images: a layer for what is copied in, then one per command, each run in a sandbox on the layers before it.
//! A layer is named by a hash of what made it, so an equal step is never done twice, nor by two processes at once.

use super::guest::Guest;
use super::image::{HOST, Manifest, Root, check_name};
use super::store::{self, Lock};
use super::{LocalProvider, copy};
use crate::capability::sandbox::{BuildLog, Chunk, ExecSpec, ExitStatus, ImageSpec, Network, SandboxSpec};
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use crate::step::ErrorKind;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest time one command of an image may take.
pub(in crate::capability::sandbox) const COMMAND_LIMIT: Duration = Duration::from_secs(60 * 60);
/// Most commands of one image.
const COMMANDS_LIMIT: usize = 100;
/// Most bytes of output quoted when a command fails.
const QUOTE_LIMIT: usize = 4 << 10;

/// Where nothing can be copied to: made afresh for each sandbox.
const FRESH: &[&str] = &["proc", "sys", "dev"];
/// Nor here, where these are shown read-only from the host.
const SHOWN: &[&str] = &["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

impl LocalProvider {
    /// Builds an image; `true` where every part of it was there already.
    pub(super) async fn build(
        &self,
        spec: &ImageSpec,
        name: Option<&str>,
        log: &BuildLog,
    ) -> Result<(String, bool)> {
        check(spec, name)?;
        let base = if spec.base.is_empty() { HOST } else { &spec.base };
        let hold = self.images.store.clone();
        // Until an image names them, the layers made here belong to nobody.
        let _hold = blocking(move || hold.hold()).await?;
        let mut manifest = self.images.manifest(base)?;
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
        let lower = self.images.lower(manifest)?;
        let parent = parent_key(manifest, &lower);
        let copies = sources(copies, manifest.root)?;
        let (uid, gid) = self.ids.root();
        let store = self.images.store.clone();
        let (layer, cached) = blocking(move || {
            let failed =
                |error: io::Error| CapabilityError::io("copy files of the host into an image", &error);
            let key = copy_key(&parent, &copies).map_err(failed)?;
            let layer = format!("copy-{key}");
            let cached = store.layers().join(&layer).is_dir();
            store.publish_layer(&layer, |root| {
                own_directory(root, "", &lower, (uid, gid)).map_err(failed)?;
                for (target, source) in &copies {
                    let mut path = String::new();
                    for part in Path::new(target).parent().into_iter().flat_map(Path::iter) {
                        path = format!("{path}/{}", part.to_string_lossy());
                        own_directory(root, path.trim_start_matches('/'), &lower, (uid, gid))
                            .map_err(failed)?;
                    }
                    copy::tree(source, &root.join(target), (uid, gid)).map_err(failed)?;
                }
                Ok(())
            })?;
            Ok((layer, cached))
        })
        .await?;
        log(if cached { "files to copy are unchanged" } else { "copied files of the host" });
        manifest.layers.insert(0, layer);
        Ok(cached)
    }

    async fn command_layer(&self, manifest: &mut Manifest, command: &str, log: &BuildLog) -> Result<bool> {
        let lower = self.images.lower(manifest)?;
        let description = serde_json::to_vec(&(
            parent_key(manifest, &lower),
            command,
            &manifest.env,
            &manifest.user,
            &manifest.workdir,
        ))
        .map_err(|error| CapabilityError::io("describe a command of an image", &error.into()))?;
        let key = &Digest::of(&description).hex()[..40];
        let layer = format!("run-{key}");
        let path = self.images.store.layers().join(&layer);
        let cached = path.is_dir() || {
            // Whoever builds the same layer waits here, and then finds it.
            let lock = self.images.store.wait_for(&sandbox_of(key)).await?;
            path.is_dir() || {
                log(&format!("$ {command}"));
                self.run_command(key, lock, manifest, command, log).await?;
                false
            }
        };
        if cached {
            log(&format!("$ {command} (cached)"));
        }
        manifest.layers.insert(0, layer);
        Ok(cached)
    }

    /// Runs a command in a fresh sandbox and makes what it changed a layer.
    async fn run_command(
        &self,
        key: &str,
        lock: Lock,
        manifest: &Manifest,
        command: &str,
        log: &BuildLog,
    ) -> Result<()> {
        let id = sandbox_of(key);
        let layer = self.images.store.layers().join(format!("run-{key}"));
        let directory = self.images.store.sandbox(&id);
        let failed =
            |error: io::Error| CapabilityError::io("keep what a command of an image changed", &error);
        // What an earlier build left when it was interrupted.
        store::remove_tree(&directory).map_err(failed)?;
        let spec = SandboxSpec { id: id.clone(), network: Network::Host, ..SandboxSpec::default() };
        let keep = lock.share().map_err(failed)?;
        let sandbox = self.start(&spec, manifest.clone(), lock).await?;
        let result = tokio::time::timeout(COMMAND_LIMIT, follow(&sandbox.guest, command, log)).await;
        sandbox.end().await?;
        drop(sandbox);
        let result = result.unwrap_or_else(|_| Err(too_long(command)));
        let store = self.images.store.clone();
        blocking(move || {
            if result.is_ok() {
                let upper = directory.join("upper");
                store::sync_tree(&upper).and_then(|()| store::publish(&upper, &layer)).map_err(failed)?;
            }
            store.remove_sandbox(&id, keep).map_err(failed)?;
            result
        })
        .await
    }
}

pub(in crate::capability::sandbox) fn too_long(command: &str) -> CapabilityError {
    CapabilityError::new(
        ErrorKind::TIMED_OUT,
        format!("`{command}` took longer than {} s; split it into several commands", COMMAND_LIMIT.as_secs()),
    )
}

/// The sandbox in which a layer is built: hidden, and one per layer.
fn sandbox_of(key: &str) -> String {
    format!(".build-{key}")
}

/// Runs a command to its end, sending its output to the log line by line.
pub(in crate::capability::sandbox) async fn follow(
    guest: &Guest,
    command: &str,
    log: &BuildLog,
) -> Result<()> {
    let exec = ExecSpec { command: vec!["sh".into(), "-c".into(), command.into()], ..ExecSpec::default() };
    let mut process = guest.exec(exec).await?;
    let mut line = Vec::new();
    let mut tail = Vec::new();
    while let Some(chunk) = process.next().await? {
        let (Chunk::Stdout(bytes) | Chunk::Stderr(bytes)) = chunk;
        tail.extend_from_slice(&bytes);
        tail.drain(..tail.len().saturating_sub(QUOTE_LIMIT));
        for byte in bytes {
            if byte == b'\n' {
                log(&String::from_utf8_lossy(&line));
                line.clear();
            } else if line.len() < QUOTE_LIMIT {
                line.push(byte);
            }
        }
    }
    if !line.is_empty() {
        log(&String::from_utf8_lossy(&line));
    }
    let status = process.wait().await?;
    process.kill().await?;
    if status == ExitStatus::Code(0) {
        return Ok(());
    }
    Err(CapabilityError::new(
        ErrorKind::OTHER,
        format!(
            "`{command}` of the image ended with code {}:\n{}",
            status.code(),
            String::from_utf8_lossy(&tail).trim_end()
        ),
    ))
}

/// What a layer rests on: the names of all layers below it.
fn parent_key(manifest: &Manifest, lower: &[PathBuf]) -> String {
    let base = lower.last().and_then(|base| base.file_name()).unwrap_or_default();
    format!("{} {}", manifest.layers.join(" "), base.to_string_lossy())
}

pub(in crate::capability::sandbox) fn copy_key(
    parent: &str,
    copies: &[(String, PathBuf)],
) -> io::Result<String> {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    hash.update(parent);
    for (target, source) in copies {
        hash.update(target.len().to_le_bytes());
        hash.update(target);
        copy::describe(source, &mut |bytes| hash.update(bytes))?;
    }
    Ok(hex::encode(hash.finalize())[..40].to_owned())
}

/// Checks what is asked of whoever builds an image.
pub(in crate::capability::sandbox) fn check(spec: &ImageSpec, name: Option<&str>) -> Result<()> {
    if spec.commands.len() > COMMANDS_LIMIT {
        return Err(CapabilityError::new(
            ErrorKind::INVALID,
            format!("an image has at most {COMMANDS_LIMIT} commands; join some with `&&`"),
        ));
    }
    name.map_or(Ok(()), check_name)
}

/// What is copied into an image: the path in it, without its leading slash, and the file of the host.
pub(in crate::capability::sandbox) fn sources(
    copies: &BTreeMap<String, String>,
    root: Root,
) -> Result<Vec<(String, PathBuf)>> {
    let real = |(target, source): (&String, &String)| {
        let real = fs::canonicalize(source).map_err(|error| {
            CapabilityError::io(format!("copy {source} of the host into an image"), &error)
        })?;
        Ok((check_target(target, root)?, real))
    };
    copies.iter().map(real).collect()
}

fn check_target(target: &str, root: Root) -> Result<String> {
    let path = target.trim_matches('/');
    let clean = target.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let top = path.split('/').next().unwrap_or_default();
    let closed = match root {
        Root::Host => [SHOWN, FRESH].concat(),
        Root::None => FRESH.to_vec(),
    };
    if clean && !closed.contains(&top) {
        return Ok(path.into());
    }
    Err(CapabilityError::new(
        ErrorKind::INVALID,
        format!(
            "nothing can be copied to `{target}`: give an absolute path outside /{}, such as /opt/NAME or /app",
            closed.join(", /")
        ),
    ))
}

/// Makes a directory of a layer look like the one it covers, where a layer below has it.
fn own_directory(root: &Path, path: &str, lower: &[PathBuf], (uid, gid): (u32, u32)) -> io::Result<()> {
    let target = root.join(path);
    if !target.is_dir() {
        fs::create_dir(&target)?;
    }
    let covered = lower
        .iter()
        .find_map(|layer| fs::symlink_metadata(layer.join(path)).ok().filter(fs::Metadata::is_dir));
    let (uid, gid, mode) =
        covered.map_or((uid, gid, 0o755), |covered| (covered.uid(), covered.gid(), covered.mode() & 0o7777));
    lchown(&target, Some(uid), Some(gid))?;
    fs::set_permissions(&target, fs::Permissions::from_mode(mode))
}

pub(in crate::capability::sandbox) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        CapabilityError::new(ErrorKind::OTHER, format!("work on files broke off: {error}"))
    })?
}
