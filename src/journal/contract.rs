//! What every journal must do, as one suite. `run` gives each case a journal of its own.

use super::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Runs every case against journals from `open`.
pub(super) async fn run(open: impl AsyncFn() -> Box<dyn Journal>) {
    appends_come_back_whole(&*open().await).await;
    a_writer_who_is_behind_is_refused(&*open().await).await;
    only_one_of_many_writers_wins(Arc::from(open().await)).await;
    reading_goes_page_by_page(&*open().await).await;
    the_row_follows_the_events(&*open().await).await;
    listings_are_newest_first_and_filtered(&*open().await).await;
    random_listings_agree_with_the_filter(&*open().await).await;
    ended_runs_come_in_order_with_their_sizes(&*open().await).await;
    unfinished_runs_come_with_their_ends(&*open().await).await;
    any_change_stirs(Arc::from(open().await)).await;
    waiting_ends_with_an_append(Arc::from(open().await)).await;
    only_finished_runs_are_deleted(&*open().await).await;
    bad_appends_are_refused_whole(&*open().await).await;
    typed_events_come_back(&*open().await).await;
}

/// A time with all its digits.
pub(super) fn at(seq: u64) -> Timestamp {
    Timestamp::from_nanosecond(1_795_000_000_123_456_789 + i128::from(seq)).unwrap()
}

/// A run's id that sorts by `n`.
pub(super) fn id(n: u64) -> RunId {
    RunId::new(format!("01j{n:023}"))
}

/// A record whose payload is a function of its run and place.
pub(super) fn record(run: &RunId, seq: u64) -> Record {
    let filler = "x".repeat((seq as usize * 37) % 500);
    Record {
        seq,
        at: at(seq),
        payload: format!(r#"{{"run":"{run}","seq":{seq},"filler":"{filler}"}}"#).into_bytes(),
    }
}

/// The records `from..=to` of a run.
pub(super) fn records(run: &RunId, from: u64, to: u64) -> Vec<Record> {
    (from..=to).map(|seq| record(run, seq)).collect()
}

/// The row of a run; one that ended has an end.
pub(super) fn row(run: &RunId, state: &str) -> RunRow {
    let finished = !matches!(state, "queued" | "running" | "waiting");
    RunRow {
        run: run.clone(),
        workflow: "agent-session".into(),
        state: state.into(),
        started_at: at(0),
        finished_at: finished.then(|| at(99)),
        usd: None,
        tokens: None,
    }
}

async fn appends_come_back_whole(journal: &dyn Journal) {
    let (a, b) = (id(1), id(2));
    journal.append(&a, 0, records(&a, 1, 2), row(&a, "running")).await.unwrap();
    journal.append(&b, 0, records(&b, 1, 1), row(&b, "running")).await.unwrap();
    journal.append(&a, 2, records(&a, 3, 5), row(&a, "running")).await.unwrap();
    assert_eq!(journal.read(&a, 0, 100).await.unwrap(), records(&a, 1, 5));
    assert_eq!(journal.read(&b, 0, 100).await.unwrap(), records(&b, 1, 1));
    assert_eq!(journal.read(&id(3), 0, 100).await.unwrap(), []);

    let empty = Record { seq: 6, at: Timestamp::UNIX_EPOCH, payload: Vec::new() };
    let largest = Record { seq: 7, at: at(7), payload: vec![0xA5; MAX_PAYLOAD] };
    let edges = vec![empty, largest];
    journal.append(&a, 5, edges.clone(), row(&a, "running")).await.unwrap();
    assert_eq!(journal.read(&a, 5, 100).await.unwrap(), edges);

    let report = journal.verify().await.unwrap();
    assert_eq!((report.runs, report.records, report.damaged), (2, 8, 0));
    assert!(report.is_whole() && report.bytes > MAX_PAYLOAD as u64);
}

async fn a_writer_who_is_behind_is_refused(journal: &dyn Journal) {
    let run = id(1);
    journal.append(&run, 0, records(&run, 1, 3), row(&run, "running")).await.unwrap();
    for (expected, actual) in [(0, 3), (2, 3), (4, 3)] {
        let late =
            journal.append(&run, expected, records(&run, expected + 1, expected + 1), row(&run, "failed"));
        assert_eq!(late.await, Err(JournalError::Conflict { run: run.clone(), expected, actual }));
    }
    let none = id(2);
    let unknown = journal.append(&none, 1, records(&none, 2, 2), row(&none, "running")).await;
    assert_eq!(unknown, Err(JournalError::Conflict { run: none.clone(), expected: 1, actual: 0 }));
    assert_eq!(journal.read(&run, 0, 100).await.unwrap(), records(&run, 1, 3));
    assert_eq!(journal.row(&run).await.unwrap(), Some(row(&run, "running")));
    assert_eq!(journal.row(&none).await.unwrap(), None);
}

async fn only_one_of_many_writers_wins(journal: Arc<dyn Journal>) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..64_u64 {
        let (journal, run) = (journal.clone(), id(writer % 4));
        writers.spawn(async move {
            let mine = Record { payload: writer.to_le_bytes().to_vec(), ..record(&run, 1) };
            journal.append(&run, 0, vec![mine.clone()], row(&run, "running")).await.map(|()| (run, mine))
        });
    }
    let mut winners = 0;
    while let Some(outcome) = writers.join_next().await {
        match outcome.unwrap() {
            Ok((run, mine)) => {
                winners += 1;
                assert_eq!(journal.read(&run, 0, 100).await.unwrap(), [mine]);
            }
            Err(error) => {
                assert!(matches!(error, JournalError::Conflict { expected: 0, actual: 1, .. }), "{error}")
            }
        }
    }
    assert_eq!(winners, 4);
}

