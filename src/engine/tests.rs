//! The driver over an in-memory journal and an executor that does as it is told.

use super::*;
use crate::id::{Digest, StepId};
use crate::journal::MemoryJournal;
use crate::run::Phase;
use crate::step::{ErrorKind, StepCall, StepError, StepResult};
use crate::workflow::Workflow;
use crate::workflow::model::{Action, Attempts, Call, Expression, Output, Read, Retry, Step, Template};
use crate::workflow::types::Type;
use async_trait::async_trait;
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;

/// Answers by function name; counts calls.
struct Scripted {
    calls: Mutex<Vec<String>>,
    released: AtomicU32,
    meeting: Barrier,
}

impl Scripted {
    fn new() -> Arc<Self> {
        Arc::new(Self { calls: Mutex::default(), released: AtomicU32::new(0), meeting: Barrier::new(2) })
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait]
impl Executor for Scripted {
    async fn execute(&self, call: StepCall, cancel: CancellationToken) -> StepResult {
        self.calls.lock().unwrap().push(format!("{}#{}", call.step, call.attempt));
        match call.function.as_str() {
            "echo" => Ok(call.arguments),
            "meet" => {
                self.meeting.wait().await;
                Ok(Map::new())
            }
            "flaky" if call.attempt < 3 => Err(StepError::new(ErrorKind::NETWORK, "not yet")),
            "wait" => {
                cancel.cancelled().await;
                Err(StepError::new(ErrorKind::CANCELLED, "stopped"))
            }
            "fail" => Err(StepError::new(ErrorKind::AUTH_ERROR, "no credential")),
            "panic" => panic!("a bug"),
            "large" => Ok(Map::from_iter([("text".to_owned(), "x".repeat(2 << 20).into())])),
            _ => Ok(Map::from_iter([("value".to_owned(), json!(7))])),
        }
    }

