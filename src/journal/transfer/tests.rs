//! What moves is what was there, between any two kinds; what was cut or changed does not move.

use super::*;
use crate::id::RunId;
use crate::journal::contract::{id, record, records, row};
use crate::journal::{
    Journal, MAX_PAYLOAD, MAX_RECORDS, MemoryJournal, Record, RunFilter, RunRow, SqliteJournal,
};
use proptest::prelude::*;
use std::path::Path;

/// Opens an empty journal in a home.
type Open = fn(&Path) -> Box<dyn Journal>;

/// Every kind of journal.
const KINDS: &[(&str, Open)] = &[
    ("memory", |_| Box::new(MemoryJournal::default())),
    ("sqlite", |home| Box::new(SqliteJournal::open(home).unwrap())),
    #[cfg(feature = "sled")]
    ("sled", |home| Box::new(crate::journal::SledJournal::open(home).unwrap())),
];

/// Everything in a journal: rows newest first, and the records of each.
async fn all(journal: &dyn Journal) -> Vec<(RunRow, Vec<Record>)> {
    let mut all = Vec::new();
    for row in journal.list(RunFilter::default(), 10_000).await.unwrap() {
        let mut found: Vec<Record> = Vec::new();
        loop {
            let after = found.last().map_or(0, |record| record.seq);
            let page = journal.read(&row.run, after, 10_000).await.unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        all.push((row, found));
    }
    all
}

async fn exported(journal: &dyn Journal) -> Vec<u8> {
    let mut file = Vec::new();
    export(journal, None, &mut file).await.unwrap().unwrap();
    file
}

async fn imported(journal: &dyn Journal, file: &[u8]) -> (Imported, Vec<(RunId, Came)>) {
    let mut told = Vec::new();
    let mut tell = |run: &RunId, came| told.push((run.clone(), came));
    let imported = import(journal, &mut &*file, &mut tell).await.unwrap();
    (imported, told)
}

/// Runs with payloads of every sort: events, other JSON, text over lines, no text at all.
fn runs() -> impl Strategy<Value = Vec<(RunRow, Vec<Record>)>> {
    let payload = prop_oneof![
        "[a-z\"\\\\ü{}]{0,40}"
            .prop_map(|text| serde_json::to_vec(&serde_json::json!({ "type": text, "n": 1.5 })).unwrap()),
        Just(br#"{"a" : 1 , "a":2.50000000000000000001e3}"#.to_vec()),
        Just(b"{\"a\":\n1}".to_vec()),
        Just(b"null".to_vec()),
        Just(b"{broken}".to_vec()),
        Just(vec![0xFF, 0xFE]),
        Just(Vec::new()),
    ];
    let records = proptest::collection::vec((payload, any::<i64>()), 1..8);
    let finished = proptest::option::of(any::<i64>());
    let cost =
        proptest::option::of((any::<f64>().prop_filter("a number", |usd| usd.is_finite()), any::<u64>()));
    let run = (records, finished, cost, "[a-zü\"\n-]{1,20}", any::<i64>());
    proptest::collection::vec(run, 0..6).prop_map(|runs| {
        let time = |ns: i64| jiff::Timestamp::from_nanosecond(ns.into()).unwrap();
        let runs = runs.into_iter().enumerate().map(|(n, (records, finished, cost, workflow, started))| {
            let run = id(n as u64);
            let records = (1..).zip(records);
            let records = records.map(|(seq, (payload, ns))| Record { seq, at: time(ns), payload }).collect();
            let row = RunRow {
                run,
                workflow,
                state: if finished.is_some() { "failed" } else { "running" }.into(),
                started_at: time(started),
                finished_at: finished.map(time),
                usd: cost.map(|(usd, _)| usd),
                tokens: cost.map(|(_, tokens)| tokens),
            };
            (row, records)
        });
        runs.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_moved_is_what_was_there(runs in runs()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for (from, open_from) in KINDS {
                for (to, open_to) in KINDS {
                    let homes = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
                    let (source, target) = (open_from(homes.0.path()), open_to(homes.1.path()));
                    for (row, records) in &runs {
                        source.append(&row.run, 0, records.clone(), row.clone()).await.unwrap();
                    }
                    let before = all(&*source).await;
                    assert_eq!(before.len(), runs.len());
                    let file = exported(&*source).await;
                    let counts = check(&mut &*file).unwrap();
                    assert_eq!(counts.runs, runs.len() as u64);
                    let (moved, _) = imported(&*target, &file).await;
                    assert_eq!((moved.imported, moved.events), (counts.runs, counts.events), "{from} to {to}");
                    assert_eq!(all(&*target).await, before, "{from} to {to}");
                    assert!(target.verify().await.unwrap().is_whole());
                    let (again, _) = imported(&*target, &file).await;
                    assert_eq!(again, Imported { same: counts.runs, ..Imported::default() }, "{from} to {to}");
                    assert_eq!(exported(&*target).await, file, "{from} to {to}");
                }
            }
        });
    }
}

async fn filled() -> MemoryJournal {
    let journal = MemoryJournal::default();
    for (n, state) in [(1, "succeeded"), (2, "running"), (3, "failed")] {
        journal.append(&id(n), 0, records(&id(n), 1, 3), row(&id(n), state)).await.unwrap();
    }
    journal
}

#[tokio::test]
async fn the_lines_are_what_they_are() {
    let journal = MemoryJournal::default();
    let event = Record { payload: br#"{"type":"run_admitted"}"#.to_vec(), ..record(&id(1), 1) };
    let other = Record { payload: b"\xFF".to_vec(), ..record(&id(1), 2) };
    let row = RunRow { usd: Some(0.1 + 0.2), tokens: Some(7), ..row(&id(1), "failed") };
    journal.append(&id(1), 0, vec![event, other], row).await.unwrap();
    insta::assert_snapshot!(String::from_utf8(exported(&journal).await).unwrap(), @r#"
    {"harvest_journal":1,"harvest":"0.1.0"}
    {"run":"01j00000000000000000000001","seq":1,"at":"2026-11-18T11:06:40.12345679Z","event":{"type":"run_admitted"}}
    {"run":"01j00000000000000000000001","seq":2,"at":"2026-11-18T11:06:40.123456791Z","bytes":"/w=="}
    {"run":"01j00000000000000000000001","row":{"workflow":"agent-session","state":"failed","started_at":"2026-11-18T11:06:40.123456789Z","finished_at":"2026-11-18T11:06:40.123456888Z","usd":"0.30000000000000004","tokens":7}}
    {"end":{"runs":1,"events":2,"sha256":"0de0e3ec197072258a03375738ec7e3c8eb6cabcd2578bbf953946cbacb70798"}}
    "#);
}

#[tokio::test]
async fn a_file_that_was_cut_or_changed_anywhere_is_noticed() {
    let file = exported(&filled().await).await;
    for cut in 0..file.len() {
        assert!(check(&mut &file[..cut]).is_err(), "cut behind {cut} bytes");
    }
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1;
        // The version that wrote it is in the sum as well: nothing may change.
        assert!(check(&mut &*changed).is_err(), "byte {at} changed");
    }
    assert!(check(&mut &*[&*file, b"\n"].concat()).is_err(), "more behind the end");
    let without_a_run = |text: &str| {
        let kept: Vec<&str> = text.lines().filter(|line| !line.contains(id(2).as_str())).collect();
        kept.join("\n") + "\n"
    };
    let text = without_a_run(std::str::from_utf8(&file).unwrap());
    insta::assert_snapshot!(check(&mut text.as_bytes()).unwrap_err().to_string().split(" with checksum").next().unwrap(), @"the export was changed, line 10: the last line speaks of 3 runs and 9 events");
    let newer = "{\"harvest_journal\":2}\n";
    insta::assert_snapshot!(check(&mut newer.as_bytes()).unwrap_err(), @"the export has version 2, this harvest reads versions up to 1: use a newer harvest");
    insta::assert_snapshot!(check(&mut &b"hello\n"[..]).unwrap_err(), @"the export was changed, line 1: no export of a journal begins so");
    insta::assert_snapshot!(check(&mut &file[..100]).unwrap_err(), @"the export is cut: it ends in line 2 without its last line");
}

#[tokio::test]
async fn a_run_that_differs_stays_as_it_is_and_is_named() {
    let file = exported(&filled().await).await;
    let target = MemoryJournal::default();
    // The first went on here, the second is shorter here, the third has another event.
    target.append(&id(1), 0, records(&id(1), 1, 4), row(&id(1), "succeeded")).await.unwrap();
    target.append(&id(2), 0, records(&id(2), 1, 2), row(&id(2), "running")).await.unwrap();
    let mut other = records(&id(3), 1, 3);
    other[1].payload = b"{}".to_vec();
    target.append(&id(3), 0, other, row(&id(3), "failed")).await.unwrap();
    let before = all(&target).await;
    let (moved, told) = imported(&target, &file).await;
    assert_eq!(moved, Imported { differ: 3, ..Imported::default() });
    assert_eq!(told, [(id(3), Came::Differs), (id(2), Came::Differs), (id(1), Came::Differs)]);
    assert_eq!(all(&target).await, before);
    // Another row alone is another run.
    let target = MemoryJournal::default();
    target.append(&id(1), 0, records(&id(1), 1, 3), row(&id(1), "failed")).await.unwrap();
    let (_, told) = imported(&target, &file).await;
    assert_eq!(told, [(id(1), Came::Differs), (id(3), Came::Imported), (id(2), Came::Unfinished)]);
}

#[tokio::test]
async fn a_large_run_comes_in_parts_and_an_import_that_was_broken_off_is_completed() {
    let (source, run) = (MemoryJournal::default(), id(1));
    let total = 2 * MAX_RECORDS as u64 + 10;
    for from in (1..=total).step_by(500) {
        let to = (from + 499).min(total);
        source.append(&run, from - 1, records(&run, from, to), row(&run, "succeeded")).await.unwrap();
    }
    let huge = Record { payload: vec![b' '; MAX_PAYLOAD], ..record(&run, total + 1) };
    source.append(&run, total, vec![huge], row(&run, "succeeded")).await.unwrap();
    let (file, whole) = (exported(&source).await, all(&source).await);

    let target = MemoryJournal::default();
    let (moved, told) = imported(&target, &file).await;
    assert_eq!((moved.imported, moved.events), (1, total + 1));
    assert_eq!(told, [(run.clone(), Came::Imported)]);
    assert_eq!(all(&target).await, whole);

    // Broken off behind the first part: what is here looks like no run that could go on, and is not exported.
    let target = MemoryJournal::default();
    let cut = file.len() - MAX_PAYLOAD;
    let broken = import(&target, &mut &file[..cut], &mut |_, _| {}).await;
    assert!(broken.is_err());
    let row = target.row(&run).await.unwrap().unwrap();
    assert!(row.state == IMPORTING && row.finished_at.is_some(), "{row:?}");
    let mut none = Vec::new();
    let left = export(&target, None, &mut none).await.unwrap().unwrap();
    assert_eq!((left.runs, left.left_out), (0, vec![run.clone()]));
    let (moved, _) = imported(&target, &file).await;
    assert_eq!((moved.imported, moved.events), (1, total + 1));
    assert_eq!(all(&target).await, whole);
}

#[tokio::test]
async fn one_run_alone_and_one_that_is_not_there() {
    let journal = filled().await;
    let mut file = Vec::new();
    let one = export(&journal, Some(&id(2)), &mut file).await.unwrap().unwrap();
    assert_eq!((one.runs, one.events, one.unfinished), (1, 3, 1));
    let target = MemoryJournal::default();
    assert_eq!(imported(&target, &file).await.1, [(id(2), Came::Unfinished)]);
    assert_eq!(export(&journal, Some(&id(9)), &mut Vec::new()).await.unwrap(), None);
}
