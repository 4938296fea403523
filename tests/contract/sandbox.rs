//! What every provider of sandboxes keeps, written against the traits alone: one suite for the local provider, as root
//! and as an ordinary user, and for any other.

use bytes::Bytes;
use harvest::capability::sandbox::{
    BuildLog, Chunk, ExecSpec, ExitStatus, ImageSpec, Process, Sandbox, SandboxProvider, SandboxSpec,
};
use harvest::capability::secret::Secret;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Declares one test per promise for a provider. `$provider` is an expression that makes one; what it returns is kept
/// alive for the test and derefs to the provider.
#[macro_export]
macro_rules! sandbox_promises {
    ($provider:expr; $($promise:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let provider = $provider;
                $crate::contract::sandbox::$promise(&*provider).await;
            }
        )+
    };
}

/// The contract: what every provider promises, wherever its sandboxes are.
#[macro_export]
macro_rules! sandbox_contract {
    ($provider:expr) => {
        $crate::sandbox_promises! {
            $provider;
            streams_are_kept_apart,
            a_signal_is_told_from_a_code,
            signals_reach_the_command,
            stdin_is_delivered_whole_and_ends,
            sixty_four_megabytes_pass_unchanged_both_ways,
            what_cannot_start_says_why,
            environments_add_up,
            the_working_directory_is_made_and_used,
            kill_ends_the_whole_tree_and_nothing_else,
            dropping_a_command_kills_its_tree,
            a_command_that_leaves_daemons_still_ends,
            many_commands_run_at_once,
            without_network_there_is_only_loopback,
            terminate_ends_everything_and_keeps_the_files,
            ids_that_could_be_paths_are_refused,
            an_image_that_does_not_exist_is_named,
            files_are_read_and_written_inside,
            files_and_volumes_survive_and_are_shared,
            volumes_swap_only_what_was_read,
            planted_links_are_not_followed,
            images_are_built_once_per_step,
            equal_images_built_at_once_agree,
            a_snapshot_holds_the_files,
        }
    };
}

/// What providers on this machine promise: the contract, and `read_only` directories.
#[macro_export]
macro_rules! local_sandbox_contract {
    ($provider:expr) => {
        $crate::sandbox_contract! { $provider }
        $crate::sandbox_promises! { $provider; what_is_read_only_stays_as_it_is }
    };
}

/// A spec with an id of its own.
pub(crate) fn spec() -> SandboxSpec {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let id = format!("t-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    SandboxSpec { id, image: "host".into(), ..SandboxSpec::default() }
}

pub(crate) async fn open(provider: &dyn SandboxProvider) -> Arc<dyn Sandbox> {
    provider.open(spec()).await.expect("a sandbox opens")
}

pub(crate) fn sh(script: &str) -> ExecSpec {
    ExecSpec { command: vec!["sh".into(), "-c".into(), script.into()], ..ExecSpec::default() }
}

/// Output and end of a finished command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: ExitStatus,
}

pub(crate) async fn collect(mut process: Box<dyn Process>) -> Output {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = process.next().await.expect("output") {
        match chunk {
            Chunk::Stdout(bytes) => stdout.extend_from_slice(&bytes),
            Chunk::Stderr(bytes) => stderr.extend_from_slice(&bytes),
        }
    }
    let status = process.wait().await.expect("an end");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Output { stdout: text(stdout), stderr: text(stderr), status }
}

pub(crate) async fn run(sandbox: &dyn Sandbox, exec: ExecSpec) -> Output {
    collect(sandbox.exec(exec).await.expect("the command starts")).await
}

/// The output of a script that must succeed.
pub(crate) async fn output(sandbox: &dyn Sandbox, script: &str) -> String {
    let output = run(sandbox, sh(script)).await;
    assert_eq!(output.status, ExitStatus::Code(0), "{script}: {output:?}");
    output.stdout
}

