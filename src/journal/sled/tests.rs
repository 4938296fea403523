//! What only this journal can get wrong; the rest is in `contract` and `on_disk`.

use super::*;
use crate::journal::contract::{self, id, record, records, row};
use std::path::PathBuf;

#[tokio::test]
async fn keeps_the_contract() {
    let home = tempfile::tempdir().unwrap();
    let opened = std::cell::Cell::new(0);
    contract::run(async || {
        opened.set(opened.get() + 1);
        Box::new(SledJournal::open(&home.path().join(opened.get().to_string())).unwrap()) as Box<dyn Journal>
    })
    .await;
}

/// A journal with three runs of five events, closed.
async fn filled(home: &Path) {
    let journal = SledJournal::open(home).unwrap();
    for run in (1..=3).map(id) {
        for seq in 1..=5 {
            journal.append(&run, seq - 1, records(&run, seq, seq), row(&run, "succeeded")).await.unwrap();
        }
    }
}

fn store(home: &Path) -> PathBuf {
    home.join(DIRECTORY).join("store")
}

#[tokio::test]
async fn what_sled_loses_without_a_word_is_named() {
    let lose = async |change: fn(&::sled::Db)| {
        let home = tempfile::tempdir().unwrap();
        filled(home.path()).await;
        guard::wait_for_lock(&store(home.path()).join("db")).unwrap();
        let db = ::sled::open(store(home.path())).unwrap();
        change(&db);
        db.flush().unwrap();
        drop(db);
        let journal = SledJournal::open(home.path()).unwrap();
        let error = journal.read(&id(2), 0, 100).await.unwrap_err().to_string();
        assert!(journal.verify().await.unwrap().findings.contains(&error));
        assert_eq!(journal.read(&id(3), 0, 100).await.unwrap(), records(&id(3), 1, 5));
        journal.delete(&[id(2)]).await.unwrap();
        assert!(journal.verify().await.unwrap().is_whole(), "a damaged run can be deleted");
        error
    };
    insta::assert_snapshot!(lose(|db| drop(db.remove(codec::piece_key(&codec::event_key(&id(2), 5), 0)))).await, @"the journal is damaged: run 01j00000000000000000000002, event 5: is missing (the run had 5 events); events from 5 on are lost; a backup of the journal brings it back");
    insta::assert_snapshot!(lose(|db| drop(db.remove(codec::piece_key(&codec::event_key(&id(2), 3), 0)))).await, @"the journal is damaged: run 01j00000000000000000000002, event 3: is missing (event 4 follows); events from 3 on are lost; a backup of the journal brings it back");
    insta::assert_snapshot!(lose(|db| drop(db.insert(codec::piece_key(&codec::event_key(&id(2), 4), 0), b"no".to_vec()))).await, @"the journal is damaged: run 01j00000000000000000000002, event 4: does not match its checksum; events from 4 on are lost; a backup of the journal brings it back");
    insta::assert_snapshot!(lose(|db| drop(db.remove(codec::piece_key(&codec::row_key(&id(2)), 0)))).await, @"the journal is damaged: run 01j00000000000000000000002: its row is missing; this run cannot be read; a backup of the journal brings it back");
}

#[tokio::test]
async fn a_run_that_sled_lost_whole_is_missed() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path()).await;
    std::fs::remove_dir_all(store(home.path())).unwrap();
    let gone = SledJournal::open(home.path()).err().unwrap().to_string();
    insta::assert_snapshot!(gone.replace(&*home.path().to_string_lossy(), "HOME"), @"the journal is damaged: HOME/journal.sled/store is missing; all runs are lost; a backup of the journal brings it back");
    drop(::sled::open(store(home.path())).unwrap());
    let journal = SledJournal::open(home.path()).unwrap();
    assert!(matches!(journal.read(&id(1), 0, 100).await, Err(JournalError::Damaged(_))));
    assert!(matches!(journal.row(&id(1)).await, Err(JournalError::Damaged(_))));
    assert!(matches!(journal.list(RunFilter::default(), 10).await, Err(JournalError::Damaged(_))));
    let append = journal.append(&id(1), 5, records(&id(1), 6, 6), row(&id(1), "running")).await;
    assert!(matches!(append, Err(JournalError::Damaged(_))));
    assert_eq!(journal.verify().await.unwrap().damaged, 3);
}

