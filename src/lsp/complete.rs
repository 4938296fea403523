//! What can be written at a cursor. Does not ask whether the file is right; the editor chooses among what is proposed by
//! what is typed already.

use super::cursor::{At, Cursor};
use super::describe;
use super::expression::Before;
use super::place::{self, Place, Stand};
use super::scope::Scope;
use crate::step::ErrorKind;
use crate::workflow::cel::typing::{about_step, brief};
use crate::workflow::cel::{FORMS, FUNCTIONS};
use crate::workflow::check::{Key, SUB_WORKFLOW_KINDS, Shape, Survey, names_workflow, survey};
use crate::workflow::template;
use crate::workflow::types::{Catalog, Field, Type};
use std::collections::BTreeSet;

/// Proposals for one place: more than the steps that a file can hold are never of use.
const PROPOSALS_MAX: usize = 2_000;

/// What can be written instead of the text from `start` to the cursor.
#[derive(Debug)]
pub(super) struct Proposals {
    pub(super) start: usize,
    pub(super) list: Vec<Proposal>,
}

/// Something that can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    /// What is shown and compared with what is typed.
    pub(super) label: String,
    /// What is written.
    pub(super) insert: String,
    pub(super) sort: Sort,
    /// A few words beside the label: its type, mostly.
    pub(super) detail: Option<String>,
    /// Markdown.
    pub(super) doc: Option<String>,
}

/// What kind of thing is proposed, for the editor's symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A key of the grammar.
    Key,
    /// A parameter, output or field.
    Field,
    /// A function.
    Function,
    /// A name that the file declares.
    Name,
    /// One of some words.
    Word,
}

impl Proposal {
    fn new(sort: Sort, label: impl Into<String>) -> Self {
        let label = label.into();
        Self { insert: label.clone(), label, sort, detail: None, doc: None }
    }

    fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    fn doc(self, doc: Option<&str>) -> Self {
        Self { doc: doc.map(describe::one_line), ..self }
    }

    fn field(sort: Sort, field: &Field) -> Self {
        Self::new(sort, &field.name).detail(brief(&field.ty)).doc(field.doc.as_deref())
    }
}

/// What can be written at byte `at` of a text whose names are these.
pub(super) fn propose(text: &str, at: usize, survey: &Survey, catalog: &dyn Catalog) -> Option<Proposals> {
    let cursor = Cursor::find(text, at)?;
    let place = Place::of(&cursor.path, survey);
    let (start, mut list) = match &cursor.at {
        At::Key { start, siblings, colon, .. } => {
            let ending = if *colon { Ending::Nothing } else { Ending::Colon { flow: cursor.flow } };
            (*start, keys(&place, siblings, ending))
        }
        At::Value { text, offset, start, alone } => {
            let before = &text[..*offset];
            let bare = place.shapes().iter().any(|shape| matches!(shape, Shape::Expression));
            let hole = if bare { Some(0) } else { template::around(text, *offset).map(|hole| hole.start) };
            match hole {
                Some(hole) => {
                    let before = Before::of(&before[hole..])?;
                    (at - before.partial.len(), expression(&before, &Scope::of(&cursor.path, survey)))
                }
                None => {
                    let mut list = values(&place, &cursor, survey, catalog);
                    if *alone {
                        list.extend(keys(&place, &[], Ending::Colon { flow: false }));
                    }
                    (*start, list)
                }
            }
        }
    };
    list.truncate(PROPOSALS_MAX);
    Some(Proposals { start, list })
}

/// What is written behind a key.
#[derive(Clone, Copy)]
enum Ending {
    /// Its colon is there.
    Nothing,
    /// A colon, and a space where the value stands on the same line.
    Colon { flow: bool },
}

fn keys(place: &Place<'_>, siblings: &[String], ending: Ending) -> Vec<Proposal> {
    let mut list = match &place.stand {
        Stand::Grammar(shapes) => shapes.iter().flat_map(|shape| keys_of(shape, place, siblings)).collect(),
        Stand::Typed(ty) => {
            fields_of(ty).iter().map(|field| (Proposal::field(Sort::Field, field), false)).collect()
        }
        Stand::Unknown => Vec::new(),
    };
    list.retain(|(proposal, _)| siblings.iter().all(|sibling| *sibling != proposal.label));
    let complete = |(proposal, nested): (Proposal, bool)| {
        let insert = match ending {
            Ending::Nothing => proposal.insert,
            Ending::Colon { flow: false } if nested => format!("{}:", proposal.insert),
            Ending::Colon { .. } => format!("{}: ", proposal.insert),
        };
        Proposal { insert, ..proposal }
    };
    list.into_iter().map(complete).collect()
}

