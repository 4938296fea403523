//! One step: what it calls, what it hands over, what it waits for, and how it is tried again.

use super::World;
use super::grammar::{BACKOFF, JITTER, RETRY};
use super::shape::{self, Fields};
use super::uses::Called;
use super::value::Values;
use crate::id::StepId;
use crate::step::{ErrorKind, Permission};
use crate::workflow::cel::typing::{Names, Usage};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Entry, Kind, Node};
use crate::workflow::model::{Read, Retry, Step, Template};
use crate::workflow::suggest;
use crate::workflow::template::{self, Piece};
use crate::workflow::types::{FunctionType, Type};
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// Most attempts of one step; beyond that a schedule is what is meant.
const MAX_ATTEMPTS: u32 = 100;

/// A step whose shape is known and whose references are not yet.
pub(super) struct RawStep<'n> {
    pub(super) id: String,
    pub(super) entry: &'n Entry,
    pub(super) fields: Fields<'n>,
    pub(super) uses: Option<&'n str>,
    pub(super) called: Option<Called>,
    pub(super) finally: bool,
}

/// Checks one step. `None` where it has mistakes.
pub(super) fn step(
    report: &mut Report,
    raw: &RawStep<'_>,
    world: &World<'_>,
    names: &Names<'_>,
    all: &mut Usage,
) -> Option<Step> {
    let before = report.errors();
    let mut usage = Usage::default();
    let function = raw.called.as_ref().map(|called| &called.function);
    let with = arguments(report, raw, names, &mut usage);
    let sandboxes = sandboxes(report, raw, world);
    let secrets = secrets(report, raw, world, all);
    let permissions = match raw.fields.get("permissions") {
        Some(entry) => super::permission::read(report, entry, world.secrets),
        None => world.permissions.to_vec(),
    };
    if let Some(called) = &raw.called {
        ungranted(report, raw, called, &permissions);
    }
    for permission in &permissions {
        if let Permission::Reveal(names) = permission {
            all.secrets.extend(names.iter().cloned());
        }
    }
    let needs = needs(report, raw, world);
    let condition = raw.fields.get("if").and_then(|entry| {
        let text = shape::text(report, entry, "if: inputs.publish")?;
        let reads_before = std::mem::take(&mut usage.reads);
        let mut values = Values { report, names, usage: &mut usage, code: code::NOT_BOOL };
        let condition = values.condition(&entry.value, text);
        if let (Some(condition), false) = (&condition, usage.reads) {
            constant(report, entry, condition);
        }
        usage.reads |= reads_before;
        condition
    });
    let timeout_ms = raw.fields.get("timeout").and_then(|entry| shape::duration(report, entry));
    let idle_timeout_ms = raw.fields.get("idle-timeout").and_then(|entry| shape::duration(report, entry));
    let retry = raw.fields.get("retry").map(|entry| retry(report, entry, raw, function)).unwrap_or_default();
    let reads = std::mem::take(&mut usage.steps);
    let reads =
        reads.into_iter().map(|(step, tolerant)| Read { step: StepId::new(step), tolerant }).collect();
    all.inputs.extend(usage.inputs);
    all.secrets.extend(usage.secrets);
    let called = raw.called.as_ref()?;
    // References to what has mistakes of its own stay: cycles are found among steps with mistakes too.
    Some(Step {
        uses: raw.uses.unwrap_or_default().to_owned(),
        component: called.component.name.clone(),
        digest: called.component.digest,
        function: called.function.name.clone(),
        with,
        sandboxes,
        secrets,
        permissions,
        needs,
        reads,
        condition,
        timeout_ms,
        idle_timeout_ms,
        retry,
        outputs: called.function.outputs.clone(),
    })
    .filter(|_| report.errors() == before)
}

/// The steps that a raw step waits for, as far as they exist, even where it has mistakes.
pub(super) fn edges(step: &Step) -> impl Iterator<Item = &str> {
    step.needs.iter().chain(step.reads.iter().map(|read| &read.step)).map(StepId::as_str)
}

