//! Journals between processes: this test binary starts itself again in a role, and sometimes kills it.

use super::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

const ROLE: &str = "HARVEST_TEST_JOURNAL_ROLE";
const HOME: &str = "HARVEST_TEST_JOURNAL_HOME";
const ACKS: &str = "HARVEST_TEST_JOURNAL_ACKS";
const KIND: &str = "HARVEST_TEST_JOURNAL_KIND";

for_every_kind!(
    nothing_acknowledged_is_lost_by_kill_9_while_writing,
    nothing_acknowledged_is_lost_by_kill_9_while_opening,
    a_full_disk_is_named_and_loses_nothing,
    a_refused_write_is_named_and_loses_nothing,
    every_acknowledgement_comes_after_a_sync,
);

/// Not a test of its own: the entry of the processes that the tests below start.
#[test]
fn child_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let home = PathBuf::from(std::env::var_os(HOME).unwrap());
    let kind = kind(&std::env::var(KIND).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        match &*role {
            "write" => write(kind, &home, 8, u64::MAX).await,
            "write-300" => write(kind, &home, 3, 100).await,
            "write-one-by-one" => write(kind, &home, 1, 20).await,
            "open" => open_again_and_again(kind, &home).await,
            "open-once" => {
                drop((kind.open)(&home).unwrap());
                crate::journal::sqlite::reached("opened");
            }
            "fill" => fill(kind, &home).await,
            "check" => check(kind, &home, &read_acks(Path::new(&std::env::var_os(ACKS).unwrap()))).await,
            "cut" => power::cut(kind, &home).await,
            other => panic!("no role {other}"),
        }
    });
    std::process::exit(0);
}

/// The command that starts this binary in a role.
pub(in crate::journal) fn command(kind: &Kind, role: &str, home: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    as_role(&mut command, kind, role, home);
    command
}

pub(super) fn as_role(command: &mut Command, kind: &Kind, role: &str, home: &Path) {
    command
        .args(["--exact", "journal::on_disk::process::child_process", "--nocapture"])
        .env(ROLE, role)
        .env(KIND, kind.name)
        .env(HOME, home)
        .stdin(Stdio::null());
}

/// Says on stdout that an event is acknowledged, in one write: whoever reads the line knows that it is.
fn acknowledge(run: &RunId, seq: u64) {
    std::io::stdout().write_all(format!("\nack {run} {seq}\n").as_bytes()).unwrap();
}

/// `writers` tasks, each appending to a run of its own until it has `events`.
async fn write(kind: &Kind, home: &Path, writers: u64, events: u64) {
    let journal = (kind.open)(home).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let journal = journal.clone();
        tasks.spawn(async move {
            let run = id(u64::from(std::process::id()) * 100 + writer);
            let mut last = 0;
            while last < events {
                let next = (last + 1 + last % 3).min(events);
                journal
                    .append(&run, last, records(&run, last + 1, next), row(&run, "running"))
                    .await
                    .unwrap();
                acknowledge(&run, next);
                last = next;
            }
        });
    }
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap();
    }
}

async fn open_again_and_again(kind: &Kind, home: &Path) {
    for n in 0.. {
        let journal = (kind.open)(home).unwrap();
        let run = id(u64::from(std::process::id()) * 100 + n % 100);
        if n < 100 {
            journal.append(&run, 0, records(&run, 1, 1), row(&run, "running")).await.unwrap();
            acknowledge(&run, 1);
        } else {
            assert_eq!(journal.read(&run, 0, 10).await.unwrap(), records(&run, 1, 1));
            acknowledge(&run, 1);
        }
    }
}

