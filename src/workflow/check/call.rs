//! A step that calls a function of a component.

use super::raw::RawStep;
use super::uses::Called;
use super::value::Values;
use super::world::World;
use super::{arguments, cache, concurrency, handles, network, permission, retry};
use crate::step::{ErrorKind, Permission};
use crate::workflow::cel::typing::{Names, Usage};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::model::{Action, Call};
use crate::workflow::types::Type;

/// Checks a call. `None` where its function is not known, which is reported.
pub(super) fn call(
    report: &mut Report,
    raw: &RawStep<'_>,
    called: Option<&Called>,
    world: &World<'_>,
    names: &Names<'_>,
    usage: &mut Usage,
) -> Option<Action> {
    let uses = raw.uses();
    let with = arguments::arguments(report, raw, called, names, usage);
    let sandboxes = handles::sandboxes(report, raw, called, world);
    let network = raw.fields.get("network").and_then(|entry| {
        network::of_step(report, entry, called.map(Called::label).as_deref(), &sandboxes, world.sandboxes)
    });
    let secrets = handles::secrets(report, raw, called, world, usage);
    let permissions = match raw.fields.get("permissions") {
        Some(entry) => permission::read(report, entry, world.secrets),
        None => world.permissions.to_vec(),
    };
    if let Some(called) = called {
        ungranted(report, raw, called, &permissions);
    }
    for permission in &permissions {
        if let Permission::Reveal(names) = permission {
            usage.secrets.extend(names.iter().cloned());
        }
    }
    let own = called.map(|called| called.function.errors.clone().unwrap_or_else(|| vec![ErrorKind::OTHER]));
    let outputs = called.map(|called| &called.function.outputs);
    let converses =
        outputs.is_none_or(|outputs| outputs.iter().any(|output| output.name == retry::CONVERSATION));
    let attempts = retry::attempts(report, &raw.fields, uses, own.as_deref(), converses);
    let concurrency =
        raw.fields.get("concurrency").and_then(|entry| concurrency::concurrency(report, entry, names, usage));
    let cache = raw.fields.get("cache").and_then(|entry| cache::cache(report, entry, names, usage));
    let idempotency_key = raw.fields.get("idempotency-key").and_then(|entry| {
        let mut values = Values { report, names, usage, code: code::BAD_VALUE };
        values.read(&entry.value, &Type::String, "`idempotency-key`")
    });
    let called = called?;
    Some(Action::Call(Box::new(Call {
        uses: uses.to_owned(),
        component: called.component.name.clone(),
        digest: called.component.digest,
        function: called.function.name.clone(),
        with,
        sandboxes,
        network,
        secrets,
        permissions,
        attempts,
        concurrency,
        cache,
        idempotency_key,
    })))
}

fn ungranted(report: &mut Report, raw: &RawStep<'_>, called: &Called, permissions: &[Permission]) {
    let granted = |need: &str| {
        permissions.iter().any(|permission| match permission {
            Permission::Sandboxes => need == "sandboxes",
            Permission::Images => need == "images",
            Permission::Volumes => need == "volumes",
            Permission::Repos => need == "repos",
            Permission::Scratch => need == "scratch",
            Permission::Http(_) => need == "http",
            Permission::Reveal(_) => need == "reveal",
        })
    };
    for need in called.component.needs.iter().filter(|need| !granted(need)) {
        let span = match raw.fields.get("permissions") {
            Some(entry) => entry.key_span.clone(),
            None => {
                raw.fields.get("uses").map_or(raw.entry.key_span.clone(), |entry| entry.value.span.clone())
            }
        };
        let grant = match need.as_str() {
            "http" => "{ http: [api.example.com] }".to_owned(),
            "reveal" => "{ reveal: [secret_name] }".to_owned(),
            other => other.to_owned(),
        };
        report
            .add(
                code::UNGRANTED,
                span,
                format!("step `{}` needs the permission `{need}`, which is not granted", raw.id),
            )
            .help(format!("write `permissions: [{grant}]` in the step, or at the top for every step"));
    }
}
