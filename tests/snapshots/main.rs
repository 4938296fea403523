//! The files of sandboxes on layers, and snapshots of them: with the real kernel, as the user who runs the tests and, where
//! that is root, as an ordinary user too.

mod contract {
    #[expect(dead_code, reason = "what `sandbox_contract!` would test")]
    pub(crate) mod sandbox;
}

use contract::sandbox::{open, output, sh, spec};
use harvest::capability::sandbox::local::{LocalProvider, Upstream};
use harvest::capability::sandbox::{
    ExecSpec, ImageSpec, Network, Process, Sandbox, SandboxProvider, SandboxSpec, Snapshot, SnapshotMode,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A provider with a home of its own, deleted with it.
struct Local {
    provider: LocalProvider,
    home: tempfile::TempDir,
}

impl std::ops::Deref for Local {
    type Target = LocalProvider;

    fn deref(&self) -> &LocalProvider {
        &self.provider
    }
}

impl Local {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let provider = LocalProvider::new(home.path(), launcher(), Vec::new()).expect("a provider");
        Self { provider, home }
    }

    fn layers(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.home.path().join("layers")).expect("layers");
        let names = names.map(|entry| entry.expect("a layer").file_name().into_string().expect("a name"));
        names.filter(|name| !name.starts_with('.')).collect()
    }

    fn upper(&self, sandbox: &dyn Sandbox) -> PathBuf {
        self.home.path().join("sandboxes").join(sandbox.id()).join("upper")
    }

    /// An image with these commands on the host's userland.
    async fn image(&self, command: &str) -> String {
        let spec = ImageSpec { commands: vec![command.into()], ..ImageSpec::default() };
        self.build_image(&spec, None, Arc::new(|_| ())).await.expect("builds").0
    }

    async fn open_image(&self, image: &str) -> Arc<dyn Sandbox> {
        self.open(SandboxSpec { image: image.into(), ..spec() }).await.expect("opens")
    }
}

