//! Files that check clean, and what they mean.

use super::{checked, rendered};
use crate::id::StepId;
use crate::network::Network;
use crate::workflow::Workflow;
use crate::workflow::model::{Action, Expression, Keep, OnConflict, Overlap, Read, Template, Times, Trigger};
use crate::workflow::types::Type;
use serde_json::json;

fn good(text: &str) -> Workflow {
    assert_eq!(rendered(text), "");
    checked(text).workflow.unwrap()
}

const COUNT_LINES: &str = r#"
harvest: 1
name: count-lines
inputs:
  repo: { type: string }
sandboxes:
  box: { image: host, network: { allow: [github.com] } }
steps:
  clone:
    uses: git/clone
    with: { repo: "${{ inputs.repo }}", depth: 1 }
  count:
    uses: exec/run
    with:
      workdir: "${{ steps.clone.path }}"
      command: [sh, -c, "git ls-files | xargs cat | wc -l"]
    timeout: 1m
outputs:
  lines: "${{ int(steps.count.stdout.trim()) }}"
"#;

pub(super) const AGENT_SESSION: &str = r#"
harvest: 1
name: agent-session
description: Run Claude on one repository and push what it committed.
inputs:
  repo: { type: string, description: "owner/name, URL or path" }
  branch: { type: string, optional: true }
  prompt: { type: string, multiline: true }
  author:
    type: object
    fields: { name: string, email: string }
    default: { name: "${{ run.author.name }}", email: "${{ run.author.email }}" }
  max_turns: { type: int, default: 40, min: 1, max: 400 }
  push: { type: bool, default: false }
  strategy: { type: enum, values: [fetch-rebase, refuse], default: refuse }
  wait: { type: duration, default: 10m }
secrets:
  github: { from: [modal:harvest-github/GITHUB_TOKEN, env:GITHUB_TOKEN], optional: true }
  claude: { from: env:CLAUDE_CODE_OAUTH_TOKEN, optional: true }
  gemini: { from: modal:harvest-mcp/GEMINI_API_KEY, optional: true }
concurrency: { group: "agent/${{ inputs.repo }}/${{ inputs.branch.orValue('') }}", limit: 1, on-conflict: queue }
timeout: 2h
sandboxes:
  box:
    image: { ref: "repo-image/${{ inputs.repo }}", fallback: harvest-base }
    volumes: { /mnt/state: harvest-state }
    env: { LANG: C.UTF-8 }
    cpu: 2
    memory: 4GiB
    network: { allow: [github.com, api.anthropic.com] }
    timeout: 3h
steps:
  clone:
    uses: git/clone@1
    with: { repo: "${{ inputs.repo }}", ref: "${{ inputs.branch }}", into: /workspace }
    secrets: { token: github }
    retry: { attempts: 4, backoff: { first: 2s, factor: 2, max: 30s, jitter: full }, on: [network, rate-limited] }
    timeout: 5m
  identity:
    uses: git/configure
    with: { path: "${{ steps.clone.path }}", name: "${{ inputs.author.name }}", email: "${{ inputs.author.email }}" }
  memory:
    uses: memory/mount
    with: { repo: "${{ inputs.repo }}", seed: ./memory-seed.json }
  agent:
    uses: claude/run
    needs: [identity, memory]
    with:
      cwd: "${{ steps.clone.path }}"
      prompt: "${{ inputs.prompt }}"
      max_turns: "${{ inputs.max_turns }}"
      mcp: "${{ ['memory', 'filesystem'] + (has(secrets.gemini) ? ['gemini'] : []) }}"
    secrets: { claude_code_oauth_token: claude, gemini_api_key: gemini }
    timeout: 90m
    idle-timeout: 10m
    retry: { attempts: 2, on: [sandbox-lost], resume: session }
  lint:
    uses: ./team.wasm#lint
    with: { path: "${{ steps.clone.path }}", wait: "${{ inputs.wait }}", limit: 10MiB }
  commit:
    uses: git/commit
    if: steps.agent.changed
    with:
      path: "${{ steps.clone.path }}"
      message: |
        ${{ steps.agent.summary }}

        Session ${{ steps.agent.session_id }} of ${{ steps.agent.turns }} turns.
      no_verify: true
  review:
    approve: { message: "Push ${{ steps.commit.sha }}?", timeout: 24h, on-timeout: reject }
    if: inputs.push && has(steps.commit.sha)
  push:
    uses: git/push
    if: inputs.push && has(steps.commit.sha) && steps.commit.sha != steps.clone.sha
    needs: review
    with: { path: "${{ steps.clone.path }}", ref: "${{ inputs.branch }}", strategy: "${{ inputs.strategy }}" }
    secrets: { token: github }
    idempotency-key: "${{ steps.commit.sha }}"
