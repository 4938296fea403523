//! `uses:`, and what follows from it: arguments, slots, sandboxes and error kinds by the types of the function.

use super::build::{about, map, names, object, one_or_several, words};
use super::step::retry;
use super::value::with_holes;
use crate::step::ErrorKind;
use crate::workflow::check::MAJOR;
use crate::workflow::doc;
use crate::workflow::types::{ComponentType, FunctionType, Type};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The components that files can use.
#[derive(Default)]
pub(super) struct Known {
    /// Each under the name that `uses` gives it: `git`, `./team.wasm`.
    components: Vec<(String, Arc<ComponentType>)>,
    /// Why others are not here.
    pub(super) left_out: Vec<String>,
}

impl Known {
    pub(super) fn add(&mut self, name: &str, found: Result<Arc<ComponentType>, String>) {
        match found {
            Ok(component) => self.components.push((name.to_owned(), component)),
            Err(reason) => self.left_out.push(reason),
        }
    }

    fn functions(&self) -> impl Iterator<Item = Called<'_>> {
        self.components.iter().flat_map(|(component, ty)| {
            ty.functions.iter().map(move |function| Called { component, function })
        })
    }

    /// The schema of `uses:` itself: what is known by name, and every form that something else can have.
    pub(super) fn uses(&self) -> Value {
        let labels: Vec<_> = self.functions().map(|called| called.label()).collect();
        let docs = self.functions().map(|called| {
            doc::summary(called.function).unwrap_or_else(|| format!("A function of {}.", called.component))
        });
        let mut forms = vec![json!({ "enum": labels, "enumDescriptions": docs.collect::<Vec<_>>() })];
        forms.extend(self.functions().map(|called| json!({ "pattern": called.pattern() })));
        let function = "[A-Za-z][A-Za-z0-9_-]*(@[0-9]+)?";
        forms.extend([
            json!({ "pattern": format!(r"^[^#$:]+\.wasm#{function}$") }),
            json!({ "pattern": r"^[^#$:]+\.ya?ml$" }),
        ]);
        about(
            "What the step calls: `component/function`, `./file.wasm#function`, or the workflow `./file.yaml`.",
            json!({ "type": "string", "anyOf": forms }),
        )
    }

    /// What each known function says of the other keys of a step.
    pub(super) fn rules(&self) -> Vec<Value> {
        self.functions().map(|called| called.rule()).collect()
    }
}

/// A function under the name that `uses` gives it.
struct Called<'c> {
    component: &'c str,
    function: &'c FunctionType,
}

impl Called<'_> {
    fn label(&self) -> String {
        let separator = if self.component.ends_with(".wasm") { '#' } else { '/' };
        format!("{}{separator}{}", self.component, self.function.name)
    }

    /// Every way to write it: either spelling, with the version or without.
    fn pattern(&self) -> String {
        let label = self.label();
        let (component, function) = label.split_at(label.len() - self.function.name.len());
        format!("^{}{}(@{MAJOR})?$", escaped(component), function.replace('_', "[_-]"))
    }

    fn rule(&self) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        properties.insert("with".into(), self.with());
        if self.function.parameters.iter().any(|parameter| !matches!(parameter.ty, Type::Option(_))) {
            required.push("with");
        }
        properties.insert("secrets".into(), self.secrets());
        if self.function.secrets.iter().any(|slot| !slot.optional) {
            required.push("secrets");
        }
        match self.function.sandboxes.as_slice() {
            [] => properties.extend([("sandbox".into(), false.into()), ("sandboxes".into(), false.into())]),
            [_] => {}
            several => {
                properties.insert("sandbox".into(), false.into());
                properties.insert("sandboxes".into(), self.sandboxes(several));
            }
        }
        properties.insert("retry".into(), retry(&self.kinds()));
        let mut then = json!({ "properties": properties });
        if !required.is_empty() {
            then["required"] = json!(required);
        }
        let uses = json!({ "uses": { "type": "string", "pattern": self.pattern() } });
        json!({ "if": { "properties": uses, "required": ["uses"] }, "then": then })
    }

    fn with(&self) -> Value {
        let parameters = &self.function.parameters;
        let described = |parameter| {
            let doc = doc::parameter(self.function, parameter);
            let mut schema = about(&doc.text, with_holes(&parameter.ty));
            if let Some(default) = doc.default {
                schema["default"] = default;
            }
            (parameter.name.as_str(), schema)
        };
        let properties: Vec<_> = parameters.iter().map(described).collect();
        let required: Vec<_> = parameters
            .iter()
            .filter(|parameter| !matches!(parameter.ty, Type::Option(_)))
            .map(|parameter| parameter.name.as_str())
            .collect();
        let text = match doc::whole(self.function) {
            Some(doc) => format!("{}: {doc}", self.label()),
            None => format!("The arguments of {}.", self.label()),
        };
        about(&text, object(&properties, &required))
    }

    fn secrets(&self) -> Value {
        let slot = |slot: &crate::workflow::types::Slot| {
            let need = if slot.optional { "may stay unbound" } else { "must be bound" };
            let text = format!("The secret for the slot `{}` of {}, which {need}.", slot.name, self.label());
            (slot.name.clone(), about(&text, names()))
        };
        let slots: Map<_, _> = self.function.secrets.iter().map(slot).collect();
        let required: Vec<_> =
            self.function.secrets.iter().filter(|slot| !slot.optional).map(|slot| &slot.name).collect();
        let (text, further) = match self.function.any_secrets {
            Some(_) => {
                ("Secrets by the name of the variable that each becomes, for this call alone.", names())
            }
            None => ("Which secret each slot of the function is given.", false.into()),
        };
        about(text, json!({ "properties": slots, "required": required, "additionalProperties": further }))
    }

    fn sandboxes(&self, parameters: &[String]) -> Value {
        let described = |name: &String| {
            (name.clone(), about(&format!("The sandbox for `{name}` of {}.", self.label()), names()))
        };
        let properties: Map<_, _> = parameters.iter().map(described).collect();
        let mut schema = map(json!({}), false.into());
        schema["properties"] = properties.into();
        about("The sandboxes of the function, by parameter.", schema)
    }

    /// The kinds of error that `retry.on` may name.
    fn kinds(&self) -> Value {
        let (host, other) = (ErrorKind::HOST, [ErrorKind::OTHER]);
        let own = self.function.errors.as_deref().unwrap_or(&other);
        let kinds: indexmap::IndexSet<_> = own.iter().chain(&host).map(ErrorKind::as_str).collect();
        one_or_several(words(&kinds.into_iter().collect::<Vec<_>>()))
    }
}

/// A text as a pattern for itself. Editors read patterns in a mode that refuses needless escapes.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| r"\.+*?()|[]{}^$".contains(c).then_some('\\').into_iter().chain([c])).collect()
}
