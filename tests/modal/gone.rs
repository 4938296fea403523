//! The server is gone, at each call that there is: an error and no waiting for ever, nothing done twice, and, once it is
//! back, nothing left.

use crate::contract::sandbox::{sh, spec};
use crate::{connect, connect_by, served};
use harvest::capability::Result;
use harvest::capability::modal::Clock;
use harvest::capability::sandbox::modal::{ModalProvider, sandboxes};
use harvest::capability::sandbox::{ExecSpec, ImagePull, Network, SandboxProvider, SandboxSpec};
use modal_server::Server;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Far beyond what anything here takes: pauses take no time.
const LIMIT: Duration = Duration::from_secs(120);
/// Names the one command of the trial.
const MARK: &str = "the-only-command";

macro_rules! gone_at {
    ($($name:ident $rpc:literal,)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                gone_at($rpc).await;
            }
        )+
    };
}

gone_at! {
    app "AppGetOrCreate",
    environment "EnvironmentGetOrCreate",
    token "AuthTokenGet",
    secret "SecretGetOrCreate",
    image "ImageGetOrCreate",
    build "ImageJoinStreaming",
    volume "VolumeGetOrCreate",
    put_into_volume "VolumePutFiles2",
    get_from_volume "VolumeGetFile2",
    list_volume "VolumeListFiles2",
    remove_from_volume "VolumeRemoveFile2",
    list "SandboxListV2",
    create "SandboxCreateV2",
    wait_for_sandbox "SandboxWaitV2",
    start "TaskExecStart",
    read "TaskExecStdioRead",
    write "TaskExecStdinWrite",
    wait "TaskExecWait",
    reload "TaskReloadVolumes",
    network "TaskSetNetworkAccess",
    snapshot "TaskSnapshotFilesystem",
    terminate "SandboxTerminateV2",
}

/// Makes each call that a run makes.
async fn work(provider: &ModalProvider, spec: &SandboxSpec) -> Result<()> {
    provider.kept_secret("team", "KEY").await?;
    let pull = ImagePull { reference: "debian:bookworm-slim".into(), ..ImagePull::default() };
    provider.pull_image(&pull, None, Arc::new(|_| {})).await?;
    let volumes = provider.volumes();
    volumes.put("vol", "file", b"content", None).await?;
    volumes.get("vol", "file", 100).await?;
    volumes.entries("vol", "").await?;
    volumes.remove("vol", "file").await?;
    let sandbox = provider.open(spec.clone()).await?;
    let command = ExecSpec { stdin: true, ..sh(&format!("cat > /v/read # {MARK}")) };
    let mut process = sandbox.exec(command).await?;
    process.write(b"input").await?;
    process.close_stdin();
    assert_eq!(process.wait().await?.code(), 0);
    drop(process);
    sandbox.set_network(Network::Allow(vec!["example.com".into()])).await?;
    sandbox.snapshot().await?;
    sandbox.terminate().await
}

async fn gone_at(rpc: &str) {
    let home = tempfile::tempdir().expect("a directory");
    let server = served(home.path());
    let spec = SandboxSpec { volumes: BTreeMap::from([("/v".into(), "vol".into())]), ..spec() };
    let provider = connect_by(Clock::of_pauses(), home.path(), &server);
    server.faults().vanish_at(rpc);
    let ended = tokio::time::timeout(LIMIT, work(&provider, &spec)).await.expect("it hangs");
    assert!(server.faults().is_gone(), "{rpc} was not asked for");
    let error = ended.expect_err("nobody was there");
    assert!(["unavailable", "sandbox-lost"].contains(&error.kind.as_str()), "{error:?}");
    drop(provider);
    let left = async {
        while sandboxes(home.path()).expect("listed").iter().any(|(_, busy)| *busy) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, left).await.expect("the sandbox is held for ever");

    server.faults().clear();
    let second = connect(home.path(), &server);
    second.remove(&spec.id).await.expect("removed");
    assert_eq!(server.running(), Vec::<String>::new());
    assert_eq!(second.list().await, Ok(Vec::new()));
    assert!(keys(&server, "SandboxCreateV2").len() <= 1);
    assert!(commands(&server).len() <= 1);
}

/// Under how many keys something was asked for.
fn keys(server: &Server, rpc: &str) -> BTreeSet<String> {
    let calls = server.requests().into_iter().filter(|call| call.rpc == rpc);
    calls.map(|call| call.metadata["x-idempotency-key"].clone()).collect()
}

/// Ids under which the command of the trial was to be started.
fn commands(server: &Server) -> BTreeSet<String> {
    let calls = server.requests().into_iter().filter(|call| call.rpc == "TaskExecStart");
    let starts = calls.flat_map(|call| call.messages).filter(|start| start.to_string().contains(MARK));
    starts.map(|start| start["exec_id"].to_string()).collect()
}
