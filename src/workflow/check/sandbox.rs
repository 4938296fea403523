//! The sandboxes of a workflow.

use super::grammar::{IMAGE, REQUIRE, SANDBOX};
use super::network::network;
use super::shape;
use super::value::Values;
use crate::isolation::{PARTS, PROVIDERS, Require};
use crate::network::Network;
use crate::workflow::cel::typing::{Names, Usage};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Entry, Kind, Node};
use crate::workflow::model::{SandboxTemplate, Template};
use crate::workflow::types::Type;
use indexmap::IndexMap;
use serde_json::Value;
use std::collections::BTreeMap;

/// The name of the sandbox of a workflow that declares none.
pub(super) const DEFAULT_NAME: &str = "box";

/// A sandbox with this machine's own userland and no network.
pub(super) fn plain() -> SandboxTemplate {
    SandboxTemplate {
        image: Template::Literal(Value::String("host".into())),
        image_fallback: None,
        volumes: BTreeMap::new(),
        env: BTreeMap::new(),
        network: Network::None,
        cpu: None,
        memory: None,
        disk: None,
        timeout_ms: None,
        workdir: None,
        user: None,
        keep: false,
        require: Require::default(),
    }
}

/// Reads `sandboxes:`.
pub(super) fn sandboxes(
    report: &mut Report,
    entry: Option<&Entry>,
    names: &Names<'_>,
    usage: &mut Usage,
) -> IndexMap<String, SandboxTemplate> {
    let mut sandboxes = IndexMap::new();
    if let Some(entry) = entry {
        for entry in shape::mapping(report, entry, "sandboxes: { box: { image: host } }").unwrap_or_default()
        {
            let (name, _) = shape::data_name(report, entry, "a sandbox");
            let sandbox = sandbox(report, entry, names, usage);
            sandboxes.insert(name, sandbox);
        }
    }
    if sandboxes.is_empty() {
        sandboxes.insert(DEFAULT_NAME.to_owned(), plain());
    }
    sandboxes
}

