//! A step that runs another workflow file: finds and checks that file, and what the step hands to it.

use super::raw::RawStep;
use super::shape;
use super::value::Values;
use super::{arguments, concurrency, retry};
use crate::step::ErrorKind;
use crate::workflow::cel::typing::{Names, Usage, parts};
use crate::workflow::code;
use crate::workflow::diagnostic::{Diagnostic, Report};
use crate::workflow::file::{Entry, Node};
use crate::workflow::inputs;
use crate::workflow::model::{Action, Input, SubWorkflow, Template, Workflow};
use crate::workflow::suggest;
use crate::workflow::types::{Catalog, Field, Type};
use indexmap::IndexMap;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Most files below one another: more is no structure that a person follows.
const MAX_DEPTH: usize = 8;

/// Most bytes of a checked workflow as JSON, every use of another file counted: all of it travels in `RunStarted`, beside
/// the text of the file and the inputs, and an event has at most 4 MiB.
const MAX_DEFINITION: usize = 2 << 20;

/// Most types that the types of a file's outputs may be built of; they become part of other types.
const MAX_OUTPUT_TYPES: usize = 1_000;

/// The kinds of error with which the run of another workflow ends.
pub(crate) const KINDS: [&str; 2] = ["failed", "rejected"];

/// A checked workflow file that another one uses.
#[derive(Debug)]
pub(super) struct SubFile {
    pub(super) definition: Arc<Workflow>,
    /// Its outputs as the step has them.
    pub(super) outputs: Vec<Field>,
    /// Bytes of its definition as JSON.
    bytes: usize,
    /// Files below one another, itself included.
    depth: usize,
}

/// What is shared by the checks of all files that one file leads to.
#[derive(Default)]
pub(super) struct Nest {
    /// Identity and name of the files that are being checked, outermost first; without the very first.
    open: RefCell<Vec<(String, String)>>,
    /// What came of the files that have been checked, by identity.
    checked: RefCell<HashMap<String, Result<Arc<SubFile>, Refusal>>>,
}

/// Why a file cannot be used: what is said at each `uses` of it.
#[derive(Clone)]
struct Refusal {
    code: code::Code,
    message: String,
    help: String,
}

/// The workflow files that one file names.
pub(super) struct Workflows<'c> {
    catalog: &'c dyn Catalog,
    nest: &'c Nest,
    /// Bytes of the definitions of all that it uses so far.
    bytes: usize,
    /// Files below one another, itself included.
    pub(super) depth: usize,
}

impl<'c> Workflows<'c> {
    pub(super) fn new(catalog: &'c dyn Catalog, nest: &'c Nest) -> Self {
        Self { catalog, nest, bytes: 0, depth: 1 }
    }

    /// The workflow that `uses` names; reports where it cannot be used.
    pub(super) fn find(&mut self, report: &mut Report, node: &Node, uses: &str) -> Option<Arc<SubFile>> {
        let found = self.load(uses).and_then(|file| {
            self.bytes = self.bytes.saturating_add(file.bytes);
            self.depth = self.depth.max(file.depth + 1);
            if self.bytes > MAX_DEFINITION {
                return Err(Refusal {
                    code: code::TOO_LARGE,
                    message: format!("all sub-workflows have more than {} MiB", MAX_DEFINITION >> 20),
                    help: "use fewer or smaller sub-workflows; every use counts".into(),
                });
            }
            if self.nest.open.borrow().len() + self.depth > MAX_DEPTH {
                return Err(too_deep());
            }
            Ok(file)
        });
        match found {
            Ok(file) => Some(file),
            Err(refusal) => {
                report.add(refusal.code, node.span.clone(), refusal.message).help(refusal.help);
                None
            }
        }
    }

