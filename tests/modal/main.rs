//! The provider Modal, against a server that speaks Modal's API over this machine's own sandboxes: the contract of all
//! providers, then what only it promises, then its faults.

#[expect(dead_code, reason = "Modal has no read-only directories")]
#[path = "../contract"]
mod contract {
    pub(crate) mod sandbox;
}

mod gone;

use contract::sandbox::{open, output, run, sh, spec};
use harvest::capability::modal::{Client, Clock, Settings};
use harvest::capability::sandbox::modal::{ModalOptions, ModalProvider};
use harvest::capability::sandbox::{
    BuildLog, Chunk, ExecSpec, ExitStatus, ImageSpec, Network, SandboxProvider, SandboxSpec,
};
use modal_server::{Code, Server};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn launcher() -> PathBuf {
    std::env::var_os("HARVEST_TEST_LAUNCHER")
        .map_or_else(|| env!("CARGO_BIN_EXE_harvest").into(), PathBuf::from)
}

/// A provider with a home and a server of its own; the server goes last, so that what is dropped before can end.
struct Kept {
    provider: ModalProvider,
    home: tempfile::TempDir,
    server: Server,
}

impl std::ops::Deref for Kept {
    type Target = ModalProvider;

    fn deref(&self) -> &ModalProvider {
        &self.provider
    }
}

fn settings(server: &Server, secret: &str) -> Settings {
    Settings::read(&|name| match name {
        "MODAL_SERVER_URL" => Some(server.url().to_owned()),
        "MODAL_TOKEN_ID" => Some("ak-test".into()),
        "MODAL_TOKEN_SECRET" => Some(secret.to_owned()),
        _ => None,
    })
    .expect("settings")
}

fn connect(home: &Path, server: &Server) -> ModalProvider {
    connect_by(Clock::default(), home, server)
}

fn connect_by(clock: Clock, home: &Path, server: &Server) -> ModalProvider {
    let client = Client::with_clock(settings(server, "as-test"), clock).expect("a client");
    let options = ModalOptions { host_image: Some("debian:bookworm-slim".into()), ..ModalOptions::default() };
    ModalProvider::new(home, client, options).expect("a provider")
}

fn served(directory: &Path) -> Server {
    Server::builder(directory.join("cloud"), launcher())
        .token("ak-test", "as-test")
        .image("debian:bookworm-slim", "host")
        .secret("team", [("KEY", "kept-by-modal")])
        .first_generation_volume("old")
        .start()
        .expect("a server")
}

async fn provider() -> Kept {
    let home = tempfile::tempdir().expect("a directory");
    let server = served(home.path());
    let provider = connect(home.path(), &server);
    Kept { provider, home, server }
}

fn asked(server: &Server, rpc: &str) -> usize {
    server.requests().iter().filter(|request| request.rpc == rpc).count()
}

sandbox_contract! { provider().await }

