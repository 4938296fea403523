//! What is left of sandboxes whose host or whose processes are killed: nothing but their files.

use super::chance::{Chance, number};
use super::contract::sandbox::{open, output, sh, spec};
use super::{groups_of, launcher, local};
use harvest::capability::sandbox::local::LocalProvider;
use harvest::capability::sandbox::{ExecSpec, SandboxProvider, SandboxSpec};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Processes of this machine whose command line holds a text.
fn processes(text: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            line.windows(text.len()).any(|window| window == text.as_bytes())
        })
        .count()
}

/// The host that is killed: this test binary again, in the role that the environment gives it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_killed_host() {
    if let Some(home) = std::env::var_os("HARVEST_TEST_VICTIM") {
        let provider = LocalProvider::new(Path::new(&home), launcher(), Vec::new()).expect("a provider");
        let sandbox = provider.open(SandboxSpec { id: "victim".into(), ..spec() }).await.expect("opens");
        let tag = std::env::var("HARVEST_TEST_TAG").expect("a tag");
        let script = format!(
            "echo kept > /root/file; for i in 1 2 3; do setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 0.1; done # {tag}' & done; \
             (setsid sh -c 'while :; do sleep 0.1; done # {tag}' &); echo ready; wait # {tag}"
        );
        let mut process = sandbox.exec(sh(&script)).await.expect("starts");
        process.next().await.expect("output");
        println!("ready");
        std::future::pending::<()>().await;
    }
    let home = tempfile::tempdir().expect("a directory");
    let tag = format!("tag-{}", std::process::id());
    let mut host = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "survives::nothing_of_a_killed_host", "--nocapture"])
        .env("HARVEST_TEST_VICTIM", home.path())
        .env("HARVEST_TEST_TAG", &tag)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(host.stdout.take().expect("a pipe")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("ready")), "the host comes up");
    let deadline = Instant::now() + Duration::from_secs(10);
    while processes(&tag) < 5 {
        assert!(Instant::now() < deadline, "the daemons come up");
    }
    host.kill().expect("killed");
    host.wait().expect("reaped");
    // The same id opens at once: the lock is free only when the last process is gone.
    let provider = LocalProvider::new(home.path(), launcher(), Vec::new()).expect("a provider");
    let again = provider.open(SandboxSpec { id: "victim".into(), ..spec() }).await.expect("opens");
    assert_eq!(processes(&tag), 0, "processes survive their host");
    assert_eq!(output(&*again, "cat /root/file").await, "kept\n");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&*home.path().to_string_lossy()), "{mounts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_fork_server_is_replaced() {
    let home = tempfile::tempdir().expect("a directory");
    // For a binary of its own, other tests have no part in the fork server.
    let binary = home.path().join("harvest");
    std::os::unix::fs::symlink(launcher(), &binary).expect("linked");
    let provider = LocalProvider::new(home.path(), binary.clone(), Vec::new()).expect("a provider");
    let first = provider.open(spec()).await.expect("opens");
    let of_binary = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(binary.as_os_str().as_encoded_bytes())
    };
    let started: Vec<u32> = sandboxes_below(std::process::id()).into_iter().filter(of_binary).collect();
    assert_eq!(started.len(), 2, "the fork server and a launcher: {started:?}");
    let server =
        *started.iter().find(|pid| sandboxes_below(**pid).is_empty()).expect("one with no init process");
    kill(server);
    wait_until("it does not die", || !lives(server));
    let second = provider.open(spec()).await.expect("opens");
    for sandbox in [first, second] {
        assert_eq!(output(&*sandbox, "echo here").await, "here\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_cannot_outlive_its_killed_supervisor() {
    let provider = local();
    let sandbox = open(&*provider).await;
    // The parent of the shell is its supervisor, and the same user: it may be killed.
    let script = ExecSpec { stdin: true, ..sh("setsid sleep 54321 & read go; kill -9 $PPID; sleep 54321") };
    let mut process = sandbox.exec(script).await.expect("starts");
    process.write(b"go\n").await.expect("written");
    assert_eq!(process.wait().await.expect_err("its end is unknown").kind.as_str(), "sandbox-lost");
    let deadline = Instant::now() + Duration::from_secs(10);
    while output(&*sandbox, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 5432[1]' || true").await
        != "0\n"
    {
        assert!(Instant::now() < deadline, "something survives");
    }
}

/// Rounds of kills where the environment names no other number (`cargo xtask soak sandboxes N`).
const ROUNDS: u64 = 10;
/// How long a host lives at most before the first kill, in milliseconds: from before its sandbox to well after.
const LIFE_MS: u64 = 400;
/// How long the kernel may take to end what is left.
const PATIENCE: Duration = Duration::from_secs(60);

/// Children of a process that are processes of a sandbox.
fn sandboxes_below(parent: u32) -> Vec<u32> {
    let children = std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let after = stat.rsplit(')').next()?;
        (after.split_whitespace().nth(1)?.parse() == Ok(parent)).then_some(pid)
    });
    children.filter(|pid| lives(*pid)).collect()
}

/// Whether a process of a sandbox lives; what is dead and not yet reaped has no command line.
fn lives(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.windows(9).any(|text| text == b"__sandbox"))
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
    // It may be gone already.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// The host that is killed: opens a sandbox and keeps it busy with commands that end and commands that leave daemons.
