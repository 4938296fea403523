//! The command line as its users and their scripts see it.

mod harness;

use harness::{Home, processes_with, text};
use serde_json::Value;
use std::time::{Duration, Instant};

const TWO_STEPS: &str = r#"
harvest: 1
name: two-steps
inputs:
  who: { type: string, default: world }
steps:
  greet:
    uses: exec/run
    with: { command: [echo, "hello ${{ inputs.who }}"] }
  count:
    uses: exec/run
    with:
      command: [wc, -c]
      stdin: "${{ steps.greet.stdout }}"
outputs:
  greeting: "${{ steps.greet.stdout.trim() }}"
  bytes: "${{ int(steps.count.stdout.trim()) }}"
"#;

#[test]
fn a_run_is_told_as_lines_of_json_and_listed_afterwards() {
    let home = Home::new();
    let file = home.file("two.yaml", TWO_STEPS);
    let output = home.harvest().args(["run", "--json", "-i", "who=you"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let events: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["run_started", "step_started", "step_succeeded", "step_started", "step_succeeded", "run_finished"]
    );
    let last = events.last().unwrap();
    assert_eq!(last["state"], "succeeded");
    assert_eq!(last["exit_code"], 0);
    assert_eq!(last["outputs"], serde_json::json!({ "greeting": "hello you", "bytes": 10 }));
    assert!(
        events
            .windows(2)
            .all(|pair| pair[0]["seq"].as_u64().unwrap() + 1 == pair[1]["seq"].as_u64().unwrap())
    );

    let run = home.newest();
    let shown = home.json(&["show", &run, "--json"]);
    assert_eq!(shown["steps"]["greet"]["state"], "succeeded");
    assert_eq!(shown["steps"]["greet"]["component"]["name"], "exec");
    assert_eq!(shown["inputs"]["who"], "you");
    let logs = text(&home.run(&["logs", &run, "greet", "--json"]).stdout);
    let said: Value = serde_json::from_str(logs.lines().next().unwrap()).unwrap();
    assert_eq!((said["stream"].as_str(), said["text"].as_str()), (Some("stdout"), Some("hello you\n")));
    let events_again = text(&home.run(&["events", &run, "--json"]).stdout);
    assert_eq!(events_again, text(&output.stdout), "the journal says what the run said");
}

#[test]
fn outputs_are_data_and_progress_is_talk() {
    let home = Home::new();
    let file = home.file("two.yaml", TWO_STEPS);
    let output = home.harvest().arg("run").arg(&file).output().unwrap();
    assert_eq!(text(&output.stdout), "greeting: hello world\nbytes: 12\n");
    assert!(text(&output.stderr).contains("greet            ok"), "{}", text(&output.stderr));
}

#[test]
fn mistakes_have_their_exit_codes() {
    let home = Home::new();
    let file = home.file("two.yaml", TWO_STEPS);
    let secret = home.file(
        "secret.yaml",
        "harvest: 1\nname: s\nsecrets:\n  token: { from: [env:HARVEST_TEST_NONE, file:none] }\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [\"true\"] }\n    secrets: { TOKEN: token }\n",
    );
    let unknown = home.run(&["run", file.to_str().unwrap(), "-i", "whom=you"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("did you mean `who`"), "{}", text(&unknown.stderr));
    let missing = home.run(&["run", secret.to_str().unwrap()]);
    assert_eq!(missing.status.code(), Some(3));
    assert!(
        text(&missing.stderr).contains("tried env:HARVEST_TEST_NONE, file:none"),
        "{}",
        text(&missing.stderr)
    );
    assert_eq!(home.run(&["show", "01arz3ndektsv4rrffq69g5fav"]).status.code(), Some(5));
    assert_eq!(home.run(&["show", "nonsense"]).status.code(), Some(5));
    assert_eq!(home.run(&["run", "/no/such/file.yaml"]).status.code(), Some(2));
    assert_eq!(home.run(&["frobnicate"]).status.code(), Some(2));
    let none = home.run(&["runs", "--json"]);
    assert_eq!(text(&none.stdout).trim(), "[]", "nothing that failed before it began is a run");
}

#[test]
fn check_names_every_mistake_at_its_place() {
    let home = Home::new();
    let bad = home.file(
        "bad.yaml",
        "harvest: 1\nname: bad\nsteps:\n  a:\n    uses: exec/rn\n    with: { command: [x] }\n  b:\n    uses: exec/run\n    needs: [c]\n    with: { comand: [x] }\n",
    );
    let output = home.run(&["check", "--json", bad.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let places: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["line"].as_u64().unwrap(), d["severity"].as_str().unwrap()))
        .collect();
    assert!(
        places.contains(&(5, "error")) && places.contains(&(9, "error")) && places.contains(&(10, "error")),
        "{found}"
    );
    let good = home.file("two.yaml", TWO_STEPS);
    assert_eq!(home.run(&["check", good.to_str().unwrap()]).status.code(), Some(0));
}

#[test]
fn a_sub_workflow_lies_where_its_user_says() {
    let home = Home::new();
    let outer = home.file(
        "outer.yaml",
        "harvest: 1\nname: outer\nsteps:\n  a: { uses: ./below/inner.yaml, with: { who: you } }\noutputs:\n  said: \"${{ steps.a.said }}\"\n",
    );
    let below = outer.parent().unwrap().join("below");
    std::fs::create_dir(&below).unwrap();
    home.file("leaf.yaml", TWO_STEPS);
    let inner = "harvest: 1\nname: inner\ninputs: { who: string }\nsteps:\n  b: { uses: ../leaf.yaml, with: { who: \"${{ inputs.who }}\" } }\noutputs:\n  said: \"${{ steps.b.greeting }}\"\n";
    std::fs::write(below.join("inner.yaml"), inner).unwrap();
    let check = || home.run(&["check", "--json", outer.to_str().unwrap()]);
    assert_eq!(check().status.code(), Some(0), "{}", text(&check().stdout));

    std::fs::write(below.join("inner.yaml"), inner.replace("steps.b.greeting", "steps.b.greting")).unwrap();
    assert_eq!(check().status.code(), Some(2));
    let report = text(&check().stdout);
    assert!(report.contains("E0408") && report.contains("E0312 in line 7"), "{report}");
    assert!(report.contains("below/inner.yaml`"), "{report}");

    std::fs::write(below.join("inner.yaml"), inner.replace("../leaf.yaml", "../outer.yaml")).unwrap();
    assert!(text(&check().stdout).contains("E0409"), "{}", text(&check().stdout));
}

#[test]
fn exec_returns_the_commands_own_code() {
    let home = Home::new();
    let hello = home.run(&["exec", "--timeout", "30s", "--", "python3", "-c", "print('Hello from sandbox')"]);
    assert_eq!((text(&hello.stdout).as_str(), hello.status.code()), ("Hello from sandbox\n", Some(0)));
    assert_eq!(home.run(&["exec", "--", "sh", "-c", "exit 37"]).status.code(), Some(37));
    let json = home.run(&["exec", "--json", "--env", "A=b", "--", "sh", "-c", "echo $A; exit 4"]);
    let last: Value = serde_json::from_str(text(&json.stdout).lines().last().unwrap()).unwrap();
    assert_eq!(last, serde_json::json!({ "outcome": "exited", "exit_code": 4 }));
    assert_eq!(json.status.code(), Some(4));
}

#[test]
fn exec_kills_everything_at_its_timeout() {
    let home = Home::new();
    let started = Instant::now();
    let script = "setsid sleep 61.73 & trap '' TERM; sleep 60.73";
    let output = home.run(&["exec", "--timeout", "1s", "--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(6));
    // Not how fast it is, only that it did not wait for the command.
    assert!(started.elapsed() < Duration::from_secs(50));
    assert_eq!(processes_with("60.73"), Vec::<String>::new());
    assert_eq!(processes_with("61.73"), Vec::<String>::new());
}

#[test]
fn a_failing_command_fails_the_run_with_its_words() {
    let home = Home::new();
    let file = home.file(
        "fail.yaml",
        "harvest: 1\nname: fail\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [sh, -c, 'echo the reason >&2; exit 9'] }\n  b:\n    uses: exec/run\n    needs: [a]\n    with: { command: [\"true\"] }\nfinally:\n  c:\n    uses: exec/run\n    with: { command: [echo, \"${{ run.status }}\"] }\n",
    );
    let (code, last) = home.finish(&file, &[]);
    assert_eq!((code, last["state"].as_str()), (1, Some("failed")));
    assert_eq!((last["error"]["step"].as_str(), last["error"]["kind"].as_str()), (Some("a"), Some("exited")));
    assert!(last["error"]["message"].as_str().unwrap().contains("the reason"), "{last}");
    let shown = home.json(&["show", &home.newest(), "--json"]);
    assert_eq!(shown["steps"]["b"]["state"], "pending");
    assert_eq!(shown["steps"]["c"]["outputs"]["stdout"], "failed\n");
}

#[test]
fn a_step_that_takes_too_long_times_the_run_out() {
    let home = Home::new();
    let file = home.file(
        "slow.yaml",
        "harvest: 1\nname: slow\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [sleep, '62.41'] }\n    timeout: 300ms\n",
    );
    let (code, last) = home.finish(&file, &[]);
    assert_eq!(
        (code, last["state"].as_str(), last["error"]["kind"].as_str()),
        (6, Some("timed_out"), Some("timed-out"))
    );
    assert_eq!(processes_with("62.41"), Vec::<String>::new());
}

#[test]
fn another_process_can_cancel_a_run() {
    let home = Home::new();
    let file = home.file(
        "wait.yaml",
        "harvest: 1\nname: wait\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [sleep, '63.29'] }\n",
    );
    let mut running = home.start(&file);
    let started = running.wait_for("step_started", Some("a"));
    let run = started["run"].as_str().unwrap();
    assert_eq!(home.run(&["cancel", run, "--note", "not today"]).status.code(), Some(0));
    let last = running.wait_for("run_finished", None);
    assert_eq!(
        (last["state"].as_str(), last["error"]["message"].as_str()),
        (Some("cancelled"), Some("not today"))
    );
    assert_eq!(running.child.wait().unwrap().code(), Some(130));
    assert_eq!(processes_with("63.29"), Vec::<String>::new());
}

#[test]
fn a_credential_is_nowhere_but_where_it_was_sent() {
    let home = Home::new();
    let canary = "canary-Zx81%/+Spectrum&48k";
    let file = home.file(
        "secret.yaml",
        r#"
harvest: 1
name: secret
secrets:
  token: { from: env:HARVEST_TEST_CANARY }
steps:
  leak:
    uses: exec/run
    secrets: { TOKEN: token }
    with:
      allow_failure: true
      command:
        - python3
        - -c
        - |
          import base64, hashlib, os, sys, urllib.parse
          token = os.environ["TOKEN"]
          print(token, flush=True)
          print(token, file=sys.stderr, flush=True)
          sys.stdout.write(token[:9]); sys.stdout.flush(); sys.stdout.write(token[9:] + "\n"); sys.stdout.flush()
          print(base64.b64encode(token.encode()).decode(), urllib.parse.quote(token, safe=""))
          print(hashlib.sha256(token.encode()).hexdigest())
          sys.exit(5)
  fail:
    uses: exec/run
    needs: [leak]
    secrets: { TOKEN: token }
    with: { command: [sh, -c, 'echo "$TOKEN" >&2; exit 1'] }
outputs:
  out: "${{ steps.leak.stdout }}"
"#,
    );
    let output =
        home.harvest().env("HARVEST_TEST_CANARY", canary).args(["run", "-vv"]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let run = home.newest();
    let mut seen = text(&output.stdout) + &text(&output.stderr);
    for arguments in [["show", &run, "--json"], ["events", &run, "--json"], ["logs", &run, "--json"]] {
        seen += &text(&home.run(&arguments).stdout);
    }
    // The digest shows that the command had the real thing.
    let digest = harvest::id::Digest::of(canary.as_bytes()).hex();
    assert!(seen.contains(&digest), "the command did not get the secret");
    let base64 = "Y2FuYXJ5LVp4ODElLytTcGVjdHJ1bSY0OGs";
    let url = "canary-Zx81%25%2F%2BSpectrum%2648k";
    for form in [canary, base64, url] {
        assert!(!seen.contains(form), "{form} was printed: {seen}");
        assert_eq!(home.files_with(form), Vec::<std::path::PathBuf>::new());
    }
}
