//! `on:`, what starts runs by itself: schedules, webhooks and the end of other workflows' runs.

use super::constant::constant;
use super::grammar::{COMPLETION, ON, SCHEDULE, STATUSES, VERIFY, WEBHOOK};
use super::keys::Keys;
use super::schedule;
use super::shape::{self, Fields};
use super::sub_workflow::{THIS, argument, missing};
use super::value::Values;
use crate::workflow::cel::typing::{Names, Usage};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Entry, Kind, Node};
use crate::workflow::model::{Completion, Expression, Input, Schedule, Template, Trigger, Webhook};
use crate::workflow::suggest;
use crate::workflow::types::Type;
use indexmap::{IndexMap, IndexSet};
use std::ops::Range;

/// Where every webhook's path starts, so that none gets in the way of the other pages of the server.
const HOOKS: &str = "/hooks/";

/// Longest path of a webhook in bytes.
const MAX_PATH: usize = 200;

/// Most triggers of one kind in a file: each is a thing that a server keeps an eye on.
const MAX_TRIGGERS: usize = 100;

const SCHEDULE_EXAMPLE: &str =
    "schedule: [{ id: nightly, cron: \"30 2 * * *\", time-zone: Europe/Stockholm }]";
const WEBHOOK_EXAMPLE: &str = "webhook: [{ id: push, path: /hooks/push, verify: { hmac-sha256: SECRET } }]";
const WORKFLOW_EXAMPLE: &str = "workflow: [{ name: other, status: succeeded }]";

/// What triggers refer to.
pub(super) struct Started<'w> {
    /// The name of the workflow.
    pub(super) workflow: &'w str,
    /// Its inputs, those without mistakes.
    pub(super) inputs: &'w IndexMap<String, Input>,
    /// Names of all its inputs.
    pub(super) types: &'w IndexMap<String, Option<Type>>,
    pub(super) secrets: &'w IndexSet<String>,
}

/// Reads `on:`.
pub(super) fn triggers(
    report: &mut Report,
    entry: &Entry,
    started: &Started<'_>,
    usage: &mut Usage,
) -> Vec<Trigger> {
    let Some(entries) = shape::mapping(report, entry, &format!("on: {{ {SCHEDULE_EXAMPLE} }}")) else {
        return Vec::new();
    };
    let fields = shape::fields(report, entries, &ON);
    let mut triggers = Vec::new();
    let mut ids = IndexMap::new();
    for item in list(report, &fields, "schedule", SCHEDULE_EXAMPLE, &SCHEDULE) {
        let id = id(report, &item, &mut ids);
        let inputs = inputs(report, &item, &[], started, usage);
        if let (Some(schedule), Some(id)) = (schedule::schedule(report, &item), id) {
            triggers.push(Trigger::Schedule(Schedule { id, inputs, ..schedule }));
        }
    }
    for item in list(report, &fields, "webhook", WEBHOOK_EXAMPLE, &WEBHOOK) {
        let id = id(report, &item, &mut ids);
        triggers.extend(webhook(report, &item, id, started, usage).map(Trigger::Webhook));
    }
    for item in list(report, &fields, "workflow", WORKFLOW_EXAMPLE, &COMPLETION) {
        triggers.extend(completion(report, &item, started, usage).map(Trigger::Workflow));
    }
    triggers
}

/// One item of a list of triggers.
pub(super) struct Item<'n> {
    /// What it is, for messages.
    what: &'static str,
    /// Where it stands: its first key.
    pub(super) span: Range<usize>,
    pub(super) fields: Fields<'n>,
}

/// The triggers of one kind.
fn list<'n>(
    report: &mut Report,
    fields: &Fields<'n>,
    key: &str,
    example: &str,
    keys: &Keys,
) -> Vec<Item<'n>> {
    let Some(entry) = fields.get(key) else { return Vec::new() };
    let Kind::List(items) = &entry.value.kind else {
        shape::shape(report, key, &entry.value, "a list", example);
        return Vec::new();
    };
    if let Some(beyond) = items.get(MAX_TRIGGERS) {
        let message = format!("`{key}` has more than {MAX_TRIGGERS} items");
        report
            .add(code::TOO_LARGE, beyond.span.clone(), message)
            .help("split the workflow, or let one trigger start what the others would");
    }
    let mut found = Vec::new();
    for item in items.iter().take(MAX_TRIGGERS) {
        match &item.kind {
            Kind::Map(entries) => {
                let span = entries.first().map_or(item.span.clone(), |entry| entry.key_span.clone());
                found.push(Item { what: keys.what, span, fields: shape::fields(report, entries, keys) });
            }
            _ => shape::shape(report, key, item, "a list of mappings", example),
        }
    }
    found
}

