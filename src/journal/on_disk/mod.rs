//! What every journal on disk must do when processes die, disks fill and files are damaged, as one suite.

mod damage;
mod power;
mod process;

pub(super) use process::command;

use super::contract::{id, record, records, row};
use super::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A kind of journal, as this suite needs it.
pub(super) struct Kind {
    name: &'static str,
    open: fn(&Path) -> Result<Arc<dyn Journal>, JournalError>,
    /// The files that are synced before an acknowledgement, as the end of a path, and the call that does it.
    synced: &'static [(&'static str, &'static str)],
    /// A directory in the home that gets a disk of its own when the power is cut: syncing a file writes what else its file
    /// system holds, so that a sync which is missing would not show.
    apart: Option<&'static str>,
    /// What a write says that the size limit of files forbids.
    too_large: &'static str,
}

pub(super) const SQLITE: Kind = Kind {
    name: "sqlite",
    open: |home| Ok(Arc::new(SqliteJournal::open(home)?)),
    synced: &[("sync(", "journal.db-wal>")],
    apart: None,
    too_large: "disk I/O error, SQLite code 778",
};

/// sled's own thread calls fsync now and then; only fdatasync is ours.
#[cfg(feature = "sled")]
pub(super) const SLED: Kind = Kind {
    name: "sled",
    open: |home| Ok(Arc::new(SledJournal::open(home)?)),
    synced: &[("fdatasync(", "journal.sled/store/db>"), ("fdatasync(", "journal.sled/ends>")],
    apart: Some("journal.sled/store"),
    too_large: r#"Os { code: 27, kind: FileTooLarge, message: "File too large" }"#,
};

/// The kind of that name.
fn kind(name: &str) -> &'static Kind {
    match name {
        "sqlite" => &SQLITE,
        #[cfg(feature = "sled")]
        "sled" => &SLED,
        other => panic!("no journal {other}"),
    }
}

/// Makes each of these functions a test of every kind of journal.
macro_rules! for_every_kind {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $test() { super::$test(&crate::journal::on_disk::SQLITE).await })+
        }
        #[cfg(feature = "sled")]
        mod sled {
            $(#[tokio::test] async fn $test() { super::$test(&crate::journal::on_disk::SLED).await })+
        }
    };
}
use for_every_kind;

/// How many times something random is tried: what the variable says, else `few`.
fn trials(variable: &str, few: usize) -> usize {
    std::env::var(variable).map_or(few, |trials| trials.parse().unwrap())
}