pub(crate) async fn streams_are_kept_apart(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    let output = run(&*sandbox, sh("echo out; echo err >&2; echo more > /dev/stderr; exit 7")).await;
    let expected =
        Output { stdout: "out\n".into(), stderr: "err\nmore\n".into(), status: ExitStatus::Code(7) };
    assert_eq!(output, expected);
}

pub(crate) async fn a_signal_is_told_from_a_code(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    assert_eq!(run(&*sandbox, sh("kill -9 $$")).await.status, ExitStatus::Signal(9));
    assert_eq!(run(&*sandbox, sh("exit 137")).await.status, ExitStatus::Code(137));
}

pub(crate) async fn signals_reach_the_command(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    let mut process = sandbox
        .exec(sh("trap 'echo asked; exit 3' TERM; echo up; while :; do sleep 0.01; done"))
        .await
        .expect("starts");
    assert_eq!(process.next().await.expect("output"), Some(Chunk::Stdout(Bytes::from_static(b"up\n"))));
    process.signal(15).await.expect("sent");
    let output = collect(process).await;
    assert_eq!((output.stdout.as_str(), output.status), ("asked\n", ExitStatus::Code(3)));
}

pub(crate) async fn stdin_is_delivered_whole_and_ends(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    let mut process = sandbox.exec(ExecSpec { stdin: true, ..sh("wc -c") }).await.expect("starts");
    process.write(&vec![b'x'; 1 << 20]).await.expect("written");
    process.close_stdin();
    assert_eq!(collect(process).await.stdout.trim(), "1048576");
    assert_eq!(output(&*sandbox, "cat | wc -c").await.trim(), "0", "without stdin there is none");
}

