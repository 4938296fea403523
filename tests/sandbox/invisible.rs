//! What a sandbox cannot see: the host, and the secrets of other execs.

use super::contract::sandbox::{open, output, run, sh};
use super::{CANARY, grep, local};
use harvest::capability::sandbox::ExecSpec;
use harvest::capability::secret::Secret;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[tokio::test(flavor = "multi_thread")]
async fn host_environment_files_and_processes_are_invisible() {
    let provider = local();
    let marker = provider.home.path().join("marker");
    std::fs::write(&marker, "x").expect("written");
    let sandbox = open(&*provider).await;
    let script = format!(
        "env | sort; ls -A /root /home /tmp /opt /mnt; ls /proc | grep -c '^[0-9]'; test -e {} && echo seen; \
         cat /proc/1/environ /proc/1/maps 2>&1 | grep -c denied; readlink /proc/1/exe /proc/1/cwd /proc/1/root; ls /sys; \
         head -c 1 /proc/keys /proc/kcore /proc/kallsyms 2>/dev/null | tr -d '\\n' | grep -v '==>' | wc -c; true",
        marker.display()
    );
    let seen = output(&*sandbox, &script).await;
    assert!(seen.starts_with("HOME=/root\nLANG=C.UTF-8\n"), "{seen}");
    for name in ["CARGO", "USER=", "RUST", "HARVEST", "seen", &*provider.home.path().to_string_lossy()] {
        assert!(!seen.contains(name), "{name} in {seen}");
    }
    let processes = output(&*sandbox, "ls -d /proc/[0-9]* | wc -l").await;
    assert!(processes.trim().parse::<u32>().expect("a number") < 10, "{processes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_on_no_disk_and_in_no_later_exec() {
    let provider = local();
    let sandbox = open(&*provider).await;
    let secret = ExecSpec {
        secrets: BTreeMap::from([("TOKEN".into(), Secret::new("token", CANARY))]),
        ..sh("echo $TOKEN | wc -c")
    };
    assert_eq!(run(&*sandbox, secret.clone()).await.stdout.trim(), (CANARY.len() + 1).to_string());
    // While such a command runs, its neighbours see it only as one user sees his own processes.
    assert!(!format!("{secret:?}").contains(CANARY));
    let later = output(&*sandbox, "env; cat /proc/1/environ /proc/1/cmdline 2>/dev/null; true").await;
    assert!(!later.contains(CANARY));
    sandbox.snapshot().await.expect("saved");
    assert_eq!(grep(provider.home.path(), CANARY.as_bytes()), Vec::<PathBuf>::new());
}
