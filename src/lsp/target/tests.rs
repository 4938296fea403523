//! Text with a `|` in or behind a name, what the name stands for, and where that is declared.

use super::Target;
use crate::workflow::check::survey::survey;
use crate::workflow::diagnostic::Source;
use crate::workflow::fixture;

const FILE: &str = "\
harvest: 1
name: w
inputs:
  repo: { type: string, description: Which repository }
  author: { type: object, fields: { name: string } }
secrets: { github: { from: env:X } }
sandboxes:
  left: { image: host }
  right: { image: host }
steps:
  clone:
    uses: git/clone
    sandbox: left
    with: { repo: x }
  list: { uses: repos/list, permissions: [repos] }
  b:
    uses: git/push
";

/// What the name at the last `|` of a file that goes on with these lines stands for.
fn told(lines: &str) -> String {
    let (before, after) = lines.rsplit_once('|').unwrap();
    let text = format!("{FILE}{before}{after}");
    let survey = survey(&Source::new("w.yaml", text.as_str()), &fixture::catalog());
    let Some(target) = Target::find(&text, FILE.len() + before.len(), &survey) else {
        return "nothing".into();
    };
    let place = target.declared.map_or("-".to_owned(), |span| {
        format!("{:?} on line {}", &text[span.clone()], text[..span.start].matches('\n').count() + 1)
    });
    format!("{:?}, declared by {place}\n{}", &text[target.span], target.doc)
}

