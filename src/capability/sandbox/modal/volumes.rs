//! Volumes on Modal, of their version 2: what a sandbox writes to one is there for others once it is synced.

use super::super::SandboxSpec;
use super::open::Mounts;
use crate::capability::modal::messages::client as api;
use crate::capability::modal::{BLOCK, Client, Fault, Options};
use crate::capability::volume::directory::{ENTRY_LIMIT, check_name, relative};
use crate::capability::volume::{Versioned, VolumeEntry, VolumeStore};
use crate::capability::{CapabilityError, Result};
use crate::id::Digest;
use crate::step::ErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::FlockOperation;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::Code;

/// Permission bits of files that the host writes.
const MODE: u32 = 0o644;
/// How long a volume may take to list its files.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// Hidden file in the directory of names, for the lock of writers who compare.
const LOCK: &str = ".swap.lock";

/// The volumes of a workspace, by name. `list` shows those that this home has used: the workspace's others are not ours.
pub(super) struct ModalVolumes {
    client: Client,
    /// A file for each that was used.
    known: PathBuf,
}

impl ModalVolumes {
    pub(super) fn new(client: Client, known: PathBuf) -> Self {
        Self { client, known }
    }

    /// The volumes of a sandbox, made where they are missing.
    pub(super) async fn mounts(&self, spec: &SandboxSpec) -> Result<Mounts> {
        let mut mounts = BTreeMap::new();
        for (mount, volume) in &spec.volumes {
            mounts.insert(mount.clone(), self.make(volume).await?);
        }
        Ok(mounts)
    }

    /// Modal's id of a volume, made where it is missing.
    async fn make(&self, volume: &str) -> Result<String> {
        check_name(volume)?;
        let id = self.ask(volume, api::ObjectCreationType::CreateIfMissing).await?;
        let id = id.ok_or_else(|| missing(volume))?;
        let path = self.known.join(volume);
        let noted = fs::create_dir_all(&self.known).and_then(|()| fs::write(&path, ""));
        noted.map_err(|error| CapabilityError::io(format!("note the volume {volume}"), &error))?;
        Ok(id)
    }

    /// Modal's id of a volume, `None` where there is none.
    async fn find(&self, volume: &str) -> Result<Option<String>> {
        check_name(volume)?;
        self.ask(volume, api::ObjectCreationType::Unspecified).await
    }

    async fn ask(&self, volume: &str, creation: api::ObjectCreationType) -> Result<Option<String>> {
        let request = api::VolumeGetOrCreateRequest {
            deployment_name: volume.into(),
            environment_name: self.client.settings().environment.clone(),
            object_creation_type: creation.into(),
            version: api::VolumeFsVersion::V2.into(),
        };
        let answer = match self.client.call(&request, Options::default()).await {
            Ok(answer) => answer,
            Err(fault) if fault.code == Code::NotFound => return Ok(None),
            Err(fault) => return Err(fault.explain(format!("use the volume {volume}"))),
        };
        match answer.version() {
            api::VolumeFsVersion::V2 => Ok(Some(answer.volume_id)),
            other => Err(wrong_version(volume, other)),
        }
    }