fn arguments(
    report: &mut Report,
    raw: &RawStep<'_>,
    names: &Names<'_>,
    usage: &mut Usage,
) -> IndexMap<String, Template> {
    let mut with = IndexMap::new();
    let entry = raw.fields.get("with");
    let entries = entry.and_then(|entry| shape::mapping(report, entry, "with: { name: value }"));
    let Some(called) = &raw.called else {
        // The function is unknown, but what the expressions name can still be checked.
        for entry in entries.unwrap_or_default() {
            Values { report, names, usage, code: code::WRONG_ARGUMENT }.infer(&entry.value);
        }
        return with;
    };
    let (function, label) = (&called.function, called.label());
    for entry in entries.unwrap_or_default() {
        let Some(parameter) = function.parameters.iter().find(|parameter| parameter.name == entry.key) else {
            unknown_parameter(report, entry, function, &label);
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
    for parameter in &function.parameters {
        let given = entries.unwrap_or_default().iter().any(|entry| {
            entry.key == parameter.name
                || entry.key.replace('-', "_") == parameter.name
                || function.parameters.iter().all(|other| other.name != entry.key)
                    && suggest::nearest(&entry.key, [parameter.name.as_str()]).is_some()
        });
        if given || matches!(parameter.ty, Type::Option(_)) {
            continue;
        }
        let span = entry.map_or(raw.entry.key_span.clone(), |entry| entry.key_span.clone());
        let message = format!("step `{}` does not give `{}` to {label}", raw.id, parameter.name);
        let example =
            format!("`{}: ...`, {}", parameter.name, crate::workflow::cel::typing::article(&parameter.ty));
        let place = if entry.is_some() { "add" } else { "add `with:` and in it" };
        report.add(code::MISSING_PARAMETER, span, message).help(format!("{place} {example}"));
    }
    with
}

fn unknown_parameter(report: &mut Report, entry: &Entry, function: &FunctionType, label: &str) {
    let key = entry.key.as_str();
    let slot = |name: &str| function.secrets.iter().any(|slot| slot.name == name);
    let message = format!("{label} has no parameter `{key}`");
    let names = function.parameters.iter().map(|parameter| parameter.name.as_str());
    let near = suggest::nearest(key, names.clone()).map(str::to_owned);
    let diagnostic = report.add(code::UNKNOWN_PARAMETER, entry.key_span.clone(), message);
    if slot(key) {
        diagnostic
            .help(format!("`{key}` is a secret slot: write `secrets: {{ {key}: SECRET }}` beside `with:`"));
    } else if function.sandboxes.iter().any(|name| name == key) {
        diagnostic.help("name the sandbox with `sandbox:` beside `with:`");
    } else if let Some(near) = near {
        diagnostic.help(format!("did you mean `{near}`?")).fix(near);
    } else {
        diagnostic.help(format!("its parameters are {}", suggest::listed(names)));
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
        let (ty, _) = crate::workflow::cel::typing::check(
            hole,
            names,
            crate::workflow::cel::typing::Wanted::Anything,
            &mut Usage::default(),
        );
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

fn sandboxes(report: &mut Report, raw: &RawStep<'_>, world: &World<'_>) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<String, String> = BTreeMap::new();
    let known = |report: &mut Report, node: &Node, name: &str| {
        let exists = world.sandboxes.contains_key(name);
        if !exists {
            let help = suggest::help("the sandboxes are", name, world.sandboxes.keys().map(String::as_str));
            report
                .add(code::UNKNOWN_SANDBOX, node.span.clone(), format!("there is no sandbox `{name}`"))
                .help(help);
        }
        exists
    };
    let Some(called) = &raw.called else { return chosen };
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
                report.add(code::SANDBOX_CHOICE, entry.key_span.clone(), message).help(help);
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

fn secrets(
    report: &mut Report,
    raw: &RawStep<'_>,
    world: &World<'_>,
    all: &mut Usage,
) -> BTreeMap<String, String> {
    let mut bound = BTreeMap::new();
    let function = raw.called.as_ref().map(|called| &called.function);
    let entry = raw.fields.get("secrets");
    let entries = entry.and_then(|entry| shape::mapping(report, entry, "secrets: { slot: name }"));
    for entry in entries.unwrap_or_default() {
        let known = function.is_none_or(|function| {
            function.any_secrets.is_some() || function.secrets.iter().any(|slot| slot.name == entry.key)
        });
        if let (false, Some(called)) = (known, &raw.called) {
            let slots = called.function.secrets.iter().map(|slot| slot.name.as_str());
            let help = suggest::help("its slots are", &entry.key, slots.clone());
            let message = format!("{} has no secret slot `{}`", called.label(), entry.key);
            let fix = suggest::nearest(&entry.key, slots).map(str::to_owned);
            let diagnostic = report.add(code::UNKNOWN_SLOT, entry.key_span.clone(), message).help(help);
            if let Some(fix) = fix {
                diagnostic.fix(fix);
            }
        }
        let Some(name) = shape::text(report, entry, "secrets: { slot: name }") else { continue };
        all.secrets.insert(name.to_owned());
        if world.secrets.contains(name) {
            bound.insert(entry.key.clone(), name.to_owned());
        } else {
            let bare =
                name.trim_start_matches("${{").trim_end_matches("}}").trim().trim_start_matches("secrets.");
            let help = if name != bare && world.secrets.contains(bare) {
                format!("write the secret's name alone: `{}: {bare}`", entry.key)
            } else if world.secrets.is_empty() {
                format!("declare it: `secrets: {{ {}: {{ from: env:NAME }} }}` at the top", entry.key)
            } else {
                suggest::help("the secrets are", name, world.secrets.iter().map(String::as_str))
            };
            report
                .add(code::UNKNOWN_SECRET, entry.value.span.clone(), "there is no secret of this name")
                .help(help);
        }
    }
    for slot in function.map_or(&[][..], |function| &function.secrets) {
        let given = entries.unwrap_or_default().iter().any(|entry| {
            entry.key == slot.name || suggest::nearest(&entry.key, [slot.name.as_str()]).is_some()
        });
        if let (false, false, Some(called)) = (slot.optional, given, &raw.called) {
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

fn needs(report: &mut Report, raw: &RawStep<'_>, world: &World<'_>) -> Vec<StepId> {
    let Some(entry) = raw.fields.get("needs") else { return Vec::new() };
    let mut needs: Vec<StepId> = Vec::new();
    for (name, node) in shape::texts(report, entry, "needs: [clone]") {
        match world.steps.get(name) {
            None => {
                let names = world
                    .steps
                    .iter()
                    .filter(|(_, step)| step.finally == raw.finally)
                    .map(|(name, _)| name.as_str());
                let help = suggest::help("the steps are", name, names);
                report
                    .add(code::UNKNOWN_NEED, node.span.clone(), format!("there is no step `{name}`"))
                    .help(help);
            }
            Some(step) if step.finally && !raw.finally => {
                report
                    .add(
                        code::ORDER,
                        node.span.clone(),
                        format!("step `{name}` runs in `finally`, after step `{}`", raw.id),
                    )
                    .help("remove it, or move the step out of `finally`");
            }
            Some(step) if !step.finally && raw.finally => {
                report
                    .add(
                        code::ORDER,
                        node.span.clone(),
                        format!("`finally` starts when step `{name}` has ended, however it ended"),
                    )
                    .help(format!("remove it; `if: steps.{name}.state == 'succeeded'` asks how it ended"));
            }
            Some(_) if name == raw.id => {
                report
                    .add(code::CYCLE, node.span.clone(), format!("step `{name}` waits for itself"))
                    .help("remove it from `needs`");
            }
            Some(_) => {
                if !needs.iter().any(|need| need.as_str() == name) {
                    needs.push(StepId::new(name));
                }
            }
        }
    }
    needs
}

fn constant(report: &mut Report, entry: &Entry, condition: &crate::workflow::model::Expression) {
    let empty = serde_json::Map::new();
    let secrets = std::collections::BTreeSet::new();
    let scope = crate::workflow::cel::Scope { inputs: &empty, steps: &empty, run: &empty, secrets: &secrets };
    if let Ok(value) = template::condition(condition, &scope) {
        let (outcome, help) =
            if value { ("runs", "remove the `if`") } else { ("is skipped", "remove the step, or the `if`") };
        report
            .add(
                code::CONSTANT_CONDITION,
                entry.value.span.clone(),
                format!("this is always {value}: the step always {outcome}"),
            )
            .help(help);
    }
}

fn retry(report: &mut Report, entry: &Entry, raw: &RawStep<'_>, function: Option<&FunctionType>) -> Retry {
    const EXAMPLE: &str = "retry: { attempts: 3 }";
    let mut retry = Retry::default();
    let Some(entries) = shape::mapping(report, entry, EXAMPLE) else { return retry };
    let fields = shape::fields(report, entries, &RETRY);
    match fields.get("attempts") {
        Some(entry) => {
            if let Some(attempts) =
                shape::scalar(report, entry, &Type::Int, "3").and_then(|value| value.as_i64())
            {
                match u32::try_from(attempts).ok().filter(|attempts| (1..=MAX_ATTEMPTS).contains(attempts)) {
                    Some(attempts) => retry.attempts = attempts,
                    None => {
                        report
                            .add(
                                code::BAD_VALUE,
                                entry.value.span.clone(),
                                format!("`attempts` must be from 1 to {MAX_ATTEMPTS}"),
                            )
                            .help("it counts all attempts, the first one too");
                    }
                }
            }
        }
        None => {
            report
                .add(
                    code::MISSING_KEY,
                    entry.key_span.clone(),
                    "`retry` does not say how many attempts there are",
                )
                .help("add `attempts: 3`; it counts the first one too");
        }
    }
    if let Some(entry) = fields.get("backoff")
        && let Some(entries) = shape::mapping(report, entry, "backoff: { first: 2s, factor: 2, max: 30s }")
    {
        let fields = shape::fields(report, entries, &BACKOFF);
        backoff(report, &fields, &mut retry);
    }
    let Some(entry) = fields.get("on") else { return retry };
    for (kind, node) in shape::texts(report, entry, "on: [network]") {
        let own = function.map(|function| function.errors.clone().unwrap_or_else(|| vec![ErrorKind::OTHER]));
        let raisable = |kind: &str| {
            let own = own.as_ref().is_none_or(|own| own.iter().any(|known| known.as_str() == kind));
            own || ErrorKind::HOST.iter().any(|known| known.as_str() == kind)
        };
        if !raisable(kind) {
            let host = ErrorKind::HOST;
            let own = own.iter().flatten().map(ErrorKind::as_str);
            let kinds = own.chain(host.iter().map(ErrorKind::as_str)).filter(|kind| *kind != "cancelled");
            let kinds: Vec<_> = kinds.collect();
            let uses = raw.uses.unwrap_or_default();
            let near = suggest::nearest(kind, kinds.iter().copied()).map(str::to_owned);
            let diagnostic = report
                .add(code::RETRY_KIND, node.span.clone(), format!("{uses} cannot fail with `{kind}`"))
                .help(suggest::help("it can fail with", kind, kinds.iter().copied()));
            if let Some(near) = near {
                diagnostic.fix(near);
            }
        }
        retry.on.push(ErrorKind::new(kind));
    }
    retry
}

fn backoff(report: &mut Report, fields: &Fields<'_>, retry: &mut Retry) {
    if let Some(first) = fields.get("first").and_then(|entry| shape::duration(report, entry)) {
        retry.first_ms = first;
        retry.max_ms = retry.max_ms.max(first);
    }
    if let Some(entry) = fields.get("factor")
        && let Some(factor) = shape::scalar(report, entry, &Type::Float, "2").and_then(|value| value.as_f64())
    {
        if (1.0..=100.0).contains(&factor) {
            retry.factor = factor;
        } else {
            report
                .add(code::BAD_VALUE, entry.value.span.clone(), "`factor` must be from 1 to 100")
                .help("each delay is that many times the one before; `1` keeps it");
        }
    }
    if let Some(entry) = fields.get("max")
        && let Some(max) = shape::duration(report, entry)
    {
        if fields.get("first").is_some() && max < retry.first_ms {
            report
                .add(code::BAD_VALUE, entry.value.span.clone(), "`max` is shorter than `first`")
                .help("swap them");
        }
        retry.max_ms = max;
        retry.first_ms = retry.first_ms.min(max);
    }
    if let Some(entry) = fields.get("jitter") {
        let jitter = Type::Enum(JITTER.map(str::to_owned).to_vec());
        retry.jitter = shape::scalar(report, entry, &jitter, "full").is_none_or(|value| value == "full");
    }
}
