//! What is demanded of sandboxes, and what steps make of their networks.

use super::bad;

#[test]
fn a_level_that_does_not_exist() {
    let file = r#"
sandboxes:
  box: { require: { pids: quota } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `pids`: `quota` is none of its values
     --> w.yaml:4:27
      |
    4 |   box: { require: { pids: quota } }
      |                           ^^^^^
      |
      = help: it is one of: `none`, `rlimit` and `cgroup`
    "#);
}

#[test]
fn a_part_that_does_not_exist() {
    let file = r#"
sandboxes:
  box: { require: { net: none } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0201]: unknown key `net` in `require`
     --> w.yaml:4:21
      |
    4 |   box: { require: { net: none } }
      |                     ^^^
      |
      = help: the keys are `provider`, `ids`, `memory`, `pids`, `disk` and `cpu`
    "#);
}

#[test]
fn a_demand_on_a_limit_that_is_not_set() {
    let file = r#"
sandboxes:
  box: { require: { memory: cgroup } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: the sandbox has no limit of its memory, so that nothing holds it
     --> w.yaml:4:21
      |
    4 |   box: { require: { memory: cgroup } }
      |                     ^^^^^^
      |
      = help: write `memory: 4GiB` in the sandbox, or remove `memory` here
    "#);
}

#[test]
fn a_provider_that_does_not_exist() {
    let file = r#"
sandboxes:
  box: { require: { provider: locale } }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `provider`: `locale` is none of its values
     --> w.yaml:4:31
      |
    4 |   box: { require: { provider: locale } }
      |                               ^^^^^^
      |
      = help: did you mean `local`?
    "#);
}

#[test]
fn no_disk() {
    let file = r#"
sandboxes:
  box: { disk: 0B }
steps:
  a: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0204]: `disk` must be more than nothing
     --> w.yaml:4:16
      |
    4 |   box: { disk: 0B }
      |                ^^
      |
      = help: write a size such as `4GiB`
    "#);
}

#[test]
fn a_step_enters_the_hosts_network() {
    let file = r#"
steps:
  a: { uses: exec/run, network: host, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: the sandbox `box` cannot enter the network of the host while it lives
     --> w.yaml:4:33
      |
    4 |   a: { uses: exec/run, network: host, with: { command: [ls] } }
      |                                 ^^^^
      |
      = help: write `network: host` in the sandbox `box`, or use another sandbox
    "#);
}

#[test]
fn a_step_leaves_the_hosts_network() {
    let file = r#"
sandboxes:
  box: { network: host }
steps:
  a: { uses: exec/run, network: none, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: the sandbox `box` cannot leave the network of the host while it lives
     --> w.yaml:6:33
      |
    6 |   a: { uses: exec/run, network: none, with: { command: [ls] } }
      |                                 ^^^^
      |
      = help: write `network: none` in the sandbox `box`, and `network:` in the steps that need one
    "#);
}

#[test]
fn a_network_for_no_sandbox() {
    let file = r#"
steps:
  a: { uses: git/ls_remote, network: none, with: { repo: a/b } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0507]: git/ls_remote takes no sandbox
     --> w.yaml:4:29
      |
    4 |   a: { uses: git/ls_remote, network: none, with: { repo: a/b } }
      |                             ^^^^^^^
      |
      = help: remove `network:`
    "#);
}

#[test]
fn a_network_of_a_question() {
    let file = r#"
steps:
  a: { approve: { message: Go on? }, network: none }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0207]: `network` has no place beside `approve`
     --> w.yaml:4:38
      |
    4 |   a: { approve: { message: Go on? }, network: none }
      |                                      ^^^^^^^
      |
      = help: remove it; beside `approve` stand `needs`, `if` and `continue-on-error`
    "#);
}

#[test]
fn two_networks_at_once() {
    let file = r#"
steps:
  a: { uses: exec/run, network: { allow: [a.example] }, with: { command: [ls] } }
  b: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0509]: steps `a` and `b` may be at work in the sandbox `box` at the same time, and would reach different things
     --> w.yaml:5:3
      |
    4 |   a: { uses: exec/run, network: { allow: [a.example] }, with: { command: [ls] } }
      |                        ------- the other one
    5 |   b: { uses: exec/run, with: { command: [ls] } }
      |   ^
      |
      = help: write `needs: [a]` in `b`, or give one of them a sandbox of its own
    "#);
}

#[test]
fn two_networks_at_once_in_a_loop() {
    let file = r#"
steps:
  each:
    for-each: { item: n, in: "${{ ['a', 'b'] }}", key: "${{ n }}", parallel: 2 }
    steps:
      a: { uses: exec/run, network: { allow: [a.example] }, with: { command: [ls] } }
      b: { uses: exec/run, needs: [a], with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0509]: steps `a` and `b` may be at work in the sandbox `box` at the same time, and would reach different things
     --> w.yaml:8:7
      |
    7 |       a: { uses: exec/run, network: { allow: [a.example] }, with: { command: [ls] } }
      |                            ------- the other one
    8 |       b: { uses: exec/run, needs: [a], with: { command: [ls] } }
      |       ^
      |
      = help: write `parallel: 1` in the loop, or give one of them a sandbox of its own
    "#);
}

#[test]
fn a_loop_beside_a_step() {
    let file = r#"
steps:
  each:
    for-each: { item: n, in: "${{ ['a', 'b'] }}", key: "${{ n }}" }
    steps:
      a: { uses: exec/run, network: { allow: [a.example] }, with: { command: [ls] } }
  b: { uses: exec/run, with: { command: [ls] } }
"#;
    insta::assert_snapshot!(bad(file), @r#"
    error[E0509]: steps `a` and `b` may be at work in the sandbox `box` at the same time, and would reach different things
     --> w.yaml:8:3
      |
    7 |       a: { uses: exec/run, network: { allow: [a.example] }, with: { command: [ls] } }
      |                            ------- the other one
    8 |   b: { uses: exec/run, with: { command: [ls] } }
      |   ^
      |
      = help: write `needs: [each]` in `b`, or give one of them a sandbox of its own
    "#);
}
