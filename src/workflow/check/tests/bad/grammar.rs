//! Keys, names and values of the grammar.

use super::bad;

#[test]
fn unknown_key() {
    let file = r#"
setps: {}
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `setps` in a workflow
     --> w.yaml:3:1
      |
    3 | setps: {}
      | ^^^^^
      |
      = help: did you mean `steps`? The keys are `harvest`, `name`, `description`, `on`, `inputs`, `secrets`, `concurrency`, `timeout`, `budget`, `permissions`, `sandboxes`, `steps`, `finally` and `outputs`
    "#);
}

#[test]
fn unknown_step_key() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    shell: bash
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `shell` in a step
     --> w.yaml:8:5
      |
    8 |     shell: bash
      |     ^^^^^
      |
      = help: the keys are `uses`, `with`, `sandbox`, `sandboxes`, `network`, `secrets`, `needs`, `if`, `timeout`, `idle-timeout`, `retry`, `permissions`, `continue-on-error`, `concurrency`, `cache` and `idempotency-key`
    "#);
}

#[test]
fn key_with_underscore() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    idle_timeout: 5m
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `idle_timeout`: keys of the grammar are written with hyphens
     --> w.yaml:8:5
      |
    8 |     idle_timeout: 5m
      |     ^^^^^^^^^^^^
      |
      = help: write `idle-timeout`
    "#);
}

#[test]
fn later_key() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: exec/run
    with: { command: [ls] }
    env: { A: b }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0205]: `env` is not supported yet
     --> w.yaml:8:5
      |
    8 |     env: { A: b }
      |     ^^^
      |
      = help: remove it; a step has the keys `uses`, `with`, `sandbox`, `sandboxes`, `network`, `secrets`, `needs`, `if`, `timeout`, `idle-timeout`, `retry`, `permissions`, `continue-on-error`, `concurrency`, `cache` and `idempotency-key`
    "#);
}

#[test]
fn no_steps() {
    let file = r#"
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: the workflow has no steps
     --> w.yaml:1:1
      |
    1 | harvest: 1
      | ^^^^^^^
      |
      = help: add `steps: { hello: { uses: exec/run, with: { command: [echo, hello] } } }`
    "#);
}

#[test]
fn empty_steps() {
    let file = r#"
steps: {}
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: `steps` is empty
     --> w.yaml:3:1
      |
    3 | steps: {}
      | ^^^^^
      |
      = help: write `steps: { hello: { uses: exec/run, with: { command: [echo, hello] } } }`
    "#);
}

#[test]
fn steps_as_list() {
    let file = r#"
steps:
  - uses: exec/run
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0203]: `steps` must be a mapping, not a list
     --> w.yaml:4:3
      |
    4 |   - uses: exec/run
      |   ^^^^^^^^^^^^^^^^
      |
      = help: write `steps: { hello: { uses: exec/run, with: { command: [echo, hello] } } }`
    "#);
}

#[test]
fn no_uses() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    with: { command: [ls] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: step `a` does not say what it uses
     --> w.yaml:5:3
      |
    5 |   a:
      |   ^
      |
      = help: add `uses: component/function`, such as `uses: exec/run`
    "#);
}

#[test]
fn step_name_with_hyphen() {
    let file = r#"
steps:
  my-step: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0206]: `my-step` is no name for a step: names are lower case with underscores
     --> w.yaml:4:3
      |
    4 |   my-step: { uses: exec/run, with: { command: [ls] } }
      |   ^^^^^^^
      |
      = help: write `my_step`
    "#);
}

#[test]
fn step_in_both() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] } }
finally:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0106]: there are two steps `a`
     --> w.yaml:6:3
      |
    4 |   a: { uses: exec/run, with: { command: [ls] } }
      |   - the first one
    5 | finally:
    6 |   a: { uses: exec/run, with: { command: [ls] } }
      |   ^
      |
      = help: rename one of them
    "#);
}

#[test]
fn timeout_without_unit() {
    let file = r#"
timeout: 90
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `timeout`: `90` is no duration
     --> w.yaml:3:10
      |
    3 | timeout: 90
      |          ^^
      |
      = help: write a number with its unit, such as `90s`, `5m` or `1h 30m`
    "#);
}

#[test]
fn timeout_in_days() {
    let file = r#"
timeout: 2d
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `timeout`: `2d` has a unit longer than an hour
     --> w.yaml:3:10
      |
    3 | timeout: 2d
      |          ^^
      |
      = help: write hours, such as `48h`
    "#);
}

#[test]
fn timeout_without_value() {
    let file = r#"
timeout:
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0203]: `timeout` has no value
     --> w.yaml:3:1
      |
    3 | timeout:
      | ^^^^^^^
      |
      = help: write `timeout: 5m`
    "#);
}

#[test]
fn unknown_type() {
    let file = r#"
inputs:
  x: { type: integer }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ json(inputs.x) }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: there is no type `integer`
     --> w.yaml:4:14
      |
    4 |   x: { type: integer }
      |              ^^^^^^^
      |
      = help: did you mean `int`?
    "#);
}

#[test]
fn enum_without_values() {
    let file = r#"
inputs:
  x: { type: enum }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ json(inputs.x) }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: `x` is enum without `values`
     --> w.yaml:4:14
      |
    4 |   x: { type: enum }
      |              ^^^^
      |
      = help: add `values: [a, b]`
    "#);
}

#[test]
fn list_without_items() {
    let file = r#"
inputs:
  x: list
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ json(inputs.x) }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: `x`: list says nothing about what is inside
     --> w.yaml:4:6
      |
    4 |   x: list
      |      ^^^^
      |
      = help: write `{ type: list, items: string }`
    "#);
}

