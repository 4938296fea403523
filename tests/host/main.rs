//! Components in the host: each thing a component can do wrong, and what becomes of it. Real components; the sandboxes
//! are scripted where only the host's side of them is under test.

mod scripted;

use base64::Engine as _;
use harvest::capability::registry::FileRegistry;
use harvest::capability::sandbox::SandboxSpec;
use harvest::capability::sandbox::local::LocalProvider;
use harvest::capability::secret::Secret;
use harvest::capability::stream::{Content, MemoryStreams, StreamEntry, StreamStore};
use harvest::host::{Components, HostExecutor, Library, Limits, Providers, RunSetup};
use harvest::id::{Digest, RunId, StepId};
use harvest::step::{ErrorKind, Executor, Permission, StepCall, StepError, StepResult};
use harvest::workflow::types::{Catalog, ComponentType};
use scripted::Scripted;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A run with one sandbox `box` and one secret `token`.
struct World {
    home: tempfile::TempDir,
    library: Library,
    executor: HostExecutor,
    streams: Arc<MemoryStreams>,
    provider: Arc<Scripted>,
    run: RunId,
}

const TOKEN: &str = "sk-canary-0123456789";

impl World {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        let home = tempfile::tempdir().unwrap();
        let library = Library::open(home.path()).unwrap();
        let streams = Arc::new(MemoryStreams::default());
        let provider = Arc::new(Scripted::default());
        let providers = Providers {
            sandboxes: provider.clone(),
            git: None,
            registry: Arc::new(FileRegistry::new(home.path())),
            streams: streams.clone(),
        };
        let executor = HostExecutor::with_limits(library.clone(), providers, limits);
        let run = RunId::generate();
        let spec = SandboxSpec { id: format!("{run}-box"), ..SandboxSpec::default() };
        let setup = RunSetup {
            sandboxes: BTreeMap::from([("box".into(), spec)]),
            secrets: BTreeMap::from([("token".into(), Secret::new("token", TOKEN).into())]),
            artifacts: home.path().join("artifacts"),
            ..RunSetup::default()
        };
        executor.register(&run, setup).unwrap();
        Self { home, library, executor, streams, provider, run }
    }

    fn builtin(&self, name: &str) -> Arc<ComponentType> {
        Components::new(self.library.clone(), self.home.path()).component(name).unwrap()
    }

    fn add(&self, bytes: &[u8]) -> Digest {
        self.library.add("test", bytes).unwrap().digest
    }

    fn call(&self, component: Digest, function: &str, arguments: Value) -> StepCall {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        StepCall {
            run: self.run.clone(),
            workflow: "test".into(),
            at: StepId::new("step").into(),
            idempotency_key: None,
            attempt: 1,
            component,
            function: function.into(),
            arguments,
            sandboxes: BTreeMap::from([("box".into(), "box".into())]),
            network: None,
            secrets: BTreeMap::new(),
            permissions: Vec::new(),
            timeout: Some(Duration::from_secs(60)),
            idle_timeout: None,
            lose_sandboxes: false,
            spent_before: 0,
            expenses: Default::default(),
        }
    }

    async fn execute(&self, call: StepCall) -> StepResult {
        self.executor.execute(call, CancellationToken::new()).await
    }

    async fn exec(&self, command: &[&str]) -> StepResult {
        let digest = self.builtin("exec").digest;
        self.execute(self.call(digest, "run", json!({"command": command}))).await
    }

    async fn entries(&self) -> Vec<StreamEntry> {
        let entries = self.streams.read(&self.run, 0, 10_000).await.unwrap();
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Everything that was said on a stream.
    async fn said(&self, stream: &str) -> String {
        let mut said = String::new();
        for entry in self.entries().await.into_iter().filter(|entry| entry.stream == stream) {
            match entry.content {
                Content::Text(text) => said.push_str(&text),
                Content::Data(value) => said.push_str(&format!("{value}\n")),
            }
        }
        said
    }
}

fn error(result: StepResult) -> StepError {
    result.expect_err("the step succeeded")
}

/// Components of a few lines, assembled from the texts beside them.
macro_rules! component {
    ($name:literal) => {
        include_bytes!(concat!("../components/", $name, ".wasm"))
    };
}