finally:
  save:
    uses: memory/save
    with: { repo: "${{ inputs.repo }}" }
  snapshot:
    uses: git/snapshot
    if: run.status != 'succeeded' && steps.agent.state != 'skipped'
    with: { path: "${{ steps.clone.path }}", message: "wip: ${{ steps.agent.error.message.orValue('snapshot') }}" }
outputs:
  sha: "${{ steps.commit.?sha }}"
  cost_usd: "${{ steps.agent.cost_usd }}"
"#;

#[test]
fn the_small_workflow() {
    let workflow = good(COUNT_LINES);
    assert_eq!(workflow.sandboxes["box"].network, Network::Allow(vec!["github.com".into()]));
    let step = &workflow.steps["count"];
    let count = step.call().unwrap();
    assert_eq!(step.reads, [Read { step: StepId::new("clone"), tolerant: false }]);
    assert_eq!(
        count.with["command"],
        Template::Literal(json!(["sh", "-c", "git ls-files | xargs cat | wc -l"]))
    );
    assert_eq!(count.with["workdir"], Template::Expression(Expression("steps.clone.path".into())));
    assert_eq!(count.attempts.timeout_ms, Some(60_000));
    assert_eq!(count.sandboxes["box"], "box");
    assert_eq!(workflow.steps["clone"].call().unwrap().with["depth"], Template::Literal(json!(1)));
    assert_eq!(workflow.outputs["lines"].ty, Type::Int);
}

#[test]
fn the_agent_session() {
    let workflow = good(AGENT_SESSION);
    let reads = |step: &str| {
        let step = workflow.steps.get(step).or_else(|| workflow.finally.get(step)).unwrap();
        step.reads.iter().map(|read| (read.step.as_str().to_owned(), read.tolerant)).collect::<Vec<_>>()
    };
    assert_eq!(reads("push"), [("commit".into(), true), ("clone".into(), false)]);
    assert_eq!(reads("snapshot"), [("agent".into(), true), ("clone".into(), false)]);
    assert_eq!(workflow.steps["agent"].needs, [StepId::new("identity"), StepId::new("memory")]);
    assert_eq!(workflow.steps["clone"].call().unwrap().attempts.retry.on.len(), 2);
    assert_eq!(workflow.steps["lint"].call().unwrap().with["limit"], Template::Literal(json!(10 << 20)));
    assert_eq!(workflow.inputs["wait"].default, Some(Template::Literal(json!(600_000))));
    assert_eq!(workflow.outputs["sha"].ty, Type::Option(Box::new(Type::String)));
    assert_eq!(workflow.secrets["github"].from, ["modal:harvest-github/GITHUB_TOKEN", "env:GITHUB_TOKEN"]);
    let concurrency = workflow.concurrency.as_ref().unwrap();
    assert_eq!((concurrency.limit, concurrency.on_conflict), (1, OnConflict::Queue));
    let Action::Approve(review) = &workflow.steps["review"].action else { panic!("review is an approval") };
    assert_eq!((review.timeout_ms, review.approve_on_timeout), (Some(86_400_000), false));
    assert!(workflow.steps["push"].call().unwrap().idempotency_key.is_some());
    let again: Workflow = serde_json::from_value(serde_json::to_value(&workflow).unwrap()).unwrap();
    assert_eq!(again, workflow);
}

pub(super) const REFRESH_IMAGES: &str = r#"
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
    - { id: nightly, cron: "30 2 * * *", time-zone: europe/stockholm, inputs: { force: true } }
  webhook:
    - id: push
      path: /hooks/github
      verify: { hmac-sha256: github_hook }
      if: event.ref == 'refs/heads/' + event.repository.default_branch
      inputs: { only: ["${{ event.repository.full_name }}"] }
  workflow: [{ name: publish-base-image, status: succeeded }]
inputs:
  only: { type: list, items: string, default: [], description: "Empty means every registered repository" }
  force: { type: bool, default: false }
