//! Expressions: names, types, and where in a text they stand.

use super::bad;

#[test]
fn unknown_output() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.clone.pth }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: step `clone` has no output `pth`
     --> w.yaml:7:46
      |
    7 |     with: { command: [echo, "${{ steps.clone.pth }}"] }
      |                                              ^^^ not a field of { path: string, sha: string, branch: string } (git/clone)
      |
      = help: did you mean `path`?
    "#);
}

#[test]
fn unknown_step() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.clon.path }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0311]: there is no step `clon`
     --> w.yaml:7:40
      |
    7 |     with: { command: [echo, "${{ steps.clon.path }}"] }
      |                                        ^^^^
      |
      = help: did you mean `clone`?
    "#);
}

#[test]
fn unknown_input() {
    let file = r#"
inputs: { repo: string }
steps:
  clone: { uses: git/clone, with: { repo: "${{ inputs.repo }}" } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ inputs.rpo }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: there is no input `rpo`
     --> w.yaml:8:41
      |
    8 |     with: { command: [echo, "${{ inputs.rpo }}"] }
      |                                         ^^^
      |
      = help: did you mean `repo`?
    "#);
}

#[test]
fn no_inputs() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ inputs.repo }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: there is no input `repo`
     --> w.yaml:7:41
      |
    7 |     with: { command: [echo, "${{ inputs.repo }}"] }
      |                                         ^^^^
      |
      = help: declare it: `inputs: { repo: { type: string } }`
    "#);
}

#[test]
fn step_without_steps() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ clone.path }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: nothing is called `clone`
     --> w.yaml:7:34
      |
    7 |     with: { command: [echo, "${{ clone.path }}"] }
      |                                  ^^^^^
      |
      = help: write `steps.clone`
    "#);
}

#[test]
fn unknown_name() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ github.sha }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: nothing is called `github`
     --> w.yaml:7:34
      |
    7 |     with: { command: [echo, "${{ github.sha }}"] }
      |                                  ^^^^^^
      |
      = help: names that can be used here: `inputs`, `steps` and `run`
    "#);
}

#[test]
fn hyphen() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.clone.full-name }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: `full-name` is a subtraction here; names have no hyphens
     --> w.yaml:7:46
      |
    7 |     with: { command: [echo, "${{ steps.clone.full-name }}"] }
      |                                              ^^^^^^^^^
      |
      = help: did you mean `full_name`?
    "#);
}

#[test]
fn secret_value() {
    let file = r#"
secrets: { gh: { from: env:GH } }
steps:
  clone: { uses: git/clone, with: { repo: a/b }, secrets: { token: gh } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ secrets.gh }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0319]: expressions cannot read secrets
     --> w.yaml:8:34
      |
    8 |     with: { command: [echo, "${{ secrets.gh }}"] }
      |                                  ^^^^^^^^^^
      |
      = help: bind the secret to a slot of the step, `secrets: { slot: name }`; `has(secrets.name)` asks whether it is there
    "#);
}

#[test]
fn reads_itself() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.a.stdout }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0603]: a step cannot read step `a`, which is itself
     --> w.yaml:7:34
      |
    7 |     with: { command: [echo, "${{ steps.a.stdout }}"] }
      |                                  ^^^^^^^
      |
      = help: remove the reference; a step's own arguments come from other steps
    "#);
}

#[test]
fn syntax() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.clone.path + }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0301]: not an expression: the expression ends too early
     --> w.yaml:7:51
      |
    7 |     with: { command: [echo, "${{ steps.clone.path + }}"] }
      |                                                   ^
      |
      = help: expressions are CEL, such as `steps.clone.path`, `inputs.n > 3` or `'a' + inputs.name`
    "#);
}

#[test]
fn single_equals() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    if: steps.clone.branch = 'main'
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0301]: not an expression: '= ' is no part of the language
     --> w.yaml:8:28
      |
    8 |     if: steps.clone.branch = 'main'
      |                            ^
      |
      = help: write `==` to compare
    "#);
}

#[test]
fn and_spelled_out() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    if: steps.clone.branch == 'main' and true
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0301]: not an expression: 'and' does not fit here
     --> w.yaml:8:38
      |
    8 |     if: steps.clone.branch == 'main' and true
      |                                      ^
      |
      = help: write `&&`, `||` and `!`
    "#);
}

#[test]
fn unclosed() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.clone.path"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0302]: `${{` is not closed
     --> w.yaml:7:30
      |
    7 |     with: { command: [echo, "${{ steps.clone.path"] }
      |                              ^^^
      |
      = help: write `${{ expression }}`; `$${{` stands for the text itself
    "#);
}

