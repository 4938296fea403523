//! Journals of older formats, and a process that is killed while it migrates one.

use super::*;
use crate::journal::on_disk::{SQLITE, command};
use crate::journal::sqlite::migrate::{FORMAT, kept};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

/// The stage at which a process of these tests stops, to be killed there.
const STOP_AT: &str = "HARVEST_TEST_JOURNAL_STOP_AT";
/// Every place of a migration at which a kill leaves something else behind.
const STAGES: [&str; 9] =
    ["begun", "alone", "copying", "copied", "kept", "stepped", "committed", "migrated", "opened"];
/// Runs in the journals here.
const RUNS: u64 = 60;
/// Events in each.
const EVENTS: u64 = 12;

/// Called by a migration. Says where it is, and goes no further where it was told to stop.
pub(in crate::journal) fn reached(stage: &str) {
    if std::env::var(STOP_AT).is_ok_and(|at| at == stage) {
        std::io::stdout().write_all(format!("\nstopped {stage}\n").as_bytes()).unwrap();
        loop {
            std::thread::park();
        }
    }
}

/// A journal as the first version wrote it. What that version stores of a run differs in the row alone.
async fn first_format(home: &Path) {
    let path = home.join(FILE);
    {
        let journal = SqliteJournal::open(home).unwrap();
        for n in 0..RUNS {
            let state = if n % 7 == 0 { "running" } else { "succeeded" };
            journal.append(&id(n), 0, records(&id(n), 1, EVENTS), row(&id(n), state)).await.unwrap();
        }
    }
    let now = Connection::open(&path).unwrap();
    let copy = home.join("first.db");
    {
        let mut first = Connection::open(&copy).unwrap();
        open::create_format(&mut first, &copy, 1).unwrap();
    }
    now.execute("ATTACH ?1 AS first", [copy.to_str().unwrap()]).unwrap();
    now.execute_batch("INSERT INTO first.events SELECT * FROM main.events").unwrap();
    for n in 0..RUNS {
        let stored = read::row(&now, &id(n)).unwrap().unwrap();
        let seal = envelope::seal_row(&stored.row, stored.end).unwrap();
        now.execute(
            "INSERT INTO first.runs SELECT run, workflow, state, started_at, finished_at, usd, tokens, last_seq, \
             last_seal, ?2 FROM main.runs WHERE run = ?1",
            (id(n).as_str(), seal),
        )
        .unwrap();
    }
    now.execute_batch("DETACH first").unwrap();
    drop(now);
    std::fs::rename(copy, path).unwrap();
}

/// Everything that was there is there, and the sizes are right.
async fn check(home: &Path) {
    let journal = SqliteJournal::open(home).unwrap();
    let report = journal.verify().await.unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!((report.runs, report.records), (RUNS, RUNS * EVENTS));
    for n in 0..RUNS {
        assert_eq!(journal.read(&id(n), 0, 100).await.unwrap(), records(&id(n), 1, EVENTS));
    }
    let usage = journal.usage().await.unwrap();
    assert_eq!(usage, Usage { runs: RUNS, bytes: report.bytes });
    assert_eq!(journal.ended(None, 1000).await.unwrap().len(), (0..RUNS).filter(|n| n % 7 != 0).count());
    let run = id(RUNS);
    journal.append(&run, 0, records(&run, 1, 1), row(&run, "succeeded")).await.unwrap();
    journal.delete(&[run]).await.unwrap();
}

