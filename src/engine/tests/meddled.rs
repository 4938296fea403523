//! Drivers whose journal another process writes to, right behind one of their own records.

use super::*;
use crate::journal::{RunFilter, VerifyReport};
use crate::run::{Terms, Version};
use futures_util::future::BoxFuture;
use std::sync::OnceLock;

/// What is done right behind a record, once.
type Deed = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// A journal with somebody who waits for a record to be written.
#[derive(Default)]
struct Meddled {
    journal: MemoryJournal,
    /// The words in the record that is waited for, and what follows it.
    deed: Mutex<Option<(&'static str, Deed)>>,
}

#[async_trait]
impl Journal for Meddled {
    async fn append(
        &self,
        run: &RunId,
        seq: u64,
        records: Vec<Record>,
        row: RunRow,
    ) -> Result<(), JournalError> {
        let payloads: Vec<String> =
            records.iter().map(|record| String::from_utf8_lossy(&record.payload).into_owned()).collect();
        self.journal.append(run, seq, records, row).await?;
        let deed = {
            let mut deed = self.deed.lock().unwrap();
            let due =
                |(words, _): &mut (&'static str, Deed)| payloads.iter().any(|text| text.contains(*words));
            deed.take_if(due)
        };
        if let Some((_, deed)) = deed {
            deed().await;
        }
        Ok(())
    }

    async fn read(&self, run: &RunId, after: u64, limit: usize) -> Result<Vec<Record>, JournalError> {
        self.journal.read(run, after, limit).await
    }

    async fn row(&self, run: &RunId) -> Result<Option<RunRow>, JournalError> {
        self.journal.row(run).await
    }

    async fn list(&self, filter: RunFilter, limit: usize) -> Result<Vec<RunRow>, JournalError> {
        self.journal.list(filter, limit).await
    }

    async fn unfinished(
        &self,
        after: Option<RunId>,
        limit: usize,
    ) -> Result<Vec<(RunId, u64)>, JournalError> {
        self.journal.unfinished(after, limit).await
    }

    async fn stirred(&self, since: u64) -> u64 {
        self.journal.stirred(since).await
    }

    async fn changed(&self, run: &RunId, after: u64) {
        self.journal.changed(run, after).await;
    }

    async fn delete(&self, runs: &[RunId]) -> Result<(), JournalError> {
        self.journal.delete(runs).await
    }

    async fn verify(&self) -> Result<VerifyReport, JournalError> {
        self.journal.verify().await
    }
}

/// An engine on such a journal.
struct Scene {
    journal: Arc<Meddled>,
    executor: Arc<Scripted>,
    engine: Engine,
    _home: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (journal, executor) = (Arc::new(Meddled::default()), Scripted::new());
        let engine = Engine::new(
            journal.clone(),
            executor.clone(),
            executor.clone(),
            Arc::new(SystemClock),
            home.path(),
        );
        Self { journal, executor, engine, _home: home }
    }

    async fn begin(&self, steps: &[(&str, Step)]) -> RunId {
        let id = RunId::generate();
        self.engine.begin(&id, started(workflow(steps, &[("clean", step("make"))]))).await.unwrap();
        id
    }

    /// Has another process do something right behind the record that holds these words.
    fn behind<F>(&self, words: &'static str, deed: impl FnOnce(Engine) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let engine = self.engine.clone();
        *self.journal.deed.lock().unwrap() = Some((words, Box::new(move || Box::pin(deed(engine)))));
    }

