//! Many runs at once, of which most only wait.

use super::*;
use crate::engine::dispatcher::{Dispatcher, News, Scope};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// A clock that stands still until it is set.
struct Set(watch::Sender<Timestamp>);

impl Set {
    fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Timestamp::UNIX_EPOCH)))
    }

    fn forward(&self, by: SignedDuration) {
        self.0.send_modify(|now| *now += by);
    }
}

#[async_trait]
impl Clock for Set {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    async fn wait_until(&self, time: Timestamp) {
        self.0.subscribe().wait_for(|now| *now >= time).await.unwrap();
    }
}

/// Lacks what runs need as often as it is told, and counts how often it was asked.
#[derive(Default)]
struct Lacking {
    times: AtomicU32,
    asked: AtomicU32,
    /// How often it is a bug instead.
    panics: AtomicU32,
}

#[async_trait]
impl Preparer for Lacking {
    async fn prepare(&self, _: &RunId, _: &RunStarted) -> Result<Surroundings, StepError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let panics =
            self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |times| times.checked_sub(1));
        assert!(panics.is_err(), "a bug");
        match self.times.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |times| times.checked_sub(1)) {
            Ok(_) => Err(StepError::new(ErrorKind::AUTH_ERROR, "secret `token` has no value")),
            Err(_) => Ok(Surroundings::default()),
        }
    }
}

/// A home with everything that a dispatcher needs.
struct Home {
    engine: Engine,
    leases: Leases,
    clock: Arc<Set>,
    preparer: Arc<Lacking>,
    executor: Arc<Scripted>,
    _directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (executor, preparer, clock) = (Scripted::new(), Arc::new(Lacking::default()), Set::new());
        let journal = Arc::new(MemoryJournal::default());
        let engine =
            Engine::new(journal, executor.clone(), preparer.clone(), clock.clone(), directory.path());
        let leases = Leases::open(&directory.path().join("leases")).unwrap();
        Self { engine, leases, clock, preparer, executor, _directory: directory }
    }

    fn dispatcher(&self, scope: Scope) -> Dispatcher {
        Dispatcher::new(self.engine.clone(), self.leases.clone(), scope)
    }

    async fn begin(&self, steps: &[(&str, Step)]) -> RunId {
        let id = RunId::generate();
        self.engine.begin(&id, started(workflow(steps, &[]))).await.unwrap();
        id
    }
}

/// What becomes of a run next: how it ended, or why it is stuck.
async fn next_end(dispatcher: &mut Dispatcher) -> (RunId, Result<Outcome, String>) {
    loop {
        match dispatcher.next().await.unwrap().expect("there are runs") {
            News::Ended { run, ended, .. } => return (run, Ok(ended.state)),
            News::Stuck { run, error, .. } => return (run, Err(error.to_string())),
            News::Begins { .. } | News::Event { .. } => {}
        }
    }
}

/// Lets it work until as many runs are put aside.
async fn until_resting(dispatcher: &mut Dispatcher, wanted: usize) {
    while dispatcher.resting() != wanted {
        // What is put aside makes no news: each look takes a moment.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(5), dispatcher.next()).await;
    }
}

