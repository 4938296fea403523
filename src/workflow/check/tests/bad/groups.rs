//! Concurrency, idempotency keys and steps that may fail.

use super::bad;

#[test]
fn no_group() {
    let file = r#"
concurrency: { limit: 1 }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: `concurrency` names no group
     --> w.yaml:3:1
      |
    3 | concurrency: { limit: 1 }
      | ^^^^^^^^^^^
      |
      = help: write `concurrency: { group: "deploy", limit: 1 }`
    "#);
}

#[test]
fn group_as_text() {
    let file = r#"
concurrency: deploy
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0203]: `concurrency` must be a mapping, not text
     --> w.yaml:3:14
      |
    3 | concurrency: deploy
      |              ^^^^^^
      |
      = help: write `concurrency: { group: "deploy", limit: 1 }`
    "#);
}

#[test]
fn limit_of_nothing() {
    let file = r#"
concurrency: { group: deploy, limit: 0 }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `limit` must be from 1 to 10000
     --> w.yaml:3:38
      |
    3 | concurrency: { group: deploy, limit: 0 }
      |                                      ^
      |
      = help: it is how many of the group are at work at once
    "#);
}

#[test]
fn unknown_conflict() {
    let file = r#"
concurrency: { group: deploy, on-conflict: cancel }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `on-conflict`: `cancel` is none of its values
     --> w.yaml:3:44
      |
    3 | concurrency: { group: deploy, on-conflict: cancel }
      |                                            ^^^^^^
      |
      = help: did you mean `cancel-old`?
    "#);
}

#[test]
fn timeout_without_queue() {
    let file = r#"
concurrency: { group: deploy, on-conflict: reject, timeout: 5m }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `timeout` bounds the wait in a queue, but nothing is queued here
     --> w.yaml:3:52
      |
    3 | concurrency: { group: deploy, on-conflict: reject, timeout: 5m }
      |                               -----------          ^^^^^^^
      |                               |
      |                               the other one
      |
      = help: remove it, or write `on-conflict: queue`
    "#);
}

#[test]
fn unknown_key() {
    let file = r#"
concurrency: { group: deploy, max: 2 }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `max` in `concurrency`
     --> w.yaml:3:31
      |
    3 | concurrency: { group: deploy, max: 2 }
      |                               ^^^
      |
      = help: the keys are `group`, `limit`, `on-conflict` and `timeout`
    "#);
}

#[test]
fn group_of_a_workflow_reads_a_step() {
    let file = r#"
concurrency: { group: "deploy/${{ steps.a.stdout }}" }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: the group of a workflow cannot see `steps`
     --> w.yaml:3:35
      |
    3 | concurrency: { group: "deploy/${{ steps.a.stdout }}" }
      |                                   ^^^^^
      |
      = help: it can use `inputs` and `run`
    "#);
}

#[test]
fn group_of_a_list() {
    let file = r#"
inputs: { tags: { type: list, items: string } }
steps:
  a: { uses: exec/run, concurrency: { group: "x/${{ inputs.tags }}" }, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0318]: a list<string> cannot stand inside text
     --> w.yaml:5:53
      |
    5 |   a: { uses: exec/run, concurrency: { group: "x/${{ inputs.tags }}" }, with: { command: [ls] } }
      |                                                     ^^^^^^^^^^^
      |
      = help: write `inputs.tags.join(', ')`
    "#);
}

#[test]
fn group_of_a_step_reads_itself() {
    let file = r#"
steps:
  a: { uses: exec/run, concurrency: { group: "x/${{ steps.a.stdout }}" }, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0603]: a step cannot read step `a`, which is itself
     --> w.yaml:4:53
      |
    4 |   a: { uses: exec/run, concurrency: { group: "x/${{ steps.a.stdout }}" }, with: { command: [ls] } }
      |                                                     ^^^^^^^
      |
      = help: remove the reference; a step's own arguments come from other steps
    "#);
}

#[test]
fn concurrency_of_an_approval() {
    let file = r#"
steps:
  a: { approve: { message: Go? }, concurrency: { group: x } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `concurrency` has no place beside `approve`
     --> w.yaml:4:35
      |
    4 |   a: { approve: { message: Go? }, concurrency: { group: x } }
      |                                   ^^^^^^^^^^^
      |
      = help: remove it; beside `approve` stand `needs`, `if` and `continue-on-error`
    "#);
}

#[test]
fn continue_on_error() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] }, continue-on-error: yes }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `continue-on-error`: `yes` is no bool
     --> w.yaml:4:68
      |
    4 |   a: { uses: exec/run, with: { command: [ls] }, continue-on-error: yes }
      |                                                                    ^^^
      |
      = help: write `true` or `false`
    "#);
}

#[test]
fn idempotency_key_may_be_absent() {
    let file = r#"
steps:
  commit: { uses: git/commit, with: { path: /x, message: m } }
  push: { uses: git/push, with: { path: /x }, idempotency-key: "${{ steps.commit.sha }}" }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0316]: `steps.commit.sha` may be absent, but a string is needed
     --> w.yaml:5:69
      |
    5 |   push: { uses: git/push, with: { path: /x }, idempotency-key: "${{ steps.commit.sha }}" }
      |                                                                     ^^^^^^^^^^^^^^^^
      |
      = help: write `steps.commit.sha.orValue('')`
    "#);
}

#[test]
fn idempotency_key_is_a_list() {
    let file = r#"
steps:
  push: { uses: git/push, with: { path: /x }, idempotency-key: [a, b] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `idempotency-key` must be a string, not a list
     --> w.yaml:4:64
      |
    4 |   push: { uses: git/push, with: { path: /x }, idempotency-key: [a, b] }
      |                                                                ^^^^^^
      |
      = help: quote the text
    "#);
}