/// Appends until the disk is full, then shows that nothing more is acknowledged and everything can still be read.
async fn fill(kind: &Kind, home: &Path) {
    let journal = (kind.open)(home).unwrap();
    let run = id(1);
    let mut last = 0;
    let append = async |seq: u64| {
        let record = Record { payload: vec![seq as u8; 20_000], ..record(&run, seq) };
        journal.append(&run, seq - 1, vec![record], row(&run, "running")).await
    };
    let first = loop {
        match append(last + 1).await {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
        acknowledge(&run, last);
        assert!(last < 10_000, "the disk does not fill");
    };
    assert!(matches!(first, JournalError::Stopped(_)), "{first:?}");
    assert_eq!(append(last + 1).await, Err(first.clone()), "acknowledges after a failed write");
    let mut after = 0;
    while after < last {
        for record in journal.read(&run, after, 100).await.unwrap() {
            after += 1;
            assert!(record.seq == after && record.payload == vec![after as u8; 20_000]);
        }
    }
    println!("\nerror {first}");
}

/// The highest acknowledged event of each run, as the lines of [`acknowledge`] say.
pub(super) fn acks(output: &str) -> BTreeMap<RunId, u64> {
    let mut acks = BTreeMap::new();
    for line in output.lines() {
        if let Some((run, seq)) = line.strip_prefix("ack ").and_then(|ack| ack.split_once(' ')) {
            let last = acks.entry(RunId::new(run)).or_insert(0);
            *last = seq.parse::<u64>().unwrap().max(*last);
        }
    }
    acks
}

fn read_acks(path: &Path) -> BTreeMap<RunId, u64> {
    acks(&std::fs::read_to_string(path).unwrap())
}

/// Every acknowledged event is there, in order, as it was written; what was not acknowledged is whole too.
pub(super) async fn check(kind: &Kind, home: &Path, acks: &BTreeMap<RunId, u64>) {
    let journal = (kind.open)(home).unwrap();
    for (run, acknowledged) in acks {
        let mut last = 0;
        loop {
            let page = journal.read(run, last, 1000).await.unwrap();
            let Some(end) = page.last().map(|record| record.seq) else { break };
            if page[0].payload.first() == Some(&b'{') {
                assert!(page == records(run, last + 1, end), "run {run} is not what was written");
            }
            last = end;
        }
        assert!(last >= *acknowledged, "run {run} has {last} events, {acknowledged} were acknowledged");
    }
    let report = journal.verify().await.unwrap();
    assert!(report.is_whole(), "{:?}", report.findings);
}

/// Reads what `child` says until it acknowledged `count` times, kills it, and returns all it acknowledged.
pub(super) fn kill_after(mut child: Child, count: usize) -> BTreeMap<RunId, u64> {
    kill_after_stopping(&mut child, count, || {})
}

/// The same, with something done just before the kill.
pub(super) fn kill_after_stopping(
    child: &mut Child,
    count: usize,
    stop: impl FnOnce(),
) -> BTreeMap<RunId, u64> {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    let mut acknowledged = 0;
    while acknowledged < count {
        let start = said.len();
        assert!(output.read_line(&mut said).unwrap() > 0, "ended by itself:\n{said}");
        acknowledged += usize::from(said[start..].starts_with("ack "));
    }
    stop();
    child.kill().unwrap();
    child.wait().unwrap();
    // The pipe still holds what was said before the kill; its last line may be cut, and then says nothing.
    output.read_to_string(&mut said).unwrap();
    said.truncate(said.rfind('\n').map_or(0, |end| end + 1));
    acks(&said)
}

async fn nothing_acknowledged_is_lost_by_kill_9_while_writing(kind: &Kind) {
    let home = tempfile::tempdir().unwrap();
    let mut all = BTreeMap::new();
    for cycle in 0..trials("HARVEST_KILLS", 10) {
        let child = command(kind, "write", home.path()).stdout(Stdio::piped()).spawn().unwrap();
        let acknowledged = kill_after(child, 20 + cycle * 13 % 97);
        assert!(!acknowledged.is_empty());
        all.extend(acknowledged);
        check(kind, home.path(), &all).await;
    }
}

async fn nothing_acknowledged_is_lost_by_kill_9_while_opening(kind: &Kind) {
    let home = tempfile::tempdir().unwrap();
    let mut all = BTreeMap::new();
    for cycle in 0..trials("HARVEST_KILLS", 10) {
        let child = command(kind, "open", home.path()).stdout(Stdio::piped()).spawn().unwrap();
        all.extend(kill_after(child, 1 + cycle * 7 % 11));
        check(kind, home.path(), &all).await;
    }
}

#[tokio::test]
async fn another_process_reads_and_writes_meanwhile() {
    let home = tempfile::tempdir().unwrap();
    let journal = (SQLITE.open)(home.path()).unwrap();
    let child = command(&SQLITE, "write-300", home.path()).stdout(Stdio::piped()).spawn().unwrap();
    let theirs: Vec<RunId> = (0..3).map(|writer| id(u64::from(child.id()) * 100 + writer)).collect();
    let follow = async |run: &RunId| {
        let mut seen = 0;
        while seen < 100 {
            journal.changed(run, seen).await;
            let page = journal.read(run, seen, 1000).await.unwrap();
            assert!(!page.is_empty(), "woken without news");
            assert_eq!(page, records(run, seen + 1, seen + page.len() as u64));
            seen += page.len() as u64;
        }
    };
    let ours = async {
        for seq in 1..=100 {
            journal.append(&id(1), seq - 1, records(&id(1), seq, seq), row(&id(1), "running")).await.unwrap();
        }
    };
    let both = async { tokio::join!(ours, follow(&theirs[0]), follow(&theirs[1]), follow(&theirs[2])) };
    tokio::time::timeout(Duration::from_secs(60), both).await.expect("changes of the other process are seen");
    assert!(child.wait_with_output().unwrap().status.success());
    let late = journal.append(&theirs[0], 0, records(&theirs[0], 1, 1), row(&theirs[0], "failed")).await;
    assert_eq!(late, Err(JournalError::Conflict { run: theirs[0].clone(), expected: 0, actual: 100 }));
    assert_eq!(journal.verify().await.unwrap().records, 400);
}

/// Runs `script` with this binary as `$0` and its arguments as `$@`; the role is `fill` until the script says otherwise.
fn fill_under(kind: &Kind, wrapper: &[&str], script: &str, home: &Path, acks: &Path) -> (ExitStatus, String) {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).args(["sh", "-euc", script]).arg(std::env::current_exe().unwrap());
    as_role(&mut command, kind, "fill", home);
    let output = command.env(ACKS, acks).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status, said)
}