/// The keys of a shape, each with whether its value is written below it.
fn keys_of(shape: &Shape, place: &Place<'_>, siblings: &[String]) -> Vec<(Proposal, bool)> {
    let function = place.step.and_then(|step| step.function());
    match shape {
        Shape::Keys(keys) => keys.known.iter().map(key).collect(),
        Shape::Kinds(several) => {
            let kinds = place::kinds(several, siblings, place.step);
            // What says which kind it is comes first.
            let first = kinds.iter().filter_map(|keys| keys.known.first());
            let mut seen = BTreeSet::new();
            let all = first.chain(kinds.iter().flat_map(|keys| keys.known));
            all.filter(|key| seen.insert(key.name)).map(key).collect()
        }
        Shape::Inputs => {
            let input = |(name, input): (&String, &survey::Input)| (proposed_input(name, input), false);
            place.survey.inputs.iter().map(input).collect()
        }
        Shape::Arguments => {
            let mut parameters = place.step.map(|step| step.parameters()).unwrap_or_default();
            parameters.sort_by_key(|parameter| matches!(parameter.ty, Type::Option(_)));
            let doc = function.and_then(|function| function.doc.as_deref());
            let parameter = |field: &Field| {
                let proposal = Proposal::field(Sort::Field, field).doc(field.doc.as_deref().or(doc));
                (proposal, false)
            };
            parameters.iter().map(parameter).collect()
        }
        Shape::Slots => {
            let slots = function.map_or(&[][..], |function| &function.secrets);
            let slot = |slot: &crate::workflow::types::Slot| {
                let detail = if slot.optional { "secret, optional" } else { "secret" };
                (Proposal::new(Sort::Field, &slot.name).detail(detail), false)
            };
            slots.iter().map(slot).collect()
        }
        Shape::SandboxParameters => {
            let names = function.map_or(&[][..], |function| &function.sandboxes);
            names.iter().map(|name| (Proposal::new(Sort::Field, name).detail("sandbox"), false)).collect()
        }
        _ => Vec::new(),
    }
}

fn key(key: &Key) -> (Proposal, bool) {
    let nested = |shape: &Shape| {
        matches!(
            shape,
            Shape::Keys(_)
                | Shape::Kinds(_)
                | Shape::Named(_)
                | Shape::Items(_)
                | Shape::Inputs
                | Shape::Arguments
                | Shape::Slots
                | Shape::SandboxParameters
        )
    };
    (Proposal::new(Sort::Key, key.name).doc(Some(key.doc)), key.shapes.iter().all(nested))
}

fn fields_of(ty: &Type) -> Vec<Field> {
    match ty {
        Type::Option(inner) => fields_of(inner),
        Type::Record(fields) => fields.clone(),
        Type::Variant(cases) => {
            let valued = cases.iter().filter_map(|(name, ty)| Some((name, ty.as_ref()?)));
            valued.map(|(name, ty)| Field { name: name.clone(), ty: ty.clone(), doc: None }).collect()
        }
        _ => Vec::new(),
    }
}

fn values(place: &Place<'_>, cursor: &Cursor, survey: &Survey, catalog: &dyn Catalog) -> Vec<Proposal> {
    if let Stand::Typed(ty) = &place.stand {
        return words_of(ty).into_iter().map(|word| Proposal::new(Sort::Word, word)).collect();
    }
    let word = |word: &str| Proposal::new(Sort::Word, word);
    let name = |name: &str| Proposal::new(Sort::Name, name);
    let mut list = Vec::new();
    for shape in place.shapes() {
        match shape {
            Shape::Words(words) => list.extend(words.iter().copied().map(word)),
            Shape::Bool => list.extend(["true", "false"].map(word)),
            Shape::Uses => list.extend(uses(catalog)),
            Shape::Secret => list.extend(survey.secrets.keys().map(|secret| name(secret))),
            Shape::Sandbox => list.extend(survey.sandboxes.keys().map(|sandbox| name(sandbox))),
            Shape::Step => list.extend(needed(place, cursor, survey)),
            Shape::ErrorKind => list.extend(kinds(place)),
            _ => {}
        }
    }
    list
}

/// The words that a value of the type can be.
fn words_of(ty: &Type) -> Vec<&str> {
    match ty {
        Type::Option(inner) | Type::List(inner) => words_of(inner),
        Type::Bool => vec!["true", "false"],
        Type::Enum(words) => words.iter().map(String::as_str).collect(),
        Type::Variant(cases) => {
            cases.iter().filter(|(_, ty)| ty.is_none()).map(|(name, _)| name.as_str()).collect()
        }
        _ => Vec::new(),
    }
}

fn uses(catalog: &dyn Catalog) -> Vec<Proposal> {
    let embedded = catalog.names().into_iter().map(|name| (name, '/'));
    let (workflows, files): (Vec<_>, Vec<_>) =
        catalog.files().into_iter().partition(|name| names_workflow(name));
    let files = files.into_iter().map(|name| (name, '#'));
    let mut list = Vec::new();
    for (name, between) in embedded.chain(files) {
        // A file that is no component is not proposed; whoever names it is told why.
        let Ok(component) = catalog.component(&name) else { continue };
        for function in &component.functions {
            let proposal = Proposal::new(Sort::Function, format!("{name}{between}{}", function.name));
            list.push(Proposal { doc: Some(describe::function(&component, function)), ..proposal });
        }
    }
    list.extend(workflows.into_iter().map(|name| Proposal::new(Sort::Function, name).detail("workflow")));
    list
}

