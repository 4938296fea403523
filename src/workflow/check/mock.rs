//! Answers that stand in for steps, for trying a workflow out: read from a file of their own and held to the types of
//! the steps' outputs.

use super::grammar::{ANSWER, ERROR};
use super::value::Values;
use super::{retry, shape};
use crate::id::StepId;
use crate::step::{ErrorKind, StepError};
use crate::workflow::Workflow;
use crate::workflow::cel::typing::{Names, Usage};
use crate::workflow::code;
use crate::workflow::diagnostic::{Diagnostic, Report, Source};
use crate::workflow::file::{self, Entry, Kind, Node};
use crate::workflow::model::{Action, Mock, Step, Template};
use crate::workflow::suggest;
use crate::workflow::types::{Catalog, Type};
use indexmap::IndexSet;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const EXAMPLE: &str = "clone: { outputs: { path: /workspace/app } }";

/// What an entry answers for.
struct Target<'w> {
    step: &'w Step,
    /// `uses`, or what else it does, for messages.
    what: String,
    /// The kinds of error that it raises by itself.
    errors: Vec<ErrorKind>,
}

/// Reads the text of a file of answers: by step, by `step[item]` for one item of a loop, by `step/inner` for a step of
/// the workflow that a step runs; one answer or a list of them, one an attempt; the last one repeats.
///
/// # Errors
/// Every mistake in it.
pub fn mocks(
    file_name: &str,
    text: &str,
    workflow: &Workflow,
    catalog: &dyn Catalog,
) -> Result<BTreeMap<String, Vec<Mock>>, Vec<Diagnostic>> {
    let mut report = Report::new(Source::new(file_name, text));
    let mut mocks = BTreeMap::new();
    match file::read(&mut report).map(|root| root.kind) {
        Some(Kind::Map(entries)) => {
            for entry in &entries {
                let Some(target) = target(&mut report, entry, &entry.key, workflow, catalog) else {
                    continue;
                };
                covered(&mut report, entry, &entries);
                let nodes = match &entry.value.kind {
                    Kind::List(items) => items.as_slice(),
                    _ => std::slice::from_ref(&entry.value),
                };
                let answers: Vec<_> =
                    nodes.iter().map(|node| answer(&mut report, entry, node, &target)).collect();
                if let Some(answers) =
                    answers.into_iter().collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
                {
                    mocks.insert(entry.key.clone(), answers);
                }
            }
        }
        Some(_) => {
            report
                .add(code::WRONG_SHAPE, 0..0, "answers are a mapping by step")
                .help(format!("write `{EXAMPLE}`"));
        }
        None => {}
    }
    if report.errors() == 0 { Ok(mocks) } else { Err(report.finish()) }
}

/// `build[team/app]/compile` as the step `build` and what stands for steps of the workflow that it runs, `compile`.
fn split(path: &str) -> (&str, Option<&str>) {
    let name = path.split(['[', '/']).next().unwrap_or_default();
    let rest = &path[name.len()..];
    // The key of an item may have slashes of its own.
    let rest = if rest.starts_with('[') {
        rest.split_once("]/").map(|(_, inner)| inner)
    } else {
        rest.strip_prefix('/')
    };
    (name, rest)
}

/// What `path`, the key of the entry or the end of it, names in a workflow.
fn target<'w>(
    report: &mut Report,
    entry: &Entry,
    path: &str,
    workflow: &'w Workflow,
    catalog: &dyn Catalog,
) -> Option<Target<'w>> {
    let (name, inner) = split(path);
    let known = || workflow.all_steps().map(|(id, _)| id.as_str());
    let Some((_, step)) = workflow.all_steps().find(|(id, _)| **id == StepId::new(name)) else {
        report
            .add(code::UNKNOWN_STEP, entry.key_span.clone(), format!("there is no step `{name}`"))
            .help(suggest::help("the steps are", name, known().collect::<Vec<_>>()));
        return None;
    };
    let mut conflict = |what: &str, help: String| {
        report.add(code::CONFLICTING, entry.key_span.clone(), format!("step `{name}` {what}")).help(help);
        None
    };
    match (&step.action, inner) {
        (Action::Workflow(sub), Some(inner)) => {
            // It was found when the workflow was checked; a file that has gone since says nothing of its components.
            let file = catalog.workflow(&sub.uses).ok()?;
            target(report, entry, inner, &sub.definition, &*file.catalog)
        }
        (_, Some(_)) => conflict("runs no workflow", format!("write `{name}`")),
        (Action::Workflow(sub), None) => {
            let errors = super::SUB_WORKFLOW_KINDS.map(ErrorKind::new).to_vec();
            Some(Target { step, what: sub.uses.clone(), errors })
        }
        (Action::Call(call), None) => {
            let component = call.uses.split(['#', '@']).next().unwrap_or_default();
            let component = if call.uses.contains('#') { component } else { &call.component };
            let component = catalog.component(component).ok()?;
            let errors = component.function(&call.function)?.errors.clone();
            let errors = errors.unwrap_or_else(|| vec![ErrorKind::OTHER]);
            Some(Target { step, what: call.uses.clone(), errors })
        }
        // A question has no errors but a no, which is an answer.
        (Action::Approve(_), None) => Some(Target { step, what: "a question".into(), errors: Vec::new() }),
        (Action::ForEach(_), None) => conflict("is a loop", "answer for the steps inside it".into()),
    }
}

