//! Copies the journal into another file while others write. Never touches the one it copies.

use super::error::{cause, unavailable};
use super::{open, verify};
use crate::journal::{JournalError, VerifyReport};
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Pages copied at a time; few in tests, which stop in between.
const PAGES: i32 = if cfg!(test) { 8 } else { 2000 };
/// How long to wait where another process has locked the file for a moment.
const PAUSE: Duration = Duration::from_millis(20);

/// Copies the moment that `source` is reading into a new file, syncs it, and reads it again.
pub(super) fn copy(source: &Connection, file: &Path) -> Result<VerifyReport, JournalError> {
    write(source, file, &|| {}).map_err(|error| {
        JournalError::Unavailable(format!("cannot copy the journal to {}: {error}", file.display()))
    })?;
    let mut copy = open::copy(file)?;
    let report = {
        let moment = copy.transaction().map_err(|error| unavailable(&error))?;
        verify::verify(&moment)
    };
    copy.close().map_err(|(_, error)| unavailable(&error))?;
    Ok(report)
}

/// Copies the moment that `source` is reading into a new file, which it syncs. Says why it could not.
pub(super) fn write(source: &Connection, file: &Path, after_some: &dyn Fn()) -> Result<(), String> {
    let io = |error: io::Error| error.to_string();
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(io)?;
    let copied = (|| {
        // The first read settles the moment: without it, every commit of another process would start the copy anew.
        source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let mut target = Connection::open(file)?;
        let backup = Backup::new(source, &mut target)?;
        loop {
            match backup.step(PAGES)? {
                StepResult::Done => return Ok(()),
                StepResult::More => after_some(),
                _ => std::thread::sleep(PAUSE),
            }
        }
    })();
    copied.map_err(|error| cause(&error))?;
    // SQLite has closed the copy, so that no lock of its is lost with this handle.
    File::open(file).and_then(|copy| copy.sync_all()).map_err(io)
}
