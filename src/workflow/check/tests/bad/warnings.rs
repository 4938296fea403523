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