async fn a_full_disk_is_named_and_loses_nothing(kind: &Kind) {
    let directory = tempfile::tempdir().unwrap();
    let (home, acks) = (directory.path().join("home"), directory.path().join("acks"));
    std::fs::create_dir(&home).unwrap();
    let wrapper = ["unshare", "--map-root-user", "--mount"];
    let mount = format!("mount -t tmpfs -o size=3m,mode=700 tmpfs {}", home.display());
    if !Command::new(wrapper[0])
        .args(&wrapper[1..])
        .args(["sh", "-c", &mount])
        .status()
        .is_ok_and(|s| s.success())
    {
        eprintln!(
            "not tested: this user may not mount a tmpfs in a namespace; the file size limit is tested anyway"
        );
        return;
    }
    let script = format!(
        "{mount}; head -c 1000000 /dev/zero > {home}/ballast; \"$0\" \"$@\" > \"${ACKS}\"; rm {home}/ballast; \
         {ROLE}=check \"$0\" \"$@\"",
        home = home.display()
    );
    let (status, said) = fill_under(kind, &wrapper, &script, &home, &acks);
    let acknowledged = std::fs::read_to_string(&acks).unwrap();
    assert!(status.success(), "{said}\n{acknowledged}");
    assert!(read_acks(&acks)[&id(1)] > 20, "{acknowledged}");
    let error = acknowledged.lines().find(|line| line.starts_with("error ")).unwrap();
    insta::allow_duplicates! { insta::assert_snapshot!(error, @"error the journal stopped writing: the disk is full; free some space, then start harvest again (nothing acknowledged is lost)") };
}

async fn a_refused_write_is_named_and_loses_nothing(kind: &Kind) {
    let directory = tempfile::tempdir().unwrap();
    let (home, acks) = (directory.path().join("home"), directory.path().join("acks"));
    // 1 MiB in blocks of 512 bytes. Without the trap, the signal would kill the process instead of failing the write.
    let script =
        format!("trap '' XFSZ; (ulimit -f 2048; \"$0\" \"$@\" > \"${ACKS}\"); {ROLE}=check \"$0\" \"$@\"");
    let (status, said) = fill_under(kind, &["env"], &script, &home, &acks);
    let acknowledged = std::fs::read_to_string(&acks).unwrap();
    assert!(status.success(), "{said}\n{acknowledged}");
    assert!(read_acks(&acks)[&id(1)] > 10, "{acknowledged}");
    let error = acknowledged.lines().find(|line| line.starts_with("error ")).unwrap();
    let error = error.replace(kind.too_large, "CAUSE");
    insta::allow_duplicates! { insta::assert_snapshot!(error, @"error the journal stopped writing: the disk refused to read or write (CAUSE); check the disk, its quota and file size limits, then start harvest again (nothing acknowledged is lost)") };
}

async fn every_acknowledgement_comes_after_a_sync(kind: &Kind) {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "16", "-e", "trace=fsync,fdatasync,write", "-o"]).arg(&trace);
    strace.arg(std::env::current_exe().unwrap());
    as_role(&mut strace, kind, "write-one-by-one", &directory.path().join("home"));
    let Ok(status) = strace.stdout(Stdio::null()).status() else {
        eprintln!("not tested: strace is not installed");
        return;
    };
    assert!(status.success());
    let trace = std::fs::read_to_string(&trace).unwrap();
    let (mut syncs, mut acks) = (vec![0; kind.synced.len()], 0);
    for line in trace.lines() {
        for (count, (call, file)) in syncs.iter_mut().zip(kind.synced) {
            *count += usize::from(line.contains(call) && line.contains(file));
        }
        if line.contains(r#""\nack "#) {
            acks += 1;
            assert!(
                syncs.iter().all(|syncs| *syncs >= acks),
                "acknowledgement {acks} after {syncs:?} syncs:\n{trace}"
            );
        }
    }
    assert!(acks >= 10, "{trace}");
}

/// The second process of a home is told so in one line, and nothing happens to the first.
#[cfg(feature = "sled")]
#[tokio::test]
async fn sled_is_for_one_process_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let journal = (SLED.open)(home.path()).unwrap();
    let refused = command(&SLED, "write-300", home.path()).output().unwrap();
    assert!(!refused.status.success());
    let said =
        String::from_utf8_lossy(&refused.stderr).into_owned() + &String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("Busy(\"sled can be used by one process at a time"), "{said}");
    journal.append(&id(1), 0, records(&id(1), 1, 3), row(&id(1), "running")).await.unwrap();
    drop(journal);
    assert!(command(&SLED, "write-300", home.path()).output().unwrap().status.success());
    let journal = (SLED.open)(home.path()).unwrap();
    assert_eq!(journal.verify().await.unwrap().records, 303);
}
