//! What a file declares, as far as it can be made out, for editors: names with their places and types. Says nothing of
//! whether the file is right; [`check`](super::check) does.

use super::uses::Called;
use super::{declare, grammar, raw_steps, sandbox, shape};
use crate::workflow::cel::typing::StepNames;
use crate::workflow::diagnostic::{Report, Source};
use crate::workflow::file::{self, Entry, Kind, Node};
use crate::workflow::sketch;
use crate::workflow::types::{Catalog, ComponentType, FunctionType, Type};
use indexmap::IndexMap;
use std::ops::Range;
use std::sync::Arc;

/// The names of a file. Spans are those of the keys.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) inputs: IndexMap<String, Input>,
    pub(crate) secrets: IndexMap<String, Range<usize>>,
    /// Empty spans where the file declares none and has the one that such a file has.
    pub(crate) sandboxes: IndexMap<String, Range<usize>>,
    /// Of `steps` and of `finally`.
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
    /// As written.
    pub(crate) uses: String,
    /// What it calls, where there is such a function.
    pub(crate) called: Option<(Arc<ComponentType>, FunctionType)>,
}

impl Step {
    /// The function it calls.
    pub(crate) fn function(&self) -> Option<&FunctionType> {
        self.called.as_ref().map(|(_, function)| function)
    }

    /// The step as expressions see it.
    pub(crate) fn names(&self) -> StepNames {
        let outputs = self.function().map(|function| function.outputs.clone());
        StepNames { uses: self.uses.clone(), outputs, hidden: None }
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
    let (mut types, mut declared) =
        fields.get("inputs").map(|entry| declare::inputs(report, entry)).unwrap_or_default();
    for (name, span) in spans("inputs") {
        let ty = types.swap_remove(&name).flatten();
        let description = declared.swap_remove(&name).and_then(|input| input.description);
        survey.inputs.insert(name, Input { span, ty, description });
    }
    for raw in raw_steps(report, &fields, &(0..0), catalog) {
        let called = raw.called.map(|Called { component, function }| (component, function));
        let uses = raw.uses.unwrap_or_default().to_owned();
        survey
            .steps
            .insert(raw.id, Step { span: raw.entry.key_span.clone(), finally: raw.finally, uses, called });
    }
    survey
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
                step.function().map(|f| f.outputs.iter().map(|o| o.name.as_str()).collect::<Vec<_>>());
            format!("{}step {name}: {} {outputs:?}\n", if step.finally { "finally " } else { "" }, step.uses)
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
}
