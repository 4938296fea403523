//! What is left of sandboxes whose host or whose processes are killed: nothing but their files.

use super::contract::sandbox::{open, output, sh, spec};
use super::{launcher, local};
use harvest::capability::sandbox::local::LocalProvider;
use harvest::capability::sandbox::{ExecSpec, SandboxProvider, SandboxSpec};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
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
