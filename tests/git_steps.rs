//! The components `git` and `memory` as the host runs them: real components, real sandboxes, real repositories.

mod harness;

use harness::repository::git;
use harvest::capability::git::LocalGit;
use harvest::capability::registry::FileRegistry;
use harvest::capability::sandbox::local::LocalProvider;
use harvest::capability::sandbox::{SandboxProvider as _, SandboxSpec};
use harvest::capability::stream::MemoryStreams;
use harvest::host::{Components, HostExecutor, Library, Providers, RunSetup};
use harvest::id::{RunId, StepId};
use harvest::step::{ErrorKind, Executor as _, StepCall, StepError, StepResult};
use harvest::workflow::types::Catalog as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A host with a home, and runs on it.
struct Host {
    directory: tempfile::TempDir,
    executor: HostExecutor,
    components: Components,
    provider: Arc<LocalProvider>,
}

/// A run with one sandbox.
struct Run<'a> {
    host: &'a Host,
    id: RunId,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let provider =
            Arc::new(LocalProvider::new(&home, env!("CARGO_BIN_EXE_harvest").into(), Vec::new()).unwrap());
        let environment = BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]);
        let providers = Providers {
            sandboxes: provider.clone(),
            git: Some(Arc::new(LocalGit::new(&home, environment).unwrap())),
            registry: Arc::new(FileRegistry::new(&home)),
            streams: Arc::new(MemoryStreams::default()),
        };
        let library = Library::open(&home).unwrap();
        let components = Components::new(library.clone(), &home);
        Self { executor: HostExecutor::new(library, providers), components, provider, directory }
    }

    fn repository(&self, name: &str) -> PathBuf {
        let path = self.directory.path().canonicalize().unwrap().join(name);
        std::fs::create_dir_all(&path).unwrap();
        git(&path, &["init", "-q"]);
        std::fs::write(path.join("file.txt"), "one\n").unwrap();
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-qm", "first"]);
        path
    }

    fn run(&self) -> Run<'_> {
        let id = RunId::generate();
        let spec = SandboxSpec { id: format!("{id}-box"), image: "host".into(), ..SandboxSpec::default() };
        let digest = |name: &str| (self.components.component(name).unwrap().digest, name.to_owned());
        let setup = RunSetup {
            sandboxes: BTreeMap::from([("box".into(), spec)]),
            components: ["git", "memory", "exec"].map(digest).into(),
            artifacts: self.directory.path().join("home/artifacts").join(id.as_str()),
            ..RunSetup::default()
        };
        self.executor.register(&id, setup).unwrap();
        Run { host: self, id }
    }
}