async fn reading_goes_page_by_page(journal: &dyn Journal) {
    let run = id(1);
    for from in (1..=2100).step_by(700) {
        journal.append(&run, from - 1, records(&run, from, from + 699), row(&run, "running")).await.unwrap();
    }
    let (mut after, mut pages, mut all) = (0, 0, Vec::new());
    loop {
        let page = journal.read(&run, after, 999).await.unwrap();
        let Some(last) = page.last() else { break };
        (after, pages) = (last.seq, pages + 1);
        all.extend(page);
    }
    assert_eq!(pages, 3);
    assert_eq!(all, records(&run, 1, 2100));
    assert_eq!(journal.read(&run, 2099, 1).await.unwrap(), records(&run, 2100, 2100));
    assert_eq!(journal.read(&run, 0, 0).await.unwrap(), []);
    assert_eq!(journal.read(&run, u64::MAX, 10).await.unwrap(), []);

    // An answer is bounded in bytes as well, and the rest is still there.
    let big = id(2);
    for seq in 1..=6 {
        let record = Record { payload: vec![seq as u8; MAX_PAYLOAD - 1], ..record(&big, seq) };
        journal.append(&big, seq - 1, vec![record], row(&big, "running")).await.unwrap();
    }
    assert_eq!(journal.read(&big, 0, 100).await.unwrap().len(), 4);
    assert_eq!(journal.read(&big, 4, 100).await.unwrap().len(), 2);
}

async fn the_row_follows_the_events(journal: &dyn Journal) {
    let run = id(1);
    assert_eq!(journal.row(&run).await.unwrap(), None);
    let mut expected = row(&run, "running");
    journal.append(&run, 0, records(&run, 1, 1), expected.clone()).await.unwrap();
    assert_eq!(journal.row(&run).await.unwrap(), Some(expected.clone()));
    expected = RunRow { usd: Some(0.1 + 0.2), tokens: Some(u64::MAX), ..row(&run, "succeeded") };
    journal.append(&run, 1, records(&run, 2, 2), expected.clone()).await.unwrap();
    assert_eq!(journal.row(&run).await.unwrap(), Some(expected.clone()));
    // The sum of no costs is a negative zero.
    expected.usd = Some(-0.0);
    journal.append(&run, 2, records(&run, 3, 3), expected.clone()).await.unwrap();
    assert_eq!(journal.row(&run).await.unwrap(), Some(expected));
}

