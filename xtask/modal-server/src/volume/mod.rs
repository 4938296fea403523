//! Volumes: trees of files made of blocks, as clients and sandboxes have committed them.

mod blocks;
mod mount;
mod tree;

use crate::account::{MAIN, Name, creation, named};
use crate::cloud::{Cloud, fresh_id, lock};
use crate::error::Result;
use crate::proto::client::*;
use blocks::{BLOCK, Blocks};
pub(crate) use blocks::{get, put};
pub(crate) use mount::Mount;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::Status;
use tree::{Entry, Kind, Tree};

/// Entries in one message of a listing.
const BATCH: usize = 1000;

/// A volume.
pub(crate) struct Volume {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: VolumeFsVersion,
    tree: Mutex<Tree>,
}

/// All volumes.
pub(crate) struct Volumes {
    known: Mutex<Known>,
    blocks: Blocks,
}

#[derive(Default)]
struct Known {
    names: BTreeMap<Name, String>,
    volumes: HashMap<String, Arc<Volume>>,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Volumes {
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        Ok(Self { known: Mutex::default(), blocks: Blocks::new(directory.join("blocks"))? })
    }

    pub(crate) fn get_or_create(
        &self,
        request: VolumeGetOrCreateRequest,
    ) -> Result<VolumeGetOrCreateResponse> {
        let mut known = lock(&self.known);
        let name = named(&request.environment_name, &request.deployment_name);
        let what = format!("volume {} in environment {}", name.1, name.0);
        let found = known.names.get(&name).and_then(|id| known.volumes.get(id)).cloned();
        let volume = match found {
            Some(volume) if !creation(request.object_creation_type, &what, true)? => volume,
            found => {
                creation(request.object_creation_type, &what, found.is_some())?;
                // The first generation is what Modal makes where none is asked for.
                let version = match request.version() {
                    VolumeFsVersion::V2 => VolumeFsVersion::V2,
                    _ => VolumeFsVersion::V1,
                };
                let id = fresh_id("vo");
                let volume = Arc::new(Volume {
                    id: id.clone(),
                    name: name.1.clone(),
                    version,
                    tree: Mutex::default(),
                });
                known.names.insert(name, id.clone());
                known.volumes.insert(id, volume.clone());
                volume
            }
        };
        let version = volume.version.into();
        let metadata = VolumeMetadata { version, name: volume.name.clone() };
        Ok(VolumeGetOrCreateResponse { volume_id: volume.id.clone(), version, metadata: Some(metadata) })
    }

    pub(crate) fn find(&self, id: &str) -> Result<Arc<Volume>> {
        let found = lock(&self.known).volumes.get(id).cloned();
        found.ok_or_else(|| Status::not_found(format!("there is no volume {id}")))
    }

    /// The files of a volume of the main environment, by name: for a test to look at.
    pub(crate) fn file(&self, name: &str, path: &str) -> Option<Vec<u8>> {
        let known = lock(&self.known);
        let volume = known.volumes.get(known.names.get(&named(MAIN, name))?)?;
        let Kind::File { size, blocks } = lock(&volume.tree).find(path)?.kind.clone() else { return None };
        self.blocks.read(&blocks, size).ok()
    }

    pub(crate) fn delete(&self, request: &VolumeDeleteRequest) -> Result<()> {
        let mut known = lock(&self.known);
        let none = || Status::not_found(format!("there is no volume {}", request.volume_id));
        known.volumes.remove(&request.volume_id).ok_or_else(none)?;
        known.names.retain(|_, id| *id != request.volume_id);
        Ok(())
    }

