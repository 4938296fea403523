//! Workflows that are run as a step.

use super::bad;

#[test]
fn not_there() {
    let file = r#"
steps:
  a: { uses: ./nowhere.yaml }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0410]: `./nowhere.yaml` cannot be used as a workflow
     --> w.yaml:4:14
      |
    4 |   a: { uses: ./nowhere.yaml }
      |              ^^^^^^^^^^^^^^
      |
      = help: there is no file nowhere.yaml
    "#);
}

#[test]
fn without_dot() {
    let file = r#"
steps:
  a: { uses: publish.yaml, with: { repo: a/b } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0401]: the path of a sub-workflow starts with `./`
     --> w.yaml:4:14
      |
    4 |   a: { uses: publish.yaml, with: { repo: a/b } }
      |              ^^^^^^^^^^^^
      |
      = help: write `./publish.yaml`
    "#);
}

#[test]
fn with_function() {
    let file = r#"
steps:
  a: { uses: ./publish.yaml#push, with: { repo: a/b } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0401]: a sub-workflow has neither functions nor versions
     --> w.yaml:4:14
      |
    4 |   a: { uses: ./publish.yaml#push, with: { repo: a/b } }
      |              ^^^^^^^^^^^^^^^^^^^
      |
      = help: write `./publish.yaml`
    "#);
}

#[test]
fn with_expression() {
    let file = r#"
inputs: { name: string }
steps:
  a: { uses: "./${{ inputs.name }}.yaml" }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0401]: `uses` takes no expression: types are checked before anything runs
     --> w.yaml:5:14
      |
    5 |   a: { uses: "./${{ inputs.name }}.yaml" }
      |              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write the file's name
    "#);
}

#[test]
fn has_mistakes() {
    let file = r#"
steps:
  a: { uses: ./broken.yaml }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0408]: `./broken.yaml` has 2 mistakes; the first: E0405 in line 4: step `a` does not give `repo` to git/clone
     --> w.yaml:4:14
      |
    4 |   a: { uses: ./broken.yaml }
      |              ^^^^^^^^^^^^^
      |
      = help: run `harvest check broken.yaml`
    "#);
}

#[test]
fn uses_itself() {
    let file = r#"
steps:
  a: { uses: ./itself.yaml }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0409]: this workflow uses itself: `itself.yaml` -> `itself.yaml`
     --> w.yaml:4:14
      |
    4 |   a: { uses: ./itself.yaml }
      |              ^^^^^^^^^^^^^
      |
      = help: a workflow cannot run itself, not even through another; `for-each` repeats steps
    "#);
}

#[test]
fn uses_itself_over_another() {
    let file = r#"
steps:
  a: { uses: ./one.yaml }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0409]: this workflow uses itself: `one.yaml` -> `two.yaml` -> `one.yaml`
     --> w.yaml:4:14
      |
    4 |   a: { uses: ./one.yaml }
      |              ^^^^^^^^^^
      |
      = help: a workflow cannot run itself, not even through another; `for-each` repeats steps
    "#);
}

#[test]
fn too_deep() {
    let file = r#"
steps:
  a: { uses: ./deep1.yaml }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0108]: sub-workflows nest deeper than 8 files
     --> w.yaml:4:14
      |
    4 |   a: { uses: ./deep1.yaml }
      |              ^^^^^^^^^^^^
      |
      = help: let one file use several, in place of one below the other
    "#);
}

#[test]
fn unknown_input() {
    let file = r#"
steps:
  a: { uses: ./publish.yaml, with: { repo: a/b, brnach: main } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0404]: ./publish.yaml has no input `brnach`
     --> w.yaml:4:49
      |
    4 |   a: { uses: ./publish.yaml, with: { repo: a/b, brnach: main } }
      |                                                 ^^^^^^
      |
      = help: did you mean `branch`?
    "#);
}

#[test]
fn missing_input() {
    let file = r#"
steps:
  a: { uses: ./publish.yaml, with: { branch: main } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0405]: step `a` does not give `repo` to ./publish.yaml
     --> w.yaml:4:30
      |
    4 |   a: { uses: ./publish.yaml, with: { branch: main } }
      |                              ^^^^
      |
      = help: add `repo: ...`, a string
    "#);
}

#[test]
fn missing_with() {
    let file = r#"
steps:
  a: { uses: ./publish.yaml }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0405]: step `a` does not give `repo` to ./publish.yaml
     --> w.yaml:4:3
      |
    4 |   a: { uses: ./publish.yaml }
      |   ^
      |
      = help: add `with:` and in it `repo: ...`, a string
    "#);
}

