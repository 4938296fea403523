//! What is made out of files, whole and broken.

use super::read;
use crate::workflow::diagnostic::{Report, Source};
use crate::workflow::file::{self, Kind, Node};
use proptest::prelude::*;

/// The tree on lines, for people.
fn outline(text: &str) -> String {
    fn show(node: &Node, indent: usize, out: &mut String) {
        let margin = "  ".repeat(indent);
        match &node.kind {
            Kind::Null => out.push_str(" ~\n"),
            Kind::Scalar { text, .. } => out.push_str(&format!(" {text:?}\n")),
            Kind::List(items) => {
                out.push('\n');
                for item in items {
                    out.push_str(&format!("{margin}-"));
                    show(item, indent + 1, out);
                }
            }
            Kind::Map(entries) => {
                out.push('\n');
                for entry in entries {
                    out.push_str(&format!("{margin}{}:", entry.key));
                    show(&entry.value, indent + 1, out);
                }
            }
        }
    }
    let mut out = String::new();
    show(&read(text), 0, &mut out);
    out
}

/// What two trees of the same text must share.
fn same(strict: &Node, sketch: &Node, text: &str) {
    match (&strict.kind, &sketch.kind) {
        (Kind::Map(strict), Kind::Map(sketch)) => {
            let keys = |entries: &[file::Entry]| {
                entries.iter().map(|e| (e.key.clone(), e.key_span.clone())).collect::<Vec<_>>()
            };
            assert_eq!(keys(strict), keys(sketch), "{text}");
            strict.iter().zip(sketch).for_each(|(strict, sketch)| same(&strict.value, &sketch.value, text));
        }
        (Kind::List(strict), Kind::List(sketch)) => {
            assert_eq!(strict.len(), sketch.len(), "{text}");
            strict.iter().zip(sketch).for_each(|(strict, sketch)| same(strict, sketch, text));
        }
        (Kind::Scalar { text: strict, .. }, Kind::Scalar { text: sketch, .. }) => {
            // How a block scalar ends and folds is not made out.
            let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(words(strict), words(sketch), "{text}");
        }
        (Kind::Null, Kind::Null) => {}
        (Kind::Null, Kind::Scalar { text: sketch, .. }) if sketch == "null" || sketch == "~" => {}
        (strict, sketch) => panic!("{strict:?} and {sketch:?} of {text}"),
    }
}

fn strict(text: &str) -> Option<Node> {
    let mut report = Report::new(Source::new("w.yaml", text));
    file::read(&mut report).filter(|_| report.errors() == 0)
}

#[test]
fn a_whole_file_is_read_like_a_file() {
    for text in [
        include_str!("../../../workflows/agent-session.yaml"),
        include_str!("../../../workflows/run-python.yaml"),
        include_str!("../../../images/agent.yaml"),
        "a:\n- b\n- c: d\n  e: f\n-\n  g: h\ni: |\n  # text\n\n    deeper\nj: >-\n  folded\n  text\nk: 'it''s'\n",
        "\"a b\": \"c\\\"d\"   # comment\ne: { f: [g, 'h, i', {j: k}], l: \"m }\", n: }\no: [\n  p,\n  q: r,\n]\ns: t u # v\n",
        "a: b\r\nc:\r\n  d: e\r\n",
        "a: one\n  two\n  three\nb: http://x:80/y#z\nc: \"one\n  two\"\n",
    ] {
        same(&strict(text).unwrap(), &read(text), text);
    }
}