    fn load(&self, uses: &str) -> Result<Arc<SubFile>, Refusal> {
        let refuse = |code, message: String, help: &str| Err(Refusal { code, message, help: help.into() });
        if uses.contains("${{") {
            let message = "`uses` takes no expression: types are checked before anything runs".into();
            return refuse(code::BAD_USES, message, "write the file's name");
        }
        if !uses.ends_with(".yaml") && !uses.ends_with(".yml") {
            let path = uses.split(['#', '@']).next().unwrap_or_default();
            let message = "a sub-workflow has neither functions nor versions".into();
            return refuse(code::BAD_USES, message, &format!("write `{path}`"));
        }
        if !["./", "../", "/"].iter().any(|start| uses.starts_with(start)) {
            let message = "the path of a sub-workflow starts with `./`".into();
            return refuse(code::BAD_USES, message, &format!("write `./{uses}`"));
        }
        let file = match self.catalog.workflow(uses) {
            Ok(file) => file,
            Err(reason) => {
                return refuse(
                    code::UNKNOWN_WORKFLOW,
                    format!("`{uses}` cannot be used as a workflow"),
                    &reason,
                );
            }
        };
        {
            let open = self.nest.open.borrow();
            if let Some(at) = open.iter().position(|(identity, _)| *identity == file.identity) {
                let names = open[at..].iter().map(|(_, name)| name.as_str()).chain([file.name.as_str()]);
                let path = names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" -> ");
                let message = format!("this workflow uses itself: {path}");
                return refuse(
                    code::RECURSION,
                    message,
                    "a workflow cannot run itself, not even through another; `for-each` repeats steps",
                );
            }
            if open.len() + 1 >= MAX_DEPTH {
                return Err(too_deep());
            }
        }
        if let Some(known) = self.nest.checked.borrow().get(&file.identity) {
            return known.clone();
        }
        self.nest.open.borrow_mut().push((file.identity.clone(), file.name.clone()));
        let (checked, depth) = super::check_file(&file.name, &file.text, file.catalog.as_ref(), self.nest);
        self.nest.open.borrow_mut().pop();
        let result = match checked.workflow {
            Some(workflow) => sub_file(workflow, depth, &file.name),
            None => Err(mistakes(uses, &file.name, &checked.diagnostics)),
        };
        self.nest.checked.borrow_mut().insert(file.identity, result.clone());
        result
    }
}

/// Bytes of a definition as JSON.
fn size(workflow: &Workflow) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, workflow) {
        Ok(()) => count.0,
        Err(_) => usize::MAX,
    }
}

/// Reports a workflow that cannot be kept with its runs.
pub(super) fn fits(report: &mut Report, workflow: &Workflow) {
    if size(workflow) > MAX_DEFINITION {
        report
            .add(
                code::TOO_LARGE,
                0..0,
                format!("the checked workflow has more than {} MiB", MAX_DEFINITION >> 20),
            )
            .help("split it, or let a `for-each` do what many steps do; large texts belong into files");
    }
}

fn too_deep() -> Refusal {
    Refusal {
        code: code::TOO_LARGE,
        message: format!("sub-workflows nest deeper than {MAX_DEPTH} files"),
        help: "let one file use several, in place of one below the other".into(),
    }
}

fn sub_file(workflow: Workflow, depth: usize, name: &str) -> Result<Arc<SubFile>, Refusal> {
    let field = |(name, output): (&String, &crate::workflow::model::Output)| Field {
        name: name.clone(),
        ty: output.ty.clone(),
        doc: None,
    };
    let outputs: Vec<_> = workflow.outputs.iter().map(field).collect();
    if outputs.iter().map(|output| parts(&output.ty)).sum::<usize>() > MAX_OUTPUT_TYPES {
        return Err(Refusal {
            code: code::TOO_LARGE,
            message: format!("the outputs of {name} are of types with more than {MAX_OUTPUT_TYPES} parts"),
            help: "hand out what is needed alone, such as `list.map(i, i.key)`".into(),
        });
    }
    let bytes = size(&workflow);
    Ok(Arc::new(SubFile { definition: Arc::new(workflow), outputs, bytes, depth }))
}

/// The mistakes of a file as one. That files use one another in a circle, or nest too deep, is said as it is.
fn mistakes(uses: &str, name: &str, diagnostics: &[Diagnostic]) -> Refusal {
    let errors = || diagnostics.iter().filter(|diagnostic| !diagnostic.code.is_warning());
    let Some(first) = errors().next() else {
        // A file without a tree and without an error does not occur; it cannot be used either way.
        return Refusal {
            code: code::SUB_WORKFLOW,
            message: format!("`{uses}` cannot be read"),
            help: format!("run `harvest check {name}`"),
        };
    };
    let help = format!("run `harvest check {name}`");
    let nested =
        first.code == code::RECURSION || first.code == code::TOO_LARGE && first.message == too_deep().message;
    if nested {
        return Refusal {
            code: first.code,
            message: first.message.clone(),
            help: first.help.clone().unwrap_or(help),
        };
    }
    let (line, _) = first.source.position(first.span.start);
    let count = errors().count();
    let about = if count == 1 { "a mistake:".to_owned() } else { format!("{count} mistakes; the first:") };
    Refusal {
        code: code::SUB_WORKFLOW,
        message: format!("`{uses}` has {about} {} in line {line}: {}", first.code, first.message),
        help,
    }
}

