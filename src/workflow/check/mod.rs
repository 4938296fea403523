//! From the text of a file to a checked [`Workflow`], or everything that is wrong with it at once. Pure: components
//! come from a [`Catalog`]. One mistake gives one diagnostic, at the line of the offending key or value; what only
//! follows from a reported mistake is not reported.

mod credential;
mod declare;
mod grammar;
mod keys;
mod permission;
mod sandbox;
mod shape;
mod step;
pub(crate) mod survey;
mod uses;
mod value;

use super::cel::typing::{Names, StepNames, Usage};
use super::code;
use super::diagnostic::{Diagnostic, Report, Source};
use super::file::{self, Entry, Kind};
use super::graph;
use super::model::{Output, Workflow};
use super::types::{Catalog, Type};
use crate::id::StepId;
use crate::step::Permission;
pub use grammar::WORKFLOW;
use indexmap::{IndexMap, IndexSet};
pub use keys::{Key, Keys, Shape};
use step::RawStep;
pub(crate) use survey::Survey;
use value::Values;

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

/// What a step of the file is known by.
struct KnownStep {
    finally: bool,
    names: StepNames,
}

/// What steps refer to.
struct World<'w> {
    secrets: &'w IndexSet<String>,
    sandboxes: &'w IndexMap<String, super::model::SandboxTemplate>,
    permissions: &'w [Permission],
    steps: &'w IndexMap<String, KnownStep>,
}

/// Checks the text of a workflow file. `file_name` is what diagnostics print.
pub fn check(file_name: &str, text: &str, catalog: &dyn Catalog) -> Checked {
    let mut report = Report::new(Source::new(file_name, text));
    let workflow = lower(&mut report, catalog);
    let workflow = workflow.filter(|_| report.errors() == 0);
    Checked { workflow, diagnostics: report.finish() }
}

