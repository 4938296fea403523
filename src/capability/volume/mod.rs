//! Volumes: named directories that outlive sandboxes. Their content is hostile to readers on the host.

pub mod directory;

use super::Result;
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

/// A file or directory of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeEntry {
    /// Path from the volume's root, without a leading slash.
    pub path: String,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// Whether it is a directory.
    pub directory: bool,
    /// When it was last written, or changed, by the clock of where it is.
    pub written_at: Timestamp,
}

/// The content of a file with the tag to hand back on a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes.
    pub content: Bytes,
    /// Names this content.
    pub version: String,
}

/// Named directories. Names are `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`; paths never leave the volume, whatever links it holds.
#[async_trait]
pub trait VolumeStore: Send + Sync {
    /// All volumes by name, sorted.
    async fn list(&self) -> Result<Vec<String>>;
    /// Files and directories below `path`, sorted, at most 10,000. `not-found` where the volume is missing.
    async fn entries(&self, volume: &str, path: &str) -> Result<Vec<VolumeEntry>>;
    /// A file, or `None` where there is none (or no volume). `too-large` beyond `limit` bytes.
    async fn get(&self, volume: &str, path: &str, limit: u64) -> Result<Option<Versioned>>;
    /// Writes a file whole and atomically, making the volume and parents. With `expected`, only if the file's version is
    /// still that one (`Some(None)`: only if there is no file), else `conflict`. Returns the new version.
    async fn put(
        &self,
        volume: &str,
        path: &str,
        content: &[u8],
        expected: Option<Option<&str>>,
    ) -> Result<String>;
    /// Deletes a file or directory, or the whole volume where `path` is empty. `not-found` where there is none.
    async fn remove(&self, volume: &str, path: &str) -> Result<()>;
}
