//! Functions, arguments and values of the wrong type.

use super::bad;

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
