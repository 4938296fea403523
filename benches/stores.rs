//! How fast the stores are: `cargo bench --bench stores [-- DIR]`, on the disk of DIR (default: the temporary directory).
//!
//! Journal appends wait for the disk, so their numbers are those of its sync; compare only numbers of one machine under
//! one load. Without `--bench` (as `cargo test --all-targets` starts it) everything runs once, briefly, to show that it
//! works.

use harvest::capability::stream::{Content, LocalStreams, StreamEntry, StreamStore};
use harvest::id::{RunId, StepId};
use harvest::journal::transfer::{TransferError, export, import};
use harvest::journal::{Journal, JournalError, Record, RunFilter, RunRow, SqliteJournal};
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of an ordinary event.
const PAYLOAD: usize = 300;

#[tokio::main]
async fn main() -> Result<(), JournalError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let whole = arguments.iter().any(|argument| argument == "--bench");
    let time = if whole { Duration::from_secs(3) } else { Duration::from_millis(50) };
    let parent = arguments.iter().find(|argument| !argument.starts_with('-'));
    let parent = parent.map_or_else(std::env::temp_dir, PathBuf::from);
    let home = parent.join(format!("harvest-bench-{}", RunId::generate()));
    println!("{:<34}{:>12}{:>12}{:>12}", "", "per second", "p50", "p99");
    for writers in [1, 16, 256] {
        appends(&home.join(writers.to_string()), writers, time).await?;
    }
    openings(&home.join("256"), if whole { 50 } else { 2 }).await?;
    listings(&home.join("256"), if whole { 200 } else { 2 }).await?;
    moving(&home, if whole { 10_000 } else { 20 }).await?;
    streams(&home, time).await;
    if let Err(error) = std::fs::remove_dir_all(&home) {
        eprintln!("cannot remove {}: {error}", home.display());
    }
    Ok(())
}

/// Every writer appends to runs of its own, ten events each, one by one.
async fn appends(home: &Path, writers: usize, time: Duration) -> Result<(), JournalError> {
    let journal = Arc::new(SqliteJournal::open(home)?);
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..writers {
        let journal = journal.clone();
        tasks.spawn(async move {
            let mut took = Vec::new();
            while start.elapsed() < time {
                let run = RunId::generate();
                for seq in 1..=10 {
                    let record = Record { seq, at: Timestamp::now(), payload: vec![b'x'; PAYLOAD] };
                    let before = Instant::now();
                    journal.append(&run, seq - 1, vec![record], row(&run, seq == 10)).await?;
                    took.push(before.elapsed());
                }
            }
            Ok::<_, JournalError>(took)
        });
    }
    let mut took = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        took.extend(outcome.map_err(|error| JournalError::Unavailable(error.to_string()))??);
    }
    print(&format!("journal append, {writers} writers"), took, start.elapsed());
    Ok(())
}

async fn openings(home: &Path, count: usize) -> Result<(), JournalError> {
    let (start, mut took) = (Instant::now(), Vec::new());
    for _ in 0..count {
        let before = Instant::now();
        let journal = SqliteJournal::open(home)?;
        took.push(before.elapsed());
        drop(journal);
    }
    print("journal open", took, start.elapsed());
    Ok(())
}

/// Exports runs of ten events each from one journal and imports them into another.
async fn moving(home: &Path, runs: u64) -> Result<(), JournalError> {
    let failed = |error: TransferError| JournalError::Unavailable(error.to_string());
    let (from, to) = (SqliteJournal::open(&home.join("from"))?, SqliteJournal::open(&home.join("to"))?);
    for _ in 0..runs {
        let run = RunId::generate();
        let payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(PAYLOAD)).into_bytes();
        let record = |seq| Record { seq, at: Timestamp::now(), payload: payload.clone() };
        from.append(&run, 0, (1..=10).map(record).collect(), row(&run, true)).await?;
    }
    let (start, mut file) = (Instant::now(), Vec::new());
    export(&from, None, &mut file).await.map_err(failed)?;
    let exported = start.elapsed();
    let start = Instant::now();
    import(&to, &mut &*file, &mut |_, _| {}).await.map_err(failed)?;
    let per_second = |took: Duration| (runs * 10) as f64 / took.as_secs_f64();
    println!("{:<34}{:>12.0}", "events exported", per_second(exported));
    println!("{:<34}{:>12.0}", "events imported", per_second(start.elapsed()));
    Ok(())
}

async fn listings(home: &Path, count: usize) -> Result<(), JournalError> {
    let journal = SqliteJournal::open(home)?;
    let (start, mut took) = (Instant::now(), Vec::new());
    for _ in 0..count {
        let before = Instant::now();
        journal.list(RunFilter::default(), 50).await?;
        took.push(before.elapsed());
    }
    print("journal list, newest 50", took, start.elapsed());
    Ok(())
}

async fn streams(home: &Path, time: Duration) {
    let streams = LocalStreams::open(home).expect("a directory of our own");
    let (start, mut took) = (Instant::now(), Vec::new());
    let mut run = RunId::generate();
    while start.elapsed() < time {
        let entry = StreamEntry {
            who: StepId::new("fix").into(),
            attempt: 1,
            stream: "stdout".into(),
            at: Timestamp::now(),
            content: Content::Text("x".repeat(100)),
        };
        let before = Instant::now();
        streams.append(&run, entry).await.expect("room on the disk");
        took.push(before.elapsed());
        if took.len() % 100_000 == 0 {
            run = RunId::generate();
        }
    }
    print("stream append", took, start.elapsed());
}

fn row(run: &RunId, ended: bool) -> RunRow {
    RunRow {
        run: run.clone(),
        workflow: "bench".into(),
        state: if ended { "succeeded" } else { "running" }.into(),
        started_at: Timestamp::now(),
        finished_at: ended.then(Timestamp::now),
        usd: None,
        tokens: None,
    }
}

fn print(what: &str, mut took: Vec<Duration>, all: Duration) {
    took.sort_unstable();
    let at = |percent: usize| {
        let taken = took.get(took.len() * percent / 100).copied().unwrap_or_default();
        format!("{:.3} ms", taken.as_secs_f64() * 1000.0)
    };
    println!("{what:<34}{:>12.0}{:>12}{:>12}", took.len() as f64 / all.as_secs_f64(), at(50), at(99));
}