    /// Takes files over once all their blocks are there; until then it says which are missing.
    pub(crate) fn put_files(
        &self,
        cloud: &Cloud,
        request: VolumePutFiles2Request,
    ) -> Result<VolumePutFiles2Response> {
        let volume = self.find(&request.volume_id)?;
        let mut missing = Vec::new();
        let mut entries = Vec::new();
        for (file_index, file) in request.files.into_iter().enumerate() {
            let mut blocks = Vec::new();
            for (block_index, block) in file.blocks.into_iter().enumerate() {
                let hash = self.blocks.name(&block.contents_sha256)?;
                if !self.blocks.has(&hash) {
                    missing.push(volume_put_files2_response::MissingBlock {
                        file_index: file_index as u64,
                        block_index: block_index as u64,
                        put_url: format!("{}/blocks/{hash}", cloud.url),
                    });
                } else if block
                    .put_response
                    .is_some_and(|response| response != blocks::receipt(&hash).as_bytes())
                {
                    return Err(Status::invalid_argument(format!(
                        "the receipt for block {hash} is another's"
                    )));
                }
                blocks.push(hash);
            }
            if blocks.len() as u64 != file.size.div_ceil(BLOCK) {
                let message = format!("{} has {} bytes, but {} blocks", file.path, file.size, blocks.len());
                return Err(Status::invalid_argument(message));
            }
            let kind = Kind::File { size: file.size, blocks };
            entries.push((
                tree::clean(&file.path)?,
                Entry { kind, mode: file.mode.unwrap_or(0o644), mtime: now() },
            ));
        }
        if missing.is_empty() {
            let mut tree = lock(&volume.tree);
            if request.disallow_overwrite_existing_files
                && let Some((path, _)) = entries.iter().find(|(path, _)| tree.find(path).is_some())
            {
                return Err(Status::already_exists(format!(
                    "{path} exists already in volume {}",
                    volume.name
                )));
            }
            for (path, entry) in entries {
                tree.insert(&path, entry)?;
            }
        }
        Ok(VolumePutFiles2Response { missing_blocks: missing })
    }

    pub(crate) fn get_file(
        &self,
        cloud: &Cloud,
        request: &VolumeGetFile2Request,
    ) -> Result<VolumeGetFile2Response> {
        let volume = self.find(&request.volume_id)?;
        let path = tree::clean(&request.path)?;
        let none = || Status::not_found(format!("there is no file {path} in volume {}", volume.name));
        let tree = lock(&volume.tree);
        tree.refuse_links(&path)?;
        let Kind::File { size, blocks } = tree.find(&path).ok_or_else(none)?.kind.clone() else {
            return Err(Status::invalid_argument(format!("{path} in volume {} is no file", volume.name)));
        };
        let start = request.start.min(size);
        let end = if request.len == 0 { size } else { size.min(start + request.len) };
        let urls = blocks.iter().zip(0_u64..).filter_map(|(hash, index)| {
            let first = index * BLOCK;
            let (from, to) = (start.max(first), end.min(first + BLOCK));
            (from < to).then(|| format!("{}/blocks/{hash}/{}/{}", cloud.url, from - first, to - first))
        });
        Ok(VolumeGetFile2Response { get_urls: urls.collect(), size, start, len: end - start })
    }

    pub(crate) fn list(&self, request: &VolumeListFiles2Request) -> Result<Vec<VolumeListFiles2Response>> {
        let volume = self.find(&request.volume_id)?;
        let path = tree::clean(&request.path)?;
        let tree = lock(&volume.tree);
        tree.refuse_links(&path)?;
        let mut entries = tree.list(&path, request.recursive).ok_or_else(|| {
            Status::not_found(format!("there is no {} in volume {}", request.path, volume.name))
        })?;
        entries.truncate(request.max_entries.map_or(usize::MAX, |most| most as usize));
        Ok(entries.chunks(BATCH).map(|batch| VolumeListFiles2Response { entries: batch.to_vec() }).collect())
    }

    pub(crate) fn remove_file(&self, request: &VolumeRemoveFile2Request) -> Result<()> {
        let volume = self.find(&request.volume_id)?;
        let path = tree::clean(&request.path)?;
        lock(&volume.tree).remove(&path, request.recursive)
    }
}
