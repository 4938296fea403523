//! Copies of a journal in use, and space given back.

use super::*;

#[tokio::test]
async fn a_copy_made_while_others_write_is_a_journal_of_one_moment() {
    let home = tempfile::tempdir().unwrap();
    let journal = Arc::new(SqliteJournal::open(home.path()).unwrap());
    for n in 0..200 {
        journal.append(&id(n), 0, records(&id(n), 1, 20), row(&id(n), "succeeded")).await.unwrap();
    }
    let writing = {
        // Another connection on the file, as another process would have.
        let other = SqliteJournal::open(home.path()).unwrap();
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let mut last = 0;
            while stopped.try_recv().is_err() {
                let run = id(1000);
                other
                    .append(&run, last, records(&run, last + 1, last + 1), row(&run, "running"))
                    .await
                    .unwrap();
                last += 1;
            }
            last
        });
        (stop, task)
    };
    let restored = tempfile::tempdir().unwrap();
    let file = restored.path().join(FILE);
    journal.changed(&id(1000), 0).await;
    let report = journal.backup(&file).await.unwrap();
    writing.0.send(()).unwrap();
    let written = writing.1.await.unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!(report.runs, 201);
    let names: Vec<_> = restored.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE], "one file is all there is");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let copy = SqliteJournal::open(restored.path()).unwrap();
    for n in 0..200 {
        assert_eq!(copy.read(&id(n), 0, 100).await.unwrap(), records(&id(n), 1, 20));
    }
    let begun = copy.read(&id(1000), 0, 10_000).await.unwrap();
    assert_eq!(begun, records(&id(1000), 1, begun.len() as u64));
    assert!(!begun.is_empty() && begun.len() as u64 <= written);
    copy.append(&id(2000), 0, records(&id(2000), 1, 1), row(&id(2000), "running")).await.unwrap();

    let again = journal.backup(&file).await.unwrap_err().to_string();
    assert!(again.contains("File exists"), "{again}");
}

#[tokio::test]
async fn a_copy_of_a_damaged_journal_says_so() {
    let home = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(home.path()).unwrap();
    journal.append(&id(1), 0, records(&id(1), 1, 3), row(&id(1), "succeeded")).await.unwrap();
    let change = "UPDATE events SET payload = x'00' WHERE seq = 2";
    Connection::open(home.path().join(FILE)).unwrap().execute_batch(change).unwrap();
    let report = journal.backup(&home.path().join("copy")).await.unwrap();
    assert_eq!(report.damaged, 1);
    assert!(report.findings[0].contains("event 2"), "{:?}", report.findings);
}

#[tokio::test]
async fn compacting_shrinks_the_file_and_cuts_the_log() {
    let home = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(home.path()).unwrap();
    for n in 0..50 {
        let record = Record { payload: vec![7; 100_000], ..record(&id(n), 1) };
        journal.append(&id(n), 0, vec![record], row(&id(n), "succeeded")).await.unwrap();
    }
    // Rows dropped by other means leave free pages behind.
    let change = "DELETE FROM events WHERE run > '01j00000000000000000000004'; DELETE FROM runs WHERE run > '01j00000000000000000000004'";
    Connection::open(home.path().join(FILE)).unwrap().execute_batch(change).unwrap();
    let Compacted { before, after } = journal.compact().await.unwrap();
    assert!(after * 5 < before, "{after} of {before} bytes are left");
    assert_eq!(home.path().join("journal.db-wal").metadata().unwrap().len(), 0);
    assert!(journal.verify().await.unwrap().is_whole());
    assert_eq!(journal.list(RunFilter::default(), 100).await.unwrap().len(), 5);
    let again = journal.compact().await.unwrap();
    assert_eq!(again.before, again.after);
}
