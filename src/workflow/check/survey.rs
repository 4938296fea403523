//! What a file declares, as far as it can be made out, for editors: names with their places and types. Says nothing of
//! whether the file is right; [`check`](super::check) does.

use super::raw::{self, RawStep};
use super::sub_workflow::{Nest, Workflows};
use super::uses::{self, Called};
use super::world::{self, KnownSteps};
use super::{declare, for_each, grammar, sandbox, shape};
use crate::workflow::Workflow;
use crate::workflow::diagnostic::{Report, Source};
use crate::workflow::doc;
use crate::workflow::file::{self, Entry, Kind, Node};
use crate::workflow::sketch;
use crate::workflow::types::{Catalog, ComponentType, Field, FunctionType, Type};
use indexmap::{IndexMap, IndexSet};
use std::ops::Range;
use std::sync::Arc;

/// The names of a file. Spans are those of the keys.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) inputs: IndexMap<String, Input>,
    pub(crate) secrets: IndexMap<String, Range<usize>>,
    /// Empty spans where the file declares none and has the one that such a file has.
    pub(crate) sandboxes: IndexMap<String, Range<usize>>,
    /// Of `steps` and of `finally`, each loop before its own steps: no two of a file share a name.
    pub(crate) steps: IndexMap<String, Step>,
}

/// An input.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) span: Range<usize>,
    /// `None` where its type is wrong.
    pub(crate) ty: Option<Type>,
    pub(crate) description: Option<String>,
}

/// A step.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) span: Range<usize>,
    pub(crate) finally: bool,
    /// The loop that it is a step of.
    pub(crate) group: Option<String>,
    pub(crate) does: Does,
    /// What it returns, where that is known.
    pub(crate) outputs: Option<Arc<Vec<Field>>>,
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum Does {
    /// It calls a function: as written, and where there is such a function.
    Call { uses: String, called: Option<(Arc<ComponentType>, FunctionType)> },
    /// It runs another workflow: as written, and where that can be used.
    Workflow { uses: String, definition: Option<Arc<Workflow>> },
    /// It asks a person.
    Approve,
    /// It does its own steps for each item of a list.
    ForEach(Option<Item>),
}

/// The item of a loop.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// Of the name.
    pub(crate) span: Range<usize>,
    pub(crate) ty: Option<Type>,
}

impl Step {
    /// What it calls.
    pub(crate) fn called(&self) -> Option<(&ComponentType, &FunctionType)> {
        match &self.does {
            Does::Call { called: Some((component, function)), .. } => Some((component, function)),
            _ => None,
        }
    }

    /// The function it calls.
    pub(crate) fn function(&self) -> Option<&FunctionType> {
        self.called().map(|(_, function)| function)
    }

    /// The workflow that it runs.
    pub(crate) fn workflow(&self) -> Option<&Workflow> {
        if let Does::Workflow { definition, .. } = &self.does { definition.as_deref() } else { None }
    }

    /// What it uses as written, or the key that says what else it does.
    pub(crate) fn uses(&self) -> &str {
        match &self.does {
            Does::Call { uses, .. } | Does::Workflow { uses, .. } => uses,
            Does::Approve => "approve",
            Does::ForEach(_) => "for-each",
        }
    }

