//! The handles that a call is given: sandboxes, and secrets in slots.

use super::raw::RawStep;
use super::shape;
use super::uses::Called;
use super::world::World;
use crate::workflow::cel::typing::Usage;
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::Node;
use crate::workflow::suggest;
use std::collections::BTreeMap;

/// Which sandbox each sandbox parameter receives.
pub(super) fn sandboxes(
    report: &mut Report,
    raw: &RawStep<'_>,
    called: Option<&Called>,
    world: &World<'_>,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<String, String> = BTreeMap::new();
    let known = |report: &mut Report, node: &Node, name: &str| {
        let exists = world.sandboxes.contains_key(name);
        if !exists {
            let help = suggest::help("the sandboxes are", name, world.sandboxes.keys().map(String::as_str));
            report
                .add(code::UNKNOWN_SANDBOX, node.span.clone(), format!("there is no sandbox `{name}`"))
                .suggest(help);
        }
        exists
    };
    let Some(called) = called else { return chosen };
    let parameters = &called.function.sandboxes;
    let label = called.label();
    let before = report.errors();
    if let Some(entry) = raw.fields.get("sandbox")
        && let Some(name) = shape::text(report, entry, "sandbox: box")
    {
        match parameters.as_slice() {
            [] => {
                report
                    .add(code::SANDBOX_CHOICE, entry.key_span.clone(), format!("{label} takes no sandbox"))
                    .help("remove `sandbox:`");
            }
            [parameter] => {
                if known(report, &entry.value, name) {
                    chosen.insert(parameter.clone(), name.to_owned());
                }
            }
            several => {
                let example =
                    several.iter().map(|name| format!("{name}: NAME")).collect::<Vec<_>>().join(", ");
                report
                    .add(
                        code::SANDBOX_CHOICE,
                        entry.key_span.clone(),
                        format!("{label} takes {} sandboxes", several.len()),
                    )
                    .help(format!("write `sandboxes: {{ {example} }}`"));
            }
        }
    }
    if let Some(entry) = raw.fields.get("sandboxes") {
        if let Some(other) = raw.fields.get("sandbox") {
            report
                .add(
                    code::CONFLICTING,
                    entry.key_span.clone(),
                    "`sandboxes` and `sandbox` exclude each other",
                )
                .also(other.key_span.clone(), "the other one")
                .help("keep one of them");
        }
        for entry in shape::mapping(report, entry, "sandboxes: { parameter: name }").unwrap_or_default() {
            let Some(name) = shape::text(report, entry, "sandboxes: { parameter: name }") else { continue };
            if !parameters.contains(&entry.key) {
                let help = suggest::help(
                    "its sandbox parameters are",
                    &entry.key,
                    parameters.iter().map(String::as_str),
                );
                let message = format!("{label} has no sandbox parameter `{}`", entry.key);
                report.add(code::SANDBOX_CHOICE, entry.key_span.clone(), message).suggest(help);
            } else if known(report, &entry.value, name) {
                chosen.insert(entry.key.clone(), name.to_owned());
            }
        }
    }
    if report.errors() > before {
        return chosen;
    }
    for parameter in
        parameters.iter().filter(|parameter| !chosen.contains_key(*parameter)).cloned().collect::<Vec<_>>()
    {
        match world.sandboxes.keys().collect::<Vec<_>>().as_slice() {
            [only] => _ = chosen.insert(parameter, (*only).clone()),
            several => {
                let names = suggest::listed(several.iter().map(|name| name.as_str()));
                let message =
                    format!("step `{}` must say in which sandbox it works: there are {names}", raw.id);
                let help = match parameters.len() {
                    1 => format!("add `sandbox: {}`", several.first().map_or("box", |name| name.as_str())),
                    _ => format!(
                        "add `sandboxes: {{ {parameter}: {} }}`",
                        several.first().map_or("box", |name| name.as_str())
                    ),
                };
                report.add(code::SANDBOX_CHOICE, raw.entry.key_span.clone(), message).help(help);
                break;
            }
        }
    }
    chosen
}

/// Which secret each slot receives.
pub(super) fn secrets(
    report: &mut Report,
    raw: &RawStep<'_>,
    called: Option<&Called>,
    world: &World<'_>,
    usage: &mut Usage,
) -> BTreeMap<String, String> {
    let mut bound = BTreeMap::new();
    let function = called.map(|called| &called.function);
    let entry = raw.fields.get("secrets");
    let entries = entry.and_then(|entry| shape::mapping(report, entry, "secrets: { slot: name }"));
    for entry in entries.unwrap_or_default() {
        let known = function.is_none_or(|function| {
            function.any_secrets.is_some() || function.secrets.iter().any(|slot| slot.name == entry.key)
        });
        if let (false, Some(called)) = (known, called) {
            let slots = called.function.secrets.iter().map(|slot| slot.name.as_str());
            let help = suggest::help("its slots are", &entry.key, slots);
            let message = format!("{} has no secret slot `{}`", called.label(), entry.key);
            let diagnostic = report.add(code::UNKNOWN_SLOT, entry.key_span.clone(), message);
            shape::spare(diagnostic.suggest(help), entries.unwrap_or_default());
        }
        let Some(name) = shape::text(report, entry, "secrets: { slot: name }") else { continue };
        usage.secrets.insert(name.to_owned());
        if world.secrets.contains(name) {
            bound.insert(entry.key.clone(), name.to_owned());
        } else {
            let bare =
                name.trim_start_matches("${{").trim_end_matches("}}").trim().trim_start_matches("secrets.");
            let alone = name != bare && world.secrets.contains(bare);
            let help = if alone {
                format!("write the secret's name alone: `{}: {bare}`", entry.key)
            } else if world.secrets.is_empty() {
                format!("declare it: `secrets: {{ {}: {{ from: env:NAME }} }}` at the top", entry.key)
            } else {
                suggest::help("the secrets are", name, world.secrets.iter().map(String::as_str))
            };
            let span = entry.value.span.clone();
            let diagnostic = report.add(code::UNKNOWN_SECRET, span, "there is no secret of this name");
            diagnostic.suggest(help);
            if alone {
                diagnostic.fix(bare);
            }
        }
    }
    for slot in function.map_or(&[][..], |function| &function.secrets) {
        let given = entries.unwrap_or_default().iter().any(|entry| {
            entry.key == slot.name || suggest::nearest(&entry.key, [slot.name.as_str()]).is_some()
        });
        if let (false, false, Some(called)) = (slot.optional, given, called) {
            let span = entry.map_or(raw.entry.key_span.clone(), |entry| entry.key_span.clone());
            let name = world.secrets.iter().next().map_or("NAME", String::as_str);
            report
                .add(
                    code::UNBOUND_SLOT,
                    span,
                    format!(
                        "step `{}` binds no secret to the slot `{}` of {}",
                        raw.id,
                        slot.name,
                        called.label()
                    ),
                )
                .help(format!("write `secrets: {{ {}: {name} }}`", slot.name));
        }
    }
    bound
}
