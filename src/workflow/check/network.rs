//! `network:`, of sandboxes and of steps: what may be reached, and by whom at once.

use super::grammar::NETWORK;
use super::raw::{Does, RawStep};
use super::shape;
use super::step;
use crate::id::StepId;
use crate::network::Network;
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Entry, Kind};
use crate::workflow::model::{Action, Call, SandboxTemplate, Step};
use indexmap::IndexMap;
use std::collections::{BTreeMap, BTreeSet};

/// Reads a `network:`. `None` where it is none, which is reported.
pub(super) fn network(report: &mut Report, entry: &Entry) -> Option<Network> {
    const HELP: &str = "write `none`, `host` or `{ allow: [github.com] }`";
    match &entry.value.kind {
        Kind::Scalar { text, .. } if text == "none" => Some(Network::None),
        Kind::Scalar { text, .. } if text == "host" => Some(Network::Host),
        Kind::Map(entries) => {
            let fields = shape::fields(report, entries, &NETWORK);
            let allow = fields.get("allow")?;
            let mut domains = Vec::new();
            for (text, node) in shape::texts(report, allow, "allow: [github.com]") {
                if text.is_empty() || text.contains(['/', ' ', '$']) {
                    let diagnostic =
                        report.add(code::BAD_VALUE, node.span.clone(), format!("`{text}` is no domain"));
                    let bare = text.split("://").last().unwrap_or(text).split('/').next().unwrap_or(text);
                    // Where there was a path, the whole domain is more than was meant.
                    if text.trim_end_matches('/') == format!("https://{bare}") {
                        diagnostic.fix(bare);
                    }
                    diagnostic.help(match bare.contains(['$', ' ']) || bare.is_empty() {
                        true => "write domains such as `github.com`, `*.example.com` or `host:8080`, without expressions".to_owned(),
                        false => format!("write `{bare}`"),
                    });
                }
                domains.push(text.to_owned());
            }
            Some(Network::Allow(domains))
        }
        _ => {
            report.add(code::BAD_VALUE, entry.value.span.clone(), "this is no network").help(HELP);
            None
        }
    }
}

/// Reads the `network:` of a step that works in `sandboxes`.
pub(super) fn of_step(
    report: &mut Report,
    entry: &Entry,
    label: Option<&str>,
    sandboxes: &BTreeMap<String, String>,
    known: &IndexMap<String, SandboxTemplate>,
) -> Option<Network> {
    let network = network(report, entry)?;
    if let (Some(label), true) = (label, sandboxes.is_empty()) {
        report
            .add(code::SANDBOX_CHOICE, entry.key_span.clone(), format!("{label} takes no sandbox"))
            .help("remove `network:`");
        return None;
    }
    for name in sandboxes.values().collect::<BTreeSet<_>>() {
        let Some(sandbox) = known.get(name) else { continue };
        let host = |network: &Network| *network == Network::Host;
        if host(&sandbox.network) == host(&network) {
            continue;
        }
        let message = match host(&network) {
            true => format!("the sandbox `{name}` cannot enter the network of the host while it lives"),
            false => format!("the sandbox `{name}` cannot leave the network of the host while it lives"),
        };
        let help = match host(&network) {
            true => format!("write `network: host` in the sandbox `{name}`, or use another sandbox"),
            false => format!(
                "write `network: none` in the sandbox `{name}`, and `network:` in the steps that need one"
            ),
        };
        report.add(code::CONFLICTING, entry.value.span.clone(), message).help(help);
        return None;
    }
    Some(network)
}

/// A call as far as its network matters.
struct Caller<'a> {
    id: &'a StepId,
    call: &'a Call,
    /// The loop that it is a step of.
    around: Option<&'a StepId>,
}