fn format(path: &Path) -> i64 {
    let file = Connection::open(path).unwrap();
    file.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// The file that is kept is the old journal, for the harvest that wrote it.
async fn check_kept(home: &Path) {
    let kept = kept(&home.join(FILE), 1);
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let other = tempfile::tempdir().unwrap();
    std::fs::copy(&kept, other.path().join(FILE)).unwrap();
    assert_eq!(format(&other.path().join(FILE)), 1);
    let mode: String =
        Connection::open(&kept).unwrap().pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    check(other.path()).await;
}

#[tokio::test]
async fn an_older_journal_becomes_one_of_today_and_is_kept() {
    let home = tempfile::tempdir().unwrap();
    first_format(home.path()).await;
    assert_eq!(format(&home.path().join(FILE)), 1);
    check(home.path()).await;
    assert_eq!(format(&home.path().join(FILE)), FORMAT);
    check_kept(home.path()).await;
    // It happens once.
    std::fs::remove_file(kept(&home.path().join(FILE), 1)).unwrap();
    check(home.path()).await;
    assert!(!kept(&home.path().join(FILE), 1).exists());
}

#[tokio::test]
async fn a_kill_at_any_moment_of_a_migration_loses_nothing() {
    for stage in STAGES {
        let home = tempfile::tempdir().unwrap();
        first_format(home.path()).await;
        let mut child = command(&SQLITE, "open-once", home.path())
            .env(STOP_AT, stage)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == format!("stopped {stage}")), "{stage} is never reached");
        child.kill().unwrap();
        child.wait().unwrap();
        check(home.path()).await;
        check_kept(home.path()).await;
        let names: Vec<_> = home
            .path()
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.iter().all(|name| !name.contains("part")), "{stage} leaves {names:?}");
    }
}

#[tokio::test]
async fn many_processes_that_open_an_older_journal_migrate_it_once() {
    let home = tempfile::tempdir().unwrap();
    first_format(home.path()).await;
    let children: Vec<_> = (0..6)
        .map(|_| command(&SQLITE, "open-once", home.path()).stdout(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    check(home.path()).await;
}

#[tokio::test]
async fn a_journal_that_an_older_harvest_has_open_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    first_format(home.path()).await;
    let path = home.path().join(FILE);
    let older = Connection::open(&path).unwrap();
    older.query_row("SELECT count(*) FROM runs", [], |_| Ok(())).unwrap();
    let refused = SqliteJournal::open(home.path()).err().expect("refused").to_string();
    insta::assert_snapshot!(refused.replace(&*home.path().to_string_lossy(), "HOME"), @"another process keeps the journal busy (an older harvest has HOME/journal.db open, which must be migrated); try again, or end that process");
    let mode: String = older.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!((format(&path), &*mode), (1, "wal"));
    drop(older);
    check(home.path()).await;
}

#[tokio::test]
async fn damage_stays_damage() {
    let home = tempfile::tempdir().unwrap();
    first_format(home.path()).await;
    let change = format!(
        "UPDATE runs SET workflow = 'x' WHERE run = '{}'; UPDATE events SET at = 0 WHERE run = '{}' AND seq = 4; \
         DELETE FROM events WHERE run = '{}'",
        id(3),
        id(4),
        id(5)
    );
    Connection::open(home.path().join(FILE)).unwrap().execute_batch(&change).unwrap();
    let journal = SqliteJournal::open(home.path()).unwrap();
    let report = journal.verify().await.unwrap();
    let found: Vec<&str> = report.findings.iter().map(String::as_str).collect();
    insta::assert_snapshot!(found.join("\n"), @r#"
    the journal is damaged: run 01j00000000000000000000003: its row does not match its checksum; this run cannot be read; a backup of the journal brings it back
    the journal is damaged: run 01j00000000000000000000004, event 4: does not match its checksum; events from 4 on are lost; a backup of the journal brings it back
    the journal is damaged: run 01j00000000000000000000005, event 1: is missing (the run had 12 events); this run is lost; a backup of the journal brings it back
    "#);
    for n in (0..RUNS).filter(|n| !(3..=5).contains(n)) {
        assert_eq!(journal.read(&id(n), 0, 100).await.unwrap(), records(&id(n), 1, EVENTS));
    }
}

#[tokio::test]
async fn a_new_journal_is_as_a_migrated_one() {
    let schema = |path: &Path| {
        let file = Connection::open(path).unwrap();
        let mut all = file.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY name").unwrap();
        let rows = all.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?))
        });
        rows.unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    let (older, newer) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    first_format(older.path()).await;
    drop(SqliteJournal::open(older.path()).unwrap());
    drop(SqliteJournal::open(newer.path()).unwrap());
    assert_eq!(schema(&older.path().join(FILE)), schema(&newer.path().join(FILE)));
}
