//! Nothing that a file can hold makes the checker panic, hang or accept what it must not.

use super::{checked, good};
use crate::workflow::cel::{MAX_EXPRESSION, MAX_NESTING};
use crate::workflow::check::check;
use crate::workflow::code;
use crate::workflow::file::{MAX_BYTES, MAX_DEPTH, MAX_NODES};
use crate::workflow::fixture;
use crate::workflow::types::{Catalog, ComponentType, WorkflowFile};
use proptest::prelude::*;
use std::sync::Arc;

fn only_code(text: &str) -> &'static str {
    let diagnostics = checked(text).diagnostics;
    assert_eq!(diagnostics.len(), 1, "{:?}", diagnostics.iter().map(|d| &d.message).collect::<Vec<_>>());
    diagnostics[0].code.id
}

#[test]
fn limits_are_diagnostics() {
    let head = "harvest: 1\nname: w\ndescription: ";
    assert_eq!(only_code(&format!("{head}{}", "x".repeat(MAX_BYTES))), code::TOO_LARGE.id);
    assert_eq!(only_code(&format!("{head}[{}]", "1,".repeat(MAX_NODES))), code::TOO_LARGE.id);
    assert_eq!(
        only_code(&format!("{head}{}{}", "[".repeat(MAX_DEPTH + 9), "]".repeat(MAX_DEPTH + 9))),
        code::TOO_LARGE.id
    );
    let schedules: String = (0..101).map(|n| format!("{{ id: a{n}, every: 1h }}, ")).collect();
    assert_eq!(
        only_code(&format!(
            "harvest: 1\nname: w\non: {{ schedule: [{schedules}] }}\nsteps: {{ a: {{ uses: exec/run, with: {{ command: [ls] }} }} }}\n"
        )),
        code::TOO_LARGE.id
    );
    let step = |expression: &str| {
        format!(
            "harvest: 1\nname: w\nsteps:\n  a:\n    uses: exec/run\n    with: {{ command: [ls] }}\n    if: {expression}\n"
        )
    };
    assert_eq!(only_code(&step(&"1+".repeat(MAX_EXPRESSION))), code::EXPRESSION_SYNTAX.id);
    assert_eq!(
        only_code(&step(&format!("{}1{}", "(".repeat(MAX_NESTING + 1), ")".repeat(MAX_NESTING + 1)))),
        code::EXPRESSION_SYNTAX.id
    );
}

