//! Files that check clean, and what they mean.

use super::{checked, rendered};
use crate::id::StepId;
use crate::network::Network;
use crate::workflow::Workflow;
use crate::workflow::model::{Expression, Read, Template};
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

const AGENT_SESSION: &str = r#"
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
    retry: { attempts: 2, on: [sandbox-lost] }
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
  push:
    uses: git/push
    if: inputs.push && has(steps.commit.sha) && steps.commit.sha != steps.clone.sha
    with: { path: "${{ steps.clone.path }}", ref: "${{ inputs.branch }}", strategy: "${{ inputs.strategy }}" }
    secrets: { token: github }
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
    assert_eq!(reads("push"), [("clone".into(), false), ("commit".into(), true)]);
    assert_eq!(reads("snapshot"), [("clone".into(), false), ("agent".into(), true)]);
    assert_eq!(workflow.steps["agent"].needs, [StepId::new("identity"), StepId::new("memory")]);
    assert_eq!(workflow.steps["clone"].call().unwrap().attempts.retry.on.len(), 2);
    assert_eq!(workflow.steps["lint"].call().unwrap().with["limit"], Template::Literal(json!(10 << 20)));
    assert_eq!(workflow.inputs["wait"].default, Some(Template::Literal(json!(600_000))));
    assert_eq!(workflow.outputs["sha"].ty, Type::Option(Box::new(Type::String)));
    assert_eq!(workflow.secrets["github"].from, ["modal:harvest-github/GITHUB_TOKEN", "env:GITHUB_TOKEN"]);
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
