//! Functions, steps and values in words, as Markdown.

use crate::step::ErrorKind;
use crate::workflow::Workflow;
use crate::workflow::cel::typing::brief;
use crate::workflow::check::survey;
use crate::workflow::suggest::listed;
use crate::workflow::types::{ComponentType, Field, FunctionType, Type};

/// A function: what it does, takes and returns.
pub(super) fn function(component: &ComponentType, function: &FunctionType) -> String {
    let mut text = format!("**{}/{}**\n", component.name, function.name);
    if let Some(doc) = &function.doc {
        text.push_str(&format!("\n{}\n", one_line(doc)));
    }
    section(&mut text, "Takes", function.parameters.iter().map(field).collect());
    let mut handles: Vec<String> =
        function.sandboxes.iter().map(|name| format!("the sandbox `{name}`")).collect();
    for slot in &function.secrets {
        handles.push(format!("the secret `{}`{}", slot.name, if slot.optional { ", optional" } else { "" }));
    }
    if function.any_secrets.is_some() {
        handles.push("secrets by any name".to_owned());
    }
    section(&mut text, "Is handed", handles);
    section(&mut text, "Returns", function.outputs.iter().map(field).collect());
    if let Some(errors) = function.errors.as_ref().filter(|errors| !errors.is_empty()) {
        text.push_str(&format!("\nFails with {}.\n", listed(errors.iter().map(ErrorKind::as_str))));
    }
    if !component.needs.is_empty() {
        let needs = listed(component.needs.iter().map(String::as_str));
        text.push_str(&format!("\nNeeds the permission {needs}.\n"));
    }
    text
}

/// A step: its name and what it calls.
pub(super) fn step(name: &str, step: &survey::Step) -> String {
    let place = if step.finally { "step of `finally`" } else { "step" };
    let group = step.group.as_ref().map_or_else(String::new, |group| format!(" of the loop `{group}`"));
    let head = format!("{place} `{name}`{group}: `{}`\n", step.uses());
    if let Some((component, called)) = step.called() {
        return format!("{head}\n{}", function(component, called));
    }
    let mut text = head;
    if let Some(workflow) = step.workflow() {
        text.push_str(&format!("\n{}", self::workflow(workflow, &step.parameters())));
    }
    if let Some(item) = step.item() {
        text.push_str(&format!("\nOnce for each {}.\n", value(&item.name, item.ty.as_ref(), None)));
    }
    section(&mut text, "Returns", step.outputs().iter().map(field).collect());
    text
}

/// A workflow that a step runs: what it is for, and what it takes.
pub(super) fn workflow(workflow: &Workflow, inputs: &[Field]) -> String {
    let mut text = format!("**{}**\n", workflow.name);
    if let Some(description) = &workflow.description {
        text.push_str(&format!("\n{}\n", one_line(description)));
    }
    section(&mut text, "Takes", inputs.iter().map(field).collect());
    text
}

fn section(text: &mut String, title: &str, items: Vec<String>) {
    if !items.is_empty() {
        let items: String = items.iter().map(|item| format!("\n- {item}")).collect();
        text.push_str(&format!("\n{title}\n{items}\n"));
    }
}

/// A name with its type and what is known of it.
pub(super) fn value(name: &str, ty: Option<&Type>, doc: Option<&str>) -> String {
    let head = match ty {
        Some(ty) => format!("`{name}`: {}", type_name(ty)),
        None => format!("`{name}`"),
    };
    match doc {
        Some(doc) => format!("{head}\n\n{}", one_line(doc)),
        None => head,
    }
}

/// A type as code, a large one by the names of its fields; what may be absent says so in words.
pub(super) fn type_name(ty: &Type) -> String {
    match ty {
        Type::Option(inner) => format!("`{}`, may be absent", brief(inner)),
        ty => format!("`{}`", brief(ty)),
    }
}

fn field(field: &Field) -> String {
    value(&field.name, Some(&field.ty), field.doc.as_deref()).replace("\n\n", ": ")
}

/// Documentation in WIT is wrapped; paragraphs stay.
pub(super) fn one_line(doc: &str) -> String {
    let paragraphs = doc.split("\n\n").map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
