//! `kill -9` of the real binary under load: no run is lost or stuck, nothing that had finished is done again, and nothing
//! is left behind. `HARVEST_KILLS` chooses how many kills (`cargo xtask soak kills N`), `HARVEST_SEED` which.

mod harness;

use harness::chance::{Chance, number};
use harness::{Home, Running, text};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Kills where the environment names no other number: enough to notice that something broke.
const KILLS: usize = 8;
/// From this many on, a process dies at every record of a run; before, at every ninth.
const THOROUGH: usize = 100;
/// Processes at work at once.
const PROCESSES: usize = 3;
/// How long a process lives at most before it is killed, in milliseconds.
const LIFE_MS: u64 = 2_500;
/// Pause between two looks at questions and processes.
const PAUSE: Duration = Duration::from_millis(50);
/// How long everything that is left may take to end.
const PATIENCE: Duration = Duration::from_secs(600);

fn kills() -> usize {
    number("HARVEST_KILLS").map_or(KILLS, |kills| kills as usize)
}

fn workflow(home: &Home) -> PathBuf {
    home.file("inner.yaml", include_str!("kills/inner.yaml"));
    home.file("load.yaml", include_str!("kills/load.yaml"))
}

fn spawn(home: &Home, arguments: &[&str]) -> Child {
    let mut command = home.harvest();
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Says yes to whoever asks, from processes of its own, until told to stop.
fn approver(home: &Home, stop: &mpsc::Receiver<()>) {
    while matches!(stop.recv_timeout(PAUSE), Err(mpsc::RecvTimeoutError::Timeout)) {
        let waiting = home.json(&["runs", "--workflow", "load", "--state", "waiting", "--json"]);
        for run in waiting.as_array().unwrap() {
            // It may have been answered already, or wait for something else.
            home.run(&["approve", run["run"].as_str().unwrap(), "review"]);
        }
    }
}

/// Does something while questions are answered.
fn answered<T: Send>(home: &Home, work: impl FnOnce() -> T + Send) -> T {
    let (done, stop) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || approver(home, &stop));
        // Dropped whatever comes, so that the other thread ends too.
        let _done = done;
        work()
    })
}

fn unfinished(home: &Home) -> usize {
    let all = home.json(&["runs", "--limit", "10000", "--json"]);
    let open = |run: &&Value| run["finished_at"].is_null();
    all.as_array().unwrap().iter().filter(open).count()
}

/// Carries on whatever is left until there is nothing.
fn carry_on(home: &Home) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut resume = spawn(home, &["resume", "--json"]);
        let code = loop {
            if let Some(status) = resume.try_wait().unwrap() {
                break status.code();
            }
            assert!(Instant::now() < deadline, "stuck: {}", home.json(&["runs", "--json"]));
            std::thread::park_timeout(PAUSE);
        };
        assert_eq!(code, Some(0));
        if unfinished(home) == 0 {
            return;
        }
    }
}

/// Holds what has happened in a home against the promises. Returns runs and attempts.
fn check(home: &Home) -> (usize, usize) {
    let all = home.json(&["runs", "--limit", "10000", "--json"]);
    let mut made = 0;
    for run in all.as_array().unwrap() {
        assert_eq!(run["state"], "succeeded", "{run}");
        let id = run["run"].as_str().unwrap();
        // Reading the journal checks the checksums of all its records.
        let events = home.run(&["events", id, "--json"]);
        assert!(events.status.success(), "{}", text(&events.stderr));
        let marks = text(&home.run(&["volume", "get", "marks", id]).stdout);
        let mut marked: BTreeMap<&str, usize> = BTreeMap::new();
        marks.lines().for_each(|mark| *marked.entry(mark).or_default() += 1);
        let mut starts: BTreeMap<String, usize> = BTreeMap::new();
        let mut succeeded: BTreeMap<String, usize> = BTreeMap::new();
        for line in text(&events.stdout).lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            let step = event["step"].as_str().unwrap_or_default();
            let at = event["item"].as_str().map_or(step.to_owned(), |item| format!("{step}[{item}]"));
            match event["type"].as_str().unwrap() {
                "step_started" => {
                    assert!(
                        !succeeded.contains_key(&at),
                        "{at} of {id} was done again after it had succeeded"
                    );
                    *starts.entry(at).or_default() += 1;
                }
                "step_succeeded" => *succeeded.entry(at).or_default() += 1,
                _ => {}
            }
        }
        made += starts.values().sum::<usize>();
        for (at, times) in succeeded.iter().filter(|(at, _)| *at != "inner") {
            assert_eq!(*times, 1, "{at} of {id} succeeded once");
            let (marks, attempts) = (marked.get(at.as_str()).copied().unwrap_or(0), starts[at]);
            assert!((1..=attempts).contains(&marks), "{at} of {id}: {marks} effects of {attempts} attempts");
        }
        let steps = if run["workflow"] == "load" { 11 } else { 2 };
        let done: usize = succeeded.values().sum();
        assert_eq!(done, steps, "{id} did everything");
    }
    (all.as_array().unwrap().len(), made)
}