async fn listings_are_newest_first_and_filtered(journal: &dyn Journal) {
    let states = ["running", "succeeded", "failed", "waiting", "succeeded", "running"];
    for (n, state) in states.into_iter().enumerate() {
        let run = id(n as u64);
        let mut row = row(&run, state);
        if n >= 3 {
            row.workflow = "refresh-images".into();
        }
        journal.append(&run, 0, records(&run, 1, 1), row).await.unwrap();
    }
    let check = async |filter: RunFilter, limit: usize, expect: &[u64]| {
        let rows = journal.list(filter.clone(), limit).await.unwrap();
        let found: Vec<RunId> = rows.into_iter().map(|row| row.run).collect();
        assert_eq!(found, expect.iter().map(|n| id(*n)).collect::<Vec<_>>(), "{filter:?}");
    };
    let all = RunFilter::default;
    let workflow = Some("refresh-images".to_owned());
    check(all(), 100, &[5, 4, 3, 2, 1, 0]).await;
    check(all(), 2, &[5, 4]).await;
    check(RunFilter { before: Some(id(4)), ..all() }, 2, &[3, 2]).await;
    check(RunFilter { state: Some("succeeded".into()), ..all() }, 100, &[4, 1]).await;
    check(RunFilter { workflow: workflow.clone(), ..all() }, 100, &[5, 4, 3]).await;
    check(RunFilter { unfinished: true, ..all() }, 100, &[5, 3, 0]).await;
    check(RunFilter { unfinished: true, workflow, before: Some(id(5)), state: None }, 100, &[3]).await;
    check(RunFilter { state: Some("cancelled".into()), ..all() }, 100, &[]).await;
    check(all(), 0, &[]).await;
}

async fn random_listings_agree_with_the_filter(journal: &dyn Journal) {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let states = ["queued", "running", "waiting", "succeeded", "failed", "cancelled", "timed_out"];
    let workflows = ["a", "b", "c"];
    let mut runner = TestRunner::default();
    let mut any = move |bound: usize| (0..bound).new_tree(&mut runner).unwrap().current();
    let mut rows = Vec::new();
    for n in 0..60 {
        let run = id(n);
        let row = RunRow { workflow: workflows[any(3)].into(), ..row(&run, states[any(7)]) };
        journal.append(&run, 0, records(&run, 1, 1), row.clone()).await.unwrap();
        rows.insert(0, row);
    }
    for _ in 0..100 {
        let filter = RunFilter {
            workflow: (any(2) == 0).then(|| workflows[any(3)].into()),
            state: (any(2) == 0).then(|| states[any(7)].into()),
            before: (any(2) == 0).then(|| id(any(70) as u64)),
            unfinished: any(3) == 0,
        };
        let limit = any(20);
        let expected: Vec<RunRow> =
            rows.iter().filter(|row| filter.admits(row)).take(limit).cloned().collect();
        assert_eq!(journal.list(filter.clone(), limit).await.unwrap(), expected, "{filter:?}");
    }
}

