//! One session on one remote, with others who push to it.

use crate::repository::git;
use crate::world::World;
use harvest::capability::sandbox::SandboxSpec;
use harvest::capability::secret::Secret;
use harvest::host::RunSetup;
use harvest::id::{RunId, StepId};
use harvest::step::{Executor as _, StepCall, StepResult};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A session's run, its tree, its remote, and another's clone of that.
pub(crate) struct Session<'a> {
    pub(crate) world: &'a World,
    pub(crate) run: RunId,
    pub(crate) remote: PathBuf,
    pub(crate) tree: PathBuf,
    pub(crate) others: Others,
}

/// Somebody else with a clone of the remote.
#[derive(Clone)]
pub(crate) struct Others {
    clone: PathBuf,
    pushed: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Others {
    /// They change a file, on top of what the remote has, and push.
    pub(crate) fn push(&self, file: &str, content: &str) -> String {
        git(&self.clone, &["fetch", "-q", "origin", "main"]);
        git(&self.clone, &["reset", "-q", "--hard", "FETCH_HEAD"]);
        std::fs::write(self.clone.join(file), content).unwrap();
        git(&self.clone, &["add", "-A"]);
        git(&self.clone, &["commit", "-q", "--allow-empty", "-m", &format!("theirs: {file}")]);
        git(&self.clone, &["push", "-q", "origin", "HEAD:main"]);
        let sha = git(&self.clone, &["rev-parse", "HEAD"]);
        self.pushed.lock().unwrap().push(sha.clone());
        sha
    }

    /// The commits that they have pushed.
    pub(crate) fn pushed(&self) -> Vec<String> {
        self.pushed.lock().unwrap().clone()
    }
}

impl<'a> Session<'a> {
    /// Clones a fresh remote into a tree.
    pub(crate) async fn new(world: &'a World) -> Session<'a> {
        Self::with_secrets(world, BTreeMap::new()).await
    }

    /// The same in a run that has these secrets.
    pub(crate) async fn with_secrets(world: &'a World, secrets: BTreeMap<String, String>) -> Session<'a> {
        let run = RunId::generate();
        let place = world.path(run.as_str());
        let (seed, remote, clone) = (place.join("seed"), place.join("remote.git"), place.join("others"));
        std::fs::create_dir_all(&seed).unwrap();
        git(&seed, &["init", "-q"]);
        for file in ["a", "b", "c"] {
            std::fs::write(seed.join(file), "one\n").unwrap();
        }
        git(&seed, &["add", "-A"]);
        git(&seed, &["commit", "-qm", "zero"]);
        git(&seed, &["commit", "-qm", "first", "--allow-empty"]);
        git(&seed, &["clone", "-q", "--bare", ".", remote.to_str().unwrap()]);
        git(&place, &["clone", "-q", remote.to_str().unwrap(), clone.to_str().unwrap()]);
        let spec = SandboxSpec { id: format!("{run}-box"), image: "host".into(), ..SandboxSpec::default() };
        let digest = world.component();
        let setup = RunSetup {
            sandboxes: BTreeMap::from([("box".into(), spec)]),
            components: BTreeMap::from([(digest, "git".into())]),
            artifacts: world.path("home/artifacts").join(run.as_str()),
            secrets: secrets
                .into_iter()
                .map(|(name, text)| (name.clone(), Secret::new(name, text).into()))
                .collect(),
            ..RunSetup::default()
        };
        world.executor.register(&run, setup).unwrap();
        world.fuse.set(None, Vec::new());
        let others = Others { clone, pushed: std::sync::Arc::default() };
        let session = Self { world, run, remote, tree: place.join("tree/remote"), others };
        let into = session.tree.parent().unwrap();
        session.step("clone", json!({"repo": session.remote, "into": into}), 1).await.unwrap();
        let who = json!({"path": session.tree, "name": "Dev", "email": "dev@example.com"});
        session.step("configure", who, 1).await.unwrap();
        session
    }

    /// An attempt of a step of `git`.
    pub(crate) async fn step(&self, function: &str, arguments: Value, attempt: u32) -> StepResult {
        self.step_with(function, arguments, attempt, &[]).await
    }

    /// The same with secrets bound to slots.
    pub(crate) async fn step_with(
        &self,
        function: &str,
        arguments: Value,
        attempt: u32,
        secrets: &[(&str, &str)],
    ) -> StepResult {
        self.step_at(StepId::new(function), function, arguments, attempt, secrets).await
    }

    /// The same as another step of the workflow.
    pub(crate) async fn step_at(
        &self,
        step: StepId,
        function: &str,
        arguments: Value,
        attempt: u32,
        secrets: &[(&str, &str)],
    ) -> StepResult {
        let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
        let call = StepCall {
            run: self.run.clone(),
            workflow: "test".into(),
            at: step.into(),
            idempotency_key: None,
            attempt,
            component: self.world.component(),
            function: function.into(),
            arguments,
            sandboxes: BTreeMap::from([("box".into(), "box".into())]),
            network: None,
            secrets: secrets.iter().map(|(slot, name)| ((*slot).to_owned(), (*name).to_owned())).collect(),
            permissions: Vec::new(),
            timeout: Some(Duration::from_secs(120)),
            idle_timeout: None,
            lose_sandboxes: false,
            spent_before: 0,
            expenses: Default::default(),
        };
        self.world.executor.execute(call, CancellationToken::new()).await
    }

    pub(crate) async fn push(&self, strategy: &str) -> StepResult {
        self.step("push", json!({"path": self.tree, "strategy": strategy}), 1).await
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.tree, args)
    }

    pub(crate) fn write(&self, file: &str, content: &str) {
        std::fs::write(self.tree.join(file), content).unwrap();
    }

    /// The session commits all there is, by git itself.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn subjects(&self, branch: &str) -> String {
        git(&self.remote, &["log", "--format=%s", branch]).replace('\n', ", ")
    }

    /// What outlives the sandbox: all objects that refs of the host's copy of this run and of the remote lead to.
    pub(crate) fn kept(&self) -> BTreeSet<String> {
        let run = format!("refs/harvest/{}/", self.run);
        let mut kept = reachable(&self.remote, "refs/");
        for copy in self.world.copies() {
            kept.extend(reachable(&copy, &run));
        }
        kept
    }
}

/// The objects that the refs below `prefix` lead to.
pub(crate) fn reachable(repository: &Path, prefix: &str) -> BTreeSet<String> {
    let refs = git(repository, &["for-each-ref", "--format=%(objectname)", prefix]);
    if refs.is_empty() {
        return BTreeSet::new();
    }
    let mut words = vec!["rev-list", "--objects", "--no-object-names"];
    words.extend(refs.lines());
    git(repository, &words).lines().map(str::to_owned).collect()
}