#[tokio::test]
async fn a_commit_that_is_only_in_sled_is_caught_up_with() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(DIRECTORY).join("ends");
    let journal = SledJournal::open(home.path()).unwrap();
    for run in [id(1), id(2)] {
        journal.append(&run, 0, records(&run, 1, 3), row(&run, "succeeded")).await.unwrap();
    }
    let cut = |ends: &[u8], keep: usize| std::fs::write(&path, &ends[..ends.len() - keep]).unwrap();
    let before = std::fs::read(&path).unwrap();
    journal.append(&id(1), 3, records(&id(1), 4, 4), row(&id(1), "failed")).await.unwrap();
    drop(journal);
    let after = std::fs::read(&path).unwrap();
    // Killed before the frame was written, and while it was.
    for torn in [after.len() - before.len(), 10, 1] {
        cut(&after, torn);
        let journal = SledJournal::open(home.path()).unwrap();
        assert_eq!(journal.read(&id(1), 0, 100).await.unwrap(), records(&id(1), 1, 4));
        assert!(journal.verify().await.unwrap().is_whole());
        drop(journal);
        assert!(std::fs::read(&path).unwrap() == after);
    }
    // A deletion as well.
    let journal = SledJournal::open(home.path()).unwrap();
    journal.delete(&[id(1)]).await.unwrap();
    drop(journal);
    cut(&std::fs::read(&path).unwrap(), 3);
    let journal = SledJournal::open(home.path()).unwrap();
    assert_eq!(journal.row(&id(1)).await.unwrap(), None);
    assert!(journal.verify().await.unwrap().is_whole());
    drop(journal);
    // Further behind is no crash.
    std::fs::write(&path, &before).unwrap();
    let lacks = SledJournal::open(home.path()).err().unwrap().to_string();
    insta::assert_snapshot!(lacks.replace(&*home.path().to_string_lossy(), "HOME"), @"the journal is damaged: HOME/journal.sled/ends lacks its end, the last 2 commits; a backup of the journal brings it back");
    assert!(std::fs::read(&path).unwrap() == before, "nothing was changed");
}

#[tokio::test]
async fn a_journal_of_the_first_format_gets_its_sizes_once() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path()).await;
    let path = home.path().join(DIRECTORY).join("ends");
    let opened = async || {
        let journal = SledJournal::open(home.path()).unwrap();
        (journal.usage().await.unwrap(), journal.ended(None, 10).await.unwrap())
    };
    let (usage, ended) = opened().await;
    assert!(usage.bytes > 0 && ended.iter().map(|run| run.bytes).sum::<u64>() == usage.bytes);
    ends::write_unsized(&path);
    assert_eq!(opened().await, (usage, ended.clone()));
    assert!(std::fs::read(&path).unwrap().starts_with(b"harvest ends 2"));
    assert_eq!(opened().await, (usage, ended));
}

#[tokio::test]
async fn a_snapshot_that_was_being_written_is_no_snapshot() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path()).await;
    std::fs::write(store(home.path()).join("snap.FFFFFFFFFFFFFFFF.generating"), b"half").unwrap();
    let journal = SledJournal::open(home.path()).unwrap();
    assert!(journal.verify().await.unwrap().is_whole());
}

#[tokio::test]
async fn large_payloads_leave_no_blobs() {
    let home = tempfile::tempdir().unwrap();
    let journal = SledJournal::open(home.path()).unwrap();
    let large = Record { payload: vec![0x5A; crate::journal::MAX_PAYLOAD], ..record(&id(1), 1) };
    journal.append(&id(1), 0, vec![large], row(&id(1), "running")).await.unwrap();
    let many = row(&id(1), "running");
    let many = RunRow { workflow: "w".repeat(300_000), ..many };
    journal.append(&id(1), 1, records(&id(1), 2, 1000), many).await.unwrap();
    assert_eq!(store(home.path()).join("blobs").read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn the_ends_are_rewritten_when_most_of_them_is_outdated() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(DIRECTORY).join("ends");
    let journal = SledJournal::open(home.path()).unwrap();
    let run = id(1);
    let row = RunRow { workflow: "w".repeat(2_000_000), ..row(&run, "running") };
    for seq in 1..=12 {
        journal.append(&run, seq - 1, records(&run, seq, seq), row.clone()).await.unwrap();
    }
    drop(journal);
    let size = path.metadata().unwrap().len();
    assert!(size < 16_000_000, "{size} bytes for one run");
    let journal = SledJournal::open(home.path()).unwrap();
    assert_eq!(journal.row(&run).await.unwrap(), Some(row));
    assert_eq!(journal.read(&run, 0, 100).await.unwrap(), records(&run, 1, 12));
}

#[tokio::test]
async fn a_second_opening_is_refused_in_one_line() {
    let home = tempfile::tempdir().unwrap();
    let _journal = SledJournal::open(home.path()).unwrap();
    let busy = SledJournal::open(home.path()).err().unwrap();
    insta::assert_snapshot!(busy, @"another process keeps the journal busy (sled can be used by one process at a time; SQLite by many); try again, or end that process");
}

#[tokio::test]
async fn threads_of_a_closed_store_are_waited_for() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path()).await;
    let held = File::open(store(home.path()).join("db")).unwrap();
    held.lock().unwrap();
    let path = home.path().to_owned();
    let (asked, asking) = std::sync::mpsc::channel();
    let opening = std::thread::spawn(move || {
        asked.send(()).unwrap();
        SledJournal::open(&path).map(drop)
    });
    asking.recv().unwrap();
    drop(held);
    opening.join().unwrap().unwrap();
}
