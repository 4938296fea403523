//! `harvest check` and the commands around it, as people, editors and other programs use them.

mod harness;

use harness::{Home, text};
use serde_json::{Map, Value, json};
use std::os::unix::fs::PermissionsExt;

const GOOD: &str = "harvest: 1\nname: good\nsteps:\n  a: { uses: exec/run, with: { command: [ls] } }\n";

#[test]
fn explain_says_what_a_code_means_and_what_may_have_been_meant() {
    let home = Home::new();
    let one = home.run(&["explain", "e0312"]);
    assert_eq!(one.status.code(), Some(0));
    assert!(text(&one.stdout).starts_with("E0312: an unknown output, input or field\n"));
    assert!(text(&one.stdout).contains("\nBad:\n\n    harvest: 1\n"), "{}", text(&one.stdout));
    let all = text(&home.run(&["explain"]).stdout);
    assert!(all.contains("E0312  an unknown output, input or field\n"), "{all}");
    assert!(all.contains("W0101  an unused input\n"), "{all}");
    let near = home.run(&["explain", "E312"]);
    assert_eq!(near.status.code(), Some(2));
    let said = text(&near.stderr);
    assert!(said.contains("did you mean E0312, an unknown output, input or field?"), "{said}");
    assert!(!home.path().exists(), "explaining needs no home");
}

/// A mistake with a fix, one with a further place, and a credential, on lines with characters of several bytes.
const BAD: &str = r#"
harvest: 1
name: bad
description: "ä"
steps:
  a: { uses: exec/rn, with: { command: [ls] } }
  b: { uses: exec/run, with: { command: ["ä", "${{ inputs.x }}", ghp_0123456789abcdefghijklmnopqrstuvwxyzAB] } }
  b: { uses: exec/run, with: { command: [ls] } }
"#;

#[test]
fn check_prints_an_array_of_diagnostics_for_programs() {
    let home = Home::new();
    let bad = home.file("bad.yaml", BAD);
    let output = home.run(&["check", "--json", bad.to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), String::new()));
    let mut found: Value = serde_json::from_slice(&output.stdout).unwrap();
    for diagnostic in found.as_array_mut().unwrap() {
        assert_eq!(diagnostic["file"], bad.to_str().unwrap());
        diagnostic["file"] = "bad.yaml".into();
    }
    insta::assert_json_snapshot!(found, @r#"
    [
      {
        "code": "E0403",
        "severity": "error",
        "message": "component `exec` has no function `rn`",
        "file": "bad.yaml",
        "line": 6,
        "column": 19,
        "end_line": 6,
        "end_column": 21,
        "help": "did you mean `run`?",
        "fix": {
          "line": 6,
          "column": 19,
          "end_line": 6,
          "end_column": 21,
          "replacement": "run"
        }
      },
      {
        "code": "E0312",
        "severity": "error",
        "message": "there is no input `x`",
        "file": "bad.yaml",
        "line": 7,
        "column": 59,
        "end_line": 7,
        "end_column": 60,
        "help": "declare it: `inputs: { x: { type: string } }`"
      },
      {
        "code": "E0801",
        "severity": "error",
        "message": "a GitHub token is written into the file",
        "file": "bad.yaml",
        "line": 7,
        "column": 66,
        "end_line": 7,
        "end_column": 108,
        "help": "revoke it, declare `secrets: { name: { from: env:NAME } }`, and bind it to a slot of the step"
      },
      {
        "code": "E0106",
        "severity": "error",
        "message": "the key `b` is written twice",
        "file": "bad.yaml",
        "line": 8,
        "column": 3,
        "end_line": 8,
        "end_column": 4,
        "help": "remove or rename one of them",
        "labels": [
          {
            "line": 7,
            "column": 3,
            "end_line": 7,
            "end_column": 4,
            "message": "first written here"
          }
        ]
      }
    ]
    "#);
    let good = home.file("good.yaml", GOOD);
    let output = home.run(&["check", "--json", good.to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "[]\n"));
}

