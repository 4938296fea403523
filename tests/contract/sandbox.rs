//! What every provider of sandboxes keeps, written against the traits alone: one suite for the local provider, as root
//! and as an ordinary user, and for any other.

use bytes::Bytes;
use harvest::capability::sandbox::{
    Chunk, ExecSpec, ExitStatus, Network, Process, Sandbox, SandboxProvider, SandboxSpec,
};
use harvest::capability::secret::Secret;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Declares one test per promise for a provider. `$provider` is an expression that makes one; what it returns is kept
/// alive for the test and derefs to the provider.
#[macro_export]
macro_rules! sandbox_contract {
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
    // The scan must not find itself, so the tag is put together there.
    let (head, tail) = tag.split_at(1);
    let script = format!(
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c -e '{head}''{tail}' || true"
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
    assert_eq!(output(&*sandbox, script).await, "loopback\noutside 101\n");
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
