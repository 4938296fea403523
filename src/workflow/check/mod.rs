//! From the text of a file to a checked [`Workflow`], or everything that is wrong with it at once. Pure: components
//! come from a [`Catalog`]. One mistake gives one diagnostic, at the line of the offending key or value; what only
//! follows from a reported mistake is not reported.

mod approve;
mod arguments;
mod cache;
mod call;
mod concurrency;
mod constant;
mod credential;
mod declare;
mod for_each;
pub(crate) mod grammar;
mod handles;
mod inject;
mod keys;
mod mock;
mod network;
mod order;
mod permission;
mod raw;
mod retry;
mod sandbox;
mod schedule;
mod shape;
mod step;
mod sub_workflow;
pub(crate) mod survey;
mod trigger;
mod uses;
mod value;
mod world;

pub use inject::injections;
pub use mock::mocks;

use super::cel::typing::{Names, Usage};
use super::code;
use super::diagnostic::{Diagnostic, Report, Source};
use super::file::{self, Entry, Kind};
use super::model::{Output, Workflow};
use super::types::{Catalog, Type};
use crate::id::StepId;
pub(crate) use concurrency::MAX_IN_GROUP;
pub(crate) use for_each::MAX_PARALLEL;
pub(crate) use grammar::WORKFLOW;
use indexmap::{IndexMap, IndexSet};
pub(crate) use keys::{Key, Keys, Shape};
pub(crate) use retry::MAX_ATTEMPTS;
use step::Around;
pub(crate) use sub_workflow::KINDS as SUB_WORKFLOW_KINDS;
use sub_workflow::{Nest, Workflows};
pub(crate) use survey::Survey;
pub(crate) use uses::{MAJOR, names_workflow};
use value::Values;
use world::{View, World};

/// Milliseconds that `finally` may take: it must not keep a run that is over.
const FINALLY_TIMEOUT_MS: u64 = 5 * 60 * 1000;

/// What came of checking a file.
#[derive(Debug)]
pub struct Checked {
    /// The workflow, where no diagnostic is an error.
    pub workflow: Option<Workflow>,
    /// All diagnostics, by place.
    pub diagnostics: Vec<Diagnostic>,
}

impl Checked {
    /// Whether the workflow may run.
    pub fn is_good(&self) -> bool {
        self.workflow.is_some()
    }
}

/// Checks the text of a workflow file. `file_name` is what diagnostics print.
pub fn check(file_name: &str, text: &str, catalog: &dyn Catalog) -> Checked {
    check_file(file_name, text, catalog, &Nest::default()).0
}

/// Checks a file that others may be using. Also says of how many files below one another it consists.
fn check_file(file_name: &str, text: &str, catalog: &dyn Catalog, nest: &Nest) -> (Checked, usize) {
    let mut report = Report::new(Source::new(file_name, text));
    let mut workflows = Workflows::new(catalog, nest);
    let workflow = lower(&mut report, catalog, &mut workflows);
    if let (Some(workflow), 0) = (&workflow, report.errors()) {
        sub_workflow::fits(&mut report, workflow);
    }
    let workflow = workflow.filter(|_| report.errors() == 0);
    (Checked { workflow, diagnostics: report.finish() }, workflows.depth)
}