    /// Held while a file is compared and written: writers of this home take turns.
    async fn turn(&self) -> Result<File> {
        let path = self.known.join(LOCK);
        tokio::task::spawn_blocking(move || {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        })
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| CapabilityError::io("lock the volumes", &error))
    }

    async fn read(&self, id: &str, volume: &str, path: &str, limit: u64) -> Result<Option<Versioned>> {
        let doing = || format!("read {path} in volume {volume}");
        let request = api::VolumeGetFile2Request {
            volume_id: id.into(),
            path: path.into(),
            client_pads_blocks: true,
            ..Default::default()
        };
        let answer = match self.client.call(&request, Options::default()).await {
            Ok(answer) => answer,
            Err(fault) if fault.code == Code::NotFound => return Ok(None),
            Err(fault) => return Err(fault.explain(doing())),
        };
        if answer.size > limit {
            let message = format!("{path} in volume {volume} is larger than the limit of {limit} bytes");
            return Err(CapabilityError::new(ErrorKind::TOO_LARGE, message));
        }
        let size = usize::try_from(answer.size).unwrap_or(usize::MAX);
        if answer.get_urls.len() != size.div_ceil(BLOCK) {
            let message =
                format!("cannot {}: Modal named {} blocks for {size} bytes", doing(), answer.get_urls.len());
            return Err(CapabilityError::new(ErrorKind::OTHER, message));
        }
        let mut content = Vec::with_capacity(size);
        for url in &answer.get_urls {
            let end = (content.len() + BLOCK).min(size);
            let block = self.client.blocks().get(url, end - content.len()).await?;
            content.extend_from_slice(&block);
            // What a block does not hold is zeros.
            content.resize(end, 0);
        }
        let version = Digest::of(&content).hex();
        Ok(Some(Versioned { content: content.into(), version }))
    }

    async fn write(&self, id: &str, volume: &str, path: &str, content: &[u8], new: bool) -> Result<()> {
        use api::volume_put_files2_request::{Block, File as Put};
        let failed = |fault: Fault| fault.explain(format!("write {path} in volume {volume}"));
        let blocks: Vec<Bytes> = content.chunks(BLOCK).map(Bytes::copy_from_slice).collect();
        let hashed = blocks.iter().map(|block| Block { contents_sha256: hash(block), put_response: None });
        let file =
            Put { path: path.into(), size: content.len() as u64, blocks: hashed.collect(), mode: Some(MODE) };
        let mut request = api::VolumePutFiles2Request {
            volume_id: id.into(),
            files: vec![file],
            disallow_overwrite_existing_files: new,
        };
        let missing = self.client.call(&request, Options::default()).await.map_err(failed)?.missing_blocks;
        if missing.is_empty() {
            return Ok(());
        }
        for wanted in missing {
            let index = usize::try_from(wanted.block_index).unwrap_or(usize::MAX);
            let block = blocks.get(index).filter(|_| wanted.file_index == 0).ok_or_else(|| {
                let message = format!("Modal asked for block {index} of {path}, which has {}", blocks.len());
                CapabilityError::new(ErrorKind::OTHER, message)
            })?;
            let receipt = self.client.blocks().put(&wanted.put_url, block.clone()).await?;
            request.files[0].blocks[index].put_response = Some(receipt);
        }
        let missing = self.client.call(&request, Options::default()).await.map_err(failed)?.missing_blocks;
        if missing.is_empty() {
            return Ok(());
        }
        let message =
            format!("Modal did not take {} blocks of {path} in volume {volume}; try again", missing.len());
        Err(CapabilityError::new(ErrorKind::UNAVAILABLE, message))
    }
}

fn hash(block: &[u8]) -> Bytes {
    use sha2::Digest as _;
    Bytes::copy_from_slice(&sha2::Sha256::digest(block))
}

fn missing(volume: &str) -> CapabilityError {
    let message = format!("there is no volume `{volume}` on Modal; writing a file makes one");
    CapabilityError::new(ErrorKind::NOT_FOUND, message)
}

fn wrong_version(volume: &str, found: api::VolumeFsVersion) -> CapabilityError {
    let found = match found {
        api::VolumeFsVersion::V1 => "1",
        _ => "unknown",
    };
    CapabilityError::new(
        ErrorKind::CONFLICT,
        format!(
            "the volume `{volume}` on Modal is of version {found}: what sandboxes write to it is not seen until they end; \
             write another name, which makes one of version 2, and copy its files with `modal volume get` and `put`"
        ),
    )
}

#[async_trait]
impl VolumeStore for ModalVolumes {
    async fn list(&self) -> Result<Vec<String>> {
        known(&self.known).map_err(|error| CapabilityError::io("list the volumes", &error))
    }

