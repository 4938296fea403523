//! A run goes on with a new version of its file: while it waits, after it has failed, and across crashes.

mod harness;

use harness::{Home, text};
use serde_json::Value;
use std::path::PathBuf;

/// A step that notes that it ran, on disk beside the home, and says how often it has.
fn counted(name: &str, counters: &str, rest: &str) -> String {
    format!(
        "  {name}:\n    uses: exec/run\n    {rest}\n    with: {{ command: [sh, -c, 'echo {name} >> {counters}; cat {counters}'] }}\n"
    )
}

/// Writes a workflow of these steps.
fn file(home: &Home, name: &str, steps: &[&str]) -> PathBuf {
    home.file(name, &format!("harvest: 1\nname: moved\nsteps:\n{}", steps.concat()))
}

/// What a step of the sandbox noted, by what the last counted step said.
fn ran(home: &Home, run: &str, step: &str) -> String {
    home.json(&["show", run, "--json"])["steps"][step]["outputs"]["stdout"].as_str().unwrap().to_owned()
}

fn verdicts(array: &Value) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    array.as_array().unwrap().iter().map(|it| (word(&it["verdict"]), word(&it["step"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(verdict, step)| ((*verdict).to_owned(), (*step).to_owned())).collect()
}

const LOG: &str = "/root/ran";

#[test]
fn a_run_that_waits_is_moved_by_another_process_and_goes_on_in_the_first() {
    let home = Home::new();
    let ask = "  ask: { needs: one, approve: { message: Ready? } }\n";
    let old = file(
        &home,
        "old.yaml",
        &[&counted("one", LOG, "needs: []"), ask, &counted("two", LOG, "needs: ask")],
    );
    let mut running = home.start(&old);
    let asked = running.wait_for("approval_requested", Some("ask"));
    let run = asked["run"].as_str().unwrap().to_owned();
    let new = file(
        &home,
        "new.yaml",
        &[
            &counted("one", LOG, "needs: []"),
            &ask.replace("Ready?", "Really?"),
            &counted("three", LOG, "needs: ask"),
        ],
    );
    let new = new.to_str().unwrap();

    let dry = home.run(&["upgrade", &run, new, "--dry-run", "--json"]);
    assert_eq!(dry.status.code(), Some(0), "{}", text(&dry.stderr));
    let expected = pairs(&[("keep", "one"), ("restart", "ask"), ("run", "three"), ("drop", "two")]);
    assert_eq!(verdicts(&serde_json::from_slice(&dry.stdout).unwrap()), expected);
    let shown = home.json(&["show", &run, "--json"]);
    assert!(shown["steps"]["two"].is_object(), "a dry run changes nothing");

    let done = home.run(&["upgrade", &run, new]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("restart  ask"), "{}", text(&done.stdout));
    assert!(text(&done.stderr).contains("the process that drives it goes on"), "{}", text(&done.stderr));
    running.wait_for("run_upgraded", None);
    let asked = running.wait_for("approval_requested", Some("ask"));
    assert_eq!(asked["message"], "Really?");
    assert_eq!(home.run(&["approve", &run, "ask"]).status.code(), Some(0));
    let finished = running.wait_for("run_finished", None);
    assert_eq!(finished["state"], "succeeded", "{finished}");
    assert_eq!(ran(&home, &run, "three"), "one\nthree\n", "what was kept ran once, what was dropped never");

    let late = home.run(&["upgrade", &run, new, "--json"]);
    assert_eq!(late.status.code(), Some(2));
    let array: Value = serde_json::from_slice(&late.stdout).unwrap();
    assert_eq!((&array[0]["step"], array[0]["verdict"].as_str()), (&Value::Null, Some("refuse")));
}

#[test]
fn a_run_that_failed_goes_on_with_a_corrected_file() {
    let home = Home::new();
    let broken = "  two: { needs: one, uses: exec/run, with: { command: [\"false\"] } }\n";
    let three = counted("three", LOG, "needs: two");
    let old = file(&home, "flow.yaml", &[&counted("one", LOG, "needs: []"), broken, &three]);
    let (code, last) = home.finish(&old, &[]);
    assert_eq!(code, 1);
    let run = last["run"].as_str().unwrap().to_owned();
    let new = file(
        &home,
        "flow.yaml",
        &[&counted("one", LOG, "needs: []"), &counted("two", LOG, "needs: one"), &three],
    );
    let new = new.to_str().unwrap();
    // Without a flag the run is driven here, as `retry` does.
    let done = home.run(&["upgrade", &run, new]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert_eq!(ran(&home, &run, "three"), "one\ntwo\nthree\n");
    let shown = home.json(&["show", &run, "--json"]);
    let attempts = |step: &str| shown["steps"][step]["attempts"].as_array().unwrap().len();
    assert_eq!((shown["state"].as_str(), attempts("one"), attempts("two")), (Some("succeeded"), 1, 2));
}

#[test]
fn what_is_missing_or_dangerous_is_refused_and_changes_nothing() {
    let home = Home::new();
    let asks = "  ask: { approve: { message: Ready? } }\n";
    let mut running = home.start(&file(&home, "old.yaml", &[asks]));
    let run = running.wait_for("approval_requested", None)["run"].as_str().unwrap().to_owned();
    let events = || text(&home.run(&["events", &run, "--json"]).stdout);
    let before = events();
    let head = "harvest: 1\nname: moved\n";
    let input = home.file("input.yaml", &format!("{head}inputs: {{ who: string }}\nsteps:\n{asks}  b: {{ uses: exec/run, with: {{ command: [echo, \"${{{{ inputs.who }}}}\"] }} }}\n"));
    let secret = home.file("secret.yaml", &format!("{head}secrets: {{ token: {{ from: [env:HARVEST_TEST_NONE] }} }}\nsteps:\n{asks}  b: {{ uses: exec/run, secrets: {{ T: token }}, with: {{ command: [ls] }} }}\n"));
    let wrong = home.file("wrong.yaml", &format!("{head}steps:\n{asks}  b: {{ uses: exec/rn }}\n"));
    let other = home.file("other.yaml", &format!("harvest: 1\nname: other\nsteps:\n{asks}"));
    for (path, code, says) in [
        (&input, 2, "-i who="),
        (&secret, 3, "env:HARVEST_TEST_NONE"),
        (&wrong, 2, "exec"),
        (&other, 2, "keep the name"),
    ] {
        let refused = home.run(&["upgrade", &run, path.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(code), "{says}: {}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains(says), "{says}: {}", text(&refused.stderr));
    }
    assert_eq!(events(), before);
    let done = home.run(&["upgrade", &run, input.to_str().unwrap(), "-i", "who=you"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    running.wait_for("step_succeeded", Some("b"));
    assert_eq!(home.json(&["show", &run, "--json"])["inputs"]["who"], "you");
    running.kill();
}

#[test]
fn an_upgrade_stops_what_changed_while_it_runs() {
    let home = Home::new();
    let one = counted("one", LOG, "needs: []");
    let hangs =
        "  two: { needs: one, uses: exec/run, with: { command: [sh, -c, 'echo hanging; sleep 71.41'] } }\n";
    let mut running = home.start(&file(&home, "old.yaml", &[&one, hangs]));
    let run = running.wait_for("step_started", Some("two"))["run"].as_str().unwrap().to_owned();
    home.wait_until_said(&run, "hanging");
    let new = file(&home, "new.yaml", &[&one, &counted("two", LOG, "needs: one")]);
    assert_eq!(home.run(&["upgrade", &run, new.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(running.wait_for("run_finished", None)["state"], "succeeded");
    assert_eq!(harness::processes_with("71.41"), Vec::<String>::new(), "the stopped attempt left nothing");
    assert_eq!(ran(&home, &run, "two"), "one\ntwo\n");
}

#[test]
fn a_killed_run_is_moved_and_resumed_with_the_new_file() {
    let home = Home::new();
    let one = counted("one", LOG, "needs: []");
    let hangs =
        "  two: { needs: one, uses: exec/run, with: { command: [sh, -c, 'echo hanging; sleep 71.42'] } }\n";
    let old = file(&home, "old.yaml", &[&one, hangs]);
    let new = file(&home, "new.yaml", &[&one, &counted("two", LOG, "needs: one")]);
    for kill_first in [true, false] {
        let mut running = home.start(&old);
        let run = running.wait_for("step_started", Some("two"))["run"].as_str().unwrap().to_owned();
        home.wait_until_said(&run, "hanging");
        let moved = |driven: bool| {
            let moved = home.run(&["upgrade", &run, new.to_str().unwrap()]);
            assert_eq!(moved.status.code(), Some(0), "{}", text(&moved.stderr));
            assert_eq!(text(&moved.stderr).contains("the process that drives it"), driven);
        };
        if kill_first {
            running.kill();
            moved(false);
        } else {
            // Killed while it moves, wherever it is by then.
            moved(true);
            running.kill();
        }
        let resumed = home.run(&["resume"]);
        assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
        assert_eq!(ran(&home, &run, "two").lines().filter(|line| *line == "one").count(), 1);
        assert_eq!(home.json(&["show", &run, "--json"])["state"], "succeeded");
    }
}

#[test]
fn a_process_without_the_new_secret_hands_the_run_over() {
    let home = Home::new();
    let asks = "  ask: { approve: { message: Ready? } }\n";
    let mut running = home.start(&file(&home, "old.yaml", &[asks]));
    let run = running.wait_for("approval_requested", None)["run"].as_str().unwrap().to_owned();
    let told = "harvest: 1\nname: moved\nsecrets: { token: { from: [env:HARVEST_TEST_TOKEN] } }\nsteps:\n";
    let uses = "  b:\n    needs: ask\n    uses: exec/run\n    secrets: { TOKEN: token }\n    with: { command: [sh, -c, 'echo ${#TOKEN}'] }\n";
    let new = home.file("new.yaml", &format!("{told}{asks}{uses}"));
    let with_secret = |arguments: &[&str]| {
        home.harvest().env("HARVEST_TEST_TOKEN", "twelve-chars").args(arguments).output().unwrap()
    };
    let moved = with_secret(&["upgrade", &run, new.to_str().unwrap()]);
    assert_eq!(moved.status.code(), Some(0), "{}", text(&moved.stderr));
    assert_eq!(running.child.wait().unwrap().code(), Some(3), "it has no such secret");
    assert_eq!(home.run(&["approve", &run, "ask"]).status.code(), Some(0));
    let resumed = with_secret(&["resume"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    assert_eq!(ran(&home, &run, "b"), "12\n");
}

#[test]
fn a_sandbox_gets_its_new_settings_and_keeps_its_files() {
    let home = Home::new();
    let text = |colour: &str, more: &str| {
        let boxed = format!("sandboxes: {{ box: {{ env: {{ COLOUR: {colour} }} }} }}\n");
        let one = "  one: { uses: exec/run, with: { command: [sh, -c, 'echo $COLOUR > /root/colour'] } }\n";
        let ask = "  ask: { needs: one, approve: { message: Ready? } }\n";
        format!("harvest: 1\nname: moved\n{boxed}steps:\n{one}{ask}{more}")
    };
    let two = "  two: { needs: ask, uses: exec/run, with: { command: [sh, -c, 'cat /root/colour; echo $COLOUR'] } }\n";
    let mut running = home.start(&home.file("old.yaml", &text("red", "")));
    let run = running.wait_for("approval_requested", None)["run"].as_str().unwrap().to_owned();
    let new = home.file("new.yaml", &text("blue", two));
    assert_eq!(home.run(&["upgrade", &run, new.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(home.run(&["approve", &run, "ask"]).status.code(), Some(0));
    assert_eq!(running.wait_for("run_finished", None)["state"], "succeeded");
    assert_eq!(ran(&home, &run, "two"), "red\nblue\n");
}

#[test]
fn a_sub_workflow_at_work_that_changed_is_stopped_and_begun_anew() {
    let home = Home::new();
    let inner = |command: &str| {
        let step = format!("  deep: {{ uses: exec/run, with: {{ command: [sh, -c, '{command}'] }} }}\n");
        home.file(
            "inner.yaml",
            &format!(
                "harvest: 1\nname: inner\nsteps:\n{step}outputs:\n  said: \"${{{{ steps.deep.stdout }}}}\"\n"
            ),
        )
    };
    inner("echo hanging; sleep 71.43");
    let outer = home.file("outer.yaml", "harvest: 1\nname: outer\nsteps:\n  sub: { uses: ./inner.yaml }\noutputs:\n  said: \"${{ steps.sub.said }}\"\n");
    let mut running = home.start(&outer);
    let run = running.wait_for("step_started", Some("sub"))["run"].as_str().unwrap().to_owned();
    let children = || {
        let all = home.json(&["runs", "--workflow", "inner", "--json"]);
        all.as_array().unwrap().iter().map(|row| row["run"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = loop {
        if let Some(child) = children().pop() {
            break child;
        }
    };
    home.wait_until_said(&first, "hanging");
    inner("echo done");
    let alone = home.run(&["upgrade", &first, outer.to_str().unwrap()]);
    assert_eq!(alone.status.code(), Some(2));
    assert!(text(&alone.stderr).contains(&format!("the step `sub` of run {run}")), "{}", text(&alone.stderr));
    let moved = home.run(&["upgrade", &run, outer.to_str().unwrap()]);
    assert_eq!(moved.status.code(), Some(0), "{}", text(&moved.stderr));
    assert_eq!(running.wait_for("run_finished", None)["outputs"]["said"], "done\n");
    assert_eq!(children().len(), 2, "a run of its own");
    assert_eq!(home.json(&["show", &first, "--json"])["state"], "cancelled");
}
