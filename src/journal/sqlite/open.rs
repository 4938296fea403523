//! Opens the file: who may read it, which format it has, how connections behave. Never repairs, never guesses.

use super::error::{damaged, unavailable};
use super::migrate::{self, FORMAT};
use super::wal;
use crate::journal::{Damage, JournalError, MAX_PAYLOAD};
use rusqlite::{Connection, OpenFlags, TransactionBehavior, limits::Limit};
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Marks the file as a journal of harvest ("hrvt").
const APPLICATION: i64 = 0x6872_7674;
/// How long a connection waits for another process before it says that the journal is busy.
const BUSY: Duration = Duration::from_secs(5);
/// Pages the writer's cache may take, in KiB (SQLite counts KiB as negative numbers).
const WRITER_CACHE_KIB: i64 = -8 * 1024;
/// The same of each reader: there are several, and what they read again the machine's own cache has.
const READER_CACHE_KIB: i64 = -512;
/// The write-ahead log is cut to this many bytes once it was copied into the file.
const WAL_LEFTOVER: i64 = 16 << 20;

/// Events live in the tree of their key, so that a run is read from neighbouring pages. Runs are listed by id, which is
/// by age. `unfinished` holds only the few runs that go on, among many thousands. This is format 1, from which `migrate`
/// climbs to that of today, so that a new journal and a migrated one are the same.
pub(super) const SCHEMA: &str = "
    CREATE TABLE runs (
        run TEXT NOT NULL PRIMARY KEY, workflow TEXT NOT NULL, state TEXT NOT NULL,
        started_at INTEGER NOT NULL, finished_at INTEGER, usd REAL, tokens INTEGER,
        last_seq INTEGER NOT NULL, last_seal INTEGER NOT NULL, seal INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX runs_by_workflow ON runs (workflow, run);
    CREATE INDEX runs_by_state ON runs (state, run);
    CREATE INDEX runs_unfinished ON runs (run) WHERE finished_at IS NULL;
    CREATE TABLE events (
        run TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, seal INTEGER NOT NULL, payload BLOB NOT NULL,
        PRIMARY KEY (run, seq)
    ) STRICT, WITHOUT ROWID;
";

/// That somebody has the journal open: a lock that all who do share, until dropped.
pub(super) struct Opener {
    file: File,
    /// Whether nobody else has it open. True only while it is being opened.
    alone: bool,
}

impl Opener {
    fn take(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path.with_extension("open"))?;
        let alone = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                file.lock_shared()?;
                false
            }
            Err(TryLockError::Error(error)) => return Err(error),
        };
        Ok(Self { file, alone })
    }

    /// Lets others in. Whoever looks through the log between the two locks finds nobody writing: we wait for them.
    fn share(&mut self) -> io::Result<()> {
        // That a journal was created is noted, so that an empty file in its place is no new one.
        if self.file.metadata()?.len() == 0 {
            self.file.write_all(b"created\n")?;
            self.file.sync_all()?;
        }
        if std::mem::take(&mut self.alone) { self.file.lock_shared() } else { Ok(()) }
    }
}

/// Refuses a journal that SQLite would open with fewer commits than were acknowledged, and keeps a copy of its files.
/// Nobody else has it open.
fn refuse_damage(path: &Path, opener: &Opener) -> Result<(), JournalError> {
    let failed = |error: io::Error| {
        JournalError::Unavailable(format!("cannot read the journal {}: {error}", path.display()))
    };
    let lost = |what: String| Err(JournalError::Damaged(Damage { run: None, seq: None, what }));
    match path.metadata() {
        Ok(data) if data.len() == 0 && opener.file.metadata().map_err(failed)?.len() > 0 => {
            return lost(format!("{} is empty, and all runs are lost", path.display()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => opener.file.set_len(0).map_err(failed)?,
        _ => {}
    }
    let Some(broken) = wal::scan(path).map_err(failed)? else { return Ok(()) };
    let log = wal::beside(path, "-wal");
    let kept = path.with_extension(format!("damaged-{:08x}", broken.mark));
    let copied = match keep_copy(path, &kept) {
        Ok(()) => format!("a copy is in {}", kept.display()),
        Err(error) => format!("copy its files before you touch them (harvest could not: {error})"),
    };
    lost(format!(
        "{} {}: what was acknowledged from there on is lost, what was before is not. Nothing was changed, {copied}. To go \
         on without what is lost: sqlite3 {} 'PRAGMA wal_checkpoint(TRUNCATE)'",
        log.display(),
        broken.what,
        path.display()
    ))
}

/// Copies the files of a journal into a directory, once.
fn keep_copy(path: &Path, to: &Path) -> io::Result<()> {
    if to.exists() {
        return Ok(());
    }
    let partly = to.with_extension("partly");
    DirBuilder::new().recursive(true).mode(0o700).create(&partly)?;
    for suffix in ["", "-wal", "-shm"] {
        let file = wal::beside(path, suffix);
        if let Some(name) = file.file_name().filter(|_| file.exists()) {
            std::fs::copy(&file, partly.join(name))?;
        }
    }
    std::fs::rename(partly, to)
}

/// Opens the only connection of this process that writes, and creates the journal where there is none.
pub(super) fn writer(path: &Path) -> Result<(Connection, Opener), JournalError> {
    let cannot = |error: io::Error| {
        JournalError::Unavailable(format!("cannot open the journal {}: {error}", path.display()))
    };
    create_home(path).and_then(|()| Opener::take(path)).map_err(cannot).and_then(|mut opener| {
        if opener.alone {
            refuse_damage(path, &opener)?;
        }
        let connection = open(path)?;
        opener.share().map_err(cannot)?;
        Ok((connection, opener))
    })
}

fn open(path: &Path) -> Result<Connection, JournalError> {
    // Closing any handle on the file drops the locks that SQLite holds on it in this process (POSIX says so). While the
    // file is created by hand, nobody else may have it open here.
    static CREATING: Mutex<()> = Mutex::new(());
    let creating = CREATING.lock().unwrap_or_else(PoisonError::into_inner);
    create_private(path).map_err(|error| {
        JournalError::Unavailable(format!("cannot create the journal {}: {error}", path.display()))
    })?;
    let mut connection = connect_to_write(path)?;
    match found(&connection, path)? {
        Found::Current => {}
        Found::Nothing => create_format(&mut connection, path, FORMAT)?,
        Found::Older(_) => {
            drop(connection);
            migrate::migrate(path)?;
            connection = connect_to_write(path)?;
        }
    }
    if pragma::<String>(&connection, "journal_mode")? == "delete" {
        drop(connection);
        migrate::finish(path)?;
        connection = connect_to_write(path)?;
    }
    drop(creating);
    let mode: String = pragma(&connection, "journal_mode")?;
    let vacuum: i64 = pragma(&connection, "auto_vacuum")?;
    if mode != "wal" || vacuum != 2 {
        return Err(JournalError::Format(format!(
            "{} is not set up as harvest does (journal mode {mode}, auto vacuum {vacuum}); the home must be on a local \
             disk, not on a network share",
            path.display()
        )));
    }
    // FULL syncs the write-ahead log at every commit: without it, a power cut takes acknowledged events.
    for (name, value) in [("synchronous", 2), ("journal_size_limit", WAL_LEFTOVER)] {
        connection.pragma_update(None, name, value).map_err(|error| unavailable(&error))?;
    }
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, JournalError> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, READER_CACHE_KIB)
}

/// Opens a connection that writes, whatever the file is.
pub(super) fn connect_to_write(path: &Path) -> Result<Connection, JournalError> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, WRITER_CACHE_KIB)
}