impl Run<'_> {
    async fn attempt(&self, uses: &str, arguments: Value, attempt: u32) -> StepResult {
        let (component, function) = uses.split_once('/').unwrap();
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        let call = StepCall {
            run: self.id.clone(),
            workflow: "test".into(),
            at: StepId::new(function).into(),
            idempotency_key: None,
            attempt,
            component: self.host.components.component(component).unwrap().digest,
            function: function.into(),
            arguments,
            sandboxes: BTreeMap::from([("box".into(), "box".into())]),
            network: None,
            secrets: BTreeMap::new(),
            permissions: Vec::new(),
            timeout: Some(Duration::from_secs(120)),
            idle_timeout: None,
            lose_sandboxes: false,
            spent_before: 0,
            expenses: Default::default(),
        };
        self.host.executor.execute(call, CancellationToken::new()).await
    }

    async fn ok(&self, uses: &str, arguments: Value) -> Value {
        self.attempt(uses, arguments, 1).await.unwrap_or_else(|error| panic!("{uses}: {error}")).into()
    }

    async fn error(&self, uses: &str, arguments: Value) -> StepError {
        self.attempt(uses, arguments, 1).await.expect_err(uses)
    }

    async fn sh(&self, script: &str) -> String {
        let outputs = self.ok("exec/run", json!({"command": ["sh", "-ec", script]})).await;
        outputs["stdout"].as_str().unwrap().trim().to_owned()
    }

    /// Clones and says who commits.
    async fn clone(&self, repository: &Path) -> Value {
        let cloned = self.ok("git/clone", json!({"repo": repository})).await;
        let who = json!({"path": cloned["path"], "name": "Developer", "email": "dev@example.com"});
        let author = self.ok("git/configure", who).await;
        assert_eq!(author, json!({"author": "Developer (Harvest) <dev@example.com>"}));
        cloned
    }

    async fn end(self) {
        self.host.executor.release(&self.id, false).await;
        assert_eq!(self.host.provider.list().await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_clones_commits_and_its_work_outlives_the_sandbox() {
    let host = Host::new();
    let repository = host.repository("project");
    let head = git(&repository, &["rev-parse", "HEAD"]);
    let run = host.run();
    let cloned = run.clone(&repository).await;
    assert_eq!(cloned, json!({"path": "/workspace/project", "sha": head, "branch": "main"}));
    let state =
        run.sh("cd /workspace/project; git status -sb; git remote get-url origin; ls -A /workspace").await;
    assert_eq!(state, format!("## main...origin/main\n{}\nproject", repository.display()));

    let nothing = run.ok("git/commit", json!({"path": cloned["path"], "message": "m"})).await;
    assert_eq!((&nothing["changed"], &nothing["sha"]), (&json!(false), &Value::Null));
    assert_eq!(run.ok("git/snapshot", json!({"path": cloned["path"]})).await["sha"], Value::Null);

    // An agent's own commit, a file it left, and a hook that it wrote: that runs, but inside.
    run.sh("cd /workspace/project; echo two >> file.txt; git commit -qam own; echo new > 'a b.txt';
         printf '#!/bin/sh\\ntouch /hook-ran\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit")
        .await;
    let kept = run.ok("git/snapshot", json!({"path": cloned["path"]})).await;
    assert_eq!(kept["ref"], format!("refs/heads/harvest/{}", run.id));
    assert_eq!(git(&repository, &["show", &format!("{}:a b.txt", kept["sha"].as_str().unwrap())]), "new");
    assert_eq!(
        run.sh("cd /workspace/project; git status --porcelain; git log -1 --format=%s").await,
        "?? \"a b.txt\"\nown"
    );

    let committed = run.ok("git/commit", json!({"path": cloned["path"], "message": "Add a file"})).await;
    assert_eq!(committed["files"], json!(["a b.txt", "file.txt"]));
    assert_eq!(
        run.sh("ls /hook-ran; git -C /workspace/project rev-parse HEAD").await.lines().nth(1),
        committed["sha"].as_str()
    );
    let id = run.id.clone();
    run.end().await;

    let line: Vec<&str> = committed["fetch"].as_str().unwrap().split(' ').skip(1).collect();
    git(&repository, &line);
    assert_eq!(git(&repository, &["rev-parse", "FETCH_HEAD"]), committed["sha"].as_str().unwrap());
    let message = git(&repository, &["log", "-1", "--format=%an <%ae>%n%B", "FETCH_HEAD"]);
    assert_eq!(message, format!("Developer (Harvest) <dev@example.com>\nAdd a file\n\nHarvest-Run: {id}"));
    assert_eq!(git(&repository, &["rev-parse", "HEAD"]), head);
    assert_eq!(git(&repository, &["status", "--porcelain"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn clone_replaces_its_own_earlier_attempt_and_nothing_else() {
    let host = Host::new();
    let repository = host.repository("project");
    let run = host.run();
    run.sh("mkdir -p /workspace/project/.git /other/project; echo mine > /other/project/file").await;
    run.sh("rmdir /workspace/project/.git").await;
    let arguments = json!({"repo": repository, "depth": 1});
    run.ok("git/clone", arguments.clone()).await;
    run.sh("echo stale > /workspace/project/stale").await;
    run.attempt("git/clone", arguments, 2).await.unwrap();
    assert_eq!(run.sh("ls /workspace/project").await, "file.txt");
    let error = run.error("git/clone", json!({"repo": repository, "into": "/other"})).await;
    assert_eq!(error.kind, ErrorKind::CONFLICT, "{error}");
    assert_eq!(run.sh("cat /other/project/file").await, "mine");
    let error = run.error("git/clone", json!({"repo": repository, "ref": "nope", "into": "/x"})).await;
    assert_eq!(error.kind, ErrorKind::NOT_FOUND, "{error}");
    run.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_cannot_choose_where_its_work_goes() {
    let host = Host::new();
    let (repository, other) = (host.repository("project"), host.repository("other"));
    let run = host.run();
    let cloned = run.clone(&repository).await;
    run.sh(&format!(
        "cd /workspace/project; git remote set-url origin {0}; git config url.{0}.insteadOf {1}; echo x > x",
        other.display(),
        repository.display()
    ))
    .await;
    run.ok("git/commit", json!({"path": cloned["path"], "message": "m"})).await;
    assert_eq!(git(&other, &["for-each-ref", "refs/heads/harvest"]), "");
    assert!(git(&repository, &["for-each-ref", "refs/heads/harvest"]).contains(run.id.as_str()));
    // A tree that git/clone did not make leads nowhere.
    run.sh("cp -a /workspace/project /workspace/copy").await;
    let error = run.error("git/commit", json!({"path": "/workspace/copy", "message": "m"})).await;
    assert_eq!(error.kind, ErrorKind::NOT_FOUND, "{error}");
    run.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn push_refuses_or_rebases_where_the_branch_moved_on() {
    let host = Host::new();
    let repository = host.repository("project");
    let bare = host.directory.path().canonicalize().unwrap().join("bare.git");
    git(&repository, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let run = host.run();
    let cloned = run.clone(&bare).await;
    run.sh("cd /workspace/bare; echo mine > mine; git add -A; git commit -qm mine").await;
    std::fs::write(repository.join("theirs"), "theirs").unwrap();
    git(&repository, &["add", "-A"]);
    git(&repository, &["commit", "-qm", "theirs"]);
    git(&repository, &["push", "-q", bare.to_str().unwrap(), "main"]);
    let error = run.error("git/push", json!({"path": cloned["path"]})).await;
    assert_eq!(error.kind, ErrorKind::CONFLICT, "{error}");
    let pushed = run.ok("git/push", json!({"path": cloned["path"], "strategy": "fetch-rebase"})).await;
    assert_eq!(pushed["ref"], "refs/heads/main");
    assert_eq!(git(&bare, &["log", "--format=%s", "main"]), "mine\ntheirs\nfirst");
    let found = run.ok("git/ls_remote", json!({"repo": bare, "ref": "main"})).await;
    assert_eq!(found["sha"], pushed["sha"]);
    run.end().await;
}

/// A line of the memory server's.
fn entity(name: &str) -> String {
    json!({"type": "entity", "name": name, "entityType": "t", "observations": ["o"]}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_at_once_keep_both_their_memories() {
    let host = Host::new();
    let repository = host.repository("project");
    let (first, second) = (host.run(), host.run());
    let arguments = json!({"repo": repository, "seed": "/seed.json"});
    let missing = first.error("memory/mount", arguments.clone()).await;
    assert_eq!(missing.kind, ErrorKind::NOT_FOUND, "{missing}");
    let seed =
        json!({"entities": [{"name": "seed", "entityType": "t", "observations": ["o"]}], "relations": []});
    first.sh(&format!("echo '{seed}' > /seed.json")).await;
    let mounted = first.ok("memory/mount", arguments.clone()).await;
    assert_eq!(mounted, json!({"path": "/root/.mcp-memory/memory.jsonl", "entities": 1, "seeded": true}));
    let mounted = second.ok("memory/mount", arguments).await;
    assert_eq!((&mounted["entities"], &mounted["seeded"]), (&json!(1), &json!(false)));
    first.sh(&format!("echo '{}' >> /root/.mcp-memory/memory.jsonl", entity("first"))).await;
    second.sh(&format!("echo '{}' > /root/.mcp-memory/memory.jsonl", entity("second"))).await;
    let arguments = json!({"repo": repository});
    assert_eq!(first.ok("memory/save", arguments.clone()).await, json!({"entities": 2, "merged": false}));
    // The second deleted the seed, which stays deleted, and added its own.
    assert_eq!(second.ok("memory/save", arguments.clone()).await, json!({"entities": 2, "merged": true}));
    let third = host.run();
    third.ok("memory/mount", arguments).await;
    let text = third.sh("cat /root/.mcp-memory/memory.jsonl").await;
    assert!(
        text.contains("\"first\"") && text.contains("\"second\"") && !text.contains("\"seed\""),
        "{text}"
    );
    let volumes = host.provider.volumes().list().await.unwrap();
    assert!(
        volumes.iter().any(|name| name.starts_with("harvest-memory-") && name.ends_with("-project")),
        "{volumes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_whose_names_run_together_have_memories_of_their_own() {
    let host = Host::new();
    let run = host.run();
    for (repo, entities) in [("a-b/c", 0), ("a/b-c", 0), ("A-B/c", 1)] {
        let mounted = run.ok("memory/mount", json!({"repo": repo, "dir": "/memory"})).await;
        assert_eq!(mounted["entities"], entities, "{repo}");
        run.sh(&format!("echo '{}' > /memory/memory.jsonl", entity(repo))).await;
        run.ok("memory/save", json!({"repo": repo, "dir": "/memory"})).await;
    }
    let volumes = host.provider.volumes().list().await.unwrap();
    assert_eq!(volumes.len(), 2, "{volumes:?}");
    assert!(volumes.contains(&"harvest-memory-a-b-c".to_owned()), "{volumes:?}");
    run.end().await;
}
