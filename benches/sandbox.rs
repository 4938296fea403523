//! Sandboxes against their peers: `cargo bench --bench sandbox [-- DIR]`, with state on the disk of DIR.
//!
//! How long it takes to open a sandbox, run `true` and have it gone, against bubblewrap with the same namespaces; to run
//! `true` in one that is open, against a bare fork and exec; a thousand commands at once; two hundred sandboxes at once;
//! the memory of an idle one. Peers take turns, so that whatever else the machine does, it does to all of them. By hand:
//! it wants bubblewrap (`bwrap`) and takes a minute. Without `--bench` it runs with a little of it, to show that it works.
//! `HARVEST_BENCH_LAUNCHER` names another binary than the one just built, for users who cannot reach that.

use harvest::capability::CapabilityError;
use harvest::capability::sandbox::local::LocalProvider;
use harvest::capability::sandbox::{ExecSpec, ExitStatus, Sandbox, SandboxProvider, SandboxSpec};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rounds in which each peer has a turn.
const ROUNDS: usize = 200;
/// Commands at once.
const COMMANDS: usize = 1000;
/// Sandboxes at once.
const SANDBOXES: usize = 200;

/// How much of it is done.
struct Size {
    rounds: usize,
    commands: usize,
    sandboxes: usize,
}

#[tokio::main]
async fn main() -> Result<(), CapabilityError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let whole = arguments.iter().any(|argument| argument == "--bench");
    let size = if whole {
        Size { rounds: ROUNDS, commands: COMMANDS, sandboxes: SANDBOXES }
    } else {
        Size { rounds: 3, commands: 10, sandboxes: 3 }
    };
    let parent = arguments.iter().find(|argument| !argument.starts_with('-'));
    let home = parent
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("harvest-sandboxes-{}", std::process::id()));
    let launcher = std::env::var_os("HARVEST_BENCH_LAUNCHER")
        .map_or_else(|| env!("CARGO_BIN_EXE_harvest").into(), PathBuf::from);
    let provider = LocalProvider::new(&home, launcher, Vec::new())?;
    let state = home.clone();
    // As a step does: in a task, which the thread that hears of an event goes on with itself.
    let measuring = tokio::spawn(async move { measure(&provider, &state, &size).await });
    let outcome = measuring.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
    if let Err(error) = std::fs::remove_dir_all(&home) {
        eprintln!("cannot remove {}: {error}", home.display());
    }
    outcome
}

async fn measure(provider: &LocalProvider, home: &Path, size: &Size) -> Result<(), CapabilityError> {
    println!("{} rounds, load {}", size.rounds, load());
    from_nothing(provider, size.rounds).await?;
    in_an_open_one(provider, size.rounds).await?;
    at_once(provider, size.commands).await?;
    side_by_side(provider, home, size.sandboxes).await?;
    println!("load {}", load());
    Ok(())
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}

fn spec(id: &str) -> SandboxSpec {
    SandboxSpec { id: id.into(), image: "host".into(), ..SandboxSpec::default() }
}

async fn run_true(sandbox: &dyn Sandbox) -> Result<(), CapabilityError> {
    let exec = ExecSpec { command: vec!["true".into()], ..ExecSpec::default() };
    assert_eq!(sandbox.exec(exec).await?.wait().await?, ExitStatus::Code(0));
    Ok(())
}

/// One peer's times.
struct Times {
    name: &'static str,
    all: Vec<Duration>,
}

impl Times {
    fn of(name: &'static str) -> Self {
        Self { name, all: Vec::new() }
    }

    fn at(&mut self, part: usize) -> Duration {
        self.all.sort();
        self.all[(self.all.len() * part / 100).min(self.all.len() - 1)]
    }
}

/// Prints each peer with its ratio to the one that it is held against.
fn compare(what: &str, goal: f64, ours: &mut Times, against: &mut Times, others: &mut [&mut Times]) {
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let (median, fastest) = (ratio(ours.at(50), against.at(50)), ratio(ours.at(5), against.at(5)));
    println!("{what}: {median:.2} times {} (fastest 5 %: {fastest:.2}; goal {goal})", against.name);
    for times in [ours, against].into_iter().chain(others.iter_mut().map(|times| &mut **times)) {
        let [low, median, high] = [5, 50, 95].map(|part| times.at(part).as_secs_f64() * 1000.0);
        println!("  {:<28} median {median:7.2} ms, 5 % {low:7.2}, 95 % {high:7.2}", times.name);
    }
}