    async fn release(&self, _: &RunId) {
        self.released.fetch_add(1, Ordering::SeqCst);
    }
}

fn step(function: &str) -> Step {
    let call = Call {
        uses: format!("test/{function}"),
        component: "test".into(),
        digest: Digest::of(b""),
        function: function.into(),
        with: IndexMap::new(),
        sandboxes: Default::default(),
        secrets: Default::default(),
        permissions: vec![],
        attempts: Attempts { retry: Retry { first_ms: 1, ..Retry::default() }, ..Attempts::default() },
        concurrency: None,
        cache: None,
        idempotency_key: None,
    };
    Step {
        action: Action::Call(Box::new(call)),
        needs: vec![],
        reads: vec![],
        condition: None,
        continue_on_error: false,
        outputs: vec![],
    }
}

fn call_of(step: &mut Step) -> &mut Call {
    match &mut step.action {
        Action::Call(call) => call,
        _ => panic!("not a call"),
    }
}

fn after(mut step: Step, need: &str) -> Step {
    step.needs.push(StepId::new(need));
    step
}

fn workflow(steps: &[(&str, Step)], finally: &[(&str, Step)]) -> Workflow {
    let map =
        |steps: &[(&str, Step)]| steps.iter().map(|(id, step)| (StepId::new(*id), step.clone())).collect();
    Workflow {
        name: "test".into(),
        description: None,
        inputs: IndexMap::new(),
        secrets: IndexMap::new(),
        sandboxes: IndexMap::new(),
        timeout_ms: None,
        concurrency: None,
        triggers: vec![],
        steps: map(steps),
        finally: map(finally),
        finally_timeout_ms: 60_000,
        outputs: IndexMap::new(),
        hashes: vec![],
    }
}

fn started(workflow: Workflow) -> RunStarted {
    RunStarted {
        workflow: workflow.name.clone(),
        definition: Arc::new(workflow),
        source: String::new(),
        file: String::new(),
        inputs: Map::new(),
        run: Map::new(),
        secrets: BTreeSet::new(),
    }
}

fn engine(executor: &Arc<Scripted>) -> Engine {
    Engine::new(Arc::new(MemoryJournal::default()), executor.clone(), Arc::new(SystemClock))
}

async fn run(workflow: Workflow) -> (Ended, Arc<Scripted>, Run) {
    let executor = Scripted::new();
    let engine = engine(&executor);
    let id = RunId::generate();
    engine.begin(&id, started(workflow)).await.unwrap();
    let ended = engine.drive(&id).await.unwrap();
    let (state, ..) = engine.replay(&id).await.unwrap();
    assert_eq!(executor.released.load(Ordering::SeqCst), 1);
    (ended, executor, state)
}

#[tokio::test]
async fn outputs_flow_along_the_edges() {
    let mut reader = step("echo");
    call_of(&mut reader)
        .with
        .insert("got".into(), Template::Expression(Expression("steps.a.value + 1".into())));
    reader.reads.push(Read { step: StepId::new("a"), tolerant: false });
    let mut workflow = workflow(&[("b", reader), ("a", step("make"))], &[]);
    let value = Template::Expression(Expression("steps.b.got".into()));
    workflow.outputs.insert("out".into(), Output { value, ty: Type::Int });
    let (ended, executor, _) = run(workflow).await;
    assert_eq!((ended.state, ended.exit_code), (Outcome::Succeeded, 0));
    assert_eq!(Value::Object(ended.outputs), json!({ "out": 8 }));
    assert_eq!(executor.calls(), ["a#1", "b#1"]);
}

#[tokio::test]
async fn branches_run_at_the_same_time() {
    // Each waits for the other: only together do they end.
    let (ended, ..) = run(workflow(&[("a", step("meet")), ("b", step("meet"))], &[])).await;
    assert_eq!(ended.state, Outcome::Succeeded);
}

#[tokio::test]
async fn a_retried_step_succeeds_later() {
    let mut flaky = step("flaky");
    call_of(&mut flaky).attempts.retry.attempts = 3;
    let (ended, executor, state) = run(workflow(&[("a", flaky)], &[])).await;
    assert_eq!(ended.state, Outcome::Succeeded);
    assert_eq!(executor.calls(), ["a#1", "a#2", "a#3"]);
    assert_eq!(state.step(&StepId::new("a")).unwrap().attempts.len(), 3);
}

#[tokio::test]
async fn a_failure_stops_the_rest_and_runs_finally() {
    let steps = [("bad", step("fail")), ("beside", step("wait")), ("never", after(step("make"), "bad"))];
    let (ended, executor, state) = run(workflow(&steps, &[("clean", step("make"))])).await;
    assert_eq!((ended.state, ended.exit_code), (Outcome::Failed, 3));
    assert_eq!(ended.error.unwrap().step, Some(StepId::new("bad")));
    assert_eq!(executor.calls(), ["bad#1", "beside#1", "clean#1"]);
    assert_eq!(state.step(&StepId::new("beside")).unwrap().phase, Phase::Stopped);
    assert_eq!(state.step(&StepId::new("clean")).unwrap().phase, Phase::Succeeded);
}

#[tokio::test]
async fn a_panic_and_an_outsize_output_fail_the_step_alone() {
    let (ended, ..) = run(workflow(&[("a", step("panic"))], &[])).await;
    assert_eq!(ended.error.unwrap().error.kind, ErrorKind::TRAPPED);
    let (ended, ..) = run(workflow(&[("a", step("large"))], &[])).await;
    assert_eq!(ended.error.unwrap().error.kind, ErrorKind::TOO_LARGE);
}

#[tokio::test]
async fn a_cancel_from_elsewhere_stops_what_runs() {
    let executor = Scripted::new();
    let engine = engine(&executor);
    let id = RunId::generate();
    engine.begin(&id, started(workflow(&[("a", step("wait"))], &[("clean", step("make"))]))).await.unwrap();
    let driving = tokio::spawn({
        let (engine, id) = (engine.clone(), id.clone());
        async move { engine.drive(&id).await }
    });
    // Wait until the step runs, by the journal: the same way another process would know.
    let mut seen = 0;
    while seen < 2 {
        engine.journal.changed(&id, seen).await;
        seen = engine.replay(&id).await.unwrap().1;
    }
    assert!(engine.cancel(&id, Some("enough".into())).await.unwrap());
    let ended = driving.await.unwrap().unwrap();
    assert_eq!((ended.state, ended.exit_code), (Outcome::Cancelled, 130));
    assert_eq!(ended.error.unwrap().error.message, "enough");
    assert_eq!(executor.calls(), ["a#1", "clean#1"]);
    assert!(!engine.cancel(&id, None).await.unwrap(), "an ended run cannot be cancelled");
}

#[tokio::test]
async fn a_run_goes_on_where_its_process_ended() {
    let executor = Scripted::new();
    let engine = engine(&executor);
    let id = RunId::generate();
    let steps = [("a", step("make")), ("b", after(step("make"), "a")), ("c", after(step("make"), "b"))];
    engine.begin(&id, started(workflow(&steps, &[]))).await.unwrap();
    // What a process leaves that was killed while `b` ran.
    for (seq, event) in (2..).zip([
        Event::StepStarted { step: StepId::new("a"), attempt: 1 },
        Event::StepSucceeded { step: StepId::new("a"), attempt: 1, outputs: Map::new() },
        Event::StepStarted { step: StepId::new("b"), attempt: 1 },
    ]) {
        let (state, ..) = engine.replay(&id).await.unwrap();
        let record = Record::of(seq, jiff::Timestamp::now(), &event).unwrap();
        engine.journal.append(&id, seq - 1, vec![record], row(&id, &state, None)).await.unwrap();
    }
    let ended = engine.drive(&id).await.unwrap();
    assert_eq!(ended.state, Outcome::Succeeded);
    assert_eq!(executor.calls(), ["b#2", "c#1"], "what had finished is not repeated");
}