    async fn entries(&self, volume: &str, path: &str) -> Result<Vec<VolumeEntry>> {
        use api::file_entry::FileType;
        let path = relative(path)?;
        let id = self.find(volume).await?.ok_or_else(|| missing(volume))?;
        let request = api::VolumeListFiles2Request {
            volume_id: id,
            path: path.into(),
            recursive: true,
            max_entries: u32::try_from(ENTRY_LIMIT).ok(),
        };
        let listing = async {
            let (mut found, mut stream) = (Vec::new(), self.client.stream(&request).await?);
            while let Some(message) = stream.message().await? {
                found.extend(message.entries);
            }
            Ok::<_, Fault>(found)
        };
        let listed =
            tokio::time::timeout(LIST_LIMIT, listing).await.unwrap_or_else(|_| Err(Fault::late(LIST_LIMIT)));
        let found = listed.map_err(|fault| fault.explain(format!("list {path} in volume {volume}")))?;
        let entry = |entry: api::FileEntry| {
            let directory = match entry.r#type() {
                FileType::File => false,
                FileType::Directory => true,
                // Links and pipes are not for readers on the host.
                _ => return None,
            };
            let path = entry.path.trim_matches('/').to_owned();
            let seconds = i64::try_from(entry.mtime).unwrap_or_default();
            let written_at = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
            Some(VolumeEntry { path, size: if directory { 0 } else { entry.size }, directory, written_at })
        };
        let mut found: Vec<_> =
            found.into_iter().filter_map(entry).filter(|entry| !entry.path.is_empty()).collect();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found.truncate(ENTRY_LIMIT);
        Ok(found)
    }

    async fn get(&self, volume: &str, path: &str, limit: u64) -> Result<Option<Versioned>> {
        let path = relative(path)?;
        match self.find(volume).await? {
            Some(id) => self.read(&id, volume, path, limit).await,
            None => Ok(None),
        }
    }

    async fn put(
        &self,
        volume: &str,
        path: &str,
        content: &[u8],
        expected: Option<Option<&str>>,
    ) -> Result<String> {
        let path = relative(path)?;
        if path.is_empty() {
            return Err(CapabilityError::new(ErrorKind::INVALID, "name a file in the volume to write"));
        }
        let id = self.make(volume).await?;
        let _turn = self.turn().await?;
        if let Some(expected) = expected {
            let current = self.read(&id, volume, path, u64::MAX).await?.map(|found| found.version);
            if current.as_deref() != expected {
                return Err(CapabilityError::new(
                    ErrorKind::CONFLICT,
                    format!(
                        "{path} in volume {volume} has changed meanwhile; read it again and repeat the change"
                    ),
                ));
            }
        }
        self.write(&id, volume, path, content, expected == Some(None)).await?;
        Ok(Digest::of(content).hex())
    }

    async fn remove(&self, volume: &str, path: &str) -> Result<()> {
        let path = relative(path)?;
        let id = self.find(volume).await?.ok_or_else(|| missing(volume))?;
        let doing = || format!("delete {path} in volume {volume}");
        if !path.is_empty() {
            let request = api::VolumeRemoveFile2Request { volume_id: id, path: path.into(), recursive: true };
            return self
                .client
                .call(&request, Options::default())
                .await
                .map_err(|fault| fault.explain(doing()));
        }
        let environment_name = self.client.settings().environment.clone();
        let request = api::VolumeDeleteRequest { volume_id: id, environment_name };
        self.client.call(&request, Options::default()).await.map_err(|fault| fault.explain(doing()))?;
        match fs::remove_file(self.known.join(volume)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CapabilityError::io(format!("forget the volume {volume}"), &error))
            }
            _ => Ok(()),
        }
    }
}

/// Names of the volumes that a home has used, sorted.
fn known(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let mut names: Vec<String> = names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect();
    names.retain(|name| check_name(name).is_ok());
    names.sort();
    Ok(names)
}
