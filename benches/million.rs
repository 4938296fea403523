//! A journal with a million events: `cargo bench --bench million --features sled [-- DIR]`, on the disk of DIR.
//!
//! How long it takes to open after `kill -9`, to list, and to delete most of it; how large it is. By hand: it takes
//! minutes and a gigabyte. Without `--bench` it runs with a thousandth of it, to show that it works.

use harvest::id::RunId;
use harvest::journal::{Journal, JournalError, Record, RunFilter, RunRow, SqliteJournal};
use jiff::Timestamp;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

/// Events of a run, each an append of its own.
const EVENTS: u64 = 10;
/// Bytes of an ordinary event.
const PAYLOAD: usize = 300;
/// Appends that wait at the same time.
const WRITERS: usize = 256;
/// Runs of the whole journal.
const RUNS: usize = 100_000;

type Opened = Result<Arc<dyn Journal>, JournalError>;
type Kind = (&'static str, fn(&Path) -> Opened);

const KINDS: &[Kind] = &[
    ("sqlite", |home| Ok(Arc::new(SqliteJournal::open(home)?))),
    #[cfg(feature = "sled")]
    ("sled", |home| Ok(Arc::new(harvest::journal::SledJournal::open(home)?))),
];

#[tokio::main]
async fn main() -> Result<(), JournalError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, kind, home, runs] = &arguments[..]
        && role == "fill"
    {
        let open = KINDS.iter().find(|(name, _)| name == kind).expect("a journal of that name").1;
        return fill(open(Path::new(home))?, runs.parse().expect("a number")).await;
    }
    let whole = arguments.iter().any(|argument| argument == "--bench");
    let runs = if whole { RUNS } else { RUNS / 1000 };
    let parent = arguments.iter().find(|argument| !argument.starts_with('-'));
    let parent = parent.map_or_else(std::env::temp_dir, PathBuf::from);
    for kind in KINDS {
        let home = parent.join(format!("harvest-million-{}", RunId::generate()));
        measure(kind, &home, runs).await?;
        if let Err(error) = std::fs::remove_dir_all(&home) {
            eprintln!("cannot remove {}: {error}", home.display());
        }
    }
    Ok(())
}

/// Fills a journal, says so, and writes on until it is killed.
async fn fill(journal: Arc<dyn Journal>, runs: usize) -> Result<(), JournalError> {
    write(&journal, runs).await?;
    println!("filled");
    write(&journal, usize::MAX).await
}

async fn write(journal: &Arc<dyn Journal>, runs: usize) -> Result<(), JournalError> {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let journal = journal.clone();
        let mine = runs / WRITERS + usize::from(writer < runs % WRITERS);
        tasks.spawn(async move {
            for _ in 0..mine {
                let run = RunId::generate();
                for seq in 1..=EVENTS {
                    let record = Record { seq, at: Timestamp::now(), payload: vec![b'x'; PAYLOAD] };
                    journal.append(&run, seq - 1, vec![record], row(&run, seq == EVENTS)).await?;
                }
            }
            Ok::<_, JournalError>(())
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.map_err(|error| JournalError::Unavailable(error.to_string()))??;
    }
    Ok(())
}

async fn measure((name, open): &Kind, home: &Path, runs: usize) -> Result<(), JournalError> {
    let say = |what: &str, start: Instant| {
        println!("{name:<8}{what:<44}{:>12.2} ms", start.elapsed().as_secs_f64() * 1000.0);
    };
    let size = |what: &str| println!("{name:<8}{what:<44}{:>12.1} MiB", bytes(home) as f64 / 1_048_576.0);
    let start = Instant::now();
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args(["fill", name])
        .arg(home)
        .arg(runs.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert_eq!(line, "filled\n");
    say(&format!("writing {runs} runs of {EVENTS} events"), start);
    child.kill().expect("a child of ours");
    child.wait().expect("a child of ours");
    size("on disk");

    let start = Instant::now();
    let journal = open(home)?;
    say("open after kill -9", start);
    for _ in 0..3 {
        let start = Instant::now();
        let listed = journal.list(RunFilter::default(), 50).await?;
        assert_eq!(listed.len(), 50);
        say("list the newest 50", start);
    }
    let start = Instant::now();
    journal.list(RunFilter { unfinished: true, ..RunFilter::default() }, 50).await?;
    say("list unfinished ones", start);
    let start = Instant::now();
    let report = journal.verify().await?;
    assert!(report.is_whole() && report.runs as usize >= runs, "{report:?}");
    say(&format!("verify {} events", report.records), start);

    let mut ended = Vec::new();
    let mut before = None;
    while ended.len() < runs {
        let rows = journal.list(RunFilter { before: before.clone(), ..RunFilter::default() }, 10_000).await?;
        let Some(last) = rows.last() else { break };
        before = Some(last.run.clone());
        ended.extend(rows.into_iter().filter(|row| row.finished_at.is_some()).map(|row| row.run));
    }
    let start = Instant::now();
    journal.delete(&ended[ended.len() / 5..]).await?;
    say("delete 80 %", start);
    drop(journal);
    size("on disk after that");
    let start = Instant::now();
    drop(open(home)?);
    say("open and close after that", start);
    size("on disk after that");
    Ok(())
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

/// Bytes of all files below a directory.
fn bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let of = |path: PathBuf| {
        if path.is_dir() { bytes(&path) } else { path.metadata().map_or(0, |data| data.len()) }
    };
    entries.flatten().map(|entry| of(entry.path())).sum()
}