#[tokio::test]
async fn what_is_there_and_what_begins_later_is_driven() {
    let home = Home::new();
    let first = home.begin(&[("a", step("make"))]).await;
    let mut dispatcher = home.dispatcher(Scope::Everything);
    let mut told = Vec::new();
    loop {
        match dispatcher.next().await.unwrap().unwrap() {
            News::Begins { seq, workflow, .. } => told.push(format!("begins {workflow} {seq}")),
            News::Event { seq, event, .. } => {
                let kind = serde_json::to_value(&*event).unwrap()["type"].clone();
                told.push(format!("{seq} {kind}"));
            }
            News::Ended { run, clean, .. } => {
                assert!(run == first && clean);
                break;
            }
            News::Stuck { error, .. } => panic!("{error}"),
        }
    }
    insta::assert_snapshot!(told.join(", "), @r#"begins test 1, 2 "step_started", 3 "step_succeeded", 4 "run_finished""#);
    let second = home.begin(&[("a", step("fail"))]).await;
    assert_eq!(next_end(&mut dispatcher).await, (second.clone(), Ok(Outcome::Failed)));
    assert!(home.leases.take(&second).unwrap().is_some(), "its lease is free");
    assert_eq!(dispatcher.runs().count(), 0);
}

#[tokio::test]
async fn a_run_that_waits_for_a_person_is_put_aside_and_kept() {
    let home = Home::new();
    let asking = home.begin(&[("a", step("make")), ("ask", after(approval(None, false), "a"))]).await;
    let mut dispatcher = home.dispatcher(Scope::Everything);
    until_resting(&mut dispatcher, 1).await;
    assert_eq!(home.executor.released.load(Ordering::SeqCst), 1, "nothing of it is left with the host");
    assert!(home.leases.take(&asking).unwrap().is_none(), "nobody else takes it");
    let asked = home.preparer.asked.load(Ordering::SeqCst);
    assert!(home.engine.answer(&asking, &StepRef::parse("ask"), true, None, None).await.unwrap());
    assert_eq!(next_end(&mut dispatcher).await, (asking, Ok(Outcome::Succeeded)));
    assert_eq!(
        home.preparer.asked.load(Ordering::SeqCst),
        asked,
        "nothing was left to do that needs the host"
    );
}

#[tokio::test]
async fn a_run_that_only_waits_needs_nothing_of_the_host() {
    let home = Home::new();
    let asking = home.begin(&[("ask", approval(None, false)), ("b", after(step("make"), "ask"))]).await;
    until_resting(&mut home.dispatcher(Scope::Everything), 1).await;
    // Another process finds it waiting; what lacks is asked for once something begins.
    home.preparer.asked.store(0, Ordering::SeqCst);
    home.preparer.times.store(1, Ordering::SeqCst);
    let mut dispatcher = home.dispatcher(Scope::Everything);
    until_resting(&mut dispatcher, 1).await;
    assert_eq!(home.preparer.asked.load(Ordering::SeqCst), 0);
    assert!(home.engine.answer(&asking, &StepRef::parse("ask"), true, None, None).await.unwrap());
    let stuck = Err("secret `token` has no value".into());
    assert_eq!(next_end(&mut dispatcher).await, (asking.clone(), stuck));
    home.clock.forward(SignedDuration::from_secs(5));
    assert_eq!(next_end(&mut dispatcher).await, (asking, Ok(Outcome::Succeeded)));
}

#[tokio::test]
async fn a_timer_ends_the_rest() {
    let home = Home::new();
    let hour = home.begin(&[("ask", approval(Some(3_600_000), false))]).await;
    let day = home.begin(&[("ask", approval(Some(86_400_000), true))]).await;
    let mut dispatcher = home.dispatcher(Scope::Everything);
    until_resting(&mut dispatcher, 2).await;
    home.clock.forward(SignedDuration::from_hours(1));
    assert_eq!(next_end(&mut dispatcher).await, (hour, Ok(Outcome::Failed)));
    home.clock.forward(SignedDuration::from_hours(23));
    assert_eq!(next_end(&mut dispatcher).await, (day, Ok(Outcome::Succeeded)));
}

#[tokio::test]
async fn a_run_that_cannot_go_on_is_tried_again_ever_less_often() {
    let home = Home::new();
    home.preparer.times.store(4, Ordering::SeqCst);
    let lacking = home.begin(&[("a", step("make"))]).await;
    let mut dispatcher = home.dispatcher(Scope::Everything);
    for pause in [5, 10, 20] {
        assert!(next_end(&mut dispatcher).await.1.is_err());
        let asked = home.preparer.asked.load(Ordering::SeqCst);
        home.clock.forward(SignedDuration::from_secs(pause - 1));
        let early = tokio::time::timeout(std::time::Duration::from_millis(1), dispatcher.next()).await;
        assert!(early.is_err() && home.preparer.asked.load(Ordering::SeqCst) == asked, "too early");
        home.clock.forward(SignedDuration::from_secs(1));
    }
    assert!(next_end(&mut dispatcher).await.1.is_err());
    // What happens to it is another reason.
    assert!(home.engine.cancel(&lacking, None).await.unwrap());
    assert_eq!(next_end(&mut dispatcher).await, (lacking, Ok(Outcome::Cancelled)));
}

#[tokio::test]
async fn a_driver_that_fails_takes_nothing_with_it() {
    let home = Home::new();
    home.preparer.panics.store(1, Ordering::SeqCst);
    let run = home.begin(&[("a", step("make"))]).await;
    let mut dispatcher = home.dispatcher(Scope::Everything);
    let (stuck, why) = next_end(&mut dispatcher).await;
    assert_eq!(stuck, run);
    insta::assert_snapshot!(why.unwrap_err().replace(run.as_str(), "RUN"), @"what drove run RUN failed: this is a bug in harvest");
    home.clock.forward(SignedDuration::from_secs(5));
    assert_eq!(next_end(&mut dispatcher).await, (run, Ok(Outcome::Succeeded)));
}

#[tokio::test]
async fn interrupted_runs_are_carried_on_once() {
    let home = Home::new();
    home.preparer.times.store(1, Ordering::SeqCst);
    let stuck = home.begin(&[("a", step("make"))]).await;
    let mut dispatcher = home.dispatcher(Scope::Interrupted);
    assert_eq!(next_end(&mut dispatcher).await.0, stuck);
    assert!(dispatcher.next().await.unwrap().is_none());
    let asking = home.begin(&[("ask", approval(None, false))]).await;
    let driven = home.begin(&[("a", step("make"))]).await;
    let lease = home.leases.take(&driven).unwrap().unwrap();
    let mut dispatcher = home.dispatcher(Scope::Interrupted);
    assert_eq!(next_end(&mut dispatcher).await, (stuck, Ok(Outcome::Succeeded)));
    until_resting(&mut dispatcher, 1).await;
    let later = home.begin(&[("a", step("make"))]).await;
    assert!(home.engine.answer(&asking, &StepRef::parse("ask"), false, None, None).await.unwrap());
    assert_eq!(next_end(&mut dispatcher).await, (asking, Ok(Outcome::Failed)));
    assert!(dispatcher.next().await.unwrap().is_none());
    drop(lease);
    for left in [driven, later] {
        assert!(home.engine.replay(&left).await.unwrap().0.finished().is_none(), "it is not of those");
    }
}

#[tokio::test]
async fn a_sub_workflow_is_left_to_its_parent() {
    let home = Home::new();
    let inner = workflow(&[("ask", approval(None, false))], &[]);
    let sub = SubWorkflow {
        uses: "./inner.yaml".into(),
        definition: Arc::new(inner),
        with: IndexMap::new(),
        attempts: Attempts::default(),
        concurrency: None,
    };
    let parent = home.begin(&[("a", Step { action: Action::Workflow(Box::new(sub)), ..step("none") })]).await;
    let mut dispatcher = home.dispatcher(Scope::Everything);
    let mut begun = Vec::new();
    let child = loop {
        let unfinished = home.engine.journal.unfinished(None, 10).await.unwrap();
        if let Some((child, _)) = unfinished.into_iter().find(|(run, seq)| *run != parent && *seq > 2) {
            break child;
        }
        if let Ok(Ok(Some(News::Begins { run, .. }))) =
            tokio::time::timeout(std::time::Duration::from_millis(5), dispatcher.next()).await
        {
            begun.push(run);
        }
    };
    // It is seen, and not taken up.
    for _ in 0..60 {
        let _ = tokio::time::timeout(std::time::Duration::from_millis(5), dispatcher.next()).await;
    }
    assert!(home.engine.answer(&child, &StepRef::parse("ask"), true, None, None).await.unwrap());
    assert_eq!(next_end(&mut dispatcher).await, (parent.clone(), Ok(Outcome::Succeeded)));
    assert_eq!(begun, [parent]);
}
