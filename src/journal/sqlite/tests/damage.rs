//! Damaged files: an error that says what is lost, never wrong data.

use super::*;
use crate::journal::MemoryJournal;
use crate::journal::transfer::{export, import};

/// Runs in the journal that is damaged, and events in each.
const RUNS: u64 = 30;
const EVENTS: u64 = 12;

/// A journal with content, closed.
async fn filled(home: &Path) {
    let journal = SqliteJournal::open(home).unwrap();
    for run in (0..RUNS).map(id) {
        let state = if run < id(RUNS / 2) { "succeeded" } else { "running" };
        journal.append(&run, 0, records(&run, 1, EVENTS), row(&run, state)).await.unwrap();
    }
}

#[tokio::test]
async fn records_that_were_tampered_with_are_named() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path()).await;
    let whole = std::fs::read(home.path().join(FILE)).unwrap();
    let (run, other) = (id(3), id(4));
    let read_after = async |sql: &str| {
        std::fs::write(home.path().join(FILE), &whole).unwrap();
        let sql = sql.replace("RUN", &format!("run = '{run}'")).replace("OTHER", &format!("'{other}'"));
        Connection::open(home.path().join(FILE)).unwrap().execute_batch(&sql).unwrap();
        let journal = SqliteJournal::open(home.path()).unwrap();
        let error = journal.read(&run, 0, 100).await.unwrap_err();
        assert!(matches!(error, JournalError::Damaged(_)), "{error:?}");
        assert!(journal.verify().await.unwrap().findings.contains(&error.to_string()));
        // The others are as good as before.
        assert_eq!(journal.read(&id(5), 0, 100).await.unwrap(), records(&id(5), 1, EVENTS));
        error.to_string()
    };
    insta::assert_snapshot!(read_after("UPDATE events SET payload = x'7b7d' WHERE RUN AND seq = 5").await, @"the journal is damaged: run 01j00000000000000000000003, event 5: does not match its checksum; events from 5 on are lost; a backup of the journal brings it back");
    insta::assert_snapshot!(read_after("UPDATE events SET at = at + 1 WHERE RUN AND seq = 1").await, @"the journal is damaged: run 01j00000000000000000000003, event 1: does not match its checksum; this run is lost; a backup of the journal brings it back");
    insta::assert_snapshot!(read_after("DELETE FROM events WHERE RUN AND seq = 5").await, @"the journal is damaged: run 01j00000000000000000000003, event 5: is missing (event 6 follows); events from 5 on are lost; a backup of the journal brings it back");
    insta::assert_snapshot!(read_after("DELETE FROM events WHERE RUN AND seq = 12").await, @"the journal is damaged: run 01j00000000000000000000003, event 12: is missing (the run had 12 events); events from 12 on are lost; a backup of the journal brings it back");
    insta::assert_snapshot!(read_after("DELETE FROM events WHERE RUN").await, @"the journal is damaged: run 01j00000000000000000000003, event 1: is missing (the run had 12 events); this run is lost; a backup of the journal brings it back");
    insta::assert_snapshot!(read_after("DELETE FROM runs WHERE RUN").await, @"the journal is damaged: run 01j00000000000000000000003: its row is missing, its events are there; this run cannot be read; a backup of the journal brings it back");
    insta::assert_snapshot!(read_after("UPDATE runs SET state = 'failed' WHERE RUN").await, @"the journal is damaged: run 01j00000000000000000000003: its row does not match its checksum; this run cannot be read; a backup of the journal brings it back");
    insta::assert_snapshot!(read_after("UPDATE runs SET last_seq = 11 WHERE RUN").await, @"the journal is damaged: run 01j00000000000000000000003: its row does not match its checksum; this run cannot be read; a backup of the journal brings it back");
    let swapped =
        "UPDATE events SET seq = -7 WHERE RUN AND seq = 7; UPDATE events SET seq = 7 WHERE RUN AND seq = 8;
                   UPDATE events SET seq = 8 WHERE RUN AND seq = -7";
    insta::assert_snapshot!(read_after(swapped).await, @"the journal is damaged: run 01j00000000000000000000003, event 7: does not match its checksum; events from 7 on are lost; a backup of the journal brings it back");
    let foreign = "DELETE FROM events WHERE RUN AND seq = 2;
                   INSERT INTO events SELECT '01j00000000000000000000003', seq, at, seal, payload
                   FROM events WHERE run = OTHER AND seq = 2";
    insta::assert_snapshot!(read_after(foreign).await, @"the journal is damaged: run 01j00000000000000000000003, event 2: does not match its checksum; events from 2 on are lost; a backup of the journal brings it back");
}

