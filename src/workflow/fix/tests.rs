//! What is changed, what is left alone, and that no file gets worse.

use super::*;
use crate::workflow::fixture;
use proptest::prelude::*;

fn fixed(text: &str) -> Fixed {
    fix("w.yaml", text, &fixture::catalog())
}

/// The changes as they are reported, then the codes that remain.
fn told(fixed: &Fixed) -> String {
    let changes =
        fixed.changes.iter().map(|change| format!("{}: {} -> {}\n", change.line, change.old, change.new));
    let remain = fixed.checked.diagnostics.iter().map(|found| format!("{}\n", found.code.id));
    changes.chain(remain).collect()
}

#[test]
fn names_are_corrected_until_nothing_is_left() {
    let file = r#"harvest: 1
name: w
inputs:
  my-repo: { type: strng }
  level: { type: enum, values: [low, high], default: hihg }
secrets:
  gh-token: { from: env:GH, optionl: true }
sandboxes:
  box: { image: host, network: { allow: ["https://github.com/", https://example.com/path] } }
steps:
  get-it:
    uses: git/cloen
    with: { repo: "${{ inputs.my-repo }}", dpth: 1 }
    secrets: { tokn: gh-token }
    retry: { attempts: 2, on: [netwrok, rate_limited] }
  look:
    uses: exec/run
    needs: get-it
    if: "${{ level == 'high' }}"
    idle_timeout: 5m
    sandbox: bx
    with: { command: ["ä", "${{ steps.get-it.pth }}"], env: { T: 'it''s ${{ steps.get-it.pth }}' } }
  block:
    uses: exec/run
    with:
      command: [cat]
      stdin: |-
        levl ${{ inputs.levl }}
      env:
        A: "l\n${{ inputs.levl }}"
        B: > # levl
          folded
          ${{ inputs.levl }}
"#;
    let fixed = fixed(file);
    insta::assert_snapshot!(told(&fixed), @r#"
    4: my-repo -> my_repo
    4: strng -> string
    5: hihg -> high
    7: gh-token -> gh_token
    7: optionl -> optional
    9: "https://github.com/" -> github.com
    11: get-it -> get_it
    12: cloen -> clone
    13: my-repo -> my_repo
    14: gh-token -> gh_token
    19: ${{ level == 'high' }} -> level == 'high'
    20: idle_timeout -> idle-timeout
    21: bx -> box
    22: get-it -> get_it
    28: levl -> level
    33: levl -> level
    13: dpth -> depth
    14: tokn -> token
    15: netwrok -> network
    15: rate_limited -> rate-limited
    18: get-it -> get_it
    19: level -> inputs.level
    22: pth -> path
    E0204
    E0312
    E0312
    "#);
    insta::assert_snapshot!(fixed.text, @r#"
    harvest: 1
    name: w
    inputs:
      my_repo: { type: string }
      level: { type: enum, values: [low, high], default: high }
    secrets:
      gh_token: { from: env:GH, optional: true }
    sandboxes:
      box: { image: host, network: { allow: [github.com, https://example.com/path] } }
    steps:
      get_it:
        uses: git/clone
        with: { repo: "${{ inputs.my_repo }}", depth: 1 }
        secrets: { token: gh_token }
        retry: { attempts: 2, on: [network, rate-limited] }
      look:
        uses: exec/run
        needs: get_it
        if: "inputs.level == 'high'"
        idle-timeout: 5m
        sandbox: box
        with: { command: ["ä", "${{ steps.get_it.path }}"], env: { T: 'it''s ${{ steps.get-it.pth }}' } }
      block:
        uses: exec/run
        with:
          command: [cat]
          stdin: |-
            levl ${{ inputs.level }}
          env:
            A: "l\n${{ inputs.levl }}"
            B: > # levl
              folded
              ${{ inputs.level }}
    "#);
}

#[test]
fn nothing_that_more_than_one_name_could_replace_is_touched() {
    let fixed = fixed(
        "harvest: 1\nname: w\nsteps:\n  get_a: { uses: exec/run, with: { command: [ls] } }\n  get_b: { uses: exec/run, with: { command: [ls] } }\n  c: { uses: exec/run, with: { command: [ls] }, needs: get_x }\n",
    );
    assert_eq!(told(&fixed), "E0601\n");
    assert!(fixed.checked.diagnostics[0].help.as_ref().unwrap().contains("`get_a` or `get_b`"));
}

/// A name that is taken, and a function whose arguments are others: each change alone would do harm.
#[test]
fn changes_that_do_harm_are_left_out_and_the_others_made() {
    let file = "harvest: 1\nname: w\nsteps:\n  a-b: { uses: exec/run, with: { command: [ls] } }\n  a_b: { uses: exec/run, with: { comand: [ls] } }\n  c: { uses: git/commi, with: { command: [ls] } }\n";
    let fixed = fixed(file);
    assert_eq!(told(&fixed), "5: comand -> command\nE0206\nE0403\n");
    assert_eq!(fixed.refused, 2);
    assert_eq!(fixed.text, file.replace("comand", "command"));
}

#[test]
fn a_good_file_and_an_unreadable_one_stay_as_they_are() {
    for file in [
        "harvest: 1\r\nname: w\r\nsteps:\r\n  a: { uses: exec/run, with: { command: [ls] } }\r\n",
        "harvest: 1\nname: [\n",
        "",
    ] {
        let fixed = fixed(file);
        assert_eq!((fixed.text.as_str(), fixed.changes.len(), fixed.refused), (file, 0, 0));
    }
}

/// Files with several mistakes that have a fix, some of which hide each other.
fn files() -> impl Strategy<Value = String> {
    let name = || prop::sample::select(vec!["a", "b", "a-b", "a_b", "aB", "bulid", "build", "tset", "test"]);
    let uses = prop::sample::select(vec!["exec/run", "exec/rn", "git/clone", "gti/clone", "git/clnoe"]);
    let key = || prop::sample::select(vec!["command", "comand", "repo", "rep", "ref", "env", "workdir"]);
    let step_key =
        prop::sample::select(vec!["needs", "neds", "if", "timeout", "timout", "idle_timeout", "retry"]);
    let value = prop::sample::select(vec![
        "[ls]",
        "a/b",
        "5m",
        "test",
        "${{ steps.bulid.stdot }}",
        "\"${{ inputs.x }}\"",
        "'${{ steps.a-b.stdout }}'",
        "\"${{ true }}\"",
    ]);
    let step = (name(), uses, key(), key(), step_key, name(), value).prop_map(
        |(step, uses, first, second, key, other, value)| {
            format!("  {step}:\n    uses: {uses}\n    with: {{ {first}: {value}, {second}: [ls] }}\n    {key}: {other}\n")
        },
    );
    prop::collection::vec(step, 1..4)
        .prop_map(|steps| format!("harvest: 1\nname: w\nsteps:\n{}", steps.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_file_gets_worse(text in files()) {
        let before = Mistakes::of(&check("w.yaml", &text, &fixture::catalog()));
        let fixed = fixed(&text);
        let after = Mistakes::of(&check("w.yaml", &fixed.text, &fixture::catalog()));
        prop_assert!(after.no_worse_than(before), "{text}\n{}", fixed.text);
        prop_assert_eq!(fixed.text.lines().count(), text.lines().count());
        prop_assert_eq!(fixed.changes.is_empty(), fixed.text == text);
    }
}
