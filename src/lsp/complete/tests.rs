//! Text with a `|` where the cursor is, and what is proposed there.

use super::propose;
use crate::lsp::target::Target;
use crate::workflow::check::survey::survey;
use crate::workflow::diagnostic::Source;
use crate::workflow::fixture;
use proptest::prelude::*;

/// Proposals at the last `|`, each as what is written with its detail, after what it replaces.
fn proposed(text: &str) -> String {
    let (before, after) = text.rsplit_once('|').unwrap();
    let (text, at) = (format!("{before}{after}"), before.len());
    let catalog = fixture::catalog();
    let survey = survey(&Source::new("w.yaml", text.as_str()), &catalog);
    let Some(proposals) = propose(&text, at, &survey, &catalog) else { return "nothing".into() };
    let described = proposals.list.iter().any(|proposal| proposal.detail.is_some());
    let line = |proposal: &super::Proposal| {
        // A space at the end of what is written is shown as `_`.
        let insert =
            proposal.insert.strip_suffix(' ').map_or(proposal.insert.clone(), |text| format!("{text}_"));
        match &proposal.detail {
            Some(detail) => format!("{insert} ({detail})"),
            None => insert,
        }
    };
    let list: Vec<_> = proposals.list.iter().map(line).collect();
    format!("{:?}: {}", &text[proposals.start..at], list.join(if described { "\n" } else { ", " }))
}

const FILE: &str = "\
harvest: 1
name: w
inputs:
  repo: { type: string, description: Which repository }
  level: { type: enum, values: [low, high] }
  tags: { type: list, items: string }
  author: { type: object, fields: { name: string, mail: { type: string, optional: true } } }
secrets:
  github: { from: env:GITHUB_TOKEN }
  other: { from: env:OTHER }
sandboxes:
  left: { image: host }
  right: { image: host }
steps:
  clone:
    uses: git/clone
    with: { repo: x }
    sandbox: left
  list:
    uses: repos/list
    permissions: [repos]
  last:
    uses: git/push
";

/// The file with more lines of its last step.
fn step(lines: &str) -> String {
    proposed(&format!("{FILE}{lines}"))
}

