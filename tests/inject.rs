//! `harvest run --inject`: authors see their workflow fail, and go on.

mod harness;

use harness::{Home, text};
use serde_json::Value;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

const SIGKILL: i32 = 9;

/// Steps that each note in a file of their sandbox that they ran.
const STEPS: &str = r#"
harvest: 1
name: fragile
steps:
  one:
    uses: exec/run
    with: { command: [sh, -c, "echo one >> /root/ran"] }
  two:
    uses: exec/run
    needs: [one]
    timeout: 2s
    retry: { attempts: 2, backoff: { first: 1ms } }
    with: { command: [sh, -c, "echo two >> /root/ran"] }
  each:
    needs: [two]
    for-each: { item: n, in: "['a', 'b']", key: "${{ n }}", on-failure: continue }
    steps:
      three:
        uses: exec/run
        with: { command: [sh, -c, "echo three >> /root/ran; cat /root/ran"] }
outputs:
  ran: "${{ steps.each.succeeded.map(i, i.steps.three.stdout.orValue('')).join('|') }}"
  failed: "${{ steps.each.failed.map(f, f.key).join(',') }}"
"#;

fn workflow(home: &Home) -> PathBuf {
    home.file("fragile.yaml", STEPS)
}

/// Kind of error of each attempt of a step; `null` where it has none.
fn attempts(home: &Home, run: &str, step: &str) -> Vec<Value> {
    let shown = home.json(&["show", run, "--json"]);
    let attempts = shown["steps"][step]["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["error"]["kind"].clone()).collect()
}

#[test]
fn a_crash_is_one_and_a_resumed_run_keeps_its_faults() {
    let home = Home::new();
    let file = workflow(&home);
    // Before the side effect, and after it: only then is it there twice.
    for (fault, ran) in [("crash", "one\ntwo\nthree\n"), ("crash-after", "one\ntwo\ntwo\nthree\n")] {
        let spec = format!("two={fault}");
        let arguments = ["run", file.to_str().unwrap(), "--inject", &spec, "--inject", "two=error@2"];
        let crashed = home.run(&arguments);
        assert_eq!(crashed.status.signal(), Some(SIGKILL), "{}", text(&crashed.stderr));
        assert!(text(&crashed.stderr).contains("attempt 1 of step two"), "{}", text(&crashed.stderr));
        let run = home.newest();
        let resumed = home.run(&["resume"]);
        assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
        assert_eq!(attempts(&home, &run, "two"), ["host-lost".into(), Value::from("network"), Value::Null]);
        assert_eq!(attempts(&home, &run, "one"), [Value::Null]);
        let shown = home.json(&["show", &run, "--json"]);
        assert!(shown["outputs"]["ran"].as_str().unwrap().starts_with(ran), "{shown}");
        assert_eq!(shown["injected"], serde_json::json!([format!("two={fault}@1"), "two=error:network@2"]));
        let said = text(&home.run(&["show", &run]).stdout);
        assert!(said.contains(&format!("injected  two={fault}@1, two=error:network@2\n")), "{said}");
    }
}

#[test]
fn attempts_fail_take_longer_and_lose_their_sandbox_as_told() {
    let home = Home::new();
    let file = workflow(&home);
    let cases = [
        ("two=error", 0, "network", "injected: nothing was called"),
        ("two=slow:1h", 0, "timed-out", "the attempt took longer than 2s (injected)"),
        ("two=lost", 0, "sandbox-lost", "injected: the sandbox was ended while the step used it"),
        ("two=error:timed-out@*", 6, "timed-out", "injected: nothing was called"),
    ];
    for (spec, code, kind, message) in cases {
        let (exit_code, last) = home.finish(&file, &["--inject", spec]);
        assert_eq!(exit_code, code, "{spec}: {last}");
        let run = last["run"].as_str().unwrap();
        let shown = home.json(&["show", run, "--json"]);
        let first = &shown["steps"]["two"]["attempts"][0]["error"];
        assert_eq!((&first["kind"], &first["message"]), (&kind.into(), &message.into()), "{spec}");
        if code == 0 {
            assert_eq!(shown["steps"]["two"]["attempts"].as_array().unwrap().len(), 2);
            // What the step before it left is still there.
            assert!(last["outputs"]["ran"].as_str().unwrap().starts_with("one\n"), "{spec}: {last}");
        }
    }
}

#[test]
fn one_item_of_a_loop_can_be_chosen() {
    let home = Home::new();
    let (code, last) =
        home.finish(&workflow(&home), &["--inject", "three[b]=error", "--inject", "one=slow:10ms"]);
    assert_eq!((code, &last["outputs"]["failed"]), (0, &"b".into()), "{last}");
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_runs() {
    let home = Home::new();
    let file = workflow(&home);
    for (spec, hint) in [
        ("tow=crash", "did you mean `two`?"),
        ("two=crash@0", "attempts are counted from 1"),
        ("two=error:timedout", "did you mean `timed-out`?"),
        ("each=lost", "is a loop"),
        ("two=melt", "the faults are"),
    ] {
        let refused = home.run(&["run", file.to_str().unwrap(), "--inject", spec]);
        assert_eq!(refused.status.code(), Some(2), "{spec}");
        assert!(text(&refused.stderr).contains(hint), "{spec}: {}", text(&refused.stderr));
    }
    assert_eq!(home.json(&["runs", "--json"]), serde_json::json!([]));
}
