//! Files that editors must accept, and mistakes that they must show.

use super::*;
use crate::workflow::check::check;
use crate::workflow::code::{self, Code};
use crate::workflow::diagnostic::{Report, Source};
use crate::workflow::explain::Explanation;
use crate::workflow::file::{self, Kind, Node};
use crate::workflow::fixture;
use crate::workflow::literal;
use crate::workflow::types::Type;
use jsonschema::Validator;
use proptest::prelude::*;

fn made() -> Value {
    let made = schema(&fixture::catalog(), &["./team.wasm".into()]);
    assert_eq!(made.left_out, Vec::<String>::new());
    made.schema
}

fn validator() -> Validator {
    jsonschema::draft7::new(&made()).unwrap()
}

/// A file as an editor reads it: plain scalars are what YAML's core schema makes of them.
fn as_json(text: &str) -> Value {
    fn value(node: &Node) -> Value {
        match &node.kind {
            Kind::Null => Value::Null,
            Kind::Scalar { text, plain: true } => literal::scalar(text, &Type::Any).unwrap(),
            Kind::Scalar { text, plain: false } => text.as_str().into(),
            Kind::List(items) => items.iter().map(value).collect(),
            Kind::Map(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), value(&entry.value))).collect()
            }
        }
    }
    let mut report = Report::new(Source::new("w.yaml", text));
    value(&file::read(&mut report).unwrap_or_else(|| panic!("no YAML: {text}")))
}

