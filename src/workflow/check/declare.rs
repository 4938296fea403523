//! The declarations of a workflow: inputs with their types and limits, and where secrets come from.

use super::grammar::{FIELD, INPUT, SECRET, TYPES};
use super::shape;
use super::value::Values;
use crate::workflow::cel::typing::{Names, Usage};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Entry, Kind, Node};
use crate::workflow::inputs;
use crate::workflow::literal;
use crate::workflow::model::{Input, SecretSource, Template};
use crate::workflow::suggest;
use crate::workflow::types::{Field, Type};
use indexmap::{IndexMap, IndexSet};

/// Reads `inputs:`. An input whose type is wrong has the type `None`, so that its uses are not reported too.
pub(super) fn inputs(
    report: &mut Report,
    entry: &Entry,
) -> (IndexMap<String, Option<Type>>, IndexMap<String, Input>) {
    let mut types = IndexMap::new();
    let mut declared = IndexMap::new();
    for entry in shape::mapping(report, entry, "inputs: { repo: { type: string } }").unwrap_or_default() {
        let (name, good_name) = shape::data_name(report, entry, "an input");
        let (ty, input) = input(report, entry);
        types.insert(name.clone(), ty);
        if let (true, Some(input)) = (good_name, input) {
            declared.insert(name, input);
        }
    }
    (types, declared)
}

fn input(report: &mut Report, entry: &Entry) -> (Option<Type>, Option<Input>) {
    let name = &entry.key;
    let entries = match &entry.value.kind {
        Kind::Map(entries) => entries,
        Kind::Scalar { text, .. } if TYPES.contains(&text.as_str()) => {
            // `repo: string` is short for `repo: { type: string }`.
            let ty = type_of(report, &entry.value, name);
            let input = ty.clone().map(|ty| Input {
                ty,
                default: None,
                pattern: None,
                min: None,
                max: None,
                description: None,
            });
            return (ty, input);
        }
        _ => {
            shape::shape(report, name, &entry.value, "a mapping", &format!("{name}: {{ type: string }}"));
            return (None, None);
        }
    };
    let fields = shape::fields(report, entries, &INPUT);
    let Some(ty) = described_type(report, &fields, entry, name) else { return (None, None) };
    let before = report.errors();
    let bare = if let Type::Option(inner) = &ty { (**inner).clone() } else { ty.clone() };
    let pattern = fields.get("pattern").and_then(|entry| {
        let text = shape::text(report, entry, "pattern: '^[a-z]+$'")?;
        if bare != Type::String {
            report
                .add(
                    code::BAD_VALUE,
                    entry.key_span.clone(),
                    format!("`pattern` is for strings, but `{name}` is {ty}"),
                )
                .help("remove it, or make the input a string");
        } else if let Err(error) = inputs::regex(text) {
            report
                .add(
                    code::BAD_VALUE,
                    entry.value.span.clone(),
                    format!("the pattern is no regular expression: {error}"),
                )
                .help("write one such as '^[a-z]+$', in single quotes so that backslashes stay");
        }
        Some(text.to_owned())
    });
    let mut limit = |key: &str| {
        let entry = fields.get(key)?;
        let (of, example) = match &bare {
            Type::Duration => (Type::Duration, "5m"),
            Type::Size => (Type::Size, "1GiB"),
            Type::Int | Type::String | Type::List(_) => (Type::Int, "1"),
            Type::Float => (Type::Float, "0.5"),
            other => {
                report
                    .add(
                        code::BAD_VALUE,
                        entry.key_span.clone(),
                        format!("`{key}` has no meaning for {other}"),
                    )
                    .help("remove it; numbers, durations, sizes, texts and lists have limits");
                return None;
            }
        };
        shape::scalar(report, entry, &of, example)?.as_f64()
    };
    let (min, max) = (limit("min"), limit("max"));
    if let (Some(min), Some(max), Some(entry)) = (min, max, fields.get("max"))
        && max < min
    {
        report
            .add(
                code::BAD_VALUE,
                entry.value.span.clone(),
                format!("`max` of `{name}` is less than its `min`"),
            )
            .help("swap them");
    }
    if let Some(entry) = fields.get("multiline") {
        shape::scalar(report, entry, &Type::Bool, "true");
    }
    let description =
        fields.get("description").and_then(|entry| shape::text(report, entry, "description: what it is"));
    let mut input = Input {
        ty: ty.clone(),
        default: None,
        pattern,
        min,
        max,
        description: description.map(str::to_owned),
    };
    if let Some(entry) = fields.get("default")
        && report.errors() == before
    {
        input.default = default(report, entry, name, &input);
    }
    (Some(ty), (report.errors() == before).then_some(input))
}

