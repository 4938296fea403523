//! Limits of processes, memory and life, and what is left of them.

use super::contract::sandbox::{open, output, run, sh, spec};
use super::{groups_of, is_root, local};
use harvest::capability::sandbox::{Chunk, ExecSpec, ExitStatus, Network, SandboxProvider, SandboxSpec};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_ends_at_its_longest_life() {
    let provider = local();
    let spec = SandboxSpec { timeout: Some(Duration::from_millis(300)), ..spec() };
    let sandbox = provider.open(spec).await.expect("opens");
    let mut process = sandbox.exec(sh("sleep 1000")).await.expect("starts");
    let end = tokio::time::timeout(Duration::from_secs(20), process.wait()).await.expect("ends");
    let error = end.expect_err("ended from outside");
    assert_eq!(error.kind.as_str(), "sandbox-lost");
    assert!(error.message.contains("longest life") && error.message.contains("`timeout`"), "{error}");
    let refused = sandbox.exec(sh("true")).await.err().expect("ended");
    assert!(refused.message.contains("longest life"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_of_processes_an_exec_is_refused_and_the_sandbox_lives_on() {
    let provider = local();
    let sandbox = open(&*provider).await;
    let script = "python3 -u - <<'END'\n\
        import os, time\n\
        n = 0\n\
        try:\n\
        \x20   while n < 9000:\n\
        \x20       if os.fork() == 0: time.sleep(1000); os._exit(0)\n\
        \x20       n += 1\n\
        except OSError: pass\n\
        print(n); time.sleep(1000)\n\
        END";
    let mut process = sandbox.exec(sh(script)).await.expect("starts");
    let Some(Chunk::Stdout(count)) = process.next().await.expect("output") else { panic!("no count") };
    let count: u32 = String::from_utf8_lossy(&count).trim().parse().expect("a number");
    assert!((3900..4100).contains(&count), "{count} processes");
    let error = sandbox.exec(sh("true")).await.err().expect("refused");
    assert_eq!(error.kind.as_str(), "quota", "{error}");
    assert!(error.message.contains("limit of 4096 processes"), "{error}");
    process.kill().await.expect("killed");
    assert_eq!(output(&*sandbox, "echo alive").await, "alive\n");
}

/// Fills so many MiB, says so, and stays.
fn hog(mib: u32) -> ExecSpec {
    sh(&format!(
        "exec python3 -uc 'import time; x = bytearray({mib} << 20); print(len(x)); time.sleep(1000)'"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_held_to_the_limit_at_every_level() {
    let provider = local();
    let spec = SandboxSpec { memory: Some(100 << 20), ..spec() };
    let sandbox = provider.open(spec).await.expect("opens");
    assert_eq!(sandbox.isolation().memory, if is_root() { "cgroup" } else { "watchdog" });
    let mut small = sandbox.exec(hog(20)).await.expect("starts");
    assert!(small.next().await.expect("output").is_some());
    let mut large = sandbox.exec(hog(400)).await.expect("starts");
    assert_eq!(large.wait().await, Ok(ExitStatus::Signal(9)));
    let limit = large.limit().expect("a limit was reached");
    assert_eq!(limit.kind.as_str(), "quota");
    assert!(
        limit.message.contains("limit of memory, 100MiB") && limit.message.contains("`memory: 200MiB`"),
        "{limit}"
    );
    // Only the largest is gone, and what comes later is not blamed.
    small.signal(15).await.expect("sent");
    assert_eq!(small.wait().await, Ok(ExitStatus::Signal(15)));
    let mut later = sandbox.exec(sh("exit 1")).await.expect("starts");
    assert_eq!((later.wait().await, later.limit()), (Ok(ExitStatus::Code(1)), None));
    assert_eq!(output(&*sandbox, "echo alive").await, "alive\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_processes_share_counts_once() {
    let provider = local();
    let sandbox = provider.open(SandboxSpec { memory: Some(150 << 20), ..spec() }).await.expect("opens");
    // Five times 60 MiB of resident memory, of which there is one. The pause is long enough for several looks.
    let script = "exec python3 -c 'import os, time\nx = bytearray(60 << 20)\nfor _ in range(4):\n if os.fork() == 0: time.sleep(1000)\ntime.sleep(1)'";
    let mut process = sandbox.exec(sh(&script.replace("\\n", "\n"))).await.expect("starts");
    assert_eq!(process.wait().await, Ok(ExitStatus::Code(0)));
    assert_eq!(process.limit(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_beyond_the_limit_end_what_writes_them() {
    let provider = local();
    let sandbox = provider.open(SandboxSpec { disk: Some(20 << 20), ..spec() }).await.expect("opens");
    assert_eq!(sandbox.isolation().disk, "watchdog");
    let fill =
        |mib: u32| sh(&format!("dd if=/dev/zero of=/root/file bs=1M count={mib} 2>/dev/null; sleep 1000"));
    let mut process = sandbox.exec(fill(60)).await.expect("starts");
    assert_eq!(process.wait().await, Ok(ExitStatus::Signal(9)));
    let limit = process.limit().expect("a limit was reached");
    assert_eq!(limit.kind.as_str(), "quota");
    assert!(limit.message.contains("`disk: 40MiB`"), "{limit}");
    drop(process);
    // What is there may be read and deleted.
    assert_eq!(output(&*sandbox, "sleep 2.5; stat -c %s /root/file; rm /root/file").await.lines().count(), 1);
    // Only what adds to it ends again.
    let mut again = sandbox.exec(fill(120)).await.expect("starts");
    assert_eq!(again.wait().await, Ok(ExitStatus::Signal(9)));
    assert!(again.limit().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn new_processes_after_a_snapshot_are_held_to_the_same_limits() {
    let provider = local();
    let spec = SandboxSpec { memory: Some(100 << 20), disk: Some(20 << 20), ..spec() };
    let sandbox = provider.open(spec).await.expect("opens");
    let held = sandbox.isolation();
    for _ in 0..2 {
        sandbox.snapshot().await.expect("saved");
        assert_eq!(sandbox.isolation(), held);
        let fill = sh("dd if=/dev/zero of=/root/file bs=1M count=60 2>/dev/null; sleep 1000");
        for (greedy, key) in [(hog(400), "`memory: 200MiB`"), (fill, "`disk: 40MiB`")] {
            let mut process = sandbox.exec(greedy).await.expect("starts");
            assert_eq!(process.wait().await, Ok(ExitStatus::Signal(9)));
            let limit = process.limit().expect("a limit was reached");
            assert!(limit.message.contains(key), "{limit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processor_is_held_where_the_report_says_so() {
    let provider = local();
    let sandbox = provider.open(SandboxSpec { cpu: Some(0.25), ..spec() }).await.expect("opens");
    assert_eq!(sandbox.isolation().cpu, if is_root() { "cgroup" } else { "none" });
    let burn = "exec python3 -c 'import time\nstart = time.monotonic()\nwhile time.process_time() < 0.5: pass\nprint(0.5 / (time.monotonic() - start))'";
    let share = output(&*sandbox, &burn.replace("\\n", "\n")).await;
    let share: f64 = share.trim().parse().expect("a share of a core");
    // A busy machine gives less in any case; more than the limit it gives only where nothing holds it.
    assert!(sandbox.isolation().cpu == "none" || share < 0.4, "{share} of a core");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_hold_a_sandbox_is_known_before() {
    let provider = local();
    let limited = SandboxSpec { memory: Some(1 << 30), cpu: Some(1.0), disk: Some(1 << 30), ..spec() };
    for spec in [spec(), limited, SandboxSpec { network: Network::Host, ..spec() }] {
        let foreseen = provider.isolation(&spec).await.expect("foreseen");
        let sandbox = provider.open(spec).await.expect("opens");
        assert_eq!(foreseen, sandbox.isolation());
    }
    let pids = if is_root() { "cgroup" } else { "rlimit" };
    assert_eq!(provider.isolation(&spec()).await.expect("foreseen").pids, pids);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cgroup_is_left() {
    let provider = local();
    let spec = spec();
    let sandbox = provider.open(spec.clone()).await.expect("opens");
    sandbox.terminate().await.expect("ends");
    assert_eq!(groups_of(&spec.id), Vec::<PathBuf>::new());
}

/// The medians are printed; the bounds only catch a change of kind, on whatever machine this runs.
#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_and_commands_start_fast() {
    let provider = local();
    let sandbox = open(&*provider).await;
    let (mut whole, mut execs) = (Vec::new(), Vec::new());
    for _ in 0..11 {
        let start = Instant::now();
        let fresh = open(&*provider).await;
        run(&*fresh, ExecSpec { command: vec!["true".into()], ..ExecSpec::default() }).await;
        fresh.terminate().await.expect("ends");
        whole.push(start.elapsed());
        let start = Instant::now();
        run(&*sandbox, ExecSpec { command: vec!["true".into()], ..ExecSpec::default() }).await;
        execs.push(start.elapsed());
    }
    whole.sort();
    execs.sort();
    println!("create, exec, gone: {:?}; exec: {:?}", whole[5], execs[5]);
    assert!(
        whole[5] < Duration::from_secs(2) && execs[5] < Duration::from_millis(500),
        "{whole:?} {execs:?}"
    );
}
