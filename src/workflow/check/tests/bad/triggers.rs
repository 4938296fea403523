//! What starts runs by itself: which triggers there are, and the ends of other workflows' runs.

use super::bad;

#[test]
fn on_as_text() {
    let file = r#"
on: push
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0203]: `on` must be a mapping, not text
     --> w.yaml:3:5
      |
    3 | on: push
      |     ^^^^
      |
      = help: write `on: { schedule: [{ id: nightly, cron: "30 2 * * *", time-zone: Europe/Stockholm }] }`
    "#);
}

#[test]
fn unknown_trigger() {
    let file = r#"
on: { cron: [] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `cron` in `on`
     --> w.yaml:3:7
      |
    3 | on: { cron: [] }
      |       ^^^^
      |
      = help: the keys are `schedule`, `webhook` and `workflow`
    "#);
}

#[test]
fn later_trigger() {
    let file = r#"
on: { push: [] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0205]: `push` is not supported yet
     --> w.yaml:3:7
      |
    3 | on: { push: [] }
      |       ^^^^
      |
      = help: remove it; `on` has the keys `schedule`, `webhook` and `workflow`
    "#);
}

#[test]
fn no_list() {
    let file = r#"
on: { schedule: { id: a, every: 5m } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0203]: `schedule` must be a list, not a mapping
     --> w.yaml:3:17
      |
    3 | on: { schedule: { id: a, every: 5m } }
      |                 ^^^^^^^^^^^^^^^^^^^^
      |
      = help: write `schedule: [{ id: nightly, cron: "30 2 * * *", time-zone: Europe/Stockholm }]`
    "#);
}

#[test]
fn workflow_without_name() {
    let file = r#"
on: { workflow: [{ status: succeeded }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: this does not say which workflow starts runs
     --> w.yaml:3:20
      |
    3 | on: { workflow: [{ status: succeeded }] }
      |                    ^^^^^^
      |
      = help: write `workflow: [{ name: other, status: succeeded }]`
    "#);
}

#[test]
fn workflow_by_file() {
    let file = r#"
on: { workflow: [{ name: publish.yaml }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0206]: the name of a workflow is lower case with hyphens
     --> w.yaml:3:26
      |
    3 | on: { workflow: [{ name: publish.yaml }] }
      |                          ^^^^^^^^^^^^
      |
      = help: write what stands behind `name:` in that file, not the file's name
    "#);
}

#[test]
fn workflow_itself() {
    let file = r#"
on: { workflow: [{ name: w }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0409]: the end of each run would start the next one, for ever
     --> w.yaml:3:26
      |
    3 | on: { workflow: [{ name: w }] }
      |                          ^
      |
      = help: name another workflow; `schedule` repeats runs
    "#);
}

#[test]
fn status() {
    let file = r#"
on: { workflow: [{ name: other, status: [succeeded, success] }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: no run ends as `success`
     --> w.yaml:3:53
      |
    3 | on: { workflow: [{ name: other, status: [succeeded, success] }] }
      |                                                     ^^^^^^^
      |
      = help: it is one of: `succeeded`, `failed`, `cancelled` and `timed_out`
    "#);
}