fn lower(report: &mut Report, catalog: &dyn Catalog, workflows: &mut Workflows<'_>) -> Option<Workflow> {
    let root = file::read(report)?;
    let Kind::Map(entries) = &root.kind else {
        report
            .add(
                code::WRONG_SHAPE,
                root.span.clone(),
                format!("a workflow file is a mapping, not {}", root.describe()),
            )
            .help("start with `harvest: 1`, `name: my-workflow` and `steps:`");
        return None;
    };
    credential::find(report, &root);
    let fields = shape::fields(report, entries, &WORKFLOW);
    let start = entries.first().map_or(0..0, |entry| entry.key_span.clone());
    version(report, &fields, &start);
    let name = name(report, &fields, &start);
    let description =
        fields.get("description").and_then(|entry| shape::text(report, entry, "description: what it is for"));
    let (input_types, inputs) =
        fields.get("inputs").map(|entry| declare::inputs(report, entry)).unwrap_or_default();
    let secrets = fields.get("secrets").map(|entry| declare::secrets(report, entry)).unwrap_or_default();
    let secret_names: IndexSet<String> = secrets.keys().cloned().collect();
    let timeout_ms = fields.get("timeout").and_then(|entry| shape::duration(report, entry));
    let budget_micro_usd = fields.get("budget").and_then(|entry| shape::money(report, entry));
    let permissions = fields
        .get("permissions")
        .map(|entry| permission::read(report, entry, &secret_names))
        .unwrap_or_default();
    let mut usage = Usage::default();
    let concurrency = fields.get("concurrency").and_then(|entry| {
        let names =
            Names { inputs: Some(&input_types), ..Names::new("the group of a workflow", &secret_names) };
        concurrency::concurrency(report, entry, &names, &mut usage)
    });
    let triggers = fields.get("on").map(|entry| {
        let started = trigger::Started {
            workflow: &name,
            inputs: &inputs,
            types: &input_types,
            secrets: &secret_names,
        };
        trigger::triggers(report, entry, &started, &mut usage)
    });
    let sandboxes = {
        let names = Names { inputs: Some(&input_types), ..Names::new("a sandbox", &secret_names) };
        sandbox::sandboxes(report, fields.get("sandboxes"), &names, &mut usage)
    };
    let components = uses::Components::new(catalog);
    let raw = raw::Reader {
        report: &mut *report,
        components,
        workflows,
        seen: IndexMap::new(),
        twice: IndexSet::new(),
    }
    .file(&fields, &start);
    let known = world::known(&raw, &input_types, &secret_names);
    let world = World {
        inputs: &input_types,
        secrets: &secret_names,
        sandboxes: &sandboxes,
        permissions: &permissions,
        steps: &known,
    };
    let raw = raw.steps;
    let (mut steps, mut finally) = (IndexMap::new(), IndexMap::new());
    for raw in &raw {
        if let Some(step) = step::step(report, raw, &world, Around::default(), &mut usage) {
            if raw.finally { &mut finally } else { &mut steps }.insert(StepId::new(raw.id), step);
        }
    }
    order::cycles(report, &raw, &steps);
    order::cycles(report, &raw, &finally);
    network::at_once(report, &raw, &steps, &sandboxes);
    network::at_once(report, &raw, &finally, &sandboxes);
    constant::conditions(report, &raw, &steps);
    constant::conditions(report, &raw, &finally);
    let outputs = fields.get("outputs").map(|entry| {
        let view = View::of_outputs(&known);
        let names = Names {
            inputs: Some(&input_types),
            steps: Some(&view),
            ..Names::new("an output", &secret_names)
        };
        outputs(report, entry, &names, &mut usage)
    });
    if report.errors() == 0 {
        unused(report, &fields, &usage);
    }
    Some(Workflow {
        name,
        description: description.map(str::to_owned),
        inputs,
        secrets,
        sandboxes,
        timeout_ms,
        budget_micro_usd,
        concurrency,
        triggers: triggers.unwrap_or_default(),
        steps,
        finally,
        finally_timeout_ms: FINALLY_TIMEOUT_MS,
        outputs: outputs.unwrap_or_default(),
        hashes: usage.hashes.into_iter().collect(),
    })
}

fn version(report: &mut Report, fields: &shape::Fields<'_>, start: &std::ops::Range<usize>) {
    match fields.get("harvest") {
        None => {
            report
                .add(
                    code::MISSING_KEY,
                    start.clone(),
                    "the file does not say which version of the grammar it is written in",
                )
                .help("start it with `harvest: 1`");
        }
        Some(entry) => {
            if shape::text(report, entry, "harvest: 1").is_some_and(|text| text != "1") {
                report
                    .add(
                        code::BAD_VALUE,
                        entry.value.span.clone(),
                        "this version of the grammar does not exist",
                    )
                    .help("write `harvest: 1`");
            }
        }
    }
}

fn name(report: &mut Report, fields: &shape::Fields<'_>, start: &std::ops::Range<usize>) -> String {
    /// Names become parts of file names and pages.
    const MAX_NAME: usize = 64;
    let Some(entry) = fields.get("name") else {
        report
            .add(code::MISSING_KEY, start.clone(), "the workflow has no name")
            .help("add `name: my-workflow`");
        return String::new();
    };
    let Some(text) = shape::text(report, entry, "name: my-workflow") else { return String::new() };
    let good = text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    if !good {
        report
            .add(
                code::BAD_NAME,
                entry.value.span.clone(),
                "the name of a workflow is lower case with hyphens",
            )
            .help(format!("write a name such as `my-workflow`, of at most {MAX_NAME} characters"));
    }
    text.to_owned()
}

fn outputs(
    report: &mut Report,
    entry: &Entry,
    names: &Names<'_>,
    usage: &mut Usage,
) -> IndexMap<String, Output> {
    let mut outputs = IndexMap::new();
    for entry in
        shape::mapping(report, entry, "outputs: { sha: \"${{ steps.commit.sha }}\" }").unwrap_or_default()
    {
        shape::data_name(report, entry, "an output");
        let mut values = Values { report, names, usage, code: code::BAD_VALUE };
        if let Some((value, ty)) = values.infer(&entry.value) {
            outputs.insert(entry.key.clone(), Output { value, ty: ty.unwrap_or(Type::Any) });
        }
    }
    outputs
}

fn unused(report: &mut Report, fields: &shape::Fields<'_>, usage: &Usage) {
    let sections = [
        ("inputs", &usage.inputs, code::UNUSED_INPUT, "input", "`${{ inputs.NAME }}`"),
        ("secrets", &usage.secrets, code::UNUSED_SECRET, "secret", "`secrets: { slot: NAME }` in a step"),
    ];
    for (key, used, code, what, example) in sections {
        let Some(Kind::Map(entries)) = fields.get(key).map(|entry| &entry.value.kind) else { continue };
        for entry in entries.iter().filter(|entry| !used.contains(&entry.key)) {
            report
                .add(code, entry.key_span.clone(), format!("{what} `{}` is never used", entry.key))
                .help(format!("remove it, or use it: {}", example.replace("NAME", &entry.key)));
        }
    }
}

#[cfg(test)]
mod tests;
