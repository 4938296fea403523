//! Questions to a person.

use super::bad;

#[test]
fn no_message() {
    let file = r#"
steps:
  a: { approve: { timeout: 24h } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: `approve` does not say what is asked
     --> w.yaml:4:8
      |
    4 |   a: { approve: { timeout: 24h } }
      |        ^^^^^^^
      |
      = help: write `approve: { message: "Publish?" }`
    "#);
}

#[test]
fn message_as_text() {
    let file = r#"
steps:
  a: { approve: Go? }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0203]: `approve` must be a mapping, not text
     --> w.yaml:4:17
      |
    4 |   a: { approve: Go? }
      |                 ^^^
      |
      = help: write `approve: { message: "Publish?" }`
    "#);
}

#[test]
fn unknown_key() {
    let file = r#"
steps:
  a: { approve: { message: Go?, timout: 24h } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `timout` in `approve`
     --> w.yaml:4:33
      |
    4 |   a: { approve: { message: Go?, timout: 24h } }
      |                                 ^^^^^^
      |
      = help: did you mean `timeout`? The keys are `message`, `timeout` and `on-timeout`
    "#);
}

#[test]
fn on_timeout_without_timeout() {
    let file = r#"
steps:
  a: { approve: { message: Go?, on-timeout: approve } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: `on-timeout` without a `timeout`: the question waits for ever
     --> w.yaml:4:33
      |
    4 |   a: { approve: { message: Go?, on-timeout: approve } }
      |                                 ^^^^^^^^^^
      |
      = help: add `timeout: 24h`, or remove `on-timeout`
    "#);
}

#[test]
fn on_timeout() {
    let file = r#"
steps:
  a: { approve: { message: Go?, timeout: 24h, on-timeout: accept } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `on-timeout`: `accept` is none of its values
     --> w.yaml:4:59
      |
    4 |   a: { approve: { message: Go?, timeout: 24h, on-timeout: accept } }
      |                                                           ^^^^^^
      |
      = help: it is one of: `reject` and `approve`
    "#);
}

#[test]
fn uses_beside() {
    let file = r#"
steps:
  a:
    uses: exec/run
    with: { command: [ls] }
    approve: { message: Go? }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `uses` and `approve` exclude each other
     --> w.yaml:7:5
      |
    5 |     uses: exec/run
      |     ---- the other one
    6 |     with: { command: [ls] }
    7 |     approve: { message: Go? }
      |     ^^^^^^^
      |
      = help: make it two steps; `needs` puts one after the other
    "#);
}

#[test]
fn timeout_beside() {
    let file = r#"
steps:
  a:
    approve: { message: Go? }
    timeout: 24h
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `timeout` has no place beside `approve`
     --> w.yaml:6:5
      |
    6 |     timeout: 24h
      |     ^^^^^^^
      |
      = help: write `approve: { message: ..., timeout: 24h }`
    "#);
}

#[test]
fn retry_beside() {
    let file = r#"
steps:
  a:
    approve: { message: Go? }
    retry: { attempts: 2 }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `retry` has no place beside `approve`
     --> w.yaml:6:5
      |
    6 |     retry: { attempts: 2 }
      |     ^^^^^
      |
      = help: remove it; beside `approve` stand `needs`, `if` and `continue-on-error`
    "#);
}

#[test]
fn misspelled() {
    let file = r#"
steps:
  a:
    aprove: { message: Go? }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `aprove` in a step that asks for approval
     --> w.yaml:5:5
      |
    5 |     aprove: { message: Go? }
      |     ^^^^^^
      |
      = help: did you mean `approve`? The keys are `approve`, `needs`, `if` and `continue-on-error`
    "#);
}

#[test]
fn list_in_message() {
    let file = r#"
inputs: { tags: { type: list, items: string } }
steps:
  a: { approve: { message: "Push ${{ inputs.tags }}?" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0318]: a list<string> cannot stand inside text
     --> w.yaml:5:38
      |
    5 |   a: { approve: { message: "Push ${{ inputs.tags }}?" } }
      |                                      ^^^^^^^^^^^
      |
      = help: write `inputs.tags.join(', ')`
    "#);
}

#[test]
fn unknown_output() {
    let file = r#"
steps:
  a: { approve: { message: Go? } }
outputs:
  who: "${{ steps.a.user }}"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: step `a` has no output `user`
     --> w.yaml:6:21
      |
    6 |   who: "${{ steps.a.user }}"
      |                     ^^^^ not a field of { approved: bool, note: string?, by: string? } (approve)
      |
      = help: its outputs are: `approved`, `note`, `by`, `state`, `error` and `attempts`
    "#);
}

#[test]
fn note_may_be_absent() {
    let file = r#"
steps:
  a: { approve: { message: Go? } }
  b: { uses: exec/run, with: { command: [echo, "${{ steps.a.note }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0316]: `steps.a.note` may be absent, but a string is needed
     --> w.yaml:5:53
      |
    5 |   b: { uses: exec/run, with: { command: [echo, "${{ steps.a.note }}"] } }
      |                                                     ^^^^^^^^^^^^
      |
      = help: write `steps.a.note.orValue('')`
    "#);
}