secrets:
  github: { from: modal:harvest-github/GITHUB_TOKEN }
  github_hook: { from: env:GITHUB_WEBHOOK_SECRET }
timeout: 25m
permissions: [repos, images, { http: [hooks.slack.com] }]
steps:
  registry:
    uses: repos/list@1
    with: { only: "${{ inputs.only }}" }
  build:
    for-each: { item: repo, in: "${{ steps.registry.repos }}", key: "${{ repo.full_name }}", parallel: 4, on-failure: continue }
    steps:
      head:
        uses: git/ls_remote@1
        with: { repo: "${{ repo.full_name }}", ref: "${{ repo.branch }}" }
        secrets: { token: github }
        retry: { attempts: 3, backoff: { first: 1s, factor: 2, max: 10s, jitter: full } }
      image:
        uses: image/build@1
        concurrency: { group: "image/${{ repo.full_name }}", limit: 1, on-conflict: queue }
        cache:
          key: [repo.full_name, steps.head.sha, "hash('images/base.lock')"]
          ttl: 24h
          bypass: inputs.force
        with: { base: harvest-base, repo: "${{ repo.full_name }}", sha: "${{ steps.head.sha }}", setup: "${{ repo.setup }}" }
        secrets: { token: github }
        timeout: 15m
        retry: { attempts: 2, on: [unavailable, network] }
      tag:
        uses: image/tag@1
        with: { image: "${{ steps.image.id }}", as: "repo-image/${{ repo.full_name }}" }
finally:
  report:
    uses: notify/send
    if: steps.build.failed.size() > 0
    with: { to: "slack:#harvest", text: "${{ steps.build.failed.size() }} of ${{ steps.build.total }} images failed: ${{ steps.build.failed.map(f, f.key).join(', ') }}" }
outputs:
  built: "${{ steps.build.succeeded.size() }}"
  cached: "${{ steps.build.items.filter(i, i.steps.image.cached).size() }}"
"#;

#[test]
fn the_refresh_of_images() {
    let workflow = good(REFRESH_IMAGES);
    let build = &workflow.steps["build"];
    let Action::ForEach(each) = &build.action else { panic!("build is a loop") };
    assert_eq!((each.item.as_str(), each.parallel, each.continue_on_failure), ("repo", 4, true));
    assert_eq!(each.items, Expression("steps.registry.repos".into()));
    assert_eq!(each.key, Expression("repo.full_name".into()));
    assert_eq!(build.reads, [Read { step: StepId::new("registry"), tolerant: false }]);
    let image = &each.steps["image"];
    assert_eq!(image.reads, [Read { step: StepId::new("head"), tolerant: false }]);
    let cache = image.call().unwrap().cache.as_ref().unwrap();
    assert_eq!(cache.key.len(), 3);
    assert_eq!((cache.ttl_ms, &cache.bypass), (Some(86_400_000), &Some(Expression("inputs.force".into()))));
    assert_eq!(workflow.hashes, ["images/base.lock"]);
    assert_eq!((&workflow.outputs["built"].ty, &workflow.outputs["cached"].ty), (&Type::Int, &Type::Int));
    assert_eq!(
        build.outputs.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(),
        ["total", "items", "succeeded", "failed"]
    );
    let again: Workflow = serde_json::from_value(serde_json::to_value(&workflow).unwrap()).unwrap();
    assert_eq!(again, workflow);
}

#[test]
fn what_starts_the_refresh() {
    let workflow = good(REFRESH_IMAGES);
    let [
        Trigger::Schedule(often),
        Trigger::Schedule(nightly),
        Trigger::Webhook(push),
        Trigger::Workflow(after),
    ] = workflow.triggers.as_slice()
    else {
        panic!("{:?}", workflow.triggers)
    };
    assert_eq!(often.times, Times::Every { every_ms: 1_800_000, offset_ms: 420_000 });
    assert_eq!((often.jitter_ms, often.overlap), (120_000, Overlap::BufferOne));
    assert_eq!(
        (often.catch_up_ms, often.keep, often.pause_after_failures),
        (3_600_000, Keep::Latest, Some(3))
    );
    assert_eq!(often.inputs["only"], Template::Literal(json!([])));
    let stockholm = Times::Cron { expression: "30 2 * * *".into(), time_zone: "Europe/Stockholm".into() };
    assert_eq!(nightly.times, stockholm);
    assert_eq!((nightly.overlap, nightly.catch_up_ms), (Overlap::Skip, 3_600_000));
    assert_eq!((push.path.as_str(), push.hmac_sha256.as_str()), ("/hooks/github", "github_hook"));
    assert!(push.condition.is_some() && matches!(push.inputs["only"], Template::List(_)));
    assert_eq!(
        (after.name.as_str(), after.status.as_slice()),
        ("publish-base-image", &["succeeded".to_owned()][..])
    );
}

