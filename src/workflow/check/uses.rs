//! `uses:`, from its text to a function of a component.

use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::Node;
use crate::workflow::suggest;
use crate::workflow::types::{Catalog, ComponentType, FunctionType};
use std::collections::HashMap;
use std::sync::Arc;

/// The version of every component until the first release: 0.x counts as 1.
pub(crate) const MAJOR: &str = "1";

/// A function that a step calls.
pub(super) struct Called {
    pub(super) component: Arc<ComponentType>,
    pub(super) function: FunctionType,
}

impl Called {
    /// `git/clone`, for messages.
    pub(super) fn label(&self) -> String {
        format!("{}/{}", self.component.name, self.function.name)
    }
}

/// Components as they are asked for, each once.
pub(super) struct Components<'c> {
    catalog: &'c dyn Catalog,
    known: HashMap<String, Result<Arc<ComponentType>, String>>,
}

impl<'c> Components<'c> {
    pub(super) fn new(catalog: &'c dyn Catalog) -> Self {
        Self { catalog, known: HashMap::new() }
    }

    /// The function that `text` names; reports where there is none.
    pub(super) fn find(&mut self, report: &mut Report, node: &Node, text: &str) -> Option<Called> {
        let form = match form(text) {
            Ok(form) => form,
            Err((code, message, help)) => {
                report.add(code, node.span.clone(), message).help(help);
                return None;
            }
        };
        let at =
            |part: &str| node.locate(&report.source, part.as_ptr() as usize - text.as_ptr() as usize, part);
        let (component_span, function_span) = (at(form.component), at(form.function));
        let version_span = form.version.map(at);
        let found = self
            .known
            .entry(form.component.to_owned())
            .or_insert_with(|| self.catalog.component(form.component));
        let component = match found {
            Ok(component) => component.clone(),
            Err(reason) => {
                let names = self.catalog.names();
                // A file, or an embedded one: it is there, and cannot be loaded.
                let there = form.file || names.iter().any(|name| name == form.component);
                let near = suggest::nearest(form.component, names.iter().map(String::as_str));
                let message = format!("there is no component `{}`", form.component);
                let diagnostic = report.add(code::UNKNOWN_COMPONENT, component_span, message);
                match near {
                    Some(_) if !there => {
                        let names = names.iter().map(String::as_str);
                        diagnostic.suggest(suggest::help("the components are", form.component, names))
                    }
                    _ => diagnostic.help(reason.clone()),
                };
                if there {
                    diagnostic.message = format!("`{}` cannot be used as a component", form.component);
                }
                return None;
            }
        };
        if let (Some(version), Some(span)) = (form.version, version_span)
            && version != MAJOR
        {
            report
                .add(code::VERSION, span, format!("component `{}` has no version {version}", component.name))
                .help(format!("write `@{MAJOR}`, or leave the version out"));
        }
        let Some(function) = component.function(form.function) else {
            let names = component.functions.iter().map(|function| function.name.as_str());
            let help = suggest::help("its functions are", form.function, names);
            let message = format!("component `{}` has no function `{}`", component.name, form.function);
            report.add(code::UNKNOWN_FUNCTION_OF_COMPONENT, function_span, message).suggest(help);
            return None;
        };
        let function = function.clone();
        Some(Called { component, function })
    }
}

/// Whether `uses:` names a workflow file and no component.
pub(crate) fn names_workflow(text: &str) -> bool {
    let path = text.split(['#', '@']).next().unwrap_or_default();
    !text.contains("://") && (path.ends_with(".yaml") || path.ends_with(".yml"))
}

/// The part of a good `uses:` that names the component.
pub(super) fn component(text: &str) -> Option<&str> {
    form(text).ok().map(|form| form.component)
}

struct Form<'t> {
    component: &'t str,
    function: &'t str,
    version: Option<&'t str>,
    file: bool,
}

type Refusal = (code::Code, String, &'static str);

fn form(text: &str) -> Result<Form<'_>, Refusal> {
    const HELP: &str = "write `component/function`, such as `git/clone`, or `./file.wasm#function`";
    let later = |what: &str| Err((code::UNSUPPORTED, format!("{what} are not supported yet"), HELP));
    if text.contains("${{") {
        return Err((
            code::BAD_USES,
            "`uses` takes no expression: types are checked before anything runs".into(),
            HELP,
        ));
    }
    if text.starts_with("oci://") || text.starts_with("https://") || text.starts_with("http://") {
        return later("components from registries");
    }
    let (path, function) = match text.split_once('#') {
        Some((path, function)) => (path, Some(function)),
        None => (text, None),
    };
    if path.ends_with(".wasm") {
        return match function {
            Some(function) if !function.is_empty() => {
                let (function, version) = split_version(function);
                Ok(Form { component: path, function, version, file: true })
            }
            _ => Err((code::BAD_USES, format!("`{path}` names no function"), "write `./file.wasm#function`")),
        };
    }
    let (name, version) = split_version(text);
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    match name.split_once('/') {
        Some((component, function)) if word(component) && word(function) => {
            Ok(Form { component, function, version, file: false })
        }
        None if word(name) => Err((code::BAD_USES, format!("`{name}` names no function"), HELP)),
        _ => Err((code::BAD_USES, "this names no function of a component".into(), HELP)),
    }
}

fn split_version(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    }
}