/// Reports steps that may be at work in one sandbox at the same time and would reach different things; each once.
pub(super) fn at_once(
    report: &mut Report,
    raw: &[RawStep<'_>],
    steps: &IndexMap<StepId, Step>,
    sandboxes: &IndexMap<String, SandboxTemplate>,
) {
    let mut callers = Vec::new();
    for (id, step) in steps {
        callers.extend(step.call().map(|call| Caller { id, call, around: None }));
        for (inner, body) in step.body().into_iter().flatten() {
            callers.extend(body.call().map(|call| Caller { id: inner, call, around: Some(id) }));
        }
    }
    if callers.iter().all(|caller| caller.call.network.is_none()) {
        return;
    }
    let order = Order::of(steps);
    let bodies: IndexMap<&StepId, (u32, Order<'_>)> = steps
        .iter()
        .filter_map(|(id, step)| match &step.action {
            Action::ForEach(each) => Some((id, (each.parallel, Order::of(&each.steps)))),
            _ => None,
        })
        .collect();
    let may_meet = |one: &Caller<'_>, other: &Caller<'_>| match (one.around, other.around) {
        (Some(around), Some(same)) if around == same => {
            bodies.get(around).is_some_and(|(parallel, body)| *parallel > 1 || !body.has(one.id, other.id))
        }
        _ => !order.has(one.around.unwrap_or(one.id), other.around.unwrap_or(other.id)),
    };
    let mut told = BTreeSet::new();
    for (index, second) in callers.iter().enumerate() {
        let clash = callers[..index].iter().filter(|first| !told.contains(first.id)).find_map(|first| {
            let shared = first.call.sandboxes.values().find(|name| {
                let sandbox = sandboxes.get(*name);
                second.call.sandboxes.values().any(|other| other == *name)
                    && differ(reached(first.call, sandbox), reached(second.call, sandbox))
            })?;
            may_meet(first, second).then_some((first, shared))
        });
        if let Some((first, sandbox)) = clash {
            let parallel = first.around == second.around
                && first
                    .around
                    .and_then(|around| bodies.get(around))
                    .is_some_and(|(parallel, _)| *parallel > 1);
            say(report, raw, [first, second], sandbox, parallel);
            told.extend([first.id, second.id]);
        }
    }
}

fn reached<'a>(call: &'a Call, sandbox: Option<&'a SandboxTemplate>) -> Option<&'a Network> {
    call.network.as_ref().or(sandbox.map(|sandbox| &sandbox.network))
}

fn differ(one: Option<&Network>, other: Option<&Network>) -> bool {
    match (one, other) {
        // The one of the sandbox, for both: no need to compare long lists.
        (Some(one), Some(other)) => !std::ptr::eq(one, other) && one != other,
        _ => false,
    }
}

/// Which steps wait for which, directly or through others.
struct Order<'a> {
    steps: &'a IndexMap<StepId, Step>,
    /// For each step, a bit for each step that it waits for.
    before: Vec<Vec<u64>>,
}

impl<'a> Order<'a> {
    fn of(steps: &'a IndexMap<StepId, Step>) -> Self {
        let edges: Vec<Vec<usize>> = steps
            .values()
            .map(|step| step::edges(step).filter_map(|id| steps.get_index_of(id)).collect())
            .collect();
        let before = edges.iter().map(|first| {
            let mut seen = vec![0_u64; steps.len().div_ceil(64)];
            let mut open = first.clone();
            while let Some(at) = open.pop() {
                let (word, bit) = (at / 64, 1 << (at % 64));
                if seen[word] & bit == 0 {
                    seen[word] |= bit;
                    open.extend(&edges[at]);
                }
            }
            seen
        });
        Self { steps, before: before.collect() }
    }

    /// Whether one of two steps waits for the other.
    fn has(&self, one: &StepId, other: &StepId) -> bool {
        let (Some(one), Some(other)) = (self.steps.get_index_of(one), self.steps.get_index_of(other)) else {
            return true;
        };
        let waits = |from: usize, to: usize| self.before[from][to / 64] >> (to % 64) & 1 == 1;
        waits(one, other) || waits(other, one)
    }
}

fn say(
    report: &mut Report,
    raw: &[RawStep<'_>],
    [first, second]: [&Caller<'_>; 2],
    sandbox: &str,
    parallel: bool,
) {
    let of = |caller: &Caller<'_>| {
        raw.iter().find_map(|step| match &step.does {
            _ if step.id == caller.id.as_str() => Some(step),
            Does::ForEach { steps, .. } => steps.iter().find(|step| step.id == caller.id.as_str()),
            _ => None,
        })
    };
    let (Some(one), Some(other)) = (of(first), of(second)) else { return };
    let place = |step: &RawStep<'_>| {
        step.fields.get("network").map_or(step.entry.key_span.clone(), |entry| entry.key_span.clone())
    };
    let message = format!(
        "steps `{}` and `{}` may be at work in the sandbox `{sandbox}` at the same time, and would reach different things",
        first.id, second.id
    );
    // A sandbox has one network at a time: an order decides which of the two comes first.
    let outer = |caller: &Caller<'_>| match caller.around {
        Some(around) if first.around != second.around => around.to_string(),
        _ => caller.id.to_string(),
    };
    let order = match parallel {
        true => "write `parallel: 1` in the loop".to_owned(),
        false => format!("write `needs: [{}]` in `{}`", outer(first), outer(second)),
    };
    report
        .add(code::NETWORKS_AT_ONCE, place(other), message)
        .also(place(one), "the other one")
        .help(format!("{order}, or give one of them a sandbox of its own"));
}