#[test]
fn every_type_of_input() {
    let workflow = good(
        r#"
harvest: 1
name: w
inputs:
  text: { type: string, pattern: '^[a-z]+$', min: 1, max: 9, multiline: true, description: Some text }
  count: { type: int, default: 3, min: 1 }
  ratio: { type: float, default: 0.5, max: 1 }
  wanted: { type: bool, optional: true }
  wait: { type: duration, default: 1h 30m, max: 2h }
  room: { type: size, default: 4GiB }
  mode: { type: enum, values: [fast, slow], default: fast }
  tags: { type: list, items: { type: enum, values: [a, b] }, default: [a], max: 2 }
  author: { type: object, fields: { name: string, age: { type: int, optional: true } }, default: { name: Ann } }
  data: { type: json, default: { any: [1, x] } }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ json(inputs) }}", "${{ inputs.data.any[1] }}"] } }
"#,
    );
    let types: Vec<_> = workflow.inputs.values().map(|input| input.ty.to_string()).collect();
    insta::assert_snapshot!(types.join("\n"), @r#"
    string
    int
    float
    bool?
    duration
    size
    enum(fast | slow)
    list<enum(a | b)>
    { name: string, age: int? }
    any
    "#);
    assert_eq!(workflow.inputs["data"].default, Some(Template::Literal(json!({"any": [1, "x"]}))));
}

#[test]
fn a_loop_waits_for_what_its_steps_read() {
    let workflow = good(
        r#"
harvest: 1
name: w
inputs: { names: { type: list, items: string } }
steps:
  one: { uses: exec/run, with: { command: [ls] } }
  two: { uses: exec/run, with: { command: [ls] } }
  loop:
    for-each: { item: name, in: inputs.names, key: name }
    continue-on-error: true
    needs: two
    steps:
      a: { uses: exec/run, with: { command: [echo, "${{ name }}", "${{ steps.one.stdout }}"] } }
      b: { uses: exec/run, if: "has(steps.two.stdout)", needs: a, with: { command: [ls] } }
  over:
    for-each: { item: done, in: "${{ steps.loop.succeeded }}", key: "${{ done.key }}" }
    steps:
      c: { uses: exec/run, with: { command: [echo, "${{ done.steps.a.stdout.orValue(done.item) }}"] } }
"#,
    );
    let step = &workflow.steps["loop"];
    let reads: Vec<_> = step.reads.iter().map(|read| (read.step.as_str(), read.tolerant)).collect();
    assert_eq!(reads, [("one", false), ("two", true)]);
    assert_eq!((step.continue_on_error, &step.needs), (true, &vec![StepId::new("two")]));
    let Action::ForEach(each) = &step.action else { panic!("it is a loop") };
    assert_eq!((each.parallel, each.continue_on_failure), (8, false));
    assert!(each.steps.values().all(|step| step.reads.is_empty()));
    assert_eq!(each.steps["b"].needs, [StepId::new("a")]);
}

#[test]
fn what_a_condition_asks_for_is_there() {
    let workflow = good(
        r#"
harvest: 1
name: w
steps:
  commit: { uses: git/commit, with: { path: /x, message: m } }
  tell:
    uses: exec/run
    if: has(steps.commit.sha)
    with: { command: [echo, "${{ steps.commit.sha }}"] }
  files:
    for-each: { item: file, in: steps.commit.files, key: file }
    if: has(steps.commit.sha) && steps.commit.changed
    steps:
      show: { uses: exec/run, with: { command: [echo, "${{ file }} ${{ steps.commit.sha }}"] } }
"#,
    );
    assert!(workflow.steps["tell"].reads[0].tolerant, "its own condition says when it runs");
}