    /// What `with` may hold: the parameters of its function, or the inputs of its workflow.
    pub(crate) fn parameters(&self) -> Vec<Field> {
        match (&self.does, self.function()) {
            (_, Some(function)) => {
                let parameter = |field: &Field| {
                    let doc = field.doc.clone().or_else(|| doc::told(function, &field.name));
                    Field { doc, ..field.clone() }
                };
                function.parameters.iter().map(parameter).collect()
            }
            (Does::Workflow { definition: Some(workflow), .. }, _) => {
                let field = |(name, input): (&String, &crate::workflow::model::Input)| {
                    let ty = match (&input.default, &input.ty) {
                        (None, ty) | (_, ty @ Type::Option(_)) => ty.clone(),
                        (Some(_), ty) => Type::Option(Box::new(ty.clone())),
                    };
                    Field { name: name.clone(), ty, doc: input.description.clone() }
                };
                workflow.inputs.iter().map(field).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What it returns, where that is known.
    pub(crate) fn outputs(&self) -> &[Field] {
        self.outputs.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The item that its own steps see.
    pub(crate) fn item(&self) -> Option<&Item> {
        if let Does::ForEach(item) = &self.does { item.as_ref() } else { None }
    }
}

/// Reads the names of a file, whatever else is wrong with it.
pub(crate) fn survey(source: &Arc<Source>, catalog: &dyn Catalog) -> Survey {
    let strict = file::read(&mut Report::new(source.clone()));
    let root = strict.unwrap_or_else(|| sketch::read(&source.text));
    of_tree(source, &root, catalog)
}

fn of_tree(source: &Arc<Source>, root: &Node, catalog: &dyn Catalog) -> Survey {
    let entries = if let Kind::Map(entries) = &root.kind { entries.as_slice() } else { &[] };
    // What the readers have to say against the file is said by the checker.
    let report = &mut Report::new(source.clone());
    let fields = shape::fields(report, entries, &grammar::WORKFLOW);
    let spans =
        |key: &str| children(fields.get(key)).map(|entry| (entry.key.clone(), entry.key_span.clone()));
    let mut survey = Survey {
        secrets: spans("secrets").collect(),
        sandboxes: spans("sandboxes").collect(),
        ..Survey::default()
    };
    if survey.sandboxes.is_empty() {
        survey.sandboxes.insert(sandbox::DEFAULT_NAME.to_owned(), 0..0);
    }
    let (types, mut declared) =
        fields.get("inputs").map(|entry| declare::inputs(report, entry)).unwrap_or_default();
    for (name, span) in spans("inputs") {
        let ty = types.get(&name).cloned().flatten();
        let description = declared.swap_remove(&name).and_then(|input| input.description);
        survey.inputs.insert(name, Input { span, ty, description });
    }
    let nest = Nest::default();
    let raw = raw::Reader {
        report,
        components: uses::Components::new(catalog),
        workflows: &mut Workflows::new(catalog, &nest),
        seen: IndexMap::new(),
        twice: IndexSet::new(),
    }
    .file(&fields, &(0..0));
    let secrets = survey.secrets.keys().cloned().collect();
    let known = world::known(&raw, &types, &secrets);
    let item = |raw: &RawStep<'_>, entry: &Entry| {
        let (name, span) = for_each::item_name(entry)?;
        let (ty, _) = for_each::item_type(raw, &known, &types, &secrets);
        Some(Item { name: name.to_owned(), span, ty })
    };
    for raw in &raw.steps {
        survey.steps.insert(raw.id.to_owned(), step(raw, &known, &item));
        for inner in raw.body() {
            survey.steps.insert(inner.id.to_owned(), step(inner, &known, &item));
        }
    }
    survey
}

fn step(
    raw: &RawStep<'_>,
    known: &KnownSteps<'_>,
    item: &dyn Fn(&RawStep<'_>, &Entry) -> Option<Item>,
) -> Step {
    let does = match &raw.does {
        raw::Does::Call { uses, called } => {
            let called = called.as_ref();
            let called = called.map(|Called { component, function }| (component.clone(), function.clone()));
            Does::Call { uses: (*uses).to_owned(), called }
        }
        raw::Does::Workflow { uses, file } => Does::Workflow {
            uses: (*uses).to_owned(),
            definition: file.as_ref().map(|file| file.definition.clone()),
        },
        raw::Does::Approve(_) => Does::Approve,
        raw::Does::ForEach { entry, .. } => Does::ForEach(item(raw, entry)),
    };
    Step {
        span: raw.entry.key_span.clone(),
        finally: raw.finally,
        group: raw.group.map(str::to_owned),
        does,
        outputs: known.get(raw.id).and_then(|step| step.outputs.clone()),
    }
}

fn children(entry: Option<&Entry>) -> impl Iterator<Item = &Entry> {
    let entries = match entry.map(|entry| &entry.value.kind) {
        Some(Kind::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    entries.iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::fixture;

    fn told(text: &str) -> String {
        let source = Source::new("w.yaml", text);
        let survey = survey(&source, &fixture::catalog());
        let inputs = survey.inputs.iter().map(|(name, input)| {
            let ty = input.ty.as_ref().map_or("?".to_owned(), ToString::to_string);
            format!("input {} ({name}): {ty} {:?}\n", &text[input.span.clone()], input.description)
        });
        let steps = survey.steps.iter().map(|(name, step)| {
            let outputs =
                step.outputs.as_ref().map(|f| f.iter().map(|o| o.name.as_str()).collect::<Vec<_>>());
            let place = if step.finally { "finally " } else { "" };
            let group = step.group.as_ref().map_or_else(String::new, |group| format!(" in {group}"));
            let item = step.item().map_or_else(String::new, |item| {
                let ty = item.ty.as_ref().map_or("?".to_owned(), ToString::to_string);
                format!(", {} ({}): {ty}", item.name, &text[item.span.clone()])
            });
            format!("{place}step {name}{group}: {}{item} {outputs:?}\n", step.uses())
        });
        let others =
            format!("secrets {:?}, sandboxes {:?}\n", survey.secrets.keys(), survey.sandboxes.keys());
        inputs.chain(steps).chain([others]).collect()
    }

    #[test]
    fn a_broken_file_still_has_names() {
        let text = "\
inputs:
  repo: { type: string, description: which }
  n: { type: nonsense }
  list: { type: list, items: [
secrets:
  github: { fro
sandboxes: { left: { image: host }, right:
steps:
  clone:
    uses: git/clone
    wi
  b: { uses: exec/run, with: { command: [echo, \"${{ steps. ] }
finally:
  c:
    uses: memory/sav
";
        insta::assert_snapshot!(told(text), @r#"
        input repo (repo): string Some("which")
        input n (n): ? None
        input list (list): ? None
        step clone: git/clone Some(["path", "sha", "branch"])
        step b: exec/run Some(["exit_code", "stdout", "stderr"])
        finally step c: memory/sav None
        secrets ["github"], sandboxes ["left", "right"]
        "#);
        insta::assert_snapshot!(told(""), @r#"secrets [], sandboxes ["box"]"#);
    }

    #[test]
    fn loops_have_items_and_steps() {
        let text = "\
inputs:
  repos: { type: list, items: string }
steps:
  each:
    for-each: { item: repo, in: \"${{ inputs.repos }}\", key: \"${{ repo }}\" }
    steps:
      build: { uses: exec/run, with: { command: [make] } }
      ask: { approve: { message: go? } }
      publish: { uses: ./publish.yaml }
  twice:
    for-each: { item: done, in: \"${{ steps.each.items }}\"
";
        insta::assert_snapshot!(told(text), @r#"
        input repos (repos): list<string> None
        step each: for-each, repo (repo): string Some(["total", "items", "succeeded", "failed"])
        step build in each: exec/run Some(["exit_code", "stdout", "stderr"])
        step ask in each: approve Some(["approved", "note", "by"])
        step publish in each: ./publish.yaml Some(["sha", "told"])
        step twice: for-each, done (done): { key: string, state: enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled), item: string, error: { step: string, kind: string, message: string }?, steps: { build: { exit_code: int?, stdout: string?, stderr: string?, state: enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled) }, ask: { approved: bool?, note: string?, by: string?, state: enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled) }, publish: { sha: string?, told: bool?, state: enum(pending | queued | running | waiting | succeeded | failed | skipped | cancelled) } } } Some(["total", "items", "succeeded", "failed"])
        secrets [], sandboxes ["box"]
        "#);
    }
}