/// The default of an input: a value of its type that keeps its limits; expressions see `run` alone.
fn default(report: &mut Report, entry: &Entry, name: &str, input: &Input) -> Option<Template> {
    let (secrets, mut usage) = (IndexSet::new(), Usage::default());
    let names = Names { hashes: false, ..Names::new("the default of an input", &secrets) };
    let template = {
        let mut values = Values { report, names: &names, usage: &mut usage, code: code::BAD_VALUE };
        values.read(&entry.value, &input.ty, &format!("the default of `{name}`"))?
    };
    if let Template::Literal(value) = &template
        && let Err(message) = inputs::keeps_limits(input, value)
    {
        report
            .add(code::BAD_VALUE, entry.value.span.clone(), format!("the default of `{name}` {message}"))
            .help("change the default, or the limit");
    }
    Some(template)
}

/// A type written as a word, `items: string`, or as a mapping, `items: { type: enum, values: [a, b] }`.
fn type_of(report: &mut Report, node: &Node, of: &str) -> Option<Type> {
    match &node.kind {
        Kind::Scalar { text, .. } => match text.as_str() {
            "string" => Some(Type::String),
            "int" => Some(Type::Int),
            "float" => Some(Type::Float),
            "bool" => Some(Type::Bool),
            "duration" => Some(Type::Duration),
            "size" => Some(Type::Size),
            "json" => Some(Type::Any),
            word @ ("enum" | "list" | "object") => {
                let help = match word {
                    "enum" => "{ type: enum, values: [a, b] }",
                    "list" => "{ type: list, items: string }",
                    _ => "{ type: object, fields: { name: string } }",
                };
                report
                    .add(
                        code::MISSING_KEY,
                        node.span.clone(),
                        format!("`{of}`: {word} says nothing about what is inside"),
                    )
                    .help(format!("write `{help}`"));
                None
            }
            other => {
                unknown_type(report, node, other);
                None
            }
        },
        Kind::Map(entries) => {
            let fields = shape::fields(report, entries, &FIELD);
            let entry = Entry { key: of.to_owned(), key_span: node.span.clone(), value: node.clone() };
            described_type(report, &fields, &entry, of)
        }
        _ => {
            shape::shape(report, of, node, "a type", "string");
            None
        }
    }
}

fn unknown_type(report: &mut Report, node: &Node, text: &str) {
    let usual = match text {
        "str" | "text" => Some("string"),
        "integer" => Some("int"),
        "boolean" => Some("bool"),
        "array" => Some("list"),
        "any" => Some("json"),
        "map" | "record" | "dict" => Some("object"),
        _ => suggest::nearest(text, TYPES),
    };
    let diagnostic = report.add(
        code::BAD_VALUE,
        node.span.clone(),
        format!("there is no type `{}`", literal::shown(text)),
    );
    match usual {
        Some(usual) => diagnostic.suggest(format!("did you mean `{usual}`?")),
        None if text == "number" => diagnostic.help("did you mean `int` or `float`?"),
        None => diagnostic.help(format!("the types are {}", suggest::listed(TYPES))),
    };
}

