//! Pictures of workflows, each as a whole.

mod random;

use super::*;
use crate::workflow::check::check;
use crate::workflow::fixture;

fn workflow(text: &str) -> Workflow {
    let checked = check("w.yaml", text, &fixture::catalog());
    let found: Vec<_> = checked.diagnostics.iter().map(|found| found.render(false)).collect();
    checked.workflow.unwrap_or_else(|| panic!("{}", found.join("\n")))
}

fn graph(steps: &str) -> Graph {
    Graph::of_file(&workflow(&format!("harvest: 1\nname: drawn\nsteps:\n{steps}")))
}

/// A step that reads some steps and needs others.
fn step(id: &str, reads: &[&str], needs: &[&str]) -> String {
    let reads: Vec<_> = reads.iter().map(|read| format!("\"${{{{ steps.{read}.stdout }}}}\"")).collect();
    format!(
        "  {id}: {{ uses: exec/run, needs: [{}], with: {{ command: [{}] }} }}\n",
        needs.join(", "),
        [vec!["x".to_owned()], reads].concat().join(", ")
    )
}

fn small() -> Graph {
    graph(&[step("a", &[], &[]), step("b", &["a"], &[])].concat())
}

fn session() -> Workflow {
    workflow(include_str!("../../../workflows/agent-session.yaml"))
}

/// A run of the session that failed.
fn failed() -> Graph {
    Graph::of_run("agent-session, failed".into(), &session(), |id| match id.as_str() {
        "clone" | "identity" | "snapshot" => Standing::step("succeeded"),
        "memory" => Standing::step("running"),
        "agent" => Standing::step("failed"),
        "remember" => Standing::step("skipped"),
        "commit" => Standing::step("cancelled"),
        _ => Standing::step("nonsense"),
    })
}

fn tangled() -> Graph {
    graph(
        &[
            step("a", &[], &[]),
            step("b", &[], &["a"]),
            step("c", &["a"], &[]),
            step("d", &[], &["b", "a"]),
            step("e", &["b", "c"], &["d"]),
            step("alone", &[], &[]),
            step("f", &["a"], &["c", "e"]),
            step("g", &["f", "e"], &[]),
        ]
        .concat(),
    )
}

/// Names and texts that mean something to the formats.
fn odd() -> Graph {
    let mut graph =
        graph(&[step("end", &[], &[]), step("o", &["end"], &[]), step("x", &[], &["end"])].concat());
    graph.title = "a \"b\" \\ <c> & 'd'".into();
    graph.nodes[0].uses = "./a \"b\" \\ <c>&amp; `d` #35;]}%%\u{7}\n.wasm#e".into();
    graph
}

