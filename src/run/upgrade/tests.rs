//! What becomes of each step: changes of a file against where its run stands.

use super::*;
use crate::run::event::{Event, RunError, RunStarted};
use crate::step::{ErrorKind, StepError};
use crate::workflow::check::check;
use crate::workflow::fixture::catalog;
use serde_json::{Value, json};
use std::sync::Arc;

const FILE: &str = r#"
harvest: 1
name: t
inputs:
  who: { type: string, default: you }
  list: { type: list, items: string, default: [x, y] }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ inputs.who }}"] } }
  b: { uses: exec/run, retry: { attempts: 3 }, with: { command: [cat], stdin: "${{ steps.a.stdout }}" } }
  ask: { needs: b, approve: { message: "Ship to ${{ inputs.who }}?" } }
  each:
    needs: ask
    for-each: { item: it, in: "${{ inputs.list }}", key: "${{ it }}" }
    steps:
      one: { uses: exec/run, with: { command: [echo, "${{ it }}"] } }
  told:
    needs: each
    uses: notify/send
    permissions: [{ http: [example.com] }]
    with: { to: "x", text: "${{ inputs.who }}" }
  last: { needs: told, uses: exec/run, with: { command: ["true"] } }
finally:
  clean: { uses: exec/run, with: { command: ["true"] } }
"#;

fn version(text: &str, inputs: Value) -> Version {
    let checked = check("t.yaml", text, &catalog());
    let errors: Vec<String> = checked.diagnostics.iter().map(|it| it.render(false)).collect();
    let definition = Arc::new(checked.workflow.unwrap_or_else(|| panic!("{}", errors.join("\n"))));
    let inputs = inputs.as_object().unwrap().clone();
    let (secrets, hashes) = (BTreeSet::new(), BTreeMap::new());
    Version { definition, source: text.into(), file: "t.yaml".into(), inputs, secrets, hashes }
}

fn inputs() -> Value {
    json!({ "who": "you", "list": ["x", "y"] })
}

fn begun(text: &str) -> Run {
    let Version { definition, source, file, inputs, secrets, hashes } = version(text, inputs());
    let started = RunStarted {
        workflow: definition.name.clone(),
        definition,
        source,
        file,
        inputs,
        run: serde_json::Map::new(),
        secrets,
        hashes,
        mocks: BTreeMap::new(),
        injected: BTreeMap::new(),
        parent: None,
        provider: crate::run::LOCAL.into(),
        session: None,
    };
    Run::begin(0, &Event::RunStarted(Box::new(started))).unwrap()
}

/// Applies what short words say: `+a` begins, `=a` succeeds, `-a` fails, `?ask` asks, `!ask` is approved, `@each` lists
/// its items, `end` ends the run.
fn play(run: &mut Run, words: &str) {
    for word in words.split_whitespace() {
        let at = StepRef::parse(word.trim_start_matches(['+', '=', '-', '?', '!', '@']));
        let attempt = run.state(&at).map_or(1, |state| match state.phase {
            Phase::Waiting { attempt } | Phase::Running { attempt } => attempt,
            _ => 0,
        });
        let event = match word.as_bytes()[0] {
            b'+' => Event::StepStarted { at, attempt, idempotency_key: None },
            b'=' => {
                let outputs = json!({ "exit_code": 0, "stdout": "said", "stderr": "", "delivered": true });
                Event::StepSucceeded { at, attempt, outputs: outputs.as_object().unwrap().clone() }
            }
            b'-' => {
                let error = StepError::new(ErrorKind::NETWORK, "down");
                Event::StepFailed { at, attempt, error, jitter: 0 }
            }
            b'?' => Event::ApprovalRequested { at, message: "Ship to you?".into() },
            b'!' => Event::ApprovalGiven { at, approved: true, note: None, by: None },
            b'@' => {
                let Some(Action::ForEach(each)) = run.definition(&at.step).map(|it| &it.action) else {
                    panic!()
                };
                let items = run.loop_items(&at, each).unwrap();
                Event::LoopStarted { step: at.step, items }
            }
            _ => {
                let error = run.error().map(|RunError { error, .. }| error.clone()).unwrap();
                assert_ne!(error.message, "");
                let state = run.ending().unwrap();
                Event::RunFinished { state, exit_code: 1, outputs: Default::default(), error: None }
            }
        };
        run.apply(1, &event).unwrap_or_else(|error| panic!("{word}: {error}"));
    }
}

