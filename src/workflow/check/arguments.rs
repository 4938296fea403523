//! `with:` of a call: each argument by its parameter's type, none missing, none unknown, and no text from outside
//! inside a program.

use super::raw::RawStep;
use super::shape;
use super::uses::Called;
use super::value::Values;
use crate::workflow::cel::typing::{self, Names, Usage};
use crate::workflow::code;
use crate::workflow::diagnostic::{Diagnostic, Report};
use crate::workflow::file::{Entry, Kind, Node};
use crate::workflow::model::Template;
use crate::workflow::suggest;
use crate::workflow::template::{self, Piece};
use crate::workflow::types::{FunctionType, Type};
use indexmap::IndexMap;

/// The arguments of a call.
pub(super) fn arguments(
    report: &mut Report,
    raw: &RawStep<'_>,
    called: Option<&Called>,
    names: &Names<'_>,
    usage: &mut Usage,
) -> IndexMap<String, Template> {
    let mut with = IndexMap::new();
    let entry = raw.fields.get("with");
    let entries = entry.and_then(|entry| shape::mapping(report, entry, "with: { name: value }"));
    let Some(called) = called else {
        // The function is unknown, but what the expressions name can still be checked.
        for entry in entries.unwrap_or_default() {
            Values { report, names, usage, code: code::WRONG_ARGUMENT }.infer(&entry.value);
        }
        return with;
    };
    let (function, label) = (&called.function, called.label());
    for entry in entries.unwrap_or_default() {
        let Some(parameter) = function.parameters.iter().find(|parameter| parameter.name == entry.key) else {
            let diagnostic = unknown_parameter(report, entry, function, &label);
            shape::spare(diagnostic, entries.unwrap_or_default());
            Values { report, names, usage, code: code::WRONG_ARGUMENT }.infer(&entry.value);
            continue;
        };
        let what = format!("`{}` of {label}", parameter.name);
        let mut values = Values { report, names, usage, code: code::WRONG_ARGUMENT };
        if let Some(template) = values.read(&entry.value, &parameter.ty, &what) {
            if !matches!(template, Template::Literal(serde_json::Value::Null)) {
                with.insert(parameter.name.clone(), template);
            }
            injection(report, entry, names);
        }
    }
    let lacking = function.parameters.iter().filter(|parameter| {
        let given = entries.unwrap_or_default().iter().any(|entry| {
            entry.key == parameter.name
                || entry.key.replace('-', "_") == parameter.name
                || function.parameters.iter().all(|other| other.name != entry.key)
                    && suggest::nearest(&entry.key, [parameter.name.as_str()]).is_some()
        });
        !given && !matches!(parameter.ty, Type::Option(_))
    });
    let lacking: Vec<_> = lacking.map(|parameter| (parameter.name.as_str(), &parameter.ty)).collect();
    missing(report, raw, &label, &lacking);
    with
}

/// Reports what a step does not give to what it uses: all of it at once.
pub(super) fn missing(report: &mut Report, raw: &RawStep<'_>, label: &str, lacking: &[(&str, &Type)]) {
    let (entry, count) = (raw.fields.get("with"), lacking.len());
    if count == 0 {
        return;
    }
    let span = entry.map_or(raw.entry.key_span.clone(), |entry| entry.key_span.clone());
    let names = suggest::listed(lacking.iter().map(|(name, _)| *name));
    let examples: Vec<_> =
        lacking.iter().map(|(name, ty)| format!("`{name}: ...`, {}", typing::article(ty))).collect();
    let place = if entry.is_some() { "add" } else { "add `with:` and in it" };
    report
        .add(code::MISSING_PARAMETER, span, format!("step `{}` does not give {names} to {label}", raw.id))
        .help(format!("{place} {}", examples.join("; ")));
}

fn unknown_parameter<'r>(
    report: &'r mut Report,
    entry: &Entry,
    function: &FunctionType,
    label: &str,
) -> &'r mut Diagnostic {
    let key = entry.key.as_str();
    let slot = |name: &str| function.secrets.iter().any(|slot| slot.name == name);
    let message = format!("{label} has no parameter `{key}`");
    let names = function.parameters.iter().map(|parameter| parameter.name.as_str());
    let near = suggest::nearest(key, names.clone()).is_some();
    let diagnostic = report.add(code::UNKNOWN_PARAMETER, entry.key_span.clone(), message);
    if slot(key) {
        diagnostic
            .help(format!("`{key}` is a secret slot: write `secrets: {{ {key}: SECRET }}` beside `with:`"))
    } else if function.sandboxes.iter().any(|name| name == key) {
        diagnostic.help("name the sandbox with `sandbox:` beside `with:`")
    } else if near {
        diagnostic.suggest(suggest::help("its parameters are", key, names))
    } else {
        diagnostic.help(format!("its parameters are {}", suggest::listed(names)))
    }
}

/// Warns of text from outside inside a program: `sh -c "... ${{ inputs.x }} ..."`.
fn injection(report: &mut Report, entry: &Entry, names: &Names<'_>) {
    const SHELLS: [&str; 6] = ["sh", "bash", "zsh", "dash", "ash", "fish"];
    let is_text = |node: &Node, wanted: &dyn Fn(&str) -> bool| matches!(&node.kind, Kind::Scalar { text, .. } if wanted(text));
    let script = match (entry.key.as_str(), &entry.value.kind) {
        ("command", Kind::List(items)) => match items.as_slice() {
            [shell, flag, script, ..]
                if is_text(shell, &|text| SHELLS.contains(&text.rsplit('/').next().unwrap_or(text)))
                    && is_text(flag, &|text| text.starts_with('-') && text.ends_with('c')) =>
            {
                script
            }
            _ => return,
        },
        ("code", Kind::Scalar { .. }) => &entry.value,
        _ => return,
    };
    let Kind::Scalar { text, .. } = &script.kind else { return };
    let Ok(pieces) = template::split(text) else { return };
    for piece in &pieces {
        let Piece::Hole { text: hole, offset } = piece else { continue };
        // A whole script from an input is what its author wants; a piece of one is where quoting goes wrong.
        let (ty, _) = typing::check(hole, names, typing::Wanted::Anything, &mut Usage::default());
        if pieces.len() == 1 || !matches!(ty, Some(Type::String | Type::Any)) {
            continue;
        }
        let span = script.locate(&report.source, *offset, hole);
        let help = if entry.key == "command" {
            format!("pass it as an argument: `[sh, -c, '... \"$1\" ...', sh, \"${{{{ {hole} }}}}\"]`")
        } else {
            format!("pass it as an argument: `args: [\"${{{{ {hole} }}}}\"]`, read with `sys.argv[1]`")
        };
        report
            .add(
                code::SHELL_INJECTION,
                span,
                format!("`{hole}` becomes part of a program, whatever it contains"),
            )
            .help(help);
    }
}