fn launcher() -> PathBuf {
    std::env::var_os("HARVEST_TEST_LAUNCHER")
        .map_or_else(|| env!("CARGO_BIN_EXE_harvest").into(), PathBuf::from)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Everything that makes a tree what it is, by path: kind, permissions, owner, times, content, attributes.
fn describe(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(root: &Path, path: &Path, found: &mut BTreeMap<PathBuf, String>) {
        let real = root.join(path);
        let metadata = fs::symlink_metadata(&real).expect("there");
        let mut names = [0; 4096];
        let length = rustix::fs::llistxattr(&real, &mut names).unwrap_or(0);
        let content = match () {
            () if metadata.is_file() => format!("{:?}", fs::read(&real).expect("read")),
            () if metadata.is_symlink() => fs::read_link(&real).expect("read").display().to_string(),
            () => String::new(),
        };
        let described = format!(
            "{:o} {}:{} {}.{} {} {:?} {content}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.nlink(),
            String::from_utf8_lossy(&names[..length]),
        );
        found.insert(path.to_owned(), described);
        if metadata.is_dir() {
            for entry in fs::read_dir(&real).expect("a directory") {
                walk(root, &path.join(entry.expect("an entry").file_name()), found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, Path::new(""), &mut found);
    found
}

fn paths(root: &Path) -> BTreeSet<String> {
    describe(root).into_keys().map(|path| path.to_string_lossy().into_owned()).collect()
}

/// Waits for what another thread of the provider does.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !done().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Lists all that a command in the sandbox sees below a directory, with content.
const LIST: &str =
    "find . -printf '%P %y %m %l\\n' | LC_ALL=C sort; find . -type f | LC_ALL=C sort | xargs -r cat";

mod layers {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_upper_directory_holds_exactly_the_writes_and_layers_never_change() {
        let provider = Local::new();
        let image = provider
            .image("mkdir -p /data/sub; echo one > /data/a; echo two > /data/sub/b; ln -s a /data/link; chmod 750 /data/sub")
            .await;
        let sandbox = provider.open_image(&image).await;
        let before: Vec<_> = provider.layers().into_iter().collect();
        let layer = |name: &String| describe(&provider.home.path().join("layers").join(name));
        let described: Vec<_> = before.iter().map(layer).collect();
        // Mount points of /proc, /dev and pieces of the host.
        let mounts = paths(&provider.upper(&*sandbox));
        output(&*sandbox, "cat /data/a /data/sub/b /data/link > /dev/null; ls -lR /data /etc > /dev/null")
            .await;
        assert_eq!(paths(&provider.upper(&*sandbox)), mounts, "reading writes nothing");
        output(
            &*sandbox,
            "echo new > /data/new; echo more >> /data/a; chmod 600 /data/sub/b; mkdir /opt/own; echo x > /opt/own/x; \
             rm /data/link; touch -d @0 /data/sub",
        )
        .await;
        let written: BTreeSet<String> =
            paths(&provider.upper(&*sandbox)).difference(&mounts).cloned().collect();
        let expected = [
            "data",
            "data/a",
            "data/link",
            "data/new",
            "data/sub",
            "data/sub/b",
            "opt",
            "opt/own",
            "opt/own/x",
        ];
        assert_eq!(written, expected.map(String::from).into());
        assert_eq!(
            fs::read_to_string(provider.upper(&*sandbox).join("data/a")).expect("read"),
            "one\nmore\n"
        );
        sandbox.snapshot().await.expect("saved");
        output(&*sandbox, "rm -rf /data; echo all > /data; rm -rf /opt/own").await;
        assert_eq!(before.iter().map(layer).collect::<Vec<_>>(), described, "a layer has changed");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whiteouts_opaque_directories_links_and_attributes_are_as_overlayfs_has_them() {
        let provider = Local::new();
        let image = provider
            .image("mkdir -p /data/dir/deep /data/gone; echo 1 > /data/file; echo 2 > /data/dir/deep/x; echo 3 > /data/gone/y")
            .await;
        let sandbox = provider.open_image(&image).await;
        let script = "python3 - <<'END'\n\
            import errno, os, shutil\n\
            try: os.rename('/data/dir', '/data/moved'); print('renamed')\n\
            except OSError as e: print(errno.errorcode[e.errno])\n\
            shutil.move('/data/dir', '/data/moved')\n\
            print(open('/data/moved/deep/x').read().strip(), os.path.exists('/data/dir'))\n\
            shutil.rmtree('/data/gone'); os.mkdir('/data/gone'); open('/data/gone/new', 'w').write('4')\n\
            os.remove('/data/file')\n\
            open('/data/first', 'w').write('5'); os.link('/data/first', '/data/second')\n\
            os.setxattr('/data/first', 'user.mine', b'6'); os.setxattr('/data/moved', 'user.mine', b'7')\n\
            END";
        assert_eq!(output(&*sandbox, script).await, "EXDEV\n2 False\n");
        let upper = provider.upper(&*sandbox).join("data");
        for whiteout in ["file", "dir"] {
            let metadata = fs::symlink_metadata(upper.join(whiteout)).expect("a whiteout");
            assert!(metadata.file_type().is_char_device() && metadata.rdev() == 0, "{whiteout}");
        }
        let mut value = [0; 8];
        let length =
            rustix::fs::lgetxattr(upper.join("gone"), "user.overlay.opaque", &mut value).expect("marked");
        assert_eq!(&value[..length], b"y");
        assert_eq!(fs::metadata(upper.join("first")).expect("there").nlink(), 2);

        let check = "cd /data; ls -A . gone moved/deep; stat -c '%h %i' first second | uniq | cut -d' ' -f1; \
            python3 -c \"import os; print(os.getxattr('first', 'user.mine'), os.getxattr('second', 'user.mine'), os.getxattr('moved', 'user.mine'))\"; \
            echo more >> first; cat second; echo; mkdir file dir && ls file dir";
        // The second name of a file that a layer holds stays as it is when the first is written to.
        let expected = ".:\nfirst\ngone\nmoved\nsecond\n\ngone:\nnew\n\nmoved/deep:\nx\n2\nb'6' b'6' b'7'\n5\ndir:\n\nfile:\n";
        let mut idle = sandbox.exec(ExecSpec { stdin: true, ..sh("read end") }).await.expect("starts");
        let busy = sandbox.snapshot().await.expect("saved");
        idle.kill().await.expect("killed");
        let stacked = sandbox.snapshot().await.expect("saved");
        assert_eq!(stacked.mode, SnapshotMode::Stacked);
        for Snapshot { image, mode } in [busy, stacked] {
            let seen = output(&*provider.open_image(&image).await, check).await;
            assert_eq!(seen, expected, "{mode:?}");
        }
    }
}

mod idle {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_copied_and_the_sandbox_goes_on() {
        let provider = Local::new();
        let sandbox = open(&*provider).await;
        output(&*sandbox, "mkdir /data; echo 1 > /data/file; echo 1 > /etc/shells; (setsid sleep 1000 &)")
            .await;
        let inode = fs::metadata(provider.upper(&*sandbox).join("data/file")).expect("there").ino();
        let before = provider.layers();
        let snapshot = sandbox.snapshot().await.expect("saved");
        assert_eq!(snapshot.mode, SnapshotMode::Stacked);
        let made: Vec<_> = provider.layers().difference(&before).cloned().collect();
        let layer = provider.home.path().join("layers").join(&made[0]);
        assert_eq!((made.len(), fs::metadata(layer.join("data/file")).expect("there").ino()), (1, inode));
        // The same sandbox, the same files, and room for new ones.
        assert!(sandbox.is_open());
        output(&*sandbox, "echo 2 >> /data/file; rm /etc/shells; echo mine > /data/own").await;
        assert_eq!(fs::read_to_string(layer.join("data/file")).expect("read"), "1\n");
        let other = provider.open_image(&snapshot.image).await;
        assert_eq!(output(&*other, "cat /data/file /etc/shells; ls /data").await, "1\n1\nfile\n");
        // Also for the next process that opens it, and after a second one.
        sandbox.snapshot().await.expect("saved again");
        output(&*sandbox, "echo 3 >> /data/file").await;
        let spec = SandboxSpec { id: sandbox.id().into(), image: "host".into(), ..SandboxSpec::default() };
        sandbox.terminate().await.expect("ends");
        drop(sandbox);
        let again = LocalProvider::new(provider.home.path(), launcher(), Vec::new()).expect("a provider");
        let again = again.open(spec).await.expect("opens");
        assert_eq!(
            output(&*again, "cat /data/file; ls /data; test -e /etc/shells || echo gone").await,
            "1\n2\n3\nfile\nown\ngone\n"
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn gateways_and_the_allow_list_are_there_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi")
                    .await;
            }
        });
        let home = tempfile::tempdir().expect("a directory");
        let base_url = format!("http://127.0.0.1:{port}/base");
        let upstream = Upstream { name: "api".into(), base_url, credentials: Vec::new(), metered: false };
        let provider = LocalProvider::new(home.path(), launcher(), vec![upstream]).expect("a provider");
        let allowed = Network::Allow(vec![format!("127.0.0.1:{port}")]);
        for network in [Network::None, Network::Host, allowed] {
            let through_proxy = matches!(network, Network::Allow(_));
            let sandbox = provider.open(SandboxSpec { network, ..spec() }).await.expect("opens");
            let url = sandbox.forward("api", Vec::new(), None).await.expect("a gateway");
            let mut fetch =
                format!("python3 -c \"import urllib.request as r; print(r.urlopen('{url}/x').read())\"");
            if through_proxy {
                let direct = format!("http://127.0.0.1:{port}/");
                fetch = format!(
                    "{fetch}; http_proxy=http://127.0.0.1:3128 no_proxy= NO_PROXY= python3 -c \"import urllib.request as r; print(r.urlopen('{direct}').read())\""
                );
            }
            let before = output(&*sandbox, &fetch).await;
            for _ in 0..2 {
                sandbox.snapshot().await.expect("saved");
                assert_eq!(output(&*sandbox, &fetch).await, before);
            }
            assert!(before.starts_with("b'hi'\n"), "{before}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn snapshots_become_durable() {
        let provider = Local::new();
        let sandbox = open(&*provider).await;
        output(&*sandbox, "echo 1 > /root/file").await;
        let image = sandbox.snapshot().await.expect("saved").image;
        let find = async || {
            let images = provider.list_images().await.expect("listed");
            images.into_iter().find(|listed| listed.id == image).expect("listed at once")
        };
        until("it becomes durable", async || find().await.durable).await;
        assert!(find().await.bytes > 0 && find().await.layers == 1);
        // What has a name is durable at once.
        let second = sandbox.snapshot().await.expect("saved").image;
        provider.tag_image(&second, "second").await.expect("named");
        let images = provider.list_images().await.expect("listed");
        assert!(images.iter().any(|image| image.names == ["second"] && image.durable));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_at_the_same_time_wait_for_it() {
        let provider = Local::new();
        let sandbox = open(&*provider).await;
        let snapshots = async {
            for _ in 0..5 {
                sandbox.snapshot().await.expect("saved");
            }
        };
        let writes = async {
            for number in 0..40 {
                let path = format!("/root/{number}");
                sandbox.write_file(&path, path.as_bytes(), 0o644).await.expect("written");
                assert_eq!(output(&*sandbox, &format!("cat {path}")).await, path);
            }
        };
        tokio::join!(snapshots, writes);
        assert_eq!(output(&*sandbox, "ls /root | wc -l").await.trim(), "40");
        let (saved, ended) = tokio::join!(sandbox.snapshot(), sandbox.terminate());
        ended.expect("ends");
        assert!(saved.is_ok() || saved.is_err_and(|error| error.kind.as_str() == "sandbox-lost"));
        assert_eq!(sandbox.snapshot().await.expect_err("ended").kind.as_str(), "sandbox-lost");
    }
}

mod busy {
    use super::*;

    /// Writes a number to one file, then to another, as fast as it can. Whenever it is stopped, they differ by one at most.
    const COUNT: &str = "mkdir -p /data; python3 -c \"\n\
        import os\n\
        a = os.open('/data/a', os.O_CREAT | os.O_RDWR); b = os.open('/data/b', os.O_CREAT | os.O_RDWR)\n\
        n = 0\n\
        while True:\n\
        \x20   n += 1\n\
        \x20   os.pwrite(a, b'%012d' % n, 0)\n\
        \x20   os.pwrite(b, b'%012d' % n, 0)\n\
        \x20   if n == 1000: print('up', flush=True)\n\
        \"";

    #[tokio::test(flavor = "multi_thread")]
    async fn it_is_one_moment_of_commands_that_go_on() {
        let provider = Local::new();
        let sandbox = open(&*provider).await;
        let mut counters: Vec<Box<dyn Process>> = Vec::new();
        for place in ["data", "more"] {
            let script = COUNT.replace("data", place);
            let mut counter = sandbox.exec(sh(&script)).await.expect("starts");
            assert!(counter.next().await.expect("output").is_some());
            counters.push(counter);
        }
        // One that was stopped before stays so.
        let script = "setsid sh -c 'echo $$ > /data/stopped; kill -STOP $$' & \
            while ! grep -q 'State:.*T' /proc/$(cat /data/stopped)/status; do :; done 2> /dev/null; echo up; read end";
        let mut keeper = sandbox.exec(ExecSpec { stdin: true, ..sh(script) }).await.expect("starts");
        assert!(keeper.next().await.expect("output").is_some());
        let mut last = 0;
        for _ in 0..3 {
            let Snapshot { image, mode } = sandbox.snapshot().await.expect("saved");
            assert_ne!(mode, SnapshotMode::Stacked);
            let copy = provider.open_image(&image).await;
            let seen =
                output(&*copy, "cat /data/a; echo; cat /data/b; echo; cat /more/a; echo; cat /more/b").await;
            let numbers: Vec<u64> = seen.lines().map(|line| line.parse().expect("a number")).collect();
            assert!(numbers[0] - numbers[1] <= 1 && numbers[2] - numbers[3] <= 1, "{numbers:?}");
            assert!(numbers[0] > last, "it has gone on");
            last = numbers[0];
        }
        let state = output(&*sandbox, "grep State: /proc/$(cat /data/stopped)/status").await;
        assert!(state.contains("T (stopped)"), "{state}");
        counters.push(keeper);
        for mut counter in counters {
            counter.kill().await.expect("killed");
        }
        assert_eq!(provider.layers().iter().filter(|layer| layer.starts_with("saved-")).count(), 3);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn processes_that_come_and_go_are_held_too() {
        let provider = Local::new();
        let sandbox = open(&*provider).await;
        let script = "mkdir /data; echo up; for i in 1 2 3; do (while :; do (echo x > /data/$i; rm /data/$i; /bin/true); done) & done; wait";
        let mut forks = sandbox.exec(sh(script)).await.expect("starts");
        forks.next().await.expect("output");
        for _ in 0..5 {
            let image = sandbox.snapshot().await.expect("saved").image;
            let copy = provider.open_image(&image).await;
            // What it shows is what it holds: a name without a file would be a torn copy.
            output(&*copy, "cd /data && for f in *; do test ! -e $f || test -f $f; done").await;
        }
        forks.kill().await.expect("killed");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn ending_the_sandbox_ends_a_long_copy() {
        let provider = Local::new();
        let sandbox = open(&*provider).await;
        output(&*sandbox, "for i in $(seq 3000); do echo $i > /root/$i; done").await;
        let mut command = sandbox.exec(ExecSpec { stdin: true, ..sh("read end") }).await.expect("starts");
        let (saved, ended) = tokio::join!(sandbox.snapshot(), sandbox.terminate());
        ended.expect("ends");
        assert!(saved.is_ok() || !sandbox.is_open());
        assert!(command.wait().await.is_err());
        let hidden = fs::read_dir(provider.home.path().join("layers")).expect("layers");
        let hidden = hidden.map(|entry| entry.expect("a layer").file_name().into_string().expect("a name"));
        assert_eq!(hidden.filter(|name| name.starts_with(".making")).count(), 0);
    }
}

mod chains {
    use super::*;

    /// Snapshots in the chain; well beyond the number at which layers are squashed.
    const LENGTH: usize = 100;

    /// What a step of the chain does, and to what that leads.
    fn step(number: usize, files: &mut BTreeMap<String, String>) -> String {
        let (own, shared, directory) =
            (format!("f{number}"), format!("s{}", number % 7), format!("d{}", number % 5));
        let mut script = format!("echo {number} > {own}; echo {number} > {shared}; ");
        files.insert(own, number.to_string());
        files.insert(shared, number.to_string());
        if number.is_multiple_of(3) {
            // Anew each time: opaque where it was there.
            script +=
                &format!("rm -rf {directory}; mkdir {directory}; echo {number} > {directory}/x{number}; ");
            files.retain(|path, _| !path.starts_with(&format!("{directory}/")));
            files.insert(format!("{directory}/x{number}"), number.to_string());
        }
        if number.is_multiple_of(4) && number > 0 {
            let gone = format!("f{}", number / 2);
            script += &format!("rm -f {gone}; ");
            files.remove(&gone);
        }
        script
    }

    fn listed(files: &BTreeMap<String, String>) -> String {
        files.iter().map(|(path, content)| format!("{path} {content}\n")).collect()
    }

    const SHOW: &str = "cd /data && find . -type f -printf '%P\\n' | LC_ALL=C sort | while read f; do echo \"$f $(cat $f)\"; done";

    #[tokio::test(flavor = "multi_thread")]
    async fn of_a_hundred_snapshots_each_shows_its_files_squashed_or_not() {
        let provider = Local::new();
        let sandbox = open(&*provider).await;
        output(&*sandbox, "mkdir /data").await;
        let mut files = BTreeMap::new();
        let mut chain = Vec::new();
        for number in 0..LENGTH {
            let script = step(number, &mut files);
            output(&*sandbox, &format!("cd /data; {script}")).await;
            let snapshot = sandbox.snapshot().await.expect("saved");
            assert_eq!(snapshot.mode, SnapshotMode::Stacked);
            chain.push((snapshot.image, listed(&files)));
        }
        assert_eq!(output(&*sandbox, SHOW).await, chain[LENGTH - 1].1, "the sandbox itself");
        let squashed = || provider.layers().into_iter().any(|layer| layer.starts_with("squash-"));
        until("layers are squashed", async || squashed()).await;
        for place in [0, 30, 63, 64, 65, 80, LENGTH - 1] {
            let (image, files) = &chain[place];
            let sandbox = provider.open_image(image).await;
            assert_eq!(output(&*sandbox, SHOW).await, *files, "snapshot {place}");
        }
        // The last one alone is kept: what it was squashed from goes, and nobody sees a difference.
        let (last, files) = chain.last().expect("a chain");
        let all = output(&*sandbox, &format!("cd /data; {LIST}")).await;
        provider.tag_image(last, "last").await.expect("named");
        sandbox.snapshot().await.expect("on what is squashed");
        provider.remove(sandbox.id()).await.expect("removed");
        for (id, _) in provider.list().await.expect("listed") {
            provider.remove(&id).await.expect("removed");
        }
        until("nobody squashes any more", async || {
            let unused = provider.unused_images(Timestamp::now()).await.expect("looked");
            !provider.collect(&unused, Timestamp::now(), false).await.expect("collected").busy
        })
        .await;
        assert_eq!(provider.list_images().await.expect("listed").len(), 1);
        let again = provider.open_image("last").await;
        assert_eq!(output(&*again, SHOW).await, *files);
        assert_eq!(output(&*again, &format!("cd /data; {LIST}")).await, all);
        let record = provider.home.path().join("sandboxes").join(again.id()).join("image.json");
        let record = fs::read_to_string(record).expect("a record");
        assert!(record.contains("squash-"), "{record}");
        assert!(provider.layers().len() < 64, "{:?}", provider.layers());
    }
}

mod garbage {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_goes_that_a_sandbox_or_a_name_needs() {
        let provider = Local::new();
        let image = provider.image("echo built > /opt/built").await;
        let sandbox = provider.open_image(&image).await;
        output(&*sandbox, "echo 1 > /opt/one").await;
        let first = sandbox.snapshot().await.expect("saved").image;
        output(&*sandbox, "echo 2 > /opt/two").await;
        let named = sandbox.snapshot().await.expect("saved").image;
        provider.tag_image(&named, "named").await.expect("named");
        let other = provider.open_image(&first).await;
        output(&*other, "echo 3 > /opt/three").await;
        let alone = other.snapshot().await.expect("saved").image;
        provider.remove(other.id()).await.expect("removed");

        let since = Timestamp::now();
        let unused = provider.unused_images(since).await.expect("looked");
        assert!(unused.contains(&first) && unused.contains(&alone) && !unused.contains(&named), "{unused:?}");
        // Only said at first.
        let before = provider.layers();
        let plan = provider.collect(&unused, since, true).await.expect("looked");
        assert_eq!((provider.layers(), plan.busy), (before.clone(), false));
        let done = provider.collect(&unused, since, false).await.expect("collected");
        let kinds = |collected: &[harvest::capability::sandbox::Garbage]| -> BTreeSet<(String, String)> {
            collected.iter().map(|garbage| (garbage.kind.clone(), garbage.of.clone())).collect()
        };
        assert_eq!(kinds(&plan.garbage), kinds(&done.garbage));
        assert_eq!(done.garbage.iter().filter(|garbage| garbage.kind == "layer").count(), 1, "{done:?}");
        assert!(done.garbage.iter().filter(|garbage| garbage.kind == "layer").all(|layer| layer.bytes > 0));
        assert_eq!(before.difference(&provider.layers()).count(), 1);
        // It goes on: on layers whose images are gone, too.
        assert_eq!(
            output(&*sandbox, "cat /opt/built /opt/one /opt/two; echo 4 > /opt/four").await,
            "built\n1\n2\n"
        );
        sandbox.snapshot().await.expect("saved");
        assert_eq!(output(&*sandbox, "cat /opt/one /opt/four").await, "1\n4\n");
        let again = provider.open_image("named").await;
        assert_eq!(output(&*again, "cat /opt/built /opt/one /opt/two").await, "built\n1\n2\n");
        assert!(provider.find_image(&alone).await.expect("looked").is_none());
        // What was asked for since is in use.
        let third = sandbox.snapshot().await.expect("saved").image;
        let since = Timestamp::now();
        let unused = provider.unused_images(since).await.expect("looked");
        assert!(provider.find_image(&third).await.expect("looked").is_some());
        let done = provider.collect(&unused, since, false).await.expect("collected");
        assert!(!done.garbage.iter().any(|garbage| garbage.of == third), "{done:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn while_an_image_is_built_nothing_goes() {
        let provider = Local::new();
        let spec = ImageSpec {
            commands: vec!["echo 1 > /opt/one".into(), "sleep 4".into()],
            ..ImageSpec::default()
        };
        let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
        let log = move |line: &str| drop(sender.send(line.to_owned()));
        let (image, busy) = tokio::join!(provider.build_image(&spec, None, Arc::new(log)), async {
            while let Some(line) = lines.recv().await {
                if line == "$ sleep 4" {
                    break;
                }
            }
            // The first layer is there, and nothing names it yet.
            provider.collect(&[], Timestamp::now(), false).await.expect("looked").busy
        });
        assert!(busy);
        let sandbox = provider.open_image(&image.expect("builds").0).await;
        assert_eq!(output(&*sandbox, "cat /opt/one").await, "1\n");
    }
}

mod survives {
    use super::*;

    /// The host that is killed: this test binary again. It writes, saves, says so, and goes on.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_killed_host_loses_no_file_and_leaves_no_half_snapshot() {
        const HOME: &str = "HARVEST_TEST_VICTIM";
        let spec = || SandboxSpec { id: "victim".into(), image: "host".into(), ..SandboxSpec::default() };
        if let Some(home) = std::env::var_os(HOME) {
            let provider = LocalProvider::new(Path::new(&home), launcher(), Vec::new()).expect("a provider");
            let sandbox = provider.open(spec()).await.expect("opens");
            let last = output(&*sandbox, "ls /root | sort -n | tail -1").await;
            for number in last.trim().parse().unwrap_or(0) + 1.. {
                output(&*sandbox, &format!("echo {number} > /root/{number}")).await;
                println!("wrote {number}");
                let image = sandbox.snapshot().await.expect("saved").image;
                println!("saved {number} {image}");
            }
        }
        let home = tempfile::tempdir().expect("a directory");
        for trial in 0..8 {
            let mut host = Command::new(std::env::current_exe().expect("this test"))
                .args([
                    "--exact",
                    "survives::a_killed_host_loses_no_file_and_leaves_no_half_snapshot",
                    "--nocapture",
                ])
                .env(HOME, home.path())
                .stdout(Stdio::piped())
                .spawn()
                .expect("starts");
            let (mut wrote, mut saved) = (0, BTreeMap::new());
            let lines = BufReader::new(host.stdout.take().expect("a pipe")).lines();
            // Killed as soon as a number was written: while it is being saved, a little later each time.
            let mut left = 2 + trial % 3;
            for line in lines.map_while(Result::ok) {
                let words: Vec<&str> = line.split(' ').collect();
                match words[..] {
                    ["wrote", number] => wrote = number.parse::<usize>().expect("a number"),
                    ["saved", number, image] => drop(saved.insert(image.to_owned(), number.to_owned())),
                    _ => continue,
                }
                if words[0] == "wrote" {
                    left -= 1;
                    if left == 0 {
                        // No test waits by sleeping; this is where in a snapshot the kill falls.
                        std::thread::sleep(Duration::from_millis(3 * trial as u64));
                        host.kill().expect("killed");
                    }
                }
            }
            host.wait().expect("reaped");
            let provider = LocalProvider::new(home.path(), launcher(), Vec::new()).expect("a provider");
            let sandbox = provider.open(spec()).await.expect("opens");
            let count = output(&*sandbox, "ls /root | wc -l").await;
            assert!(
                count.trim().parse::<usize>().expect("a number") >= wrote,
                "trial {trial}: {count} of {wrote}"
            );
            output(&*sandbox, "cd /root && for f in *; do test $(cat $f) = $f || exit 1; done").await;
            sandbox.terminate().await.expect("ends");
            let listed = provider.list_images().await.expect("listed");
            let ids: BTreeSet<&String> = listed.iter().map(|image| &image.id).collect();
            for (image, number) in &saved {
                assert!(ids.contains(image), "trial {trial}: snapshot {number} is lost");
            }
            // Each is whole, also one that was never acknowledged.
            for image in listed.iter().take(2) {
                let copy = provider.open_image_of(&image.id).await;
                output(&*copy, "cd /root && for f in *; do test $(cat $f) = $f || exit 1; done; test -e 1")
                    .await;
                provider.remove(copy.id()).await.expect("removed");
            }
        }
    }

    trait OpenImage {
        async fn open_image_of(&self, image: &str) -> Arc<dyn Sandbox>;
    }

    impl OpenImage for LocalProvider {
        async fn open_image_of(&self, image: &str) -> Arc<dyn Sandbox> {
            self.open(SandboxSpec { image: image.into(), ..spec() }).await.expect("opens")
        }
    }
}

/// Everything above once more as a user without any rights, where the tests run as root.
#[test]
fn all_of_it_as_an_ordinary_user() {
    const USER: u32 = 12_345;
    if !is_root() {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(place.path(), Some(USER), Some(USER)).expect("given away");
    // Where the build directory is closed to others, the user needs copies.
    let reachable = |original: &Path| {
        let copy = place.path().join(original.file_name().expect("a name"));
        fs::hard_link(original, &copy).or_else(|_| fs::copy(original, &copy).map(drop)).expect("copied");
        copy
    };
    let test = reachable(&std::env::current_exe().expect("this test"));
    let launcher = reachable(&launcher());
    let result = Command::new(test)
        .args(["--skip", "all_of_it_as_an_ordinary_user"])
        .env_clear()
        .env("HARVEST_TEST_LAUNCHER", launcher)
        .env("TMPDIR", place.path())
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .uid(USER)
        .gid(USER)
        .output()
        .expect("runs");
    assert!(
        result.status.success(),
        "{}{}",
        String::from_utf8_lossy(&result.stdout),
        String::from_utf8_lossy(&result.stderr)
    );
}
