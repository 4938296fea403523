//! What a client sends: by call, the names of metadata and the paths of fields.

use modal_server::Recorded;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Metadata of calls to a router.
const BEARER: &str = "authorization";

/// What belongs to all calls to the one or the other.
pub(crate) const PLACES: [&str; 2] = ["every call to the control plane", "every call to a router"];

/// What was sent with calls that were made for the first time, of the control plane and of routers.
pub(crate) struct Sent([BTreeMap<String, BTreeSet<String>>; 2]);

impl Sent {
    pub(crate) fn of(calls: &[Recorded]) -> Self {
        let mut sent = [BTreeMap::new(), BTreeMap::new()];
        for call in calls.iter().filter(|call| first(call)) {
            let place = usize::from(call.metadata.contains_key(BEARER));
            let parts: &mut BTreeSet<String> = sent[place].entry(call.rpc.clone()).or_default();
            parts.extend(call.metadata.keys().map(|name| format!("metadata {name}")));
            parts.extend(call.fields.iter().map(|path| format!("field {path}")));
        }
        Self(sent)
    }

    /// As text; what all calls of a place have is said once.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (place, sent) in PLACES.iter().zip(&self.0) {
            let all = sent.values().cloned().reduce(|all, parts| &all & &parts).unwrap_or_default();
            text += &format!("{place}\n{}", lines(all.iter()));
            for (rpc, parts) in sent {
                text += &format!("{rpc}\n{}", lines(parts.difference(&all)));
            }
        }
        text
    }

    /// What one of two clients sends and the other does not, as `CALL: WHO alone: PART`. A part that differs in every call
    /// of a place that both make is told of once.
    pub(crate) fn differences(ours: &Self, theirs: &Self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for ((place, ours), theirs) in PLACES.iter().zip(&ours.0).zip(&theirs.0) {
            let mut calls: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
            for rpc in ours.keys().chain(theirs.keys()) {
                match (ours.get(rpc), theirs.get(rpc)) {
                    (Some(ours), Some(theirs)) => {
                        let ours_alone = ours.difference(theirs).map(|part| format!("ours alone: {part}"));
                        let theirs_alone =
                            theirs.difference(ours).map(|part| format!("theirs alone: {part}"));
                        calls.insert(rpc, ours_alone.chain(theirs_alone).collect());
                    }
                    (Some(_), None) => drop(all.insert(format!("{rpc}: ours alone: the call"))),
                    (None, _) => drop(all.insert(format!("{rpc}: theirs alone: the call"))),
                }
            }
            let everywhere = calls.values().cloned().reduce(|all, parts| &all & &parts).unwrap_or_default();
            all.extend(everywhere.iter().map(|part| format!("{place}: {part}")));
            for (rpc, parts) in calls {
                all.extend(parts.difference(&everywhere).map(|part| format!("{rpc}: {part}")));
            }
        }
        all
    }
}

/// The switches and choices that were ever sent: `CALL: PATH = VALUE` for truth values and names of enumerations.
pub(crate) fn choices(calls: &[Recorded]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for call in calls {
        for message in &call.messages {
            choices_in(&call.rpc, message, &mut all);
        }
    }
    all
}

fn choices_in(path: &str, value: &Value, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let separator = if path.contains(": ") { "." } else { ": " };
                choices_in(&format!("{path}{separator}{name}"), value, all);
            }
        }
        Value::Array(entries) => {
            entries.iter().for_each(|entry| choices_in(&format!("{path}[]"), entry, all))
        }
        Value::Bool(choice) => drop(all.insert(format!("{path} = {choice}"))),
        // The only texts that a client does not choose freely.
        Value::String(name) if is_choice(name) && !path.contains("contents") => {
            all.insert(format!("{path} = {name}"));
        }
        _ => {}
    }
}

fn is_choice(name: &str) -> bool {
    name.contains('_')
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn first(call: &Recorded) -> bool {
    ["x-retry-attempt", "x-throttle-retry-attempt"]
        .iter()
        .all(|name| call.metadata.get(*name).is_none_or(|attempt| attempt == "0"))
}

fn lines<'a>(parts: impl Iterator<Item = &'a String>) -> String {
    parts.map(|part| format!("  {part}\n")).collect()
}
