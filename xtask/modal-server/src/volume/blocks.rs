//! Blocks of files, named by their SHA-256, on disk and over HTTP.

use crate::cloud::Cloud;
use crate::error::{self, Result};
use axum::body::Bytes;
use axum::extract::{Path as Named, State};
use axum::http::StatusCode;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use tonic::Status;

/// Bytes of a block; the last one of a file may have fewer, and zeros at the end may be left out.
pub(super) const BLOCK: u64 = 8 << 20;

pub(super) struct Blocks(PathBuf);

/// What the answer to a PUT holds, for the second call of VolumePutFiles2.
pub(super) fn receipt(name: &str) -> String {
    format!("received-{name}")
}

impl Blocks {
    pub(super) fn new(directory: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&directory)
            .map_err(|error| error::io("make the directory of blocks", &error))?;
        Ok(Self(directory))
    }

    /// The name of the block with this hash.
    pub(super) fn name(&self, hash: &[u8]) -> Result<String> {
        match hash.len() {
            32 => Ok(hex::encode(hash)),
            length => Err(Status::invalid_argument(format!("a SHA-256 has 32 bytes, not {length}"))),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.join(name).is_file()
    }

    /// Keeps a block and says its name.
    pub(super) fn keep(&self, data: &[u8]) -> Result<String> {
        let name = hex::encode(Sha256::digest(data));
        if !self.has(&name) {
            let fresh = self.0.join(format!(".{}", ulid::Ulid::generate()));
            std::fs::write(&fresh, data)
                .and_then(|()| std::fs::rename(&fresh, self.0.join(&name)))
                .map_err(|error| error::io("keep a block", &error))?;
        }
        Ok(name)
    }

    /// A whole file.
    pub(super) fn read(&self, blocks: &[String], size: u64) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        for (name, index) in blocks.iter().zip(1_u64..) {
            let block =
                std::fs::read(self.0.join(name)).map_err(|error| error::io("read a block", &error))?;
            content.extend(block);
            content.resize(usize::try_from(size.min(index * BLOCK)).unwrap_or(usize::MAX), 0);
        }
        Ok(content)
    }
}

/// `PUT /blocks/SHA256`.
pub(crate) async fn put(
    State(cloud): State<Arc<Cloud>>,
    Named(name): Named<String>,
    body: Bytes,
) -> (StatusCode, String) {
    if hex::encode(Sha256::digest(&body)) != name {
        return (StatusCode::BAD_REQUEST, "this is another block".into());
    }
    match cloud.volumes.blocks.keep(&body) {
        Ok(name) => (StatusCode::OK, receipt(&name)),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.message().into()),
    }
}

/// `GET /blocks/SHA256/FROM/TO`.
pub(crate) async fn get(
    State(cloud): State<Arc<Cloud>>,
    Named((name, from, to)): Named<(String, usize, usize)>,
) -> (StatusCode, Vec<u8>) {
    let known = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let Some(block) = known.then(|| std::fs::read(cloud.volumes.blocks.0.join(&name)).ok()).flatten() else {
        return (StatusCode::NOT_FOUND, b"there is no such block".to_vec());
    };
    let from = from.min(block.len());
    (StatusCode::OK, block[from..to.clamp(from, block.len())].to_vec())
}
