//! Caches, and hashes of files.

use super::bad;

#[test]
fn no_key() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] }, cache: { ttl: 24h } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: `cache` does not say on what the outputs depend
     --> w.yaml:4:49
      |
    4 |   a: { uses: exec/run, with: { command: [ls] }, cache: { ttl: 24h } }
      |                                                 ^^^^^
      |
      = help: write `cache: { key: [inputs.repo] }`, with all that the step's work depends on
    "#);
}

#[test]
fn empty_key() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] }, cache: { key: [] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: the key of the cache is empty
     --> w.yaml:4:63
      |
    4 |   a: { uses: exec/run, with: { command: [ls] }, cache: { key: [] } }
      |                                                               ^^^
      |
      = help: name what the step's work depends on, such as `[inputs.repo, steps.head.sha]`
    "#);
}

#[test]
fn key_in_braces() {
    let file = r#"
inputs: { repo: string }
steps:
  a: { uses: exec/run, with: { command: [ls] }, cache: { key: ["${{ inputs.repo }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0301]: this is an expression already, without `${{ }}`
     --> w.yaml:5:65
      |
    5 |   a: { uses: exec/run, with: { command: [ls] }, cache: { key: ["${{ inputs.repo }}"] } }
      |                                                                 ^^^
      |
      = help: write `inputs.repo`
    "#);
}

#[test]
fn unknown_name_in_key() {
    let file = r#"
inputs: { repo: string }
steps:
  a: { uses: exec/run, with: { command: [ls] }, cache: { key: [inputs.repo, inputs.branch] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: there is no input `branch`
     --> w.yaml:5:84
      |
    5 |   a: { uses: exec/run, with: { command: [ls] }, cache: { key: [inputs.repo, inputs.branch] } }
      |                                                                                    ^^^^^^
      |
      = help: the inputs are: `repo`
    "#);
}

#[test]
fn bypass_is_no_bool() {
    let file = r#"
inputs: { force: string }
steps:
  a: { uses: exec/run, with: { command: [ls] }, cache: { key: [run.id], bypass: inputs.force } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0317]: a condition must be a bool, but this is a string
     --> w.yaml:5:81
      |
    5 |   a: { uses: exec/run, with: { command: [ls] }, cache: { key: [run.id], bypass: inputs.force } }
      |                                                                                 ^^^^^^^^^^^^
      |
      = help: compare it: `inputs.force != ''`
    "#);
}

#[test]
fn bypass_in_braces() {
    let file = r#"
inputs: { force: bool }
steps:
  a: { uses: exec/run, with: { command: [ls] }, cache: { key: [run.id], bypass: "${{ inputs.force }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0301]: a condition is an expression already, without `${{ }}`
     --> w.yaml:5:82
      |
    5 |   a: { uses: exec/run, with: { command: [ls] }, cache: { key: [run.id], bypass: "${{ inputs.force }}" } }
      |                                                                                  ^^^
      |
      = help: write `bypass: inputs.force`
    "#);
}

#[test]
fn bypass_is_constant() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] }, cache: { key: [run.id], bypass: "true" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    warning[W0103]: this is always true: nothing is ever taken from the cache
     --> w.yaml:4:81
      |
    4 |   a: { uses: exec/run, with: { command: [ls] }, cache: { key: [run.id], bypass: "true" } }
      |                                                                                 ^^^^^^^
      |
      = help: remove `cache`
    "#);
}

#[test]
fn ttl() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] }, cache: { key: [run.id], ttl: 1d } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `ttl`: `1d` has a unit longer than an hour
     --> w.yaml:4:78
      |
    4 |   a: { uses: exec/run, with: { command: [ls] }, cache: { key: [run.id], ttl: 1d } }
      |                                                                              ^^
      |
      = help: write hours, such as `48h`
    "#);
}

#[test]
fn unknown_key() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] }, cache: { keys: [run.id] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `keys` in `cache`
     --> w.yaml:4:58
      |
    4 |   a: { uses: exec/run, with: { command: [ls] }, cache: { keys: [run.id] } }
      |                                                          ^^^^
      |
      = help: did you mean `key`? The keys are `key`, `ttl` and `bypass`
    "#);
}

#[test]
fn hash_of_an_input() {
    let file = r#"
inputs: { file: string }
steps:
  a: { uses: exec/run, with: { command: [ls] }, cache: { key: ["hash(inputs.file)"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0315]: `hash` takes the names of files as they stand in the workflow file
     --> w.yaml:5:70
      |
    5 |   a: { uses: exec/run, with: { command: [ls] }, cache: { key: ["hash(inputs.file)"] } }
      |                                                                      ^^^^^^^^^^^
      |
      = help: write them in quotes, as in `hash('images/*.lock')` or `hash(['a.lock', 'b.lock'])`
    "#);
}

#[test]
fn hash_of_nothing() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] }, cache: { key: ["hash()"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0315]: `hash` takes the names of files as they stand in the workflow file
     --> w.yaml:4:65
      |
    4 |   a: { uses: exec/run, with: { command: [ls] }, cache: { key: ["hash()"] } }
      |                                                                 ^^^^
      |
      = help: write them in quotes, as in `hash('images/*.lock')` or `hash(['a.lock', 'b.lock'])`
    "#);
}

#[test]
fn hash_in_a_default() {
    let file = r#"
inputs: { lock: { type: string, default: "${{ hash('Cargo.lock') }}" } }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ inputs.lock }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0315]: the default of an input cannot use `hash`
     --> w.yaml:3:47
      |
    3 | inputs: { lock: { type: string, default: "${{ hash('Cargo.lock') }}" } }
      |                                               ^^^^
      |
      = help: files are hashed when a run begins; call it in a step
    "#);
}
