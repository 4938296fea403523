//! From the mappings of a file to steps whose shape is known and whose references are not yet: what each does, which
//! of its keys have a place beside that, and that no two share a name.

use super::grammar::{APPROVE, CALL, LOOP, SUB_WORKFLOW};
use super::keys::Keys;
use super::shape::{self, Fields};
use super::sub_workflow::{self, SubFile};
use super::uses::{self, Called};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Entry, Kind};
use crate::workflow::suggest;
use indexmap::{IndexMap, IndexSet};
use std::ops::Range;
use std::sync::Arc;

/// The keys that say what a step does. A step has one of them.
const ACTIONS: [&str; 3] = ["uses", "approve", "for-each"];

/// A step whose shape is known and whose references are not yet.
pub(super) struct RawStep<'n> {
    pub(super) id: &'n str,
    pub(super) entry: &'n Entry,
    pub(super) fields: Fields<'n>,
    pub(super) does: Does<'n>,
    pub(super) finally: bool,
    /// The loop that it is a step of.
    pub(super) group: Option<&'n str>,
}

/// What a step does.
pub(super) enum Does<'n> {
    /// It calls a function; `called` is `None` where there is none, which is reported.
    Call { uses: &'n str, called: Option<Called> },
    /// It runs another workflow; `file` is `None` where that cannot be used, which is reported.
    Workflow { uses: &'n str, file: Option<Arc<SubFile>> },
    /// It asks a person.
    Approve(&'n Entry),
    /// It does its own steps for each item of a list.
    ForEach { entry: &'n Entry, steps: Vec<RawStep<'n>> },
}

/// The keys of steps of every kind.
fn all_keys() -> impl Iterator<Item = &'static str> + Clone {
    CALL.names().chain(APPROVE.names()).chain(LOOP.names())
}

/// Whether it is a key of some kind of step.
fn some_step_has(key: &str) -> bool {
    all_keys().any(|known| known == key)
}

/// The key that says what a step does which a misspelled one seems to mean.
fn meant_action(entry: &Entry) -> Option<&'static str> {
    if some_step_has(&entry.key) {
        return None;
    }
    suggest::nearest(&entry.key, all_keys()).filter(|near| ACTIONS.contains(near))
}

/// What a step does of which that is not known; why is reported.
const NOTHING: Does<'static> = Does::Call { uses: "", called: None };

impl<'n> RawStep<'n> {
    /// `uses:` as written.
    pub(super) fn uses(&self) -> &'n str {
        match &self.does {
            Does::Call { uses, .. } | Does::Workflow { uses, .. } => uses,
            Does::Approve(_) | Does::ForEach { .. } => "",
        }
    }

    /// The steps of a loop.
    pub(super) fn body(&self) -> &[RawStep<'n>] {
        if let Does::ForEach { steps, .. } = &self.does { steps } else { &[] }
    }
}

/// The steps of a file.
pub(super) struct RawSteps<'n> {
    pub(super) steps: Vec<RawStep<'n>>,
    /// Names that more than one step has, which is reported: what is said of one may be meant of the other.
    pub(super) twice: IndexSet<&'n str>,
}

/// Reads the steps of a file.
pub(super) struct Reader<'r, 'n, 'c, 'w> {
    pub(super) report: &'r mut Report,
    pub(super) components: uses::Components<'c>,
    pub(super) workflows: &'r mut sub_workflow::Workflows<'w>,
    /// Names so far, in the whole file.
    pub(super) seen: IndexMap<&'n str, Range<usize>>,
    /// Names that more than one step has, which is reported.
    pub(super) twice: IndexSet<&'n str>,
}