/// The name of a trigger, which no other of the file has.
fn id(report: &mut Report, item: &Item<'_>, ids: &mut IndexMap<String, Range<usize>>) -> Option<String> {
    let Some(entry) = item.fields.get("id") else {
        report
            .add(code::MISSING_KEY, item.span.clone(), format!("{} without an `id`", item.what))
            .help("add `id: NAME`; it names the trigger in what is shown of it");
        return None;
    };
    let text = shape::text(report, entry, "id: nightly")?;
    let span = entry.value.span.clone();
    if !is_name(text) {
        report
            .add(code::BAD_NAME, span, format!("the `id` of {} is lower case with hyphens", item.what))
            .help("write an id such as `every-30m`, of at most 64 characters");
        return None;
    }
    if let Some(first) = ids.get(text) {
        report
            .add(code::TAKEN_NAME, span, format!("there are two triggers `{text}`"))
            .also(first.clone(), "the first one")
            .help("rename one of them");
        return None;
    }
    ids.insert(text.to_owned(), span);
    Some(text.to_owned())
}

/// Whether a text is a name of a trigger or of a workflow.
fn is_name(text: &str) -> bool {
    const MAX_NAME: usize = 64;
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

/// What expressions of a trigger see: no run is there yet.
fn names<'a>(
    place: &'a str,
    values: &'a [(String, Option<Type>)],
    secrets: &'a IndexSet<String>,
) -> Names<'a> {
    Names { run: false, hashes: false, values, ..Names::new(place, secrets) }
}

/// The inputs of the runs that a trigger starts.
fn inputs(
    report: &mut Report,
    item: &Item<'_>,
    values: &[(String, Option<Type>)],
    started: &Started<'_>,
    usage: &mut Usage,
) -> IndexMap<String, Template> {
    let names = names(item.what, values, started.secrets);
    let entry = item.fields.get("inputs");
    let entries = entry.and_then(|entry| shape::mapping(report, entry, "inputs: { name: value }"));
    let entries = entries.unwrap_or_default();
    let mut inputs = IndexMap::new();
    for entry in entries {
        usage.inputs.insert(entry.key.clone());
        // What is wrong with the input itself is reported where it is declared.
        if started.types.contains_key(&entry.key) && !started.inputs.contains_key(&entry.key) {
            continue;
        }
        if let Some(template) = argument(report, entry, THIS, started.inputs, &names, usage) {
            inputs.insert(entry.key.clone(), template);
        }
    }
    let span = entry.map_or(item.span.clone(), |entry| entry.key_span.clone());
    for name in missing(started.inputs, entries) {
        report
            .add(
                code::MISSING_PARAMETER,
                span.clone(),
                format!("{} starts runs without the input `{name}`, which has no default", item.what),
            )
            .help(format!("write `inputs: {{ {name}: ... }}` here, or give the input a default"));
    }
    inputs
}

fn webhook(
    report: &mut Report,
    item: &Item<'_>,
    id: Option<String>,
    started: &Started<'_>,
    usage: &mut Usage,
) -> Option<Webhook> {
    let event = [("event".to_owned(), Some(Type::Any))];
    let inputs = inputs(report, item, &event, started, usage);
    let path = match item.fields.get("path") {
        Some(entry) => path(report, entry),
        None => {
            report
                .add(code::MISSING_KEY, item.span.clone(), "a webhook without a `path`")
                .help("add `path: /hooks/NAME`");
            None
        }
    };
    let secret = verify(report, item, started, usage);
    let condition = item.fields.get("if").and_then(|entry| {
        let names = names(item.what, &event, started.secrets);
        condition(report, entry, &names, usage)
    });
    Some(Webhook { id: id?, path: path?, hmac_sha256: secret?, condition, inputs })
}

fn condition(report: &mut Report, entry: &Entry, names: &Names<'_>, usage: &mut Usage) -> Option<Expression> {
    let text = shape::text(report, entry, "if: event.ref == 'refs/heads/main'")?;
    let condition = Values { report, names, usage, code: code::NOT_BOOL }.condition(entry, text);
    if let Some(value) = condition.as_ref().and_then(constant) {
        let outcome = if value { "every request" } else { "no request" };
        report
            .add(
                code::CONSTANT_CONDITION,
                entry.value.span.clone(),
                format!("this is always {value}: {outcome} starts a run"),
            )
            .help("remove the `if`, or compare something of the `event`");
    }
    condition
}

