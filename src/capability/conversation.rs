//! What was said in a session, as one SQLite file for people and programs: table `conversation` has each prompt and its
//! answer, `files_modified` the files that were committed after it.

use super::{CapabilityError, Result, blocking};
use crate::id::RunId;
use crate::step::ErrorKind;
use jiff::Timestamp;
use rusqlite::{Connection, params};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Bytes of one file; the older half of what was said goes where it grows beyond.
const BYTES_MAX: i64 = 64 << 20;

/// `results` names the runs that are in, so that none is written down twice.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS conversation(
        id INTEGER PRIMARY KEY, role TEXT NOT NULL, content TEXT NOT NULL, timestamp TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS files_modified(path TEXT NOT NULL, timestamp TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS results(run TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
";

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `user`, `assistant`, or `error` where an answer did not come.
    pub role: &'static str,
    /// The words.
    pub content: String,
    /// When.
    pub at: Timestamp,
}

/// The file of one session.
#[derive(Clone, Debug)]
pub struct Conversation(PathBuf);

impl Conversation {
    /// The file at `path`, made with mode 0600 when first written. Its directory must be there.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Adds what a run has come to, all of it or nothing. Once for each run: a second time changes nothing.
    pub async fn add(&self, run: RunId, said: Vec<Said>, files: Vec<String>, at: Timestamp) -> Result<()> {
        let path = self.0.clone();
        blocking(move || {
            add(&path, &run, &said, &files, at).map_err(|error| {
                CapabilityError::new(ErrorKind::OTHER, format!("cannot write {}: {error}", path.display()))
            })
        })
        .await
    }

    /// The file as it is.
    pub async fn bytes(&self) -> Result<Vec<u8>> {
        let path = self.0.clone();
        blocking(move || {
            std::fs::read(&path)
                .map_err(|error| CapabilityError::io(format!("read {}", path.display()), &error))
        })
        .await
    }
}

fn add(path: &Path, run: &RunId, said: &[Said], files: &[String], at: Timestamp) -> rusqlite::Result<()> {
    // SQLite would make it for others to read. Where it cannot be made, SQLite says why.
    drop(OpenOptions::new().create(true).append(true).mode(0o600).open(path));
    let mut file = Connection::open(path)?;
    let transaction = file.transaction()?;
    transaction.execute_batch(TABLES)?;
    if transaction.execute("INSERT OR IGNORE INTO results VALUES (?1)", [run.as_str()])? == 0 {
        return Ok(());
    }
    for Said { role, content, at } in said {
        let row = params![role, content, at.to_string()];
        transaction.execute("INSERT INTO conversation(role, content, timestamp) VALUES (?1, ?2, ?3)", row)?;
    }
    for path in files {
        transaction.execute("INSERT INTO files_modified VALUES (?1, ?2)", params![path, at.to_string()])?;
    }
    transaction.commit()?;
    shrink(&file, BYTES_MAX)
}

/// Drops the older half where the file is larger than it may be.
fn shrink(file: &Connection, most: i64) -> rusqlite::Result<()> {
    let number = |pragma: &str| file.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
    if number("page_count")?.saturating_mul(number("page_size")?) <= most {
        return Ok(());
    }
    file.execute_batch(
        "DELETE FROM conversation WHERE id <= (SELECT (min(id) + max(id)) / 2 FROM conversation);
         DELETE FROM files_modified WHERE rowid <= (SELECT (min(rowid) + max(rowid)) / 2 FROM files_modified);
         VACUUM;",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn rows(path: &Path) -> Vec<(String, String)> {
        let file = Connection::open(path).unwrap();
        let mut query = file.prepare("SELECT role, content FROM conversation ORDER BY id").unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[tokio::test]
    async fn each_run_is_written_down_once_and_the_file_is_whole() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a.db");
        let file = Conversation::at(path.clone());
        let said =
            |role, content: &str| Said { role, content: content.to_owned(), at: Timestamp::UNIX_EPOCH };
        let run = RunId::generate();
        for _ in 0..2 {
            let both = vec![said("user", "fix it"), said("assistant", "fixed")];
            file.add(run.clone(), both, vec!["a.txt".into()], Timestamp::UNIX_EPOCH).await.unwrap();
        }
        file.add(RunId::generate(), vec![said("user", "more")], vec![], Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // A copy of the bytes alone is the whole of it.
        let copy = home.path().join("copy.db");
        std::fs::write(&copy, file.bytes().await.unwrap()).unwrap();
        let pairs = [("user", "fix it"), ("assistant", "fixed"), ("user", "more")];
        assert_eq!(rows(&copy), pairs.map(|(role, content)| (role.to_owned(), content.to_owned())));
        let connection = Connection::open(&copy).unwrap();
        let files: i64 =
            connection.query_row("SELECT count(*) FROM files_modified", [], |row| row.get(0)).unwrap();
        assert_eq!(files, 1);
        shrink(&connection, 0).unwrap();
        assert_eq!(rows(&copy), [("user".to_owned(), "more".to_owned())]);
    }
}