#[test]
fn wrong_type() {
    let file = r#"
inputs: { n: int }
steps:
  a: { uses: ./publish.yaml, with: { repo: a/b, branch: "${{ inputs.n }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: expected a string, found an int
     --> w.yaml:5:62
      |
    5 |   a: { uses: ./publish.yaml, with: { repo: a/b, branch: "${{ inputs.n }}" } }
      |                                                              ^^^^^^^^ int
      |
      = help: write `string(inputs.n)`
    "#);
}

#[test]
fn against_its_pattern() {
    let file = r#"
steps:
  a: { uses: ./publish.yaml, with: { repo: A B } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0406]: `repo` of ./publish.yaml must match `^[a-z/]+$`
     --> w.yaml:4:44
      |
    4 |   a: { uses: ./publish.yaml, with: { repo: A B } }
      |                                            ^^^
      |
      = help: the workflow's input has this limit
    "#);
}

#[test]
fn unknown_output() {
    let file = r#"
steps:
  a: { uses: ./publish.yaml, with: { repo: a/b } }
outputs:
  sha: "${{ steps.a.commit }}"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: step `a` has no output `commit`
     --> w.yaml:6:21
      |
    6 |   sha: "${{ steps.a.commit }}"
      |                     ^^^^^^ not a field of { sha: string, told: bool? } (./publish.yaml)
      |
      = help: its outputs are: `sha`, `told`, `state`, `error` and `attempts`
    "#);
}

#[test]
fn output_may_be_absent() {
    let file = r#"
steps:
  a: { uses: ./publish.yaml, with: { repo: a/b } }
  b: { uses: exec/run, if: steps.a.told, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0316]: `steps.a.told` may be absent
     --> w.yaml:5:28
      |
    5 |   b: { uses: exec/run, if: steps.a.told, with: { command: [ls] } }
      |                            ^^^^^^^^^^^^
      |
      = help: write `steps.a.told.orValue(false)`
    "#);
}

#[test]
fn sandbox() {
    let file = r#"
steps:
  a: { uses: ./publish.yaml, with: { repo: a/b }, sandbox: box }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `sandbox` has no place in a step that runs a workflow
     --> w.yaml:4:51
      |
    4 |   a: { uses: ./publish.yaml, with: { repo: a/b }, sandbox: box }
      |                                                   ^^^^^^^
      |
      = help: remove it; the other workflow has `sandboxes` of its own
    "#);
}

#[test]
fn secrets() {
    let file = r#"
secrets: { github: { from: env:GITHUB_TOKEN } }
steps:
  a: { uses: ./publish.yaml, with: { repo: a/b }, secrets: { token: github } }
  b: { uses: git/ls_remote, with: { repo: a/b }, secrets: { token: github } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `secrets` has no place in a step that runs a workflow
     --> w.yaml:5:51
      |
    5 |   a: { uses: ./publish.yaml, with: { repo: a/b }, secrets: { token: github } }
      |                                                   ^^^^^^^
      |
      = help: remove it; the other workflow has `secrets` of its own
    "#);
}

#[test]
fn cache() {
    let file = r#"
steps:
  a: { uses: ./publish.yaml, with: { repo: a/b }, cache: { key: [run.id] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `cache` has no place in a step that runs a workflow
     --> w.yaml:4:51
      |
    4 |   a: { uses: ./publish.yaml, with: { repo: a/b }, cache: { key: [run.id] } }
      |                                                   ^^^^^
      |
      = help: write it in the steps of the other workflow, or remove it; here stand `with`, `needs`, `if`, `timeout`, `retry`, `continue-on-error` and `concurrency`
    "#);
}

#[test]
fn idle_timeout() {
    let file = r#"
steps:
  a: { uses: ./publish.yaml, with: { repo: a/b }, idle-timeout: 5m }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `idle-timeout` has no place in a step that runs a workflow
     --> w.yaml:4:51
      |
    4 |   a: { uses: ./publish.yaml, with: { repo: a/b }, idle-timeout: 5m }
      |                                                   ^^^^^^^^^^^^
      |
      = help: write it in the steps of the other workflow, or remove it; here stand `with`, `needs`, `if`, `timeout`, `retry`, `continue-on-error` and `concurrency`
    "#);
}

#[test]
fn retry_kind() {
    let file = r#"
steps:
  a: { uses: ./publish.yaml, with: { repo: a/b }, retry: { attempts: 2, on: [exited] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0701]: ./publish.yaml cannot fail with `exited`
     --> w.yaml:4:78
      |
    4 |   a: { uses: ./publish.yaml, with: { repo: a/b }, retry: { attempts: 2, on: [exited] } }
      |                                                                              ^^^^^^
      |
      = help: it can fail with: `failed`, `rejected`, `timed-out`, `idle-timed-out`, `trapped`, `out-of-memory`, `sandbox-lost` and `host-lost`
    "#);
}
