//! The driver over an in-memory journal and an executor that does as it is told.

mod dispatcher;
mod groups;
mod meddled;
mod spending;
mod sub_runs;

use super::*;
use crate::id::{Digest, StepId, StepRef};
use crate::journal::MemoryJournal;
use crate::run::Phase;
use crate::step::{ErrorKind, Spent, StepCall, StepError, StepResult};
use crate::workflow::Workflow;
use crate::workflow::model::{
    Action, Approval, Attempts, Cache, Call, Concurrency, Expression, ForEach, OnConflict, Output, Part,
    Read, Retry, Step, SubWorkflow, Template,
};
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
        self.calls.lock().unwrap().push(format!("{}#{}", call.at, call.attempt));
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
            "spend" => {
                let spent = Spent { micro_usd: 40, input_tokens: 3, output_tokens: 1 };
                call.expenses.tell(&call.at, call.attempt, spent);
                call.expenses.tell(&call.at, call.attempt, spent);
                Ok(Map::from_iter([
                    ("cost_usd".to_owned(), json!(7.5)),
                    ("left".to_owned(), json!(call.spent_before)),
                ]))
            }
            "fail" => Err(StepError::new(ErrorKind::AUTH_ERROR, "no credential")),
            "panic" => panic!("a bug"),
            "large" => Ok(Map::from_iter([("text".to_owned(), "x".repeat(2 << 20).into())])),
            _ => Ok(Map::from_iter([("value".to_owned(), json!(7))])),
        }
    }

    async fn release(&self, _: &RunId, _: bool) {
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
        network: None,
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
        budget_micro_usd: None,
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
        hashes: Default::default(),
        mocks: Default::default(),
        injected: Default::default(),
        parent: None,
        provider: crate::run::LOCAL.into(),
        session: None,
    }
}

/// An engine on a home that goes with it.
struct World {
    engine: Engine,
    _home: tempfile::TempDir,
}

impl std::ops::Deref for World {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

fn engine(executor: &Arc<Scripted>) -> World {
    let home = tempfile::tempdir().unwrap();
    let journal = Arc::new(MemoryJournal::default());
    let clock = Arc::new(SystemClock);
    let engine = Engine::new(journal, executor.clone(), executor.clone(), clock, home.path());
    World { engine, _home: home }
}

#[async_trait]
impl Preparer for Scripted {
    async fn prepare(&self, _: &RunId, _: &RunStarted) -> Result<Surroundings, StepError> {
        Ok(Surroundings::default())
    }
}

async fn run(workflow: Workflow) -> (Ended, Arc<Scripted>, Run) {
    let (ended, executor, state) = run_all(workflow).await;
    assert_eq!(executor.released.load(Ordering::SeqCst), 1);
    (ended, executor, state)
}

/// Like `run`, where sub-workflows are released too.
async fn run_all(workflow: Workflow) -> (Ended, Arc<Scripted>, Run) {
    let executor = Scripted::new();
    let engine = engine(&executor);
    let id = RunId::generate();
    engine.begin(&id, started(workflow)).await.unwrap();
    let ended = engine.drive(&id).await.unwrap();
    let (state, ..) = engine.replay(&id).await.unwrap();
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
        let (engine, id) = (engine.engine.clone(), id.clone());
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
        Event::StepStarted { at: StepId::new("a").into(), attempt: 1, idempotency_key: None },
        Event::StepSucceeded { at: StepId::new("a").into(), attempt: 1, outputs: Map::new() },
        Event::StepStarted { at: StepId::new("b").into(), attempt: 1, idempotency_key: None },
    ]) {
        let (state, ..) = engine.replay(&id).await.unwrap();
        let record = Record::of(seq, jiff::Timestamp::now(), &event).unwrap();
        engine.journal.append(&id, seq - 1, vec![record], row(&id, &state, None)).await.unwrap();
    }
    let ended = engine.drive(&id).await.unwrap();
    assert_eq!(ended.state, Outcome::Succeeded);
    assert_eq!(executor.calls(), ["b#2", "c#1"], "what had finished is not repeated");
}

fn do_for_each(list: &str, parallel: u32, continue_on_failure: bool, steps: &[(&str, Step)]) -> Step {
    let each = ForEach {
        item: "it".into(),
        items: Expression(list.into()),
        key: Expression("it".into()),
        parallel,
        continue_on_failure,
        steps: steps.iter().map(|(id, step)| (StepId::new(*id), step.clone())).collect(),
    };
    Step { action: Action::ForEach(Box::new(each)), ..step("none") }
}

