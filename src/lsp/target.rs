//! What a name in a file stands for: what it is in words, and where it is declared.

use super::cursor::{At, Cursor};
use super::describe;
use super::expression::Name;
use super::place::{Place, Stand};
use super::scope::Scope;
use crate::workflow::cel::typing::about_step;
use crate::workflow::cel::{FORMS, FUNCTIONS};
use crate::workflow::check::{Shape, Survey, survey};
use crate::workflow::template;
use crate::workflow::types::{Field, Type};
use std::ops::Range;

/// What a name stands for.
#[derive(Debug)]
pub(super) struct Target {
    /// Bytes of the name.
    pub(super) span: Range<usize>,
    /// What it is, as Markdown.
    pub(super) doc: String,
    /// The key that declares it in this file.
    pub(super) declared: Option<Range<usize>>,
}

impl Target {
    /// What the name at byte `at` stands for.
    pub(super) fn find(text: &str, at: usize, survey: &Survey) -> Option<Self> {
        let at = text.floor_char_boundary(at);
        let cursor = Cursor::find(text, at)?;
        let place = Place::of(&cursor.path, survey);
        let finder = Finder { survey, place: &place };
        match &cursor.at {
            At::Key { text: name, start, .. } => {
                let (doc, declared) = finder.key(name, &cursor.keys())?;
                Some(Self { span: *start..start + name.len(), doc, declared })
            }
            At::Value { text: value, offset, start, .. } => {
                let bare = place.shapes().iter().any(|shape| matches!(shape, Shape::Expression));
                let hole = if bare { Some(0..value.len()) } else { template::around(value, *offset) };
                if let Some(hole) = hole {
                    let name = Name::at(&value[hole.clone()], offset - hole.start)?;
                    // Names have no escapes, so their bytes are those of the file.
                    let start = at - (offset - hole.start - name.span.start);
                    let (doc, declared) = finder.expression(&name, &Scope::of(&cursor.path, survey))?;
                    return Some(Self { span: start..start + name.text.len(), doc, declared });
                }
                let (doc, declared) = finder.value(value)?;
                let end = (start + value.len()).min(text.len());
                Some(Self { span: *start..text.floor_char_boundary(end), doc, declared })
            }
        }
    }
}

type Found = Option<(String, Option<Range<usize>>)>;

struct Finder<'s> {
    survey: &'s Survey,
    place: &'s Place<'s>,
}