#[test]
fn a_workflow_as_a_step() {
    let workflow = good(
        r#"
harvest: 1
name: w
steps:
  sub:
    uses: ./publish.yaml
    with: { repo: acme/tools }
    timeout: 1h
    retry: { attempts: 2, on: [failed, host-lost] }
    concurrency: { group: publish, limit: 2, on-conflict: reject }
outputs:
  sha: "${{ steps.sub.sha }}"
  told: "${{ steps.sub.told }}"
"#,
    );
    let Action::Workflow(sub) = &workflow.steps["sub"].action else { panic!("it is a workflow") };
    assert_eq!(sub.definition.name, "publish");
    assert_eq!(sub.with["repo"], Template::Literal(json!("acme/tools")));
    assert_eq!(sub.attempts.timeout_ms, Some(3_600_000));
    assert_eq!(workflow.outputs["sha"].ty, Type::String);
    assert_eq!(workflow.outputs["told"].ty, Type::Option(Box::new(Type::Bool)));
    let again: Workflow = serde_json::from_value(serde_json::to_value(&workflow).unwrap()).unwrap();
    assert_eq!(again, workflow);
}

#[test]
fn the_schema_decides_what_a_scalar_is() {
    let workflow = good(
        "harvest: 1\nname: w\nsteps:\n  a:\n    uses: exec/run\n    with: { command: [echo, 3.10, no, 012, true] }\n",
    );
    assert_eq!(
        workflow.steps["a"].call().unwrap().with["command"],
        Template::Literal(json!(["echo", "3.10", "no", "012", "true"]))
    );
    assert_eq!(workflow.sandboxes["box"].image, Template::Literal(json!("host")));
    assert_eq!(workflow.sandboxes["box"].network, Network::None);
}

#[test]
fn a_thousand_steps() {
    let mut text = String::from("harvest: 1\nname: large\ninputs: { repo: string }\nsteps:\n");
    for n in 0..1000 {
        let before = if n == 0 {
            "${{ inputs.repo }}".to_owned()
        } else {
            format!("${{{{ steps.s{}.stdout }}}}", n - 1)
        };
        text.push_str(&format!(
            "  s{n}:\n    uses: exec/run\n    if: inputs.repo != 'x{n}'\n    with: {{ command: [echo, \"{before}\"], env: {{ A: b }} }}\n    timeout: 5m\n    retry: {{ attempts: 2, on: [exited] }}\n"
        ));
    }
    let started = std::time::Instant::now();
    assert_eq!(good(&text).steps.len(), 1000);
    println!("1,000 steps twice: {:?}", started.elapsed());
}

#[test]
fn steps_with_networks_that_never_meet() {
    let workflow = good(
        r#"
harvest: 1
name: phases
sandboxes:
  box:
    memory: 1GiB
    disk: 10GiB
    require: { memory: watchdog, disk: watchdog, pids: rlimit, ids: emulated, provider: local }
  other: { image: host }
steps:
  install: { uses: exec/run, sandbox: box, network: { allow: [a.example] }, with: { command: [ls] } }
  between: { approve: { message: Go on? }, needs: [install] }
  work: { uses: exec/run, sandbox: box, needs: [between], with: { command: [ls] } }
  elsewhere: { uses: exec/run, sandbox: other, with: { command: [ls] } }
  each:
    needs: [work]
    for-each: { item: n, in: "${{ ['a', 'b'] }}", key: "${{ n }}", parallel: 1 }
    steps:
      fetch: { uses: exec/run, sandbox: box, network: { allow: [b.example] }, with: { command: [ls] } }
      use: { uses: exec/run, sandbox: box, network: none, needs: [fetch], with: { command: [ls] } }
finally:
  report: { uses: exec/run, sandbox: box, network: { allow: [c.example] }, with: { command: [ls] } }
"#,
    );
    let install = workflow.steps["install"].call().unwrap();
    assert_eq!(install.network, Some(Network::Allow(vec!["a.example".into()])));
    let sandbox = &workflow.sandboxes["box"];
    assert_eq!((sandbox.memory, sandbox.disk), (Some(1 << 30), Some(10 << 30)));
    assert_eq!(sandbox.require.levels["memory"], "watchdog");
    assert_eq!(sandbox.require.provider.as_deref(), Some("local"));
    assert!(!sandbox.is_closed_to(install) && sandbox.is_closed_to(workflow.steps["work"].call().unwrap()));
}