fn with(mut step: Step, name: &str, expression: &str) -> Step {
    call_of(&mut step).with.insert(name.into(), Template::Expression(Expression(expression.into())));
    step
}

fn reading(mut step: Step, other: &str) -> Step {
    step.reads.push(Read { step: StepId::new(other), tolerant: false });
    step
}

#[tokio::test]
async fn a_loop_does_its_steps_for_each_item_and_tells_what_came_of_them() {
    let inner = [
        ("one", with(step("echo"), "got", "it + '!'")),
        ("two", reading(with(step("echo"), "got", "steps.one.got + it"), "one")),
    ];
    let each = do_for_each("['x', 'y', 'z']", 2, false, &inner);
    let after =
        reading(with(step("echo"), "got", "steps.each.items.map(i, i.steps.two.got).join(' ')"), "each");
    let (ended, executor, state) = run(workflow(&[("each", each), ("after", after)], &[])).await;
    assert_eq!(ended.state, Outcome::Succeeded, "{:?}", ended.error);
    let mut calls = executor.calls();
    assert_eq!(calls.pop().unwrap(), "after#1");
    calls.sort();
    assert_eq!(calls, ["one[x]#1", "one[y]#1", "one[z]#1", "two[x]#1", "two[y]#1", "two[z]#1"]);
    assert_eq!(state.outputs_of(&StepId::new("after")).unwrap()["got"], "x!x y!y z!z");
    assert_eq!(state.outputs_of(&StepId::new("each")).unwrap()["total"], 3);
}

#[tokio::test]
async fn items_that_fail_are_told_and_the_others_go_on_where_the_file_says_so() {
    let mut bad = step("fail");
    bad.condition = Some(Expression("it == 'y'".into()));
    let each = do_for_each("['x', 'y', 'z']", 1, true, &[("bad", bad.clone()), ("good", step("make"))]);
    let (ended, executor, state) = run(workflow(&[("each", each)], &[])).await;
    assert_eq!(ended.state, Outcome::Succeeded);
    let outputs = state.outputs_of(&StepId::new("each")).unwrap();
    assert_eq!(outputs["failed"][0]["key"], "y");
    assert_eq!(
        outputs["failed"][0]["error"],
        json!({ "step": "bad", "kind": "auth-error", "message": "no credential" })
    );
    assert_eq!(outputs["succeeded"].as_array().unwrap().len(), 2);
    assert!(executor.calls().contains(&"good[z]#1".to_owned()));

    let each = do_for_each("['x', 'y', 'z']", 1, false, &[("bad", bad), ("good", step("make"))]);
    let (ended, executor, state) = run(workflow(&[("each", each)], &[])).await;
    let error = ended.error.unwrap();
    assert_eq!(
        (ended.exit_code, error.step, error.item.as_deref()),
        (3, Some(StepId::new("bad")), Some("y"))
    );
    assert_eq!(state.step(&StepId::new("each")).unwrap().phase, Phase::Failed);
    assert!(!executor.calls().iter().any(|call| call.contains("[z]")), "nothing of z begins");
}

#[tokio::test]
async fn items_need_keys_of_their_own_and_an_empty_list_is_fine() {
    let each = do_for_each("['x', 'x']", 1, false, &[("a", step("make"))]);
    let (ended, ..) = run(workflow(&[("each", each)], &[])).await;
    assert!(ended.error.unwrap().error.message.contains("two items have the key `x`"));
    let each = do_for_each("[]", 1, false, &[("a", step("make"))]);
    let (ended, ..) = run(workflow(&[("each", each)], &[])).await;
    assert_eq!(ended.state, Outcome::Succeeded);
}

#[tokio::test]
async fn a_failure_that_is_tolerated_stops_nothing() {
    let mut bad = step("fail");
    bad.continue_on_error = true;
    let mut asks = step("make");
    asks.condition = Some(Expression("steps.bad.state == 'failed'".into()));
    asks.reads.push(Read { step: StepId::new("bad"), tolerant: true });
    let steps = [
        ("bad", bad),
        ("after", after(step("make"), "bad")),
        ("reader", reading(step("make"), "bad")),
        ("asks", asks),
    ];
    let (ended, executor, state) = run(workflow(&steps, &[])).await;
    assert_eq!(ended.state, Outcome::Succeeded);
    assert_eq!(executor.calls(), ["bad#1", "after#1", "asks#1"]);
    let reader = &state.step(&StepId::new("reader")).unwrap().phase;
    assert_eq!(*reader, Phase::Skipped { reason: "it reads `bad`, which did not succeed".into() });
}

