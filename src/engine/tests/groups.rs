//! Steps and runs that share the places of a group.

use super::*;

fn in_group(mut step: Step, on_conflict: OnConflict, timeout_ms: Option<u64>) -> Step {
    let group = Template::Literal(json!("g"));
    call_of(&mut step).concurrency = Some(Concurrency { group, limit: 1, on_conflict, timeout_ms });
    step
}

#[tokio::test]
async fn steps_of_a_group_take_turns() {
    let member = || in_group(step("make"), OnConflict::Queue, None);
    let steps = [("a", member()), ("b", member()), ("c", member())];
    let (ended, executor, _) = run(workflow(&steps, &[])).await;
    assert_eq!(ended.state, Outcome::Succeeded);
    assert_eq!(executor.calls().len(), 3);
    let steps = [
        ("a", in_group(step("wait"), OnConflict::Queue, None)),
        ("b", in_group(step("make"), OnConflict::Queue, Some(30))),
    ];
    let (ended, executor, _) = run(workflow(&steps, &[])).await;
    let error = ended.error.unwrap();
    assert_eq!((error.step, error.error.kind), (Some(StepId::new("b")), ErrorKind::TIMED_OUT));
    assert_eq!(executor.calls(), ["a#1"]);
    let steps = [
        ("a", in_group(step("wait"), OnConflict::Queue, None)),
        ("b", in_group(step("make"), OnConflict::Reject, None)),
    ];
    let (ended, executor, _) = run(workflow(&steps, &[])).await;
    assert_eq!(ended.error.unwrap().error.kind, ErrorKind::CONFLICT);
    assert_eq!(executor.calls(), ["a#1"]);
}

fn run_in_group(on_conflict: OnConflict, steps: &[(&str, Step)]) -> Workflow {
    let group = Template::Literal(json!("g"));
    let concurrency = Some(Concurrency { group, limit: 1, on_conflict, timeout_ms: None });
    Workflow { concurrency, ..workflow(steps, &[("clean", step("make"))]) }
}

#[tokio::test]
async fn runs_of_a_group_take_turns_or_take_over() {
    let executor = Scripted::new();
    let engine = engine(&executor);
    let drive = |id: &RunId| {
        let (engine, id) = (engine.engine.clone(), id.clone());
        tokio::spawn(async move { engine.drive(&id).await.unwrap() })
    };
    let begin = async |workflow: Workflow| {
        let id = RunId::generate();
        engine.begin(&id, started(workflow)).await.unwrap();
        let task = drive(&id);
        (id, task)
    };
    let until = async |id: &RunId, wanted: &dyn Fn(&Run) -> bool| {
        let mut seen = 0;
        while !wanted(&engine.replay(id).await.unwrap().0) {
            engine.journal.changed(id, seen).await;
            seen = engine.replay(id).await.unwrap().1;
        }
    };
    let (first, first_task) = begin(run_in_group(OnConflict::Queue, &[("a", step("wait"))])).await;
    until(&first, &|run| run.has_running()).await;
    let (second, second_task) = begin(run_in_group(OnConflict::Queue, &[("b", step("make"))])).await;
    until(&second, &|run| run.state_word() == "queued" && !run.is_due()).await;
    let (_, refused) = begin(run_in_group(OnConflict::Reject, &[("c", step("make"))])).await;
    let refused = refused.await.unwrap();
    assert_eq!(refused.error.unwrap().error.kind, ErrorKind::CONFLICT);
    // It takes the place of the first, but not before those who came earlier.
    let (third, third_task) = begin(run_in_group(OnConflict::CancelOld, &[("d", step("make"))])).await;
    let first = first_task.await.unwrap();
    assert_eq!(first.state, Outcome::Cancelled);
    assert!(first.error.unwrap().error.message.contains(third.as_str()));
    assert_eq!(second_task.await.unwrap().state, Outcome::Succeeded);
    assert_eq!(third_task.await.unwrap().state, Outcome::Succeeded);
    let calls = executor.calls();
    assert!(!calls.contains(&"c#1".to_owned()), "a refused run begins nothing");
    assert_eq!(calls.iter().filter(|call| *call == "clean#1").count(), 3, "a refused run cleans nothing up");
}

#[tokio::test]
async fn a_queued_run_can_be_cancelled() {
    let executor = Scripted::new();
    let engine = engine(&executor);
    let holder = crate::engine::groups::Holder { run: RunId::generate(), since_ms: 0 };
    let held = engine.groups.try_take(crate::engine::groups::Kind::Runs, "g", 1, &holder).unwrap();
    let id = RunId::generate();
    engine.begin(&id, started(run_in_group(OnConflict::Queue, &[("a", step("make"))]))).await.unwrap();
    engine.cancel(&id, None).await.unwrap();
    let ended = engine.drive(&id).await.unwrap();
    assert_eq!((ended.state, executor.calls().len()), (Outcome::Cancelled, 0));
    drop(held);
}