fn terms() -> Terms {
    Terms { contained: [Digest::of(b"exec")].into(), ..Terms::default() }
}

fn told(upgrade: &Upgrade) -> String {
    let mut words: Vec<String> =
        upgrade.refusals.iter().map(|why| format!("refuse the run: {why}")).collect();
    words.extend(upgrade.steps.iter().map(|fate| format!("{} {}", fate.verdict.as_str(), fate.at)));
    words.join(", ")
}

/// The changes of the table: what they are called, what is replaced by what.
const CHANGES: [(&str, &str, &str); 9] = [
    ("nothing", "", ""),
    ("added", "  last:", "  more: { needs: told, uses: exec/run, with: { command: [ls] } }\n  last:"),
    ("removed", "  last: { needs: told, uses: exec/run, with: { command: [\"true\"] } }\n", ""),
    ("renamed", "  last:", "  final:"),
    (
        "rewired to an equal value",
        "stdin: \"${{ steps.a.stdout }}\"",
        "stdin: \"${{ steps.a.stdout + '' }}\"",
    ),
    ("argument of a", "command: [echo, \"${{ inputs.who }}\"]", "command: [echo, hello]"),
    ("argument of b", "command: [cat]", "command: [cat, \"-\"]"),
    ("message", "Ship to", "Send to"),
    ("loop", "command: [echo, \"${{ it }}\"]", "command: [echo, \"${{ it == 'y' ? 'Y' : it }}\"]"),
];

fn upgraded(run: &Run, from: &str, to: &str) -> Upgrade {
    let text = if from.is_empty() { FILE.to_owned() } else { FILE.replacen(from, to, 1) };
    assert!(from.is_empty() || text != FILE, "{from}");
    run.upgrade(&version(&text, inputs()), &terms())
}

/// The table for one history.
fn table(words: &str) -> String {
    let mut run = begun(FILE);
    play(&mut run, words);
    let mut lines = Vec::new();
    for (name, from, to) in CHANGES {
        lines.push(format!("{name}: {}", told(&upgraded(&run, from, to))));
    }
    let mut other = inputs();
    other["who"] = "me".into();
    lines.push(format!("input: {}", told(&run.upgrade(&version(FILE, other), &terms()))));
    let mut list = inputs();
    list["list"] = json!(["y", "z"]);
    lines.push(format!("list: {}", told(&run.upgrade(&version(FILE, list), &terms()))));
    let mut digest = version(FILE, inputs());
    let definition = Arc::make_mut(&mut digest.definition);
    let b = definition.steps.get_mut("b").unwrap();
    let Action::Call(call) = &mut b.action else { panic!() };
    call.digest = Digest::of(b"newer");
    lines.push(format!("component of b: {}", told(&run.upgrade(&digest, &terms()))));
    lines.join("\n")
}

