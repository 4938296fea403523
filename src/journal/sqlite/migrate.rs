//! Brings a journal of an older format to that of today, one step a version. Keeps the old file beside it, and can be
//! killed at any moment: what is there then is a journal of the older or the newer format, and the next opening goes on.
//!
//! While it migrates, the file is not in WAL mode. An older harvest refuses such a file, and the switch succeeds only
//! where no connection of any process is left, so that nobody writes rows of the older format into the newer one.

use super::error::{cause, unavailable};
use super::open::{self, Found};
use super::{backup, envelope};
use crate::journal::JournalError;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// From each format to the next. The first leads from 1 to 2; none is ever changed or taken away.
const STEPS: &[fn(&Transaction<'_>) -> rusqlite::Result<()>] = &[sizes];
/// The format this version writes, and the newest it reads.
pub(super) const FORMAT: i64 = STEPS.len() as i64 + 1;
/// How long to wait for other processes to close the journal.
const PATIENCE: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(10) };
/// Pause between two looks whether they have.
const PAUSE: Duration = Duration::from_millis(20);

/// Takes a transaction from format `from` to the newest.
pub(super) fn climb(transaction: &Transaction<'_>, from: i64) -> rusqlite::Result<()> {
    let done = usize::try_from(from - 1).unwrap_or(0);
    STEPS.iter().skip(done).try_for_each(|step| step(transaction))
}

/// Format 2: each row knows the bytes of its run, and ended runs are found by when they ended.
fn sizes(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "ALTER TABLE runs ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
         CREATE INDEX runs_by_end ON runs (finished_at, run) WHERE finished_at IS NOT NULL;",
    )?;
    let rows: Vec<(String, u32)> = transaction
        .prepare("SELECT run, seal FROM runs")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut sum =
        transaction.prepare("SELECT coalesce(sum(length(payload)), 0) FROM events WHERE run = ?1")?;
    let mut update = transaction.prepare("UPDATE runs SET bytes = ?2, seal = ?3 WHERE run = ?1")?;
    for (run, seal) in rows {
        // Events that cannot be read stay as damaged as they were; whoever reads them hears of it.
        let bytes: i64 = sum.query_row([&run], |row| row.get(0)).unwrap_or(0);
        // The new checksum goes on where the old one ended: one that was wrong before is wrong now.
        update.execute(params![run, bytes, envelope::seal_size(seal, bytes.cast_unsigned())])?;
    }
    Ok(())
}

/// Migrates the journal at `path`. The caller has no connection to it.
pub(super) fn migrate(path: &Path) -> Result<(), JournalError> {
    let _lock = lock(path)?;
    let mut connection = open::connect_to_write(path)?;
    let Found::Older(from) = open::found(&connection, path)? else { return Ok(()) };
    reached("begun");
    let migrated = alone(&connection, path).and_then(|()| {
        reached("alone");
        keep_old(&connection, path, from)?;
        reached("kept");
        steps(&mut connection, from).map_err(|error| failed(path, from, &cause(&error)))
    });
    if migrated.is_err() {
        // As it was, for the harvest that wrote it. Where this fails as well, the first error says more.
        let _ = to_wal(&connection);
        return migrated;
    }
    reached("migrated");
    to_wal(&connection)
}

/// Brings a journal back into WAL mode whose migration was killed just before it would have.
pub(super) fn finish(path: &Path) -> Result<(), JournalError> {
    let _lock = lock(path)?;
    to_wal(&open::connect_to_write(path)?)
}

/// Where the journal of format `from` is kept.
pub(super) fn kept(path: &Path, from: i64) -> PathBuf {
    path.with_extension(format!("v{from}.db"))
}

/// Each step is a transaction of its own, and says in it which format it led to.
fn steps(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    for (step, to) in STEPS.iter().zip(2..).skip_while(|(_, to)| *to <= from) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        step(&transaction)?;
        transaction.pragma_update(None, "user_version", to)?;
        reached("stepped");
        transaction.commit()?;
        reached("committed");
    }
    Ok(())
}

/// Leaves WAL mode, which works only for the last connection.
fn alone(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let since = Instant::now();
    loop {
        let switched =
            connection.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0));
        match switched {
            Ok(mode) if mode == "delete" => return Ok(()),
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) => {
                return Err(unavailable(&error));
            }
            _ if since.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            _ => {
                return Err(JournalError::Busy(format!(
                    "an older harvest has {} open, which must be migrated",
                    path.display()
                )));
            }
        }
    }
}

fn to_wal(connection: &Connection) -> Result<(), JournalError> {
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))
        .map(drop)
        .map_err(|error| unavailable(&error))
}

/// Copies the file beside itself, under a name that says its format. One that an earlier try kept is replaced: it may
/// be older than what the journal holds now.
fn keep_old(connection: &Connection, path: &Path, from: i64) -> Result<(), JournalError> {
    let kept = kept(path, from);
    let draft = kept.with_extension("part");
    let io = |error: io::Error| failed(path, from, &error);
    for leftover in ["part", "part-wal", "part-shm", "part-journal"] {
        match fs::remove_file(kept.with_extension(leftover)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    backup::write(connection, &draft, &|| reached("copying")).map_err(|error| failed(path, from, &error))?;
    let copied = Connection::open(&draft).map_err(|error| unavailable(&error))?;
    // The copy is to be opened by the harvest that wrote it.
    to_wal(&copied)?;
    copied.close().map_err(|(_, error)| unavailable(&error))?;
    File::open(&draft).and_then(|copy| copy.sync_all()).map_err(io)?;
    reached("copied");
    fs::rename(&draft, &kept).map_err(io)?;
    path.parent().map_or(Ok(()), |home| File::open(home)?.sync_all()).map_err(io)?;
    tracing::warn!(
        "{} has format {from} and becomes {FORMAT}; the old one is {}",
        path.display(),
        kept.display()
    );
    Ok(())
}

fn failed(path: &Path, from: i64, why: &dyn std::fmt::Display) -> JournalError {
    JournalError::Unavailable(format!(
        "{} has format {from} and could not be migrated to {FORMAT}; it is as it was: {why}",
        path.display()
    ))
}

/// One process makes or migrates the file, others wait for it.
pub(super) fn lock(path: &Path) -> Result<File, JournalError> {
    let lock = path.with_extension("lock");
    let locked = (|| {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock)?;
        file.lock()?;
        Ok(file)
    })();
    locked.map_err(|error: io::Error| {
        JournalError::Unavailable(format!("cannot lock the journal {}: {error}", path.display()))
    })
}

/// A place at which tests kill the process.
fn reached(stage: &str) {
    #[cfg(test)]
    super::tests::migrate::reached(stage);
    let _ = stage;
}
