//! One mistake gets one diagnostic, however much follows from it.

use super::bad;

#[test]
fn misspelled_section() {
    let file = r#"
inptus: { repo: string }
steps:
  a: { uses: git/ls_remote, with: { repo: "${{ inputs.repo }}" } }
  b: { uses: exec/run, if: inputs.repo != '', with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `inptus` in a workflow
     --> w.yaml:3:1
      |
    3 | inptus: { repo: string }
      | ^^^^^^
      |
      = help: did you mean `inputs`? The keys are `harvest`, `name`, `description`, `on`, `inputs`, `secrets`, `concurrency`, `timeout`, `budget`, `permissions`, `sandboxes`, `steps`, `finally` and `outputs`
    "#);
}

#[test]
fn misspelled_key_of_a_step() {
    let file = r#"
steps:
  a: { uses: git/configure, wiht: { path: /x, name: Ann, email: ann@example.com } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `wiht` in a step
     --> w.yaml:4:29
      |
    4 |   a: { uses: git/configure, wiht: { path: /x, name: Ann, email: ann@example.com } }
      |                             ^^^^
      |
      = help: did you mean `with`? The keys are `uses`, `with`, `sandbox`, `sandboxes`, `network`, `secrets`, `needs`, `if`, `timeout`, `idle-timeout`, `retry`, `permissions`, `continue-on-error`, `concurrency`, `cache` and `idempotency-key`
    "#);
}

#[test]
fn misspelled_loop() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for_each: { item: repo, in: inputs.repos, key: repo }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
outputs:
  n: "${{ steps.build.total }}"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `for_each`: keys of the grammar are written with hyphens
     --> w.yaml:6:5
      |
    6 |     for_each: { item: repo, in: inputs.repos, key: repo }
      |     ^^^^^^^^
      |
      = help: write `for-each`
    "#);
}

#[test]
fn misspelled_declaration() {
    let file = r#"
inputs: { rpeo: string }
steps:
  a: { uses: git/ls_remote, with: { repo: "${{ inputs.repo }}" } }
  b: { uses: exec/run, if: inputs.repo != '', with: { command: [ls] } }
  c: { uses: git/clone, with: { repo: "${{ inputs.repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: there is no input `repo`
     --> w.yaml:5:55
      |
    5 |   a: { uses: git/ls_remote, with: { repo: "${{ inputs.repo }}" } }
      |                                                       ^^^^
    6 |   b: { uses: exec/run, if: inputs.repo != '', with: { command: [ls] } }
      |                                   ---- here too
    7 |   c: { uses: git/clone, with: { repo: "${{ inputs.repo }}" } }
      |                                                   ---- here too
      |
      = help: did you mean `rpeo`?
    "#);
}

#[test]
fn misspelled_step() {
    let file = r#"
steps:
  clnoe: { uses: git/clone, with: { repo: a/b } }
  a: { uses: exec/run, needs: clone, with: { command: [ls] } }
  b: { uses: exec/run, with: { command: [ls], workdir: "${{ steps.clone.path }}" } }
outputs:
  sha: "${{ steps.clone.sha }}"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0601]: there is no step `clone`
     --> w.yaml:5:31
      |
    5 |   a: { uses: exec/run, needs: clone, with: { command: [ls] } }
      |                               ^^^^^
    6 |   b: { uses: exec/run, with: { command: [ls], workdir: "${{ steps.clone.path }}" } }
      |                                                                   ----- here too
    7 | outputs:
    8 |   sha: "${{ steps.clone.sha }}"
      |                   ----- here too
      |
      = help: did you mean `clnoe`?
    "#);
}

#[test]
fn hyphen_in_a_step() {
    let file = r#"
steps:
  my-clone: { uses: git/clone, with: { repo: a/b } }
  a: { uses: exec/run, needs: my_clone, with: { command: [ls], workdir: "${{ steps.my_clone.path }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0206]: `my-clone` is no name for a step: names are lower case with underscores
     --> w.yaml:4:3
      |
    4 |   my-clone: { uses: git/clone, with: { repo: a/b } }
      |   ^^^^^^^^
      |
      = help: write `my_clone`
    "#);
}

#[test]
fn hyphen_in_a_secret() {
    let file = r#"
secrets: { my-token: { from: env:TOKEN } }
steps:
  a: { uses: git/ls_remote, with: { repo: a/b }, secrets: { token: my_token } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0206]: `my-token` is no name for a secret: names are lower case with underscores
     --> w.yaml:3:12
      |
    3 | secrets: { my-token: { from: env:TOKEN } }
      |            ^^^^^^^^
      |
      = help: write `my_token`
    "#);
}

#[test]
fn hyphen_in_an_input() {
    let file = r#"
inputs: { myRepo: string }
steps:
  a: { uses: git/ls_remote, with: { repo: "${{ inputs.my_repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0206]: `myRepo` is no name for an input: names are lower case with underscores
     --> w.yaml:3:11
      |
    3 | inputs: { myRepo: string }
      |           ^^^^^^
      |
      = help: write `my_repo`
    "#);
}

#[test]
fn several_missing() {
    let file = r#"
steps:
  a: { uses: git/configure, with: { name: Ann } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0405]: step `a` does not give `path` and `email` to git/configure
     --> w.yaml:4:29
      |
    4 |   a: { uses: git/configure, with: { name: Ann } }
      |                             ^^^^
      |
      = help: add `path: ...`, a string; `email: ...`, a string
    "#);
}

#[test]
fn misspelled_permission() {
    let file = r#"
permissions: [repo]
steps:
  a: { uses: repos/list }
  b: { uses: repos/list }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0505]: there is no permission `repo`
     --> w.yaml:3:15
      |
    3 | permissions: [repo]
      |               ^^^^
      |
      = help: did you mean `repos`?
    "#);
}

#[test]
fn misspelled_function() {
    let file = r#"
steps:
  a: { uses: git/commit, with: { path: /x, message: m } }
outputs:
  files: "${{ steps.a.files.fitler(f, f.startsWith('x')).size() }}"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0314]: there is no function `fitler`
     --> w.yaml:6:29
      |
    6 |   files: "${{ steps.a.files.fitler(f, f.startsWith('x')).size() }}"
      |                             ^^^^^^
      |
      = help: did you mean `filter`? It is written `list.filter(x, x.size() > 0)`
    "#);
}

#[test]
fn mistake_in_a_condition() {
    let file = r#"
steps:
  a: { uses: git/commit, with: { path: /x, message: m } }
  b: { uses: exec/run, if: has(steps.a.sah), with: { command: [echo, "${{ steps.a.sha }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: step `a` has no output `sah`
     --> w.yaml:5:40
      |
    5 |   b: { uses: exec/run, if: has(steps.a.sah), with: { command: [echo, "${{ steps.a.sha }}"] } }
      |                                        ^^^ not a field of { changed: bool, sha: string?, files: list<string> } (git/commit)
      |
      = help: did you mean `sha`?
    "#);
}