impl<'n> Reader<'_, 'n, '_, '_> {
    /// The steps of `steps:` and `finally:`.
    pub(super) fn file(mut self, fields: &Fields<'n>, start: &Range<usize>) -> RawSteps<'n> {
        const EXAMPLE: &str = "steps: { hello: { uses: exec/run, with: { command: [echo, hello] } } }";
        let mut steps = Vec::new();
        for (key, finally) in [("steps", false), ("finally", true)] {
            match fields.get(key) {
                Some(section) => {
                    steps.extend(self.section(section, finally, None, &EXAMPLE.replace("steps", key)));
                }
                None if finally => {}
                None => {
                    self.report
                        .add(code::MISSING_KEY, start.clone(), "the workflow has no steps")
                        .help(format!("add `{EXAMPLE}`"));
                }
            }
        }
        RawSteps { steps, twice: self.twice }
    }

    fn section(
        &mut self,
        section: &'n Entry,
        finally: bool,
        group: Option<&'n str>,
        example: &str,
    ) -> Vec<RawStep<'n>> {
        let entries = shape::mapping(self.report, section, example).unwrap_or_default();
        if entries.is_empty() && matches!(section.value.kind, Kind::Map(_)) {
            let message = format!("`{}` is empty", section.key);
            self.report
                .add(code::MISSING_KEY, section.key_span.clone(), message)
                .help(format!("write `{example}`"));
        }
        let mut steps = Vec::new();
        for entry in entries {
            shape::data_name(self.report, entry, "a step");
            if let Some(first) = self.seen.get(entry.key.as_str()) {
                let message = format!("there are two steps `{}`", entry.key);
                self.report
                    .add(code::DUPLICATE_KEY, entry.key_span.clone(), message)
                    .also(first.clone(), "the first one")
                    .help("rename one of them");
                self.twice.insert(&entry.key);
                continue;
            }
            self.seen.insert(&entry.key, entry.key_span.clone());
            steps.push(self.step(entry, finally, group));
        }
        steps
    }

    fn step(&mut self, entry: &'n Entry, finally: bool, group: Option<&'n str>) -> RawStep<'n> {
        let example = format!("{}: {{ uses: exec/run, with: {{ command: [echo, hello] }} }}", entry.key);
        let mapping = shape::mapping(self.report, entry, &example);
        let entries = mapping.unwrap_or_default();
        // A misspelled `for-each` makes a loop as well: the rest of the step is written for one.
        let get = |key: &str| {
            let exact = entries.iter().find(|entry| entry.key == key);
            exact.or_else(|| entries.iter().find(|entry| meant_action(entry) == Some(key)))
        };
        let is_workflow = |entry: &&Entry| matches!(&entry.value.kind, Kind::Scalar { text, .. } if uses::names_workflow(text));
        let keys = if get("for-each").is_some() {
            &LOOP
        } else if get("approve").is_some() {
            &APPROVE
        } else if get("uses").filter(is_workflow).is_some() {
            &SUB_WORKFLOW
        } else {
            &CALL
        };
        if self.does_two_things(entries) {
            let fields = shape::fields(self.report, [], keys);
            return RawStep { id: &entry.key, entry, fields, does: NOTHING, finally, group };
        }
        let fitting = self.fitting(entries, keys);
        let fields = shape::fields(self.report, fitting, keys);
        let does = if let Some(each) = fields.get("for-each") {
            self.for_each(entry, each, &fields, finally, group)
        } else if let Some(approve) = fields.get("approve") {
            Does::Approve(approve)
        } else {
            if mapping.is_some() {
                self.says_what_it_does(entry, entries);
            }
            self.uses(&fields)
        };
        RawStep { id: &entry.key, entry, fields, does, finally, group }
    }

    /// Reports a step that has none of the keys that say what it does, unless one is misspelled or not supported.
    fn says_what_it_does(&mut self, entry: &Entry, entries: &[Entry]) {
        let nearly = |entry: &Entry| {
            let key = entry.key.as_str();
            ACTIONS.contains(&key) || CALL.later.contains(&key) || meant_action(entry).is_some()
        };
        if entries.iter().any(|entry| nearly(entry) || entry.key == "steps") {
            return;
        }
        let message = format!("step `{}` does not say what it uses", entry.key);
        self.report
            .add(code::MISSING_KEY, entry.key_span.clone(), message)
            .help("add `uses: component/function`, such as `uses: exec/run`");
    }

    fn uses(&mut self, fields: &Fields<'n>) -> Does<'n> {
        let Some(entry) = fields.get("uses") else { return NOTHING };
        let Some(text) = shape::text(self.report, entry, "uses: git/clone") else { return NOTHING };
        if uses::names_workflow(text) {
            return Does::Workflow { uses: text, file: self.workflows.find(self.report, &entry.value, text) };
        }
        Does::Call { uses: text, called: self.components.find(self.report, &entry.value, text) }
    }

    fn for_each(
        &mut self,
        entry: &'n Entry,
        each: &'n Entry,
        fields: &Fields<'n>,
        finally: bool,
        group: Option<&'n str>,
    ) -> Does<'n> {
        if let Some(outer) = group {
            self.report
                .add(code::NESTED_LOOP, each.key_span.clone(), format!("a loop inside the loop `{outer}`"))
                .help("put the inner loop into a workflow of its own, and write `uses: ./inner.yaml` here");
            return NOTHING;
        }
        let example = "steps: { build: { uses: exec/run, with: { command: [make] } } }";
        let steps = match fields.get("steps") {
            Some(section) => self.section(section, finally, Some(&entry.key), example),
            None => {
                self.report
                    .add(
                        code::MISSING_KEY,
                        each.key_span.clone(),
                        format!("the loop `{}` has no steps", entry.key),
                    )
                    .help(format!("add `{example}` beside `for-each`"));
                Vec::new()
            }
        };
        Does::ForEach { entry: each, steps }
    }

    /// Reports a step with more than one of the keys that say what it does; the rest of it is not looked at.
    fn does_two_things(&mut self, entries: &[Entry]) -> bool {
        let actions: Vec<_> = entries.iter().filter(|entry| ACTIONS.contains(&entry.key.as_str())).collect();
        let [first, second, ..] = actions.as_slice() else { return false };
        let help = if [first, second].iter().any(|entry| entry.key == "for-each") {
            "put what is done for each item into `steps:` beside `for-each`"
        } else {
            "make it two steps; `needs` puts one after the other"
        };
        self.report
            .add(
                code::CONFLICTING,
                second.key_span.clone(),
                format!("`{}` and `{}` exclude each other", first.key, second.key),
            )
            .also(first.key_span.clone(), "the other one")
            .help(help);
        true
    }

    /// The entries whose keys have a place in a step of this kind, and those that no step has.
    fn fitting(&mut self, entries: &'n [Entry], keys: &Keys) -> Vec<&'n Entry> {
        let foreign = |entry: &Entry| some_step_has(&entry.key) && keys.find(&entry.key).is_none();
        for entry in entries.iter().filter(|entry| foreign(entry)) {
            self.out_of_place(entry, keys);
        }
        entries.iter().filter(|entry| !foreign(entry)).collect()
    }

    fn out_of_place(&mut self, entry: &Entry, keys: &Keys) {
        let key = entry.key.as_str();
        let listed = suggest::listed(keys.names().filter(|key| !ACTIONS.contains(key)));
        let (message, help) = match keys {
            keys if std::ptr::eq(keys, &LOOP) => (
                format!("`{key}` has no place beside `for-each`"),
                format!("write it in the steps of the loop; beside `for-each` stand {listed}"),
            ),
            keys if std::ptr::eq(keys, &APPROVE) => (
                format!("`{key}` has no place beside `approve`"),
                match key {
                    "timeout" => "write `approve: { message: ..., timeout: 24h }`".to_owned(),
                    _ => format!("remove it; beside `approve` stand {listed}"),
                },
            ),
            keys if std::ptr::eq(keys, &SUB_WORKFLOW) => (
                format!("`{key}` has no place in {}", keys.what),
                match key {
                    "sandbox" | "sandboxes" | "secrets" | "permissions" => {
                        let section = if key == "sandbox" { "sandboxes" } else { key };
                        format!("remove it; the other workflow has `{section}` of its own")
                    }
                    _ => format!(
                        "write it in the steps of the other workflow, or remove it; here stand {listed}"
                    ),
                },
            ),
            _ => (
                format!("`{key}` belongs to a loop, but there is no `for-each`"),
                "write `for-each: { item: x, in: \"${{ inputs.list }}\", key: \"${{ x }}\" }` beside it"
                    .to_owned(),
            ),
        };
        self.report.add(code::CONFLICTING, entry.key_span.clone(), message).help(help);
    }
}
