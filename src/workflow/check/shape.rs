//! Reading mappings by their keys: what is unknown, what comes later, what is written in the wrong spelling.

use super::keys::Keys;
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Entry, Kind, Node};
use crate::workflow::literal::{self, shown};
use crate::workflow::suggest;
use crate::workflow::types::Type;
use serde_json::Value;

/// A mapping whose keys are known.
pub(super) struct Fields<'n> {
    entries: Vec<&'n Entry>,
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().copied().find(|entry| entry.key == key)
    }
}

/// The mapping behind `entry`, whatever its keys are.
pub(super) fn mapping<'n>(report: &mut Report, entry: &'n Entry, example: &str) -> Option<&'n [Entry]> {
    match &entry.value.kind {
        Kind::Map(entries) => Some(entries),
        _ => {
            shape(report, &entry.key, &entry.value, "a mapping", example);
            None
        }
    }
}

/// Reports a value of the wrong shape.
pub(super) fn shape(report: &mut Report, key: &str, node: &Node, wanted: &str, example: &str) {
    let message = match node.kind {
        Kind::Null => format!("`{key}` has no value"),
        _ => format!("`{key}` must be {wanted}, not {}", node.describe()),
    };
    report.add(code::WRONG_SHAPE, node.span.clone(), message).help(format!("write `{example}`"));
}

/// The fields of a mapping; reports keys that it does not have.
pub(super) fn fields<'n>(report: &mut Report, entries: &'n [Entry], keys: &Keys) -> Fields<'n> {
    let mut known = Vec::new();
    for entry in entries {
        let key = entry.key.as_str();
        if keys.find(key).is_some() {
            known.push(entry);
            continue;
        }
        if keys.later.contains(&key) {
            report
                .add(code::UNSUPPORTED, entry.key_span.clone(), format!("`{key}` is not supported yet"))
                .help(format!("remove it; {} has the keys {}", keys.what, suggest::listed(keys.names())));
            continue;
        }
        let respelled = key.replace('_', "-");
        let diagnostic;
        if keys.find(&respelled).is_some() || keys.later.contains(&respelled.as_str()) {
            let message = format!("unknown key `{key}`: keys of the grammar are written with hyphens");
            diagnostic = report.add(code::UNKNOWN_KEY, entry.key_span.clone(), message);
            diagnostic.help(format!("write `{respelled}`")).fix(respelled);
        } else {
            let message = format!("unknown key `{key}` in {}", keys.what);
            diagnostic = report.add(code::UNKNOWN_KEY, entry.key_span.clone(), message);
            let listed = suggest::listed(keys.names());
            match suggest::nearest(key, keys.names()) {
                Some(near) => {
                    diagnostic.help(format!("did you mean `{near}`? The keys are {listed}")).fix(near)
                }
                None => diagnostic.help(format!("the keys are {listed}")),
            };
        }
    }
    Fields { entries: known }
}

/// The text of a scalar.
pub(super) fn text<'n>(report: &mut Report, entry: &'n Entry, example: &str) -> Option<&'n str> {
    match &entry.value.kind {
        Kind::Scalar { text, .. } => Some(text),
        _ => {
            shape(report, &entry.key, &entry.value, "text", example);
            None
        }
    }
}

/// A scalar without holes, read by its type.
pub(super) fn scalar(report: &mut Report, entry: &Entry, ty: &Type, example: &str) -> Option<Value> {
    let text = text(report, entry, &format!("{}: {example}", entry.key))?;
    if text.contains("${{") {
        report
            .add(code::BAD_VALUE, entry.value.span.clone(), format!("`{}` takes no expression", entry.key))
            .help(format!("write a value such as `{example}`"));
        return None;
    }
    match literal::scalar(text, ty) {
        Ok(value) => Some(value),
        Err(message) => {
            let (reason, help) = split_help(&message);
            report
                .add(code::BAD_VALUE, entry.value.span.clone(), format!("`{}`: {reason}", entry.key))
                .maybe_help(help);
            None
        }
    }
}

/// A duration above zero, in milliseconds.
pub(super) fn duration(report: &mut Report, entry: &Entry) -> Option<u64> {
    let value = scalar(report, entry, &Type::Duration, "5m")?.as_u64()?;
    if value == 0 {
        report
            .add(
                code::BAD_VALUE,
                entry.value.span.clone(),
                format!("`{}` must be longer than nothing", entry.key),
            )
            .help("remove the key for no limit");
        return None;
    }
    Some(value)
}

/// One text or a list of texts, each with the place where it stands.
pub(super) fn texts<'n>(report: &mut Report, entry: &'n Entry, example: &str) -> Vec<(&'n str, &'n Node)> {
    let nodes = match &entry.value.kind {
        Kind::Scalar { .. } => std::slice::from_ref(&entry.value),
        Kind::List(items) => items.as_slice(),
        _ => {
            shape(report, &entry.key, &entry.value, "text or a list", example);
            return Vec::new();
        }
    };
    let mut texts = Vec::new();
    for node in nodes {
        match &node.kind {
            Kind::Scalar { text, .. } => texts.push((text.as_str(), node)),
            _ => shape(report, &entry.key, node, "a list of texts", example),
        }
    }
    texts
}

/// Whether `name` is a data name; reports it where not.
pub(super) fn data_name(report: &mut Report, entry: &Entry, what: &str) -> bool {
    /// Names become labels, file names and columns.
    const MAX_NAME: usize = 64;
    let name = entry.key.as_str();
    let good = |name: &str| {
        name.len() <= MAX_NAME
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    if good(name) {
        return true;
    }
    let mut corrected = String::new();
    for c in name.chars() {
        match c {
            'A'..='Z' => {
                if corrected.ends_with(|c: char| c.is_ascii_lowercase()) {
                    corrected.push('_');
                }
                corrected.push(c.to_ascii_lowercase());
            }
            'a'..='z' | '0'..='9' | '_' => corrected.push(c),
            _ => corrected.push('_'),
        }
    }
    let message = format!("`{}` is no name for {what}: names are lower case with underscores", shown(name));
    let diagnostic = report.add(code::BAD_NAME, entry.key_span.clone(), message);
    if good(&corrected) {
        diagnostic.help(format!("write `{corrected}`")).fix(corrected);
    } else {
        diagnostic.help(format!("start with a letter, and use at most {MAX_NAME} of a-z, 0-9 and _"));
    }
    false
}

/// A message of [`literal`] is "what is wrong; what to write".
pub(super) fn split_help(message: &str) -> (String, Option<String>) {
    match message.rsplit_once("; ") {
        Some((reason, help)) => (reason.to_owned(), Some(help.to_owned())),
        None => (message.to_owned(), None),
    }
}