pub(crate) async fn sixty_four_megabytes_pass_unchanged_both_ways(provider: &dyn SandboxProvider) {
    const SIZE: usize = 64 << 20;
    let sandbox = open(provider).await;
    let mut process = sandbox
        .exec(ExecSpec { command: vec!["cat".into()], stdin: true, ..ExecSpec::default() })
        .await
        .expect("starts");
    let data: Vec<u8> =
        (0..SIZE as u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    process.write(&data).await.expect("written, though cat answers meanwhile");
    process.close_stdin();
    let mut returned = Vec::with_capacity(SIZE);
    while let Some(chunk) = process.next().await.expect("output") {
        let Chunk::Stdout(bytes) = chunk else { panic!("cat wrote to stderr") };
        assert!(bytes.len() <= 64 << 10, "a chunk has at most 64 KiB");
        returned.extend_from_slice(&bytes);
    }
    assert!(returned == data, "what came back differs");
    assert_eq!(process.wait().await, Ok(ExitStatus::Code(0)));
}

pub(crate) async fn what_cannot_start_says_why(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    let refused = async |exec: ExecSpec| sandbox.exec(exec).await.err().expect("does not start");
    let command = |words: &[&str]| ExecSpec {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        ..ExecSpec::default()
    };
    let missing = refused(command(&["no-such-program"])).await;
    assert_eq!(missing.kind.as_str(), "not-found");
    assert!(missing.message.contains("no-such-program"), "{missing}");
    assert_eq!(refused(command(&[])).await.kind.as_str(), "invalid");
    assert_eq!(refused(command(&["a\0b"])).await.kind.as_str(), "invalid");
    assert_eq!(refused(command(&["/etc/passwd"])).await.kind.as_str(), "denied");
    let nowhere = refused(ExecSpec { workdir: Some("/no/such/place".into()), ..command(&["true"]) }).await;
    assert_eq!(nowhere.kind.as_str(), "not-found");
    assert!(nowhere.message.contains("/no/such/place"), "{nowhere}");
    assert_eq!(output(&*sandbox, "echo still up").await, "still up\n");
}

pub(crate) async fn environments_add_up(provider: &dyn SandboxProvider) {
    let env = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    let spec = SandboxSpec { env: env(&[("A", "sandbox"), ("B", "sandbox")]), ..spec() };
    let sandbox = provider.open(spec).await.expect("opens");
    let exec = ExecSpec {
        env: env(&[("B", "exec"), ("C", "exec")]),
        secrets: BTreeMap::from([("C".into(), Secret::new("c", "secret"))]),
        ..sh("echo $A $B $C $HOME $TERM")
    };
    assert_eq!(run(&*sandbox, exec).await.stdout, "sandbox exec secret /root\n");
    assert_eq!(output(&*sandbox, "echo $A $B $C").await, "sandbox sandbox\n", "the next exec has no secret");
}

pub(crate) async fn the_working_directory_is_made_and_used(provider: &dyn SandboxProvider) {
    let spec = SandboxSpec { workdir: Some("/work/here".into()), ..spec() };
    let sandbox = provider.open(spec).await.expect("opens");
    assert_eq!(output(&*sandbox, "pwd").await, "/work/here\n");
    let elsewhere = ExecSpec { workdir: Some("/tmp".into()), ..sh("pwd") };
    assert_eq!(run(&*sandbox, elsewhere).await.stdout, "/tmp\n");
}

/// A script that leaves a daemon, a double fork and a process that ignores SIGTERM, all named by `tag`.
fn stubborn(tag: &str) -> String {
    format!(
        "setsid sh -c 'while :; do sleep 0.2; done # {tag}' </dev/null >/dev/null 2>&1 &\n\
         (setsid sh -c 'trap \"\" TERM INT HUP; while :; do sleep 0.2; done # {tag}' </dev/null >/dev/null 2>&1 &) &\n\
         echo up\n\
         while :; do sleep 0.2; done # {tag}"
    )
}

async fn count(sandbox: &dyn Sandbox, tag: &str) -> usize {
    // The scan must not find itself: the pattern `[x]yz` matches `xyz` but not its own text.
    let (head, tail) = tag.split_at(1);
    let script = format!(
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c -e '[{head}]{tail}' || true"
    );
    output(sandbox, &script).await.trim().parse().expect("a number")
}

pub(crate) async fn kill_ends_the_whole_tree_and_nothing_else(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    let mut other =
        sandbox.exec(sh("echo up; while :; do sleep 0.2; done # bystander")).await.expect("starts");
    other.next().await.expect("output");
    let mut process = sandbox.exec(sh(&stubborn("victim"))).await.expect("starts");
    process.next().await.expect("output");
    while count(&*sandbox, "victim").await < 4 {}
    let before = Instant::now();
    process.kill().await.expect("killed");
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(count(&*sandbox, "victim").await, 0);
    assert_eq!(process.wait().await, Ok(ExitStatus::Signal(9)));
    // A child between fork and exec still carries the name, so there may be two.
    assert!(count(&*sandbox, "bystander").await >= 1);
}

pub(crate) async fn dropping_a_command_kills_its_tree(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    let mut process = sandbox.exec(sh(&stubborn("dropped"))).await.expect("starts");
    process.next().await.expect("output");
    while count(&*sandbox, "dropped").await < 4 {}
    drop(process);
    let deadline = Instant::now() + Duration::from_secs(10);
    while count(&*sandbox, "dropped").await > 0 {
        assert!(Instant::now() < deadline, "something survives");
    }
}

pub(crate) async fn a_command_that_leaves_daemons_still_ends(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    let process = sandbox.exec(sh("sleep 1000 & echo done")).await.expect("starts");
    let output =
        tokio::time::timeout(Duration::from_secs(20), collect(process)).await.expect("ends by itself");
    assert_eq!((output.stdout.as_str(), output.status), ("done\n", ExitStatus::Code(0)));
}

pub(crate) async fn many_commands_run_at_once(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    let runs = (0..100).map(|number| {
        let sandbox = sandbox.clone();
        tokio::spawn(async move { run(&*sandbox, sh(&format!("echo {number}; cat"))).await.stdout })
    });
    for (number, run) in runs.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(run.await.expect("no panic"), format!("{number}\n"));
    }
}

