//! The grammar, carried out by the real binary in real sandboxes: one file with nearly all of it, and what people do to
//! runs of it.

mod harness;

use harness::{Home, Running, text};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The workflow of `tests/language/`, beside the file that it uses.
fn workflow(home: &Home) -> PathBuf {
    home.file("inner.yaml", include_str!("language/inner.yaml"));
    home.file("all.yaml", include_str!("language/all.yaml"))
}

#[test]
fn loops_sub_workflows_groups_and_kept_outputs_work_together() {
    let home = Home::new();
    let file = workflow(&home);
    let (code, last) = home.finish(&file, &[]);
    assert_eq!(code, 0, "{last}");
    let outputs = &last["outputs"];
    assert_eq!(outputs["total"], 3);
    assert_eq!(outputs["failed"], "bob");
    assert_eq!(outputs["said"], json!(["hi ann x2!", "hi eve x2!"]));
    assert_eq!(outputs["flaky"], "failed");

    let run = last["run"].as_str().unwrap();
    let shown = home.json(&["show", run, "--json"]);
    assert_eq!(shown["steps"]["each"]["items"][1]["error"]["kind"], "exited");
    assert_eq!(shown["steps"]["review"]["state"], "skipped");
    let said = text(&home.run(&["logs", run, "after[eve]"]).stdout);
    assert_eq!(said, "after[eve] | hi eve x2!\n");
    let children = home.json(&["runs", "--workflow", "inner", "--json"]);
    assert_eq!(children.as_array().unwrap().len(), 3, "each use is a run of its own");

    // The same again: what is kept is not made anew. Another input, or another file, and it is.
    let (_, again) = home.finish(&file, &[]);
    assert_eq!(again["outputs"]["kept"], outputs["kept"]);
    let (_, other) = home.finish(&file, &["-i", "names=[\"ann\"]"]);
    assert_ne!(other["outputs"]["kept"], outputs["kept"]);
    home.file("inner.yaml", &include_str!("language/inner.yaml").replace("hi ", "hello "));
    let (_, changed) = home.finish(&file, &[]);
    assert_ne!(changed["outputs"]["kept"], outputs["kept"]);
    assert_eq!(changed["outputs"]["said"][0], "hello ann x2!");
}

#[test]
fn a_run_that_asks_goes_on_when_another_process_answers() {
    for (answer, code) in [("approve", 0), ("reject", 7)] {
        let home = Home::new();
        let mut command = home.harvest();
        command.args(["run", "--json"]).arg(workflow(&home)).args([
            "-i",
            "ask=true",
            "-i",
            "names=[\"ann\"]",
        ]);
        let mut running = Running::of(command);
        let asked = running.wait_for("approval_requested", Some("review"));
        assert_eq!(asked["message"], "Publish for ann?");
        let run = asked["run"].as_str().unwrap();
        // It may be busy with its other steps for a moment; then it only waits.
        assert_eq!(home.json(&["show", run, "--json"])["steps"]["review"]["state"], "waiting");
        let wrong = home.run(&[answer, run, "flaky"]);
        assert_eq!(wrong.status.code(), Some(2));
        assert!(text(&wrong.stderr).contains("`review` does"), "{}", text(&wrong.stderr));
        let answered = home.run(&[answer, run, "review", "--note", "looked at it"]);
        assert_eq!(answered.status.code(), Some(0), "{}", text(&answered.stderr));
        let last = running.wait_for("run_finished", None);
        assert_eq!(running.child.wait().unwrap().code(), Some(code), "{last}");
        if code == 7 {
            assert_eq!(last["error"]["kind"], "rejected");
            assert!(last["error"]["message"].as_str().unwrap().ends_with(": looked at it"), "{last}");
        }
    }
}