fn logged() -> (BuildLog, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    (Arc::new(move |line: &str| sink.lock().expect("a log").push(line.to_owned())), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_built_layer_by_layer() {
    let provider = provider().await;
    std::fs::write(provider.home.path().join("file"), "copied\n").expect("written");
    let image = ImageSpec {
        base: "debian:bookworm-slim".into(),
        copy: BTreeMap::from([("/app/file".into(), provider.home.path().join("file").display().to_string())]),
        commands: vec!["cat /app/file; echo $A > /opt/a".into(), "echo two \\\n  lines >> /opt/a".into()],
        env: BTreeMap::from([("A".into(), "of \"the\" $image".into())]),
        workdir: Some("/app".into()),
        ..ImageSpec::default()
    };
    let (log, lines) = logged();
    let (id, cached) = provider.build_image(&image, Some("test"), log.clone()).await.expect("builds");
    assert!(!cached && id.starts_with("sha256:"), "{id}");
    assert!(lines.lock().expect("a log").contains(&"copied".to_owned()), "{lines:?}");
    let builds = asked(&provider.server, "ImageGetOrCreate");
    assert_eq!(provider.build_image(&image, None, log.clone()).await, Ok((id.clone(), true)));
    assert_eq!(asked(&provider.server, "ImageGetOrCreate"), builds, "what is known here is not asked for");

    let sandbox = provider.open(SandboxSpec { image: "test".into(), ..spec() }).await.expect("opens");
    assert_eq!(
        output(&*sandbox, "pwd; cat file /opt/a; echo \"$A\"").await,
        "/app\ncopied\nof \"the\" $image\ntwo lines\nof \"the\" $image\n"
    );

    let failing = ImageSpec {
        commands: ["true", "echo two", "echo because; exit 3", "never"].map(Into::into).into(),
        ..image.clone()
    };
    let error = provider.build_image(&failing, Some("failing"), log.clone()).await.expect_err("fails");
    assert!(error.message.contains("command 3") && error.message.contains("because"), "{error}");
    assert_eq!(provider.find_image("failing").await, Ok(None));

    let read_only = ImageSpec { read_only: vec!["/app".into()], ..image };
    assert_eq!(
        provider.build_image(&read_only, None, log).await.expect_err("refused").kind.as_str(),
        "invalid"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_goes_on_after_its_host_was_killed() {
    let Kept { provider, home, server } = provider().await;
    let spec = spec();
    let sandbox = provider.open(spec.clone()).await.expect("opens");
    output(&*sandbox, "echo kept > /root/file").await;
    let mut process =
        sandbox.exec(sh("echo up; while :; do sleep 0.2; done # left-behind")).await.expect("starts");
    assert_eq!(process.next().await.expect("output"), Some(Chunk::Stdout("up\n".into())));
    // As a kill does: nothing is dropped, and only the lock goes.
    std::mem::forget((process, sandbox));
    let lock = home.path().join("modal/sandboxes").join(format!(".{}.lock", spec.id));
    std::fs::remove_file(lock).expect("the lock of a dead process");
    let second = connect(home.path(), &server);
    let again = second.open(spec.clone()).await.expect("found again");
    assert_eq!(
        output(&*again, "cat /root/file; grep -sl [l]eft-behind /proc/[0-9]*/cmdline | wc -l").await,
        "kept\n0\n"
    );
    assert_eq!(asked(&server, "SandboxCreateV2"), 1);
    second.remove(&spec.id).await.expect("removed");
    drop(provider);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_create_sent_twice_is_one_sandbox() {
    let provider = provider().await;
    // The server makes it, and its answer is lost.
    provider.server.faults().lose_reply("SandboxCreateV2", 1);
    let sandbox = open(&*provider).await;
    assert_eq!(output(&*sandbox, "echo one").await, "one\n");
    let requests = provider.server.requests();
    let creates: Vec<_> = requests.iter().filter(|request| request.rpc == "SandboxCreateV2").collect();
    assert_eq!(creates.len(), 2);
    assert_eq!(provider.server.running().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_needs_any_more_is_ended() {
    let Kept { provider, home, server } = provider().await;
    let spec = spec();
    let sandbox = provider.open(spec.clone()).await.expect("opens");
    std::mem::forget(sandbox);
    // A kill in the middle of removing it: the record is gone, and the sandbox runs.
    std::fs::remove_dir_all(home.path().join("modal/sandboxes").join(&spec.id)).expect("removed");
    std::fs::remove_file(home.path().join("modal/sandboxes").join(format!(".{}.lock", spec.id)))
        .expect("removed");
    assert_eq!(server.running().len(), 1);
    let second = connect(home.path(), &server);
    let other = open(&second).await;
    assert_eq!(server.running().len(), 1, "the new one");
    second.remove(other.id()).await.expect("removed");
    assert_eq!(server.running(), Vec::<String>::new());
    drop(provider);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_named() {
    let home = tempfile::tempdir().expect("a directory");
    let server = served(home.path());
    let client = Client::new(settings(&server, "as-wrong")).expect("a client");
    let provider = ModalProvider::new(home.path(), client, ModalOptions::default()).expect("a provider");
    let error = provider.open(spec()).await.err().expect("refused");
    assert_eq!(error.kind.as_str(), "auth-error");
    assert!(error.message.contains("MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"), "{error}");
    assert!(!error.message.contains("as-wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_modal_cannot_do_says_what_to_write_instead() {
    let provider = provider().await;
    let sandbox = open(&*provider).await;
    let error = sandbox.forward("anthropic", Vec::new(), None).await.expect_err("no gateway");
    assert_eq!(error.kind.as_str(), "unavailable");
    assert!(error.message.contains("secret") && error.message.contains("provider `local`"), "{error}");
    let refused = async |spec: SandboxSpec| provider.open(spec).await.err().expect("refused");
    for spec in [
        SandboxSpec { disk: Some(1 << 30), ..spec() },
        SandboxSpec { user: Some("agent".into()), ..spec() },
        SandboxSpec { timeout: Some(Duration::from_secs(25 * 3600)), ..spec() },
        SandboxSpec { network: Network::Allow(vec!["example.com:8443".into()]), ..spec() },
    ] {
        let id = spec.id.clone();
        assert_eq!(refused(spec).await.kind.as_str(), "invalid");
        assert!(!provider.list().await.expect("listed").iter().any(|(known, _)| *known == id));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_ends_under_a_command_is_lost_with_its_files() {
    let provider = provider().await;
    let spec = SandboxSpec { timeout: Some(Duration::from_secs(2)), ..spec() };
    let sandbox = provider.open(spec.clone()).await.expect("opens");
    let mut process = sandbox.exec(sh("sleep 1000")).await.expect("starts");
    let error = process.wait().await.expect_err("it was ended");
    assert_eq!(error.kind.as_str(), "sandbox-lost");
    assert!(error.message.contains("`timeout`"), "{error}");
    assert!(!sandbox.is_open());
    drop((process, sandbox));
    let error = provider.open(spec.clone()).await.err().expect("its files are gone");
    assert_eq!(error.kind.as_str(), "sandbox-lost");
    assert!(error.message.contains("harvest rerun"), "{error}");
    provider.remove(&spec.id).await.expect("removed");
    assert_eq!(provider.list().await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_server_pass_unnoticed() {
    let provider = provider().await;
    let faults = provider.server.faults();
    for rpc in
        ["SandboxCreateV2", "TaskExecStart", "TaskExecWait", "TaskExecStdinWrite", "TaskSnapshotFilesystem"]
    {
        faults.fail(rpc, Code::Unavailable, 1);
    }
    faults.throttle("VolumeGetOrCreate", 3, 0.1);
    let mounted = SandboxSpec { volumes: BTreeMap::from([("/v".into(), "vol".into())]), ..spec() };
    let sandbox = provider.open(mounted).await.expect("opens");
    let mut process = sandbox.exec(ExecSpec { stdin: true, ..sh("cat; exit 7") }).await.expect("starts");
    process.write(b"through\n").await.expect("written");
    process.close_stdin();
    assert_eq!(process.next().await, Ok(Some(Chunk::Stdout("through\n".into()))));
    assert_eq!(process.wait().await, Ok(ExitStatus::Code(7)));
    sandbox.snapshot().await.expect("saved");
    assert_eq!(run(&*sandbox, sh("true")).await.status, ExitStatus::Code(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_cut_and_tokens_that_expire_lose_nothing() {
    let provider = provider().await;
    let sandbox = open(&*provider).await;
    provider.server.faults().cut_output_after(100_000);
    let script = "i=0; while [ $i -lt 40000 ]; do echo $i; i=$((i+1)); done";
    let expected: String = (0..40_000).map(|number| format!("{number}\n")).collect();
    assert!(output(&*sandbox, script).await == expected, "what arrived differs");

    let mut process = sandbox.exec(ExecSpec { stdin: true, ..sh("echo up; cat") }).await.expect("starts");
    assert_eq!(process.next().await, Ok(Some(Chunk::Stdout("up\n".into()))));
    provider.server.expire_router_tokens();
    process.write(b"after").await.expect("written");
    process.close_stdin();
    assert_eq!(process.next().await, Ok(Some(Chunk::Stdout("after".into()))));
    assert_eq!(process.wait().await, Ok(ExitStatus::Code(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_commands_run_at_once_than_one_connection_carries() {
    let provider = provider().await;
    let sandbox = open(&*provider).await;
    let mut processes = Vec::new();
    // Each has three calls open, and the server allows a hundred.
    for _ in 0..40 {
        let mut process = sandbox.exec(ExecSpec { stdin: true, ..sh("echo up; cat") }).await.expect("starts");
        assert_eq!(process.next().await, Ok(Some(Chunk::Stdout("up\n".into()))));
        processes.push(process);
    }
    for process in &mut processes {
        process.close_stdin();
        assert_eq!(process.wait().await, Ok(ExitStatus::Code(0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_is_told_from_a_command_that_ends() {
    let provider = provider().await;
    let sandbox = open(&*provider).await;
    let mut process = sandbox.exec(sh("echo up; sleep 1000")).await.expect("starts");
    assert_eq!(process.next().await, Ok(Some(Chunk::Stdout("up\n".into()))));
    let running = provider.server.running();
    assert!(provider.server.kill_sandbox(&running[0]));
    assert_eq!(process.next().await.expect_err("lost").kind.as_str(), "sandbox-lost");
    assert_eq!(process.wait().await.expect_err("lost").kind.as_str(), "sandbox-lost");
    assert!(!sandbox.is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_the_wrong_version_is_refused() {
    let provider = provider().await;
    let mounted = SandboxSpec { volumes: BTreeMap::from([("/v".into(), "old".into())]), ..spec() };
    let refused = [
        provider.open(mounted).await.err().expect("refused"),
        provider.volumes().put("old", "file", b"x", None).await.expect_err("refused"),
        provider.volumes().entries("old", "").await.expect_err("refused"),
    ];
    for error in refused {
        assert_eq!(error.kind.as_str(), "conflict");
        assert!(error.message.contains("`old` on Modal is of version 1"), "{error}");
    }
    assert_eq!(asked(&provider.server, "SandboxCreateV2"), 0);
    assert_eq!(provider.list().await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_refused_says_so_at_once() {
    let home = tempfile::tempdir().expect("a directory");
    let server = served(home.path());
    server.faults().refuse_version();
    let error = connect(home.path(), &server).open(spec()).await.err().expect("refused");
    assert_eq!(asked(&server, "AppGetOrCreate"), 1, "it would be refused again");
    assert!(error.message.contains("Modal:"), "{error}");
}