/// What an editor would underline.
fn faults(validator: &Validator, text: &str) -> Vec<String> {
    let value = as_json(text);
    validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn the_schema_is_valid_itself() {
    let schema = made();
    jsonschema::draft7::meta::validate(&schema).unwrap_or_else(|error| panic!("{error}"));
}

/// Hovering over a key shows what it is for.
#[test]
fn every_property_has_a_description() {
    fn visit(value: &Value, path: &str, seen: &mut usize, without: &mut Vec<String>) {
        let Value::Object(fields) = value else {
            if let Value::Array(items) = value {
                items.iter().for_each(|item| visit(item, path, seen, without));
            }
            return;
        };
        for (key, inner) in fields {
            // Conditions only test; what they lead to is what is shown.
            if key == "if" {
                continue;
            }
            if let ("properties", Value::Object(properties)) = (key.as_str(), inner) {
                for (name, property) in properties {
                    *seen += 1;
                    let described = property["description"].as_str().is_some_and(|text| text.len() > 10);
                    if !described && *property != Value::Bool(false) {
                        without.push(format!("{path}/{name}"));
                    }
                }
            }
            visit(inner, &format!("{path}/{key}"), seen, without);
        }
    }
    let (mut seen, mut without) = (0, Vec::new());
    visit(&made(), "", &mut seen, &mut without);
    assert!(without.is_empty(), "{without:#?}");
    assert!(seen > 200, "{seen}");
}

#[test]
fn good_files_are_accepted() {
    let validator = validator();
    let mut wrong = Vec::new();
    let examples = code::ALL.iter().filter_map(|code| Explanation::of(*code)).map(|told| told.good);
    let files = [
        include_str!("../../../workflows/agent-session.yaml"),
        include_str!("../../../workflows/run-python.yaml"),
        AGENT_SESSION,
        REFRESH_IMAGES,
        SPELLINGS,
    ];
    for text in files.into_iter().chain(examples) {
        let faults = faults(&validator, text);
        if !faults.is_empty() {
            wrong.push(format!("{}\n{text}", faults.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Mistakes that need no types of expressions to be seen: the checker's own examples of them.
#[test]
fn bad_files_are_refused() {
    const SEEN: &[Code] = &[
        code::UNKNOWN_KEY,
        code::MISSING_KEY,
        code::WRONG_SHAPE,
        code::BAD_VALUE,
        code::UNSUPPORTED,
        code::BAD_NAME,
        code::BAD_USES,
        code::UNKNOWN_COMPONENT,
        code::UNKNOWN_FUNCTION_OF_COMPONENT,
        code::UNKNOWN_PARAMETER,
        code::MISSING_PARAMETER,
        code::WRONG_ARGUMENT,
        code::VERSION,
        code::UNKNOWN_SLOT,
        code::UNBOUND_SLOT,
        code::UNKNOWN_PERMISSION,
        code::SECRET_SOURCE,
        code::RETRY_KIND,
    ];
    let validator = validator();
    for code in SEEN {
        let bad = Explanation::of(*code).unwrap().bad;
        assert!(!faults(&validator, bad).is_empty(), "{code:?} is not seen\n{bad}");
    }
}

/// One mistake each, in the form `step or key: what is written`.
const BAD_STEPS: &[&str] = &[
    "{ uses: git/clone, with: { repo: a/b, depth: one } }",
    "{ uses: git/clone, with: { repo: a/b, depth: 1.5 } }",
    "{ uses: git/clone, with: { repo: [a] } }",
    "{ uses: git/push, with: { path: a, strategy: force } }",
    "{ uses: git/push, with: { path: a, strategy: \"x ${{ inputs.s }}\" } }",
    "{ uses: exec/run, with: { command: ls } }",
    "{ uses: exec/run, with: { command: [ls], env: [A] } }",
    "{ uses: exec/run, with: { command: [ls], allow_failure: yes } }",
    "{ uses: exec/run, with: { command: [[ls]] } }",
    "{ uses: exec/run }",
    "{ uses: git/ls_remote, with: { repo: a }, sandbox: box }",
    "{ uses: ./team.wasm#lint, with: { path: a, wait: 5 } }",
    "{ uses: ./team.wasm#lint, with: { path: a, limit: 5G } }",
    "{ uses: ./team.wasm#compare, sandbox: a }",
    "{ uses: ./team.wasm#compare, sandboxes: { up: a } }",
    "{ uses: git/pull_request, with: { repo: a, head: b, title: c } }",
    "{ uses: \"${{ inputs.x }}\" }",
    "{ uses: ./x.wasm }",
    "{ with: { command: [ls] } }",
    "{ uses: }",
    "{ uses: exec/run, with: { command: [ls] }, if: \"${{ inputs.x }}\" }",
    "{ uses: exec/run, with: { command: [ls] }, timeout: 2d }",
    "{ uses: exec/run, with: { command: [ls] }, retry: { attempts: 0 } }",
    "{ uses: exec/run, with: { command: [ls] }, retry: { on: [exited] } }",
    "{ uses: exec/run, with: { command: [ls] }, needs: [get-it] }",
    "{ uses: exec/run, with: { command: [ls] }, cache: { ttl: 5m } }",
    "{ uses: exec/run, with: { command: [ls] }, cache: { key: [\"${{ inputs.x }}\"] } }",
    "{ uses: exec/run, with: { command: [ls] }, concurrency: { limit: 1 } }",
    "{ uses: exec/run, with: { command: [ls] }, permissions: images }",
    "{ uses: exec/run, with: { command: [ls] }, steps: { a: { uses: ./x.yaml } } }",
    "{ approve: { timeout: 1h } }",
    "{ approve: { message: Go?, on-timeout: ask } }",
    "{ approve: { message: Go? }, uses: exec/run, with: { command: [ls] } }",
    "{ for-each: { item: x, in: \"${{ inputs.x }}\", key: k } }",
    "{ for-each: { item: x, in: \"${{ inputs.x }}\" }, steps: { a: { uses: ./x.yaml } } }",
    "{ for-each: { item: x, in: nothing, key: k }, steps: { a: { uses: ./x.yaml } } }",
    "{ for-each: { item: x, in: [a], key: x }, steps: { a: { uses: exec/rn } } }",
];

const BAD_KEYS: &[&str] = &[
    "inputs: { x: strng }",
    "inputs: { x: { type: list } }",
    "inputs: { x: { type: int, default: two } }",
    "inputs: { x: { type: string, items: string } }",
    "inputs: { x: { type: object, fields: { a-b: string } } }",
    "secrets: { x: { from: env } }",
    "secrets: { x: {} }",
    "sandboxes: { box: { network: all } }",
    "sandboxes: { box: { network: { allow: [https://github.com/x] } } }",
    "sandboxes: { box: { memory: 4 } }",
    "sandboxes: { box: { cpu: 0 } }",
    "sandboxes: { box: { volumes: { data: x } } }",
    "timeout: 90",
    "finally: {}",
    "permissions: [{ http: [a], reveal: [b] }]",
    "outputs: [a]",
    "on: { schedule: { every: 5m } }",
    "on: { schedule: [{ id: a }] }",
    "on: { schedule: [{ id: a, every: 5m, time-zone: Europe/Stockholm }] }",
    "on: { schedule: [{ id: a, every: 5m, overlap: never }] }",
    "on: { schedule: [{ id: a, every: 5m, catchup: { keep: newest } }] }",
    "on: { webhook: [{ id: a, path: /hooks/x }] }",
    "on: { workflow: [{ name: a, status: done }] }",
];

#[test]
fn every_mistake_is_seen() {
    let validator = validator();
    let good = "{ uses: exec/run, with: { command: [ls] } }";
    let file = |step: &str, key: &str| format!("harvest: 1\nname: w\nsteps:\n  a: {step}\n{key}\n");
    assert_eq!(faults(&validator, &file(good, "timeout: 5m")), Vec::<String>::new());
    for step in BAD_STEPS {
        assert!(!faults(&validator, &file(step, "")).is_empty(), "{step}");
    }
    for key in BAD_KEYS {
        assert!(!faults(&validator, &file(good, key)).is_empty(), "{key}");
    }
    assert!(!faults(&validator, &file(good, "").replace("harvest: 1", "harvest: 2")).is_empty());
}

/// While `uses:` is still empty, nothing is said of what would follow from it.
#[test]
fn an_unfinished_step_has_one_fault() {
    let text = "harvest: 1\nname: w\nsteps:\n  a:\n    uses:\n";
    assert_eq!(faults(&validator(), text).len(), 1);
}

/// What the comment of a function says is shown where its arguments are written.
#[test]
fn arguments_carry_what_their_function_says_of_them() {
    let mut git = (*fixture::catalog().component("git").unwrap()).clone();
    git.functions.truncate(1);
    git.functions[0].doc =
        Some("Clones. `repo` is a URL, `into` the parent (`/workspace` where absent). More.".into());
    let mut known = Known::default();
    known.add("git", Ok(git.into()));
    let with = &known.rules()[0]["then"]["properties"]["with"];
    assert!(with["description"].as_str().unwrap().starts_with("git/clone: Clones. `repo` is a URL"));
    insta::assert_json_snapshot!(with["properties"]["into"], @r#"
    {
      "description": "`into` the parent (`/workspace` where absent). Type: string, optional.",
      "type": [
        "string",
        "number",
        "boolean",
        "null"
      ],
      "default": "/workspace"
    }
    "#);
}

/// The keys that the checker lists where one is unknown are the keys of the schema.
#[test]
fn the_schema_has_every_key_of_the_checker() {
    let schema = made();
    let workflow = &schema["allOf"][0]["properties"];
    let step = &schema["definitions"]["step"]["properties"];
    let of_input = &workflow["inputs"]["additionalProperties"]["anyOf"][1]["properties"];
    let of_secret = &workflow["secrets"]["additionalProperties"]["properties"];
    let of_sandbox = &workflow["sandboxes"]["additionalProperties"]["properties"];
    let of_retry = &step["retry"]["properties"];
    for (keys, file) in [
        (workflow, "zzz: 1\n"),
        (step, "steps: { a: { uses: exec/run, zzz: 1 } }\n"),
        (of_retry, "steps: { a: { uses: exec/run, retry: { zzz: 1 } } }\n"),
        (
            &of_retry["backoff"]["properties"],
            "steps: { a: { uses: exec/run, retry: { backoff: { zzz: 1 } } } }\n",
        ),
        (of_input, "inputs: { x: { zzz: 1 } }\n"),
        (of_secret, "secrets: { x: { zzz: 1 } }\n"),
        (of_sandbox, "sandboxes: { x: { zzz: 1 } }\n"),
        (&of_sandbox["image"]["anyOf"][1]["properties"], "sandboxes: { x: { image: { zzz: 1 } } }\n"),
        (&of_sandbox["network"]["anyOf"][1]["properties"], "sandboxes: { x: { network: { zzz: 1 } } }\n"),
    ] {
        let checked = check("w.yaml", &format!("harvest: 1\nname: w\n{file}"), &fixture::catalog());
        let found = checked.diagnostics.iter().find(|found| found.message.contains("`zzz`")).unwrap();
        let help = found.help.as_ref().unwrap();
        let listed: Vec<_> = help.split('`').skip(1).step_by(2).collect();
        assert!(!listed.is_empty(), "{help}");
        for key in listed {
            assert!(keys.get(key).is_some(), "the schema lacks `{key}` where the checker takes `{file}`");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Spellings of lengths of time and sizes: what the checker reads, the schema accepts.
    #[test]
    fn what_can_be_read_is_accepted(
        text in "[ ]?[0-9]{1,3}(\\.[0-9]{1,2})?[ ]?(h|hrs?|hours?|m|mins?|minutes|s|secs?|ms|us|µs|ns|d|w)([ ,]{0,2}[0-9]{1,2} ?(m|s|ms|sec))?|PT[0-9]{1,2}[HMS]|[0-9]{1,3}(\\.[0-9])? ?(B|kB|K|MB|MiB|GiB|GB|TB|TiB|)"
    ) {
        for ty in [Type::Duration, Type::Size] {
            if literal::scalar(&text, &ty).is_ok() {
                let validator = jsonschema::draft7::new(&literal(&ty)).unwrap();
                prop_assert!(validator.is_valid(&Value::from(text.as_str())), "{text} as {ty}");
            }
        }
    }
}

/// Whatever a scalar looks like to YAML, its place decides what it is.
const SPELLINGS: &str = r#"
harvest: "1"
name: spellings
description: 3.10
inputs:
  n: { type: int, default: "7" }
  b: { type: bool, default: "true", optional: false }
  f: { type: float, default: 1e3, min: "0.5", max: 7 }
  d: { type: duration, default: "1h 30m", min: 5s }
  s: { type: size, default: 1.5 kB }
  o: { type: string, optional: true, default: }
  l: { type: list, items: { type: enum, values: [1, two] }, default: ["${{ run.id }}"] }
sandboxes:
  box: { cpu: "1.5", memory: "4 GiB", keep: "false", env: { A: 012, B: true }, workdir: 12 }
steps:
  a:
    uses: exec/run
    with: { command: [echo, 3.10, no, 012, true, "${{ inputs.n }}"], env: { A: 1 }, workdir: , stdin: 12, allow_failure: "false" }
    timeout: 250ms
    if: true
    retry: { attempts: "3", on: exited, backoff: { factor: "1.5" } }
  b:
    uses: git/ls-remote@1
    with: { repo: "${{ inputs.o }}", ref: }
    needs: a
  c:
    uses: ./team.wasm#lint@1
    with: { path: x, wait: "${{ inputs.d }}", limit: 10MiB }
  d: { uses: ../team/lint.wasm#lint, with: { any: [thing] } }
  f: { uses: ./other.yaml, with: { repo: x } }
  g: { uses: lib/other.wasm#check, secrets: { any: x } }
  h: { uses: git/push, with: { path: x, strategy: "${{ inputs.o.orValue('refuse') }}" } }
"#;

/// The two workflows that the language was designed by, with the components that exist.
const AGENT_SESSION: &str = r#"
# yaml-language-server: $schema=.harvest/workflow.schema.json
harvest: 1
name: agent-session
description: Run Claude on one repository and push what it committed.
inputs:
  repo:     { type: string, pattern: '^[\w.-]+/[\w.-]+$', description: owner/name }
  branch:   { type: string, default: main }
  prompt:   { type: string, multiline: true }
  author:   { type: object, fields: { name: string, email: string } }
  max_turns: { type: int, default: 40, min: 1, max: 400 }
  approve_push: { type: bool, default: false }
secrets:
  github: { from: modal:harvest-github/GITHUB_TOKEN }
  claude: { from: [modal:harvest-claude/CLAUDE_CODE_OAUTH_TOKEN, env:CLAUDE_CODE_OAUTH_TOKEN] }
  gemini: { from: modal:harvest-mcp/GEMINI_API_KEY, optional: true }
permissions: [images, { http: [api.example.com] }, { reveal: [github] }]
concurrency: { group: "agent/${{ inputs.repo }}/${{ inputs.branch }}", limit: 1, on-conflict: queue }
timeout: 2h
sandboxes:
  box:
    image: { ref: "repo-image/${{ inputs.repo }}", fallback: harvest-base }
    volumes: { /root/.mcp-memory: "harvest-memory-${{ inputs.repo.replace('/', '-') }}", /mnt/state: harvest-state }
    cpu: 2
    memory: 4GiB
    network: { allow: [github.com, api.anthropic.com] }
steps:
  clone:
    uses: git/clone@1
    with: { repo: "${{ inputs.repo }}", ref: "${{ inputs.branch }}", into: /workspace }
    secrets: { token: github }
    retry: { attempts: 4, backoff: { first: 2s, factor: 2, max: 30s, jitter: full }, on: [network, rate-limited] }
    timeout: 5m
  identity:
    uses: git/configure@1
    with: { path: "${{ steps.clone.path }}", name: "${{ inputs.author.name }} (Harvest)", email: "${{ inputs.author.email }}" }
  memory:
    uses: memory/mount@1
    with: { repo: "${{ inputs.repo }}", dir: /root/.mcp-memory, seed: ./memory-seed.json }
  agent:
    uses: claude/run@1
    needs: [identity, memory]
    with:
      cwd: "${{ steps.clone.path }}"
      prompt: "${{ inputs.prompt }}"
      max_turns: "${{ inputs.max_turns }}"
      mcp: "${{ ['memory', 'filesystem', 'playwright'] + (has(secrets.gemini) ? ['gemini'] : []) }}"
    secrets: { claude_code_oauth_token: claude, gemini_api_key: gemini }
    timeout: 90m
    idle-timeout: 10m
    retry: { attempts: 2, on: [sandbox-lost] }
  commit:
    uses: git/commit@1
    if: steps.agent.changed
    with: { path: "${{ steps.clone.path }}", message: "${{ steps.agent.summary }}", no_verify: true }
  review:
    approve: { message: "Push ${{ steps.commit.sha }}?", timeout: 24h, on-timeout: reject }
    if: inputs.approve_push
  push:
    uses: git/push@1
    needs: review
    with: { path: "${{ steps.clone.path }}", ref: "${{ inputs.branch }}", strategy: fetch-rebase }
    secrets: { token: github }
    idempotency-key: "${{ steps.commit.sha }}"
    continue-on-error: true
finally:
  snapshot:
    uses: git/snapshot@1
    if: "run.status != 'succeeded'"
    with: { path: "${{ steps.clone.path }}", message: "wip: snapshot" }
outputs:
  sha: "${{ steps.commit.?sha }}"
  cost_usd: "${{ steps.agent.cost_usd }}"
"#;

const REFRESH_IMAGES: &str = r#"
# yaml-language-server: $schema=.harvest/workflow.schema.json
harvest: 1
name: refresh-images
description: Rebuild the warm image of every registered repository.
on:
  schedule:
    - id: every-30m
      every: 30m
      offset: 7m
      jitter: 2m
      overlap: buffer-one
      catchup: { window: 1h, keep: latest }
      pause-after-failures: 3
      inputs: { only: [] }
    - { id: nightly, cron: "30 2 * * *", time-zone: Europe/Stockholm }
  webhook:
    - { id: push, path: /hooks/github, verify: { hmac-sha256: github_hook }, if: "event.ref == 'refs/heads/' + event.repository.default_branch", inputs: { only: ["${{ event.repository.full_name }}"] } }
  workflow: [{ name: publish-base-image, status: succeeded }]
inputs:
  only:  { type: list, items: string, default: [], description: "Empty means every registered repository" }
  force: { type: bool, default: false }
secrets:
  github:      { from: modal:harvest-github/GITHUB_TOKEN }
  github_hook: { from: env:GITHUB_WEBHOOK_SECRET }
timeout: 25m
steps:
  registry:
    uses: repos/list@1
    with: { only: "${{ inputs.only }}" }
  build:
    for-each: { item: repo, in: "${{ steps.registry.repos }}", key: "${{ repo.full_name }}", parallel: 4, on-failure: continue }
    steps:
      head:
        uses: git/ls-remote@1
        with: { repo: "${{ repo.full_name }}", ref: "${{ repo.branch }}" }
        secrets: { token: github }
        retry: { attempts: 3, backoff: { first: 1s, factor: 2, max: 10s, jitter: full } }
      image:
        uses: image/build@1
        concurrency: { group: "image/${{ repo.full_name }}", limit: 1, on-conflict: queue }
        cache:
          key: [repo.full_name, steps.head.sha, "hash('images/base.lock')"]
          ttl: 24h
          bypass: "inputs.force"
        with: { base: harvest-base, repo: "${{ repo.full_name }}", sha: "${{ steps.head.sha }}", setup: "${{ repo.setup }}" }
        secrets: { token: github }
        timeout: 15m
        retry: { attempts: 2, on: [unavailable, network] }
      tag:
        uses: image/tag@1
        with: { image: "${{ steps.image.id }}", as: "repo-image/${{ repo.full_name }}" }
finally:
  report:
    uses: notify/send@1
    if: "steps.build.failed.size() > 0"
    with: { to: slack:#harvest, text: "${{ steps.build.failed.size() }} of ${{ steps.build.total }} images failed: ${{ steps.build.failed.map(f, f.key).join(', ') }}" }
outputs:
  built:  "${{ steps.build.succeeded.size() }}"
  cached: "${{ steps.build.items.filter(i, i.steps.image.cached).size() }}"
"#;
