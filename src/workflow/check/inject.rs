//! Faults to inject, from `STEP=FAULT@N` as people type them: read and held against the workflow before anything runs.

use super::uses;
use crate::id::{StepId, StepRef};
use crate::step::{ErrorKind, StepError};
use crate::workflow::Workflow;
use crate::workflow::fault::{Fault, Injected};
use crate::workflow::literal::duration_ms;
use crate::workflow::model::{Action, Step};
use crate::workflow::suggest;
use crate::workflow::types::Catalog;
use indexmap::IndexSet;
use std::collections::BTreeMap;

/// How much longer a slow attempt takes where nothing else is said, in milliseconds: long enough to be noticed, short
/// enough to be waited for.
const SLOW_MS: u64 = 10_000;
/// The last attempt that a fault can name: further than any step gets.
const ATTEMPT_MAX: u32 = 10_000;
/// Kinds that an injected error has where none is named, the likeliest first.
const LIKELY: [&str; 3] = ["network", "unavailable", "other"];
const FAULTS: [&str; 5] = ["crash", "crash-after", "error", "slow", "lost"];
const FORM: &str = "write `STEP=FAULT@ATTEMPT`, such as `push=error:network@1`";

/// Reads what is to be injected, by `step` or `step[item]`.
///
/// # Errors
/// A sentence for each that makes no sense in this workflow.
pub fn injections(
    specs: &[String],
    workflow: &Workflow,
    catalog: &dyn Catalog,
) -> Result<BTreeMap<String, Vec<Injected>>, Vec<String>> {
    let mut injected: BTreeMap<String, Vec<Injected>> = BTreeMap::new();
    let mut errors = Vec::new();
    for spec in specs {
        match one(spec, workflow, catalog) {
            Ok((step, fault)) => {
                let all = injected.entry(step).or_default();
                match all.iter().find(|other| other.attempt == fault.attempt) {
                    Some(other) => {
                        errors.push(format!("--inject {spec}: `{other}` is for the same attempt: keep one"));
                    }
                    None => all.push(fault),
                }
            }
            Err(what) => errors.push(format!("--inject {spec}: {what}")),
        }
    }
    // One that is for every attempt leaves room for those that are for a certain one.
    injected.values_mut().for_each(|all| all.sort_by_key(|fault| fault.attempt.is_none()));
    if errors.is_empty() { Ok(injected) } else { Err(errors) }
}

fn one(spec: &str, workflow: &Workflow, catalog: &dyn Catalog) -> Result<(String, Injected), String> {
    let (at, fault) = spec.rsplit_once('=').ok_or(FORM)?;
    let (fault, attempt) = match fault.rsplit_once('@') {
        Some((fault, "*")) => (fault, None),
        Some((fault, number)) => (fault, Some(attempt(number)?)),
        None => (fault, Some(1)),
    };
    let step = step(&StepRef::parse(at), workflow)?;
    let (word, detail) = match fault.split_once(':') {
        Some((word, detail)) => (word, Some(detail)),
        None => (fault, None),
    };
    let fault = match (word, detail) {
        ("crash", None) => Fault::Crash,
        ("crash-after", None) => Fault::CrashAfter,
        ("lost", None) => Fault::Lost,
        ("slow", None) => Fault::Slow(SLOW_MS),
        ("slow", Some(time)) => match duration_ms(time)? {
            0 => return Err("a slow attempt takes longer: write `slow:10s`".into()),
            ms => Fault::Slow(ms),
        },
        ("error", kind) => Fault::Error(error(kind, step, catalog)?),
        ("crash" | "crash-after" | "lost", Some(_)) => {
            return Err(format!("`{word}` takes nothing after it: write `{at}={word}@1`"));
        }
        _ => {
            let help = suggest::help("the faults are", word, FAULTS);
            return Err(format!("there is no fault `{word}`; {help}"));
        }
    };
    fits(at, &fault, step)?;
    Ok((at.to_owned(), Injected { fault, attempt }))
}

fn attempt(number: &str) -> Result<u32, String> {
    match number.parse() {
        Ok(0) => Err("attempts are counted from 1".into()),
        Ok(attempt) if attempt <= ATTEMPT_MAX => Ok(attempt),
        _ => Err(format!(
            "`{number}` is no attempt: write a number from 1 to {ATTEMPT_MAX}, or `*` for every one"
        )),
    }
}

/// The step that a fault is for. Which items a loop will have is not known yet.
fn step<'w>(at: &StepRef, workflow: &'w Workflow) -> Result<&'w Step, String> {
    let Some((_, step)) = workflow.all_steps().find(|(id, _)| **id == at.step) else {
        let known: Vec<&str> = workflow.all_steps().map(|(id, _)| id.as_str()).collect();
        let help = suggest::help("the steps are", at.step.as_str(), known.iter().copied());
        return Err(format!("there is no step `{}`; {help}", at.step));
    };
    let is_inner = |id: &StepId| {
        let mut loops = workflow.steps.values().chain(workflow.finally.values()).filter_map(Step::body);
        loops.any(|body| body.contains_key(id))
    };
    if at.item.is_some() && !is_inner(&at.step) {
        return Err(format!("step `{0}` is in no loop and has no items: write `{0}`", at.step));
    }
    Ok(step)
}