#[test]
fn a_run_that_has_not_begun() {
    insta::assert_snapshot!(table(""), @r"
    nothing: run a, run b, run ask, run each, run told, run last, run clean
    added: run a, run b, run ask, run each, run told, run more, run last, run clean
    removed: run a, run b, run ask, run each, run told, run clean, drop last
    renamed: run a, run b, run ask, run each, run told, run final, run clean, drop last
    rewired to an equal value: run a, run b, run ask, run each, run told, run last, run clean
    argument of a: run a, run b, run ask, run each, run told, run last, run clean
    argument of b: run a, run b, run ask, run each, run told, run last, run clean
    message: run a, run b, run ask, run each, run told, run last, run clean
    loop: run a, run b, run ask, run each, run told, run last, run clean
    input: run a, run b, run ask, run each, run told, run last, run clean
    list: run a, run b, run ask, run each, run told, run last, run clean
    component of b: run a, run b, run ask, run each, run told, run last, run clean
    ");
}

#[test]
fn a_run_whose_second_step_is_at_work() {
    insta::assert_snapshot!(table("+a =a +b"), @r"
    nothing: keep a, keep b, run ask, run each, run told, run last, run clean
    added: keep a, keep b, run ask, run each, run told, run more, run last, run clean
    removed: keep a, keep b, run ask, run each, run told, run clean, drop last
    renamed: keep a, keep b, run ask, run each, run told, run final, run clean, drop last
    rewired to an equal value: keep a, keep b, run ask, run each, run told, run last, run clean
    argument of a: re-run a, restart b, run ask, run each, run told, run last, run clean
    argument of b: keep a, restart b, run ask, run each, run told, run last, run clean
    message: keep a, keep b, run ask, run each, run told, run last, run clean
    loop: keep a, keep b, run ask, run each, run told, run last, run clean
    input: re-run a, restart b, run ask, run each, run told, run last, run clean
    list: keep a, keep b, run ask, run each, run told, run last, run clean
    component of b: keep a, restart b, run ask, run each, run told, run last, run clean
    ");
}

#[test]
fn a_run_that_waits_for_its_next_attempt() {
    insta::assert_snapshot!(table("+a =a +b -b"), @r"
    nothing: keep a, keep b, run ask, run each, run told, run last, run clean
    added: keep a, keep b, run ask, run each, run told, run more, run last, run clean
    removed: keep a, keep b, run ask, run each, run told, run clean, drop last
    renamed: keep a, keep b, run ask, run each, run told, run final, run clean, drop last
    rewired to an equal value: keep a, keep b, run ask, run each, run told, run last, run clean
    argument of a: re-run a, run b, run ask, run each, run told, run last, run clean
    argument of b: keep a, run b, run ask, run each, run told, run last, run clean
    message: keep a, keep b, run ask, run each, run told, run last, run clean
    loop: keep a, keep b, run ask, run each, run told, run last, run clean
    input: re-run a, run b, run ask, run each, run told, run last, run clean
    list: keep a, keep b, run ask, run each, run told, run last, run clean
    component of b: keep a, run b, run ask, run each, run told, run last, run clean
    ");
}

#[test]
fn a_run_that_waits_for_an_answer() {
    insta::assert_snapshot!(table("+a =a +b =b +ask ?ask"), @r"
    nothing: keep a, keep b, keep ask, run each, run told, run last, run clean
    added: keep a, keep b, keep ask, run each, run told, run more, run last, run clean
    removed: keep a, keep b, keep ask, run each, run told, run clean, drop last
    renamed: keep a, keep b, keep ask, run each, run told, run final, run clean, drop last
    rewired to an equal value: keep a, keep b, keep ask, run each, run told, run last, run clean
    argument of a: re-run a, re-run b, restart ask, run each, run told, run last, run clean
    argument of b: keep a, re-run b, restart ask, run each, run told, run last, run clean
    message: keep a, keep b, restart ask, run each, run told, run last, run clean
    loop: keep a, keep b, keep ask, run each, run told, run last, run clean
    input: re-run a, re-run b, restart ask, run each, run told, run last, run clean
    list: keep a, keep b, keep ask, run each, run told, run last, run clean
    component of b: keep a, re-run b, restart ask, run each, run told, run last, run clean
    ");
}

#[test]
fn a_run_in_the_middle_of_a_loop() {
    insta::assert_snapshot!(table("+a =a +b =b +ask ?ask !ask +each @each +one[x] =one[x] +one[y]"), @r"
    nothing: keep a, keep b, keep ask, keep each, keep one[x], keep one[y], run told, run last, run clean
    added: keep a, keep b, keep ask, keep each, keep one[x], keep one[y], run told, run more, run last, run clean
    removed: keep a, keep b, keep ask, keep each, keep one[x], keep one[y], run told, run clean, drop last
    renamed: keep a, keep b, keep ask, keep each, keep one[x], keep one[y], run told, run final, run clean, drop last
    rewired to an equal value: keep a, keep b, keep ask, keep each, keep one[x], keep one[y], run told, run last, run clean
    argument of a: re-run a, re-run b, re-run ask, restart each, run told, run last, run clean
    argument of b: keep a, re-run b, re-run ask, restart each, run told, run last, run clean
    message: keep a, keep b, re-run ask, restart each, run told, run last, run clean
    loop: keep a, keep b, keep ask, keep each, keep one[x], restart one[y], run told, run last, run clean
    input: re-run a, re-run b, re-run ask, restart each, run told, run last, run clean
    list: keep a, keep b, keep ask, keep each, keep one[y], run one[z], run told, run last, run clean, drop one[x]
    component of b: keep a, re-run b, re-run ask, restart each, run told, run last, run clean
    ");
}

#[test]
fn a_run_whose_last_step_is_at_work() {
    let words = "+a =a +b =b +ask ?ask !ask +each @each +one[x] =one[x] +one[y] =one[y] +told =told +last";
    insta::assert_snapshot!(table(words), @r"
    nothing: keep a, keep b, keep ask, keep each, keep one[x], keep one[y], keep told, keep last, run clean
    added: keep a, keep b, keep ask, keep each, keep one[x], keep one[y], keep told, run more, keep last, run clean
    removed: keep a, keep b, keep ask, keep each, keep one[x], keep one[y], keep told, run clean, drop last
    renamed: keep a, keep b, keep ask, keep each, keep one[x], keep one[y], keep told, run final, run clean, drop last
    rewired to an equal value: keep a, keep b, keep ask, keep each, keep one[x], keep one[y], keep told, keep last, run clean
    argument of a: re-run a, re-run b, re-run ask, re-run each, refuse told, restart last, run clean
    argument of b: keep a, re-run b, re-run ask, re-run each, refuse told, restart last, run clean
    message: keep a, keep b, re-run ask, re-run each, refuse told, restart last, run clean
    loop: keep a, keep b, keep ask, re-run each, keep one[x], re-run one[y], refuse told, restart last, run clean
    input: re-run a, re-run b, re-run ask, re-run each, refuse told, restart last, run clean
    list: keep a, keep b, keep ask, re-run each, keep one[y], run one[z], refuse told, restart last, run clean, drop one[x]
    component of b: keep a, re-run b, re-run ask, re-run each, refuse told, restart last, run clean
    ");
}

#[test]
fn a_run_that_has_failed() {
    let words = "+a =a +b =b +ask ?ask !ask +each @each +one[x] =one[x] +one[y] -one[y] +clean =clean end";
    insta::assert_snapshot!(table(words), @r"
    nothing: keep a, keep b, keep ask, run each, keep one[x], run one[y], run told, run last, run clean
    added: keep a, keep b, keep ask, run each, keep one[x], run one[y], run told, run more, run last, run clean
    removed: keep a, keep b, keep ask, run each, keep one[x], run one[y], run told, run clean, drop last
    renamed: keep a, keep b, keep ask, run each, keep one[x], run one[y], run told, run final, run clean, drop last
    rewired to an equal value: keep a, keep b, keep ask, run each, keep one[x], run one[y], run told, run last, run clean
    argument of a: re-run a, re-run b, re-run ask, run each, run told, run last, run clean
    argument of b: keep a, re-run b, re-run ask, run each, run told, run last, run clean
    message: keep a, keep b, re-run ask, run each, run told, run last, run clean
    loop: keep a, keep b, keep ask, run each, keep one[x], run one[y], run told, run last, run clean
    input: re-run a, re-run b, re-run ask, run each, run told, run last, run clean
    list: keep a, keep b, keep ask, run each, run one[y], run one[z], run told, run last, run clean, drop one[x]
    component of b: keep a, re-run b, re-run ask, run each, run told, run last, run clean
    ");
}

#[test]
fn reasons_are_sentences() {
    let mut run = begun(FILE);
    play(
        &mut run,
        "+a =a +b =b +ask ?ask !ask +each @each +one[x] =one[x] +one[y] =one[y] +told =told +last",
    );
    let why = |upgrade: &Upgrade| {
        let lines = upgrade.steps.iter().map(|it| format!("{} {}: {}", it.verdict.as_str(), it.at, it.why));
        lines.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(why(&upgraded(&run, "command: [cat]", "command: [ls]")), @r"
    keep a: it has finished
    re-run b: `with.command` has another value
    re-run ask: it needs `b`, which is to be done
    re-run each: it needs `ask`, which is to be done
    refuse told: it has finished, and it needs `each`, which is to be done; done again, it could act a second time outside of the run's sandboxes: `--again` allows that, `--keep told` keeps its outputs
    restart last: it needs `told`, which is to be done
    run clean: it runs at the end
    ");
    insta::assert_snapshot!(why(&upgraded(&run, "  last:", "  final:")), @r"
    keep a: it has finished
    keep b: it has finished
    keep ask: it has finished
    keep each: it has finished
    keep one[x]: it has finished
    keep one[y]: it has finished
    keep told: it has finished
    run final: it is new
    run clean: it runs at the end
    drop last: the file has it no more; if `final` is the same step, let it keep the name `last`
    ");
}

#[test]
fn the_operator_may_insist() {
    let mut run = begun(FILE);
    play(
        &mut run,
        "+a =a +b =b +ask ?ask !ask +each @each +one[x] =one[x] +one[y] =one[y] +told =told +last",
    );
    let new = version(&FILE.replacen("text: \"${{ inputs.who }}\"", "text: hello", 1), inputs());
    assert!(run.upgrade(&new, &terms()).is_refused());
    let again = run.upgrade(&new, &Terms { again: true, ..terms() });
    assert!(told(&again).contains("re-run told, restart last"), "{}", told(&again));
    let keep = run.upgrade(&new, &Terms { keep: [StepId::new("told")].into(), ..terms() });
    assert!(told(&keep).contains("keep told, keep last"), "{}", told(&keep));
    // What the file says may be repeated needs no consent.
    let keyed = FILE.replacen("    with: { to:", "    idempotency-key: k\n    with: { to:", 1);
    let mut run = begun(&keyed);
    play(
        &mut run,
        "+a =a +b =b +ask ?ask !ask +each @each +one[x] =one[x] +one[y] =one[y] +told =told +last",
    );
    let new = version(&keyed.replacen("text: \"${{ inputs.who }}\"", "text: hello", 1), inputs());
    assert!(told(&run.upgrade(&new, &terms())).contains("re-run told"));
}

#[test]
fn what_was_decided_happens_and_nothing_else() {
    let mut run = begun(FILE);
    play(&mut run, "+a =a +b =b +ask ?ask !ask +each @each +one[x] =one[x] +one[y]");
    let stale = upgraded(&run, "command: [cat]", "command: [ls]").event;
    play(&mut run, "=one[y] +told");
    let before = run.clone();
    let refused = run.apply(2, &Event::RunUpgraded(Box::new(stale))).unwrap_err();
    assert!(refused.to_string().contains("decided on another state"), "{refused}");
    assert_eq!(run, before);

    let now = upgraded(&run, "command: [cat]", "command: [ls]");
    let line = serde_json::to_string(&Event::RunUpgraded(Box::new(now.event))).unwrap();
    run.apply(2, &serde_json::from_str(&line).unwrap()).unwrap();
    // The attempt of `told` is to stop, and until it has, nothing begins.
    let told_at = StepRef::from(StepId::new("told"));
    assert_eq!(run.commands(), [crate::run::Command::Stop { at: told_at.clone(), attempt: 1 }]);
    let late = Event::StepSucceeded { at: told_at.clone(), attempt: 1, outputs: Default::default() };
    run.apply(3, &late).unwrap();
    assert!(run.apply(4, &late).is_err(), "an attempt ends once");
    play(&mut run, "+b =b +ask ?ask !ask +each @each +one[x] =one[x] +one[y] =one[y] +told");
    assert_eq!(run.state(&told_at).unwrap().attempts.len(), 2);
    assert_eq!(run.state(&StepRef::parse("b")).unwrap().attempts.len(), 2);
    assert_eq!(run.state(&StepRef::parse("a")).unwrap().attempts.len(), 1);
}

#[test]
fn attempts_of_a_step_that_comes_back_go_on_counting() {
    let mut run = begun(FILE);
    play(&mut run, "+a =a +b =b");
    let without = FILE.replacen("needs: b", "needs: a", 1);
    let line = "  b: { uses: exec/run, retry: { attempts: 3 }, with: { command: [cat], stdin: \"${{ steps.a.stdout }}\" } }\n";
    let without = version(&without.replacen(line, "", 1), inputs());
    for new in [without, version(FILE, inputs())] {
        let upgrade = run.upgrade(&new, &terms());
        run.apply(2, &Event::RunUpgraded(Box::new(upgrade.event))).unwrap();
    }
    assert_eq!(run.state(&StepRef::parse("b")).unwrap().phase, Phase::Waiting { attempt: 2 });
}

#[test]
fn what_stands_against_an_upgrade_is_named() {
    let mut run = begun(FILE);
    play(&mut run, "+a");
    let named = run.upgrade(&version(&FILE.replacen("name: t", "name: other", 1), inputs()), &terms());
    let boxed = FILE.replacen("steps:", "sandboxes: { box: { image: agent } }\nsteps:", 1);
    let boxed = run.upgrade(&version(&boxed, inputs()), &terms());
    run.apply(2, &Event::CancelRequested { note: None }).unwrap();
    let stopping = upgraded(&run, "", "");
    let all = [named, boxed, stopping];
    insta::assert_snapshot!(all.map(|it| it.refusals.join("; ")).join("\n"), @r"
    it is a run of `t`, and the file is named `other`: keep the name, or start a run of its own
    steps have worked in the sandbox `box`, and the file gives it another image or other volumes: give the new sandbox another name, so that its steps begin in a fresh one
    it is stopping: upgrade it once it has ended
    ");
}