const SPIN: &[u8] = component!("spin");
const NOTHING: &[u8] = component!("nothing");
const GROW: &[u8] = component!("grow");
const TRAP: &[u8] = component!("trap");
const BABBLE: &[u8] = component!("babble");
const VOLUMES: &[u8] = component!("volumes");

#[test]
fn the_types_of_exec_are_read_from_its_component() {
    let exec = World::new().builtin("exec");
    assert_eq!(exec.name, "exec");
    assert!(exec.needs.is_empty());
    let run = exec.function("run").unwrap();
    assert_eq!(run.sandboxes, ["box"]);
    assert_eq!(run.any_secrets.as_deref(), Some("secrets"));
    let shown: Vec<String> =
        run.parameters.iter().map(|field| format!("{}: {}", field.name, field.ty)).collect();
    assert_eq!(
        shown,
        [
            "command: list<string>",
            "env: map<string>?",
            "workdir: string?",
            "stdin: string?",
            "allow_failure: bool?"
        ]
    );
    let shown: Vec<String> =
        run.outputs.iter().map(|field| format!("{}: {}", field.name, field.ty)).collect();
    assert_eq!(shown, ["exit_code: int", "stdout: string", "stderr: string"]);
    assert!(run.errors.as_ref().unwrap().contains(&ErrorKind::new("exited")));
    assert!(exec.function("python").is_some());
}

#[test]
fn files_that_are_no_components_are_named_for_what_they_are() {
    let world = World::new();
    let catalog = Components::new(world.library.clone(), world.home.path());
    let check = |name: &str, bytes: &[u8], expected: &str| {
        std::fs::write(world.home.path().join(name), bytes).unwrap();
        let error = catalog.component(&format!("./{name}")).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    };
    check("text.wasm", b"#!/bin/sh\n", "does not begin like WebAssembly");
    check("empty.wasm", b"", "does not begin like WebAssembly");
    check("module.wasm", component!("module"), "core WebAssembly module");
    check("cut.wasm", &NOTHING[..NOTHING.len() / 2], "no valid component");
    check("header.wasm", &NOTHING[..6], "truncated");
    check("nothing.wasm", component!("empty"), "exports no step function");
    check("foreign.wasm", component!("foreign"), "acme:rocket/launch@1.0.0");

    let missing = catalog.component("./missing.wasm").unwrap_err();
    assert!(missing.contains("there is no file"), "{missing}");
    let unknown = catalog.component("gti").unwrap_err();
    assert!(unknown.contains("built in are claude, exec, git, image, memory, notify, repos"), "{unknown}");
}

#[test]
fn a_run_does_not_depend_on_files_that_change() {
    let world = World::new();
    let path = world.home.path().join("own.wasm");
    std::fs::write(&path, NOTHING).unwrap();
    let catalog = Components::new(world.library.clone(), world.home.path());
    let digest = catalog.component("./own.wasm").unwrap().digest;
    std::fs::write(&path, "something else").unwrap();
    // Compiled forms may be deleted at any time, too.
    std::fs::remove_dir_all(world.home.path().join("cache")).unwrap();
    let library = Library::open(world.home.path()).unwrap();
    library.load(&digest).unwrap();
}

#[test]
fn a_compiled_form_that_others_can_write_is_not_run() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let digest = world.add(NOTHING);
    let compiled = world.home.path().join("cache/compiled");
    let code = || {
        let mut entries = std::fs::read_dir(&compiled).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| path.extension().is_some_and(|ending| ending == "cwasm")).unwrap()
    };
    // Loading this file would fail, and running another's would be worse.
    std::fs::write(code(), "evil").unwrap();
    std::fs::set_permissions(code(), std::fs::Permissions::from_mode(0o666)).unwrap();
    world.library.load(&digest).unwrap();
    assert_ne!(std::fs::read(code()).unwrap(), b"evil");
}

