//! Times at which runs start.

use super::bad;

#[test]
fn no_id() {
    let file = r#"
on: { schedule: [{ every: 5m }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: a schedule without an `id`
     --> w.yaml:3:20
      |
    3 | on: { schedule: [{ every: 5m }] }
      |                    ^^^^^
      |
      = help: add `id: NAME`; it names the trigger in what is shown of it
    "#);
}

#[test]
fn malformed_id() {
    let file = r#"
on: { schedule: [{ id: Every 5m, every: 5m }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0206]: the `id` of a schedule is lower case with hyphens
     --> w.yaml:3:24
      |
    3 | on: { schedule: [{ id: Every 5m, every: 5m }] }
      |                        ^^^^^^^^
      |
      = help: write an id such as `every-30m`, of at most 64 characters
    "#);
}

#[test]
fn id_twice() {
    let file = r#"
on:
  schedule:
    - { id: a, every: 5m }
    - { id: a, every: 7m }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0208]: there are two triggers `a`
     --> w.yaml:6:13
      |
    5 |     - { id: a, every: 5m }
      |             - the first one
    6 |     - { id: a, every: 7m }
      |             ^
      |
      = help: rename one of them
    "#);
}

#[test]
fn no_times() {
    let file = r#"
on: { schedule: [{ id: a }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: this schedule does not say when
     --> w.yaml:3:20
      |
    3 | on: { schedule: [{ id: a }] }
      |                    ^^
      |
      = help: add `every: 30m`, or `cron: "30 2 * * *"`
    "#);
}

#[test]
fn misspelled_times() {
    let file = r#"
on: { schedule: [{ id: a, evry: 5m }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `evry` in a schedule
     --> w.yaml:3:27
      |
    3 | on: { schedule: [{ id: a, evry: 5m }] }
      |                           ^^^^
      |
      = help: did you mean `every`? The keys are `id`, `every`, `cron`, `time-zone`, `offset`, `jitter`, `overlap`, `catchup`, `pause-after-failures` and `inputs`
    "#);
}

#[test]
fn every_and_cron() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, cron: "* * * * *" }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `cron` and `every` exclude each other
     --> w.yaml:3:38
      |
    3 | on: { schedule: [{ id: a, every: 5m, cron: "* * * * *" }] }
      |                           -----      ^^^^
      |                           |
      |                           the other one
      |
      = help: keep one of them, or write two schedules
    "#);
}

#[test]
fn too_often() {
    let file = r#"
on: { schedule: [{ id: a, every: 5s }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `every` must be at least 10s
     --> w.yaml:3:34
      |
    3 | on: { schedule: [{ id: a, every: 5s }] }
      |                                  ^^
      |
      = help: write a longer interval; what is due more often is work for one long step
    "#);
}

#[test]
fn every_without_unit() {
    let file = r#"
on: { schedule: [{ id: a, every: 30 }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `every`: `30` is no duration
     --> w.yaml:3:34
      |
    3 | on: { schedule: [{ id: a, every: 30 }] }
      |                                  ^^
      |
      = help: write a number with its unit, such as `90s`, `5m` or `1h 30m`
    "#);
}

#[test]
fn offset_too_long() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, offset: 5m }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `offset` must be shorter than `every`
     --> w.yaml:3:46
      |
    3 | on: { schedule: [{ id: a, every: 5m, offset: 5m }] }
      |                                              ^^
      |
      = help: shorten it: the interval starts anew after each `every`
    "#);
}

#[test]
fn jitter_too_long() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, jitter: 6m }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `jitter` must be shorter than `every`
     --> w.yaml:3:46
      |
    3 | on: { schedule: [{ id: a, every: 5m, jitter: 6m }] }
      |                                              ^^
      |
      = help: shorten it: the interval starts anew after each `every`
    "#);
}

#[test]
fn offset_of_cron() {
    let file = r#"
on: { schedule: [{ id: a, cron: "0 * * * *", offset: 5m }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `offset` belongs to `every`, but this schedule has `cron`
     --> w.yaml:3:46
      |
    3 | on: { schedule: [{ id: a, cron: "0 * * * *", offset: 5m }] }
      |                           ---- the other one ^^^^^^
      |
      = help: remove it, or write `every` in place of `cron`
    "#);
}

#[test]
fn time_zone_of_every() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, time-zone: UTC }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `time-zone` belongs to `cron`, but this schedule has `every`
     --> w.yaml:3:38
      |
    3 | on: { schedule: [{ id: a, every: 5m, time-zone: UTC }] }
      |                           -----      ^^^^^^^^^
      |                           |
      |                           the other one
      |
      = help: remove it, or write `cron` in place of `every`
    "#);
}

#[test]
fn cron_with_six_fields() {
    let file = r#"
on: { schedule: [{ id: a, cron: "0 30 2 * * *" }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0901]: a cron expression has five fields, not 6
     --> w.yaml:3:33
      |
    3 | on: { schedule: [{ id: a, cron: "0 30 2 * * *" }] }
      |                                 ^^^^^^^^^^^^^^^
      |
      = help: the fields are minute, hour, day of the month, month and day of the week, as in `30 2 * * MON`
    "#);
}

#[test]
fn cron_by_name() {
    let file = r#"
on: { schedule: [{ id: a, cron: "@daily" }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0901]: a cron expression has five fields, not a name
     --> w.yaml:3:33
      |
    3 | on: { schedule: [{ id: a, cron: "@daily" }] }
      |                                 ^^^^^^^^^
      |
      = help: write `0 0 * * *`
    "#);
}

#[test]
fn cron_out_of_range() {
    let file = r#"
on: { schedule: [{ id: a, cron: "61 * * * *" }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0901]: this is no cron expression: Number out of bounds
     --> w.yaml:3:33
      |
    3 | on: { schedule: [{ id: a, cron: "61 * * * *" }] }
      |                                 ^^^^^^^^^^^^^
      |
      = help: the fields are minute, hour, day of the month, month and day of the week, as in `30 2 * * MON`
    "#);
}

#[test]
fn cron_with_words() {
    let file = r#"
on: { schedule: [{ id: a, cron: "every day at 2 am" }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0901]: this is no cron expression: the expression contains illegal character 'E' in part 'EVERY'
     --> w.yaml:3:33
      |
    3 | on: { schedule: [{ id: a, cron: "every day at 2 am" }] }
      |                                 ^^^^^^^^^^^^^^^^^^^^
      |
      = help: the fields are minute, hour, day of the month, month and day of the week, as in `30 2 * * MON`
    "#);
}

#[test]
fn never_due() {
    let file = r#"
on: { schedule: [{ id: a, cron: "0 0 30 2 *" }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0902]: the schedule is never due: there is no such day
     --> w.yaml:3:33
      |
    3 | on: { schedule: [{ id: a, cron: "0 0 30 2 *" }] }
      |                                 ^^^^^^^^^^^^^
      |
      = help: correct the day or the month; February has at most 29 days
    "#);
}

#[test]
fn time_zone() {
    let file = r#"
on: { schedule: [{ id: a, cron: "0 2 * * *", time-zone: Europe/Stokholm }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0903]: there is no time zone `Europe/Stokholm`
     --> w.yaml:3:57
      |
    3 | on: { schedule: [{ id: a, cron: "0 2 * * *", time-zone: Europe/Stokholm }] }
      |                                                         ^^^^^^^^^^^^^^^
      |
      = help: did you mean `Europe/Stockholm`?
    "#);
}

#[test]
fn time_zone_far() {
    let file = r#"
on: { schedule: [{ id: a, cron: "0 2 * * *", time-zone: Narnia }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0903]: there is no time zone `Narnia`
     --> w.yaml:3:57
      |
    3 | on: { schedule: [{ id: a, cron: "0 2 * * *", time-zone: Narnia }] }
      |                                                         ^^^^^^
      |
      = help: write an IANA name such as `Europe/Stockholm` or `UTC`
    "#);
}

#[test]
fn overlap() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, overlap: buffer }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `overlap`: `buffer` is none of its values
     --> w.yaml:3:47
      |
    3 | on: { schedule: [{ id: a, every: 5m, overlap: buffer }] }
      |                                               ^^^^^^
      |
      = help: did you mean `buffer-one` or `buffer-all`?
    "#);
}

#[test]
fn window_too_short() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, catchup: { window: 5s } }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `window` must be at least 10s
     --> w.yaml:3:57
      |
    3 | on: { schedule: [{ id: a, every: 5m, catchup: { window: 5s } }] }
      |                                                         ^^
      |
      = help: write a longer window, or `keep: none` for no catching up
    "#);
}

#[test]
fn keep() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, catchup: { keep: last } }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `keep`: `last` is none of its values
     --> w.yaml:3:55
      |
    3 | on: { schedule: [{ id: a, every: 5m, catchup: { keep: last } }] }
      |                                                       ^^^^
      |
      = help: it is one of: `latest`, `all` and `none`
    "#);
}

#[test]
fn pause_after_no_failures() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, pause-after-failures: 0 }] }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `pause-after-failures` must be from 1 to 1000
     --> w.yaml:3:60
      |
    3 | on: { schedule: [{ id: a, every: 5m, pause-after-failures: 0 }] }
      |                                                            ^
      |
      = help: it is how many runs in a row may fail
    "#);
}

#[test]
fn missing_input() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m }] }
inputs: { repo: string }
steps:
  a: { uses: git/ls_remote, with: { repo: "${{ inputs.repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0405]: a schedule starts runs without the input `repo`, which has no default
     --> w.yaml:3:20
      |
    3 | on: { schedule: [{ id: a, every: 5m }] }
      |                    ^^
      |
      = help: write `inputs: { repo: ... }` here, or give the input a default
    "#);
}

#[test]
fn unknown_input() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, inputs: { rpo: a/b } }] }
inputs: { repo: string }
steps:
  a: { uses: git/ls_remote, with: { repo: "${{ inputs.repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0312]: there is no input `rpo`
     --> w.yaml:3:48
      |
    3 | on: { schedule: [{ id: a, every: 5m, inputs: { rpo: a/b } }] }
      |                                                ^^^
      |
      = help: did you mean `repo`?
    "#);
}

#[test]
fn input_of_wrong_type() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, inputs: { depth: all } }] }
inputs: { depth: { type: int, default: 1 } }
steps:
  a: { uses: git/clone, with: { repo: a/b, depth: "${{ inputs.depth }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0406]: `depth` of the workflow: `all` is no int
     --> w.yaml:3:55
      |
    3 | on: { schedule: [{ id: a, every: 5m, inputs: { depth: all } }] }
      |                                                       ^^^
      |
      = help: write a whole number such as `42`
    "#);
}

#[test]
fn input_beyond_its_limit() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, inputs: { depth: 0 } }] }
inputs: { depth: { type: int, default: 1, min: 1 } }
steps:
  a: { uses: git/clone, with: { repo: a/b, depth: "${{ inputs.depth }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0406]: `depth` of the workflow must be at least 1, but is 0
     --> w.yaml:3:55
      |
    3 | on: { schedule: [{ id: a, every: 5m, inputs: { depth: 0 } }] }
      |                                                       ^
      |
      = help: the workflow's input has this limit
    "#);
}

#[test]
fn schedule_reads_the_run() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, inputs: { repo: "${{ run.id }}" } }] }
inputs: { repo: string }
steps:
  a: { uses: git/ls_remote, with: { repo: "${{ inputs.repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: a schedule cannot see `run`
     --> w.yaml:3:59
      |
    3 | on: { schedule: [{ id: a, every: 5m, inputs: { repo: "${{ run.id }}" } }] }
      |                                                           ^^^
      |
      = help: write a value without expressions
    "#);
}

#[test]
fn schedule_reads_an_event() {
    let file = r#"
on: { schedule: [{ id: a, every: 5m, inputs: { repo: "${{ event.repo }}" } }] }
inputs: { repo: string }
steps:
  a: { uses: git/ls_remote, with: { repo: "${{ inputs.repo }}" } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: a schedule cannot see `event`
     --> w.yaml:3:59
      |
    3 | on: { schedule: [{ id: a, every: 5m, inputs: { repo: "${{ event.repo }}" } }] }
      |                                                           ^^^^^
      |
      = help: `event` is what a webhook received; its own `if` and `inputs` see it
    "#);
}
