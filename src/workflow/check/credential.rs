//! Credentials written into a file. Their text is never repeated in a message.

use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Kind, Node};
use std::ops::Range;

/// Prefixes of credentials, and how many characters must follow for it to be one.
const KNOWN: [(&str, usize, &str); 12] = [
    ("sk-ant-", 20, "an Anthropic key"),
    ("ghp_", 30, "a GitHub token"),
    ("gho_", 30, "a GitHub token"),
    ("ghs_", 30, "a GitHub token"),
    ("github_pat_", 30, "a GitHub token"),
    ("glpat-", 16, "a GitLab token"),
    ("AKIA", 16, "an AWS key"),
    ("xoxb-", 20, "a Slack token"),
    ("xoxp-", 20, "a Slack token"),
    ("AIza", 30, "a Google key"),
    ("lin_api_", 20, "a Linear key"),
    ("-----BEGIN ", 0, "a private key"),
];

/// Reports every credential in the tree.
pub(super) fn find(report: &mut Report, node: &Node) {
    match &node.kind {
        Kind::Null => {}
        Kind::Scalar { text, .. } => found(report, text, &node.span),
        Kind::List(items) => items.iter().for_each(|item| find(report, item)),
        Kind::Map(entries) => {
            for entry in entries {
                found(report, &entry.key, &entry.key_span);
                find(report, &entry.value);
            }
        }
    }
}

fn found(report: &mut Report, text: &str, span: &Range<usize>) {
    if let Some(what) = credential(text) {
        report.add(code::CREDENTIAL, span.clone(), format!("{what} is written into the file")).help(
            "revoke it, declare `secrets: { name: { from: env:NAME } }`, and bind it to a slot of the step",
        );
    }
}

fn credential(text: &str) -> Option<&'static str> {
    KNOWN.iter().find_map(|(prefix, length, what)| {
        text.match_indices(prefix).find_map(|(at, _)| {
            let starts_word = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
            let rest = &text[at + prefix.len()..];
            let tail = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).count();
            let fits = if *length == 0 { rest.contains("PRIVATE KEY") } else { tail >= *length };
            (starts_word && fits).then_some(*what)
        })
    })
}