fn external(times: &mut Times, command: &mut Command) {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    times.all.push(start.elapsed());
    assert!(status.is_ok_and(|status| status.success()), "{} fails: is it installed?", times.name);
}

/// bubblewrap with the namespaces of our sandboxes; its root is the host's, read-only, for it has no overlay.
fn bubblewrap() -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--die-with-parent"]);
    command.args(["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"]);
    command.args(["--unshare-net", "--new-session", "true"]);
    command
}

async fn from_nothing(provider: &LocalProvider, rounds: usize) -> Result<(), CapabilityError> {
    let mut ours = Times::of("harvest, fresh files");
    let mut again = Times::of("harvest, files of before");
    let mut wrapped = Times::of("bubblewrap");
    let mut bare = Times::of("fork and exec");
    for round in 0..rounds {
        // Its files are made before and deleted after, by hand, as those of a step are once a run.
        let id = format!("fresh-{round}");
        for times in [&mut ours, &mut again] {
            let start = Instant::now();
            let sandbox = provider.open(spec(&id)).await?;
            run_true(&*sandbox).await?;
            sandbox.terminate().await?;
            times.all.push(start.elapsed());
        }
        provider.remove(&id).await?;
        external(&mut wrapped, &mut bubblewrap());
        external(&mut bare, &mut Command::new("true"));
    }
    compare("open, true, gone", 1.3, &mut ours, &mut wrapped, &mut [&mut again, &mut bare]);
    Ok(())
}

async fn in_an_open_one(provider: &LocalProvider, rounds: usize) -> Result<(), CapabilityError> {
    let sandbox = provider.open(spec("open")).await?;
    let mut ours = Times::of("harvest");
    let mut bare = Times::of("fork and exec");
    for _ in 0..rounds * 5 {
        let start = Instant::now();
        run_true(&*sandbox).await?;
        ours.all.push(start.elapsed());
        external(&mut bare, &mut Command::new("true"));
    }
    compare("a command in an open one", 2.0, &mut ours, &mut bare, &mut []);
    provider.remove("open").await
}

async fn at_once(provider: &LocalProvider, commands: usize) -> Result<(), CapabilityError> {
    let sandbox = provider.open(spec("many")).await?;
    let start = Instant::now();
    let mut running = Vec::new();
    for _ in 0..commands {
        let exec = ExecSpec { command: vec!["cat".into()], stdin: true, ..ExecSpec::default() };
        running.push(sandbox.exec(exec).await?);
    }
    let up = start.elapsed();
    for mut process in running {
        process.close_stdin();
        assert_eq!(process.wait().await?, ExitStatus::Code(0));
    }
    println!("{commands} commands at once: all run after {up:.0?}, all ended after {:.0?}", start.elapsed());
    provider.remove("many").await
}

async fn side_by_side(provider: &LocalProvider, home: &Path, count: usize) -> Result<(), CapabilityError> {
    let start = Instant::now();
    let mut open: Vec<Arc<dyn Sandbox>> = Vec::new();
    for number in 0..count {
        open.push(provider.open(spec(&format!("beside-{number}"))).await?);
    }
    let up = start.elapsed();
    for sandbox in &open {
        run_true(&**sandbox).await?;
    }
    println!(
        "{count} sandboxes at once: all open after {up:.0?}, a command in each after {:.0?}",
        start.elapsed()
    );
    idle_memory(count);
    let start = Instant::now();
    for sandbox in &open {
        sandbox.terminate().await?;
    }
    println!("  all gone after {:.0?}", start.elapsed());
    drop(open);
    for number in 0..count {
        provider.remove(&format!("beside-{number}")).await?;
    }
    let left = std::fs::read_dir(home.join("sandboxes")).map(Iterator::count);
    assert_eq!(left.ok(), Some(0), "something is left");
    Ok(())
}

/// Memory of all processes of sandboxes, in proportion to who shares it. The kernel shows that of sandboxes to root alone.
fn idle_memory(sandboxes: usize) {
    let (mut kilobytes, mut processes) = (0, 0);
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if !line.windows(9).any(|text| text == b"__sandbox") {
            continue;
        }
        let memory = std::fs::read_to_string(entry.path().join("smaps_rollup")).unwrap_or_default();
        let line = memory.lines().find_map(|line| line.strip_prefix("Pss:"));
        if let Some(found) = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()) {
            kilobytes += found;
            processes += 1;
        }
    }
    let each = kilobytes as f64 / sandboxes as f64;
    println!("  idle: {each:.0} kB (PSS) a sandbox, {processes} processes seen; goal 1024");
}