/// The steps of the same section and loop, without the one that asks.
fn needed(place: &Place<'_>, cursor: &Cursor, survey: &Survey) -> Vec<Proposal> {
    let keys = cursor.keys();
    let own = match keys.as_slice() {
        [_, _, "steps", own, ..] | [_, own, ..] => *own,
        _ => "",
    };
    let finally = place.step.is_some_and(|step| step.finally);
    let group = place.step.and_then(|step| step.group.as_deref());
    let near = |step: &survey::Step| step.finally == finally && step.group.as_deref() == group;
    let others = survey.steps.iter().filter(|(name, step)| near(step) && *name != own);
    others.map(|(name, step)| Proposal::new(Sort::Name, name).detail(step.uses())).collect()
}

fn kinds(place: &Place<'_>) -> Vec<Proposal> {
    let own = place.step.map(|step| match step.does {
        survey::Does::Workflow { .. } => SUB_WORKFLOW_KINDS.map(ErrorKind::new).to_vec(),
        _ => step.function().and_then(|function| function.errors.clone()).unwrap_or_default(),
    });
    let own = own.unwrap_or_default();
    let host = ErrorKind::HOST;
    let others = host.iter().filter(|kind| **kind != ErrorKind::CANCELLED && !own.contains(kind));
    own.iter().chain(others).map(|kind| Proposal::new(Sort::Word, kind.as_str())).collect()
}

fn expression(before: &Before<'_>, scope: &Scope<'_>) -> Vec<Proposal> {
    let Some(receiver) = before.receiver else { return globals(before, scope) };
    let field = |field: &Field| Proposal::field(Sort::Field, field);
    match receiver {
        "inputs" if scope.inputs => {
            return scope.survey.inputs.iter().map(|(name, input)| proposed_input(name, input)).collect();
        }
        "steps" => {
            return scope
                .steps()
                .map(|(name, step)| Proposal::new(Sort::Name, name).detail(step.uses()))
                .collect();
        }
        "run" => return scope.run().iter().map(field).collect(),
        "secrets" => {
            return scope.survey.secrets.keys().map(|name| Proposal::new(Sort::Name, name)).collect();
        }
        _ => {}
    }
    if let Some((_, step)) =
        receiver.strip_prefix("steps.").and_then(|name| scope.steps().find(|(known, _)| *known == name))
    {
        let outputs = step.outputs();
        let about = about_step();
        let besides = about.iter().filter(|about| outputs.iter().all(|output| output.name != about.name));
        return outputs.iter().chain(besides).map(field).collect();
    }
    scope.type_of(receiver, &before.locals).map(|ty| members(&ty)).unwrap_or_default()
}

fn proposed_input(name: &str, input: &survey::Input) -> Proposal {
    let ty = input.ty.as_ref().map_or_else(String::new, brief);
    Proposal::new(Sort::Name, name).detail(ty).doc(input.description.as_deref())
}

fn globals(before: &Before<'_>, scope: &Scope<'_>) -> Vec<Proposal> {
    let locals = before
        .locals
        .iter()
        .rev()
        .map(|(name, list)| Proposal::new(Sort::Name, *name).detail(format!("an item of {list}")));
    let globals =
        scope.globals().into_iter().map(|(name, doc)| Proposal::new(Sort::Name, name).doc(Some(doc)));
    let functions =
        FUNCTIONS.iter().filter(|function| !function.method).map(|f| called(f.name, f.form, f.doc, false));
    let forms =
        FORMS.iter().filter(|form| form.receiver.is_none()).map(|f| called(f.name, f.form, f.doc, false));
    locals.chain(globals).chain(functions).chain(forms).collect()
}

/// What can be asked of a value of the type: its fields, and the functions that take it.
fn members(ty: &Type) -> Vec<Proposal> {
    let fields = match ty {
        Type::Option(inner) => fields_of_record(inner),
        ty => fields_of_record(ty),
    };
    let functions =
        FUNCTIONS.iter().filter(|function| function.suits(ty)).map(|f| called(f.name, f.form, f.doc, true));
    let forms = FORMS.iter().filter(|form| form.receiver.is_some_and(|suits| suits(ty)));
    let fields = fields.iter().map(|field| Proposal::field(Sort::Field, field));
    fields.chain(functions).chain(forms.map(|f| called(f.name, f.form, f.doc, true))).collect()
}

fn fields_of_record(ty: &Type) -> &[Field] {
    if let Type::Record(fields) = ty { fields } else { &[] }
}

/// A function, with its brackets; where it is asked of something and takes nothing else, both.
fn called(name: &str, form: &str, doc: &str, asked: bool) -> Proposal {
    let bracket = if asked && form.contains(&format!(".{name}()")) { "()" } else { "(" };
    let insert = format!("{name}{bracket}");
    Proposal { insert, ..Proposal::new(Sort::Function, name).detail(form).doc(Some(doc)) }
}

#[cfg(test)]
mod tests;
