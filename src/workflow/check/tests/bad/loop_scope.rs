//! What a loop and what is around it see of each other, and which waits for which.

use super::bad;

#[test]
fn item_with_a_taken_name() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: run, in: "${{ inputs.repos }}", key: "${{ run }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ run }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0208]: the item cannot be called `run`, which is a word of the language
     --> w.yaml:6:23
      |
    6 |     for-each: { item: run, in: "${{ inputs.repos }}", key: "${{ run }}" }
      |                       ^^^
      |
      = help: choose another name, such as `item`
    "#);
}

#[test]
fn item_called_like_a_step() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: head, in: "${{ inputs.repos }}", key: "${{ head }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ head }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0208]: the item cannot be called `head`, which is the name of a step
     --> w.yaml:6:23
      |
    6 |     for-each: { item: head, in: "${{ inputs.repos }}", key: "${{ head }}" }
      |                       ^^^^
      |
      = help: choose another name, such as `item`
    "#);
}

#[test]
fn item_with_hyphen() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: my-repo, in: "${{ inputs.repos }}", key: "${{ my_repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ my_repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0206]: `my-repo` is no name for an item: names are lower case with underscores
     --> w.yaml:6:23
      |
    6 |     for-each: { item: my-repo, in: "${{ inputs.repos }}", key: "${{ my_repo }}" }
      |                       ^^^^^^^
      |
      = help: write `my_repo`
    "#);
}

#[test]
fn unknown_field_of_item() {
    let file = r#"
permissions: [repos]
steps:
  registry: { uses: repos/list }
  build:
    for-each: { item: repo, in: "${{ steps.registry.repos }}", key: "${{ repo.full_name }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo.fullname }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: there is no field `fullname`
     --> w.yaml:9:60
      |
    9 |       head: { uses: git/ls_remote, with: { repo: "${{ repo.fullname }}" } }
      |                                                            ^^^^^^^^ not a field of { full_name: string, url: string, branch: string, setup: string? }
      |
      = help: did you mean `full_name`?
    "#);
}

#[test]
fn item_outside() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
  after: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: nothing is called `repo`
     --> w.yaml:9:52
      |
    9 |   after: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
      |                                                    ^^^^
      |
      = help: names that can be used here: `inputs`, `steps` and `run`
    "#);
}

#[test]
fn loop_in_loop() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      inner:
        for-each: { item: branch, in: "${{ inputs.repos }}", key: "${{ branch }}" }
        steps:
          head: { uses: git/ls_remote, with: { repo: "${{ repo }}", ref: "${{ branch }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0605]: a loop inside the loop `build`
     --> w.yaml:9:9
      |
    9 |         for-each: { item: branch, in: "${{ inputs.repos }}", key: "${{ branch }}" }
      |         ^^^^^^^^
      |
      = help: put the inner loop into a workflow of its own, and write `uses: ./inner.yaml` here
    "#);
}

#[test]
fn name_twice() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  head: { uses: git/ls_remote, with: { repo: a/b } }
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0106]: there are two steps `head`
     --> w.yaml:9:7
      |
    5 |   head: { uses: git/ls_remote, with: { repo: a/b } }
      |   ---- the first one
    ...
    9 |       head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
      |       ^^^^
      |
      = help: rename one of them
    "#);
}

#[test]
fn read_from_outside() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
outputs:
  sha: "${{ steps.head.sha }}"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0604]: an output cannot read step `head`, which runs once for each item of `build`
      --> w.yaml:10:13
       |
    10 |   sha: "${{ steps.head.sha }}"
       |             ^^^^^^^^^^
       |
       = help: read it of each item, as in `steps.build.succeeded.map(i, i.steps.head.OUTPUT)`
    "#);
}

#[test]
fn needed_from_outside() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
  after: { uses: exec/run, needs: head, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0604]: step `head` runs once for each item of `build`
     --> w.yaml:9:35
      |
    9 |   after: { uses: exec/run, needs: head, with: { command: [ls] } }
      |                                   ^^^^
      |
      = help: write `build`, the loop
    "#);
}

#[test]
fn needs_outside() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  before: { uses: exec/run, with: { command: [ls] } }
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, needs: before, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0604]: step `before` is outside the loop `build`
     --> w.yaml:9:43
      |
    9 |       head: { uses: git/ls_remote, needs: before, with: { repo: "${{ repo }}" } }
      |                                           ^^^^^^
      |
      = help: write `needs: [before]` beside the `for-each` of `build`
    "#);
}

#[test]
fn needs_its_loop() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, needs: build, with: { repo: "${{ repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0604]: step `head` is part of the loop `build`
     --> w.yaml:8:43
      |
    8 |       head: { uses: git/ls_remote, needs: build, with: { repo: "${{ repo }}" } }
      |                                           ^^^^^
      |
      = help: remove it; `needs` in a loop names other steps of the loop
    "#);
}