pub(crate) async fn without_network_there_is_only_loopback(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    let script = "python3 - <<'END'\n\
        import socket\n\
        s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n\
        socket.create_connection(s.getsockname()); print('loopback')\n\
        try: socket.create_connection(('1.1.1.1', 53), 5)\n\
        except OSError as e: print('outside', e.errno)\n\
        END";
    let seen = output(&*sandbox, script).await;
    // No way to that network, or none to that host: which of the two is for the kernel to say.
    assert!(["loopback\noutside 101\n", "loopback\noutside 113\n"].contains(&seen.as_str()), "{seen}");
}

pub(crate) async fn terminate_ends_everything_and_keeps_the_files(provider: &dyn SandboxProvider) {
    let spec = spec();
    let sandbox = provider.open(spec.clone()).await.expect("opens");
    output(&*sandbox, "echo kept > /root/file").await;
    let mut process = sandbox.exec(sh("echo up; sleep 1000")).await.expect("starts");
    process.next().await.expect("output");
    sandbox.terminate().await.expect("ends");
    assert_eq!(process.wait().await.expect_err("its end is unknown").kind.as_str(), "sandbox-lost");
    let refused = sandbox.exec(sh("true")).await.err().expect("nothing runs in it");
    assert_eq!(refused.kind.as_str(), "sandbox-lost");
    assert_eq!(provider.list().await, Ok(vec![(spec.id.clone(), false)]));
    let again = provider.open(spec.clone()).await.expect("opens again");
    assert_eq!(output(&*again, "cat /root/file").await, "kept\n");
    assert_eq!(provider.list().await, Ok(vec![(spec.id.clone(), true)]));
    drop((sandbox, again));
    provider.remove(&spec.id).await.expect("removes");
    assert_eq!(provider.list().await, Ok(vec![]));
    provider.remove(&spec.id).await.expect("removing what is not there succeeds");
}

pub(crate) async fn ids_that_could_be_paths_are_refused(provider: &dyn SandboxProvider) {
    for id in ["", "..", "a/b", "A", ".hidden", &"x".repeat(101)] {
        let error = provider.open(SandboxSpec { id: id.into(), ..spec() }).await.err().expect("refused");
        assert_eq!(error.kind.as_str(), "invalid", "{id}");
        assert_eq!(provider.remove(id).await.expect_err("refused").kind.as_str(), "invalid", "{id}");
    }
}

pub(crate) async fn an_image_that_does_not_exist_is_named(provider: &dyn SandboxProvider) {
    let error =
        provider.open(SandboxSpec { image: "nonesuch".into(), ..spec() }).await.err().expect("refused");
    assert_eq!(error.kind.as_str(), "not-found");
    assert!(error.message.contains("nonesuch"), "{error}");
}

pub(crate) async fn files_are_read_and_written_inside(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    let content: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    sandbox.write_file("/data/deep/file", &content, 0o640).await.expect("written");
    assert_eq!(
        output(&*sandbox, "stat -c '%a %s' /data/deep/file; ls -A /data/deep").await,
        "640 3145728\nfile\n"
    );
    assert!(sandbox.read_file("/data/deep/file", 3 << 20).await.expect("read") == content);
    let refused = async |path: &str| sandbox.read_file(path, 10).await.expect_err("refused").kind.to_string();
    assert_eq!(refused("/data/deep/file").await, "too-large");
    assert_eq!(refused("/data/none").await, "not-found");
    assert_eq!(refused("/data").await, "invalid");
    output(&*sandbox, "mkfifo /data/pipe; ln -s /data/target /data/link; echo old > /data/target").await;
    assert_eq!(refused("/data/pipe").await, "invalid");
    sandbox.write_file("/data/link", b"new", 0o600).await.expect("written");
    assert_eq!(output(&*sandbox, "cat /data/target; readlink /data/link").await, "new/data/target\n");
    assert_eq!(sandbox.write_file("/data", b"", 0o600).await.expect_err("refused").kind.as_str(), "invalid");
}