async fn be_busy(home: &Path, id: &str, tag: &str) {
    let provider = LocalProvider::new(home, launcher(), Vec::new()).expect("a provider");
    let sandbox =
        provider.open(SandboxSpec { id: id.into(), memory: Some(1 << 30), ..spec() }).await.expect("opens");
    let daemons = format!(
        "for i in 1 2 3; do setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 0.05; done # {tag}' & done; wait"
    );
    let _kept = sandbox.exec(sh(&daemons)).await.expect("starts");
    loop {
        let busy = sandbox
            .exec(sh(&format!("(setsid sleep 1000 &); dd if=/dev/zero of=/root/f bs=64k count=8; # {tag}")))
            .await;
        let Ok(mut busy) = busy else { std::future::pending().await };
        drop(busy.wait().await);
    }
}

fn start_host(home: &Path, id: &str, tag: &str) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "survives::nothing_is_left_by_kills_at_any_moment", "--nocapture"])
        .env("HARVEST_TEST_VICTIM", home)
        .env("HARVEST_TEST_ID", id)
        .env("HARVEST_TEST_TAG", tag)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

/// `kill -9` of the host, its fork server, the launcher and the init process: some of them, in any order, at any time of the
/// sandbox's life.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_by_kills_at_any_moment() {
    if let Some(home) = std::env::var_os("HARVEST_TEST_VICTIM") {
        let of = |name| std::env::var(name).expect("set");
        be_busy(Path::new(&home), &of("HARVEST_TEST_ID"), &of("HARVEST_TEST_TAG")).await;
    }
    let seed = number("HARVEST_SEED").unwrap_or(u64::from(std::process::id()));
    let rounds = number("HARVEST_SANDBOX_KILLS").unwrap_or(ROUNDS);
    println!("{rounds} rounds, HARVEST_SEED={seed}");
    let mut chance = Chance(seed);
    let home = tempfile::tempdir().expect("a directory");
    let mut killed = [0; 4];
    for round in 0..rounds {
        let id = format!("victim-{}-{round}", std::process::id());
        let tag = format!("tag-{id}-");
        let mut host = start_host(home.path(), &id, &tag);
        std::thread::sleep(Duration::from_millis(chance.below(LIFE_MS)));
        // What has no init process is the fork server, or a launcher that has only begun.
        let (launchers, servers): (Vec<u32>, Vec<u32>) =
            sandboxes_below(host.id()).into_iter().partition(|pid| !sandboxes_below(*pid).is_empty());
        let inits: Vec<u32> = launchers.iter().flat_map(|launcher| sandboxes_below(*launcher)).collect();
        let mut targets = vec![(0, host.id())];
        targets.extend(launchers.iter().map(|pid| (1, *pid)));
        targets.extend(inits.iter().map(|pid| (2, *pid)));
        targets.extend(servers.iter().map(|pid| (3, *pid)));
        for last in (1..targets.len()).rev() {
            targets.swap(last, chance.below(last as u64 + 1) as usize);
        }
        targets.truncate(1 + chance.below(targets.len() as u64) as usize);
        for (kind, pid) in &targets {
            killed[*kind] += 1;
            kill(*pid);
            std::thread::sleep(Duration::from_micros(chance.below(2_000)));
        }
        let seen = format!(
            "round {round}, killed {targets:?} of launchers {launchers:?}, init processes {inits:?}, fork server {servers:?}"
        );
        // Without its launcher or its init process the sandbox goes, and before its host does.
        let ended = targets.iter().any(|(kind, _)| matches!(kind, 1 | 2));
        if ended && targets.iter().all(|(kind, _)| *kind > 0) {
            wait_until(&format!("{seen}: commands survive"), || processes(&tag) == 0);
        }
        host.kill().expect("killed");
        host.wait().expect("reaped");
        // Whoever opens it next, at once, finds nobody in it, however it ended.
        let provider = LocalProvider::new(home.path(), launcher(), Vec::new()).expect("a provider");
        let again = provider.open(SandboxSpec { id: id.clone(), ..spec() }).await.expect("opens");
        assert_eq!(processes(&tag), 0, "{seen}: commands survive");
        let alive: Vec<_> =
            launchers.iter().chain(&inits).chain(&servers).filter(|pid| lives(**pid)).collect();
        assert!(alive.is_empty(), "{seen}: {alive:?} survive");
        again.terminate().await.expect("ends");
        drop(again);
        for (_, running) in provider.list().await.expect("listed") {
            assert!(!running, "{seen}: a lock is held");
        }
        provider.remove(&id).await.expect("removed");
        // A host clears away what nobody was left to clear away.
        drop(LocalProvider::new(home.path(), launcher(), Vec::new()).expect("a provider"));
        assert_eq!(groups_of(&id), Vec::<PathBuf>::new(), "{seen}");
        let left: Vec<_> = std::fs::read_dir(home.path().join("sandboxes")).expect("there").collect();
        assert!(left.is_empty(), "{seen}: {left:?}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&*home.path().to_string_lossy()), "{seen}: {mounts}");
    }
    let [hosts, launchers, inits, servers] = killed;
    println!("killed {hosts} hosts, {launchers} launchers, {inits} init processes, {servers} fork servers");
}