fn approval(timeout_ms: Option<u64>, approve_on_timeout: bool) -> Step {
    let message = Template::Text(vec![Part::Text("Go on?".into())]);
    let asked = Approval { message, timeout_ms, approve_on_timeout };
    Step { action: Action::Approve(Box::new(asked)), ..step("none") }
}

#[tokio::test]
async fn an_approval_waits_for_its_answer() {
    for (yes, state, code) in [(true, Outcome::Succeeded, 0), (false, Outcome::Failed, 7)] {
        let executor = Scripted::new();
        let engine = engine(&executor);
        let id = RunId::generate();
        let steps = [("review", approval(None, false)), ("push", after(step("make"), "review"))];
        engine.begin(&id, started(workflow(&steps, &[]))).await.unwrap();
        let driving = tokio::spawn({
            let (engine, id) = (engine.engine.clone(), id.clone());
            async move { engine.drive(&id).await }
        });
        let at = StepRef::from(StepId::new("review"));
        let mut seen = 0;
        while !engine.replay(&id).await.unwrap().0.is_asking(&at) {
            engine.journal.changed(&id, seen).await;
            seen = engine.replay(&id).await.unwrap().1;
        }
        assert_eq!(engine.replay(&id).await.unwrap().0.state_word(), "waiting");
        assert!(engine.answer(&id, &at, yes, Some("because".into()), Some("ann".into())).await.unwrap());
        assert!(!engine.answer(&id, &at, yes, None, None).await.unwrap(), "one answer is enough");
        let ended = driving.await.unwrap().unwrap();
        assert_eq!((ended.state, ended.exit_code), (state, code));
        assert_eq!(executor.calls().len(), usize::from(yes));
        if let Some(error) = ended.error {
            assert_eq!(error.error.message, "rejected by ann: because");
        }
    }
}

#[tokio::test]
async fn an_approval_that_nobody_gives_ends_as_the_file_says() {
    let (ended, ..) = run(workflow(&[("review", approval(Some(5), false))], &[])).await;
    assert_eq!(ended.exit_code, 7);
    let (ended, _, state) = run(workflow(&[("review", approval(Some(5), true))], &[])).await;
    assert_eq!(ended.state, Outcome::Succeeded);
    assert_eq!(state.outputs_of(&StepId::new("review")).unwrap()["approved"], true);
}

#[tokio::test]
async fn kept_outputs_take_the_place_of_an_equal_call() {
    let executor = Scripted::new();
    let engine = engine(&executor);
    let cached = |key: &str, bypass: &str| {
        let mut step = step("make");
        call_of(&mut step).cache = Some(Cache {
            key: vec![Expression(key.into())],
            ttl_ms: None,
            bypass: Some(Expression(bypass.into())),
        });
        workflow(&[("a", step)], &[])
    };
    let run = async |workflow: Workflow| {
        let id = RunId::generate();
        engine.begin(&id, started(workflow)).await.unwrap();
        assert_eq!(engine.drive(&id).await.unwrap().state, Outcome::Succeeded);
        engine.replay(&id).await.unwrap().0.outputs_of(&StepId::new("a")).unwrap()["value"].clone()
    };
    for (key, bypass, calls) in
        [("'k'", "false", 1), ("'k'", "false", 1), ("'other'", "false", 2), ("'k'", "true", 3)]
    {
        assert_eq!(run(cached(key, bypass)).await, 7);
        assert_eq!(executor.calls().len(), calls, "{key} {bypass}");
    }
}

#[tokio::test]
async fn a_retried_run_keeps_what_succeeded() {
    let executor = Scripted::new();
    let engine = engine(&executor);
    let id = RunId::generate();
    // Fails at its first two attempts, of which each run makes one.
    let steps = [("a", step("make")), ("b", after(step("flaky"), "a")), ("c", after(step("make"), "b"))];
    engine.begin(&id, started(workflow(&steps, &[("clean", step("make"))]))).await.unwrap();
    assert_eq!(engine.drive(&id).await.unwrap().state, Outcome::Failed);
    assert!(engine.retry(&id, None).await.unwrap());
    assert_eq!(engine.drive(&id).await.unwrap().state, Outcome::Failed);
    assert!(engine.retry(&id, None).await.unwrap());
    assert_eq!(engine.drive(&id).await.unwrap().state, Outcome::Succeeded);
    assert!(!engine.retry(&id, None).await.unwrap(), "a run that succeeded stays");
    assert_eq!(executor.calls(), ["a#1", "b#1", "clean#1", "b#2", "clean#2", "b#3", "c#1", "clean#3"]);
}