#[test]
fn keys_of_the_grammar_and_the_component() {
    insta::assert_snapshot!(told("    ti|meout: 5m\n"), @r#"
    "timeout", declared by -
    `timeout`

    How long one attempt may take.
    "#);
    insta::assert_snapshot!(told("    retry: { on|: [] }\n"), @r#"
    "on", declared by -
    `on`

    Kinds of error that are retried; all but `cancelled` where not given.
    "#);
    insta::assert_snapshot!(told("    with: { strat|egy: refuse }\n"), @r#"
    "strategy", declared by -
    `strategy`: `enum(fetch-rebase | refuse)`, may be absent
    "#);
    insta::assert_snapshot!(told("    secrets: { |token: github }\n"), @r#"
    "token", declared by -
    secret slot `token`, may stay unbound
    "#);
    insta::assert_snapshot!(told("    nonse|nse: github\n"), @"nothing");
    insta::assert_snapshot!(told("  c:\n    uses: git/c|ommit\n"), @r#"
    "git/commit", declared by -
    **git/commit**

    Takes

    - `path`: `string`
    - `message`: `string`
    - `no_verify`: `bool`, may be absent
    - `allow_empty`: `bool`, may be absent

    Is handed

    - the sandbox `box`

    Returns

    - `changed`: `bool`
    - `sha`: `string`, may be absent
    - `files`: `list<string>`

    Fails with `denied`, `not-found`, `invalid`, `conflict`, `network`, `unavailable`, `rate-limited` and `other`.
    "#);
    insta::assert_snapshot!(told("  |c: { uses: git/nonsense }\n"), @r#"
    "c", declared by "c" on line 18
    step `c`: `git/nonsense`
    "#);
}

#[test]
fn names_that_the_file_declares() {
    insta::assert_snapshot!(told("    secrets: { token: git|hub }\n"), @r#"
    "github", declared by "github" on line 6
    secret `github`
    "#);
    insta::assert_snapshot!(told("    sandbox: left|\n"), @r#"
    "left", declared by "left" on line 8
    sandbox `left`
    "#);
    insta::assert_snapshot!(told("    needs: [clone, |list]\n"), @r#"
    "list", declared by "list" on line 15
    step `list`: `repos/list`

    **repos/list**

    Takes

    - `only`: `list<string>`, may be absent

    Returns

    - `repos`: `list<{ full_name: string, url: string, branch: string, setup: string? }>`

    Fails with `denied`, `not-found`, `invalid`, `conflict`, `network`, `unavailable`, `rate-limited` and `other`.

    Needs the permission `repos`.
    "#);
    insta::assert_snapshot!(told("    needs: nobody|\n"), @"nothing");
    insta::assert_snapshot!(told("    with: { path: \"ö ${{ inputs.re|po }}\" }\n"), @r#"
    "repo", declared by "repo" on line 4
    input `repo`: `string`

    Which repository
    "#);
    insta::assert_snapshot!(told("    with: { path: \"${{ steps.cl|one.path }}\" }\n"), @r#"
    "clone", declared by "clone" on line 11
    step `clone`: `git/clone`

    **git/clone**

    Takes

    - `repo`: `string`
    - `ref`: `string`, may be absent
    - `into`: `string`, may be absent
    - `depth`: `int`, may be absent

    Is handed

    - the sandbox `box`
    - the secret `token`, optional

    Returns

    - `path`: `string`
    - `sha`: `string`
    - `branch`: `string`

    Fails with `denied`, `not-found`, `invalid`, `conflict`, `network`, `unavailable`, `rate-limited` and `other`.
    "#);
    insta::assert_snapshot!(told("    with: { path: \"${{ steps.clone.bra|nch"), @r#"
    "branch", declared by "clone" on line 11
    `branch`: `string`
    "#);
    insta::assert_snapshot!(told("    with:\n      path: |\n        text ${{ steps.clone.?pa|th }}\n"), @r#"
    "path", declared by "clone" on line 11
    `path`: `string`
    "#);
    insta::assert_snapshot!(told("    if: has(secrets.git|hub)\n"), @r#"
    "github", declared by "github" on line 6
    secret `github`
    "#);
}

#[test]
fn parts_of_expressions() {
    insta::assert_snapshot!(told("    if: ste|ps.clone.state == 'failed'\n"), @r#"
    "steps", declared by -
    `steps`

    What other steps returned, by name.
    "#);
    insta::assert_snapshot!(told("    if: steps.clone.sta|te == 'failed'\n"), @r#"
    "state", declared by "clone" on line 11
    `state`: `enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled)`

    How it ended, or where it stands.
    "#);
    insta::assert_snapshot!(told("    if: steps.clone.error.ki|nd == 'failed'\n"), @r#"
    "kind", declared by -
    `kind`: `string`, may be absent
    "#);
    insta::assert_snapshot!(told("    if: inputs.author.na|me != ''\n"), @r#"
    "name", declared by -
    `name`: `string`
    "#);
    insta::assert_snapshot!(told("    if: inputs.repo.starts|With('x')\n"), @r#"
    "startsWith", declared by -
    `text.startsWith(prefix)`

    Whether the text starts with the prefix.
    "#);
    insta::assert_snapshot!(told("    if: ha|s(steps.clone.path)\n"), @r#"
    "has", declared by -
    `has(steps.commit.sha)`

    Whether the value is there: of an optional input, an output of a skipped step, or a secret.
    "#);
    insta::assert_snapshot!(told("    if: run.work|flow == 'w'\n"), @r#"
    "workflow", declared by -
    `workflow`: `string`
    "#);
    insta::assert_snapshot!(told("    if: steps.list.repos.exists(r, r|.url != '')\n"), @r#"
    "r", declared by -
    `r`: `{ full_name: string, url: string, branch: string, setup: string? }`
    "#);
    insta::assert_snapshot!(told("    if: steps.list.repos.exists(r, r.set|up.hasValue())\n"), @r#"
    "setup", declared by -
    `setup`: `string`, may be absent
    "#);
    insta::assert_snapshot!(told("    if: inputs.repo == 're|po'\n"), @"nothing");
    insta::assert_snapshot!(told("    # inputs.re|po\n"), @"nothing");
}

#[test]
fn loops_approvals_and_workflows() {
    const LOOP: &str = r#"  each:
    for-each: { item: thing, in: "${{ steps.list.repos }}", key: "${{ thing.full_name }}" }
    steps:
      build: { uses: exec/run, with: { command: [make, "${{ thing.full_name }}"] } }
      ask: { approve: { message: "Publish?" }, needs: [build], if: steps.build.exit_code == 0 }
      publish: { uses: ./publish.yaml, with: { repo: "${{ thing.full_name }}" } }
  after: { uses: exec/run, needs: [each], with: { command: "${{ steps.each.items.map(i, i.key) }}" } }
"#;
    let at = |place: &str, cut: usize| {
        let (from, _) = LOOP.match_indices(place).last().unwrap();
        told(&format!("    sandbox: left\n{}|{}", &LOOP[..from + cut], &LOOP[from + cut..]))
    };
    insta::assert_snapshot!(at("for-each", 2), @r#"
    "for-each", declared by -
    `for-each`

    Does its `steps` once for each item of a list.
    "#);
    insta::assert_snapshot!(at("item: thing", 8), @r#"
    "thing", declared by "thing" on line 20
    item `thing`: `{ full_name: string, url: string, branch: string, setup: string? }`
    "#);
    insta::assert_snapshot!(at("key: \"${{ thing", 12), @r#"
    "thing", declared by "thing" on line 20
    item `thing`: `{ full_name: string, url: string, branch: string, setup: string? }`
    "#);
    insta::assert_snapshot!(at("[make, \"${{ thing", 14), @r#"
    "thing", declared by "thing" on line 20
    item `thing`: `{ full_name: string, url: string, branch: string, setup: string? }`
    "#);
    insta::assert_snapshot!(at("thing.full_name }}\"] }", 7), @r#"
    "full_name", declared by -
    `full_name`: `string`
    "#);
    insta::assert_snapshot!(at("needs: [build]", 10), @r#"
    "build", declared by "build" on line 22
    step `build` of the loop `each`: `exec/run`

    **exec/run**

    Takes

    - `command`: `list<string>`
    - `env`: `map<string>`, may be absent
    - `workdir`: `string`, may be absent
    - `stdin`: `string`, may be absent
    - `allow_failure`: `bool`, may be absent

    Is handed

    - the sandbox `box`
    - secrets by any name

    Returns

    - `exit_code`: `int`
    - `stdout`: `string`
    - `stderr`: `string`

    Fails with `exited` and `network`.
    "#);
    insta::assert_snapshot!(at("steps.build.exit", 8), @r#"
    "build", declared by "build" on line 22
    step `build` of the loop `each`: `exec/run`

    **exec/run**

    Takes

    - `command`: `list<string>`
    - `env`: `map<string>`, may be absent
    - `workdir`: `string`, may be absent
    - `stdin`: `string`, may be absent
    - `allow_failure`: `bool`, may be absent

    Is handed

    - the sandbox `box`
    - secrets by any name

    Returns

    - `exit_code`: `int`
    - `stdout`: `string`
    - `stderr`: `string`

    Fails with `exited` and `network`.
    "#);
    insta::assert_snapshot!(at("steps.build.exit", 13), @r#"
    "exit_code", declared by "build" on line 22
    `exit_code`: `int`
    "#);
    insta::assert_snapshot!(at("      build:", 8), @r#"
    "build", declared by "build" on line 22
    step `build` of the loop `each`: `exec/run`

    **exec/run**

    Takes

    - `command`: `list<string>`
    - `env`: `map<string>`, may be absent
    - `workdir`: `string`, may be absent
    - `stdin`: `string`, may be absent
    - `allow_failure`: `bool`, may be absent

    Is handed

    - the sandbox `box`
    - secrets by any name

    Returns

    - `exit_code`: `int`
    - `stdout`: `string`
    - `stderr`: `string`

    Fails with `exited` and `network`.
    "#);
    insta::assert_snapshot!(at("ask:", 1), @r#"
    "ask", declared by "ask" on line 23
    step `ask` of the loop `each`: `approve`

    Returns

    - `approved`: `bool`
    - `note`: `string`, may be absent
    - `by`: `string`, may be absent
    "#);
    insta::assert_snapshot!(at("approve:", 1), @r#"
    "approve", declared by -
    `approve`

    Asks a person, and waits for the answer.
    "#);
    insta::assert_snapshot!(at("./publish.yaml", 4), @r#"
    "./publish.yaml", declared by -
    **publish**

    Takes

    - `repo`: `string`
    - `branch`: `string`, may be absent
    - `labels`: `list<string>`, may be absent
    "#);
    insta::assert_snapshot!(at("repo: \"${{ thing", 1), @r#"
    "repo", declared by -
    `repo`: `string`
    "#);
    insta::assert_snapshot!(at("needs: [each]", 9), @r#"
    "each", declared by "each" on line 19
    step `each`: `for-each`

    Once for each `thing`: `{ full_name: string, url: string, branch: string, setup: string? }`.

    Returns

    - `total`: `int`
    - `items`: `list<{ key, state, item, error, steps }>`
    - `succeeded`: `list<{ key, state, item, error, steps }>`
    - `failed`: `list<{ key, state, item, error, steps }>`
    "#);
    insta::assert_snapshot!(at("i.key", 3), @r#"
    "key", declared by -
    `key`: `string`
    "#);
}