fn config() -> ProptestConfig {
    let cases = std::env::var("HARVEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Pieces that put together are nearly a workflow.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "harvest: 1\n",
        "name: w\n",
        "steps:\n",
        "finally:\n",
        "  a:\n",
        "  b: ",
        "    uses: exec/run\n",
        "    uses: git/clone\n",
        "    with: { command: [ls] }\n",
        "    with:\n",
        "      repo: x\n",
        "    if: ",
        "steps.a.stdout",
        "${{ ",
        " }}",
        "inputs.x",
        "inputs:\n",
        "  x: { type: int, default: 1 }\n",
        "secrets:\n",
        "outputs:\n",
        "  o: \"${{ steps.a.exit_code }}\"\n",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "'",
        "\"",
        "\n",
        "\t",
        "&a ",
        "*a",
        "!!str ",
        "|\n",
        ">-\n",
        ": ",
        "#",
        "ä",
        "\u{feff}",
        "null",
        ".?y",
        ".orValue(1)",
        ".map(x, x)",
        "has(",
        ")",
        " + ",
        " == ",
        "? 1 : 2",
        "retry: ",
        "    for-each: { item: x, in: \"${{ [1, 2] }}\", key: x }\n    steps:\n      c: { uses: exec/run, with: { command: [ls] } }\n",
        "    approve: { message: Go?, timeout: 1h }\n",
        "    uses: ./publish.yaml\n",
        "    uses: ./one.yaml\n",
        "on:\n  schedule:\n    - { id: a, every: 5m }\n",
        "on: { webhook: [{ id: a, path: /hooks/a, verify: { hmac-sha256: s } }] }\n",
        "concurrency: { group: g }\n",
        "    cache: { key: [inputs.x] }\n",
        "hash('a')",
        "steps.b.items",
        "    needs: [a, b]\n",
        "---\n",
        "<<: *a\n",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A good file of which some words have become others of its words, or are gone.
fn mutated() -> impl Strategy<Value = String> {
    let file = prop::sample::select(vec![good::AGENT_SESSION, good::REFRESH_IMAGES]);
    let change = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>());
    (file, prop::collection::vec(change, 1..6)).prop_map(|(file, changes)| {
        let mut words: Vec<&str> = file.split_inclusive([' ', '\n', '.', ':', '/', '"', ',', '(']).collect();
        for (at, from, remove) in changes {
            let word = words[from.index(words.len())];
            let at = at.index(words.len());
            if remove {
                words.remove(at);
            } else {
                words[at] = word;
            }
        }
        words.concat()
    })
}

#[test]
fn a_lost_letter_does_not_drown_its_author() {
    for file in [good::AGENT_SESSION, good::REFRESH_IMAGES] {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        for word in file.split(|c| !is_word(c)).filter(|word| word.len() >= 4) {
            let mut text = file.to_owned();
            text.remove(word.as_ptr() as usize - file.as_ptr() as usize + 2);
            let count = checked(&text).diagnostics.len();
            assert!(count <= 2, "{word}: {count}");
        }
    }
}

/// Workflow files of which each uses the next one ten times.
struct Wide;

impl Catalog for Wide {
    fn component(&self, uses: &str) -> Result<Arc<ComponentType>, String> {
        fixture::catalog().component(uses)
    }

    fn workflow(&self, uses: &str) -> Result<WorkflowFile, String> {
        let level: usize = uses.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap();
        let text = if level < 7 { wide(level) } else { good::AGENT_SESSION.into() };
        Ok(WorkflowFile { name: uses.into(), identity: uses.into(), text, catalog: Box::new(Self) })
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

fn wide(level: usize) -> String {
    let step =
        |n: usize| format!("  s{n}: {{ uses: ./level{}.yaml, with: {{ repo: a, prompt: b }} }}\n", level + 1);
    let inputs = "inputs: { repo: string, prompt: string }\n";
    format!("harvest: 1\nname: wide\n{inputs}steps:\n{}", (0..10).map(step).collect::<String>())
}

#[test]
fn files_that_use_one_another_do_not_multiply_without_end() {
    let checked = check("w.yaml", &wide(0), &Wide);
    assert!(checked.workflow.is_none());
    let first = &checked.diagnostics[0];
    assert!(first.message.contains("more than 2 MiB"), "{}", first.message);
}

#[test]
fn a_workflow_that_no_event_holds_is_refused() {
    let steps: String =
        (0..8000).map(|n| format!("  s{n}: {{ uses: exec/run, with: {{ command: [ls] }} }}\n")).collect();
    assert_eq!(only_code(&format!("harvest: 1\nname: w\nsteps:\n{steps}")), code::TOO_LARGE.id);
}

#[test]
fn types_of_loops_do_not_grow_without_end() {
    let mut text = String::from(
        "harvest: 1\nname: w\ninputs: { names: { type: list, items: string } }\nsteps:\n  l0:\n    for-each: { item: x, in: inputs.names, key: x }\n    steps: { s0: { uses: exec/run, with: { command: [ls] } } }\n",
    );
    for n in 1..40 {
        let before = n - 1;
        text.push_str(&format!(
            "  l{n}:\n    for-each: {{ item: x, in: \"[{{'a': steps.l{before}.items, 'b': steps.l{before}.items}}]\", key: \"x.a[0].key\" }}\n    steps: {{ s{n}: {{ uses: exec/run, with: {{ command: [ls] }} }} }}\n"
        ));
    }
    assert_eq!(only_code(&text), code::TOO_LARGE.id);
}

fn renders(text: &str) {
    for diagnostic in checked(text).diagnostics {
        assert!(!diagnostic.render(true).is_empty());
        assert!(serde_json::to_value(&diagnostic).unwrap()["line"].as_u64().unwrap() >= 1);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        renders(&text);
    }

    #[test]
    fn nearly_workflows_are_answered(text in pieces()) {
        renders(&text);
    }

    #[test]
    fn mutated_workflows_are_answered(text in mutated()) {
        renders(&text);
    }

    #[test]
    fn any_cron_is_answered(cron in "[0-9*,/LW#?A-Z -]{0,30}", zone in "[A-Za-z/_]{0,20}") {
        renders(&format!(
            "harvest: 1\nname: w\non: {{ schedule: [{{ id: a, cron: \"{cron}\", time-zone: \"{zone}\" }}] }}\nsteps:\n  a: {{ uses: exec/run, with: {{ command: [ls] }} }}\n"
        ));
    }

    #[test]
    fn any_expression_is_answered(expression in "[a-z0-9.?()\\[\\]{}'\"+*/<>=!&|, :ä_-]{0,60}") {
        let quoted = serde_json::to_string(&format!("${{{{ {expression} }}}}")).unwrap();
        renders(&format!("harvest: 1\nname: w\nsteps:\n  a:\n    uses: git/clone\n    with: {{ repo: {quoted} }}\n"));
    }
}