/// No process, mount, lock, group or sandbox of the home is left.
fn check_nothing_left(home: &Home) {
    let path = home.path();
    let needle = path.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let own = entry.file_name().to_str() == Some(&std::process::id().to_string());
        for file in ["cmdline", "environ", "mountinfo"] {
            let said = std::fs::read(entry.path().join(file)).unwrap_or_default();
            let left = !own && said.windows(needle.len()).any(|window| window == needle.as_bytes());
            assert!(!left, "{} of process {:?} speaks of the home", file, entry.file_name());
        }
    }
    for directory in ["leases", "groups"] {
        for file in files(&path.join(directory)) {
            let lock = std::fs::File::open(&file).unwrap();
            assert!(
                flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
                "{} is locked",
                file.display()
            );
        }
    }
    for run in home.json(&["runs", "--limit", "10000", "--json"]).as_array().unwrap() {
        let run = run["run"].as_str().unwrap();
        assert!(!holds(Path::new("/sys/fs/cgroup"), run), "a control group of {run} is left");
        let sandboxes = std::fs::read_dir(path.join("sandboxes")).unwrap().flatten();
        let left: Vec<_> =
            sandboxes.filter(|entry| entry.file_name().to_string_lossy().contains(run)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// Whether a directory whose name holds this is below.
fn holds(directory: &Path, name: &str) -> bool {
    std::fs::read_dir(directory).into_iter().flatten().flatten().any(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && (entry.file_name().to_string_lossy().contains(name) || holds(&entry.path(), name))
    })
}

#[test]
fn processes_killed_at_random_lose_nothing() {
    let seed = number("HARVEST_SEED").unwrap_or(7);
    let (home, mut chance) = (Home::new(), Chance(seed));
    let file = workflow(&home);
    let file = file.to_str().unwrap();
    let run = ["run", file];
    let mut killed = 0;
    answered(&home, || {
        while killed < kills() {
            let open = unfinished(&home);
            let begin = |n: usize| open + n < PROCESSES;
            let mut living: Vec<(Instant, Child)> = (0..PROCESSES)
                .map(|n| {
                    let child = spawn(&home, if begin(n) { &run[..] } else { &["resume"] });
                    (Instant::now() + Duration::from_millis(chance.below(LIFE_MS)), child)
                })
                .collect();
            while !living.is_empty() {
                living.retain_mut(|(until, child)| {
                    if child.try_wait().unwrap().is_some() {
                        return false;
                    }
                    if Instant::now() < *until {
                        return true;
                    }
                    child.kill().unwrap();
                    child.wait().unwrap();
                    killed += 1;
                    false
                });
                std::thread::park_timeout(Duration::from_millis(5));
            }
            if killed % 10 < PROCESSES {
                println!("{killed} of {} kills", kills());
            }
        }
        carry_on(&home);
    });
    let (runs, attempts) = check(&home);
    check_nothing_left(&home);
    println!("seed {seed}: {killed} kills, {runs} runs, {attempts} attempts; none lost, repeated or stuck");
}

#[test]
fn a_process_killed_at_any_record_loses_nothing() {
    let stride = if kills() >= THOROUGH { 1 } else { 9 };
    let home = Home::new();
    let file = workflow(&home);
    let mut killed = 0;
    answered(&home, || {
        for record in (1..).step_by(stride) {
            let mut command = home.harvest();
            command.args(["run", "--json"]).arg(&file);
            let mut running = Running::of(command);
            let seen = running.wait_for_record(record);
            running.kill();
            carry_on(&home);
            if !seen {
                break;
            }
            killed += 1;
        }
    });
    let (runs, attempts) = check(&home);
    check_nothing_left(&home);
    println!("killed at {killed} records; {runs} runs, {attempts} attempts; none lost, repeated or stuck");
}