/// Checks a step that runs a workflow. `None` where the file cannot be used, which is reported.
pub(super) fn sub_workflow(
    report: &mut Report,
    raw: &RawStep<'_>,
    uses: &str,
    file: Option<&SubFile>,
    names: &Names<'_>,
    usage: &mut Usage,
) -> Option<Action> {
    let with = raw.fields.get("with");
    let entries = with.and_then(|entry| shape::mapping(report, entry, "with: { name: value }"));
    let entries = entries.unwrap_or_default();
    let Some(file) = file else {
        for entry in entries {
            Values { report, names, usage, code: code::WRONG_ARGUMENT }.infer(&entry.value);
        }
        return None;
    };
    let mut given = IndexMap::new();
    for entry in entries {
        if let Some(template) = argument(report, entry, uses, &file.definition.inputs, names, usage) {
            given.insert(entry.key.clone(), template);
        }
    }
    let inputs = &file.definition.inputs;
    let lacking: Vec<_> = missing(inputs, entries).into_iter().map(|name| (name, &inputs[name].ty)).collect();
    arguments::missing(report, raw, uses, &lacking);
    let own = KINDS.map(ErrorKind::new);
    let attempts = retry::attempts(report, &raw.fields, uses, Some(&own), false);
    let concurrency =
        raw.fields.get("concurrency").and_then(|entry| concurrency::concurrency(report, entry, names, usage));
    Some(Action::Workflow(Box::new(SubWorkflow {
        uses: uses.to_owned(),
        definition: file.definition.clone(),
        with: given,
        attempts,
        concurrency,
    })))
}

/// What the file itself is called where its own inputs are given.
pub(super) const THIS: &str = "the workflow";

/// One input of another workflow, or of a run that a trigger starts.
pub(super) fn argument(
    report: &mut Report,
    entry: &Entry,
    label: &str,
    declared: &IndexMap<String, Input>,
    names: &Names<'_>,
    usage: &mut Usage,
) -> Option<Template> {
    let mut values = Values { report, names, usage, code: code::WRONG_ARGUMENT };
    let Some(input) = declared.get(&entry.key) else {
        values.infer(&entry.value);
        let known = declared.keys().map(String::as_str);
        let help = suggest::help("the inputs are", &entry.key, known);
        let (code, message) = match label {
            THIS => (code::UNKNOWN_FIELD, format!("there is no input `{}`", entry.key)),
            other => (code::UNKNOWN_PARAMETER, format!("{other} has no input `{}`", entry.key)),
        };
        report.add(code, entry.key_span.clone(), message).suggest(help);
        return None;
    };
    let template = values.read(&entry.value, &input.ty, &format!("`{}` of {label}", entry.key))?;
    if let Template::Literal(value) = &template
        && let Err(message) = inputs::keeps_limits(input, value)
    {
        report
            .add(
                code::WRONG_ARGUMENT,
                entry.value.span.clone(),
                format!("`{}` of {label} {message}", entry.key),
            )
            .help("the workflow's input has this limit");
        return None;
    }
    Some(template)
}

/// Inputs that must be given and are not. One that is probably meant by an unknown key is not missing as well.
pub(super) fn missing<'w>(declared: &'w IndexMap<String, Input>, entries: &[Entry]) -> Vec<&'w str> {
    let given = |name: &str| {
        entries.iter().any(|entry| {
            entry.key == name
                || !declared.contains_key(&entry.key) && suggest::nearest(&entry.key, [name]).is_some()
        })
    };
    declared
        .iter()
        .filter(|(_, input)| input.default.is_none() && !matches!(input.ty, Type::Option(_)))
        .map(|(name, _)| name.as_str())
        .filter(|name| !given(name))
        .collect()
}
