//! What the schema of SARIF 2.1.0 requires, and what its readers rely on.

use super::*;
use crate::workflow::check::check;
use crate::workflow::fixture;

/// Mistakes with a further place, with a fix, behind characters of several bytes, and a warning.
const FILE: &str = r#"
harvest: 1
name: w
description: "ä"
inputs: { unused: string }
steps:
  a: { uses: exec/run, with: { command: ["ä 💡", "${{ steps.d.stdot }}"] } }
  a: { uses: exec/run, with: { command: [ls] } }
  b: { uses: exec/rn, with: { command: [ls] } }
  c: { uses: exec/run, with: { command: [ls] }, if: "${{ true }}" }
  d: { uses: exec/run, with: { command: [ls] } }
"#;

fn log_of(name: &str, text: &str) -> Value {
    log(&check(name, text, &fixture::catalog()).diagnostics)
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The result of the one mistake of `FILE` with this code.
fn result_of(log: &Value, code: &str) -> Value {
    let results = log["runs"][0]["results"].as_array().unwrap();
    results.iter().find(|result| result["ruleId"] == code).unwrap().clone()
}

#[test]
fn further_places_and_fixes() {
    let log = log_of("flows/w 1.yaml", FILE);
    insta::assert_json_snapshot!(result_of(&log, "E0106")["relatedLocations"], @r#"
    [
      {
        "physicalLocation": {
          "artifactLocation": {
            "uri": "flows/w%201.yaml"
          },
          "region": {
            "startLine": 7,
            "startColumn": 3,
            "endLine": 7,
            "endColumn": 4
          }
        },
        "message": {
          "text": "first written here"
        }
      }
    ]
    "#);
    insta::assert_json_snapshot!(result_of(&log, "E0403")["fixes"], @r#"
    [
      {
        "description": {
          "text": "write `run`"
        },
        "artifactChanges": [
          {
            "artifactLocation": {
              "uri": "flows/w%201.yaml"
            },
            "replacements": [
              {
                "deletedRegion": {
                  "startLine": 9,
                  "startColumn": 19,
                  "endLine": 9,
                  "endColumn": 21
                },
                "insertedContent": {
                  "text": "run"
                }
              }
            ]
          }
        ]
      }
    ]
    "#);
}

#[test]
fn braces_of_messages_are_doubled_and_those_of_contents_are_not() {
    let log = log_of("w.yaml", FILE);
    let result = result_of(&log, "E0301");
    assert_eq!(
        result["message"]["text"],
        "a condition is an expression already, without `${{{{ }}}}`. Help: write `if: true`"
    );
}

#[test]
fn every_object_has_what_the_schema_requires_and_nothing_it_does_not_know() {
    let log = log_of("w.yaml", FILE);
    assert_eq!(keys(&log), ["$schema", "version", "runs"]);
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    assert_eq!(keys(run), ["tool", "columnKind", "results"]);
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let driver = &run["tool"]["driver"];
    assert_eq!(keys(driver), ["name", "version", "rules"]);
    let rules = driver["rules"].as_array().unwrap();
    assert_eq!(rules.len(), code::ALL.len());
    for (rule, code) in rules.iter().zip(code::ALL) {
        assert_eq!(keys(rule), ["id", "shortDescription", "defaultConfiguration", "fullDescription", "help"]);
        assert_eq!(rule["id"], code.id);
        assert_eq!(keys(&rule["help"]), ["text", "markdown"]);
        let level = if code.is_warning() { "warning" } else { "error" };
        assert_eq!(rule["defaultConfiguration"], json!({ "level": level }));
    }
    let results = run["results"].as_array().unwrap();
    assert!(results.len() > 3, "{results:#?}");
    for result in results {
        let known = ["ruleId", "ruleIndex", "level", "message", "locations", "relatedLocations", "fixes"];
        assert!(keys(result).iter().all(|key| known.contains(key)), "{result}");
        assert_eq!(rules[result["ruleIndex"].as_u64().unwrap() as usize]["id"], result["ruleId"]);
        assert!(["error", "warning"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let related = result.get("relatedLocations").and_then(Value::as_array);
        for location in result["locations"].as_array().unwrap().iter().chain(related.into_iter().flatten()) {
            assert_eq!(location["physicalLocation"]["artifactLocation"]["uri"], "w.yaml");
            is_region(&location["physicalLocation"]["region"]);
        }
        for fix in result.get("fixes").and_then(Value::as_array).into_iter().flatten() {
            let change = &fix["artifactChanges"][0];
            assert_eq!(change["artifactLocation"]["uri"], "w.yaml");
            is_region(&change["replacements"][0]["deletedRegion"]);
            assert!(change["replacements"][0]["insertedContent"]["text"].is_string());
        }
    }
}

fn is_region(region: &Value) {
    assert_eq!(keys(region), ["startLine", "startColumn", "endLine", "endColumn"]);
    let number = |key: &str| region[key].as_u64().unwrap();
    assert!(number("startLine") >= 1 && number("startColumn") >= 1, "{region}");
    let (start, end) =
        ((number("startLine"), number("startColumn")), (number("endLine"), number("endColumn")));
    assert!(start <= end, "{region}");
}

#[test]
fn columns_count_characters() {
    let log = log_of("w.yaml", FILE);
    let result = result_of(&log, "E0312");
    let region = &result["locations"][0]["physicalLocation"]["region"];
    let line: Vec<char> =
        FILE.lines().nth(region["startLine"].as_u64().unwrap() as usize - 1).unwrap().chars().collect();
    let at = |key: &str| region[key].as_u64().unwrap() as usize - 1;
    assert_eq!(line[at("startColumn")..at("endColumn")].iter().collect::<String>(), "stdot");
}

#[test]
fn files_are_references_that_readers_resolve() {
    for (name, uri) in [
        ("./w.yaml", "w.yaml"),
        ("../flows/w.yaml", "../flows/w.yaml"),
        ("/srv/ä b.yaml", "file:///srv/%C3%A4%20b.yaml"),
        ("a:b.yaml", "a%3Ab.yaml"),
    ] {
        assert_eq!(artifact(&Source::new(name, "")), json!({ "uri": uri }));
    }
}
