//! Keys of a loop, its list and the keys of its items.

use super::bad;

#[test]
fn no_item() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: the loop gives its item no name
     --> w.yaml:6:5
      |
    6 |     for-each: { in: "${{ inputs.repos }}", key: "${{ repo }}" }
      |     ^^^^^^^^
      |
      = help: add `item: repo`
    "#);
}

#[test]
fn no_list() {
    let file = r#"
steps:
  build:
    for-each: { item: repo, key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: the loop does not say over which list it goes
     --> w.yaml:5:5
      |
    5 |     for-each: { item: repo, key: "${{ repo }}" }
      |     ^^^^^^^^
      |
      = help: add `in: "${{ inputs.repos }}"`
    "#);
}

#[test]
fn no_key() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: the loop does not say what tells its items apart
     --> w.yaml:6:5
      |
    6 |     for-each: { item: repo, in: "${{ inputs.repos }}" }
      |     ^^^^^^^^
      |
      = help: add `key: "${{ repo.name }}"`
    "#);
}

#[test]
fn no_steps() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: the loop `build` has no steps
     --> w.yaml:6:5
      |
    6 |     for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
      |     ^^^^^^^^
      |
      = help: add `steps: { build: { uses: exec/run, with: { command: [make] } } }` beside `for-each`
    "#);
}

#[test]
fn steps_without_loop() {
    let file = r#"
steps:
  build:
    steps:
      head: { uses: git/ls_remote, with: { repo: a/b } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `steps` belongs to a loop, but there is no `for-each`
     --> w.yaml:5:5
      |
    5 |     steps:
      |     ^^^^^
      |
      = help: write `for-each: { item: x, in: "${{ inputs.list }}", key: "${{ x }}" }` beside it
    "#);
}

#[test]
fn uses_beside_loop() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  head:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    uses: git/ls_remote
    with: { repo: "${{ repo }}" }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `for-each` and `uses` exclude each other
     --> w.yaml:7:5
      |
    6 |     for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
      |     -------- the other one
    7 |     uses: git/ls_remote
      |     ^^^^
      |
      = help: put what is done for each item into `steps:` beside `for-each`
    "#);
}

#[test]
fn timeout_of_loop() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    timeout: 5m
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `timeout` has no place beside `for-each`
     --> w.yaml:7:5
      |
    7 |     timeout: 5m
      |     ^^^^^^^
      |
      = help: write it in the steps of the loop; beside `for-each` stand `steps`, `needs`, `if` and `continue-on-error`
    "#);
}

#[test]
fn unknown_key_of_loop() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}", paralel: 2 }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `paralel` in `for-each`
     --> w.yaml:6:76
      |
    6 |     for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}", paralel: 2 }
      |                                                                            ^^^^^^^
      |
      = help: did you mean `parallel`? The keys are `item`, `in`, `key`, `parallel` and `on-failure`
    "#);
}

#[test]
fn too_parallel() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}", parallel: 100 }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `parallel` must be from 1 to 64
     --> w.yaml:6:86
      |
    6 |     for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}", parallel: 100 }
      |                                                                                      ^^^
      |
      = help: it is how many items are at work at once
    "#);
}

#[test]
fn on_failure() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}", on-failure: ignore }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `on-failure`: `ignore` is none of its values
     --> w.yaml:6:88
      |
    6 |     for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}", on-failure: ignore }
      |                                                                                        ^^^^^^
      |
      = help: it is one of: `stop` and `continue`
    "#);
}

#[test]
fn list_in_yaml() {
    let file = r#"
steps:
  build:
    for-each: { item: name, in: [api, web], key: "${{ name }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ name }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0203]: `in` must be an expression, not a list
     --> w.yaml:5:33
      |
    5 |     for-each: { item: name, in: [api, web], key: "${{ name }}" }
      |                                 ^^^^^^^^^^
      |
      = help: write `in: "${{ ['api', 'web'] }}"`
    "#);
}

#[test]
fn no_list_but_text() {
    let file = r#"
inputs: { repos: string }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: a loop needs a list, not a string
     --> w.yaml:6:38
      |
    6 |     for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
      |                                      ^^^^^^^^^^^^
      |
      = help: write `inputs.repos.split(' ')` for the words of a text
    "#);
}

#[test]
fn list_that_may_be_absent() {
    let file = r#"
inputs: { repos: { type: list, items: string, optional: true } }
steps:
  build:
    for-each: { item: repo, in: inputs.repos, key: repo }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0316]: `inputs.repos` may be absent, but a loop needs a list
     --> w.yaml:6:33
      |
    6 |     for-each: { item: repo, in: inputs.repos, key: repo }
      |                                 ^^^^^^^^^^^^
      |
      = help: write `inputs.repos.orValue([])`
    "#);
}

#[test]
fn two_holes() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0301]: this is text with expressions in it, not one expression
     --> w.yaml:6:34
      |
    6 |     for-each: { item: repo, in: "${{ inputs.repos }}${{ inputs.repos }}", key: "${{ repo }}" }
      |                                  ^^^
      |
      = help: write one expression, such as `${{ steps.registry.repos }}`
    "#);
}

#[test]
fn key_is_a_record() {
    let file = r#"
permissions: [repos]
steps:
  registry: { uses: repos/list }
  build:
    for-each: { item: repo, in: "${{ steps.registry.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo.url }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: a key must be text or an int, but this is a record { full_name: string, url: string, branch: string, setup: string? }
     --> w.yaml:7:74
      |
    7 |     for-each: { item: repo, in: "${{ steps.registry.repos }}", key: "${{ repo }}" }
      |                                                                          ^^^^
      |
      = help: name one of its fields, such as `repo.full_name`
    "#);
}

#[test]
fn key_may_be_absent() {
    let file = r#"
permissions: [repos]
steps:
  registry: { uses: repos/list }
  build:
    for-each: { item: repo, in: "${{ steps.registry.repos }}", key: "${{ repo.setup }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo.url }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0316]: `repo.setup` may be absent, but every item needs a key
     --> w.yaml:7:74
      |
    7 |     for-each: { item: repo, in: "${{ steps.registry.repos }}", key: "${{ repo.setup }}" }
      |                                                                          ^^^^^^^^^^
      |
      = help: write `repo.setup.orValue('')`
    "#);
}

#[test]
fn key_without_item() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ run.id }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0606]: every item has the same key
     --> w.yaml:6:61
      |
    6 |     for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ run.id }}" }
      |                                                             ^^^^^^^^^^^^^^^^
      |
      = help: write what tells one `repo` from another, such as `${{ repo.name }}`
    "#);
}