fn path(report: &mut Report, entry: &Entry) -> Option<String> {
    let path = shape::text(report, entry, "path: /hooks/push")?;
    let rest = path.strip_prefix(HOOKS).unwrap_or_default();
    let word = |part: &str| {
        !part.is_empty()
            && part.chars().any(|c| c != '.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.~".contains(c))
    };
    if path.len() <= MAX_PATH && rest.split('/').all(word) {
        return Some(path.to_owned());
    }
    let tail: String =
        path.trim_start_matches('/').chars().filter(|c| word(&c.to_string()) || *c == '/').collect();
    let example = if tail.is_empty() || tail.len() > 40 || tail.contains("//") { "push" } else { &tail };
    let message = if path.starts_with(HOOKS) {
        "this is no path: parts are of letters, digits, `-`, `_` and `.`".to_owned()
    } else {
        format!("the path of a webhook starts with `{HOOKS}`")
    };
    let example = example.trim_matches('/').trim_start_matches("hooks/");
    report
        .add(code::BAD_VALUE, entry.value.span.clone(), message)
        .help(format!("write one such as `{HOOKS}{example}`"));
    None
}

/// The secret that signs the requests.
fn verify(report: &mut Report, item: &Item<'_>, started: &Started<'_>, usage: &mut Usage) -> Option<String> {
    const EXAMPLE: &str = "verify: { hmac-sha256: SECRET }";
    let Some(entry) = item.fields.get("verify") else {
        report
            .add(code::MISSING_KEY, item.span.clone(), "a webhook without `verify`: anyone could start runs")
            .help(format!("add `{EXAMPLE}`, with the secret that the sender signs requests with"));
        return None;
    };
    let entries = shape::mapping(report, entry, EXAMPLE)?;
    let verify = shape::fields(report, entries, &VERIFY);
    let Some(secret) = verify.get("hmac-sha256") else {
        if entries.is_empty() {
            report
                .add(code::MISSING_KEY, entry.key_span.clone(), "`verify` does not say how")
                .help(format!("write `{EXAMPLE}`"));
        }
        return None;
    };
    let name = shape::text(report, secret, "hmac-sha256: SECRET")?;
    usage.secrets.insert(name.to_owned());
    if started.secrets.contains(name) {
        return Some(name.to_owned());
    }
    let help = if started.secrets.is_empty() {
        "declare it: `secrets: { hook: { from: env:WEBHOOK_SECRET } }` at the top".to_owned()
    } else {
        suggest::help("the secrets are", name, started.secrets.iter().map(String::as_str))
    };
    // The text may be the secret itself, so the message does not repeat it.
    report.add(code::UNKNOWN_SECRET, secret.value.span.clone(), "there is no secret of this name").help(help);
    None
}

fn completion(
    report: &mut Report,
    item: &Item<'_>,
    started: &Started<'_>,
    usage: &mut Usage,
) -> Option<Completion> {
    let inputs = inputs(report, item, &[], started, usage);
    let status: Vec<String> = match item.fields.get("status") {
        Some(entry) => shape::texts(report, entry, "status: succeeded")
            .into_iter()
            .filter_map(|(text, node)| status(report, text, node))
            .collect(),
        None => Vec::new(),
    };
    let Some(entry) = item.fields.get("name") else {
        report
            .add(code::MISSING_KEY, item.span.clone(), "this does not say which workflow starts runs")
            .help(format!("write `{WORKFLOW_EXAMPLE}`"));
        return None;
    };
    let name = shape::text(report, entry, "name: other")?;
    let span = entry.value.span.clone();
    if !is_name(name) {
        let help = if name.ends_with(".yaml") || name.ends_with(".yml") {
            "write what stands behind `name:` in that file, not the file's name"
        } else {
            "write a name such as `publish-base-image`"
        };
        report.add(code::BAD_NAME, span, "the name of a workflow is lower case with hyphens").help(help);
        return None;
    }
    if name == started.workflow {
        report
            .add(code::RECURSION, span, "the end of each run would start the next one, for ever")
            .help("name another workflow; `schedule` repeats runs");
        return None;
    }
    Some(Completion { name: name.to_owned(), status, inputs })
}

fn status(report: &mut Report, text: &str, node: &Node) -> Option<String> {
    if STATUSES.contains(&text) {
        return Some(text.to_owned());
    }
    let help = suggest::help("it is one of", text, STATUSES);
    let message = format!("no run ends as `{}`", crate::workflow::literal::shown(text));
    report.add(code::BAD_VALUE, node.span.clone(), message).help(help);
    None
}