#[test]
fn what_is_broken_ends_where_its_key_ends() {
    let text = "\
steps:
  clone:
    uses: git/clone
    wi
    secrets: { token: git
  b:
    uses: \"exec/run
    with: { command: [echo, \"${{ steps.clone. ], stdin: x }
    if: steps.
      timeout: 5m
  c
  d:
    with:
      command:
        - ls
        -
    needs: [b,
outputs:
";
    insta::assert_snapshot!(outline(text), @r#"
    steps:
      clone:
        uses: "git/clone"
        wi: ~
        secrets:
          token: "git"
      b:
        uses: "exec/run"
        with:
          command:
            - "echo"
            - "${{ steps.clone. ], stdin: x }"
        if:
          timeout: "5m"
      c: ~
      d:
        with:
          command:
            - "ls"
            - ~
        needs:
          - "b"
    outputs: ~
    "#);
}

#[test]
fn an_expression_without_quotes_is_one_text() {
    let text = "a: { b: ${{ inputs.x ? [1, 2] : {} }}, c: ${{ inputs. , d: e\nf: ${{ a ? b : c }}\n";
    insta::assert_snapshot!(outline(text), @r#"
    a:
      b: "${{ inputs.x ? [1, 2] : {} }}"
      c: "${{ inputs. , d: e"
    f: "${{ a ? b : c }}"
    "#);
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a: ",
        "b:",
        "key: value",
        "- ",
        "-",
        "\n",
        "\n",
        "\n  ",
        "\n    ",
        "\n\t",
        "{",
        "}",
        "[",
        "]",
        ", ",
        ": ",
        "'",
        "\"",
        "\\",
        "|",
        ">-",
        "#",
        " # c",
        "${{",
        " }}",
        "ö",
        "\u{feff}",
        "😀",
        "---",
        "? ",
        "&a",
        "\r\n",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn within(node: &Node, text: &str) {
    assert!(text.get(node.span.clone()).is_some(), "{:?} of {text:?}", node.span);
    match &node.kind {
        Kind::List(items) => items.iter().for_each(|item| within(item, text)),
        Kind::Map(entries) => {
            for entry in entries {
                assert!(text.get(entry.key_span.clone()).is_some(), "{:?} of {text:?}", entry.key_span);
                within(&entry.value, text);
            }
        }
        _ => {}
    }
}

/// Data as YAML, in block or flow style.
fn yaml() -> impl Strategy<Value = String> {
    let word = "[a-z]{1,6}( [a-z]{1,6})?";
    let scalar = prop_oneof![
        word.prop_map(String::from),
        "'[a-z:#,{} ]{0,8}'".prop_map(String::from),
        "\"[a-z:#,\\[\\] ]{0,8}\"".prop_map(String::from),
    ];
    let flow = scalar.clone().prop_recursive(3, 12, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::vec(inner, 0..3).prop_map(|values| {
                let pairs: Vec<_> =
                    values.iter().enumerate().map(|(at, value)| format!("k{at}: {value}")).collect();
                format!("{{ {} }}", pairs.join(", "))
            }),
        ]
    });
    flow.prop_map(|value| format!(" {value}\n")).prop_recursive(4, 24, 3, |inner| {
        let indented = |text: &str| {
            let lines = text.trim_end_matches('\n').lines().map(|line| format!("  {line}\n"));
            lines.collect::<String>()
        };
        let nested = move |head: &str, value: &str| match value.strip_prefix('\n') {
            Some(block) => format!("{head}\n{}", indented(block)),
            None => format!("{head}{value}"),
        };
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(move |values| {
                let lines = values.iter().enumerate().map(|(at, value)| nested(&format!("k{at}:"), value));
                format!("\n{}", lines.collect::<String>())
            }),
            prop::collection::vec(inner, 1..4).prop_map(move |values| {
                let lines = values.iter().map(|value| nested("-", value));
                format!("\n{}", lines.collect::<String>())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_a_sketch(text in pieces()) {
        within(&read(&text), &text);
    }

    #[test]
    fn good_yaml_has_the_sketch_that_it_is(text in yaml()) {
        let text = format!("root:{text}");
        same(&strict(&text).unwrap(), &read(&text), &text);
    }
}

#[test]
fn a_file_of_the_largest_size_is_read_at_once() {
    for piece in ["a:\n", "- - - -\n", "{ a: [", "a: {\n", "  \"x\n", "a: b\n   c: d\n"] {
        let text = piece.repeat(file::MAX_BYTES / piece.len());
        let started = std::time::Instant::now();
        within(&read(&text), &text);
        assert!(started.elapsed() < std::time::Duration::from_secs(10), "{piece:?}");
        println!("{piece:?}: {:?}", started.elapsed());
    }
}