    /// Whether what was to follow a record has followed.
    fn is_done(&self) -> bool {
        self.journal.deed.lock().unwrap().is_none()
    }
}

async fn move_to(engine: &Engine, run: &RunId, steps: &[(&str, Step)]) {
    let version = Version {
        definition: Arc::new(workflow(steps, &[("clean", step("make"))])),
        source: "another".into(),
        file: String::new(),
        inputs: Map::new(),
        secrets: BTreeSet::new(),
        hashes: Default::default(),
    };
    let terms = Terms { again: true, keep: BTreeSet::new(), contained: BTreeSet::new() };
    let upgrade = engine.upgrade(run, &version, &terms, 0, None).await.unwrap();
    assert!(!upgrade.is_refused(), "{:?}", upgrade.refusals);
}

#[tokio::test]
async fn commands_that_somebody_else_has_overtaken_are_dropped() {
    let scene = Scene::new();
    let run = scene.begin(&[("a", step("wait")), ("b", step("make"))]).await;
    let id = run.clone();
    scene.behind("step_started", move |engine| async move {
        assert!(engine.cancel(&id, None).await.unwrap());
    });
    let ended = scene.engine.drive(&run).await.unwrap();
    assert!(scene.is_done());
    assert_eq!(ended.state, Outcome::Cancelled);
    // `a` had begun and is told to stop; `b`, which was to begin at the same time, never does.
    assert_eq!(scene.executor.calls(), ["a#1", "clean#1"]);
    let (state, ..) = scene.engine.replay(&run).await.unwrap();
    assert_eq!(state.step(&StepId::new("a")).unwrap().phase, Phase::Stopped);
    assert!(state.step(&StepId::new("b")).is_none_or(|step| step.attempts.is_empty()));
}

#[tokio::test]
async fn an_attempt_that_an_upgrade_stops_before_its_task_begins_is_ended_by_the_driver() {
    let scene = Scene::new();
    // A question that has begun has no task: the upgrade comes before it is asked.
    let run = scene.begin(&[("ask", approval(None, false))]).await;
    let id = run.clone();
    scene.behind("step_started", move |engine| async move {
        move_to(&engine, &id, &[("make", step("make"))]).await;
    });
    let ended = scene.engine.drive(&run).await.unwrap();
    assert!(scene.is_done());
    assert_eq!(ended.state, Outcome::Succeeded);
    assert_eq!(scene.executor.calls(), ["make#1", "clean#1"]);
    let events = scene.engine.events(&run, 0).await.unwrap();
    let stopped = events.iter().find_map(|(_, _, event)| match event {
        Event::StepFailed { at, error, .. } => Some((at.to_string(), error.kind.clone())),
        _ => None,
    });
    assert_eq!(stopped, Some(("ask".into(), ErrorKind::CANCELLED)));
}

#[tokio::test]
async fn runs_of_attempts_that_an_upgrade_and_a_crash_left_are_asked_to_stop() {
    let scene = Scene::new();
    let inner = workflow(&[("ask", approval(None, false))], &[]);
    let sub = SubWorkflow {
        uses: "./inner.yaml".into(),
        definition: Arc::new(inner),
        with: IndexMap::new(),
        attempts: Attempts::default(),
        concurrency: None,
    };
    let sub = Step { action: Action::Workflow(Box::new(sub)), ..step("none") };
    let run = scene.begin(&[("sub", sub)]).await;
    let asked = Arc::new(OnceLock::new());
    let (known, parent) = (asked.clone(), run.clone());
    scene.behind("approval_requested", move |engine| async move {
        let unfinished = engine.journal.unfinished(None, 10).await.unwrap();
        let child = unfinished.into_iter().map(|(run, _)| run).find(|run| *run != parent);
        known.set(child.expect("the run of the step")).unwrap();
    });
    // The process dies while the inner run asks.
    let driving = tokio::spawn({
        let (engine, run) = (scene.engine.clone(), run.clone());
        async move { engine.drive(&run).await }
    });
    let child = loop {
        match asked.get() {
            Some(child) => break child.clone(),
            None => tokio::task::yield_now().await,
        }
    };
    driving.abort();
    assert!(driving.await.unwrap_err().is_cancelled());
    move_to(&scene.engine, &run, &[("make", step("make"))]).await;
    assert!(scene.engine.replay(&child).await.unwrap().0.error().is_none(), "nobody has told it yet");
    let ended = scene.engine.drive(&run).await.unwrap();
    assert_eq!(ended.state, Outcome::Succeeded);
    let events = scene.engine.events(&child, 0).await.unwrap();
    assert!(
        events.iter().any(|(_, _, event)| matches!(event, Event::CancelRequested { .. })),
        "whoever finds the inner run ends it"
    );
    assert_eq!(scene.engine.drive(&child).await.unwrap().state, Outcome::Cancelled);
}