#[tokio::test]
async fn exec_returns_what_the_command_said_and_copies_it_to_the_streams() {
    let world = World::new();
    let outputs = world.exec(&["say", "one\n", "two\n"]).await.unwrap();
    assert_eq!(Value::Object(outputs), json!({"exit_code": 0, "stdout": "one\ntwo\n", "stderr": ""}));
    assert_eq!(world.said("stdout").await, "one\ntwo\n");
    assert_eq!(world.provider.live.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_command_that_fails_is_an_error_with_its_last_words() {
    let world = World::new();
    let failed = error(world.exec(&["fail", "3", "no such luck"]).await);
    assert_eq!(failed.to_string(), "exited: fail exited with code 3: no such luck");

    let digest = world.builtin("exec").digest;
    let arguments = json!({"command": ["fail", "3", "x"], "allow_failure": true});
    let outputs = world.execute(world.call(digest, "run", arguments)).await.unwrap();
    assert_eq!(outputs["exit_code"], 3);
    assert_eq!(error(world.exec(&["nonsense"]).await).kind, ErrorKind::NOT_FOUND);
}

#[tokio::test]
async fn standard_input_reaches_the_command() {
    let world = World::new();
    let digest = world.builtin("exec").digest;
    let arguments = json!({"command": ["cat"], "stdin": "héllo"});
    let outputs = world.execute(world.call(digest, "run", arguments)).await.unwrap();
    assert_eq!(outputs["stdout"], "héllo");
}

#[tokio::test]
async fn a_secret_leaves_a_step_nowhere() {
    let world = World::new();
    let digest = world.builtin("exec").digest;
    let mut call = world.call(digest, "run", json!({"command": ["env", "api_key"]}));
    call.secrets = BTreeMap::from([("api_key".into(), "token".into())]);
    let outputs = world.execute(call).await.unwrap();
    assert_eq!(outputs["stdout"], "***");
    assert_eq!(world.said("stdout").await, "***");

    let failed = error(world.exec(&["fail", "1", &format!("denied: {TOKEN}")]).await);
    assert_eq!(failed.message, "fail exited with code 1: denied: ***");
    assert!(!format!("{:?}", world.entries().await).contains(TOKEN));
}

#[tokio::test]
async fn a_secret_too_short_to_mask_is_refused() {
    let world = World::new();
    let setup = RunSetup {
        secrets: BTreeMap::from([("pin".into(), Secret::new("pin", "1234").into())]),
        ..RunSetup::default()
    };
    let refused = world.executor.register(&RunId::generate(), setup).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::INVALID);
    assert!(refused.message.contains("secret pin has 4 bytes"), "{refused}");
}

#[tokio::test]
async fn an_unbound_slot_and_a_wrong_argument_are_named() {
    let world = World::new();
    let digest = world.builtin("exec").digest;
    let mut call = world.call(digest, "run", json!({"command": ["say"]}));
    call.secrets = BTreeMap::from([("api_key".into(), "unknown".into())]);
    let unbound = error(world.execute(call).await);
    assert!(unbound.message.contains("no secret is bound to api_key"), "{unbound}");

    let wrong = error(world.execute(world.call(digest, "run", json!({"command": ["say", 3]}))).await);
    assert_eq!(wrong.to_string(), "invalid: command[1]: expected a string, found 3");
    let missing = error(world.execute(world.call(digest, "run", json!({}))).await);
    assert_eq!(missing.to_string(), "invalid: with.command is missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_spinning_guests_than_threads_do_not_stop_a_healthy_one() {
    // A budget that is not used up before the healthy ones are through, however busy the machine is.
    let world = Arc::new(World::with_limits(Limits { cpu: Duration::from_secs(3600), ..Limits::default() }));
    let (spin, nothing) = (world.add(SPIN), world.add(NOTHING));
    let cancel = CancellationToken::new();
    let spinning: Vec<_> = (0..5)
        .map(|_| {
            let (world, cancel) = (world.clone(), cancel.clone());
            let call = world.call(spin, "spin", json!({}));
            tokio::spawn(async move { world.executor.execute(call, cancel).await })
        })
        .collect();
    for _ in 0..3 {
        world.execute(world.call(nothing, "nothing", json!({}))).await.unwrap();
    }
    assert!(spinning.iter().all(|task| !task.is_finished()));
    cancel.cancel();
    for task in spinning {
        assert_eq!(error(task.await.unwrap()).kind, ErrorKind::CANCELLED);
    }
}

#[tokio::test]
async fn a_guest_that_spins_is_trapped_at_its_budget() {
    let world = World::with_limits(Limits { cpu: Duration::from_millis(50), ..Limits::default() });
    let spin = world.add(SPIN);
    let trapped = error(world.execute(world.call(spin, "spin", json!({}))).await);
    assert_eq!(trapped.to_string(), "trapped: the component used up its CPU budget of 50 ms");
}

#[tokio::test]
async fn waiting_in_a_host_call_costs_no_cpu_budget() {
    let limits = Limits { cpu: Duration::from_millis(50), ..Limits::default() };
    let world = World::with_limits(limits);
    let began = std::time::Instant::now();
    let outputs = world.exec(&["slow", "60"]).await.unwrap();
    assert_eq!(outputs["stdout"], "1\n2\n3\n");
    assert!(began.elapsed() >= 3 * limits.cpu);
}

#[tokio::test]
async fn taking_memory_without_end_ends_the_step() {
    let world = World::with_limits(Limits { memory: 8 << 20, ..Limits::default() });
    let grow = world.add(GROW);
    let failed = error(world.execute(world.call(grow, "grow", json!({}))).await);
    assert_eq!(failed.to_string(), "out-of-memory: the component asked for more than its 8 MiB of memory");
}

#[tokio::test]
async fn a_trap_is_an_error_of_the_step() {
    let world = World::new();
    let trap = world.add(TRAP);
    let failed = error(world.execute(world.call(trap, "trap", json!({}))).await);
    assert_eq!(failed.kind, ErrorKind::TRAPPED);
    assert!(failed.message.contains("unreachable"), "{failed}");
}

#[tokio::test]
async fn talking_without_end_is_cut_and_bounded_by_the_time_limit() {
    let world = World::with_limits(Limits { cpu: Duration::from_millis(300), ..Limits::default() });
    let babble = world.add(BABBLE);
    let failed = error(world.execute(world.call(babble, "babble", json!({}))).await);
    assert_eq!(failed.kind, ErrorKind::TRAPPED, "{failed}");

    let exec = world.builtin("exec").digest;
    let mut call = world.call(exec, "run", json!({"command": ["spew"]}));
    call.timeout = Some(Duration::from_millis(500));
    let failed = error(world.execute(call).await);
    assert!([ErrorKind::TIMED_OUT, ErrorKind::TRAPPED].contains(&failed.kind), "{failed}");
    assert_eq!(world.provider.live.load(Ordering::SeqCst), 0);
    let kept: usize = world.said("stdout").await.len();
    assert!(kept <= 16 << 20, "{kept}");
}

#[tokio::test]
async fn an_ambient_power_needs_a_grant() {
    let world = World::new();
    let volumes = world.add(VOLUMES);
    let denied = error(world.execute(world.call(volumes, "nothing", json!({}))).await);
    assert_eq!(
        denied.to_string(),
        "denied: the component needs the permission volumes: write `permissions: [volumes]` in the step"
    );
    let mut call = world.call(volumes, "nothing", json!({}));
    call.permissions = vec![Permission::Volumes];
    assert_eq!(world.execute(call).await.unwrap(), Map::new());
}

#[tokio::test]
async fn time_limits_end_a_command_that_hangs() {
    let world = World::new();
    let exec = world.builtin("exec").digest;
    let mut call = world.call(exec, "run", json!({"command": ["hang"]}));
    call.timeout = Some(Duration::from_millis(50));
    let failed = error(world.execute(call.clone()).await);
    assert_eq!(failed.to_string(), "timed-out: the attempt took longer than 50 ms");

    call.timeout = None;
    call.idle_timeout = Some(Duration::from_millis(50));
    let failed = error(world.execute(call).await);
    assert_eq!(failed.to_string(), "idle-timed-out: the attempt said nothing for 50 ms");
    assert_eq!(world.provider.live.load(Ordering::SeqCst), 0);

    // Output is a sign of life.
    let mut call = world.call(exec, "run", json!({"command": ["slow", "60"]}));
    call.idle_timeout = Some(Duration::from_millis(150));
    world.execute(call).await.unwrap();
}

/// Cancels a command once it runs: it gets these signals, and nothing of it is left.
async fn stops_and_leaves_nothing(world: &World, command: &str, signals: &[i32]) {
    let cancel = CancellationToken::new();
    let call = world.call(world.builtin("exec").digest, "run", json!({"command": [command]}));
    let executing = world.executor.execute(call, cancel.clone());
    let cancelling = async {
        while world.provider.live.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(executing, cancelling);
    assert_eq!(error(result).kind, ErrorKind::CANCELLED);
    assert_eq!(*world.provider.signals.lock().unwrap(), signals);
    assert_eq!(world.provider.live.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn cancelling_interrupts_before_it_kills() {
    stops_and_leaves_nothing(&World::new(), "hang", &[2]).await;
}

#[tokio::test]
async fn what_does_not_end_by_an_interruption_is_asked_in_another_way() {
    let limits = Limits { grace: Duration::from_millis(300), ..Limits::default() };
    stops_and_leaves_nothing(&World::with_limits(limits), "shell", &[2, 15]).await;
}

#[tokio::test]
async fn what_ignores_both_is_killed() {
    let limits = Limits { grace: Duration::from_millis(20), ..Limits::default() };
    stops_and_leaves_nothing(&World::with_limits(limits), "stubborn", &[2, 15]).await;
}

#[tokio::test]
async fn a_sandbox_is_opened_once_and_removed_with_the_run() {
    let world = World::new();
    let (first, second) = tokio::join!(world.exec(&["say", "a"]), world.exec(&["say", "b"]));
    first.and(second).unwrap();
    assert_eq!(world.provider.opened.load(Ordering::SeqCst), 1);
    world.executor.release(&world.run, false).await;
    assert_eq!(*world.provider.removed.lock().unwrap(), [format!("{}-box", world.run)]);
    assert_eq!(
        error(world.exec(&["say"]).await).message,
        format!("run {} is not registered here", world.run)
    );
}

#[tokio::test]
async fn a_real_command_prints_a_secret_in_vain() {
    let world = World::new();
    let launcher = std::env::var_os("HARVEST_TEST_LAUNCHER")
        .map_or_else(|| env!("CARGO_BIN_EXE_harvest").into(), std::path::PathBuf::from);
    let provider = LocalProvider::new(world.home.path(), launcher, Vec::new()).unwrap();
    let providers = Providers {
        sandboxes: Arc::new(provider),
        git: None,
        registry: Arc::new(FileRegistry::new(world.home.path())),
        streams: world.streams.clone(),
    };
    let executor = HostExecutor::new(world.library.clone(), providers);
    let spec =
        SandboxSpec { id: format!("{}-real", world.run), image: "host".into(), ..SandboxSpec::default() };
    let setup = RunSetup {
        sandboxes: BTreeMap::from([("box".into(), spec)]),
        secrets: BTreeMap::from([("token".into(), Secret::new("token", TOKEN).into())]),
        ..RunSetup::default()
    };
    executor.register(&world.run, setup).unwrap();
    let script = r#"printf '%s\n' "$KEY"; printf 'ab%s' "$KEY" | base64; printf %s "$KEY" | cut -c1-9 | tr -d '\n'; sleep 0.1; printf %s "$KEY" | cut -c10-; exit 3"#;
    let exec = world.builtin("exec").digest;
    let mut call = world.call(exec, "run", json!({"command": ["sh", "-c", script], "allow_failure": true}));
    call.secrets = BTreeMap::from([("KEY".into(), "token".into())]);
    let outputs = executor.execute(call, CancellationToken::new()).await.unwrap();
    executor.release(&world.run, false).await;
    assert_eq!(outputs["exit_code"], 3);
    let said = world.said("stdout").await;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("ab{TOKEN}"));
    for text in [said.as_str(), outputs["stdout"].as_str().unwrap()] {
        assert_eq!(text.matches("***").count(), 3, "{text}");
        assert!(!text.contains(&TOKEN[..9]) && !text.contains(&encoded[4..20]), "{text}");
    }
}
