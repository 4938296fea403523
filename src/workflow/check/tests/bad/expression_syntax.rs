//! Expressions that cannot be read, and where in a text they stand.

use super::bad;

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