#[test]
fn ascii_pictures() {
    insta::assert_snapshot!(ascii(&small(), Glyphs::Boxes), @r"
    drawn

    ○  a  exec/run
    │
    ○  b  exec/run

    │ reads   ╎ needs
    ");
    insta::assert_snapshot!(ascii(&Graph::of_file(&session()), Glyphs::Boxes), @r"
    agent-session

    ○      clone     git/clone
    ├─╮
    │ ○    identity  git/configure
    │ ╎ ○  memory    memory/mount
    │ ├╌╯
    ├─┤
    │ ○    agent     claude/run
    ├─╯
    ○      commit    git/commit

    finally
    ○      remember  memory/save    reads memory
    ○      snapshot  git/snapshot   reads clone

    │ reads   ╎ needs
    ");
    insta::assert_snapshot!(ascii(&failed(), Glyphs::Boxes), @r"
    agent-session, failed

    ✓      clone     git/clone      succeeded
    ├─╮
    │ ✓    identity  git/configure  succeeded
    │ ╎ ▶  memory    memory/mount   running
    │ ├╌╯
    ├─┤
    │ ✗    agent     claude/run     failed
    ├─╯
    ⊘      commit    git/commit     cancelled

    finally
    –      remember  memory/save    skipped    reads memory
    ✓      snapshot  git/snapshot   succeeded  reads clone

    │ reads   ╎ needs
    ");
    insta::assert_snapshot!(ascii(&tangled(), Glyphs::Boxes), @r"
    drawn

    ○╌╮          a      exec/run
    │ ├╌╮
    │ ╎ ○╌╮      b      exec/run
    ├─╎─│─╎─╮
    │ ╎ │ ╎ ○╌╮  c      exec/run
    │ ├╌│╌╯ │ ╎
    │ ○ │   │ ╎  d      exec/run
    │ ╎ │   │ ╎
    │ ├─┴───╯ ╎
    │ ○╌╮     ╎  e      exec/run
    │ │ ╎ ○   ╎  alone  exec/run
    │ │ ╎     ╎
    ├╌│╌┴╌╌╌╌╌╯
    ○ │          f      exec/run
    ├─╯
    ○            g      exec/run

    │ reads   ╎ needs
    ");
    insta::assert_snapshot!(ascii(&tangled(), Glyphs::Plain), @r"
    drawn

    o.+          a      exec/run
    | +.+
    | : o.+      b      exec/run
    +-:-|-:-+
    | : | : o.+  c      exec/run
    | +.|.+ | :
    | o |   | :  d      exec/run
    | : |   | :
    | +-+---+ :
    | o.+     :  e      exec/run
    | | : o   :  alone  exec/run
    | | :     :
    +.|.+.....+
    o |          f      exec/run
    +-+
    o            g      exec/run

    | reads   : needs
    ");
    insta::assert_snapshot!(ascii(&odd(), Glyphs::Plain), @r#"
    a "b" \ <c> & 'd'

    o.+  end  ./a "b" \ <c>&amp; `d` #35;]}%%  .wasm#e
    | :
    o :  o    exec/run
      :
      o  x    exec/run

    | reads   : needs
    "#);
}

/// A loop, an approval and a sub-workflow.
fn looped() -> Workflow {
    workflow(
        "harvest: 1
name: drawn
inputs: { repos: { type: list, items: string } }
steps:
  list: { uses: exec/run, with: { command: [ls] } }
  each:
    for-each: { item: repo, in: \"${{ inputs.repos }}\", key: \"${{ repo }}\" }
    needs: [list]
    steps:
      build: { uses: exec/run, with: { command: [make, \"${{ repo }}\"] } }
      ask: { approve: { message: \"Publish ${{ repo }}?\" }, needs: [build] }
      publish: { uses: ./publish.yaml, with: { repo: \"${{ repo }}\" }, if: steps.ask.approved, needs: [build] }
  beside: { uses: exec/run, with: { command: [\"${{ steps.list.stdout }}\"] } }
  tell:
    uses: exec/run
    needs: [beside]
    with: { command: [echo, \"${{ string(steps.each.total) }}\"] }
",
    )
}

/// A run of it, in the midst of its loop.
fn looping() -> Graph {
    Graph::of_run("drawn, running".into(), &looped(), |id| match id.as_str() {
        "each" => Standing::each("running", 3, 10),
        "build" => Standing::of_items(["succeeded", "running", "pending"]),
        "ask" => Standing::of_items(["succeeded", "waiting", "pending"]),
        "publish" => Standing::of_items([]),
        "tell" => Standing::step("pending"),
        "beside" => Standing::step("queued"),
        _ => Standing::step("succeeded"),
    })
}

#[test]
fn loops_approvals_and_sub_workflows() {
    let file = Graph::of_file(&looped());
    insta::assert_snapshot!(ascii(&file, Glyphs::Boxes), @r"
    drawn

    ○╌╮      list       exec/run
    │ ╎
    │ ↻      each       for-each repo
    │ │ ○      build    exec/run
    │ │ ├╌╮
    │ │ ╎ ◇    ask      approve
    │ │ ╎ │
    │ │ ├─╯
    │ │ ▣      publish  ./publish.yaml
    │ │
    ○ │      beside     exec/run
    ╎ │
    ├─╯
    ○        tell       exec/run

    │ reads   ╎ needs
    ");
    insta::assert_snapshot!(ascii(&file, Glyphs::Plain), @r"
    drawn

    o.+      list       exec/run
    | :
    | @      each       for-each repo
    | | o      build    exec/run
    | | +.+
    | | : ?    ask      approve
    | | : |
    | | +-+
    | | #      publish  ./publish.yaml
    | |
    o |      beside     exec/run
    : |
    +-+
    o        tell       exec/run

    | reads   : needs
    ");
    insta::assert_snapshot!(ascii(&looping(), Glyphs::Boxes), @r"
    drawn, running

    ✓╌╮      list       exec/run        succeeded
    │ ╎
    │ ▶      each       for-each repo   running, 3/10 items
    │ │ ▶      build    exec/run        running
    │ │ ├╌╮
    │ │ ╎ …    ask      approve         waiting
    │ │ ╎ │
    │ │ ├─╯
    │ │ ○      publish  ./publish.yaml  pending
    │ │
    ◌ │      beside     exec/run        queued
    ╎ │
    ├─╯
    ○        tell       exec/run        pending

    │ reads   ╎ needs
    ");
    insta::assert_snapshot!(mermaid(&file), @r#"
    ---
    title: "drawn"
    ---
    flowchart TD
      list["list<br>exec/run"]
      subgraph each["each<br>for-each repo"]
        build["build<br>exec/run"]
        ask{{"ask<br>approve"}}
        publish[["publish<br>./publish.yaml"]]
      end
      beside["beside<br>exec/run"]
      tell["tell<br>exec/run"]
      list -.-> each
      build -.-> ask
      ask --> publish
      build -.-> publish
      list --> beside
      each --> tell
      beside -.-> tell
    "#);
    insta::assert_snapshot!(mermaid(&looping()), @r#"
    ---
    title: "drawn, running"
    ---
    flowchart TD
      list["list<br>exec/run<br>✓ succeeded"]:::succeeded
      subgraph each["each<br>for-each repo<br>▶ running, 3/10 items"]
        build["build<br>exec/run<br>▶ running"]:::running
        ask{{"ask<br>approve<br>… waiting"}}:::waiting
        publish[["publish<br>./publish.yaml<br>○ pending"]]:::pending
      end
      class each running
      beside["beside<br>exec/run<br>◌ queued"]:::queued
      tell["tell<br>exec/run<br>○ pending"]:::pending
      list -.-> each
      build -.-> ask
      ask --> publish
      build -.-> publish
      list --> beside
      each --> tell
      beside -.-> tell
      classDef pending fill:#f4f6f8,stroke:#7b8794,color:#1c2430
      classDef queued fill:#fff3d1,stroke:#c08a00,color:#1c2430
      classDef running fill:#dcebff,stroke:#2f7de1,color:#1c2430
      classDef succeeded fill:#dcf5e3,stroke:#2e9e52,color:#1c2430
      classDef waiting fill:#fff3d1,stroke:#c08a00,color:#1c2430
    "#);
    insta::assert_snapshot!(dot(&file), @r##"
    digraph "drawn" {
      compound=true;
      node [shape=box, style="rounded,filled", fillcolor="#f4f6f8", color="#7b8794"];
      "list" [label="list\nexec/run"];
      subgraph "cluster_step_each" {
        graph [label="", style=rounded, color="#7b8794"];
        "each" [label="each\nfor-each repo", shape=plain, style=""];
        "build" [label="build\nexec/run"];
        "ask" [label="ask\napprove", shape=hexagon, style=filled];
        "publish" [label="publish\n./publish.yaml", peripheries=2];
      }
      "beside" [label="beside\nexec/run"];
      "tell" [label="tell\nexec/run"];
      "list" -> "each" [style=dashed, lhead="cluster_step_each"];
      "build" -> "ask" [style=dashed];
      "ask" -> "publish";
      "build" -> "publish" [style=dashed];
      "list" -> "beside";
      "each" -> "tell" [ltail="cluster_step_each"];
      "beside" -> "tell" [style=dashed];
    }
    "##);
    insta::assert_snapshot!(dot(&looping()), @r##"
    digraph "drawn, running" {
      compound=true;
      node [shape=box, style="rounded,filled", fillcolor="#f4f6f8", color="#7b8794"];
      "list" [label="list\nexec/run\n✓ succeeded", fillcolor="#dcf5e3", color="#2e9e52"];
      subgraph "cluster_step_each" {
        graph [label="", style=rounded, bgcolor="#dcebff", color="#2f7de1"];
        "each" [label="each\nfor-each repo\n▶ running, 3/10 items", shape=plain, style=""];
        "build" [label="build\nexec/run\n▶ running", fillcolor="#dcebff", color="#2f7de1"];
        "ask" [label="ask\napprove\n… waiting", shape=hexagon, style=filled, fillcolor="#fff3d1", color="#c08a00"];
        "publish" [label="publish\n./publish.yaml\n○ pending", peripheries=2, fillcolor="#f4f6f8", color="#7b8794"];
      }
      "beside" [label="beside\nexec/run\n◌ queued", fillcolor="#fff3d1", color="#c08a00"];
      "tell" [label="tell\nexec/run\n○ pending", fillcolor="#f4f6f8", color="#7b8794"];
      "list" -> "each" [style=dashed, lhead="cluster_step_each"];
      "build" -> "ask" [style=dashed];
      "ask" -> "publish";
      "build" -> "publish" [style=dashed];
      "list" -> "beside";
      "each" -> "tell" [ltail="cluster_step_each"];
      "beside" -> "tell" [style=dashed];
    }
    "##);
    let image = svg(&looping());
    insta::assert_snapshot!(image.split_once("</defs>\n").unwrap().1, @r##"
    <text class="aside" x="20" y="28">drawn, running</text>
    <path class="needs" marker-end="url(#need)" d="M224.4,118.0 C224.4,136.5 126.8,136.5 126.8,155.0"><title>each needs list</title></path>
    <path class="reads" marker-end="url(#read)" d="M224.4,118.0 C224.4,136.5 322.0,136.5 322.0,155.0"><title>beside reads list</title></path>
    <path class="reads" marker-end="url(#read)" d="M126.8,538.0 C126.8,556.5 216.4,556.5 216.4,575.0"><title>tell reads each</title></path>
    <path class="needs" marker-end="url(#need)" d="M322.0,231.0 v307.0 C322.0,556.5 232.4,556.5 232.4,575.0"><title>tell needs beside</title></path>
    <g><title>step list: exec/run, succeeded</title><rect x="157.9" y="51.0" width="133.0" height="67.0" rx="7" fill="#dcf5e3" stroke="#2e9e52" stroke-width="1.6"/><text class="id" x="224.4" y="72.0" text-anchor="middle">list</text><text class="uses" x="224.4" y="89.0" text-anchor="middle">exec/run</text><text class="state" x="224.4" y="106.0" text-anchor="middle">✓ succeeded</text></g>
    <g><title>step each: for-each repo, running, 3/10 items</title><rect x="20.0" y="164.0" width="213.5" height="374.0" rx="12" fill="#dcebff" stroke="#2f7de1" stroke-width="1.6"/><text class="id" x="126.8" y="185.0" text-anchor="middle">each</text><text class="uses" x="126.8" y="202.0" text-anchor="middle">for-each repo</text><text class="state" x="126.8" y="219.0" text-anchor="middle">▶ running, 3/10 items</text>
    <path class="needs" marker-end="url(#need)" d="M150.1,298.0 C150.1,316.5 103.4,316.5 103.4,335.0"><title>ask needs build</title></path>
    <path class="reads" marker-end="url(#read)" d="M103.4,411.0 C103.4,429.5 142.1,429.5 142.1,448.0"><title>publish reads ask</title></path>
    <path class="needs" marker-end="url(#need)" d="M150.1,298.0 C150.1,321.0 196.9,321.0 196.9,344.0 v67.0 C196.9,429.5 158.1,429.5 158.1,448.0"><title>publish needs build</title></path>
    <g><title>step build: exec/run, running</title><rect x="83.6" y="231.0" width="133.0" height="67.0" rx="7" fill="#dcebff" stroke="#2f7de1" stroke-width="1.6"/><text class="id" x="150.1" y="252.0" text-anchor="middle">build</text><text class="uses" x="150.1" y="269.0" text-anchor="middle">exec/run</text><text class="state" x="150.1" y="286.0" text-anchor="middle">▶ running</text></g>
    <g><title>step ask: approve, waiting</title><path d="M36.9,377.5 l11,-33.5 h111.0 l11,33.5 l-11,33.5 h-111.0 z" fill="#fff3d1" stroke="#c08a00" stroke-width="1.6"/><text class="id" x="103.4" y="365.0" text-anchor="middle">ask</text><text class="uses" x="103.4" y="382.0" text-anchor="middle">approve</text><text class="state" x="103.4" y="399.0" text-anchor="middle">… waiting</text></g>
    <g><title>step publish: ./publish.yaml, pending</title><rect x="83.6" y="457.0" width="133.0" height="67.0" rx="2" fill="#f4f6f8" stroke="#7b8794" stroke-width="1.6"/><path d="M88.6,457.0 v67.0" stroke="#7b8794"/><path d="M211.6,457.0 v67.0" stroke="#7b8794"/><text class="id" x="150.1" y="478.0" text-anchor="middle">publish</text><text class="uses" x="150.1" y="495.0" text-anchor="middle">./publish.yaml</text><text class="state" x="150.1" y="512.0" text-anchor="middle">○ pending</text></g>
    </g>
    <g><title>step beside: exec/run, queued</title><rect x="255.5" y="164.0" width="133.0" height="67.0" rx="7" fill="#fff3d1" stroke="#c08a00" stroke-width="1.6"/><text class="id" x="322.0" y="185.0" text-anchor="middle">beside</text><text class="uses" x="322.0" y="202.0" text-anchor="middle">exec/run</text><text class="state" x="322.0" y="219.0" text-anchor="middle">◌ queued</text></g>
    <g><title>step tell: exec/run, pending</title><rect x="157.9" y="584.0" width="133.0" height="67.0" rx="7" fill="#f4f6f8" stroke="#7b8794" stroke-width="1.6"/><text class="id" x="224.4" y="605.0" text-anchor="middle">tell</text><text class="uses" x="224.4" y="622.0" text-anchor="middle">exec/run</text><text class="state" x="224.4" y="639.0" text-anchor="middle">○ pending</text></g>
    <path class="reads" marker-end="url(#read)" d="M20,680 h30"/><text class="aside" x="66" y="684">reads</text>
    <path class="needs" marker-end="url(#need)" d="M120,680 h30"/><text class="aside" x="166" y="684">needs</text>
    </svg>
    "##);
}

#[test]
fn the_most_telling_state_stands_for_many() {
    for (states, expected) in [
        (vec!["succeeded", "skipped"], "succeeded"),
        (vec!["succeeded", "pending"], "pending"),
        (vec!["running", "failed", "pending"], "failed"),
        (vec![], "pending"),
    ] {
        assert_eq!(Standing::of_items(states.iter().copied()), Standing::step(expected), "{states:?}");
    }
}

#[test]
fn mermaid_text() {
    insta::assert_snapshot!(mermaid(&small()), @r#"
    ---
    title: "drawn"
    ---
    flowchart TD
      a["a<br>exec/run"]
      b["b<br>exec/run"]
      a --> b
    "#);
    insta::assert_snapshot!(mermaid(&failed()), @r#"
    ---
    title: "agent-session, failed"
    ---
    flowchart TD
      clone["clone<br>git/clone<br>✓ succeeded"]:::succeeded
      identity["identity<br>git/configure<br>✓ succeeded"]:::succeeded
      memory["memory<br>memory/mount<br>▶ running"]:::running
      agent["agent<br>claude/run<br>✗ failed"]:::failed
      commit["commit<br>git/commit<br>⊘ cancelled"]:::cancelled
      subgraph finally_SECTION [finally]
        remember["remember<br>memory/save<br>– skipped"]:::skipped
        snapshot["snapshot<br>git/snapshot<br>✓ succeeded"]:::succeeded
      end
      clone --> identity
      clone --> agent
      identity -.-> agent
      memory -.-> agent
      agent --> commit
      clone --> commit
      memory --> remember
      clone --> snapshot
      classDef cancelled fill:#f3e3f7,stroke:#a45bb5,color:#1c2430
      classDef failed fill:#ffe1df,stroke:#e0453a,color:#1c2430
      classDef running fill:#dcebff,stroke:#2f7de1,color:#1c2430
      classDef skipped fill:#eceff1,stroke:#8a8f98,color:#1c2430
      classDef succeeded fill:#dcf5e3,stroke:#2e9e52,color:#1c2430
    "#);
    insta::assert_snapshot!(mermaid(&odd()), @r#"
    ---
    title: "a #34;b#34; #92; #60;c#62; #38; #39;d#39;"
    ---
    flowchart TD
      end_STEP["end<br>./a #34;b#34; #92; #60;c#62;#38;amp#59; #96;d#96; #35;35#59;#93;#125;#37;#37;  .wasm#35;e"]
      o["o<br>exec/run"]
      x["x<br>exec/run"]
      end_STEP --> o
      end_STEP -.-> x
    "#);
}

#[test]
fn dot_text() {
    insta::assert_snapshot!(dot(&small()), @r##"
    digraph "drawn" {
      node [shape=box, style="rounded,filled", fillcolor="#f4f6f8", color="#7b8794"];
      "a" [label="a\nexec/run"];
      "b" [label="b\nexec/run"];
      "a" -> "b";
    }
    "##);
    insta::assert_snapshot!(dot(&failed()), @r##"
    digraph "agent-session, failed" {
      node [shape=box, style="rounded,filled", fillcolor="#f4f6f8", color="#7b8794"];
      "clone" [label="clone\ngit/clone\n✓ succeeded", fillcolor="#dcf5e3", color="#2e9e52"];
      "identity" [label="identity\ngit/configure\n✓ succeeded", fillcolor="#dcf5e3", color="#2e9e52"];
      "memory" [label="memory\nmemory/mount\n▶ running", fillcolor="#dcebff", color="#2f7de1"];
      "agent" [label="agent\nclaude/run\n✗ failed", fillcolor="#ffe1df", color="#e0453a"];
      "commit" [label="commit\ngit/commit\n⊘ cancelled", fillcolor="#f3e3f7", color="#a45bb5"];
      subgraph cluster_finally {
        label="finally";
        "remember" [label="remember\nmemory/save\n– skipped", fillcolor="#eceff1", color="#8a8f98"];
        "snapshot" [label="snapshot\ngit/snapshot\n✓ succeeded", fillcolor="#dcf5e3", color="#2e9e52"];
      }
      "clone" -> "identity";
      "clone" -> "agent";
      "identity" -> "agent" [style=dashed];
      "memory" -> "agent" [style=dashed];
      "agent" -> "commit";
      "clone" -> "commit";
      "memory" -> "remember";
      "clone" -> "snapshot";
    }
    "##);
    insta::assert_snapshot!(dot(&odd()), @r##"
    digraph "a \"b\" \\ <c> &amp; 'd'" {
      node [shape=box, style="rounded,filled", fillcolor="#f4f6f8", color="#7b8794"];
      "end" [label="end\n./a \"b\" \\ <c>&amp;amp; `d` #35;]}%% \n.wasm#e"];
      "o" [label="o\nexec/run"];
      "x" [label="x\nexec/run"];
      "end" -> "o";
      "end" -> "x" [style=dashed];
    }
    "##);
}

#[test]
fn svg_images() {
    insta::assert_snapshot!(svg(&small()), @r##"
    <svg xmlns="http://www.w3.org/2000/svg" role="img" width="230" height="246" viewBox="0 0 230 246">
    <title>drawn</title>
    <style>
    text { font: 12.5px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }
    .id { fill: #1c2430; font-weight: 600; } .uses, .state { fill: #3d4855; } .aside { fill: #6f7783; }
    .reads, .needs { fill: none; stroke: #7b8794; stroke-width: 1.6; } .needs { stroke-dasharray: 5 4; }
    </style>
    <defs>
    <marker id="read" markerUnits="userSpaceOnUse" markerWidth="12" markerHeight="12" refX="1" refY="5" orient="auto"><path d="M1,1 L9,5 L1,9 z" fill="#7b8794" stroke="#7b8794" stroke-width="1.2"/></marker>
    <marker id="need" markerUnits="userSpaceOnUse" markerWidth="12" markerHeight="12" refX="1" refY="5" orient="auto"><path d="M1,1 L9,5 L1,9 z" fill="none" stroke="#7b8794" stroke-width="1.2"/></marker>
    </defs>
    <text class="aside" x="20" y="28">drawn</text>
    <path class="reads" marker-end="url(#read)" d="M64.0,101.0 C64.0,119.5 64.0,119.5 64.0,138.0"><title>b reads a</title></path>
    <g><title>step a: exec/run</title><rect x="20.0" y="51.0" width="88.0" height="50.0" rx="7" fill="#f4f6f8" stroke="#7b8794" stroke-width="1.6"/><text class="id" x="64.0" y="72.0" text-anchor="middle">a</text><text class="uses" x="64.0" y="89.0" text-anchor="middle">exec/run</text></g>
    <g><title>step b: exec/run</title><rect x="20.0" y="147.0" width="88.0" height="50.0" rx="7" fill="#f4f6f8" stroke="#7b8794" stroke-width="1.6"/><text class="id" x="64.0" y="168.0" text-anchor="middle">b</text><text class="uses" x="64.0" y="185.0" text-anchor="middle">exec/run</text></g>
    <path class="reads" marker-end="url(#read)" d="M20,226 h30"/><text class="aside" x="66" y="230">reads</text>
    <path class="needs" marker-end="url(#need)" d="M120,226 h30"/><text class="aside" x="166" y="230">needs</text>
    </svg>
    "##);
    insta::assert_snapshot!(svg(&failed()), @r##"
    <svg xmlns="http://www.w3.org/2000/svg" role="img" width="490" height="653" viewBox="0 0 490 653">
    <title>agent-session, failed</title>
    <style>
    text { font: 12.5px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }
    .id { fill: #1c2430; font-weight: 600; } .uses, .state { fill: #3d4855; } .aside { fill: #6f7783; }
    .reads, .needs { fill: none; stroke: #7b8794; stroke-width: 1.6; } .needs { stroke-dasharray: 5 4; }
    </style>
    <defs>
    <marker id="read" markerUnits="userSpaceOnUse" markerWidth="12" markerHeight="12" refX="1" refY="5" orient="auto"><path d="M1,1 L9,5 L1,9 z" fill="#7b8794" stroke="#7b8794" stroke-width="1.2"/></marker>
    <marker id="need" markerUnits="userSpaceOnUse" markerWidth="12" markerHeight="12" refX="1" refY="5" orient="auto"><path d="M1,1 L9,5 L1,9 z" fill="none" stroke="#7b8794" stroke-width="1.2"/></marker>
    </defs>
    <text class="aside" x="20" y="28">agent-session, failed</text>
    <rect x="8" y="509.0" width="473.7" height="107.0" rx="10" fill="none" stroke="#7b8794" stroke-dasharray="2 4"/>
    <text class="aside" x="20" y="526.0">finally</text>
    <path class="reads" marker-end="url(#read)" d="M177.4,118.0 C177.4,136.5 82.8,136.5 82.8,155.0"><title>identity reads clone</title></path>
    <path class="reads" marker-end="url(#read)" d="M177.4,118.0 C177.4,141.0 172.5,141.0 172.5,164.0 v67.0 C172.5,249.5 153.2,249.5 153.2,268.0"><title>agent reads clone</title></path>
    <path class="needs" marker-end="url(#need)" d="M82.8,231.0 C82.8,249.5 137.2,249.5 137.2,268.0"><title>agent needs identity</title></path>
    <path class="needs" marker-end="url(#need)" d="M324.9,118.0 C324.9,141.0 204.5,141.0 204.5,164.0 v67.0 C204.5,249.5 169.2,249.5 169.2,268.0"><title>agent needs memory</title></path>
    <path class="reads" marker-end="url(#read)" d="M153.2,344.0 C153.2,362.5 190.1,362.5 190.1,381.0"><title>commit reads agent</title></path>
    <path class="reads" marker-end="url(#read)" d="M177.4,118.0 C177.4,141.0 243.0,141.0 243.0,164.0 v67.0 C243.0,254.0 243.0,254.0 243.0,277.0 v67.0 C243.0,362.5 206.1,362.5 206.1,381.0"><title>commit reads clone</title></path>
    <path class="reads" marker-end="url(#read)" d="M324.9,118.0 C324.9,141.0 407.0,141.0 407.0,164.0 v67.0 C407.0,254.0 407.0,254.0 407.0,277.0 v67.0 C407.0,367.0 407.0,367.0 407.0,390.0 v67.0 C407.0,492.5 407.0,492.5 407.0,528.0"><title>remember reads memory</title></path>
    <path class="reads" marker-end="url(#read)" d="M177.4,118.0 C177.4,141.0 287.9,141.0 287.9,164.0 v67.0 C287.9,254.0 287.9,254.0 287.9,277.0 v67.0 C287.9,367.0 287.9,367.0 287.9,390.0 v67.0 C287.9,492.5 259.5,492.5 259.5,528.0"><title>snapshot reads clone</title></path>
    <g><title>step clone: git/clone, succeeded</title><rect x="114.6" y="51.0" width="125.5" height="67.0" rx="7" fill="#dcf5e3" stroke="#2e9e52" stroke-width="1.6"/><text class="id" x="177.4" y="72.0" text-anchor="middle">clone</text><text class="uses" x="177.4" y="89.0" text-anchor="middle">git/clone</text><text class="state" x="177.4" y="106.0" text-anchor="middle">✓ succeeded</text></g>
    <g><title>step identity: git/configure, succeeded</title><rect x="20.0" y="164.0" width="125.5" height="67.0" rx="7" fill="#dcf5e3" stroke="#2e9e52" stroke-width="1.6"/><text class="id" x="82.8" y="185.0" text-anchor="middle">identity</text><text class="uses" x="82.8" y="202.0" text-anchor="middle">git/configure</text><text class="state" x="82.8" y="219.0" text-anchor="middle">✓ succeeded</text></g>
    <g><title>step memory: memory/mount, running</title><rect x="262.1" y="51.0" width="125.5" height="67.0" rx="7" fill="#dcebff" stroke="#2f7de1" stroke-width="1.6"/><text class="id" x="324.9" y="72.0" text-anchor="middle">memory</text><text class="uses" x="324.9" y="89.0" text-anchor="middle">memory/mount</text><text class="state" x="324.9" y="106.0" text-anchor="middle">▶ running</text></g>
    <g><title>step agent: claude/run, failed</title><rect x="90.5" y="277.0" width="125.5" height="67.0" rx="7" fill="#ffe1df" stroke="#e0453a" stroke-width="1.6"/><text class="id" x="153.2" y="298.0" text-anchor="middle">agent</text><text class="uses" x="153.2" y="315.0" text-anchor="middle">claude/run</text><text class="state" x="153.2" y="332.0" text-anchor="middle">✗ failed</text></g>
    <g><title>step commit: git/commit, cancelled</title><rect x="135.4" y="390.0" width="125.5" height="67.0" rx="7" fill="#f3e3f7" stroke="#a45bb5" stroke-width="1.6"/><text class="id" x="198.1" y="411.0" text-anchor="middle">commit</text><text class="uses" x="198.1" y="428.0" text-anchor="middle">git/commit</text><text class="state" x="198.1" y="445.0" text-anchor="middle">⊘ cancelled</text></g>
    <g><title>step remember: memory/save, skipped</title><rect x="344.2" y="537.0" width="125.5" height="67.0" rx="7" fill="#eceff1" stroke="#8a8f98" stroke-width="1.6"/><text class="id" x="407.0" y="558.0" text-anchor="middle">remember</text><text class="uses" x="407.0" y="575.0" text-anchor="middle">memory/save</text><text class="state" x="407.0" y="592.0" text-anchor="middle">– skipped</text></g>
    <g><title>step snapshot: git/snapshot, succeeded</title><rect x="196.7" y="537.0" width="125.5" height="67.0" rx="7" fill="#dcf5e3" stroke="#2e9e52" stroke-width="1.6"/><text class="id" x="259.5" y="558.0" text-anchor="middle">snapshot</text><text class="uses" x="259.5" y="575.0" text-anchor="middle">git/snapshot</text><text class="state" x="259.5" y="592.0" text-anchor="middle">✓ succeeded</text></g>
    <path class="reads" marker-end="url(#read)" d="M20,633 h30"/><text class="aside" x="66" y="637">reads</text>
    <path class="needs" marker-end="url(#need)" d="M120,633 h30"/><text class="aside" x="166" y="637">needs</text>
    </svg>
    "##);
    let odd = svg(&odd());
    assert!(odd.contains("<title>a &quot;b&quot; \\ &lt;c&gt; &amp; 'd'</title>"), "{odd}");
    assert!(
        odd.contains(
            "<title>step end: ./a &quot;b&quot; \\ &lt;c&gt;&amp;amp; `d` #35;]}%%  .wasm#e</title>"
        ),
        "{odd}"
    );
}