async fn ended_runs_come_in_order_with_their_sizes(journal: &dyn Journal) {
    assert_eq!(journal.usage().await.unwrap(), Usage::default());
    let ends = [(1, Some(30)), (2, None), (3, Some(10)), (4, Some(30)), (5, Some(20))];
    for (n, end) in ends {
        let run = id(n);
        let row = RunRow { finished_at: end.map(at), ..row(&run, "failed") };
        journal.append(&run, 0, records(&run, 1, 1), row.clone()).await.unwrap();
        journal.append(&run, 1, records(&run, 2, n), row).await.unwrap_or_else(|error| {
            assert!(n == 1, "{error}");
        });
    }
    let bytes = |n| records(&id(n), 1, n).iter().map(|record| record.payload.len() as u64).sum::<u64>();
    let ended = journal.ended(None, 100).await.unwrap();
    let found: Vec<_> = ended.iter().map(|ended| (ended.row.run.clone(), ended.bytes)).collect();
    assert_eq!(found, [3, 5, 1, 4].map(|n| (id(n), bytes(n))));
    assert_eq!(journal.ended(None, 2).await.unwrap(), ended[..2]);
    assert_eq!(journal.ended(Some((at(20), id(5))), 100).await.unwrap(), ended[2..]);
    assert_eq!(journal.ended(Some((at(30), id(1))), 100).await.unwrap(), ended[3..]);
    assert_eq!(journal.ended(Some((at(30), id(4))), 100).await.unwrap(), []);
    let all = Usage { runs: 5, bytes: (1..=5).map(bytes).sum() };
    assert_eq!(journal.usage().await.unwrap(), all);
    journal.delete(&[id(5)]).await.unwrap();
    assert_eq!(journal.usage().await.unwrap(), Usage { runs: 4, bytes: all.bytes - bytes(5) });
}

async fn unfinished_runs_come_with_their_ends(journal: &dyn Journal) {
    for (n, state) in [(1, "running"), (2, "succeeded"), (3, "waiting"), (4, "queued"), (5, "failed")] {
        journal.append(&id(n), 0, records(&id(n), 1, n), row(&id(n), state)).await.unwrap();
    }
    let check = async |after: Option<u64>, limit, expect: &[u64]| {
        let found = journal.unfinished(after.map(id), limit).await.unwrap();
        assert_eq!(found, expect.iter().map(|n| (id(*n), *n)).collect::<Vec<_>>());
    };
    check(None, 100, &[1, 3, 4]).await;
    check(None, 2, &[1, 3]).await;
    check(Some(1), 100, &[3, 4]).await;
    check(Some(4), 100, &[]).await;
    // One that goes on after its end is among them again.
    journal.append(&id(5), 5, records(&id(5), 6, 6), row(&id(5), "running")).await.unwrap();
    assert_eq!(journal.unfinished(Some(id(4)), 100).await.unwrap(), [(id(5), 6)]);
}

async fn any_change_stirs(journal: Arc<dyn Journal>) {
    let mut seen = 0;
    for seq in 1..=3 {
        // Whether it comes before the wait or during it.
        let waiting = tokio::spawn({
            let journal = journal.clone();
            async move { journal.stirred(seen).await }
        });
        if seq % 2 == 0 {
            tokio::task::yield_now().await;
        }
        let run = id(seq);
        journal.append(&run, 0, records(&run, 1, 1), row(&run, "succeeded")).await.unwrap();
        let now = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
        assert_ne!(now, seen);
        seen = now;
    }
    journal.delete(&[id(1)]).await.unwrap();
    assert_ne!(tokio::time::timeout(Duration::from_secs(20), journal.stirred(seen)).await.unwrap(), seen);
}

async fn waiting_ends_with_an_append(journal: Arc<dyn Journal>) {
    let (run, other) = (id(1), id(2));
    journal.append(&run, 0, records(&run, 1, 2), row(&run, "running")).await.unwrap();
    // What is already there needs no waiting.
    journal.changed(&run, 1).await;

    let follower = {
        let (journal, run) = (journal.clone(), run.clone());
        tokio::spawn(async move {
            let mut seen = 0;
            while seen < 200 {
                journal.changed(&run, seen).await;
                seen = journal.read(&run, seen, 7).await.unwrap().last().map_or(seen, |record| record.seq);
            }
            seen
        })
    };
    for seq in 3..=200 {
        journal.append(&run, seq - 1, records(&run, seq, seq), row(&run, "running")).await.unwrap();
    }
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), follower).await.unwrap().unwrap(), 200);

    // Waiting for a run that does not exist yet ends when it does, and other runs do not end it.
    let waiting = journal.changed(&other, 0);
    let appending = journal.append(&run, 200, records(&run, 201, 201), row(&run, "running"));
    let mut waiting = std::pin::pin!(waiting);
    tokio::select! {
        biased;
        () = &mut waiting => panic!("woken without news"),
        appended = appending => appended.unwrap(),
    }
    let appending = journal.append(&other, 0, records(&other, 1, 1), row(&other, "running"));
    let ((), appended) = tokio::join!(waiting, appending);
    appended.unwrap();
}