#[test]
fn default_of_wrong_type() {
    let file = r#"
inputs:
  x: { type: int, default: many }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ json(inputs.x) }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: the default of `x`: `many` is no int
     --> w.yaml:4:28
      |
    4 |   x: { type: int, default: many }
      |                            ^^^^
      |
      = help: write a whole number such as `42`
    "#);
}

#[test]
fn default_out_of_range() {
    let file = r#"
inputs:
  x: { type: int, default: 0, min: 1 }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ json(inputs.x) }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: the default of `x` must be at least 1, but is 0
     --> w.yaml:4:28
      |
    4 |   x: { type: int, default: 0, min: 1 }
      |                            ^
      |
      = help: change the default, or the limit
    "#);
}

#[test]
fn default_reads_inputs() {
    let file = r#"
inputs:
  x: { type: string, default: "${{ inputs.y }}" }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ json(inputs.x) }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0310]: the default of an input cannot see `inputs`
     --> w.yaml:4:36
      |
    4 |   x: { type: string, default: "${{ inputs.y }}" }
      |                                    ^^^^^^
      |
      = help: it can use `run`
    "#);
}

#[test]
fn pattern_is_no_regex() {
    let file = r#"
inputs:
  x: { type: string, pattern: '(' }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ json(inputs.x) }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: the pattern is no regular expression: unclosed group
     --> w.yaml:4:31
      |
    4 |   x: { type: string, pattern: '(' }
      |                               ^^^^
      |
      = help: write one such as '^[a-z]+$', in single quotes so that backslashes stay
    "#);
}

#[test]
fn min_above_max() {
    let file = r#"
inputs:
  x: { type: int, min: 3, max: 1 }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ json(inputs.x) }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `max` of `x` is less than its `min`
     --> w.yaml:4:32
      |
    4 |   x: { type: int, min: 3, max: 1 }
      |                                ^
      |
      = help: swap them
    "#);
}

#[test]
fn input_without_type() {
    let file = r#"
inputs:
  x: { default: 3 }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ json(inputs.x) }}"] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: `x` has no type
     --> w.yaml:4:3
      |
    4 |   x: { default: 3 }
      |   ^
      |
      = help: add `type:`, one of `string`, `int`, `float`, `bool`, `duration`, `size`, `enum`, `list`, `object` and `json`
    "#);
}

#[test]
fn resume_of_what_holds_no_conversation() {
    let file = r#"
steps:
  a: { uses: exec/run, with: { command: [ls] }, retry: { attempts: 2, resume: session } }
"#;
    insta::assert_snapshot!(bad(file), @"
    error[E0204]: exec/run has no conversation that another attempt could go on with
     --> w.yaml:4:71
      |
    4 |   a: { uses: exec/run, with: { command: [ls] }, retry: { attempts: 2, resume: session } }
      |                                                                       ^^^^^^
      |
      = help: remove `resume`; it is for steps with an output `session_id`, such as `claude/run`
    ");
}

#[test]
fn retry_without_attempts() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x }
    retry: { on: [network] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0202]: `retry` does not say how many attempts there are
     --> w.yaml:8:5
      |
    8 |     retry: { on: [network] }
      |     ^^^^^
      |
      = help: add `attempts: 3`; it counts the first one too
    "#);
}

#[test]
fn too_many_attempts() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x }
    retry: { attempts: 1000 }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `attempts` must be from 1 to 100
     --> w.yaml:8:24
      |
    8 |     retry: { attempts: 1000 }
      |                        ^^^^
      |
      = help: it counts all attempts, the first one too
    "#);
}

#[test]
fn retry_kind() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: git/clone
    with: { repo: x }
    retry: { attempts: 2, on: [netwrk] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0701]: git/clone cannot fail with `netwrk`
     --> w.yaml:8:32
      |
    8 |     retry: { attempts: 2, on: [netwrk] }
      |                                ^^^^^^
      |
      = help: did you mean `network`?
    "#);
}

#[test]
fn retry_kind_of_plain_error() {
    let file = r#"
steps:
  clone: { uses: git/clone, with: { repo: a/b } }
  a:
    uses: ./team.wasm#lint
    with: { path: x }
    retry: { attempts: 2, on: [network] }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0701]: ./team.wasm#lint cannot fail with `network`
     --> w.yaml:8:32
      |
    8 |     retry: { attempts: 2, on: [network] }
      |                                ^^^^^^^
      |
      = help: it can fail with: `other`, `timed-out`, `idle-timed-out`, `trapped`, `out-of-memory`, `sandbox-lost` and `host-lost`
    "#);
}

#[test]
fn network_with_url() {
    let file = r#"
sandboxes:
  box: { network: { allow: ["https://github.com/x"] } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `https://github.com/x` is no domain
     --> w.yaml:4:29
      |
    4 |   box: { network: { allow: ["https://github.com/x"] } }
      |                             ^^^^^^^^^^^^^^^^^^^^^^
      |
      = help: write `github.com`
    "#);
}

#[test]
fn memory_without_unit() {
    let file = r#"
sandboxes:
  box: { memory: 4096 }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `memory`: `4096` is no size
     --> w.yaml:4:18
      |
    4 |   box: { memory: 4096 }
      |                  ^^^^
      |
      = help: write a number with its unit, such as `512MiB` or `4GiB`
    "#);
}

#[test]
fn relative_mount() {
    let file = r#"
sandboxes:
  box: { volumes: { data: v } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `data` is no absolute path
     --> w.yaml:4:21
      |
    4 |   box: { volumes: { data: v } }
      |                     ^^^^
      |
      = help: a volume is written as `/path/inside: volume-name`
    "#);
}
