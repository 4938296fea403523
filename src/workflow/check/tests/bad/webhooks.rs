//! Requests that start runs, and what may be read of them.

use super::bad;

#[test]
fn step_reads_an_event() {
    let file = r#"
steps:
  a: { uses: git/ls_remote, with: { repo: "${{ event.repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: a step cannot see `event`
     --> w.yaml:4:48
      |
    4 |   a: { uses: git/ls_remote, with: { repo: "${{ event.repo }}" } }
      |                                                ^^^^^
      |
      = help: `event` is what a webhook received; its own `if` and `inputs` see it
    "#);
}

#[test]
fn webhook_reads_an_input() {
    let file = r#"
on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha256: hook }, if: event.repo == inputs.repo }] }
inputs: { repo: { type: string, default: a/b } }
secrets: { hook: { from: env:HOOK } }
steps:
  a: { uses: git/ls_remote, with: { repo: "${{ inputs.repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: a webhook cannot see `inputs`
     --> w.yaml:3:91
      |
    3 | on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha256: hook }, if: event.repo == inputs.repo }] }
      |                                                                                           ^^^^^^
      |
      = help: it can use `event`
    "#);
}

#[test]
fn webhook_asks_for_a_secret() {
    let file = r#"
on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha256: hook }, if: has(secrets.hook) }] }
secrets: { hook: { from: env:HOOK } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: a webhook cannot see `secrets`
     --> w.yaml:3:81
      |
    3 | on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha256: hook }, if: has(secrets.hook) }] }
      |                                                                                 ^^^^^^^
      |
      = help: it can use `event`
    "#);
}

#[test]
fn hash_in_a_webhook() {
    let file = r#"
on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha256: hook }, if: event.lock == hash('a.lock') }] }
secrets: { hook: { from: env:HOOK } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0315]: a webhook cannot use `hash`
     --> w.yaml:3:91
      |
    3 | on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha256: hook }, if: event.lock == hash('a.lock') }] }
      |                                                                                           ^^^^
      |
      = help: files are hashed when a run begins; call it in a step
    "#);
}

#[test]
fn constant_webhook() {
    let file = r#"
on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha256: hook }, if: "false" }] }
secrets: { hook: { from: env:HOOK } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    warning[W0103]: this is always false: no request starts a run
     --> w.yaml:3:77
      |
    3 | on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha256: hook }, if: "false" }] }
      |                                                                             ^^^^^^^^
      |
      = help: remove the `if`, or compare something of the `event`
    "#);
}

#[test]
fn no_path() {
    let file = r#"
on: { webhook: [{ id: a, verify: { hmac-sha256: hook } }] }
secrets: { hook: { from: env:HOOK } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: a webhook without a `path`
     --> w.yaml:3:19
      |
    3 | on: { webhook: [{ id: a, verify: { hmac-sha256: hook } }] }
      |                   ^^
      |
      = help: add `path: /hooks/NAME`
    "#);
}

#[test]
fn path_elsewhere() {
    let file = r#"
on: { webhook: [{ id: a, path: /github, verify: { hmac-sha256: hook } }] }
secrets: { hook: { from: env:HOOK } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: the path of a webhook starts with `/hooks/`
     --> w.yaml:3:32
      |
    3 | on: { webhook: [{ id: a, path: /github, verify: { hmac-sha256: hook } }] }
      |                                ^^^^^^^
      |
      = help: write one such as `/hooks/github`
    "#);
}

#[test]
fn path_upwards() {
    let file = r#"
on: { webhook: [{ id: a, path: /hooks/../runs, verify: { hmac-sha256: hook } }] }
secrets: { hook: { from: env:HOOK } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: this is no path: parts are of letters, digits, `-`, `_` and `.`
     --> w.yaml:3:32
      |
    3 | on: { webhook: [{ id: a, path: /hooks/../runs, verify: { hmac-sha256: hook } }] }
      |                                ^^^^^^^^^^^^^^
      |
      = help: write one such as `/hooks/push`
    "#);
}

#[test]
fn no_verify() {
    let file = r#"
on: { webhook: [{ id: a, path: /hooks/a }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: a webhook without `verify`: anyone could start runs
     --> w.yaml:3:19
      |
    3 | on: { webhook: [{ id: a, path: /hooks/a }] }
      |                   ^^
      |
      = help: add `verify: { hmac-sha256: SECRET }`, with the secret that the sender signs requests with
    "#);
}

#[test]
fn empty_verify() {
    let file = r#"
on: { webhook: [{ id: a, path: /hooks/a, verify: {} }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: `verify` does not say how
     --> w.yaml:3:42
      |
    3 | on: { webhook: [{ id: a, path: /hooks/a, verify: {} }] }
      |                                          ^^^^^^
      |
      = help: write `verify: { hmac-sha256: SECRET }`
    "#);
}

#[test]
fn unknown_verify() {
    let file = r#"
on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha1: hook } }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0205]: `hmac-sha1` is not supported yet
     --> w.yaml:3:52
      |
    3 | on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha1: hook } }] }
      |                                                    ^^^^^^^^^
      |
      = help: remove it; `verify` has the keys `hmac-sha256`
    "#);
}

#[test]
fn unknown_secret() {
    let file = r#"
on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha256: hok } }] }
secrets: { hook: { from: env:HOOK } }
steps:
  a: { uses: git/ls_remote, with: { repo: a/b }, secrets: { token: hook } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0503]: there is no secret of this name
     --> w.yaml:3:65
      |
    3 | on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha256: hok } }] }
      |                                                                 ^^^
      |
      = help: did you mean `hook`?
    "#);
}
