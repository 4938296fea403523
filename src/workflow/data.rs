//! Plain data in the YAML of workflow files (strict, without anchors and tags): image definitions, for instance.

use super::diagnostic::{Report, Source};
use super::file::{self, Kind, Node};
use serde_json::Value;

/// Reads a text as data: scalars are text, whatever they look like, since only a schema could say otherwise.
///
/// # Errors
/// Every mistake, rendered for people.
pub fn read(name: &str, text: &str) -> Result<Value, String> {
    let mut report = Report::new(Source::new(name, text));
    match file::read(&mut report) {
        Some(node) if report.errors() == 0 => Ok(plain(&node)),
        _ => Err(report
            .finish()
            .iter()
            .map(|diagnostic| diagnostic.render(false))
            .collect::<Vec<_>>()
            .join("\n")),
    }
}

fn plain(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Scalar { text, .. } => text.as_str().into(),
        Kind::List(items) => items.iter().map(plain).collect(),
        Kind::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), plain(&entry.value))).collect(),
    }
}
