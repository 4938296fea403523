//! A volume in a sandbox: a copy of its files, whose changes reach the volume when they are committed.

use super::blocks::BLOCK;
use super::tree::{Entry, Kind};
use super::{Volume, tree};
use crate::cloud::{Cloud, lock};
use crate::error::{self, Result, status};
use crate::proto::client::{VolumeFsVersion, VolumeMount};
use harvest::capability::sandbox::SandboxProvider;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tonic::Status;

/// A mounted volume.
pub(crate) struct Mount {
    pub(crate) volume: Arc<Volume>,
    /// Where it is in the sandbox.
    pub(crate) path: String,
    /// The provider's volume that holds the copy.
    pub(crate) copy: String,
    directory: PathBuf,
    pub(crate) read_only: bool,
    /// The part of the volume that is mounted, without slashes around it.
    sub_path: String,
    /// What the copy held when it was last one with the volume.
    base: Mutex<BTreeMap<String, Stamp>>,
}

/// What changes whenever a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Mount {
    /// Copies a volume for a sandbox.
    pub(crate) async fn new(
        cloud: &Arc<Cloud>,
        sandbox: &str,
        number: usize,
        request: VolumeMount,
    ) -> Result<Self> {
        let volume = cloud.volumes.find(&request.volume_id)?;
        let copy = format!("{sandbox}-{number}");
        let volumes = cloud.provider.volumes();
        // The provider makes a volume, with the owner it needs, when it is written to.
        volumes.put(&copy, "new", b"", None).await.map_err(status)?;
        volumes.remove(&copy, "new").await.map_err(status)?;
        let mount = Self {
            volume,
            path: request.mount_path,
            directory: cloud.settings.directory.join("home/volumes").join(&copy),
            copy,
            read_only: request.read_only,
            sub_path: tree::clean(request.sub_path.as_deref().unwrap_or_default())?,
            base: Mutex::default(),
        };
        mount.load(cloud).await?;
        Ok(mount)
    }

    /// Makes the copy what the volume is.
    pub(crate) async fn load(&self, cloud: &Arc<Cloud>) -> Result<()> {
        let tree = lock(&self.volume.tree).clone();
        let (cloud, directory, prefix) = (cloud.clone(), self.directory.clone(), self.prefix());
        let base = blocking(move || {
            let failed = |error: io::Error| error::io("copy a volume for a sandbox", &error);
            empty(&directory).map_err(failed)?;
            let owner = fs::metadata(&directory).map_err(failed)?;
            for (path, entry) in tree.iter() {
                let Some(path) = path.strip_prefix(&prefix).filter(|path| !path.is_empty()) else { continue };
                write(&cloud, &directory.join(path), entry, (owner.uid(), owner.gid()))?;
            }
            Ok(scan(&directory).map_err(failed)?.into_iter().map(|(path, found)| (path, found.0)).collect())
        });
        *lock(&self.base) = base.await?;
        Ok(())
    }

    /// Takes what has changed in the copy since over into the volume. The last writer wins, file by file.
    pub(crate) async fn commit(&self, cloud: &Arc<Cloud>) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        let (cloud, directory, base) = (cloud.clone(), self.directory.clone(), lock(&self.base).clone());
        let (found, changed) = blocking(move || {
            let failed = |error: io::Error| error::io("read what a sandbox wrote to a volume", &error);
            let found = scan(&directory).map_err(failed)?;
            let mut changed = BTreeMap::new();
            for (path, (stamp, metadata)) in &found {
                if base.get(path) != Some(stamp)
                    && let Some(entry) = entry(&cloud, &directory.join(path), metadata)?
                {
                    changed.insert(path.clone(), entry);
                }
            }
            let found: BTreeMap<String, Stamp> =
                found.into_iter().map(|(path, found)| (path, found.0)).collect();
            Ok((found, changed))
        })
        .await?;
        let prefix = self.prefix();
        let mut tree = lock(&self.volume.tree);
        let mut base = lock(&self.base);
        for path in base.keys().filter(|path| !found.contains_key(*path)) {
            // It is gone already where a directory above it was, or where another writer took it away.
            drop(tree.remove(&format!("{prefix}{path}"), true));
        }
        for (path, entry) in changed {
            let path = format!("{prefix}{path}");
            if tree.find(&path).is_some_and(|known| {
                std::mem::discriminant(&known.kind) != std::mem::discriminant(&entry.kind)
            }) {
                tree.remove(&path, true)?;
            }
            tree.insert(&path, entry)?;
        }
        *base = found;
        Ok(())
    }

    /// Takes the copy away.
    pub(crate) async fn remove(&self, cloud: &Arc<Cloud>) -> Result<()> {
        cloud.provider.volumes().remove(&self.copy, "").await.map_err(status)
    }

    /// Whether a command, now that it has succeeded, has synced this mount: it said `sync` and the mount's path, or
    /// `sync` and no mount at all. Only words of the command line are looked at, not what a script of its own does.
    pub(crate) fn synced_by(&self, command: &[String]) -> bool {
        if self.volume.version != VolumeFsVersion::V2 {
            return false;
        }
        let words = |text: &String| {
            let parts = text.split(|letter: char| letter.is_whitespace() || ";&|()'\"`".contains(letter));
            parts.filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let words: Vec<String> = command.iter().flat_map(words).collect();
        let mut after =
            words.iter().skip_while(|word| word.rsplit('/').next() != Some("sync")).skip(1).peekable();
        let said = words.iter().any(|word| word.rsplit('/').next() == Some("sync"));
        let path = self.path.trim_end_matches('/');
        said && (after.peek().is_none()
            || after.any(|word| {
                word.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }))
    }

    fn prefix(&self) -> String {
        if self.sub_path.is_empty() { String::new() } else { format!("{}/", self.sub_path) }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Status::internal(error.to_string())))
}

fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

fn write(cloud: &Cloud, path: &Path, entry: &Entry, (uid, gid): (u32, u32)) -> Result<()> {
    let made = match &entry.kind {
        Kind::Directory => fs::create_dir(path),
        Kind::Link(target) => symlink(target, path),
        Kind::File { size, blocks } => fs::write(path, cloud.volumes.blocks.read(blocks, *size)?),
    };
    let link = matches!(entry.kind, Kind::Link(_));
    made.and_then(|()| lchown(path, Some(uid), Some(gid)))
        .and_then(|()| match link {
            true => Ok(()),
            false => fs::set_permissions(path, fs::Permissions::from_mode(entry.mode & 0o7777)),
        })
        .map_err(|error| error::io("copy a volume for a sandbox", &error))
}

type Found = BTreeMap<String, (Stamp, fs::Metadata)>;

/// Everything below a directory. Links are not followed.
fn scan(directory: &Path) -> io::Result<Found> {
    let mut found = Found::new();
    let mut waiting = vec![(directory.to_owned(), String::new())];
    while let Some((directory, prefix)) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if metadata.is_dir() {
                waiting.push((entry.path(), format!("{path}/")));
            }
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            let size = if metadata.is_dir() { 0 } else { metadata.size() };
            found.insert(path, (Stamp { inode: metadata.ino(), size, changed }, metadata));
        }
    }
    Ok(found)
}

/// A file as the volume keeps it; `None` for what no volume keeps, such as sockets.
fn entry(cloud: &Cloud, path: &Path, metadata: &fs::Metadata) -> Result<Option<Entry>> {
    let failed = |error: io::Error| error::io("read what a sandbox wrote to a volume", &error);
    let kind = if metadata.is_dir() {
        Kind::Directory
    } else if metadata.is_symlink() {
        Kind::Link(fs::read_link(path).map_err(failed)?.to_string_lossy().into_owned())
    } else if metadata.is_file() {
        let (mut file, mut blocks, mut size) = (fs::File::open(path).map_err(failed)?, Vec::new(), 0);
        loop {
            let mut block = Vec::new();
            (&mut file).take(BLOCK).read_to_end(&mut block).map_err(failed)?;
            if block.is_empty() {
                break;
            }
            size += block.len() as u64;
            blocks.push(cloud.volumes.blocks.keep(&block)?);
        }
        Kind::File { size, blocks }
    } else {
        return Ok(None);
    };
    let mtime = u64::try_from(metadata.mtime()).unwrap_or_default();
    Ok(Some(Entry { kind, mode: metadata.mode() & 0o7777, mtime }))
}
