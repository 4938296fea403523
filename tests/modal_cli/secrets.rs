//! Secrets that Modal keeps by name: a command has the value, and nothing of this machine ever does.

use crate::harness::{Home, text};
use crate::served::Served;
use serde_json::json;
use std::path::PathBuf;

/// The value, which must be nowhere on this machine.
const VALUE: &str = "kept-by-modal-0123456789";

fn served() -> Served {
    Served::new(|server| server.secret("team", [("KEY", VALUE), ("OTHER", "also kept")]))
}

/// One step with a secret from this source.
fn file(home: &Home, from: &str, step: &str) -> PathBuf {
    let text =
        format!("harvest: 1\nname: secrets\nsecrets:\n  key: {{ from: {from} }}\nsteps:\n  one:\n{step}");
    home.file("secrets.yaml", &text)
}

/// Says of variables how long their values are.
const LENGTHS: &str = r#"    uses: exec/run
    with:
      command: [sh, -c, 'echo "${#NAMED} ${KEY-none} ${OTHER-none} ${name-none}"']
      env: { name: kept }
    secrets: { NAMED: key }
"#;

#[test]
fn a_command_has_the_value_and_this_machine_never_does() {
    let served = served();
    let step = format!("{LENGTHS}outputs: {{ said: \"${{{{ steps.one.stdout }}}}\" }}\n");
    let ended = served.run(&file(&served.home, "modal:team/KEY", &step), &[]);
    assert_eq!(ended.code, 0, "{}", ended.said);
    assert_eq!(ended.last["outputs"]["said"], format!("{} none none kept\n", VALUE.len()));
    assert_eq!(served.home.files_with(VALUE), Vec::<PathBuf>::new());

    let looked_up = served.asked("SecretGetOrCreate");
    assert_eq!(looked_up, [json!({ "deployment_name": "team", "required_keys": ["KEY"] })]);
    let started = served.asked("TaskExecStart");
    let sources: Vec<_> =
        started.iter().filter_map(|start| start["secret_sources"].as_array()).flatten().collect();
    assert!(sources.iter().any(|source| source["secret_id"].is_string()), "{sources:?}");
    assert!(!json!(started).to_string().contains(VALUE));
}

#[test]
fn a_variable_may_have_the_name_of_another_key() {
    let served = served();
    let text = "harvest: 1\nname: swapped\nsecrets:\n  key: { from: modal:team/KEY }\n  other: { from: modal:team/OTHER }\nsteps:\n  one:\n    uses: exec/run\n    with: { command: [sh, -c, 'echo ${#OTHER} ${#KEY}'] }\n    secrets: { OTHER: key, KEY: other }\noutputs: { said: \"${{ steps.one.stdout }}\" }\n";
    let ended = served.run(&served.home.file("swapped.yaml", text), &[]);
    assert_eq!(ended.code, 0, "{}", ended.said);
    assert_eq!(ended.last["outputs"]["said"], format!("{} {}\n", VALUE.len(), "also kept".len()));
}

#[test]
fn what_modal_does_not_keep_is_named_and_ends_with_3() {
    let served = served();
    for (from, said) in [
        (
            "modal:nobody/KEY",
            "modal:nobody/KEY (Modal: there is no secret nobody in environment main; `modal secret create nobody KEY=...` makes one)",
        ),
        ("modal:team/NONE", "modal:team/NONE (Modal: secret team lacks NONE"),
        ("[modal:team/NONE, env:HARVEST_NO_SUCH]", "makes one), env:HARVEST_NO_SUCH; set one of them"),
    ] {
        let ended = served.run(&file(&served.home, from, LENGTHS), &[]);
        assert_eq!(ended.code, 3, "{}", ended.said);
        assert!(
            ended.said.contains("secret `key` has no value") && ended.said.contains(said),
            "{}",
            ended.said
        );
    }
    assert_eq!(served.asked("SandboxCreateV2"), Vec::<serde_json::Value>::new());
}

#[test]
fn other_providers_pass_the_source_over() {
    let home = Home::new();
    let run = |from: &str| {
        let path = file(&home, from, LENGTHS);
        let mut command = home.harvest();
        let output = command.env("MODAL_TEST_KEY", VALUE).arg("run").arg(path).output().expect("it runs");
        (output.status.code(), text(&output.stderr) + &text(&output.stdout))
    };
    let (code, said) = run("modal:team/KEY");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("tried modal:team/KEY (only with `--provider modal`); set one of them"), "{said}");
    let (code, said) = run("[modal:team/KEY, env:MODAL_TEST_KEY]");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn what_is_done_on_this_machine_says_what_to_write() {
    let served = served();
    let clone = "    uses: git/clone\n    with: { repo: example/none }\n    secrets: { token: key }\n";
    let ended = served.run(&file(&served.home, "modal:team/KEY", clone), &[]);
    assert_eq!(ended.error().0, "invalid", "{}", ended.said);
    assert!(ended.error().1.contains("from a source such as `env:KEY` in its `from`"), "{}", ended.said);
}

#[test]
fn where_modal_does_not_answer_it_ends_with_4() {
    let served = served();
    let path = file(&served.home, "modal:team/KEY", LENGTHS);
    let mut command = served.harvest();
    let output = command
        .env("MODAL_SERVER_URL", "http://127.0.0.1:9")
        .args(["run", "--provider", "modal"])
        .arg(&path)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
}

#[test]
fn a_plan_says_which_secrets_can_be_seen() {
    let served = served();
    let path = file(&served.home, "[modal:team/KEY, env:MODAL_TEST_KEY]", LENGTHS);
    let plan = |more: &[&str]| {
        let mut command = served.harvest();
        let output = command
            .args(["check", "--plan", "--provider", "modal"])
            .args(more)
            .arg(&path)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let said = plan(&[]);
    assert!(said.contains("kept by the provider, so that what runs there can see them"), "{said}");
    assert!(said.contains("services that they are for: one.NAMED"), "{said}");
    assert!(
        said.contains(
            "secret key: kept by the provider, which was not asked (modal:team/KEY, env:MODAL_TEST_KEY)"
        ),
        "{said}"
    );
    let json: serde_json::Value = serde_json::from_str(&plan(&["--json"])).expect("JSON");
    assert_eq!(json["secrets"]["key"]["kept"], "team/KEY");
    let mut sandboxes = json["sandboxes"].as_object().expect("sandboxes").values();
    assert!(sandboxes.all(|sandbox| sandbox["secrets_by_name"] == json!(["one.NAMED"])), "{json}");
    assert_eq!(served.asked("SecretGetOrCreate"), Vec::<serde_json::Value>::new());
}