pub(crate) async fn files_and_volumes_survive_and_are_shared(provider: &dyn SandboxProvider) {
    let volumes = provider.volumes();
    volumes.put("shared", "from-host/file", b"host", None).await.expect("written");
    let with_volume = |spec: SandboxSpec| SandboxSpec {
        volumes: BTreeMap::from([("/mnt/v".into(), "shared".into())]),
        ..spec
    };
    let first = provider.open(with_volume(spec())).await.expect("opens");
    let second = provider.open(with_volume(spec())).await.expect("opens");
    assert_eq!(
        output(&*first, "cat /mnt/v/from-host/file; echo one > /mnt/v/a; rm /mnt/v/from-host/file").await,
        "host"
    );
    assert_eq!(output(&*second, "cat /mnt/v/a; mkdir /mnt/v/d; echo two > /mnt/v/d/b").await, "one\n");
    drop((first, second));
    let read = volumes.get("shared", "d/b", 100).await.expect("read").expect("there");
    assert_eq!(read.content, "two\n");
    let names: Vec<_> =
        volumes.entries("shared", "").await.expect("listed").into_iter().map(|e| e.path).collect();
    assert_eq!(names, ["a", "d", "d/b", "from-host"]);
}

pub(crate) async fn volumes_swap_only_what_was_read(provider: &dyn SandboxProvider) {
    let volumes = provider.volumes();
    let first = volumes.put("v", "f", b"1", Some(None)).await.expect("made");
    assert_eq!(volumes.put("v", "f", b"2", Some(None)).await.expect_err("exists").kind.as_str(), "conflict");
    let second = volumes.put("v", "f", b"2", Some(Some(&first))).await.expect("swapped");
    assert_eq!(
        volumes.put("v", "f", b"3", Some(Some(&first))).await.expect_err("old").kind.as_str(),
        "conflict"
    );
    let read = volumes.get("v", "f", 10).await.expect("read").expect("there");
    assert_eq!((read.content, read.version), (Bytes::from_static(b"2"), second));
    assert_eq!(volumes.get("v", "f", 0).await.expect_err("too large").kind.as_str(), "too-large");
    assert_eq!(volumes.get("v", "none", 0).await, Ok(None));
    assert_eq!(volumes.get("none", "f", 0).await, Ok(None));
    for wrong in ["../f", "a/../f", "./f", "a//f", ""] {
        assert_eq!(
            volumes.put("v", wrong, b"", None).await.expect_err("refused").kind.as_str(),
            "invalid",
            "{wrong}"
        );
    }
    for wrong in ["", ".", "..", "a/b", ".hidden"] {
        assert_eq!(
            volumes.put(wrong, "f", b"", None).await.expect_err("refused").kind.as_str(),
            "invalid",
            "{wrong}"
        );
    }
    assert_eq!(volumes.list().await.expect("listed"), ["v"]);
    volumes.remove("v", "f").await.expect("removed");
    assert_eq!(volumes.remove("v", "f").await.expect_err("gone").kind.as_str(), "not-found");
    volumes.remove("v", "").await.expect("removed");
    assert_eq!(volumes.list().await.expect("listed"), Vec::<String>::new());
}