#[test]
fn int_and_float() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    if: steps.b.turns == 1.5
  b: { uses: claude/run, with: { cwd: /, prompt: x } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: `==` compares an int with a float
     --> w.yaml:8:23
      |
    8 |     if: steps.b.turns == 1.5
      |                       ^^
      |
      = help: write `double(steps.b.turns)`
    "#);
}

#[test]
fn text_and_int() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ 'turn ' + size(steps.clone.path) }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: `+` cannot join a string and an int
     --> w.yaml:7:42
      |
    7 |     with: { command: [echo, "${{ 'turn ' + size(steps.clone.path) }}"] }
      |                                          ^
      |
      = help: write `string(size(steps.clone.path))`
    "#);
}

#[test]
fn unknown_function() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.clone.path.toUpper() }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0314]: there is no function `toUpper`
     --> w.yaml:7:51
      |
    7 |     with: { command: [echo, "${{ steps.clone.path.toUpper() }}"] }
      |                                                   ^^^^^^^
      |
      = help: did you mean `upper`? It is written `text.upper()`
    "#);
}

#[test]
fn function_as_method() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ json(steps.clone).path }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: `steps.clone` is no value by itself
     --> w.yaml:7:45
      |
    7 |     with: { command: [echo, "${{ json(steps.clone).path }}"] }
      |                                             ^^^^^
      |
      = help: name an output: `steps.clone.OUTPUT`
    "#);
}

#[test]
fn wrong_arguments() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.clone.path.replace('a') }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0315]: `replace` does not take string, string
     --> w.yaml:7:51
      |
    7 |     with: { command: [echo, "${{ steps.clone.path.replace('a') }}"] }
      |                                                   ^^^^^^^
      |
      = help: write `text.replace(from, to)`
    "#);
}

#[test]
fn record_in_text() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "x ${{ run.author }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0318]: a record { name: string, email: string } cannot stand inside text
     --> w.yaml:7:36
      |
    7 |     with: { command: [echo, "x ${{ run.author }}"] }
      |                                    ^^^^^^^^^^
      |
      = help: name one of its fields, such as `run.author.name`, or write `json(run.author)`
    "#);
}

#[test]
fn list_in_text() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "files: ${{ steps.clone.path.split('/') }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0318]: a list<string> cannot stand inside text
     --> w.yaml:7:41
      |
    7 |     with: { command: [echo, "files: ${{ steps.clone.path.split('/') }}"] }
      |                                         ^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write `steps.clone.path.split('/').join(', ')`
    "#);
}

#[test]
fn absent_in_text() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/commit
    with: { path: "${{ steps.clone.path }}", message: m }
  b: { uses: exec/run, with: { command: [echo, "sha ${{ steps.a.sha }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0316]: `steps.a.sha` may be absent, and text has no place for that
     --> w.yaml:8:57
      |
    8 |   b: { uses: exec/run, with: { command: [echo, "sha ${{ steps.a.sha }}"] } }
      |                                                         ^^^^^^^^^^^
      |
      = help: write `steps.a.sha.orValue('')`
    "#);
}

#[test]
fn absent_argument() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/commit
    with: { path: "${{ steps.clone.path }}", message: m }
  b: { uses: exec/run, with: { command: [echo, "${{ steps.a.sha }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0316]: `steps.a.sha` may be absent, but a string is needed
     --> w.yaml:8:53
      |
    8 |   b: { uses: exec/run, with: { command: [echo, "${{ steps.a.sha }}"] } }
      |                                                     ^^^^^^^^^^^
      |
      = help: write `steps.a.sha.orValue('')`
    "#);
}

#[test]
fn list_for_text() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/commit
    with: { path: "${{ [steps.clone.path] }}", message: m }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: expected a string, found a list<string>
     --> w.yaml:7:24
      |
    7 |     with: { path: "${{ [steps.clone.path] }}", message: m }
      |                        ^^^^^^^^^^^^^^^^^^ list<string>
      |
      = help: write `[steps.clone.path].join(' ')`
    "#);
}

#[test]
fn text_for_int() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x, depth: "${{ steps.clone.branch }}" }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: expected an int, found a string
     --> w.yaml:7:34
      |
    7 |     with: { repo: x, depth: "${{ steps.clone.branch }}" }
      |                                  ^^^^^^^^^^^^^^^^^^ string
      |
      = help: write `int(steps.clone.branch)`
    "#);
}

#[test]
fn text_around_int() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x, depth: "1${{ 2 }}" }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0406]: `depth` of git/clone must be an int, but text with expressions in it is text
     --> w.yaml:7:29
      |
    7 |     with: { repo: x, depth: "1${{ 2 }}" }
      |                             ^^^^^^^^^^^^
      |
      = help: write one expression, `${{ ... }}`, and nothing around it
    "#);
}

