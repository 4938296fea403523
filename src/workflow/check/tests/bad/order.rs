//! What waits for what.

use super::bad;

#[test]
fn unknown_need() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    needs: [clnoe]
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0601]: there is no step `clnoe`
     --> w.yaml:8:13
      |
    8 |     needs: [clnoe]
      |             ^^^^^
      |
      = help: did you mean `clone`?
    "#);
}

#[test]
fn needs_itself() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    needs: a
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0602]: step `a` waits for itself
     --> w.yaml:8:12
      |
    8 |     needs: a
      |            ^
      |
      = help: remove it from `needs`
    "#);
}

#[test]
fn cycle() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.b.stdout }}"] }
  b:
    uses: exec/run
    with: { command: [ls] }
    needs: [c]
  c:
    uses: exec/run
    with: { command: [ls] }
    needs: [a]
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0602]: these steps wait for each other: `a` -> `b` -> `c` -> `a`
     --> w.yaml:5:3
      |
    5 |   a:
      |   ^
      |
      = help: remove one of the `needs` or `${{ steps... }}` between them
    "#);
}

#[test]
fn reads_finally() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [echo, "${{ steps.z.stdout }}"] }
finally:
  z: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0603]: a step cannot read step `z`, which runs in `finally`, after it
     --> w.yaml:7:34
      |
    7 |     with: { command: [echo, "${{ steps.z.stdout }}"] }
      |                                  ^^^^^^^
      |
      = help: move the step out of `finally`
    "#);
}

#[test]
fn finally_needs_step() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] } }
finally:
  z: { uses: exec/run, with: { command: [ls] }, needs: [a] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0603]: `finally` starts when step `a` has ended, however it ended
     --> w.yaml:6:57
      |
    6 |   z: { uses: exec/run, with: { command: [ls] }, needs: [a] }
      |                                                         ^
      |
      = help: remove it; `if: steps.a.state == 'succeeded'` asks how it ended
    "#);
}
