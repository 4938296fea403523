//! Connections that the policies of an attempt's sandboxes refused: said in its log, once for each destination, and, where
//! it fails, with the line that would let them through.

use super::output::Output;
use crate::capability::sandbox::{Isolation, Network, Refused};
use crate::capability::stream::{Content, REPORTS};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// Destinations of one attempt that are told of: a program that tries many more is looking for a way out.
const DESTINATIONS_LIMIT: usize = 50;

/// What was refused to one attempt.
pub(super) struct Refusals {
    output: Arc<Output>,
    /// The policy of its step, where that has one of its own.
    own: Option<Network>,
    /// By sandbox.
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// What was refused to one sandbox.
struct Seen {
    /// Its policy during the attempt, where that is a matter of the file.
    network: Option<Network>,
    /// The lines that the policy lacks.
    missing: BTreeSet<String>,
}

impl Refusals {
    pub(super) fn new(output: Arc<Output>, own: Option<Network>) -> Self {
        Self { output, own, seen: Mutex::default() }
    }

    /// Notes a connection that a sandbox was refused, under a policy that the file sets, or under one of the component's.
    pub(super) fn note(&self, sandbox: &str, network: Option<&Network>, refused: &Refused) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let count: usize = seen.values().map(|seen| seen.missing.len()).sum();
        if count == DESTINATIONS_LIMIT {
            return;
        }
        let first = || Seen { network: network.cloned(), missing: BTreeSet::new() };
        let seen = seen.entry(sandbox.to_owned()).or_insert_with(first);
        if !seen.missing.insert(refused.line.clone()) {
            return;
        }
        let mut message =
            format!("sandbox `{sandbox}` refused a connection to {}: {}", refused.to, refused.why);
        if count + 1 == DESTINATIONS_LIMIT {
            message.push_str("; further destinations are not told of");
        }
        let refused = json!({ "sandbox": sandbox, "to": refused.to, "line": refused.line });
        let entry = json!({ "level": "warn", "message": message, "refused": refused });
        self.output.entry("log", Content::Data(entry));
    }

    /// Notes how well a sandbox that was opened for the attempt is held in; for programs.
    pub(super) fn opened(&self, sandbox: &str, isolation: &Isolation) {
        self.output.entry(REPORTS, Content::Data(json!({ "sandbox": sandbox, "isolation": isolation })));
    }

    /// What to write so that nothing of it would be refused, as the end of an error; empty where nothing was.
    pub(super) fn hint(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hint = String::new();
        for (sandbox, Seen { network, missing }) in &*seen {
            let Some(network) = network else { continue };
            let mut lines = match network {
                Network::Allow(lines) => lines.clone(),
                Network::None | Network::Host => Vec::new(),
            };
            lines.extend(missing.iter().filter(|line| !lines.contains(line)).cloned().collect::<Vec<_>>());
            let place = match self.own {
                Some(_) => "this step".to_owned(),
                None => format!("the sandbox `{sandbox}`"),
            };
            let quoted: Vec<_> = lines.iter().map(|line| quoted(line)).collect();
            let _ = write!(
                hint,
                "; connections of sandbox `{sandbox}` were refused; to allow them, write in {place}: \
                 network: {{ allow: [{}] }}",
                quoted.join(", ")
            );
        }
        hint
    }
}

/// A line as YAML has it.
fn quoted(line: &str) -> String {
    match line.starts_with(['*', '[']) || line.contains(':') {
        true => format!("\"{line}\""),
        false => line.to_owned(),
    }
}
