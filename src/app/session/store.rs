//! The records of sessions: one file each below `sessions` of the home, only for its owner, changed under one lock and
//! replaced whole.

use super::record::{Session, check_id};
use crate::app::AppError;
use crate::capability::CapabilityError;
use crate::config::Home;
use crate::step::ErrorKind;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

/// Pause between two looks at the lock; it is held for files, never for a run.
const PAUSE: Duration = Duration::from_millis(20);
/// How long to wait for the lock: a sandbox may be removed under it.
const LIMIT: Duration = Duration::from_secs(120);
/// Sessions of one home, stopped ones included.
const SESSIONS_MAX: usize = 1_000;

/// The records of a home.
#[derive(Clone, Debug)]
pub(in crate::app) struct Records {
    directory: PathBuf,
}

/// The right to change records, until dropped.
#[derive(Debug)]
pub(super) struct Held {
    records: Records,
    _lock: File,
}

impl Records {
    /// Those of a home; their directory is made with the first of them.
    pub(in crate::app) fn of(home: &Home) -> Self {
        Self { directory: home.join("sessions") }
    }

    /// The file of a session's conversation.
    pub(super) fn conversation(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.db"))
    }

    /// One session, `None` where there is none of that id.
    pub(super) fn find(&self, id: &str) -> Result<Option<Session>, AppError> {
        check_id(id)?;
        let path = self.file(id);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json)
                .map(Some)
                .map_err(|error| AppError::Config(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// All sessions, the oldest first.
    pub(super) fn all(&self) -> Result<Vec<Session>, AppError> {
        let mut sessions = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(sessions),
            Err(error) => return Err(failed(&self.directory, &error)),
        };
        for entry in entries {
            let name = entry.map_err(|error| failed(&self.directory, &error))?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            if let Some(id) = id.filter(|id| check_id(id).is_ok()) {
                // One may go meanwhile.
                sessions.extend(self.find(id)?);
            }
        }
        sessions.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(sessions)
    }

    /// Takes the lock of all records. Waits for whoever has it.
    pub(super) async fn hold(&self) -> Result<Held, AppError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(|error| failed(&self.directory, &error))?;
        let path = self.directory.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(|error| failed(&path, &error))?;
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Held { records: self.clone(), _lock: lock }),
                Err(TryLockError::Error(error)) => return Err(failed(&path, &error)),
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() >= deadline => {
                    let message =
                        format!("another process has kept the sessions busy for {} s", LIMIT.as_secs());
                    return Err(CapabilityError::new(ErrorKind::UNAVAILABLE, message).into());
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn file(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }
}

impl Held {
    /// Writes a session's record: readers see the old one or the new one, also after a crash.
    pub(super) fn write(&self, session: &Session) -> Result<(), AppError> {
        check_id(&session.id)?;
        let path = self.records.file(&session.id);
        if !path.exists() && self.records.all()?.len() >= SESSIONS_MAX {
            let message = format!(
                "this home has {SESSIONS_MAX} sessions: `harvest session stop` ends some, and `harvest gc` forgets them in time"
            );
            return Err(CapabilityError::new(ErrorKind::QUOTA, message).into());
        }
        let draft = self.records.directory.join(format!(".{}.draft", session.id));
        let written = serde_json::to_vec_pretty(session).map_err(io::Error::from).and_then(|json| {
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
            file.write_all(&json)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.records.directory)?.sync_all()
        });
        written.map_err(|error| failed(&path, &error))
    }

    /// Forgets a session, with its conversation.
    pub(super) fn forget(&self, id: &str) -> Result<(), AppError> {
        check_id(id)?;
        for path in [self.records.conversation(id), self.records.file(id)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path, &error)),
                _ => {}
            }
        }
        Ok(())
    }
}

fn failed(path: &std::path::Path, error: &io::Error) -> AppError {
    AppError::Config(format!("the records of sessions: {}: {error}", path.display()))
}