impl Finder<'_> {
    fn key(&self, name: &str, path: &[&str]) -> Found {
        match path {
            ["inputs"] => return self.input(name),
            ["steps" | "finally"] | ["steps" | "finally", _, "steps"] => return self.step(name),
            ["secrets"] => return self.secret(name),
            ["sandboxes"] => return self.sandbox(name),
            _ => {}
        }
        let shapes = match &self.place.stand {
            Stand::Grammar(shapes) => shapes,
            Stand::Typed(ty) => return member(ty, name),
            Stand::Unknown => return None,
        };
        let function = self.place.step.and_then(|step| step.function());
        if shapes.iter().any(|shape| matches!(shape, Shape::Inputs)) {
            return self.input(name);
        }
        let doc = shapes.iter().find_map(|shape| match shape {
            Shape::Keys(keys) => keys.find(name).map(|key| describe::value(name, None, Some(key.doc))),
            Shape::Kinds(kinds) => {
                let key = kinds.iter().find_map(|keys| keys.find(name))?;
                Some(describe::value(name, None, Some(key.doc)))
            }
            Shape::Arguments => {
                let parameters = self.place.step?.parameters();
                let field = parameters.iter().find(|field| field.name == name)?;
                let doc = field.doc.as_deref().or(function.and_then(|function| function.doc.as_deref()));
                Some(describe::value(name, Some(&field.ty), doc))
            }
            Shape::Slots => {
                let slot = function?.secrets.iter().find(|slot| slot.name == name)?;
                let optional = if slot.optional { ", may stay unbound" } else { "" };
                Some(format!("secret slot `{name}`{optional}"))
            }
            Shape::SandboxParameters => {
                function?.sandboxes.iter().find(|parameter| *parameter == name)?;
                Some(format!("sandbox parameter `{name}`"))
            }
            _ => None,
        });
        Some((doc?, None))
    }

    fn value(&self, text: &str) -> Found {
        self.place.shapes().iter().find_map(|shape| match shape {
            Shape::Uses => {
                let step = self.place.step?;
                let doc = match step.called() {
                    Some((component, function)) => describe::function(component, function),
                    None => describe::workflow(step.workflow()?, &step.parameters()),
                };
                Some((doc, None))
            }
            Shape::Item => self.item(self.place.step?.item()?),
            Shape::Step => self.step(text),
            Shape::Sandbox => self.sandbox(text),
            Shape::Secret => self.secret(text),
            _ => None,
        })
    }

    fn expression(&self, name: &Name<'_>, scope: &Scope<'_>) -> Found {
        let text = name.text;
        if name.called {
            let function = FUNCTIONS.iter().find(|function| function.name == text).map(|f| (f.form, f.doc));
            let form = || FORMS.iter().find(|form| form.name == text).map(|f| (f.form, f.doc));
            let (form, doc) = function.or_else(form)?;
            return Some((format!("`{form}`\n\n{doc}"), None));
        }
        let typed = |expression: &str| {
            let ty = scope.type_of(expression, &name.locals)?;
            Some((describe::value(text, Some(&ty), None), None))
        };
        let field = |field: &Field| (describe::value(text, Some(&field.ty), field.doc.as_deref()), None);
        match name.receiver {
            None if name.locals.iter().any(|(local, _)| *local == text) => typed(text),
            None => {
                if let Some(item) = self.place.loop_item().filter(|item| item.name == text)
                    && scope.value(text).is_some()
                {
                    return self.item(item);
                }
                let (_, doc) = scope.globals().into_iter().find(|(global, _)| *global == text)?;
                Some((describe::value(text, None, Some(doc)), None))
            }
            Some("inputs") => self.input(text),
            Some("steps") => self.step(text),
            Some("secrets") => self.secret(text),
            Some("run") => scope.run().iter().find(|known| known.name == text).map(field),
            Some(receiver) => {
                let step = receiver.strip_prefix("steps.").and_then(|step| self.survey.steps.get(step));
                let Some(step) = step else { return typed(&format!("{receiver}.{text}")) };
                let (doc, _) = output(step, text).as_ref().map(field)?;
                Some((doc, Some(step.span.clone())))
            }
        }
    }

    fn input(&self, name: &str) -> Found {
        let input = self.survey.inputs.get(name)?;
        let doc = describe::value(name, input.ty.as_ref(), input.description.as_deref());
        Some((format!("input {doc}"), Some(input.span.clone())))
    }

    fn item(&self, item: &survey::Item) -> Found {
        let doc = describe::value(&item.name, item.ty.as_ref(), None);
        Some((format!("item {doc}"), Some(item.span.clone())))
    }

    fn step(&self, name: &str) -> Found {
        let step = self.survey.steps.get(name)?;
        Some((describe::step(name, step), Some(step.span.clone())))
    }

    fn secret(&self, name: &str) -> Found {
        let span = self.survey.secrets.get(name)?;
        Some((format!("secret `{name}`"), Some(span.clone())))
    }

    fn sandbox(&self, name: &str) -> Found {
        let span = self.survey.sandboxes.get(name)?;
        Some((format!("sandbox `{name}`"), (!span.is_empty()).then(|| span.clone())))
    }
}

/// What a step has under this name: an output, or what every step has.
fn output(step: &survey::Step, name: &str) -> Option<Field> {
    step.outputs().iter().chain(&about_step()).find(|field| field.name == name).cloned()
}

/// A field of an argument.
fn member(ty: &Type, name: &str) -> Found {
    match ty {
        Type::Option(inner) => member(inner, name),
        Type::Record(fields) => {
            let field = fields.iter().find(|field| field.name == name)?;
            Some((describe::value(name, Some(&field.ty), field.doc.as_deref()), None))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
