//! Volumes and mounts: what they may carry, and that the host follows nothing that a sandbox planted.

use super::contract::sandbox::{output, spec};
use super::{CANARY, grep, is_root, local};
use harvest::capability::sandbox::{Sandbox, SandboxProvider, SandboxSpec};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

async fn with_volume(provider: &dyn SandboxProvider, name: &str) -> Arc<dyn Sandbox> {
    let spec = SandboxSpec { volumes: BTreeMap::from([("/v".into(), name.into())]), ..spec() };
    provider.open(spec).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_mount_brings_devices_or_other_users_programs() {
    let provider = local();
    let sandbox = with_volume(&*provider, "v").await;
    let mounts = output(&*sandbox, "cut -d' ' -f5,6 /proc/self/mountinfo").await;
    let mut seen = Vec::new();
    for line in mounts.lines() {
        let (point, options) = line.split_once(' ').expect("a mount");
        let options: Vec<&str> = options.split(',').collect();
        seen.push(point);
        let device =
            point.starts_with("/dev/") && !["/dev/pts", "/dev/shm"].contains(&point) || point == "/dev";
        // A masked file of /proc is a device that is nothing.
        let masked = point.starts_with("/proc/");
        assert!(options.contains(&"nosuid") || device || masked, "{line}");
        let harmless = ["/proc", "/dev/pts"].contains(&point) || device || masked;
        assert!(options.contains(&"nodev") || harmless, "{line}");
        let read_only =
            point.starts_with("/usr") || point.starts_with("/etc/") || point.starts_with("/proc/sys");
        assert!(!read_only || options.contains(&"ro"), "{line}");
    }
    for point in ["/", "/usr", "/v", "/proc", "/proc/sys", "/dev"] {
        assert!(seen.contains(&point), "{point} in {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_user_id_program_in_a_volume_is_inert() {
    let provider = local();
    let sandbox = with_volume(&*provider, "v").await;
    output(&*sandbox, "cp /usr/bin/id /v/id; chmod 4755 /v/id; chmod 777 /v; cp /v/id /root/id; chmod 755 /root; chmod 4755 /root/id").await;
    if is_root() {
        let user = SandboxSpec {
            user: Some("user".into()),
            volumes: BTreeMap::from([("/v".into(), "v".into())]),
            ..spec()
        };
        let other = provider.open(user).await.expect("opens");
        assert_eq!(output(&*other, "/v/id -u").await, "1000\n");
    }
    // On the host it belongs to nobody there, or to the very user who runs harvest.
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(provider.home.path().join("volumes/v/id")).expect("there");
    let owner = if is_root() { 1_000_000 } else { rustix::process::geteuid().as_raw() };
    assert_eq!((found.uid(), found.mode() & 0o7777), (owner, 0o4755));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sandboxes_share_a_volume_and_its_locks_while_both_run() {
    let provider = local();
    let (first, second) = (with_volume(&*provider, "v").await, with_volume(&*provider, "v").await);
    let add = "python3 - <<'END'\n\
        import fcntl\n\
        for _ in range(200):\n\
        \x20   with open('/v/count', 'a+') as f:\n\
        \x20       fcntl.flock(f, fcntl.LOCK_EX); f.seek(0); n = int(f.read() or 0); f.seek(0); f.truncate(); f.write(str(n + 1)); f.flush()\n\
        END";
    tokio::join!(output(&*first, add), output(&*second, add));
    assert_eq!(output(&*first, "cat /v/count").await, "400");
    // What one maps, the other changes under it.
    let (reader, writer) = (
        "python3 -c \"import mmap; f = open('/v/shared', 'r+b'); m = mmap.mmap(f.fileno(), 1)\nwhile m[0] != 121: pass\nprint('seen')\"",
        "python3 -c \"import mmap; f = open('/v/shared', 'r+b'); m = mmap.mmap(f.fileno(), 1); m[0] = 121\"",
    );
    output(&*first, "printf x > /v/shared").await;
    let (seen, _) = tokio::join!(output(&*first, reader), output(&*second, writer));
    assert_eq!(seen, "seen\n");
}

/// Links to a directory of the host, planted wherever the host will come by: in a volume, in the files that a snapshot
/// copies, in directories that a removal empties.
#[tokio::test(flavor = "multi_thread")]
async fn the_host_follows_no_link_that_it_copies_or_removes() {
    let provider = local();
    let host = tempfile::tempdir().expect("a directory");
    std::fs::write(host.path().join("file"), CANARY).expect("written");
    let spec = SandboxSpec { volumes: BTreeMap::from([("/v".into(), "hostile".into())]), ..spec() };
    let sandbox = provider.open(spec.clone()).await.expect("opens");
    let target = host.path().display();
    let plant = format!(
        "mkdir -p /d/e; ln -s {target}/file /d/file; ln -s {target} /d/dir; ln -s {target} /d/e/dir; rm -rf /opt; ln -s {target} /opt; \
         ln -s /../../../../../..{target} /d/up; ln -s {target} /v/dir; ln -s {target}/file /v/file; rm -rf /srv; ln -s loop /srv"
    );
    output(&*sandbox, &plant).await;
    let image = sandbox.snapshot().await.expect("saved").image;
    let copy = provider.open(SandboxSpec { image, ..super::contract::sandbox::spec() }).await.expect("opens");
    assert_eq!(output(&*copy, "readlink /d/file /opt").await, format!("{target}/file\n{target}\n"));
    assert_eq!(grep(provider.home.path(), CANARY.as_bytes()), Vec::<PathBuf>::new());
    drop((sandbox, copy));
    provider.remove(&spec.id).await.expect("removed");
    provider.volumes().remove("hostile", "").await.expect("removed");
    assert_eq!(std::fs::read_to_string(host.path().join("file")).expect("still there"), CANARY);
}
