//! Components, their arguments, secrets, sandboxes and permissions.

use super::bad;

#[test]
fn unknown_component() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: gti/clone
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0402]: there is no component `gti`
     --> w.yaml:6:11
      |
    6 |     uses: gti/clone
      |           ^^^
      |
      = help: did you mean `git`?
    "#);
}

#[test]
fn unknown_component_far() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: terraform/apply
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0402]: there is no component `terraform`
     --> w.yaml:6:11
      |
    6 |     uses: terraform/apply
      |           ^^^^^^^^^
      |
      = help: the built-in components are exec, git, claude and memory; `harvest component list` shows all
    "#);
}

#[test]
fn missing_file() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: ./nope.wasm#lint
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0402]: `./nope.wasm` cannot be used as a component
     --> w.yaml:6:11
      |
    6 |     uses: ./nope.wasm#lint
      |           ^^^^^^^^^^^
      |
      = help: no file at ./nope.wasm; build it, or correct the path
    "#);
}

#[test]
fn unknown_function() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/checkout
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0403]: component `git` has no function `checkout`
     --> w.yaml:6:15
      |
    6 |     uses: git/checkout
      |               ^^^^^^^^
      |
      = help: its functions are: `clone`, `configure`, `commit`, `push`, `snapshot`, `ls_remote` and `pull_request`
    "#);
}

#[test]
fn no_function() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0401]: `git` names no function
     --> w.yaml:6:11
      |
    6 |     uses: git
      |           ^^^
      |
      = help: write `component/function`, such as `git/clone`, or `./file.wasm#function`
    "#);
}

#[test]
fn registry() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: oci://ghcr.io/x/y:1#lint
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0205]: components from registries are not supported yet
     --> w.yaml:6:11
      |
    6 |     uses: oci://ghcr.io/x/y:1#lint
      |           ^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write `component/function`, such as `git/clone`, or `./file.wasm#function`
    "#);
}

#[test]
fn sub_workflow() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: ./other.yaml
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0410]: `./other.yaml` cannot be used as a workflow
     --> w.yaml:6:11
      |
    6 |     uses: ./other.yaml
      |           ^^^^^^^^^^^^
      |
      = help: there is no file other.yaml
    "#);
}

#[test]
fn version() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone@2
    with: { repo: x }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0407]: component `git` has no version 2
     --> w.yaml:6:21
      |
    6 |     uses: git/clone@2
      |                     ^
      |
      = help: write `@1`, or leave the version out
    "#);
}

#[test]
fn unknown_parameter() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x, dpeth: 1 }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0404]: git/clone has no parameter `dpeth`
     --> w.yaml:7:22
      |
    7 |     with: { repo: x, dpeth: 1 }
      |                      ^^^^^
      |
      = help: did you mean `depth`?
    "#);
}

#[test]
fn parameter_with_hyphen() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/commit
    with: { path: x, message: m, no-verify: true }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0404]: git/commit has no parameter `no-verify`
     --> w.yaml:7:34
      |
    7 |     with: { path: x, message: m, no-verify: true }
      |                                  ^^^^^^^^^
      |
      = help: did you mean `no_verify`?
    "#);
}

#[test]
fn slot_under_with() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x, token: abc }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0404]: git/clone has no parameter `token`
     --> w.yaml:7:22
      |
    7 |     with: { repo: x, token: abc }
      |                      ^^^^^
      |
      = help: `token` is a secret slot: write `secrets: { token: SECRET }` beside `with:`
    "#);
}

#[test]
fn missing_parameter() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/commit
    with: { path: x }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0405]: step `a` does not give `message` to git/commit
     --> w.yaml:7:5
      |
    7 |     with: { path: x }
      |     ^^^^
      |
      = help: add `message: ...`, a string
    "#);
}

#[test]
fn missing_with() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0405]: step `a` does not give `command` to exec/run
     --> w.yaml:5:3
      |
    5 |   a:
      |   ^
      |
      = help: add `with:` and in it `command: ...`, a list<string>
    "#);
}

#[test]
fn text_for_list() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: ls -l }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0406]: `command` of exec/run: `ls -l` is no list
     --> w.yaml:7:22
      |
    7 |     with: { command: ls -l }
      |                      ^^^^^
      |
      = help: write `[a, b]`
    "#);
}

#[test]
fn list_for_text() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: [a] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0406]: `repo` of git/clone must be a string, not a list
     --> w.yaml:7:19
      |
    7 |     with: { repo: [a] }
      |                   ^^^
      |
      = help: quote the text
    "#);
}

#[test]
fn word_for_int() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x, depth: one }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0406]: `depth` of git/clone: `one` is no int
     --> w.yaml:7:29
      |
    7 |     with: { repo: x, depth: one }
      |                             ^^^
      |
      = help: write a whole number such as `42`
    "#);
}

