//! What a sandbox cannot see: the host, and the secrets of other execs.

use super::contract::sandbox::{open, output, run, sh, spec};
use super::{CANARY, grep, local, logged};
use harvest::capability::sandbox::{ExecSpec, SandboxProvider, SandboxSpec};
use harvest::capability::secret::Secret;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// A file of the host with a name that is nowhere else, in each place where a sandbox might come across it.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_host_are_not_there_under_any_path() {
    let provider = local();
    let name = format!("canary-{}", std::process::id());
    let places = [std::env::temp_dir(), provider.home.path().into(), provider.home.path().join("volumes")];
    for place in &places {
        std::fs::write(place.join(&name), CANARY).expect("written");
    }
    // In the volume of another sandbox too.
    let other = SandboxSpec { volumes: BTreeMap::from([("/v".into(), "of-another".into())]), ..spec() };
    let other = provider.open(other).await.expect("opens");
    output(&*other, &format!("echo x > /v/{name}; echo x > /root/{name}")).await;
    let sandbox = open(&*provider).await;
    let find = format!("find / -path /usr -prune -o -path '/proc/*' -prune -o -name '{name}' -print");
    assert_eq!(output(&*sandbox, &find).await, "");
    for place in places.iter().map(PathBuf::as_path).chain([Path::new(env!("CARGO_MANIFEST_DIR"))]) {
        let path =
            place.join(if place.starts_with(env!("CARGO_MANIFEST_DIR")) { "Cargo.toml" } else { &name });
        let script =
            format!("cat {} /proc/1/root{0} /proc/self/root{0} 2>/dev/null || echo none", path.display());
        assert_eq!(output(&*sandbox, &script).await, "none\n");
    }
    let homes = "ls -A /root /home/user ~/.ssh /home/*/.ssh /etc/shadow /etc/ssh /var/lib /run /srv /boot 2>/dev/null | grep -v ':$' | grep .";
    assert_eq!(run(&*sandbox, sh(homes)).await.stdout, "lock\n");
    drop(std::fs::remove_file(std::env::temp_dir().join(&name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_init_process_shows_nothing_of_itself() {
    let provider = local();
    let sandbox = open(&*provider).await;
    let script = "for name in environ maps mem auxv io stack syscall pagemap; do head -c 1 /proc/1/$name > /dev/null 2>&1 && echo $name; done; \
        for name in exe cwd root fd/0 fd/3 ns/user ns/mnt; do readlink /proc/1/$name; done; ls -A /proc/1/map_files 2> /dev/null; \
        python3 -c \"import ctypes; libc = ctypes.CDLL(None); print(libc.ptrace(16, 1, 0, 0), libc.ptrace(0x4206, 1, 0, 0))\"; tr '\\0' ' ' < /proc/1/cmdline";
    let seen = run(&*sandbox, sh(script)).await.stdout;
    let (seen, command_line) = seen.rsplit_once('\n').expect("lines");
    assert_eq!(seen, "-1 -1", "nothing can be read, followed or traced");
    assert!(command_line.contains("__sandbox") && !command_line.contains('='), "{command_line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_on_no_disk_in_no_log_and_in_no_later_exec() {
    let log = logged();
    let provider = local();
    let sandbox = open(&*provider).await;
    let secret = ExecSpec {
        secrets: BTreeMap::from([("TOKEN".into(), Secret::new("token", CANARY))]),
        ..sh("echo $TOKEN | wc -c")
    };
    assert_eq!(run(&*sandbox, secret.clone()).await.stdout.trim(), (CANARY.len() + 1).to_string());
    // While such a command runs, its neighbours see it only as one user sees his own processes.
    assert!(!format!("{secret:?}").contains(CANARY));
    // A command that fails to start, one that is killed, and one that says its secret to nobody but the caller.
    let wrong = ExecSpec { command: vec!["no-such-program".into()], ..secret.clone() };
    let refused = sandbox.exec(wrong).await.err().expect("does not start");
    assert!(!format!("{refused} {refused:?}").contains(CANARY));
    let mut killed = sandbox
        .exec(ExecSpec { command: sh("echo up; sleep 1000").command, ..secret })
        .await
        .expect("starts");
    killed.next().await.expect("output");
    killed.kill().await.expect("killed");
    drop(killed);
    let later =
        output(&*sandbox, "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; true").await;
    assert!(!later.contains(CANARY));
    let image = sandbox.snapshot().await.expect("saved").image;
    let copy = provider.open(SandboxSpec { image, ..spec() }).await.expect("opens");
    assert!(!output(&*copy, "env; cat /proc/[0-9]*/environ 2>/dev/null; true").await.contains(CANARY));
    assert_eq!(grep(provider.home.path(), CANARY.as_bytes()), Vec::<PathBuf>::new());
    assert!(!log().contains(CANARY), "{}", log());
}
