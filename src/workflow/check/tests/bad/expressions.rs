//! Names in expressions that stand for nothing, or for what is not there yet.

use super::bad;

#[test]
fn unknown_output() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.clone.pth }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: step `clone` has no output `pth`
     --> w.yaml:7:46
      |
    7 |     with: { command: [echo, "${{ steps.clone.pth }}"] }
      |                                              ^^^ not a field of { path: string, sha: string, branch: string } (git/clone)
      |
      = help: did you mean `path`?
    "#);
}

#[test]
fn unknown_step() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.clon.path }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0311]: there is no step `clon`
     --> w.yaml:7:40
      |
    7 |     with: { command: [echo, "${{ steps.clon.path }}"] }
      |                                        ^^^^
      |
      = help: did you mean `clone`?
    "#);
}

#[test]
fn unknown_input() {
    let file = r#"
inputs: { repo: string }
steps:
  clone: { uses: git/clone, with: { repo: "${{ inputs.repo }}" } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ inputs.rpo }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: there is no input `rpo`
     --> w.yaml:8:41
      |
    8 |     with: { command: [echo, "${{ inputs.rpo }}"] }
      |                                         ^^^
      |
      = help: did you mean `repo`?
    "#);
}

#[test]
fn no_inputs() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ inputs.repo }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: there is no input `repo`
     --> w.yaml:7:41
      |
    7 |     with: { command: [echo, "${{ inputs.repo }}"] }
      |                                         ^^^^
      |
      = help: declare it: `inputs: { repo: { type: string } }`
    "#);
}

#[test]
fn step_without_steps() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ clone.path }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: nothing is called `clone`
     --> w.yaml:7:34
      |
    7 |     with: { command: [echo, "${{ clone.path }}"] }
      |                                  ^^^^^
      |
      = help: write `steps.clone`
    "#);
}

#[test]
fn unknown_name() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ github.sha }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: nothing is called `github`
     --> w.yaml:7:34
      |
    7 |     with: { command: [echo, "${{ github.sha }}"] }
      |                                  ^^^^^^
      |
      = help: names that can be used here: `inputs`, `steps` and `run`
    "#);
}

#[test]
fn hyphen() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.clone.full-name }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: `full-name` is a subtraction here; names have no hyphens
     --> w.yaml:7:46
      |
    7 |     with: { command: [echo, "${{ steps.clone.full-name }}"] }
      |                                              ^^^^^^^^^
      |
      = help: did you mean `full_name`?
    "#);
}

#[test]
fn secret_value() {
    let file = r#"
secrets: { gh: { from: env:GH } }
steps:
  clone: { uses: git/clone, with: { repo: a/b }, secrets: { token: gh } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ secrets.gh }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0319]: expressions cannot read secrets
     --> w.yaml:8:34
      |
    8 |     with: { command: [echo, "${{ secrets.gh }}"] }
      |                                  ^^^^^^^^^^
      |
      = help: bind the secret to a slot of the step, `secrets: { slot: name }`; `has(secrets.name)` asks whether it is there
    "#);
}

#[test]
fn reads_itself() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.a.stdout }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0603]: a step cannot read step `a`, which is itself
     --> w.yaml:7:34
      |
    7 |     with: { command: [echo, "${{ steps.a.stdout }}"] }
      |                                  ^^^^^^^
      |
      = help: remove the reference; a step's own arguments come from other steps
    "#);
}

#[test]
fn state_misspelled() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    if: steps.clone.state == 'success'
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: 'success' is none of the values of enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled)
     --> w.yaml:8:30
      |
    8 |     if: steps.clone.state == 'success'
      |                              ^^^^^^^^^
      |
      = help: it is one of: `pending`, `queued`, `running`, `waiting`, `succeeded`, `failed`, `skipped` and `cancelled`
    "#);
}

#[test]
fn status_too_early() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    if: run.status == 'failed'
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: there is no field `status`
     --> w.yaml:8:13
      |
    8 |     if: run.status == 'failed'
      |             ^^^^^^ not a field of { id: string, workflow: string, trigger: string, author: { name: string, email: string } }
      |
      = help: `run.status` is known in `finally` only
    "#);
}

#[test]
fn output_of_run() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] } }
outputs: { n: "${{ steps.a.code }}" }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: step `a` has no output `code`
     --> w.yaml:5:28
      |
    5 | outputs: { n: "${{ steps.a.code }}" }
      |                            ^^^^ not a field of { exit_code: int, stdout: string, stderr: string } (exec/run)
      |
      = help: did you mean `exit_code`?
    "#);
}