async fn only_finished_runs_are_deleted(journal: &dyn Journal) {
    for (n, state) in [(1, "succeeded"), (2, "running"), (3, "failed"), (4, "cancelled")] {
        journal.append(&id(n), 0, records(&id(n), 1, 3), row(&id(n), state)).await.unwrap();
    }
    let refused = journal.delete(&[id(2)]).await.unwrap_err();
    assert!(refused.to_string().contains("harvest cancel"), "{refused}");
    journal.delete(&[id(1), id(3), id(77)]).await.unwrap();
    journal.delete(&[]).await.unwrap();
    for gone in [1, 3] {
        assert_eq!(journal.row(&id(gone)).await.unwrap(), None);
        assert_eq!(journal.read(&id(gone), 0, 10).await.unwrap(), []);
    }
    let left: Vec<RunId> =
        journal.list(RunFilter::default(), 10).await.unwrap().into_iter().map(|row| row.run).collect();
    assert_eq!(left, [id(4), id(2)]);
    assert_eq!(journal.read(&id(2), 0, 10).await.unwrap(), records(&id(2), 1, 3));
    assert!(journal.verify().await.unwrap().is_whole());
    // A deleted run starts anew.
    journal.append(&id(1), 0, records(&id(1), 1, 1), row(&id(1), "running")).await.unwrap();
    assert_eq!(journal.read(&id(1), 0, 10).await.unwrap(), records(&id(1), 1, 1));
}

async fn bad_appends_are_refused_whole(journal: &dyn Journal) {
    let run = id(1);
    let good = || row(&run, "running");
    let too_large = Record { payload: vec![0; MAX_PAYLOAD + 1], ..record(&run, 1) };
    let large = |seq| Record { payload: vec![0; MAX_PAYLOAD], ..record(&run, seq) };
    let far = Record { at: Timestamp::MAX, ..record(&run, 1) };
    let bad = [
        (vec![], good(), "1 to 1024 events"),
        (records(&run, 1, MAX_RECORDS as u64 + 1), good(), "1 to 1024 events"),
        (records(&run, 2, 2), good(), "event 2 stands where event 1 is due"),
        (vec![record(&run, 1), record(&run, 3)], good(), "event 3 stands where event 2 is due"),
        (vec![too_large], good(), "more than 4 MiB"),
        ((1..=5).map(large).collect(), good(), "at most 16 MiB"),
        (vec![far], good(), "1678"),
        (records(&run, 1, 1), row(&id(2), "running"), "the row is that of run"),
        (records(&run, 1, 1), RunRow { usd: Some(f64::NAN), ..good() }, "not a number"),
    ];
    for (records, row, why) in bad {
        match journal.append(&run, 0, records, row).await {
            Err(JournalError::Refused(message)) => {
                assert!(message.contains(why), "{message} should say {why}")
            }
            other => panic!("{other:?} should be refused: {why}"),
        }
    }
    assert_eq!(journal.row(&run).await.unwrap(), None);
    assert_eq!(journal.read(&run, 0, 10).await.unwrap(), []);
}

async fn typed_events_come_back(journal: &dyn Journal) {
    let run = id(1);
    let event = ("step_started".to_owned(), 7_u64);
    journal.append(&run, 0, vec![Record::of(1, at(1), &event).unwrap()], row(&run, "running")).await.unwrap();
    let back = journal.read(&run, 0, 10).await.unwrap().remove(0);
    assert_eq!(back.event::<(String, u64)>(&run).unwrap(), event);
    let newer = back.event::<u64>(&run).unwrap_err().to_string();
    assert!(newer.starts_with(&format!("event 1 of run {run} cannot be read by this version")), "{newer}");
}
