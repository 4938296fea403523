//! What starts runs by itself.

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
