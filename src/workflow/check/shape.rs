//! Reading mappings by their keys: what is unknown, what comes later, what is written in the wrong spelling.

use super::keys::Keys;
use crate::workflow::code;
use crate::workflow::diagnostic::{Diagnostic, Report};
use crate::workflow::file::{Entry, Kind, Node};
use crate::workflow::literal::{self, shown};
use crate::workflow::suggest;
use crate::workflow::types::Type;
use serde_json::Value;
use std::ops::Range;

/// A mapping whose keys are known.
pub(super) struct Fields<'n> {
    /// By the key that is meant: a misspelled one is reported, and read as what it seems to mean, so that nothing is
    /// said to be missing that is there.
    entries: Vec<(&'static str, &'n Entry)>,
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|(meant, _)| *meant == key).map(|(_, entry)| *entry)
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
pub(super) fn fields<'n>(
    report: &mut Report,
    entries: impl IntoIterator<Item = &'n Entry>,
    keys: &Keys,
) -> Fields<'n> {
    let entries: Vec<&'n Entry> = entries.into_iter().collect();
    let exact = |entry: &Entry| keys.find(&entry.key).map(|key| key.name);
    let mut fields: Vec<(&'static str, &'n Entry)> =
        entries.iter().filter_map(|entry| Some((exact(entry)?, *entry))).collect();
    for entry in entries.iter().copied().filter(|entry| exact(entry).is_none()) {
        if let Some(meant) = unknown(report, entry, keys, &entries)
            && fields.iter().all(|(key, _)| *key != meant)
        {
            fields.push((meant, entry));
        }
    }
    Fields { entries: fields }
}

/// Reports a key that a mapping does not have; the key that it seems to mean.
fn unknown(report: &mut Report, entry: &Entry, keys: &Keys, entries: &[&Entry]) -> Option<&'static str> {
    let key = entry.key.as_str();
    let listed = suggest::listed(keys.names());
    if keys.later.contains(&key) {
        report
            .add(code::UNSUPPORTED, entry.key_span.clone(), format!("`{key}` is not supported yet"))
            .help(format!("remove it; {} has the keys {listed}", keys.what));
        return None;
    }
    let known = |wanted: &str| keys.find(wanted).map(|key| key.name);
    let respelled = key.replace('_', "-");
    if known(&respelled).is_some() || [keys.near, keys.later].concat().contains(&respelled.as_str()) {
        let message = format!("unknown key `{key}`: keys of the grammar are written with hyphens");
        let diagnostic = report.add(code::UNKNOWN_KEY, entry.key_span.clone(), message);
        diagnostic.help(format!("write `{respelled}`")).fix(respelled.clone());
        spare(diagnostic, entries.iter().copied());
        return known(&respelled);
    }
    let diagnostic = report.add(
        code::UNKNOWN_KEY,
        entry.key_span.clone(),
        format!("unknown key `{key}` in {}", keys.what),
    );
    let all = keys.names().chain(keys.near.iter().copied());
    let near = suggest::nearest(key, all.clone());
    if near.is_some() {
        let help = suggest::help("the keys are", key, all);
        diagnostic.suggest(help.as_str()).help(format!("{help} The keys are {listed}"));
        spare(diagnostic, entries.iter().copied());
    } else {
        diagnostic.help(format!("the keys are {listed}"));
    }
    near.and_then(known)
}

/// Takes back the replacement of a key by one that is there already: that is not the one that was meant.
pub(super) fn spare<'n>(diagnostic: &mut Diagnostic, entries: impl IntoIterator<Item = &'n Entry>) {
    if let Some(fix) = &diagnostic.fix
        && entries.into_iter().any(|entry| entry.key == fix.replacement)
    {
        diagnostic.fix = None;
    }
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
                .maybe_suggest(help);
            None
        }
    }
}

/// A whole number in a range.
pub(super) fn whole(
    report: &mut Report,
    entry: &Entry,
    range: std::ops::RangeInclusive<u32>,
    help: &str,
) -> Option<u32> {
    let example = range.start().to_string();
    let value = scalar(report, entry, &Type::Int, &example)?.as_i64()?;
    let found = u32::try_from(value).ok().filter(|value| range.contains(value));
    if found.is_none() {
        let message = format!("`{}` must be from {} to {}", entry.key, range.start(), range.end());
        report.add(code::BAD_VALUE, entry.value.span.clone(), message).help(help);
    }
    found
}

/// `true` or `false`; false where it is neither, which is reported.
pub(super) fn truth(report: &mut Report, entry: &Entry) -> bool {
    scalar(report, entry, &Type::Bool, "true").is_some_and(|value| value == true)
}

/// One of a few words.
pub(super) fn word(report: &mut Report, entry: &Entry, words: &[&str]) -> Option<String> {
    let ty = Type::Enum(words.iter().map(|word| (*word).to_owned()).collect());
    scalar(report, entry, &ty, words.first().copied().unwrap_or_default())?.as_str().map(str::to_owned)
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

/// An amount of money above zero, in millionths of a US dollar.
pub(super) fn money(report: &mut Report, entry: &Entry) -> Option<u64> {
    let text = scalar(report, entry, &Type::String, "5 USD")?;
    let found = literal::micro_usd(text.as_str().unwrap_or_default());
    match found {
        Ok(0) => {
            let message = format!("`{}` must be more than nothing", entry.key);
            report
                .add(code::BAD_VALUE, entry.value.span.clone(), message)
                .help("remove the key for no limit");
            None
        }
        Ok(amount) => Some(amount),
        Err(message) => {
            let (reason, help) = split_help(&message);
            report
                .add(code::BAD_VALUE, entry.value.span.clone(), format!("`{}`: {reason}", entry.key))
                .maybe_suggest(help);
            None
        }
    }
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

/// The data name that a key is; where it is none, which is reported, the name that it is corrected to, so that what
/// uses that name is not reported as well.
pub(super) fn data_name(report: &mut Report, entry: &Entry, what: &str) -> (String, bool) {
    match named(report, &entry.key, entry.key_span.clone(), what) {
        true => (entry.key.clone(), true),
        false => (corrected(&entry.key).unwrap_or_else(|| entry.key.clone()), false),
    }
}

/// Whether `name` is a data name; reports it where not.
pub(super) fn named(report: &mut Report, name: &str, span: Range<usize>, what: &str) -> bool {
    if is_data_name(name) {
        return true;
    }
    let message = format!("`{}` is no name for {what}: names are lower case with underscores", shown(name));
    let diagnostic = report.add(code::BAD_NAME, span, message);
    match corrected(name) {
        Some(corrected) => diagnostic.help(format!("write `{corrected}`")).fix(corrected),
        None => diagnostic.help(format!("start with a letter, and use at most {MAX_NAME} of a-z, 0-9 and _")),
    };
    false
}

/// Longest data name: names become labels, file names and columns.
const MAX_NAME: usize = 64;

fn is_data_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The data name nearest to `name`: `my_step` of `my-step` or `myStep`.
pub(super) fn corrected(name: &str) -> Option<String> {
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
    is_data_name(&corrected).then_some(corrected)
}

/// A message of [`literal`] is "what is wrong; what to write".
pub(super) fn split_help(message: &str) -> (String, Option<String>) {
    match message.rsplit_once("; ") {
        Some((reason, help)) => (reason.to_owned(), Some(help.to_owned())),
        None => (message.to_owned(), None),
    }
}
