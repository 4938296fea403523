//! Runs that are steps of others.

use super::*;

#[tokio::test]
async fn a_workflow_can_be_a_step_of_another() {
    let mut inner = workflow(&[("b", with(step("echo"), "got", "inputs.n + 1"))], &[]);
    inner.inputs.insert(
        "n".into(),
        crate::workflow::model::Input {
            ty: Type::Int,
            default: None,
            pattern: None,
            min: None,
            max: None,
            description: None,
        },
    );
    let value = Template::Expression(Expression("steps.b.got".into()));
    inner.outputs.insert("out".into(), Output { value, ty: Type::Int });
    let sub = |definition: Workflow| {
        let with = IndexMap::from([("n".to_owned(), Template::Literal(json!(4)))]);
        let workflow = SubWorkflow {
            uses: "./inner.yaml".into(),
            definition: Arc::new(definition),
            with,
            attempts: Attempts::default(),
            concurrency: None,
        };
        Step { action: Action::Workflow(Box::new(workflow)), ..step("none") }
    };
    let after = reading(with(step("echo"), "got", "steps.sub.out * 2"), "sub");
    let (ended, executor, state) = run_all(workflow(&[("sub", sub(inner)), ("after", after)], &[])).await;
    assert_eq!(ended.state, Outcome::Succeeded, "{:?}", ended.error);
    assert_eq!(executor.calls(), ["b#1", "after#1"]);
    assert_eq!(state.outputs_of(&StepId::new("after")).unwrap()["got"], 10);

    let failing = sub(workflow(&[("bad", step("fail"))], &[]));
    let mut failing = failing;
    if let Action::Workflow(workflow) = &mut failing.action {
        workflow.with.clear();
    }
    let (ended, ..) = run_all(workflow(&[("sub", failing)], &[])).await;
    let error = ended.error.unwrap();
    assert_eq!((error.step, error.error.kind), (Some(StepId::new("sub")), ErrorKind::FAILED));
    assert!(error.error.message.ends_with("step `bad`: no credential"), "{}", error.error.message);
}

#[tokio::test]
async fn a_lost_sub_run_is_gone_on_with() {
    let executor = Scripted::new();
    let engine = engine(&executor);
    let inner = workflow(&[("b", step("make")), ("c", after(step("make"), "b"))], &[]);
    let sub = SubWorkflow {
        uses: "./inner.yaml".into(),
        definition: Arc::new(inner.clone()),
        with: IndexMap::new(),
        attempts: Attempts::default(),
        concurrency: None,
    };
    let sub = Step { action: Action::Workflow(Box::new(sub)), ..step("none") };
    let id = RunId::generate();
    engine.begin(&id, started(workflow(&[("sub", sub)], &[]))).await.unwrap();
    let at = StepRef::from(StepId::new("sub"));
    // What a process leaves that was killed while `c` of the inner run was at work.
    let child = id.child(&format!("{at}#1"));
    let parent = Some(crate::run::Parent { run: id.clone(), at: at.clone() });
    engine.begin(&child, RunStarted { parent, ..started(inner) }).await.unwrap();
    let append = async |run: &RunId, events: Vec<Event>| {
        for event in events {
            let (state, seq, _) = engine.replay(run).await.unwrap();
            let record = Record::of(seq + 1, jiff::Timestamp::now(), &event).unwrap();
            engine.journal.append(run, seq, vec![record], row(run, &state, None)).await.unwrap();
        }
    };
    append(&id, vec![Event::StepStarted { at, attempt: 1, idempotency_key: None }]).await;
    let b = StepRef::from(StepId::new("b"));
    append(
        &child,
        vec![
            Event::StepStarted { at: b.clone(), attempt: 1, idempotency_key: None },
            Event::StepSucceeded { at: b, attempt: 1, outputs: Map::new() },
            Event::StepStarted { at: StepId::new("c").into(), attempt: 1, idempotency_key: None },
        ],
    )
    .await;
    assert_eq!(engine.drive(&id).await.unwrap().state, Outcome::Succeeded);
    assert_eq!(executor.calls(), ["c#2"], "what had finished is not repeated");
}
