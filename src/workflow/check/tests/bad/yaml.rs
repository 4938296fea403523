//! Files that are no YAML, or more of it than the language has.

use super::bad;

#[test]
fn not_yaml() {
    let file = r#"
steps: [
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0101]: not YAML: while parsing a node, did not find expected node content
     --> w.yaml:4:1
      |
    4 |
      | ^
      |
      = help: check the indentation, and quote texts that hold `:`, `{`, `[` or `#`
    "#);
}

#[test]
fn indentation() {
    let file = r#"
steps:
  a:
    uses: git/clone
   with: { repo: x }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0101]: not YAML: while parsing a block mapping, did not find expected key
     --> w.yaml:6:4
      |
    6 |    with: { repo: x }
      |    ^
      |
      = help: check the indentation, and quote texts that hold `:`, `{`, `[` or `#`
    "#);
}

#[test]
fn colon_in_text() {
    let file = r#"
description: a: b
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0101]: not YAML: mapping values are not allowed in this context
     --> w.yaml:3:15
      |
    3 | description: a: b
      |               ^
      |
      = help: quote a text that holds `: `, and align the keys of one mapping
    "#);
}

#[test]
fn tab() {
    let file = r#"
steps:
	a: { uses: exec/run }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0102]: a tab in the indentation
     --> w.yaml:4:1
      |
    4 |     a: { uses: exec/run }
      | ^^^^
      |
      = help: indent with spaces; YAML does not allow tabs there
    "#);
}

#[test]
fn anchor() {
    let file = r#"
description: &d text
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0103]: anchors and aliases are not part of the workflow language
     --> w.yaml:3:14
      |
    3 | description: &d text
      |              ^^^^^^^
      |
      = help: write the value out; `uses:` is how workflows share
    "#);
}

#[test]
fn alias() {
    let file = r#"
timeout: *t
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0103]: anchors and aliases are not part of the workflow language
     --> w.yaml:3:10
      |
    3 | timeout: *t
      |          ^
      |
      = help: write the value out; `uses:` is how workflows share
    "#);
}

#[test]
fn tag() {
    let file = r#"
timeout: !!str 5m
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0104]: tags are not part of the workflow language
     --> w.yaml:3:10
      |
    3 | timeout: !!str 5m
      |          ^^^^^^^^
      |
      = help: remove the tag; the schema decides what a value is
    "#);
}

#[test]
fn merge_key() {
    let file = r#"
steps:
  a:
    <<: { timeout: 5m }
    uses: exec/run
    with: { command: [ls] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0105]: merge keys are not part of the workflow language
     --> w.yaml:5:5
      |
    5 |     <<: { timeout: 5m }
      |     ^^
      |
      = help: write the keys out, or move the shared steps into a component
    "#);
}

#[test]
fn duplicate_key() {
    let file = r#"
timeout: 1m
timeout: 2m
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0106]: the key `timeout` is written twice
     --> w.yaml:4:1
      |
    3 | timeout: 1m
      | ------- first written here
    4 | timeout: 2m
      | ^^^^^^^
      |
      = help: remove or rename one of them
    "#);
}

#[test]
fn two_documents() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] } }
---
harvest: 1
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0107]: a workflow file holds one document
     --> w.yaml:5:1
      |
    5 | ---
      | ^^^
      |
      = help: put the second workflow into a file of its own
    "#);
}

#[test]
fn unquoted_hole() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: ${{ inputs.repo }} }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0101]: not YAML: while parsing a flow mapping, did not find expected ',' or '}'
     --> w.yaml:7:20
      |
    7 |     with: { repo: ${{ inputs.repo }} }
      |                    ^
      |
      = help: quote texts that hold an expression: "${{ ... }}"
    "#);
}