/// Reports an answer that is never asked for, since a step around it has one.
fn covered(report: &mut Report, entry: &Entry, entries: &[Entry]) {
    let outer = entries
        .iter()
        .find(|outer| entry.key.strip_prefix(&outer.key).is_some_and(|rest| rest.starts_with('/')));
    if let Some(outer) = outer {
        let message = format!("`{}` never runs: `{}` has an answer itself", entry.key, outer.key);
        report
            .add(code::CONFLICTING, entry.key_span.clone(), message)
            .also(outer.key_span.clone(), "here")
            .help("remove one of them");
    }
}

fn answer(report: &mut Report, entry: &Entry, node: &Node, target: &Target<'_>) -> Option<Mock> {
    let Kind::Map(entries) = &node.kind else {
        shape::shape(report, &entry.key, node, "an answer", EXAMPLE);
        return None;
    };
    let fields = shape::fields(report, entries, &ANSWER);
    match (fields.get("outputs"), fields.get("error")) {
        (Some(outputs), None) => {
            let outputs = self::outputs(report, outputs, target.step)?;
            Some(if matches!(target.step.action, Action::Approve(_)) {
                decision(outputs)
            } else {
                Mock::Outputs(outputs)
            })
        }
        (None, Some(error)) if matches!(target.step.action, Action::Approve(_)) => {
            let message = format!("step `{}` asks, and a no is an answer", entry.key);
            report
                .add(code::CONFLICTING, error.key_span.clone(), message)
                .help("write `outputs: { approved: false, note: why }`");
            None
        }
        (None, Some(error)) => self::error(report, error, target),
        (Some(_), Some(error)) => {
            report
                .add(code::CONFLICTING, error.key_span.clone(), "an answer has outputs or an error, not both")
                .help("keep one of them");
            None
        }
        (None, None) => {
            report
                .add(
                    code::MISSING_KEY,
                    entry.key_span.clone(),
                    format!("the answer of `{}` is empty", entry.key),
                )
                .help("add `outputs: { ... }`, or `error: { kind: network }`");
            None
        }
    }
}

/// What somebody says to a question: a no is the failure that a person's no is.
fn decision(outputs: Map<String, Value>) -> Mock {
    if outputs.get("approved") == Some(&Value::Bool(true)) {
        return Mock::Outputs(outputs);
    }
    let said = |name: &str, before: &str| {
        outputs.get(name).and_then(Value::as_str).map(|text| format!("{before}{text}")).unwrap_or_default()
    };
    let message = format!("rejected{}{}", said("by", " by "), said("note", ": "));
    Mock::Error(StepError::new(ErrorKind::REJECTED, message))
}

fn outputs(report: &mut Report, entry: &Entry, step: &Step) -> Option<Map<String, Value>> {
    let before = report.errors();
    let entries = shape::mapping(report, entry, "outputs: { path: /workspace/app }")?;
    let secrets = IndexSet::new();
    let names = Names { run: false, hashes: false, ..Names::new("an answer", &secrets) };
    let mut outputs = Map::new();
    for entry in entries {
        let Some(field) = step.outputs.iter().find(|field| field.name == entry.key) else {
            let known = step.outputs.iter().map(|field| field.name.as_str());
            report
                .add(
                    code::UNKNOWN_FIELD,
                    entry.key_span.clone(),
                    format!("the step has no output `{}`", entry.key),
                )
                .suggest(suggest::help("its outputs are", &entry.key, known));
            continue;
        };
        let mut usage = Usage::default();
        let mut values = Values { report, names: &names, usage: &mut usage, code: code::TYPE_MISMATCH };
        match values.read(&entry.value, &field.ty, &format!("`{}`", entry.key)) {
            Some(Template::Literal(value)) => _ = outputs.insert(entry.key.clone(), value),
            Some(_) => {
                report
                    .add(code::BAD_VALUE, entry.value.span.clone(), "an answer takes no expression")
                    .help("write the value itself");
            }
            None => {}
        }
    }
    for field in &step.outputs {
        let given = entries.iter().any(|entry| entry.key == field.name);
        if !given && matches!(field.ty, Type::Option(_)) {
            outputs.insert(field.name.clone(), Value::Null);
        } else if !given && report.errors() == before {
            let article = crate::workflow::cel::typing::article(&field.ty);
            report
                .add(
                    code::MISSING_KEY,
                    entry.key_span.clone(),
                    format!("the output `{}` is missing", field.name),
                )
                .help(format!("add `{}: ...`, {article}", field.name));
        }
    }
    (report.errors() == before).then_some(outputs)
}