#[test]
fn check_prints_a_sarif_log_for_code_scanning() {
    let home = Home::new();
    home.file("bad.yaml", BAD);
    let mut command = home.harvest();
    let output = command.current_dir(home.scratch()).args(["check", "--sarif", "bad.yaml"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), String::new()));
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "harvest");
    let results = run["results"].as_array().unwrap();
    let rules: Vec<_> = results.iter().map(|result| result["ruleId"].as_str().unwrap()).collect();
    assert_eq!(rules, ["E0403", "E0312", "E0801", "E0106"]);
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "bad.yaml");
    assert_eq!(place["region"], json!({ "startLine": 6, "startColumn": 19, "endLine": 6, "endColumn": 21 }));
    assert!(!text(&output.stdout).contains("ghp_0123"), "the credential is not repeated");
    assert_eq!(home.run(&["check", "--sarif", "--json", "x.yaml"]).status.code(), Some(2));
}

#[test]
fn check_fixes_what_it_knows_how_to_and_prints_the_rest() {
    let home = Home::new();
    let before = "harvest: 1\nname: w\nsteps:\n  get-it:\n    uses: exec/rn\n    with: { comand: [ls], x: 1 }\n  b: { uses: exec/run, needs: get-it, with: { command: [ls] } }\n";
    let file = home.file("w.yaml", before);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let mut command = home.harvest();
    let output = command.current_dir(home.scratch()).args(["check", "--fix", "w.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(text(&output.stdout), @r"
    w.yaml:4: get-it -> get_it
    w.yaml:5: rn -> run
    w.yaml:6: comand -> command
    w.yaml:7: get-it -> get_it
    ");
    insta::assert_snapshot!(text(&output.stderr), @r"
    error[E0404]: exec/run has no parameter `x`
     --> w.yaml:6:28
      |
    6 |     with: { command: [ls], x: 1 }
      |                            ^
      |
      = help: its parameters are `command`, `env`, `workdir`, `stdin` and `allow_failure`
    ");
    let fixed = std::fs::read_to_string(&file).unwrap();
    assert!(
        fixed.contains("get_it:") && fixed.contains("needs: get_it") && fixed.contains("command: [ls], x")
    );
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);

    home.file("w.yaml", &fixed.replace(", x: 1", "").replace("needs", "neds"));
    let output = home.run(&["check", "--fix", "--json", file.to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "[]\n"));
    assert!(text(&output.stderr).ends_with("w.yaml:7: neds -> needs\n"), "{}", text(&output.stderr));
    let again = home.run(&["check", "--fix", file.to_str().unwrap()]);
    assert_eq!((again.status.code(), text(&again.stdout).as_str()), (Some(0), ""));
}

#[test]
fn check_writes_nothing_that_would_make_a_file_worse() {
    let home = Home::new();
    let before = "harvest: 1\nname: w\nsteps:\n  a-b: { uses: exec/run, with: { command: [ls] } }\n  a_b: { uses: exec/run, with: { command: [ls] } }\n";
    let file = home.file("w.yaml", before);
    let output = home.run(&["check", "--fix", file.to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""));
    let said = text(&output.stderr);
    assert!(
        said.contains("w.yaml: 1 proposed change was not made: it would make the file worse\n"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}

/// The schema as an editor uses it: for the shipped workflows, and for a component that lies beside one's own.
#[test]
fn schema_is_written_for_editors() {
    let home = Home::new();
    std::fs::copy(env!("HARVEST_GUEST_EXEC"), home.scratch().join("team.wasm")).unwrap();
    home.file("broken.wasm", "no component");
    let mut command = home.harvest();
    let output = command.current_dir(home.scratch()).arg("schema").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        ".harvest/workflow.schema.json\n# yaml-language-server: $schema=.harvest/workflow.schema.json\n"
    );
    assert!(
        text(&output.stderr).contains("left out of the schema: ./broken.wasm: "),
        "{}",
        text(&output.stderr)
    );
    let written = std::fs::read(home.scratch().join(".harvest/workflow.schema.json")).unwrap();
    let schema: Value = serde_json::from_slice(&written).unwrap();
    jsonschema::draft7::meta::validate(&schema).unwrap_or_else(|error| panic!("{error}"));
    let validator = jsonschema::draft7::new(&schema).unwrap();

    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows");
    let mut count = 0;
    for entry in std::fs::read_dir(shipped).unwrap() {
        let path = entry.unwrap().path();
        let file = harvest::workflow::data::read("w", &std::fs::read_to_string(&path).unwrap()).unwrap();
        // The place of a scalar decides what it is: quoted or not, the same is accepted.
        for file in [plain(file.clone()), file] {
            let faults: Vec<_> = validator.iter_errors(&file).map(|error| error.to_string()).collect();
            assert!(faults.is_empty(), "{}: {faults:#?}", path.display());
        }
        count += 1;
    }
    assert!(count > 0);
    let accepts = |uses: &str, with: Value| {
        let steps = json!({ "a": { "uses": uses, "with": with } });
        validator.is_valid(&json!({ "harvest": 1, "name": "w", "steps": steps }))
    };
    assert!(accepts("./team.wasm#run", json!({ "command": ["ls"], "allow_failure": "${{ 1 == 1 }}" })));
    assert!(!accepts("./team.wasm#run", json!({ "command": "ls" })));
    assert!(!accepts("exec/run", json!({ "command": ["ls"], "allow_failure": "perhaps" })));
    assert!(!accepts("exec/rn", json!({ "command": ["ls"] })));
    assert!(accepts("./other.wasm#check", json!({ "anything": 1 })), "what is not known is not judged");
}

/// A value whose scalars are what YAML makes of them without quotes.
fn plain(value: Value) -> Value {
    match value {
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(scalar @ (Value::Number(_) | Value::Bool(_))) => scalar,
            _ => text.into(),
        },
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, plain(value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

#[test]
fn a_file_that_cannot_be_read_hides_no_other() {
    let home = Home::new();
    let (good, bad) = (home.file("good.yaml", GOOD), home.file("bad.yaml", BAD));
    let output = home.run(&[
        "check",
        "--json",
        "none.yaml",
        good.to_str().unwrap(),
        bad.to_str().unwrap(),
        "neither.yaml",
    ]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found.as_array().unwrap().iter().any(|found| found["code"] == "E0403"), "{found}");
    let said = text(&output.stderr);
    assert!(said.contains("none.yaml") && said.contains("neither.yaml"), "{said}");
    assert_eq!(output.status.code(), Some(2), "{said}");
}

#[test]
fn one_name_is_corrected_wherever_it_stands() {
    let home = Home::new();
    let uses = |word: &str| format!("[echo, \"${{{{ inputs.{word} }}}}\", \"${{{{ inputs.{word} }}}}\"]");
    let file_with = |word: &str| {
        format!(
            "harvest: 1\nname: w\ninputs: {{ level: string }}\nsteps:\n  a:\n    uses: exec/run\n    with: {{ command: {} }}\n",
            uses(word)
        )
    };
    let file = home.file("w.yaml", &file_with("levl"));
    let found = home.run(&["check", "--json", file.to_str().unwrap()]);
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found[0]["labels"][0]["fix"]["replacement"], "level", "{found}");
    assert_eq!(home.run(&["check", "--fix", file.to_str().unwrap()]).status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), file_with("level"));
}

#[test]
fn what_is_not_shown_is_counted() {
    let home = Home::new();
    let steps: String = (0..300).map(|n| format!("  s{n}: {{ uses: exec/run, wth: {{}} }}\n")).collect();
    let file = home.file("many.yaml", &format!("harvest: 1\nname: many\nsteps:\n{steps}"));
    let output = home.run(&["check", "--json", file.to_str().unwrap()]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 200);
    let help = found[199]["help"].as_str().unwrap();
    assert!(help.ends_with(" more are not shown: mend these first"), "{help}");
}
