//! Files that run, but probably not as meant.

use super::bad;

#[test]
fn unused_input() {
    let file = r#"
inputs: { repo: string }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    warning[W0101]: input `repo` is never used
     --> w.yaml:3:11
      |
    3 | inputs: { repo: string }
      |           ^^^^
      |
      = help: remove it, or use it: `${{ inputs.repo }}`
    "#);
}

#[test]
fn unused_secret() {
    let file = r#"
secrets: { gh: { from: env:GH } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    warning[W0102]: secret `gh` is never used
     --> w.yaml:3:12
      |
    3 | secrets: { gh: { from: env:GH } }
      |            ^^
      |
      = help: remove it, or use it: `secrets: { slot: gh }` in a step
    "#);
}

#[test]
fn constant_condition() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    if: 1 + 1 == 2
"#;
    insta::assert_snapshot!(bad(file), @r#"
    warning[W0103]: this is always true: the step always runs
     --> w.yaml:8:9
      |
    8 |     if: 1 + 1 == 2
      |         ^^^^^^^^^^
      |
      = help: remove the `if`
    "#);
}

#[test]
fn shell_injection() {
    let file = r#"
inputs: { name: string }
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [sh, -c, "echo ${{ inputs.name }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    warning[W0104]: `inputs.name` becomes part of a program, whatever it contains
     --> w.yaml:8:41
      |
    8 |     with: { command: [sh, -c, "echo ${{ inputs.name }}"] }
      |                                         ^^^^^^^^^^^
      |
      = help: pass it as an argument: `[sh, -c, '... "$1" ...', sh, "${{ inputs.name }}"]`
    "#);
}

#[test]
fn code_injection() {
    let file = r#"
inputs: { name: string }
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/python
    with: { code: "print('${{ inputs.name }}')" }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    warning[W0104]: `inputs.name` becomes part of a program, whatever it contains
     --> w.yaml:8:31
      |
    8 |     with: { code: "print('${{ inputs.name }}')" }
      |                               ^^^^^^^^^^^
      |
      = help: pass it as an argument: `args: ["${{ inputs.name }}"]`, read with `sys.argv[1]`
    "#);
}

#[test]
fn steps_that_never_run() {
    let file = r#"
steps:
  a: { uses: exec/run, if: "false", with: { command: [ls] } }
  b: { uses: exec/run, with: { command: [echo, "${{ steps.a.stdout }}"] } }
  c: { uses: exec/run, with: { command: [echo, "${{ steps.b.stdout }}"] } }
  d: { uses: exec/run, needs: a, with: { command: [echo, "${{ steps.c.stdout.orValue('') }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    warning[W0103]: this is always false: the step is always skipped
     --> w.yaml:4:28
      |
    4 |   a: { uses: exec/run, if: "false", with: { command: [ls] } }
      |                            ^^^^^^^
    5 |   b: { uses: exec/run, with: { command: [echo, "${{ steps.a.stdout }}"] } }
      |   - never runs either: it reads `a`
    6 |   c: { uses: exec/run, with: { command: [echo, "${{ steps.b.stdout }}"] } }
      |   - never runs either: it reads `b`
      |
      = help: remove the step, or the `if`
    "#);
}

#[test]
fn constant_condition_in_a_loop() {
    let file = r#"
inputs: { names: { type: list, items: string } }
steps:
  build:
    for-each: { item: name, in: inputs.names, key: name }
    steps:
      a: { uses: exec/run, if: 1 > 2, with: { command: [echo, "${{ name }}"] } }
      b: { uses: exec/run, with: { command: [echo, "${{ steps.a.stdout }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    warning[W0103]: this is always false: the step is always skipped
     --> w.yaml:8:32
      |
    8 |       a: { uses: exec/run, if: 1 > 2, with: { command: [echo, "${{ name }}"] } }
      |                                ^^^^^
    9 |       b: { uses: exec/run, with: { command: [echo, "${{ steps.a.stdout }}"] } }
      |       - never runs either: it reads `a`
      |
      = help: remove the step, or the `if`
    "#);
}