/// Whether such a fault can meet such a step.
fn fits(at: &str, fault: &Fault, step: &Step) -> Result<(), String> {
    match (&step.action, fault) {
        (_, Fault::Crash) => Ok(()),
        (Action::ForEach(_), _) => {
            Err(format!("step `{at}` is a loop: inject into the steps inside it, or `{at}=crash`"))
        }
        (Action::Approve(_), _) => Err(format!(
            "step `{at}` asks a person: `harvest reject` makes it fail; only `{at}=crash` can be injected"
        )),
        (Action::Call(call), Fault::Lost) if call.sandboxes.is_empty() => {
            Err(format!("step `{at}` has no sandbox to lose"))
        }
        (Action::Workflow(_), Fault::Lost) => {
            Err(format!("step `{at}` runs another workflow, which has sandboxes of its own"))
        }
        _ => Ok(()),
    }
}

/// The error that an attempt is to fail with.
fn error(kind: Option<&str>, step: &Step, catalog: &dyn Catalog) -> Result<StepError, String> {
    let own = own_kinds(step, catalog);
    let kind = match kind {
        Some(kind) => {
            // A component may declare kinds that the host raises too.
            let host = ErrorKind::HOST.into_iter().filter(|kind| *kind != ErrorKind::CANCELLED);
            let all: IndexSet<ErrorKind> = own.into_iter().chain(host).collect();
            if !all.iter().any(|known| known.as_str() == kind) {
                let help = suggest::help("it can fail with", kind, all.iter().map(ErrorKind::as_str));
                return Err(format!("the step cannot fail with `{kind}`; {help}"));
            }
            ErrorKind::new(kind)
        }
        None => {
            let likely = LIKELY.iter().find(|kind| own.iter().any(|own| own.as_str() == **kind));
            likely.map(|kind| ErrorKind::new(*kind)).or(own.into_iter().next()).unwrap_or(ErrorKind::TRAPPED)
        }
    };
    Ok(StepError::new(kind, "injected: nothing was called"))
}

/// Kinds of error that the step raises by itself.
fn own_kinds(step: &Step, catalog: &dyn Catalog) -> Vec<ErrorKind> {
    match &step.action {
        Action::Call(call) => {
            let declared = uses::component(&call.uses)
                .and_then(|name| catalog.component(name).ok())
                .and_then(|component| component.function(&call.function)?.errors.clone());
            declared.unwrap_or_else(|| vec![ErrorKind::OTHER])
        }
        Action::Workflow(_) => vec![ErrorKind::FAILED, ErrorKind::REJECTED],
        Action::Approve(_) => vec![ErrorKind::REJECTED],
        Action::ForEach(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::fixture;

    const FILE: &str = r#"
harvest: 1
name: faulty
inputs: { repo: { type: string } }
steps:
  clone: { uses: git/clone, with: { repo: "${{ inputs.repo }}" } }
  each:
    for-each: { item: n, in: "['a', 'b']", key: "${{ n }}" }
    steps:
      count: { uses: exec/run, with: { command: [wc, "${{ n }}", "${{ steps.clone.path }}"] } }
  review: { approve: { message: "Go on?" } }
"#;

    fn read(specs: &[&str]) -> Result<Vec<String>, String> {
        let checked = super::super::check("w.yaml", FILE, &fixture::catalog());
        let specs: Vec<String> = specs.iter().map(|spec| (*spec).to_owned()).collect();
        let workflow = checked.workflow.unwrap();
        let injected =
            injections(&specs, &workflow, &fixture::catalog()).map_err(|errors| errors.join("\n"))?;
        let lines =
            injected.iter().flat_map(|(at, all)| all.iter().map(move |fault| format!("{at}={fault}")));
        Ok(lines.collect())
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let specs = [
            "clone=error",
            "clone=slow@3",
            "clone=slow:1500ms@2",
            "clone=lost@*",
            "count=crash",
            "count[a=@]=crash-after@2",
            "review=crash",
        ];
        insta::assert_snapshot!(read(&specs).unwrap().join("\n"), @r"
        clone=error:network@1
        clone=slow:10s@3
        clone=slow:1500ms@2
        clone=lost@*
        count=crash@1
        count[a=@]=crash-after@2
        review=crash@1
        ");
    }

    #[test]
    fn mistakes_are_named_before_anything_runs() {
        for spec in [
            "clone",
            "clnoe=crash",
            "clone=crush",
            "clone=crash:now",
            "clone=error:nework",
            "clone=error@0",
            "clone=error@first",
            "clone=slow:5",
            "clone[a]=crash",
            "each=error",
            "review=error",
        ] {
            assert!(read(&[spec]).is_err(), "{spec}");
        }
        let all =
            ["clone", "clnoe=crash", "clone=crush", "clone=error:nework", "clone=error@0", "clone[a]=crash"];
        insta::assert_snapshot!(read(&all).unwrap_err(), @r"
        --inject clone: write `STEP=FAULT@ATTEMPT`, such as `push=error:network@1`
        --inject clnoe=crash: there is no step `clnoe`; did you mean `clone`?
        --inject clone=crush: there is no fault `crush`; did you mean `crash`?
        --inject clone=error:nework: the step cannot fail with `nework`; did you mean `network`?
        --inject clone=error@0: attempts are counted from 1
        --inject clone[a]=crash: step `clone` is in no loop and has no items: write `clone`
        ");
        let all =
            ["each=error", "review=lost", "count=slow:5", "clone=crash:now", "clone=crash", "clone=error@1"];
        insta::assert_snapshot!(read(&all).unwrap_err(), @r"
        --inject each=error: step `each` is a loop: inject into the steps inside it, or `each=crash`
        --inject review=lost: step `review` asks a person: `harvest reject` makes it fail; only `review=crash` can be injected
        --inject count=slow:5: `5` is no duration; write a number with its unit, such as `90s`, `5m` or `1h 30m`
        --inject clone=crash:now: `crash` takes nothing after it: write `clone=crash@1`
        --inject clone=error@1: `crash@1` is for the same attempt: keep one
        ");
    }
}