fn described_type(report: &mut Report, fields: &shape::Fields<'_>, entry: &Entry, of: &str) -> Option<Type> {
    let Some(type_entry) = fields.get("type") else {
        report
            .add(code::MISSING_KEY, entry.key_span.clone(), format!("`{of}` has no type"))
            .help(format!("add `type:`, one of {}", suggest::listed(TYPES)));
        return None;
    };
    let word = shape::text(report, type_entry, "type: string")?;
    let missing = |report: &mut Report, key: &str, example: &str| {
        report
            .add(
                code::MISSING_KEY,
                type_entry.value.span.clone(),
                format!("`{of}` is {word} without `{key}`"),
            )
            .help(format!("add `{example}`"));
    };
    for (key, owner) in [("fields", "object"), ("items", "list"), ("values", "enum")] {
        if let (Some(entry), true) = (fields.get(key), word != owner && TYPES.contains(&word)) {
            report
                .add(
                    code::CONFLICTING,
                    entry.key_span.clone(),
                    format!("`{key}` belongs to the type {owner}, but `{of}` is {word}"),
                )
                .help(format!("write `type: {owner}`, or remove `{key}`"));
        }
    }
    let ty = match word {
        "enum" => {
            let Some(values) = fields.get("values") else {
                missing(report, "values", "values: [a, b]");
                return None;
            };
            let values: Vec<_> = shape::texts(report, values, "values: [a, b]")
                .into_iter()
                .map(|(text, _)| text.to_owned())
                .collect();
            if values.is_empty() {
                return None;
            }
            Type::Enum(values)
        }
        "list" => {
            let Some(items) = fields.get("items") else {
                missing(report, "items", "items: string");
                return None;
            };
            Type::List(Box::new(type_of(report, &items.value, &format!("{of}.items"))?))
        }
        "object" => {
            let Some(entry) = fields.get("fields") else {
                missing(report, "fields", "fields: { name: string }");
                return None;
            };
            let mut types = Some(Vec::new());
            for entry in shape::mapping(report, entry, "fields: { name: string }")? {
                shape::data_name(report, entry, "a field");
                let ty = type_of(report, &entry.value, &format!("{of}.{}", entry.key));
                types = types.zip(ty).map(|(mut types, ty)| {
                    types.push(Field { name: entry.key.clone(), ty, doc: None });
                    types
                });
            }
            Type::Record(types?)
        }
        _ => type_of(report, &type_entry.value, of)?,
    };
    let optional = match fields.get("optional") {
        Some(entry) => shape::scalar(report, entry, &Type::Bool, "true")? == true,
        None => false,
    };
    Some(if optional { Type::Option(Box::new(ty)) } else { ty })
}

/// Reads `secrets:`.
pub(super) fn secrets(report: &mut Report, entry: &Entry) -> IndexMap<String, SecretSource> {
    const EXAMPLE: &str = "secrets: { github: { from: env:GITHUB_TOKEN } }";
    let mut secrets = IndexMap::new();
    for entry in shape::mapping(report, entry, EXAMPLE).unwrap_or_default() {
        let (name, _) = shape::data_name(report, entry, "a secret");
        let example = format!("{}: {{ from: env:{} }}", entry.key, entry.key.to_uppercase());
        let mut source = SecretSource { from: Vec::new(), optional: false };
        if let Some(entries) = shape::mapping(report, entry, &example) {
            let fields = shape::fields(report, entries, &SECRET);
            match fields.get("from") {
                Some(from) => {
                    for (text, node) in shape::texts(report, from, "from: env:NAME") {
                        secret_source(report, text, node);
                        source.from.push(text.to_owned());
                    }
                }
                None => {
                    report
                        .add(
                            code::MISSING_KEY,
                            entry.key_span.clone(),
                            format!("secret `{}` says not where it comes from", entry.key),
                        )
                        .help(format!("write `{example}`"));
                }
            }
            if let Some(optional) = fields.get("optional") {
                source.optional =
                    shape::scalar(report, optional, &Type::Bool, "true").is_some_and(|value| value == true);
            }
        }
        secrets.insert(name, source);
    }
    secrets
}

fn secret_source(report: &mut Report, text: &str, node: &Node) {
    const HELP: &str = "write `env:NAME`, `file:PATH`, `command:PROGRAM ARGS` or `modal:SECRET/KEY`";
    let problem = match text.split_once(':') {
        Some(("env", name))
            if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') =>
        {
            return;
        }
        Some(("file" | "command", rest)) if !rest.trim().is_empty() => return,
        Some(("modal", rest))
            if rest.split_once('/').is_some_and(|(secret, key)| !secret.is_empty() && !key.is_empty()) =>
        {
            return;
        }
        Some((scheme @ ("env" | "file" | "command" | "modal"), _)) => {
            format!("the `{scheme}:` source is not complete")
        }
        // The text may be the secret itself, so the message does not repeat it.
        _ => "this is no source of a secret".to_owned(),
    };
    report.add(code::SECRET_SOURCE, node.span.clone(), problem).help(HELP);
}