/// Links that a sandbox planted lead the host nowhere.
pub(crate) async fn planted_links_are_not_followed(provider: &dyn SandboxProvider) {
    let spec = SandboxSpec { volumes: BTreeMap::from([("/v".into(), "hostile".into())]), ..spec() };
    let sandbox = provider.open(spec).await.expect("opens");
    let plant = "cd /v; ln -s /etc/passwd abs; ln -s ../../../../../etc up; ln -s .. parent; mkdir dir; \
                 ln -s /etc dir/etc; ln -s /tmp tmp; mkfifo pipe; ln -s /etc/passwd dir/link; echo x > real";
    output(&*sandbox, plant).await;
    drop(sandbox);
    let volumes = provider.volumes();
    for path in ["abs", "up/passwd", "parent/hostile/real", "dir/etc/passwd", "dir/link"] {
        assert_eq!(
            volumes.get("hostile", path, 1 << 20).await.expect_err("refused").kind.as_str(),
            "denied",
            "{path}"
        );
    }
    // A kernel of the sandbox's own may have kept the pipe to itself: then it is in no other sandbox either.
    let spec = SandboxSpec { volumes: BTreeMap::from([("/v".into(), "hostile".into())]), ..self::spec() };
    let other = provider.open(spec).await.expect("opens");
    let there = output(&*other, "test -p /v/pipe && echo there; true").await;
    drop(other);
    match volumes.get("hostile", "pipe", 1).await {
        Err(error) => assert_eq!(error.kind.as_str(), "invalid"),
        Ok(found) => assert_eq!((found, there.as_str()), (None, "")),
    }
    let marker = format!("planted-{}", std::process::id());
    assert!(volumes.put("hostile", &format!("tmp/{marker}"), b"", None).await.is_err());
    assert!(!std::env::temp_dir().join(&marker).exists(), "the host wrote through a link");
    assert!(volumes.entries("hostile", "up").await.is_err());
    let listed = volumes.entries("hostile", "").await.expect("listed");
    assert!(listed.iter().all(|entry| ["dir", "real"].contains(&entry.path.as_str())), "{listed:?}");
    volumes.put("hostile", "abs", b"mine", None).await.expect("replaces the link itself");
    assert_eq!(volumes.get("hostile", "abs", 10).await.expect("read").expect("there").content, "mine");
    volumes.remove("hostile", "").await.expect("removes links without following them");
    assert!(std::path::Path::new("/etc/passwd").exists());
}

fn logged() -> (BuildLog, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    (Arc::new(move |line: &str| sink.lock().expect("a log").push(line.to_owned())), lines)
}

/// An image that has a directory of the host, with `sub/file` in it, at /app.
fn copied() -> (tempfile::TempDir, ImageSpec) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("sub")).expect("made");
    std::fs::write(dir.path().join("sub/file"), "copied\n").expect("written");
    let copy = BTreeMap::from([("/app".into(), dir.path().to_string_lossy().into_owned())]);
    (dir, ImageSpec { base: "host".into(), copy, ..ImageSpec::default() })
}

pub(crate) async fn images_are_built_once_per_step(provider: &dyn SandboxProvider) {
    let (dir, image) = copied();
    let image = ImageSpec {
        commands: vec![
            "cat /app/sub/file; echo $A > /opt/a; date +%N > /opt/when".into(),
            "echo second >> /opt/a".into(),
        ],
        env: BTreeMap::from([("A".into(), "from-image".into())]),
        workdir: Some("/app".into()),
        ..image
    };
    let (log, lines) = logged();
    let (id, cached) = provider.build_image(&image, Some("test"), log.clone()).await.expect("builds");
    assert!(!cached && id.starts_with("sha256:"), "{id}");
    assert!(lines.lock().expect("a log").contains(&"copied".to_owned()), "{lines:?}");
    assert_eq!(provider.build_image(&image, None, log.clone()).await, Ok((id.clone(), true)));
    assert_eq!(provider.find_image("test").await, Ok(Some(id.clone())));
    assert_eq!(provider.find_image(&id).await, Ok(Some(id.clone())));

    let sandbox = provider.open(SandboxSpec { image: "test".into(), ..spec() }).await.expect("opens");
    assert_eq!(
        output(&*sandbox, "pwd; echo $A; cat /opt/a sub/file").await,
        "/app\nfrom-image\nfrom-image\nsecond\ncopied\n"
    );
    let when = output(&*sandbox, "cat /opt/when; rm /opt/when").await;

    let longer = ImageSpec {
        commands: [image.commands.clone(), vec!["test -e /opt/when".into()]].concat(),
        ..image.clone()
    };
    let (longer_id, cached) = provider.build_image(&longer, None, log.clone()).await.expect("builds");
    assert!(!cached && longer_id != id);
    let other = provider.open(SandboxSpec { image: longer_id.clone(), ..spec() }).await.expect("opens");
    assert_eq!(output(&*other, "cat /opt/when").await, when, "the first steps are not run again");

    let on_top = ImageSpec {
        base: "test".into(),
        commands: vec!["test -f /opt/a && touch /opt/b".into()],
        ..ImageSpec::default()
    };
    provider
        .build_image(&on_top, Some("test"), log.clone())
        .await
        .expect("builds on an image of the same name");
    let listed = provider.list_images().await.expect("listed");
    assert_eq!(listed.len(), 3);
    assert_eq!(listed.iter().filter(|image| image.names == ["test"]).count(), 1);
    provider.tag_image(&id, "back").await.expect("tagged");
    assert_eq!(provider.find_image("back").await, Ok(Some(id)));

    std::fs::write(dir.path().join("sub/file"), "changed\n").expect("written");
    let (_, cached) = provider.build_image(&image, None, log.clone()).await.expect("builds");
    assert!(!cached, "what is copied is part of the key");

    let failing = ImageSpec { commands: vec!["echo because; exit 3".into()], ..image };
    let error = provider.build_image(&failing, Some("failing"), log).await.expect_err("fails");
    assert!(error.message.contains("code 3") && error.message.contains("because"), "{error}");
    assert_eq!(provider.find_image("failing").await, Ok(None));
    let ids: Vec<_> = provider.list().await.expect("listed").into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 2, "a build leaves no sandbox: {ids:?}");
}

