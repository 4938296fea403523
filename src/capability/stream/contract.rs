//! What every stream store must do, as one suite. `run` gives each case a store of its own, with its limit in bytes.

use super::*;
use crate::id::StepId;
use crate::step::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// Runs every case against stores from `open`.
pub(super) async fn run(open: impl AsyncFn(u64) -> Box<dyn StreamStore>) {
    entries_come_back_in_order(&*open(MAX_STREAM).await).await;
    any_cursor_is_good_for_reading(&*open(MAX_STREAM).await).await;
    followers_miss_nothing(Arc::from(open(MAX_STREAM).await)).await;
    the_largest_entries_fit(&*open(MAX_STREAM).await).await;
    a_full_stream_says_so_once(&*open(20_000).await).await;
    removed_streams_are_gone(&*open(MAX_STREAM).await).await;
}

/// An entry that is told apart by `n`.
pub(super) fn entry(n: u64) -> StreamEntry {
    let content = match n % 3 {
        0 => Content::Text(format!("line {n}\nand \u{1F980} another, not ended")),
        1 => Content::Text("\0\u{1b}[31m\r\n".repeat(n as usize % 7)),
        _ => {
            Content::Data(serde_json::json!({"n": n, "text": "a\nb", "nested": [null, 1.5, {"deep": true}]}))
        }
    };
    let at = jiff::Timestamp::from_nanosecond(1_795_000_000_000_000_001 + i128::from(n)).unwrap();
    StreamEntry {
        who: StepId::new("fix").into(),
        attempt: 1 + n as u32 % 2,
        stream: "stdout".into(),
        at,
        content,
    }
}

/// Reads along until there were `count` entries.
pub(super) async fn follow(streams: &dyn StreamStore, run: &RunId, count: usize) -> Vec<StreamEntry> {
    let (mut cursor, mut seen) = (0, Vec::new());
    while seen.len() < count {
        streams.changed(run, cursor).await;
        for (behind, entry) in streams.read(run, cursor, 7).await.unwrap() {
            assert!(behind > cursor);
            cursor = behind;
            seen.push(entry);
        }
    }
    seen
}

async fn entries_come_back_in_order(streams: &dyn StreamStore) {
    let (a, b) = (RunId::new("a"), RunId::new("b"));
    assert_eq!(streams.read(&a, 0, 10).await.unwrap(), []);
    for n in 0..30 {
        streams.append(&a, entry(n)).await.unwrap();
    }
    streams.append(&b, entry(99)).await.unwrap();
    let all = streams.read(&a, 0, 1000).await.unwrap();
    assert_eq!(
        all.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>(),
        (0..30).map(entry).collect::<Vec<_>>()
    );
    for (index, (cursor, _)) in all.iter().enumerate() {
        assert_eq!(
            streams.read(&a, *cursor, 3).await.unwrap(),
            all[index + 1..].iter().take(3).cloned().collect::<Vec<_>>()
        );
    }
    assert_eq!(streams.read(&a, 0, 0).await.unwrap(), []);
    assert_eq!(streams.read(&b, 0, 10).await.unwrap().len(), 1);
}

async fn any_cursor_is_good_for_reading(streams: &dyn StreamStore) {
    let run = RunId::new("a");
    for n in 0..5 {
        streams.append(&run, entry(n)).await.unwrap();
    }
    let all = streams.read(&run, 0, 1000).await.unwrap();
    let end = all.last().unwrap().0;
    for cursor in 0..end + 3 {
        // The first entry that begins at the cursor or behind it.
        let starts = std::iter::once(0).chain(all.iter().map(|(behind, _)| *behind));
        let expected: Vec<_> =
            starts.zip(&all).filter(|(start, _)| *start >= cursor).map(|(_, entry)| entry.clone()).collect();
        assert_eq!(streams.read(&run, cursor, 1000).await.unwrap(), expected, "cursor {cursor}");
    }
    assert_eq!(streams.read(&run, u64::MAX, 10).await.unwrap(), []);
}

async fn followers_miss_nothing(streams: Arc<dyn StreamStore>) {
    let run = RunId::new("a");
    let mut followers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (streams, run) = (streams.clone(), run.clone());
        followers.spawn(async move { follow(&*streams, &run, 300).await });
    }
    for n in 0..300 {
        streams.append(&run, entry(n)).await.unwrap();
        tokio::task::yield_now().await;
    }
    let expected: Vec<StreamEntry> = (0..300).map(entry).collect();
    while let Some(seen) = tokio::time::timeout(Duration::from_secs(20), followers.join_next()).await.unwrap()
    {
        assert_eq!(seen.unwrap(), expected);
    }
}

async fn the_largest_entries_fit(streams: &dyn StreamStore) {
    let run = RunId::new("a");
    let with = |content: Content| StreamEntry { content, ..entry(0) };
    let text = |bytes: usize| with(Content::Text("\u{1}".repeat(bytes)));
    let data = |bytes: usize| with(Content::Data("x".repeat(bytes).into()));
    streams.append(&run, text(MAX_TEXT)).await.unwrap();
    streams.append(&run, data(MAX_DATA - 2)).await.unwrap();
    for too_large in [text(MAX_TEXT + 1), data(MAX_DATA * 2)] {
        assert_eq!(streams.append(&run, too_large).await.unwrap_err().kind, ErrorKind::TOO_LARGE);
    }
    let mut cursor = 0;
    for expected in [text(MAX_TEXT), data(MAX_DATA - 2)] {
        let found = streams.read(&run, cursor, 1).await.unwrap().remove(0);
        assert!(found.1 == expected);
        cursor = found.0;
    }
}

async fn a_full_stream_says_so_once(streams: &dyn StreamStore) {
    let run = RunId::new("a");
    for n in 0..500 {
        streams.append(&run, entry(n)).await.unwrap();
    }
    let mut kept = streams.read(&run, 0, 1000).await.unwrap();
    let (end, last) = kept.pop().unwrap();
    assert_eq!(end, 20_000);
    assert_eq!(last.stream, "log");
    assert!(matches!(&last.content, Content::Text(text) if text.contains("limit of 64 MiB")), "{last:?}");
    assert!(kept.len() > 50);
    for (n, (_, found)) in kept.into_iter().enumerate() {
        assert_eq!(found, entry(n as u64));
    }
    // Other runs have their own limit.
    let other = RunId::new("b");
    streams.append(&other, entry(0)).await.unwrap();
    assert_eq!(streams.read(&other, 0, 10).await.unwrap().len(), 1);
}

async fn removed_streams_are_gone(streams: &dyn StreamStore) {
    let (a, b) = (RunId::new("a"), RunId::new("b"));
    streams.remove(&a).await.unwrap();
    for run in [&a, &b] {
        streams.append(run, entry(0)).await.unwrap();
        streams.append(run, entry(1)).await.unwrap();
    }
    let mut sizes = streams.runs().await.unwrap();
    sizes.sort();
    assert!(sizes.len() == 2 && sizes[0].0 == a && sizes[0].1 == sizes[1].1 && sizes[0].1 > 0, "{sizes:?}");
    streams.remove(&a).await.unwrap();
    assert_eq!(streams.runs().await.unwrap(), sizes[1..]);
    assert_eq!(streams.read(&a, 0, 10).await.unwrap(), []);
    assert_eq!(streams.read(&b, 0, 10).await.unwrap().len(), 2);
    streams.append(&a, entry(2)).await.unwrap();
    let again = streams.read(&a, 0, 10).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].1, entry(2));
}
