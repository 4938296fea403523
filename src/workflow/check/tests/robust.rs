//! Nothing that a file can hold makes the checker panic, hang or accept what it must not.

use super::checked;
use crate::workflow::cel::{MAX_EXPRESSION, MAX_NESTING};
use crate::workflow::code;
use crate::workflow::file::{MAX_BYTES, MAX_DEPTH, MAX_NODES};
use proptest::prelude::*;

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
        "    needs: [a, b]\n",
        "---\n",
        "<<: *a\n",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn renders(text: &str) {
    for diagnostic in checked(text).diagnostics {
        assert!(!diagnostic.render(true).is_empty());
        assert!(serde_json::to_value(&diagnostic).unwrap()["line"].as_u64().unwrap() >= 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        renders(&text);
    }

    #[test]
    fn nearly_workflows_are_answered(text in pieces()) {
        renders(&text);
    }

    #[test]
    fn any_expression_is_answered(expression in "[a-z0-9.?()\\[\\]{}'\"+*/<>=!&|, :ä_-]{0,60}") {
        let quoted = serde_json::to_string(&format!("${{{{ {expression} }}}}")).unwrap();
        renders(&format!("harvest: 1\nname: w\nsteps:\n  a:\n    uses: git/clone\n    with: {{ repo: {quoted} }}\n"));
    }
}