fn lower(report: &mut Report, catalog: &dyn Catalog) -> Option<Workflow> {
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
    version(report, fields.get("harvest"), &start);
    let name = name(report, fields.get("name"), &start);
    let description =
        fields.get("description").and_then(|entry| shape::text(report, entry, "description: what it is for"));
    let (input_types, inputs) =
        fields.get("inputs").map(|entry| declare::inputs(report, entry)).unwrap_or_default();
    let secrets = fields.get("secrets").map(|entry| declare::secrets(report, entry)).unwrap_or_default();
    let secret_names: IndexSet<String> = secrets.keys().cloned().collect();
    let timeout_ms = fields.get("timeout").and_then(|entry| shape::duration(report, entry));
    let permissions = fields
        .get("permissions")
        .map(|entry| permission::read(report, entry, &secret_names))
        .unwrap_or_default();
    let mut usage = Usage::default();
    let sandboxes = {
        let names = Names {
            place: "a sandbox",
            inputs: Some(&input_types),
            steps: None,
            step_names: &[],
            secrets: &secret_names,
            finished: false,
        };
        sandbox::sandboxes(report, fields.get("sandboxes"), &names, &mut usage)
    };
    let raw = raw_steps(report, &fields, &start, catalog);
    let mut known = IndexMap::new();
    for raw in &raw {
        let outputs = raw.called.as_ref().map(|called| called.function.outputs.clone());
        let names = StepNames { uses: raw.uses.unwrap_or_default().to_owned(), outputs, hidden: None };
        known.insert(raw.id.clone(), KnownStep { finally: raw.finally, names });
    }
    let world =
        World { secrets: &secret_names, sandboxes: &sandboxes, permissions: &permissions, steps: &known };
    let main_names: Vec<String> =
        known.iter().filter(|(_, step)| !step.finally).map(|(name, _)| name.clone()).collect();
    let all_names: Vec<String> = known.keys().cloned().collect();
    let (mut steps, mut finally) = (IndexMap::new(), IndexMap::new());
    for raw in &raw {
        let lookup = |name: &str| {
            let step = known.get(name)?;
            let hidden = if name == raw.id {
                Some("which is itself".to_owned())
            } else if step.finally && !raw.finally {
                Some("which runs in `finally`, after it".to_owned())
            } else {
                None
            };
            Some(StepNames { hidden, ..step.names.clone() })
        };
        let names = Names {
            place: if raw.finally { "a step of `finally`" } else { "a step" },
            inputs: Some(&input_types),
            steps: Some(&lookup),
            step_names: if raw.finally { &all_names } else { &main_names },
            secrets: &secret_names,
            finished: raw.finally,
        };
        if let Some(step) = step::step(report, raw, &world, &names, &mut usage) {
            if raw.finally { &mut finally } else { &mut steps }.insert(StepId::new(&raw.id), step);
        }
    }
    cycles(report, &raw, &steps);
    cycles(report, &raw, &finally);
    let outputs = fields.get("outputs").map(|entry| {
        let lookup = |name: &str| {
            let step = known.get(name)?;
            let hidden = step.finally.then(|| "which runs in `finally`".to_owned());
            Some(StepNames { hidden, ..step.names.clone() })
        };
        let names = Names {
            place: "an output",
            inputs: Some(&input_types),
            steps: Some(&lookup),
            step_names: &main_names,
            secrets: &secret_names,
            finished: false,
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
        steps,
        finally,
        finally_timeout_ms: FINALLY_TIMEOUT_MS,
        outputs: outputs.unwrap_or_default(),
    })
}

fn version(report: &mut Report, entry: Option<&Entry>, start: &std::ops::Range<usize>) {
    match entry {
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

fn name(report: &mut Report, entry: Option<&Entry>, start: &std::ops::Range<usize>) -> String {
    /// Names become parts of file names and pages.
    const MAX_NAME: usize = 64;
    let Some(entry) = entry else {
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

fn raw_steps<'n>(
    report: &mut Report,
    fields: &shape::Fields<'n>,
    start: &std::ops::Range<usize>,
    catalog: &dyn Catalog,
) -> Vec<RawStep<'n>> {
    const EXAMPLE: &str = "steps: { hello: { uses: exec/run, with: { command: [echo, hello] } } }";
    let mut components = uses::Components::new(catalog);
    let mut steps: Vec<RawStep<'n>> = Vec::new();
    let mut seen: IndexMap<&str, &Entry> = IndexMap::new();
    for (key, finally) in [("steps", false), ("finally", true)] {
        let Some(section) = fields.get(key) else {
            if !finally {
                report
                    .add(code::MISSING_KEY, start.clone(), "the workflow has no steps")
                    .help(format!("add `{EXAMPLE}`"));
            }
            continue;
        };
        let entries = shape::mapping(report, section, &EXAMPLE.replace("steps", key)).unwrap_or_default();
        if entries.is_empty() && matches!(section.value.kind, Kind::Map(_)) {
            report
                .add(code::MISSING_KEY, section.key_span.clone(), format!("`{key}` is empty"))
                .help(format!("write `{}`", EXAMPLE.replace("steps", key)));
        }
        for entry in entries {
            shape::data_name(report, entry, "a step");
            if let Some(first) = seen.get(entry.key.as_str()) {
                report
                    .add(
                        code::DUPLICATE_KEY,
                        entry.key_span.clone(),
                        format!("there are two steps `{}`", entry.key),
                    )
                    .also(first.key_span.clone(), "the first one")
                    .help("rename one of them");
                continue;
            }
            seen.insert(&entry.key, entry);
            let example = format!("{}: {{ uses: exec/run, with: {{ command: [echo, hello] }} }}", entry.key);
            let known = shape::mapping(report, entry, &example);
            let unsupported = known
                .unwrap_or_default()
                .iter()
                .any(|entry| grammar::STEP.later.contains(&entry.key.as_str()));
            let step_fields = shape::fields(report, known.unwrap_or_default(), &grammar::STEP);
            let uses =
                step_fields.get("uses").and_then(|entry| shape::text(report, entry, "uses: git/clone"));
            // `approve:` and a group of `steps:` have no `uses`; that they are not supported is said already.
            if step_fields.get("uses").is_none() && known.is_some() && !unsupported {
                report
                    .add(
                        code::MISSING_KEY,
                        entry.key_span.clone(),
                        format!("step `{}` does not say what it uses", entry.key),
                    )
                    .help("add `uses: component/function`, such as `uses: exec/run`");
            }
            let called = match (step_fields.get("uses"), uses) {
                (Some(entry), Some(text)) => components.find(report, &entry.value, text),
                _ => None,
            };
            steps.push(RawStep { id: entry.key.clone(), entry, fields: step_fields, uses, called, finally });
        }
    }
    steps
}

fn cycles(report: &mut Report, raw: &[RawStep<'_>], steps: &IndexMap<StepId, super::model::Step>) {
    let index = |name: &str| steps.get_index_of(name);
    let edges: Vec<_> = steps
        .values()
        .enumerate()
        .flat_map(|(from, step)| step::edges(step).filter_map(move |to| Some((from, index(to)?))))
        .collect();
    for cycle in graph::cycles(steps.len(), &edges) {
        let ids: Vec<&str> =
            cycle.iter().filter_map(|at| steps.get_index(*at)).map(|(id, _)| id.as_str()).collect();
        let Some(first) = ids.first() else { continue };
        let path = ids.iter().chain([first]).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(" -> ");
        let spans: Vec<_> = ids
            .iter()
            .filter_map(|id| raw.iter().find(|raw| raw.id == *id))
            .map(|raw| raw.entry.key_span.clone())
            .collect();
        let Some(span) = spans.first() else { continue };
        report
            .add(code::CYCLE, span.clone(), format!("these steps wait for each other: {path}"))
            .help("remove one of the `needs` or `${{ steps... }}` between them");
    }
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
