//! What harvest sends: one of everything that it can ask Modal for, by its provider.

use crate::judge;
use harvest::capability::modal::{Client, Settings};
use harvest::capability::sandbox::modal::{ModalOptions, ModalProvider};
use harvest::capability::sandbox::{
    BuildLog, ExecSpec, ImagePull, ImageSpec, Network, Process, Sandbox, SandboxProvider, SandboxSpec,
};
use modal_server::{Code, Recorded, Server};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const IMAGE: &str = "debian:bookworm-slim";

/// All that harvest asked for.
pub(crate) fn calls() -> Vec<Recorded> {
    let home = tempfile::tempdir().unwrap();
    let server = Server::builder(home.path().join("cloud"), judge::launcher())
        .token("ak-test", "as-test")
        .image(IMAGE, "host")
        .secret("team", [("KEY", "kept-by-modal")])
        .page(1)
        .start()
        .unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(everything(home.path(), &server));
    assert_eq!(server.running(), Vec::<String>::new());
    server.requests()
}

fn client(server: &Server) -> Client {
    let settings = Settings::read(&|name| match name {
        "MODAL_SERVER_URL" => Some(server.url().to_owned()),
        "MODAL_TOKEN_ID" => Some("ak-test".into()),
        "MODAL_TOKEN_SECRET" => Some("as-test".into()),
        _ => None,
    });
    Client::new(settings.unwrap()).unwrap()
}

fn connect(home: &Path, server: &Server) -> ModalProvider {
    let options = ModalOptions { idle_timeout: Some(Duration::from_secs(3600)), ..ModalOptions::default() };
    ModalProvider::new(home, client(server), options).unwrap()
}

async fn everything(home: &Path, server: &Server) {
    client(server).hello().await.unwrap();
    let provider = connect(home, server);
    images(home, &provider).await;
    volumes(&provider).await;
    let spec = SandboxSpec {
        id: "run-main".into(),
        image: "built".into(),
        volumes: BTreeMap::from([("/v".into(), "vol".into())]),
        env: BTreeMap::from([("A".into(), "of the sandbox".into())]),
        network: Network::Allow(vec!["example.com".into(), "192.0.2.7".into()]),
        cpu: Some(1.0),
        memory: Some(1 << 30),
        timeout: Some(Duration::from_secs(600)),
        ..SandboxSpec::default()
    };
    let sandbox = provider.open(spec.clone()).await.unwrap();
    server.faults().cut_output_after(1);
    command(&provider, &*sandbox).await;
    sandbox.set_network(Network::Allow(vec!["192.0.2.7".into(), "example.com".into()])).await.unwrap();
    sandbox.snapshot().await.unwrap();
    // Saved, ended, and made again from what was saved.
    sandbox.terminate().await.unwrap();
    drop(sandbox);
    let sandbox = provider.open(spec.clone()).await.unwrap();
    server.expire_router_tokens();
    end(sandbox.exec(sh("true")).await.unwrap()).await;
    crash(home, sandbox);
    // Found again by its record.
    let second = connect(home, server);
    let sandbox = second.open(spec.clone()).await.unwrap();
    crash(home, sandbox);
    // Found again by its name alone.
    forget(home);
    server.faults().fail("SandboxCreateV2", Code::AlreadyExists, 1);
    let third = connect(home, server);
    drop(third.open(spec.clone()).await.unwrap());
    third.remove(&spec.id).await.unwrap();
}

async fn images(home: &Path, provider: &ModalProvider) {
    let log: BuildLog = Arc::new(|_| {});
    let pull = ImagePull { reference: IMAGE.into(), ..ImagePull::default() };
    provider.pull_image(&pull, None, log.clone()).await.unwrap();
    let copied = home.join("copied");
    std::fs::write(&copied, "copied\n").unwrap();
    let image = ImageSpec {
        base: IMAGE.into(),
        copy: BTreeMap::from([("/app/file".into(), copied.display().to_string())]),
        commands: vec!["cat /app/file".into()],
        env: BTreeMap::from([("B".into(), "of the image".into())]),
        workdir: Some("/app".into()),
        ..ImageSpec::default()
    };
    provider.build_image(&image, Some("built"), log).await.unwrap();
    let layer = std::fs::read_to_string(of_some_layer(&home.join("modal")).unwrap()).unwrap();
    assert!(provider.find_image(&layer).await.unwrap().is_some(), "{layer}");
}

/// The file in which the home has noted Modal's image of a layer.
fn of_some_layer(directory: &Path) -> Option<PathBuf> {
    std::fs::read_dir(directory).ok()?.flatten().find_map(|entry| match entry.path() {
        path if path.is_dir() => of_some_layer(&path),
        path => (entry.file_name() == "image").then_some(path),
    })
}

async fn volumes(provider: &ModalProvider) {
    let volumes = provider.volumes();
    volumes.put("vol", "a/file", b"content", Some(None)).await.unwrap();
    volumes.put("vol", "a/file", b"other", None).await.unwrap();
    assert!(volumes.get("vol", "a/file", 100).await.unwrap().is_some());
    volumes.entries("vol", "a").await.unwrap();
    volumes.remove("vol", "a/file").await.unwrap();
    volumes.put("gone", "file", b"x", None).await.unwrap();
    volumes.remove("gone", "").await.unwrap();
}

fn sh(script: &str) -> ExecSpec {
    ExecSpec { command: ["sh", "-c", script].map(str::to_owned).into(), ..ExecSpec::default() }
}

/// A command with variables, a secret that Modal keeps, and input.
async fn command(provider: &ModalProvider, sandbox: &dyn Sandbox) {
    let kept = provider.kept_secret("team", "KEY").await.unwrap();
    let spec = ExecSpec {
        env: BTreeMap::from([("C".into(), "of the command".into())]),
        kept: BTreeMap::from([("KEY".into(), kept)]),
        stdin: true,
        ..sh("cat; echo said >&2; test -n \"$KEY\"")
    };
    let mut process = sandbox.exec(spec).await.unwrap();
    process.write(b"first ").await.unwrap();
    process.write(b"second").await.unwrap();
    process.close_stdin();
    end(process).await;
}

async fn end(mut process: Box<dyn Process>) {
    assert_eq!(process.wait().await.unwrap().code(), 0);
}

/// As a kill does: nothing is dropped, and only the lock goes.
fn crash(home: &Path, sandbox: Arc<dyn Sandbox>) {
    std::mem::forget(sandbox);
    std::fs::remove_file(home.join("modal/sandboxes/.run-main.lock")).unwrap();
}

/// As a kill does before the answer to a create is on disk.
fn forget(home: &Path) {
    let record = home.join("modal/sandboxes/run-main/modal.json");
    let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    value["sandbox"] = serde_json::Value::Null;
    std::fs::write(&record, value.to_string()).unwrap();
}