#[test]
fn enum_literal() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/push
    with: { path: x, strategy: "${{ true ? 'refuse' : 'force' }}" }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: 'force' is none of the values of enum(fetch-rebase | refuse)
     --> w.yaml:7:55
      |
    7 |     with: { path: x, strategy: "${{ true ? 'refuse' : 'force' }}" }
      |                                                       ^^^^^^^
      |
      = help: it is one of: `fetch-rebase` and `refuse`
    "#);
}

#[test]
fn condition_is_text() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    if: steps.clone.branch
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0317]: a condition must be a bool, but this is a string
     --> w.yaml:8:9
      |
    8 |     if: steps.clone.branch
      |         ^^^^^^^^^^^^^^^^^^
      |
      = help: compare it: `steps.clone.branch != ''`
    "#);
}

#[test]
fn condition_with_holes() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    if: "${{ steps.clone.branch == 'main' }}"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0301]: a condition is an expression already, without `${{ }}`
     --> w.yaml:8:10
      |
    8 |     if: "${{ steps.clone.branch == 'main' }}"
      |          ^^^
      |
      = help: write `if: steps.clone.branch == 'main'`
    "#);
}

#[test]
fn state_misspelled() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    if: steps.clone.state == 'success'
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: 'success' is none of the values of enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled)
     --> w.yaml:8:30
      |
    8 |     if: steps.clone.state == 'success'
      |                              ^^^^^^^^^
      |
      = help: it is one of: `pending`, `queued`, `running`, `waiting`, `succeeded`, `failed`, `skipped` and `cancelled`
    "#);
}

#[test]
fn status_too_early() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    if: run.status == 'failed'
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: there is no field `status`
     --> w.yaml:8:13
      |
    8 |     if: run.status == 'failed'
      |             ^^^^^^ not a field of { id: string, workflow: string, trigger: string, author: { name: string, email: string } }
      |
      = help: `run.status` is known in `finally` only
    "#);
}

#[test]
fn in_block_text() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/python
    with:
      code: |
        import os
        print(${{ steps.clone.pth }})
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: step `clone` has no output `pth`
      --> w.yaml:10:31
       |
    10 |         print(${{ steps.clone.pth }})
       |                               ^^^ not a field of { path: string, sha: string, branch: string } (git/clone)
       |
       = help: did you mean `path`?
    "#);
}

#[test]
fn in_folded_text() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/commit
    with:
      path: /x
      message: >
        first line
        second ${{ steps.clone.pth }}
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: step `clone` has no output `pth`
      --> w.yaml:11:32
       |
    11 |         second ${{ steps.clone.pth }}
       |                                ^^^ not a field of { path: string, sha: string, branch: string } (git/clone)
       |
       = help: did you mean `path`?
    "#);
}

#[test]
fn after_umlauts() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "ÄÖÜ ${{ steps.clone.pth }}"] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: step `clone` has no output `pth`
     --> w.yaml:7:50
      |
    7 |     with: { command: [echo, "ÄÖÜ ${{ steps.clone.pth }}"] }
      |                                                  ^^^ not a field of { path: string, sha: string, branch: string } (git/clone)
      |
      = help: did you mean `path`?
    "#);
}

#[test]
fn output_of_run() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] } }
outputs: { n: "${{ steps.a.code }}" }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: step `a` has no output `code`
     --> w.yaml:5:28
      |
    5 | outputs: { n: "${{ steps.a.code }}" }
      |                            ^^^^ not a field of { exit_code: int, stdout: string, stderr: string } (exec/run)
      |
      = help: did you mean `exit_code`?
    "#);
}

#[test]
fn filter_on_text() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    if: steps.clone.path.exists(p, p == 'x')
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: `exists` needs a list, not a string
     --> w.yaml:8:9
      |
    8 |     if: steps.clone.path.exists(p, p == 'x')
      |         ^^^^^^^^^^^^^^^^
      |
      = help: write `steps.clone.path.split(' ')` for the words of a text
    "#);
}

#[test]
fn map_of_mixed_values() {
    let file = r#"
inputs: { key: string }
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
outputs:
  about: "${{ {inputs.key: steps.clone.path, 'n': 1} }}"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0313]: the values of a map with computed keys are of one type, but this is an int
     --> w.yaml:7:51
      |
    7 |   about: "${{ {inputs.key: steps.clone.path, 'n': 1} }}"
      |                                                   ^
      |
      = help: give all values one type, or write the keys in quotes
    "#);
}