#[test]
fn bool_spelled_yes() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/commit
    with: { path: x, message: m, no_verify: yes }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0406]: `no_verify` of git/commit: `yes` is no bool
     --> w.yaml:7:45
      |
    7 |     with: { path: x, message: m, no_verify: yes }
      |                                             ^^^
      |
      = help: write `true` or `false`
    "#);
}

#[test]
fn enum_value() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/push
    with: { path: x, strategy: rebase }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0406]: `strategy` of git/push: `rebase` is none of its values
     --> w.yaml:7:32
      |
    7 |     with: { path: x, strategy: rebase }
      |                                ^^^^^^
      |
      = help: did you mean `fetch-rebase`?
    "#);
}

#[test]
fn size_without_unit() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: ./team.wasm#lint
    with: { path: x, limit: 100 }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0406]: `limit` of team/lint: `100` is no size
     --> w.yaml:7:29
      |
    7 |     with: { path: x, limit: 100 }
      |                             ^^^
      |
      = help: write a number with its unit, such as `512MiB` or `4GiB`
    "#);
}

#[test]
fn unknown_slot() {
    let file = r#"
secrets: { gh: { from: env:GH } }
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x }
    secrets: { tokn: gh }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0501]: git/clone has no secret slot `tokn`
     --> w.yaml:9:16
      |
    9 |     secrets: { tokn: gh }
      |                ^^^^
      |
      = help: did you mean `token`?
    "#);
}

#[test]
fn unbound_slot() {
    let file = r#"
secrets: { gh: { from: env:GH } }
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/pull_request
    with: { repo: x, head: y, title: z }
  b: { uses: exec/run, with: { command: [ls] }, secrets: { GH: gh } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0502]: step `a` binds no secret to the slot `token` of git/pull_request
     --> w.yaml:6:3
      |
    6 |   a:
      |   ^
      |
      = help: write `secrets: { token: gh }`
    "#);
}

#[test]
fn unknown_secret() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x }
    secrets: { token: github }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0503]: there is no secret of this name
     --> w.yaml:8:23
      |
    8 |     secrets: { token: github }
      |                       ^^^^^^
      |
      = help: declare it: `secrets: { token: { from: env:NAME } }` at the top
    "#);
}

#[test]
fn secret_source() {
    let file = r#"
secrets: { gh: { from: GITHUB_TOKEN } }
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x }
    secrets: { token: gh }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0508]: this is no source of a secret
     --> w.yaml:3:24
      |
    3 | secrets: { gh: { from: GITHUB_TOKEN } }
      |                        ^^^^^^^^^^^^
      |
      = help: write `env:NAME`, `file:PATH`, `command:PROGRAM ARGS` or `modal:SECRET/KEY`
    "#);
}

#[test]
fn ungranted() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: image/tag
    with: { image: a, as: b }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0504]: step `a` needs the permission `images`, which is not granted
     --> w.yaml:6:11
      |
    6 |     uses: image/tag
      |           ^^^^^^^^^
      |
      = help: write `permissions: [images]` in the step, or at the top for every step
    "#);
}

#[test]
fn unknown_permission() {
    let file = r#"
permissions: [image]
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0505]: there is no permission `image`
     --> w.yaml:3:15
      |
    3 | permissions: [image]
      |               ^^^^^
      |
      = help: did you mean `images`?
    "#);
}

#[test]
fn permission_without_hosts() {
    let file = r#"
permissions: [http]
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0203]: `http` does not say for what
     --> w.yaml:3:15
      |
    3 | permissions: [http]
      |               ^^^^
      |
      = help: write `{ http: [api.example.com] }`
    "#);
}

#[test]
fn unknown_sandbox() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x }
    sandbox: bax
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0506]: there is no sandbox `bax`
     --> w.yaml:8:14
      |
    8 |     sandbox: bax
      |              ^^^
      |
      = help: did you mean `box`?
    "#);
}

#[test]
fn sandbox_not_chosen() {
    let file = r#"
sandboxes: { one: { image: host }, two: { image: host } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0507]: step `a` must say in which sandbox it works: there are `one` and `two`
     --> w.yaml:5:3
      |
    5 |   a: { uses: exec/run, with: { command: [ls] } }
      |   ^
      |
      = help: add `sandbox: one`
    "#);
}

#[test]
fn sandbox_not_taken() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/ls_remote
    with: { repo: x }
    sandbox: box
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0507]: git/ls_remote takes no sandbox
     --> w.yaml:8:5
      |
    8 |     sandbox: box
      |     ^^^^^^^
      |
      = help: remove `sandbox:`
    "#);
}

#[test]
fn credential() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, ghp_0123456789abcdefghijklmnopqrstuvwxyzAB] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0801]: a GitHub token is written into the file
     --> w.yaml:7:29
      |
    7 |     with: { command: [echo, ******************************************] }
      |                             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: revoke it, declare `secrets: { name: { from: env:NAME } }`, and bind it to a slot of the step
    "#);
}
