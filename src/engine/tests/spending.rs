//! What attempts spend, in the journal and in the runs around them.

use super::*;

/// A workflow as a step of another.
fn sub(definition: Workflow) -> Step {
    let workflow = SubWorkflow {
        uses: "./inner.yaml".into(),
        definition: Arc::new(definition),
        with: IndexMap::new(),
        attempts: Attempts::default(),
        concurrency: None,
    };
    Step { action: Action::Workflow(Box::new(workflow)), ..step("none") }
}

fn within(budget_micro_usd: u64, workflow: Workflow) -> Workflow {
    Workflow { budget_micro_usd: Some(budget_micro_usd), ..workflow }
}

#[tokio::test]
async fn what_is_spent_is_journalled_and_no_word_of_the_step_replaces_it() {
    let later = after(step("spend"), "a");
    let (ended, _, state) = run(workflow(&[("a", step("spend")), ("b", later)], &[])).await;
    assert_eq!(ended.state, Outcome::Succeeded);
    assert_eq!(state.spent(), Spent { micro_usd: 160, input_tokens: 12, output_tokens: 4 });
    assert_eq!(state.cost(), Some((160e-6, 16)));
    let of = |id: &str| state.step(&StepId::new(id)).unwrap();
    assert_eq!((of("a").spent().micro_usd, of("b").attempts[0].spent.micro_usd), (80, 80));
    assert_eq!(
        state.outputs_of(&StepId::new("b")).unwrap()["left"],
        80,
        "an attempt knows what was spent before"
    );
}

#[tokio::test]
async fn what_nobody_meters_is_what_the_step_says() {
    let mut reports = step("echo");
    call_of(&mut reports).with.insert("cost_usd".into(), Template::Literal(json!(0.5)));
    let (_, _, state) = run(workflow(&[("a", reports), ("b", step("spend"))], &[])).await;
    assert_eq!(state.cost(), Some((0.5 + 80e-6, 8)));
}

#[tokio::test]
async fn a_run_pays_for_the_runs_that_are_its_steps_out_of_what_is_left() {
    let executor = Scripted::new();
    let engine = engine(&executor);
    let inner = workflow(&[("spends", step("spend"))], &[]);
    let outer = workflow(&[("first", step("spend")), ("sub", after(sub(inner), "first"))], &[]);
    let id = RunId::generate();
    engine.begin(&id, started(within(200, outer))).await.unwrap();
    assert_eq!(engine.drive(&id).await.unwrap().state, Outcome::Succeeded);
    let (state, ..) = engine.replay(&id).await.unwrap();
    assert_eq!(state.spent().micro_usd, 160);
    assert_eq!(state.step(&StepId::new("sub")).unwrap().spent().micro_usd, 80);
    let (child, ..) = engine.replay(&id.child("sub#1")).await.unwrap();
    assert_eq!(child.workflow().budget_micro_usd, Some(120));
}

#[tokio::test]
async fn a_run_without_money_starts_no_other() {
    let inner = workflow(&[("spends", step("spend"))], &[]);
    let outer = workflow(&[("first", step("spend")), ("sub", after(sub(inner), "first"))], &[]);
    let (ended, executor, _) = run_all(within(80, outer)).await;
    assert_eq!(ended.error.unwrap().error.kind, ErrorKind::BUDGET_EXCEEDED);
    assert_eq!(executor.calls(), ["first#1"]);
}

#[tokio::test]
async fn a_run_pays_once_for_a_run_that_a_lost_attempt_has_told_of() {
    let executor = Scripted::new();
    let engine = engine(&executor);
    let inner = workflow(&[("spends", step("spend"))], &[]);
    let id = RunId::generate();
    engine.begin(&id, started(workflow(&[("sub", sub(inner.clone()))], &[]))).await.unwrap();
    let at = StepRef::from(StepId::new("sub"));
    // The inner run has ended and its bill was journalled, when the process was killed.
    let child = id.child(&format!("{at}#1"));
    let parent = Some(crate::run::Parent { run: id.clone(), at: at.clone() });
    engine.begin(&child, RunStarted { parent, ..started(inner) }).await.unwrap();
    engine.drive(&child).await.unwrap();
    let (bill, ..) = engine.replay(&child).await.unwrap();
    for event in [
        Event::StepStarted { at: at.clone(), attempt: 1, idempotency_key: None },
        Event::StepSpent { at, attempt: 1, spent: bill.spent() },
    ] {
        let (state, seq, _) = engine.replay(&id).await.unwrap();
        let record = Record::of(seq + 1, jiff::Timestamp::now(), &event).unwrap();
        engine.journal.append(&id, seq, vec![record], row(&id, &state, None)).await.unwrap();
    }
    assert_eq!(engine.drive(&id).await.unwrap().state, Outcome::Succeeded);
    let (state, ..) = engine.replay(&id).await.unwrap();
    assert_eq!((state.spent(), executor.calls()), (bill.spent(), vec!["spends#1".to_owned()]));
}

#[tokio::test]
async fn nothing_is_spent_by_an_attempt_that_has_ended() {
    let (_, _, mut state) = run(workflow(&[("a", step("make")), ("b", step("fail"))], &[])).await;
    let event = Event::StepSpent { at: StepId::new("a").into(), attempt: 1, spent: Spent::default() };
    assert!(state.apply(i64::MAX, &event).is_err());
}