#[test]
fn an_approval_survives_its_process() {
    let home = Home::new();
    let mut command = home.harvest();
    command.args(["run", "--json"]).arg(workflow(&home)).args(["-i", "ask=true", "-i", "names=[]"]);
    let mut running = Running::of(command);
    let run = running.wait_for("approval_requested", None)["run"].as_str().unwrap().to_owned();
    running.kill();
    let answered = home.run(&["approve", &run, "review"]);
    assert!(text(&answered.stderr).contains("`harvest resume` carries it on"), "{}", text(&answered.stderr));
    assert_eq!(home.run(&["resume"]).status.code(), Some(0));
    let shown = home.json(&["show", &run, "--json"]);
    assert_eq!(
        (shown["state"].as_str(), &shown["steps"]["review"]["outputs"]["approved"]),
        (Some("succeeded"), &true.into())
    );
}

/// Fails until a file is there that only the step before makes, and then once more.
const FLAKY: &str = r#"
harvest: 1
name: flaky
inputs:
  word: { type: string, default: first }
steps:
  one:
    uses: exec/run
    with: { command: [sh, -c, "echo one >> /root/ran; cat /root/ran"] }
  two:
    uses: exec/run
    needs: [one]
    with: { command: [sh, -c, "test -e /root/tried || { touch /root/tried; exit 1; }; echo $1; cat /root/ran", sh, "${{ inputs.word }}"] }
outputs:
  two: "${{ steps.two.stdout }}"
"#;

