//! What only a journal on disk can get wrong.

mod backup;
mod damage;
pub(super) mod migrate;

use super::*;
use crate::journal::committer::WAITING_KIB;
use crate::journal::contract::{self, id, record, records, row};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[tokio::test]
async fn keeps_the_contract() {
    let home = tempfile::tempdir().unwrap();
    let opened = std::cell::Cell::new(0);
    contract::run(async || {
        opened.set(opened.get() + 1);
        Box::new(SqliteJournal::open(&home.path().join(opened.get().to_string())).unwrap())
            as Box<dyn Journal>
    })
    .await;
}

#[tokio::test]
async fn is_there_after_closing_and_private_all_the_time() {
    let parent = tempfile::tempdir().unwrap();
    let home = parent.path().join("a/home");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for expected in 0..3 {
        let journal = SqliteJournal::open(&home).unwrap();
        journal
            .append(&id(1), expected, records(&id(1), expected + 1, expected + 1), row(&id(1), "running"))
            .await
            .unwrap();
        assert_eq!(journal.read(&id(1), 0, 10).await.unwrap(), records(&id(1), 1, expected + 1));
        assert_eq!(mode(&home), 0o700);
        let files: Vec<PathBuf> = home.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.iter().any(|file| file.ends_with("journal.db-wal")), "{files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        drop(journal);
        // Rights that somebody gave away are taken back.
        std::fs::set_permissions(home.join(FILE), PermissionsExt::from_mode(0o644)).unwrap();
    }
}

#[tokio::test]
async fn syncs_every_commit_and_can_shrink() {
    let home = tempfile::tempdir().unwrap();
    let (connection, _opener) = open::writer(&home.path().join(FILE)).unwrap();
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pragma("synchronous"), 2, "FULL");
    assert_eq!(pragma("auto_vacuum"), 2, "INCREMENTAL");
}

#[tokio::test]
async fn deleting_gives_the_space_back() {
    let home = tempfile::tempdir().unwrap();
    let size = || home.path().join(FILE).metadata().unwrap().len();
    let journal = SqliteJournal::open(home.path()).unwrap();
    let runs: Vec<RunId> = (0..50).map(id).collect();
    for run in &runs {
        let record = Record { payload: vec![7; 100_000], ..record(run, 1) };
        journal.append(run, 0, vec![record], row(run, "succeeded")).await.unwrap();
    }
    drop(journal);
    let before = size();
    let journal = SqliteJournal::open(home.path()).unwrap();
    journal.delete(&runs[..45]).await.unwrap();
    assert_eq!(journal.list(RunFilter::default(), 100).await.unwrap().len(), 5);
    assert!(journal.verify().await.unwrap().is_whole());
    drop(journal);
    assert!(size() * 5 < before, "{} of {before} bytes are left", size());
}

#[tokio::test]
async fn a_file_of_somebody_else_is_refused_untouched() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(FILE);
    drop(SqliteJournal::open(home.path()).unwrap());
    let change = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    let refusal = || {
        let before = std::fs::read(&path).unwrap();
        let message = SqliteJournal::open(home.path()).err().expect("refused").to_string();
        assert!(std::fs::read(&path).unwrap() == before, "changed by a refused opening");
        message.replace(&*home.path().to_string_lossy(), "HOME")
    };
    change("PRAGMA user_version = 3");
    insta::assert_snapshot!(refusal(), @"the journal HOME/journal.db has format 3, this harvest reads formats up to 2: use a newer harvest, or another home (--home DIR)");
    change("PRAGMA user_version = 2; PRAGMA application_id = 7");
    insta::assert_snapshot!(refusal(), @"HOME/journal.db is not a journal of harvest: move it away, or use another home (--home DIR)");
    std::fs::remove_file(&path).unwrap();
    change("CREATE TABLE shopping (item)");
    insta::assert_snapshot!(refusal(), @"HOME/journal.db is not a journal of harvest: move it away, or use another home (--home DIR)");
    std::fs::write(&path, "# notes\n".repeat(1000)).unwrap();
    insta::assert_snapshot!(refusal(), @"the journal is damaged: cannot be read (file is not a database); a backup of the journal brings it back");
}

#[tokio::test]
async fn many_openings_at_once_make_one_journal() {
    let home = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for n in 0..16 {
            let home = home.path();
            scope.spawn(move || {
                let journal = SqliteJournal::open(home).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime
                    .block_on(journal.append(&id(n), 0, records(&id(n), 1, 3), row(&id(n), "running")))
                    .unwrap();
            });
        }
    });
    let journal = SqliteJournal::open(home.path()).unwrap();
    assert_eq!(journal.list(RunFilter::default(), 100).await.unwrap().len(), 16);
    assert_eq!(journal.verify().await.unwrap().records, 48);
}

#[tokio::test]
async fn waiting_appends_share_commits() {
    let home = tempfile::tempdir().unwrap();
    let journal = Arc::new(SqliteJournal::open(home.path()).unwrap());
    // While another connection holds the lock, everything below piles up behind the first append.
    let mut blocker = Connection::open(home.path().join(FILE)).unwrap();
    let lock = blocker.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let mut appends = tokio::task::JoinSet::new();
    for n in 0..500 {
        let journal = journal.clone();
        appends.spawn(async move {
            journal.append(&id(n), 0, records(&id(n), 1, 1), row(&id(n), "running")).await
        });
    }
    let sent = async {
        while journal.committer.room.available_permits() > WAITING_KIB - 500 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap();
    lock.rollback().unwrap();
    while let Some(outcome) = appends.join_next().await {
        outcome.unwrap().unwrap();
    }
    // Every commit writes the pages it touches, so 500 commits would fill the log up to its checkpoint at 4 MB.
    let log = home.path().join("journal.db-wal").metadata().unwrap().len();
    assert!(log < 2_000_000, "500 small appends wrote {log} bytes");
    assert_eq!(journal.verify().await.unwrap().records, 500);
}