pub(crate) async fn what_is_read_only_stays_as_it_is(provider: &dyn SandboxProvider) {
    let (_dir, image) = copied();
    let image = ImageSpec { read_only: vec!["/app".into()], ..image };
    provider.build_image(&image, Some("closed"), logged().0).await.expect("builds");
    let sandbox = provider.open(SandboxSpec { image: "closed".into(), ..spec() }).await.expect("opens");
    let changed = "cd /app; touch sub/new sub/file 2>/dev/null || rm -rf sub 2>/dev/null || mv /app /b 2>/dev/null || echo refused";
    assert_eq!(output(&*sandbox, changed).await, "refused\n", "also for root");
    assert_eq!(output(&*sandbox, "cat /app/sub/file").await, "copied\n");
}

pub(crate) async fn equal_images_built_at_once_agree(provider: &dyn SandboxProvider) {
    let image = ImageSpec {
        base: "host".into(),
        commands: vec!["date +%N > /opt/when".into()],
        ..ImageSpec::default()
    };
    let (log, lines) = logged();
    let build = || provider.build_image(&image, None, log.clone());
    let (a, b, c) = tokio::join!(build(), build(), build());
    let ids = [a, b, c].map(|result| result.expect("builds").0);
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let runs = lines
        .lock()
        .expect("a log")
        .iter()
        .filter(|line| line.starts_with("$ ") && !line.ends_with("(cached)"))
        .count();
    assert_eq!(runs, 1);
}

pub(crate) async fn a_snapshot_holds_the_files(provider: &dyn SandboxProvider) {
    let sandbox = open(provider).await;
    output(&*sandbox, "mkdir /data; echo kept > /data/file; ln /data/file /data/second; ln -s file /data/link; rm /etc/shells").await;
    let shell = ExecSpec { stdin: true, ..sh("echo up; read go; echo $go") };
    let mut process = sandbox.exec(shell).await.expect("starts");
    process.next().await.expect("output");
    let busy = sandbox.snapshot().await.expect("saved while a command runs");
    process.write(b"on\n").await.expect("written");
    process.close_stdin();
    assert_eq!(collect(process).await.stdout, "on\n", "the command goes on");
    let idle = sandbox.snapshot().await.expect("saved");
    output(&*sandbox, "echo changed > /data/file").await;
    for image in [busy.image, idle.image] {
        let copy = provider.open(SandboxSpec { image, ..spec() }).await.expect("opens");
        assert_eq!(
            output(&*copy, "cat /data/link; stat -c %h /data/file; test -e /etc/shells || echo deleted")
                .await,
            "kept\n2\ndeleted\n"
        );
    }
}