#[tokio::test]
async fn runs_that_are_whole_leave_a_journal_that_is_not() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path()).await;
    let change = format!(
        "UPDATE events SET payload = x'00' WHERE run = '{}' AND seq = 9;
         UPDATE runs SET state = 'failed' WHERE run IN ('{}', '{}')",
        id(3),
        id(RUNS - 1),
        id(7),
    );
    Connection::open(home.path().join(FILE)).unwrap().execute_batch(&change).unwrap();
    let journal = SqliteJournal::open(home.path()).unwrap();
    let mut file = Vec::new();
    let exported = export(&journal, None, &mut file).await.unwrap().unwrap();
    assert_eq!((exported.runs, exported.events), (RUNS - 3, (RUNS - 3) * EVENTS));
    let damaged: Vec<_> = exported.damaged.iter().map(|damage| (damage.run.clone(), damage.seq)).collect();
    assert_eq!(damaged, [(Some(id(RUNS - 1)), None), (Some(id(7)), None), (Some(id(3)), Some(9))]);

    let elsewhere = MemoryJournal::default();
    let imported = import(&elsewhere, &mut &*file, &mut |_, _| {}).await.unwrap();
    assert_eq!(imported.imported, RUNS - 3);
    assert_eq!(elsewhere.read(&id(4), 0, 100).await.unwrap(), records(&id(4), 1, EVENTS));
    assert_eq!(elsewhere.row(&id(3)).await.unwrap(), None);
}

#[tokio::test]
async fn records_before_the_damage_are_still_read() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path()).await;
    let change = format!("UPDATE events SET payload = x'00' WHERE run = '{}' AND seq = 9", id(3));
    Connection::open(home.path().join(FILE)).unwrap().execute_batch(&change).unwrap();
    let journal = SqliteJournal::open(home.path()).unwrap();
    assert_eq!(journal.read(&id(3), 0, 8).await.unwrap(), records(&id(3), 1, 8));
    assert!(journal.read(&id(3), 8, 1).await.is_err());
    assert!(journal.read(&id(3), 0, 100).await.is_err());
}

#[tokio::test]
async fn a_damaged_row_takes_no_append_and_can_be_deleted() {
    let home = tempfile::tempdir().unwrap();
    filled(home.path()).await;
    let change = format!("UPDATE runs SET workflow = 'x' WHERE run = '{}'", id(3));
    Connection::open(home.path().join(FILE)).unwrap().execute_batch(&change).unwrap();
    let journal = SqliteJournal::open(home.path()).unwrap();
    let append = |run: RunId| {
        let records = records(&run, EVENTS + 1, EVENTS + 1);
        let row = row(&run, "failed");
        let journal = &journal;
        async move { journal.append(&run, EVENTS, records, row).await }
    };
    assert!(matches!(append(id(3)).await, Err(JournalError::Damaged(_))));
    assert!(journal.list(RunFilter::default(), 100).await.unwrap_err().to_string().contains(id(3).as_str()));
    // One row hides no other.
    for limit in [RUNS as usize + 10, RUNS as usize - 4, 1] {
        let listed = journal.list_whole(RunFilter::default(), limit).await.unwrap();
        let runs: Vec<RunId> = listed.rows.into_iter().map(|row| row.run).collect();
        let others = (0..RUNS).rev().map(id).filter(|run| *run != id(3));
        assert_eq!(runs, others.take(limit).collect::<Vec<_>>());
        let damaged: Vec<_> = listed.damaged.into_iter().map(|damage| damage.run).collect();
        assert_eq!(damaged, if limit > RUNS as usize { vec![Some(id(3))] } else { vec![] });
    }
    append(id(20)).await.unwrap();
    journal.delete(&[id(3)]).await.unwrap();
    assert!(journal.verify().await.unwrap().is_whole());
}

#[tokio::test]
async fn flipped_bits_never_give_wrong_data() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(FILE);
    filled(home.path()).await;
    let whole = std::fs::read(&path).unwrap();
    let trials: usize = std::env::var("HARVEST_FLIPS").map_or(150, |trials| trials.parse().unwrap());
    let (mut seen, mut unseen, mut missing) = (0, 0, 0);
    for trial in 0..trials {
        // A step that shares no pattern with pages and rows.
        let bit = trial.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (whole.len() * 8);
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &flipped).unwrap();
        let Ok(journal) = SqliteJournal::open(home.path()) else {
            seen += 1;
            continue;
        };
        let mut errors = 0;
        for run in (0..RUNS).map(id) {
            match journal.read(&run, 0, 100).await {
                Ok(events) if events.is_empty() => missing += 1,
                Ok(events) => assert!(events == records(&run, 1, EVENTS), "bit {bit} gives wrong events"),
                Err(_) => errors += 1,
            }
        }
        match journal.list(RunFilter::default(), 100).await {
            Ok(rows) if rows.len() < RUNS as usize => missing += 1,
            Ok(rows) => {
                assert!(rows.iter().all(|found| *found == row(&found.run, &found.state)), "bit {bit}")
            }
            Err(_) => errors += 1,
        }
        if errors > 0 {
            seen += 1;
            assert!(!journal.verify().await.unwrap().is_whole(), "verify finds nothing wrong with bit {bit}");
        } else {
            unseen += 1;
        }
        drop(journal);
        for leftover in ["journal.db-wal", "journal.db-shm"] {
            let _ = std::fs::remove_file(home.path().join(leftover));
        }
    }
    eprintln!("{trials} flips: {seen} seen, {unseen} in unused space, {missing} runs missing");
    assert!(seen > trials / 10, "only {seen} of {trials} flips hit anything: the test is too weak");
    assert_eq!(missing, 0);
}