fn error(report: &mut Report, entry: &Entry, target: &Target<'_>) -> Option<Mock> {
    const EXAMPLE: &str = "error: { kind: network, message: no route }";
    let entries = shape::mapping(report, entry, EXAMPLE)?;
    let fields = shape::fields(report, entries, &ERROR);
    let Some(kind) = fields.get("kind") else {
        report
            .add(code::MISSING_KEY, entry.key_span.clone(), "the error has no kind")
            .help(format!("write `{EXAMPLE}`"));
        return None;
    };
    let (kind, span) = (shape::text(report, kind, "kind: network")?.to_owned(), &kind.value.span);
    retry::raisable(report, span, &kind, &target.what, Some(&target.errors));
    let message = fields.get("message").and_then(|entry| shape::text(report, entry, "message: no route"));
    Some(Mock::Error(StepError::new(ErrorKind::new(kind), message.unwrap_or("as the mock says"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::fixture;

    const FILE: &str = r#"
harvest: 1
name: mocked
steps:
  clone: { uses: git/clone, with: { repo: team/app } }
  count: { uses: exec/run, with: { command: [ls, "${{ steps.clone.path }}"] } }
  review: { approve: { message: "Go on?" } }
"#;

    fn read(text: &str) -> Result<BTreeMap<String, Vec<Mock>>, String> {
        let workflow = super::super::check("w.yaml", FILE, &fixture::catalog()).workflow.unwrap();
        mocks("mock.yaml", text, &workflow, &fixture::catalog())
            .map_err(|found| found.iter().map(|found| found.render(false)).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn answers_are_typed_by_the_steps_outputs() {
        let text = "clone: { outputs: { path: /x, sha: 1234, branch: main } }\ncount:\n  - error: { kind: network }\n  - outputs: { exit_code: 3, stdout: 7, stderr: '' }\n";
        let mocks = read(text).unwrap();
        let Mock::Outputs(outputs) = &mocks["count"][1] else { panic!("no outputs") };
        assert_eq!((&outputs["exit_code"], &outputs["stdout"]), (&3.into(), &"7".into()));
        assert!(matches!(&mocks["count"][0], Mock::Error(error) if error.kind == ErrorKind::NETWORK));
    }

    #[test]
    fn mistakes_are_named_at_their_place() {
        insta::assert_snapshot!(read("clnoe: { outputs: {} }\n").unwrap_err(), @r"
        error[E0311]: there is no step `clnoe`
         --> mock.yaml:1:1
          |
        1 | clnoe: { outputs: {} }
          | ^^^^^
          |
          = help: did you mean `clone`?
        ");
        insta::assert_snapshot!(read("count: { outputs: { exit_code: three, stdout: a, stderr: b } }\n").unwrap_err(), @r"
        error[E0313]: `exit_code`: `three` is no int
         --> mock.yaml:1:32
          |
        1 | count: { outputs: { exit_code: three, stdout: a, stderr: b } }
          |                                ^^^^^
          |
          = help: write a whole number such as `42`
        ");
        insta::assert_snapshot!(read("count: { outputs: { stdout: a } }\n").unwrap_err(), @r"
        error[E0202]: the output `exit_code` is missing
         --> mock.yaml:1:10
          |
        1 | count: { outputs: { stdout: a } }
          |          ^^^^^^^
          |
          = help: add `exit_code: ...`, an int
        ");
        insta::assert_snapshot!(read("clone: { error: { kind: netwrk } }\n").unwrap_err(), @r"
        error[E0701]: git/clone cannot fail with `netwrk`
         --> mock.yaml:1:25
          |
        1 | clone: { error: { kind: netwrk } }
          |                         ^^^^^^
          |
          = help: did you mean `network`?
        ");
        insta::assert_snapshot!(read("clone/inner: { outputs: {} }\n").unwrap_err(), @r"
        error[E0207]: step `clone` runs no workflow
         --> mock.yaml:1:1
          |
        1 | clone/inner: { outputs: {} }
          | ^^^^^^^^^^^
          |
          = help: write `clone`
        ");
        insta::assert_snapshot!(read("review: { error: { kind: network } }\n").unwrap_err(), @r"
        error[E0207]: step `review` asks, and a no is an answer
         --> mock.yaml:1:11
          |
        1 | review: { error: { kind: network } }
          |           ^^^^^
          |
          = help: write `outputs: { approved: false, note: why }`
        ");
    }
}
