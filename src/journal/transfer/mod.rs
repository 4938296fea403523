//! Moving runs between journals of any kind: an export is text, one line a record, which any version can read later.
//!
//! Works through [`Journal`] alone, and holds one batch of records in memory, however large a journal is. What never
//! happens here: a file that was cut or changed is taken for whole; a run that is there is changed; a run comes over
//! in part and looks whole.

mod export;
mod import;
mod line;
mod lines;
#[cfg(test)]
mod tests;

pub use export::{Exported, export};
pub use import::{Came, Imported, import};
pub use line::VERSION;
pub use lines::check;

use super::JournalError;

/// The state in the row of a run whose import is under way or was broken off. It counts as ended, so that nothing
/// carries the run on before all of it is there; importing the same file again completes it.
pub const IMPORTING: &str = "importing";

/// Why runs were not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The journal at this end failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file cannot be read or written, or is not a whole export.
    #[error("{0}")]
    File(String),
}

impl From<std::io::Error> for TransferError {
    fn from(error: std::io::Error) -> Self {
        Self::File(error.to_string())
    }
}

/// What a whole export holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs.
    pub runs: u64,
    /// Records of all of them.
    pub events: u64,
}