#[test]
fn a_failed_run_is_retried_from_where_it_failed_and_rerun_with_other_inputs() {
    let home = Home::new();
    let file = home.file("flaky.yaml", FLAKY);
    let (code, failed) = home.finish(&file, &[]);
    assert_eq!(code, 1, "{failed}");
    let run = failed["run"].as_str().unwrap();
    let retried = home.run(&["retry", run, "--json"]);
    assert_eq!(retried.status.code(), Some(0), "{}", text(&retried.stderr));
    let shown = home.json(&["show", run, "--json"]);
    // The files that the first step left are there, and it was not done again.
    assert_eq!(shown["outputs"]["two"], "first\none\n");
    assert_eq!(shown["steps"]["one"]["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(shown["steps"]["two"]["attempts"].as_array().unwrap().len(), 2);
    let again = home.run(&["retry", run]);
    assert_eq!(again.status.code(), Some(2));
    assert!(text(&again.stderr).contains("it has succeeded"), "{}", text(&again.stderr));

    let rerun = home.run(&["rerun", run, "-i", "word=second", "--json"]);
    let last: Value = serde_json::from_str(text(&rerun.stdout).lines().last().unwrap()).unwrap();
    assert_ne!(last["run"], *run, "a rerun is a run of its own, in a sandbox of its own");
    assert_eq!((rerun.status.code(), last["error"]["step"].as_str()), (Some(1), Some("two")));
    let unknown = home.run(&["rerun", run, "-i", "wrod=x"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("did you mean `word`"), "{}", text(&unknown.stderr));
}

#[test]
fn runs_of_one_group_take_turns_across_processes() {
    let home = Home::new();
    let group = |name: &str, policy: &str, step: &str| {
        home.file(
            &format!("{name}.yaml"),
            &format!("harvest: 1\nname: {name}\nconcurrency: {{ group: deploy, on-conflict: {policy} }}\nsteps:\n  a:\n    uses: exec/run\n    with: {{ command: {step} }}\n"),
        )
    };
    let mut first = home.start(&group("first", "queue", "[sleep, '64.37']"));
    first.wait_for("step_started", Some("a"));
    let mut second = home.start(&group("second", "queue", "[\"true\"]"));
    let queued = second.wait_for("run_queued", None);
    assert_eq!(queued["group"], "deploy");
    assert_eq!(home.json(&["show", queued["run"].as_str().unwrap(), "--json"])["state"], "queued");
    let (code, refused) = home.finish(&group("third", "reject", "[\"true\"]"), &[]);
    assert_eq!((code, refused["error"]["kind"].as_str()), (1, Some("conflict")));
    let (code, fourth) = home.finish(&group("fourth", "cancel-old", "[\"true\"]"), &[]);
    assert_eq!(code, 0, "{fourth}");
    let cancelled = first.wait_for("run_finished", None);
    assert_eq!(cancelled["state"], "cancelled");
    assert!(cancelled["error"]["message"].as_str().unwrap().contains(fourth["run"].as_str().unwrap()));
    assert_eq!(second.wait_for("run_finished", None)["state"], "succeeded");
    first.child.wait().unwrap();
    second.child.wait().unwrap();
}

#[test]
fn answers_stand_in_for_steps_and_last_as_long_as_the_run() {
    let home = Home::new();
    // Neither the image, nor the CLI, nor a credential is there.
    let session = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/agent-session.yaml");
    let answers = home.file(
        "answers.yaml",
        "clone: { outputs: { path: /workspace/app, sha: abc, branch: main } }\nidentity: { outputs: { author: x } }\nmemory: { outputs: { path: /m, entities: 0, seeded: true } }\nagent:\n  outputs: { result: Done, session_id: s, turns: 3, cost_usd: 0.25, input_tokens: 10, output_tokens: 5, changed: false, summary: Done }\nremember:\n  outputs: { entities: 0, merged: false }\n",
    );
    let inputs = ["-i", "repo=team/app", "-i", "prompt=Go", "--mock", answers.to_str().unwrap()];
    let (code, last) = home.finish(&session, &inputs);
    assert_eq!((code, &last["outputs"]["cost_usd"]), (0, &json!(0.25)), "{last}");
    let shown = home.json(&["show", last["run"].as_str().unwrap(), "--json"]);
    assert_eq!(shown["steps"]["commit"]["skipped_because"], "its condition is false: steps.agent.changed");

    let answers = home.file("failing.yaml", "one: { error: { kind: network, message: no route } }\n");
    let file = home.file("flaky.yaml", FLAKY);
    let (code, failed) = home.finish(&file, &["--mock", answers.to_str().unwrap()]);
    assert_eq!((code, failed["error"]["message"].as_str()), (1, Some("no route")));
    let wrong = home.file("wrong.yaml", "two: { outputs: { exit_code: none } }\n");
    let refused = home.run(&["run", file.to_str().unwrap(), "--mock", wrong.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("wrong.yaml:1:30"), "{}", text(&refused.stderr));
}

#[test]
fn a_plan_says_what_would_run_with_what_and_runs_nothing() {
    let home = Home::new();
    let session = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/agent-session.yaml");
    let inputs = ["check", "--plan", session.to_str().unwrap(), "-i", "repo=team/app", "-i", "prompt=Go"];
    let planned = home.harvest().args(inputs).env("GITHUB_TOKEN", "ghp_0123456789abcdef").output().unwrap();
    let said = text(&planned.stdout);
    assert_eq!(planned.status.code(), Some(0), "{}", text(&planned.stderr));
    for line in [
        "sandbox box: image agent, network none",
        "  volume harvest-state at /mnt/state",
        "secret github: present (modal:harvest-github/GITHUB_TOKEN, env:GITHUB_TOKEN)",
        "step clone (git/clone) would run",
        "  repo: team/app",
        "  is handed the secret github as token",
        "  cwd: ${{ steps.clone.path }}",
        "step commit (git/commit) depends on what runs before it: if: steps.agent.changed",
    ] {
        assert!(said.lines().any(|printed| printed == line), "{line} is missing in\n{said}");
    }
    assert!(!said.contains("ghp_"), "a plan shows no secret");
    assert_eq!(text(&home.run(&["runs", "--json"]).stdout).trim(), "[]");

    let file = workflow(&home);
    let plan = |home: &Home| home.json(&["check", "--plan", "--json", file.to_str().unwrap()]);
    let step = |plan: &Value, id: &str| {
        plan["steps"].as_array().unwrap().iter().find(|step| step["step"] == id).unwrap().clone()
    };
    let before = plan(&home);
    assert_eq!(
        (&step(&before, "review")["would"], &step(&before, "kept")["would"]),
        (&json!("be skipped"), &json!("run"))
    );
    home.finish(&file, &[]);
    assert_eq!(step(&plan(&home), "kept")["would"], "be taken from earlier outputs");
    let secret = home.file(
        "secret.yaml",
        "harvest: 1\nname: s\nsecrets:\n  token: { from: \"command:touch ran; echo x\" }\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [\"true\"] }\n    secrets: { TOKEN: token }\n",
    );
    let planned = home.json(&["check", "--plan", "--json", secret.to_str().unwrap()]);
    assert_eq!(planned["sandboxes"]["box"]["secrets_in_commands"], json!(["a.TOKEN"]));
    assert!(!home.scratch().join("ran").exists(), "no program is run for a secret");
}

#[test]
fn answers_reach_into_sub_workflows_answer_questions_and_are_not_kept() {
    let home = Home::new();
    let file = workflow(&home);
    let answered = |review: &str| {
        let answers = home.file(
            "answers.yaml",
            &format!(
                "review: {review}\n\
                 greet/say: {{ outputs: {{ exit_code: 0, stdout: every, stderr: '' }} }}\n\
                 \"greet[a/b]/say\": {{ outputs: {{ exit_code: 0, stdout: one, stderr: '' }} }}\n\
                 kept: {{ outputs: {{ exit_code: 0, stdout: made up, stderr: '' }} }}\n"
            ),
        );
        let inputs = ["-i", "ask=true", "-i", r#"names=["a/b", "c"]"#, "--mock", answers.to_str().unwrap()];
        home.finish(&file, &inputs)
    };
    let (code, last) = answered("{ outputs: { approved: true, by: eve } }");
    assert_eq!((code, &last["outputs"]["said"]), (0, &json!(["one!", "every!"])), "{last}");
    assert_eq!(last["outputs"]["kept"], "made up");
    let (code, last) = answered("{ outputs: { approved: false, note: not today, by: eve } }");
    assert_eq!((code, last["error"]["message"].as_str()), (7, Some("rejected by eve: not today")), "{last}");

    let (code, last) = home.finish(&file, &["-i", r#"names=["a/b", "c"]"#]);
    assert_eq!(code, 0, "{last}");
    assert_ne!(last["outputs"]["kept"], "made up", "what was made up is never taken for real");
}

#[test]
fn finally_knows_that_the_time_was_up() {
    let home = Home::new();
    let file = home.file(
        "silent.yaml",
        "harvest: 1\nname: silent\nsteps:\n  quiet:\n    uses: exec/run\n    with: { command: [sleep, '64.41'] }\n    idle-timeout: 200ms\nfinally:\n  tell: { uses: exec/run, with: { command: [echo, \"${{ run.status }}\"] } }\n",
    );
    let (code, last) = home.finish(&file, &[]);
    assert_eq!((code, &last["state"]), (6, &json!("timed_out")), "{last}");
    let said = text(&home.run(&["logs", last["run"].as_str().unwrap(), "tell"]).stdout);
    assert_eq!(said, "tell | timed_out\n");
}

#[test]
fn a_secret_that_only_signs_requests_is_for_whoever_listens() {
    let home = Home::new();
    let text_of_file = "harvest: 1\nname: hooked\non:\n  webhook: [{ id: push, path: /hooks/x, verify: { hmac-sha256: hook } }]\nsecrets:\n  hook: { from: env:HARVEST_TEST_NO_SUCH_VALUE }\nsteps:\n  a: { uses: exec/run, with: { command: [\"true\"] } }\n";
    let (code, last) = home.finish(&home.file("hooked.yaml", text_of_file), &[]);
    assert_eq!(code, 0, "{last}");
    let handed = text_of_file.replace("[\"true\"] } }", "[\"true\"] }, secrets: { TOKEN: hook } }");
    let refused = home.run(&["run", home.file("handed.yaml", &handed).to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
}