#[test]
fn reads_its_loop() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: exec/run, with: { command: [echo, "${{ repo }} of ${{ steps.build.total }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0603]: a step cannot read step `build`, the loop that it is part of
     --> w.yaml:8:75
      |
    8 |       head: { uses: exec/run, with: { command: [echo, "${{ repo }} of ${{ steps.build.total }}"] } }
      |                                                                           ^^^^^^^^^^^
      |
      = help: read the other steps of the loop, or the item
    "#);
}

#[test]
fn cycle_in_loop() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      a: { uses: exec/run, needs: b, with: { command: [echo, "${{ repo }}"] } }
      b: { uses: exec/run, with: { command: [echo, "${{ steps.a.stdout }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0602]: these steps wait for each other: `a` -> `b` -> `a`
     --> w.yaml:8:7
      |
    8 |       a: { uses: exec/run, needs: b, with: { command: [echo, "${{ repo }}"] } }
      |       ^
      |
      = help: remove one of the `needs` or `${{ steps... }}` between them
    "#);
}

#[test]
fn cycle_over_loop() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: exec/run, with: { command: [echo, "${{ repo }}", "${{ steps.after.stdout }}"] } }
  after: { uses: exec/run, with: { command: [echo, "${{ string(steps.build.total) }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0602]: these steps wait for each other: `build` -> `after` -> `build`
     --> w.yaml:5:3
      |
    5 |   build:
      |   ^^^^^
      |
      = help: remove one of the `needs` or `${{ steps... }}` between them
    "#);
}

#[test]
fn loops_over_each_other() {
    let file = r#"
steps:
  one:
    for-each: { item: x, in: "${{ steps.two.items }}", key: "${{ x.key }}" }
    steps:
      a: { uses: exec/run, with: { command: [echo, "${{ x.key }}"] } }
  two:
    for-each: { item: y, in: "${{ steps.one.items }}", key: "${{ y.key }}" }
    steps:
      b: { uses: exec/run, with: { command: [echo, "${{ y.key }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0602]: these steps wait for each other: `one` -> `two` -> `one`
     --> w.yaml:4:3
      |
    4 |   one:
      |   ^^^
      |
      = help: remove one of the `needs` or `${{ steps... }}` between them
    "#);
}

#[test]
fn unknown_output_of_loop() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
outputs:
  n: "${{ steps.build.count }}"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: step `build` has no output `count`
      --> w.yaml:10:23
       |
    10 |   n: "${{ steps.build.count }}"
       |                       ^^^^^ not a field of { total, items, succeeded, failed } (for-each)
       |
       = help: its outputs are: `total`, `items`, `succeeded`, `failed`, `state`, `error` and `attempts`
    "#);
}

#[test]
fn unknown_step_of_item() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
outputs:
  shas: "${{ steps.build.succeeded.map(i, i.steps.haed.sha) }}"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: there is no field `haed`
      --> w.yaml:10:51
       |
    10 |   shas: "${{ steps.build.succeeded.map(i, i.steps.haed.sha) }}"
       |                                                   ^^^^ not a field of { head: { sha: string?, state: enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled) } }
       |
       = help: did you mean `head`?
    "#);
}

#[test]
fn output_of_item_may_be_absent() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
outputs:
  shas: "${{ steps.build.succeeded.map(i, i.steps.head.sha).join(' ') }}"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0316]: items of the list may be absent, but `join` needs each of them
      --> w.yaml:10:61
       |
    10 |   shas: "${{ steps.build.succeeded.map(i, i.steps.head.sha).join(' ') }}"
       |                                                             ^^^^
       |
       = help: give each a value, as in `list.map(x, x.orValue(''))`
    "#);
}

#[test]
fn shell_injection_in_loop() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  build:
    for-each: { item: repo, in: "${{ inputs.repos }}", key: "${{ repo }}" }
    steps:
      clean: { uses: exec/run, with: { command: [sh, -c, "rm -rf work/${{ repo }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    warning[W0104]: `repo` becomes part of a program, whatever it contains
     --> w.yaml:8:75
      |
    8 |       clean: { uses: exec/run, with: { command: [sh, -c, "rm -rf work/${{ repo }}"] } }
      |                                                                           ^^^^
      |
      = help: pass it as an argument: `[sh, -c, '... "$1" ...', sh, "${{ repo }}"]`
    "#);
}

#[test]
fn two_loops_with_the_same_steps() {
    let file = r#"
inputs: { repos: { type: list, items: string } }
steps:
  one:
    for-each: { item: repo, in: inputs.repos, key: repo }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
      show_one: { uses: exec/run, needs: head, with: { command: [echo, "${{ steps.head.sha }}"] } }
  two:
    for-each: { item: repo, in: inputs.repos, key: repo }
    steps:
      head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
      show_two: { uses: exec/run, needs: head, with: { command: [echo, "${{ steps.head.sha }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0106]: there are two steps `head`
      --> w.yaml:13:7
       |
     8 |       head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
       |       ---- the first one
    ...
    13 |       head: { uses: git/ls_remote, with: { repo: "${{ repo }}" } }
       |       ^^^^
       |
       = help: rename one of them
    "#);
}

#[test]
fn map_in_place_of_a_list() {
    let file = r#"
inputs: { about: { type: object, fields: { name: string } } }
steps:
  one:
    for-each: { item: x, in: inputs.about, key: x }
    steps:
      a: { uses: git/ls_remote, with: { repo: "${{ x }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: a loop needs a list, not a record { name: string }
     --> w.yaml:6:30
      |
    6 |     for-each: { item: x, in: inputs.about, key: x }
      |                              ^^^^^^^^^^^^
      |
      = help: write `inputs.about.map(k, k)` for its keys
    "#);
}
