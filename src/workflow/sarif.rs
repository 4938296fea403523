//! Diagnostics as a SARIF 2.1.0 log, the form that code scanning and editors read. A view, like rendering: it decides
//! nothing, and holds no text of the checked files but what messages quote.

use super::code::{self, Code};
use super::diagnostic::{Diagnostic, Fix, Severity, Source};
use super::explain::Explanation;
use serde_json::{Value, json};
use std::ops::Range;

/// Where the schema of the format is, which readers use to tell its version.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// One log with one run: every code as a rule, every diagnostic as a result.
pub fn log(diagnostics: &[Diagnostic]) -> Value {
    let rules: Vec<_> = code::ALL.iter().map(|code| rule(*code)).collect();
    let results: Vec<_> = diagnostics.iter().map(result).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "harvest", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            // Columns of a `Source` count characters.
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(code: Code) -> Value {
    let severity = if code.is_warning() { Severity::Warning } else { Severity::Error };
    let mut rule = json!({
        "id": code.id,
        "shortDescription": { "text": code.title },
        "defaultConfiguration": { "level": severity },
    });
    if let Some(explanation) = Explanation::of(code) {
        rule["fullDescription"] = json!({ "text": explanation.text });
        rule["help"] = json!({ "text": explanation.to_string(), "markdown": explanation.markdown });
    }
    rule
}

fn result(diagnostic: &Diagnostic) -> Value {
    let source = &diagnostic.source;
    let mut text = format!("{}.", diagnostic.message);
    if let Some(help) = &diagnostic.help {
        text.push_str(&format!(" Help: {help}"));
    }
    let mut result = json!({
        "ruleId": diagnostic.code.id,
        "ruleIndex": code::ALL.iter().position(|code| *code == diagnostic.code),
        "level": diagnostic.severity(),
        "message": message(&text),
        "locations": [location(source, &diagnostic.span)],
    });
    if !diagnostic.labels.is_empty() {
        let related = diagnostic.labels.iter().map(|label| {
            let mut related = location(source, &label.span);
            related["message"] = message(&label.message);
            related
        });
        result["relatedLocations"] = related.collect();
    }
    if let Some(fix) = &diagnostic.fix {
        let replacement = |fix: &Fix| {
            json!({
                "deletedRegion": region(source, &fix.span),
                "insertedContent": { "text": fix.replacement },
            })
        };
        let replacements: Vec<_> = diagnostic.fixes().map(replacement).collect();
        result["fixes"] = json!([{
            "description": message(&format!("write `{}`", fix.replacement)),
            "artifactChanges": [{ "artifactLocation": artifact(source), "replacements": replacements }],
        }]);
    }
    result
}

/// A message without placeholders, in which section 3.11.5 wants braces doubled.
fn message(text: &str) -> Value {
    json!({ "text": text.replace('{', "{{").replace('}', "}}") })
}

fn location(source: &Source, span: &Range<usize>) -> Value {
    json!({ "physicalLocation": { "artifactLocation": artifact(source), "region": region(source, span) } })
}

/// Positions are from 1 and ends exclusive on both sides.
fn region(source: &Source, span: &Range<usize>) -> Value {
    let (start, end) = (source.position(span.start), source.position(span.end));
    json!({ "startLine": start.0, "startColumn": start.1, "endLine": end.0, "endColumn": end.1 })
}

/// The file as it was named: a relative name becomes a relative reference, which readers resolve in their checkout.
fn artifact(source: &Source) -> Value {
    let name = source.name.strip_prefix("./").unwrap_or(&source.name);
    let scheme = if name.starts_with('/') { "file://" } else { "" };
    let mut uri = scheme.to_owned();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(byte.into())
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    json!({ "uri": uri })
}

#[cfg(test)]
mod tests;
