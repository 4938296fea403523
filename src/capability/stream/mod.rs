//! Streams: what steps say while they run. Append-only, bounded, read by cursor; beside the journal, never in it.

#[cfg(test)]
mod contract;
mod line;
mod local;
mod memory;

pub use local::LocalStreams;
pub use memory::MemoryStreams;

use super::Result;
use crate::id::{RunId, StepRef};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Bytes of text in one entry.
pub const MAX_TEXT: usize = 64 * 1024;
/// Bytes of one typed event, as JSON.
pub const MAX_DATA: usize = 256 * 1024;
/// Bytes of the stream of one run, as it is stored.
pub const MAX_STREAM: u64 = 64 << 20;
/// The stream in which the host says how well a step's sandboxes are held in: shown when asked for.
pub const REPORTS: &str = "sandbox";
/// Entries in one answer of [`StreamStore::read`], however many were asked for.
pub const MAX_ENTRIES: usize = 10_000;

/// What one entry carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Text, at most [`MAX_TEXT`], not necessarily whole lines.
    Text(String),
    /// A typed event, at most [`MAX_DATA`] as JSON.
    Data(serde_json::Value),
}

/// One entry of a run's stream, as `harvest logs --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamEntry {
    /// The step that spoke.
    #[serde(flatten)]
    pub who: StepRef,
    /// Its attempt.
    pub attempt: u32,
    /// `stdout`, `stderr`, `log`, `agent`, `progress`, or a name of the component's own.
    pub stream: String,
    /// When the host took it.
    pub at: jiff::Timestamp,
    /// The content.
    #[serde(flatten)]
    pub content: Content,
}

/// Where a reader stands in a run's stream. 0 is the start; later values come from the store.
pub type Cursor = u64;

/// Keeps streams. At most [`MAX_STREAM`] a run; past that a last entry says so and the rest is dropped.
#[async_trait]
pub trait StreamStore: Send + Sync {
    /// Appends one entry. Entries of one step arrive in order. Readers of this process see it at once, those of others
    /// within 50 ms. An entry that is too large is refused; one that finds the stream full is dropped without an error.
    async fn append(&self, run: &RunId, entry: StreamEntry) -> Result<()>;
    /// Entries after `cursor`, each with the cursor behind it; at most `limit` and [`MAX_ENTRIES`]. Empty at the end. A
    /// cursor that is not from this store stands for the next entry behind it.
    async fn read(&self, run: &RunId, cursor: Cursor, limit: usize) -> Result<Vec<(Cursor, StreamEntry)>>;
    /// Returns once there may be entries after `cursor`, from this process or another. Cancel-safe.
    async fn changed(&self, run: &RunId, cursor: Cursor);
    /// Every run that has streams, with the bytes that they take, in no order.
    async fn runs(&self) -> Result<Vec<(RunId, u64)>>;
    /// Drops the streams of a run.
    async fn remove(&self, run: &RunId) -> Result<()>;
}