fn sandbox(report: &mut Report, entry: &Entry, names: &Names<'_>, usage: &mut Usage) -> SandboxTemplate {
    let mut sandbox = plain();
    let Some(entries) = shape::mapping(report, entry, &format!("{}: {{ image: host }}", entry.key)) else {
        return sandbox;
    };
    let fields = shape::fields(report, entries, &SANDBOX);
    let mut template = |report: &mut Report, node: &Node, what: &str| {
        let mut values = Values { report, names, usage, code: code::BAD_VALUE };
        values.read(node, &Type::String, what)
    };
    if let Some(entry) = fields.get("image") {
        match &entry.value.kind {
            Kind::Map(entries) => {
                let fields = shape::fields(report, entries, &IMAGE);
                match fields.get("ref") {
                    Some(entry) => {
                        sandbox.image = template(report, &entry.value, "`ref`").unwrap_or(sandbox.image)
                    }
                    None => {
                        report
                            .add(code::MISSING_KEY, entry.key_span.clone(), "the image has no `ref`")
                            .help("write `image: NAME`, or `image: { ref: NAME, fallback: OTHER }`");
                    }
                }
                sandbox.image_fallback =
                    fields.get("fallback").and_then(|entry| template(report, &entry.value, "`fallback`"));
            }
            _ => sandbox.image = template(report, &entry.value, "`image`").unwrap_or(sandbox.image),
        }
    }
    if let Some(entry) = fields.get("volumes") {
        for entry in shape::mapping(report, entry, "volumes: { /mnt/data: my-volume }").unwrap_or_default() {
            if !entry.key.starts_with('/') || entry.key.split('/').any(|part| part == "..") {
                report
                    .add(
                        code::BAD_VALUE,
                        entry.key_span.clone(),
                        format!("`{}` is no absolute path", entry.key),
                    )
                    .help("a volume is written as `/path/inside: volume-name`");
            }
            if let Some(value) = template(report, &entry.value, &format!("the volume at `{}`", entry.key)) {
                sandbox.volumes.insert(entry.key.clone(), value);
            }
        }
    }
    if let Some(entry) = fields.get("env") {
        for entry in shape::mapping(report, entry, "env: { NAME: value }").unwrap_or_default() {
            if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
                report
                    .add(
                        code::BAD_NAME,
                        entry.key_span.clone(),
                        format!("`{}` is no name of a variable", entry.key),
                    )
                    .help("write `NAME: value`");
            }
            if let Some(value) = template(report, &entry.value, &format!("`{}`", entry.key)) {
                sandbox.env.insert(entry.key.clone(), value);
            }
        }
    }
    if let Some(entry) = fields.get("network") {
        sandbox.network = network(report, entry).unwrap_or_default();
    }
    if let Some(entry) = fields.get("cpu") {
        sandbox.cpu = shape::scalar(report, entry, &Type::Float, "2").and_then(|value| value.as_f64());
        if sandbox.cpu.is_some_and(|cores| cores <= 0.0) {
            report
                .add(code::BAD_VALUE, entry.value.span.clone(), "`cpu` must be more than nothing")
                .help("write a number of cores, such as `2`");
        }
    }
    sandbox.memory = fields.get("memory").and_then(|entry| size(report, entry));
    sandbox.disk = fields.get("disk").and_then(|entry| size(report, entry));
    sandbox.timeout_ms = fields.get("timeout").and_then(|entry| shape::duration(report, entry));
    sandbox.workdir = fields.get("workdir").and_then(|entry| text(report, entry, "/workspace"));
    sandbox.user = fields.get("user").and_then(|entry| text(report, entry, "developer"));
    if let Some(entry) = fields.get("keep") {
        sandbox.keep = shape::scalar(report, entry, &Type::Bool, "true").is_some_and(|value| value == true);
    }
    if let Some(entry) = fields.get("require") {
        sandbox.require = require(report, entry, |limit| fields.get(limit).is_some());
    }
    sandbox
}

fn size(report: &mut Report, entry: &Entry) -> Option<u64> {
    let size = shape::scalar(report, entry, &Type::Size, "4GiB").and_then(|value| value.as_u64());
    if size == Some(0) {
        report
            .add(
                code::BAD_VALUE,
                entry.value.span.clone(),
                format!("`{}` must be more than nothing", entry.key),
            )
            .help("write a size such as `4GiB`");
    }
    size
}

fn text(report: &mut Report, entry: &Entry, example: &str) -> Option<String> {
    shape::scalar(report, entry, &Type::String, example)?.as_str().map(str::to_owned)
}

/// Reads `require:` of a sandbox. What is asked of a limit that it does not have is reported.
fn require(report: &mut Report, entry: &Entry, has: impl Fn(&str) -> bool) -> Require {
    let mut require = Require::default();
    let entries = shape::mapping(report, entry, "require: { memory: cgroup }").unwrap_or_default();
    let fields = shape::fields(report, entries, &REQUIRE);
    require.provider = fields.get("provider").and_then(|entry| shape::word(report, entry, &PROVIDERS));
    for part in &PARTS {
        let Some(entry) = fields.get(part.name) else { continue };
        let Some(level) = shape::word(report, entry, part.levels) else { continue };
        if let Some(limit) = part.limit.filter(|limit| !has(limit)) {
            let message = format!("the sandbox has no limit of its {}, so that nothing holds it", part.name);
            let example = if limit == "cpu" { "cpu: 2" } else { &format!("{limit}: 4GiB") };
            report
                .add(code::CONFLICTING, entry.key_span.clone(), message)
                .help(format!("write `{example}` in the sandbox, or remove `{}` here", part.name));
            continue;
        }
        require.levels.insert(part.name.to_owned(), level);
    }
    require
}