#[test]
fn keys() {
    insta::assert_snapshot!(proposed("|"), @r#""": harvest:_, name:_, description:_, on:, inputs:, secrets:, concurrency:, timeout:_, budget:_, permissions:, sandboxes:, steps:, finally:, outputs:"#);
    insta::assert_snapshot!(proposed("harvest: 1\nname: w\n|\nsteps:\n  a: { uses: exec/run }\n"), @r#""": description:_, on:, inputs:, secrets:, concurrency:, timeout:_, budget:_, permissions:, sandboxes:, finally:, outputs:"#);
    insta::assert_snapshot!(step("    |\n"), @r#""": with:, sandbox:_, sandboxes:, network:_, secrets:, needs:_, if:_, timeout:_, idle-timeout:_, retry:, permissions:, continue-on-error:_, concurrency:, cache:, idempotency-key:_"#);
    insta::assert_snapshot!(step("    re|: { attempts: 2 }\n"), @r#""re": with, sandbox, sandboxes, network, secrets, needs, if, timeout, idle-timeout, retry, permissions, continue-on-error, concurrency, cache, idempotency-key"#);
    insta::assert_snapshot!(step("    retry: { |\n"), @r#""": attempts:_, backoff:_, on:_, resume:_"#);
    insta::assert_snapshot!(step("    retry:\n      backoff:\n        f|\n"), @r#""f": first:_, factor:_, max:_, jitter:_"#);
    insta::assert_snapshot!(proposed("inputs:\n  x: { type: string, | }\n"), @r#""": default:_, optional:_, pattern:_, min:_, max:_, multiline:_, description:_, fields:_, items:_, values:_"#);
    insta::assert_snapshot!(proposed("sandboxes:\n  box:\n    image: host\n    network: { |"), @r#""": allow:_"#);
    insta::assert_snapshot!(proposed("steps:\n  |\n"), @r#""":"#);
}

#[test]
fn values_of_the_grammar() {
    insta::assert_snapshot!(proposed("inputs:\n  x: { type: | }\n"), @r#""": string, int, float, bool, duration, size, enum, list, object, json"#);
    insta::assert_snapshot!(proposed("inputs:\n  x: |\n"), @r#""": string, int, float, bool, duration, size, enum, list, object, json"#);
    insta::assert_snapshot!(proposed("inputs:\n  x: { type: list, items: | }\n"), @r#""": string, int, float, bool, duration, size, enum, list, object, json"#);
    insta::assert_snapshot!(proposed("sandboxes:\n  box:\n    network: |\n"), @r#""": none, host"#);
    insta::assert_snapshot!(proposed("sandboxes:\n  box:\n    keep: t|\n"), @r#""t": true, false"#);
    insta::assert_snapshot!(proposed("permissions: [images, |]\n"), @r#""": sandboxes, images, volumes, repos, scratch, http, reveal"#);
    insta::assert_snapshot!(step("    sandbox: |\n"), @r#""": left, right"#);
    insta::assert_snapshot!(step("    needs: [clone, |]\n"), @r#"
    "": clone (git/clone)
    list (repos/list)
    "#);
    insta::assert_snapshot!(step("    needs:\n      - |\n"), @r#"
    "": clone (git/clone)
    list (repos/list)
    "#);
    insta::assert_snapshot!(step("    needs: |\n"), @r#"
    "": clone (git/clone)
    list (repos/list)
    "#);
    insta::assert_snapshot!(step("    retry: { attempts: 2, on: [|\n"), @r#""": denied, not-found, invalid, conflict, network, unavailable, rate-limited, other, timed-out, idle-timed-out, trapped, out-of-memory, sandbox-lost, host-lost"#);
    insta::assert_snapshot!(step("    secrets: { token: | }\n"), @r#""": github, other"#);
    insta::assert_snapshot!(step("    timeout: |\n"), @r#""":"#);
}

#[test]
fn what_the_component_says() {
    insta::assert_snapshot!(proposed("steps:\n  a:\n    uses: |\n"), @r#"
    "": exec/run
    exec/python
    git/clone
    git/configure
    git/commit
    git/push
    git/snapshot
    git/ls_remote
    git/pull_request
    memory/mount
    memory/save
    claude/run
    image/build
    image/tag
    repos/list
    notify/send
    ./team.wasm#lint
    ./team.wasm#compare
    ./publish.yaml (workflow)
    "#);
    insta::assert_snapshot!(proposed("steps:\n  a: { uses: \"gi|\" }\n"), @r#"
    "gi": exec/run
    exec/python
    git/clone
    git/configure
    git/commit
    git/push
    git/snapshot
    git/ls_remote
    git/pull_request
    memory/mount
    memory/save
    claude/run
    image/build
    image/tag
    repos/list
    notify/send
    ./team.wasm#lint
    ./team.wasm#compare
    ./publish.yaml (workflow)
    "#);
    insta::assert_snapshot!(step("    with:\n      |\n"), @r#"
    "": path:_ (string)
    ref:_ (string?)
    strategy:_ (enum(fetch-rebase | refuse)?)
    "#);
    insta::assert_snapshot!(step("    with: { path: x, | }\n"), @r#"
    "": ref:_ (string?)
    strategy:_ (enum(fetch-rebase | refuse)?)
    "#);
    insta::assert_snapshot!(step("    with:\n      path: x\n      strategy: |\n"), @r#""": fetch-rebase, refuse"#);
    insta::assert_snapshot!(step("    secrets:\n      |\n"), @r#""": token:_ (secret, optional)"#);
    insta::assert_snapshot!(proposed("steps:\n  a:\n    uses: ./team.wasm#compare\n    sandboxes: { | }\n"), @r#"
    "": left:_ (sandbox)
    right:_ (sandbox)
    "#);
    insta::assert_snapshot!(proposed("steps:\n  a:\n    uses: git/nonsense\n    with: { | }\n"), @r#""":"#);
}

#[test]
fn names_in_expressions() {
    insta::assert_snapshot!(step("    with: { path: \"${{ |"), @r#"
    "": inputs
    steps
    run
    size( (size(x) or x.size(), x a string, list or map)
    json( (json(x))
    hash( (hash('images/*.lock') or hash(['a.lock', 'b.lock']))
    int( (int(x), x a string, int, float, duration (milliseconds) or size (bytes))
    duration( (duration('1h 30m'))
    double( (double(x), x a string, int or float)
    string( (string(x), x a string, bool, int, float or enum)
    bool( (bool(x), x a string (true or false) or bool)
    has( (has(steps.commit.sha))
    "#);
    insta::assert_snapshot!(step("    with: { path: \"a ${{ inputs.| }} b\" }"), @r#"
    "": repo (string)
    level (enum(low | high))
    tags (list<string>)
    author ({ name: string, mail: string? })
    "#);
    insta::assert_snapshot!(step("    with: { path: \"${{ steps.|"), @r#"
    "": clone (git/clone)
    list (repos/list)
    "#);
    insta::assert_snapshot!(step("    with:\n      path: ${{ steps.clone.pa|\n"), @r#"
    "pa": path (string)
    sha (string)
    branch (string)
    state (enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled))
    error ({ kind: string, message: string }?)
    attempts (int)
    "#);
    insta::assert_snapshot!(step("    with:\n      message: |\n        Text ${{ steps.clone.?| }}\n"), @r#"
    "": path (string)
    sha (string)
    branch (string)
    state (enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled))
    error ({ kind: string, message: string }?)
    attempts (int)
    "#);
    insta::assert_snapshot!(step("    if: steps.clone.error.|\n"), @r#"
    "": kind (string)
    message (string)
    orValue( (x.orValue(other))
    hasValue() (x.hasValue())
    "#);
    insta::assert_snapshot!(step("    if: \"run.|\"\n"), @r#"
    "": id (string)
    workflow (string)
    trigger (string)
    author ({ name: string, email: string })
    "#);
    insta::assert_snapshot!(step("    if: has(secrets.|)\n"), @r#""": github, other"#);
    insta::assert_snapshot!(step("    if: inputs.author.|\n"), @r#"
    "": name (string)
    mail (string?)
    "#);
    insta::assert_snapshot!(step("    if: inputs.level == '|'\n"), @"nothing");
}

#[test]
fn functions_of_a_type() {
    insta::assert_snapshot!(step("    if: inputs.repo.|\n"), @r#"
    "": size() (size(x) or x.size(), x a string, list or map)
    contains( (text.contains(part))
    startsWith( (text.startsWith(prefix))
    endsWith( (text.endsWith(suffix))
    matches( (text.matches(regex))
    replace( (text.replace(from, to))
    split( (text.split(separator))
    lower() (text.lower())
    upper() (text.upper())
    trim() (text.trim())
    format( ('%s of %d'.format([x, y]))
    "#);
    insta::assert_snapshot!(step("    if: inputs.tags.|\n"), @r#"
    "": size() (size(x) or x.size(), x a string, list or map)
    join( (list.join(separator))
    first() (list.first())
    last() (list.last())
    map( (list.map(x, x.name))
    filter( (list.filter(x, x.size() > 0))
    exists( (list.exists(x, x == 'a'))
    exists_one( (list.exists_one(x, x == 'a'))
    all( (list.all(x, x != ''))
    "#);
    insta::assert_snapshot!(step("    if: inputs.author.mail.|\n"), @r#"
    "": orValue( (x.orValue(other))
    hasValue() (x.hasValue())
    "#);
    insta::assert_snapshot!(step("    with: { path: \"${{ steps.list.repos.map(r, r.|"), @r#"
    "": full_name (string)
    url (string)
    branch (string)
    setup (string?)
    "#);
    insta::assert_snapshot!(step("    with: { path: \"${{ steps.list.repos.map(r, |"), @r#"
    "": r (an item of steps.list.repos)
    inputs
    steps
    run
    size( (size(x) or x.size(), x a string, list or map)
    json( (json(x))
    hash( (hash('images/*.lock') or hash(['a.lock', 'b.lock']))
    int( (int(x), x a string, int, float, duration (milliseconds) or size (bytes))
    duration( (duration('1h 30m'))
    double( (double(x), x a string, int or float)
    string( (string(x), x a string, bool, int, float or enum)
    bool( (bool(x), x a string (true or false) or bool)
    has( (has(steps.commit.sha))
    "#);
}

#[test]
fn who_sees_what() {
    insta::assert_snapshot!(proposed(&format!("{FILE}finally:\n  save:\n    uses: exec/run\n    if: run.|\n")), @r#"
    "": id (string)
    workflow (string)
    trigger (string)
    author ({ name: string, email: string })
    status (enum(succeeded | failed | cancelled | timed_out))
    "#);
    insta::assert_snapshot!(proposed(&format!("{FILE}finally:\n  save:\n    uses: exec/run\n    if: steps.|\n")), @r#"
    "": clone (git/clone)
    list (repos/list)
    last (git/push)
    "#);
    insta::assert_snapshot!(proposed(&format!("{FILE}finally:\n  save: {{ needs: [| }}\n  other: {{ uses: exec/run }}\n")), @r#""": other (exec/run)"#);
    insta::assert_snapshot!(proposed(&format!("{FILE}outputs:\n  x: \"${{{{ steps.|\n")), @r#"
    "": clone (git/clone)
    list (repos/list)
    last (git/push)
    "#);
    insta::assert_snapshot!(proposed("inputs:\n  x: { type: string, default: \"${{ |"), @r#"
    "": run
    size( (size(x) or x.size(), x a string, list or map)
    json( (json(x))
    hash( (hash('images/*.lock') or hash(['a.lock', 'b.lock']))
    int( (int(x), x a string, int, float, duration (milliseconds) or size (bytes))
    duration( (duration('1h 30m'))
    double( (double(x), x a string, int or float)
    string( (string(x), x a string, bool, int, float or enum)
    bool( (bool(x), x a string (true or false) or bool)
    has( (has(steps.commit.sha))
    "#);
    insta::assert_snapshot!(proposed("inputs: { n: int }\nsandboxes:\n  box: { image: \"${{ |"), @r#"
    "": inputs
    run
    size( (size(x) or x.size(), x a string, list or map)
    json( (json(x))
    hash( (hash('images/*.lock') or hash(['a.lock', 'b.lock']))
    int( (int(x), x a string, int, float, duration (milliseconds) or size (bytes))
    duration( (duration('1h 30m'))
    double( (double(x), x a string, int or float)
    string( (string(x), x a string, bool, int, float or enum)
    bool( (bool(x), x a string (true or false) or bool)
    has( (has(steps.commit.sha))
    "#);
    insta::assert_snapshot!(step("    with: { path: \"$${{ |"), @r#""$${{ ":"#);
    insta::assert_snapshot!(step("    # ${{ |"), @"nothing");
}

/// Pieces that put together are nearly a workflow.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "harvest: 1\n",
        "inputs:\n  x: { type: list, items: string }\n",
        "steps:\n",
        "finally:\n",
        "  a:\n",
        "  b: ",
        "    uses: git/clone\n",
        "    uses: ",
        "    with:\n",
        "      repo: ",
        "    with: { path: \"${{ ",
        "    if: ",
        "    needs: [",
        "    secrets: { token: ",
        "steps.a.",
        "inputs.x",
        ".map(y, y",
        "(",
        ")",
        "has(",
        " }}",
        "\"",
        "'",
        "}",
        "]",
        ", ",
        "\n",
        "  ",
        "- ",
        "|\n",
        ">-\n",
        "#",
        "\t",
        "ö",
        "😀",
        "$",
        "{",
        "[",
        ":",
        "\r\n",
        ".?",
    ]);
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_place_of_a_broken_file_is_answered(text in pieces(), at in any::<prop::sample::Index>()) {
        let at = text.floor_char_boundary(at.index(text.len() + 1));
        let catalog = fixture::catalog();
        let survey = survey(&Source::new("w.yaml", text.as_str()), &catalog);
        if let Some(proposals) = propose(&text, at, &survey, &catalog) {
            prop_assert!(text.get(proposals.start..at).is_some(), "{}..{at}", proposals.start);
        }
        if let Some(target) = Target::find(&text, at, &survey) {
            prop_assert!(text.get(target.span.clone()).is_some(), "{:?}", target.span);
        }
    }
}

/// A loop with steps of its own, in the file of above.
const LOOPED: &str = "\
harvest: 1
name: w
on:
  webhook:
    - { id: push, path: /hooks/push, verify: { hmac-sha256: github }, inputs: { repos: [] } }
inputs:
  repos: { type: list, items: { type: object, fields: { name: string, stars: int } } }
secrets: { github: { from: env:GITHUB_TOKEN } }
steps:
  list: { uses: exec/run, with: { command: [ls] } }
  each:
    for-each: { item: repo, in: \"${{ inputs.repos }}\", key: \"${{ repo.name }}\" }
    needs: [list]
    steps:
      build: { uses: exec/run, with: { command: [make] } }
      ask: { approve: { message: \"Publish?\" }, needs: [build] }
";

fn looped(lines: &str) -> String {
    proposed(&format!("{LOOPED}{lines}"))
}

#[test]
fn kinds_of_steps() {
    insta::assert_snapshot!(looped("  x:\n    |\n"), @r#""": uses:_, approve:, for-each:, with:, sandbox:_, sandboxes:, network:_, secrets:, needs:_, if:_, timeout:_, idle-timeout:_, retry:, permissions:, continue-on-error:_, concurrency:, cache:, idempotency-key:_, steps:"#);
    insta::assert_snapshot!(looped("  x:\n    approve: { message: hi }\n    |\n"), @r#""": needs:_, if:_, continue-on-error:_"#);
    insta::assert_snapshot!(looped("  x:\n    for-each: {}\n    |\n"), @r#""": steps:, needs:_, if:_, continue-on-error:_"#);
    insta::assert_snapshot!(looped("      x:\n        |\n"), @r#""": uses:_, approve:, with:, sandbox:_, sandboxes:, network:_, secrets:, needs:_, if:_, timeout:_, idle-timeout:_, retry:, permissions:, continue-on-error:_, concurrency:, cache:, idempotency-key:_"#);
    insta::assert_snapshot!(looped("  x:\n    uses: ./publish.yaml\n    |\n"), @r#""": with:, needs:_, if:_, timeout:_, retry:, continue-on-error:_, concurrency:"#);
    insta::assert_snapshot!(looped("  x:\n    uses: ./publish.yaml\n    with: { | }\n"), @r#"
    "": repo:_ (string)
    branch:_ (string?)
    labels:_ (list<string>?)
    "#);
    insta::assert_snapshot!(looped("  x:\n    uses: ./publish.yaml\n    retry: { on: [|] }\n"), @r#""": failed, rejected, timed-out, idle-timed-out, trapped, out-of-memory, sandbox-lost, host-lost"#);
    insta::assert_snapshot!(looped("  x:\n    for-each: { | }\n"), @r#""": item:_, in:_, key:_, parallel:_, on-failure:_"#);
    insta::assert_snapshot!(looped("  x:\n    approve: { on-timeout: | }\n"), @r#""": reject, approve"#);
    insta::assert_snapshot!(looped("  x:\n    uses: exec/run\n    concurrency: { on-conflict: | }\n"), @r#""": queue, reject, cancel-old"#);
}

#[test]
fn what_steps_of_loops_see() {
    insta::assert_snapshot!(looped("      x: { uses: exec/run, needs: [|] }\n"), @r#"
    "": build (exec/run)
    ask (approve)
    "#);
    insta::assert_snapshot!(looped("  x: { uses: exec/run, needs: [|] }\n"), @r#"
    "": list (exec/run)
    each (for-each)
    "#);
    insta::assert_snapshot!(looped("      x: { uses: exec/run, if: re| }\n").lines().next().unwrap(), @r#""re": repo"#);
    insta::assert_snapshot!(looped("      x: { uses: exec/run, if: repo.|\n"), @r#"
    "": name (string)
    stars (int)
    "#);
    insta::assert_snapshot!(looped("      x: { uses: exec/run, if: steps.|\n"), @r#"
    "": list (exec/run)
    build (exec/run)
    ask (approve)
    "#);
    insta::assert_snapshot!(looped("      x: { uses: exec/run, if: steps.ask.|\n"), @r#"
    "": approved (bool)
    note (string?)
    by (string?)
    state (enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled))
    error ({ kind: string, message: string }?)
    attempts (int)
    "#);
    insta::assert_snapshot!(looped("  x: { uses: exec/run, if: steps.|\n"), @r#"
    "": list (exec/run)
    each (for-each)
    "#);
    insta::assert_snapshot!(looped("  x: { uses: exec/run, if: steps.each.|\n"), @r#"
    "": total (int)
    items (list<{ key, state, item, error, steps }>)
    succeeded (list<{ key, state, item, error, steps }>)
    failed (list<{ key, state, item, error, steps }>)
    state (enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled))
    error ({ kind: string, message: string }?)
    attempts (int)
    "#);
    insta::assert_snapshot!(looped("  x: { uses: exec/run, with: { command: \"${{ steps.each.items.map(i, i.steps.|\n"), @r#"
    "": build ({ exit_code: int?, stdout: string?, stderr: string?, state: enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled) })
    ask ({ approved: bool?, note: string?, by: string?, state: enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled) })
    "#);
    insta::assert_snapshot!(looped("  x: { for-each: { item: n, in: \"${{ steps.each.items }}\", key: \"${{ n.|\n"), @r#"
    "": key (string)
    state (enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled))
    item ({ name: string, stars: int })
    error ({ step: string, kind: string, message: string }?)
    steps ({ build, ask })
    "#);
    insta::assert_snapshot!(looped("  x: { for-each: { item: n, in: \"${{ [1] }}\" }, if: |\n").lines().next().unwrap(), @r#""": inputs"#);
    insta::assert_snapshot!(looped("  x: { uses: exec/run, cache: { key: [inputs.|\n"), @r#""": repos (list<{ name: string, stars: int }>)"#);
}

#[test]
fn triggers() {
    let on = |lines: &str| proposed(&LOOPED.replace("on:\n", &format!("on:\n{lines}")));
    insta::assert_snapshot!(on("  |\n"), @r#""": schedule:, workflow:"#);
    insta::assert_snapshot!(on("  schedule:\n    - |\n"), @r#""": id:_, every:_, cron:_, time-zone:_, offset:_, jitter:_, overlap:_, catchup:, pause-after-failures:_, inputs:"#);
    insta::assert_snapshot!(on("  schedule: [{ overlap: |\n"), @r#""": skip, buffer-one, buffer-all, cancel-other, allow-all"#);
    insta::assert_snapshot!(on("  schedule: [{ inputs: { |\n"), @r#""": repos:_ (list<{ name: string, stars: int }>)"#);
    insta::assert_snapshot!(on("  workflow: [{ status: [|\n"), @r#""": succeeded, failed, cancelled, timed_out"#);
    let hook = |text: &str| proposed(&LOOPED.replace("inputs: { repos: [] }", text));
    insta::assert_snapshot!(hook("if: |"), @r#"
    "": event
    size( (size(x) or x.size(), x a string, list or map)
    json( (json(x))
    hash( (hash('images/*.lock') or hash(['a.lock', 'b.lock']))
    int( (int(x), x a string, int, float, duration (milliseconds) or size (bytes))
    duration( (duration('1h 30m'))
    double( (double(x), x a string, int or float)
    string( (string(x), x a string, bool, int, float or enum)
    bool( (bool(x), x a string (true or false) or bool)
    has( (has(steps.commit.sha))
    "#);
    insta::assert_snapshot!(hook("inputs: { repos: \"${{ | }}\" }").lines().next().unwrap(), @r#""": event"#);
    insta::assert_snapshot!(proposed(&LOOPED.replace("hmac-sha256: github", "hmac-sha256: |")), @r#""": github"#);
}