/// Opens a copy of a journal that nobody else knows of.
pub(super) fn copy(path: &Path) -> Result<Connection, JournalError> {
    let connection = connect_to_write(path)?;
    if found(&connection, path)? != Found::Current {
        return Err(JournalError::Unavailable(format!("the copy {} is no journal", path.display())));
    }
    Ok(connection)
}

fn connect(path: &Path, access: OpenFlags, cache_kib: i64) -> Result<Connection, JournalError> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .and_then(|connection| {
            connection.busy_timeout(BUSY)?;
            // No row is larger than a payload and its neighbours; a damaged length must not ask for gigabytes.
            connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_PAYLOAD as i32 + 64 * 1024)?;
            connection.pragma_update(None, "cell_size_check", true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "cache_size", cache_kib)?;
            Ok(connection)
        })
        .map_err(|error| unavailable(&error))?;
    Ok(connection)
}

fn create_home(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |home| DirBuilder::new().recursive(true).mode(0o700).create(home))
}

/// Creates the file for its owner alone, or takes the rights of others away. SQLite gives its side files the same mode.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = path.metadata()?.permissions().mode();
            if mode & 0o077 != 0 {
                std::fs::set_permissions(path, Permissions::from_mode(mode & 0o700))?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Empty.
    Nothing,
    /// A journal of this older format.
    Older(i64),
    /// A journal of the format of this version.
    Current,
}

/// What the file is. One of a newer format, or of somebody else, is refused.
pub(super) fn found(connection: &Connection, path: &Path) -> Result<Found, JournalError> {
    let format: i64 = pragma(connection, "user_version")?;
    let application: i64 = pragma(connection, "application_id")?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| damaged(None, &error))?;
    match (application, format, tables) {
        (0, 0, 0) => Ok(Found::Nothing),
        (APPLICATION, FORMAT, _) => Ok(Found::Current),
        (APPLICATION, 1..FORMAT, _) => Ok(Found::Older(format)),
        (APPLICATION, newer, _) if newer > FORMAT => Err(JournalError::Format(format!(
            "the journal {} has format {newer}, this harvest reads formats up to {FORMAT}: use a newer harvest, or \
             another home (--home DIR)",
            path.display()
        ))),
        _ => Err(JournalError::Format(format!(
            "{} is not a journal of harvest: move it away, or use another home (--home DIR)",
            path.display()
        ))),
    }
}

/// Writes the first pages of a journal of `format`. One process does it, others wait for it.
pub(super) fn create_format(
    connection: &mut Connection,
    path: &Path,
    format: i64,
) -> Result<(), JournalError> {
    let _lock = migrate::lock(path)?;
    if found(connection, path)? != Found::Nothing {
        return Ok(());
    }
    let created = (|| {
        // Before the first table, and before the switch to WAL writes the first page, or it has no effect.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(SCHEMA)?;
        if format > 1 {
            migrate::climb(&transaction, 1)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", format)?;
        transaction.commit()
    })();
    created.map_err(|error| unavailable(&error))?;
    // The name of the file must survive a power cut as well as what is in it.
    path.parent().map_or(Ok(()), |home| File::open(home)?.sync_all()).map_err(|error: io::Error| {
        JournalError::Unavailable(format!("cannot create the journal {}: {error}", path.display()))
    })
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> Result<T, JournalError> {
    connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| damaged(None, &error))
}
