//! A loop: steps done once for each item of a list, and what the rest of the file sees of them.

use super::grammar::{EACH, ON_FAILURE};
use super::raw::{Does, RawStep};
use super::shape::{self, Fields};
use super::step::Around;
use super::value::{Values, only_expression};
use super::world::{KnownSteps, View, World};
use super::{constant, order, step};
use crate::id::StepId;
use crate::workflow::cel::typing::{self, Names, Usage, Wanted, state_type};
use crate::workflow::code;
use crate::workflow::diagnostic::Report;
use crate::workflow::file::{Entry, Kind};
use crate::workflow::model::{Action, Expression, ForEach};
use crate::workflow::types::{Field, Type};
use indexmap::{IndexMap, IndexSet};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Items at once where the file does not say.
const PARALLEL: u32 = 8;

/// Most items at once: each may hold a sandbox's worth of work.
pub(crate) const MAX_PARALLEL: u32 = 64;

/// Most types that the type of an item may be built of. A loop over another loop's items holds those items' type, so
/// without a bound a file could make types that grow twofold with each loop.
const MAX_ITEM_TYPE: usize = 1_000;

const EXAMPLE: &str = "for-each: { item: repo, in: \"${{ inputs.repos }}\", key: \"${{ repo }}\" }";

/// Names that a loop's item cannot have.
const TAKEN: [&str; 6] = ["inputs", "steps", "run", "secrets", "event", "optional"];

/// Checks a loop. `None` where it does not say over what it goes, which is reported.
pub(super) fn for_each(
    report: &mut Report,
    raw: &RawStep<'_>,
    entry: &Entry,
    world: &World<'_>,
    names: &Names<'_>,
    usage: &mut Usage,
) -> Option<Action> {
    let entries = shape::mapping(report, entry, EXAMPLE)?;
    let fields = shape::fields(report, entries, &EACH);
    missing(report, entry, &fields);
    let item = fields.get("item").and_then(|entry| item(report, entry, world));
    let parallel = fields.get("parallel").and_then(|entry| {
        shape::whole(report, entry, 1..=MAX_PARALLEL, "it is how many items are at work at once")
    });
    let on_failure = fields.get("on-failure").and_then(|entry| shape::word(report, entry, &ON_FAILURE));
    let list = fields.get("in").and_then(|entry| list(report, entry, names, usage));
    let (items, ty) = list.map_or((None, None), |(items, ty)| (Some(items), ty));
    // Without the item's name every use of it would be reported as well.
    let item = item?;
    let values = [(item.clone(), ty)];
    let key = fields.get("key").and_then(|entry| key(report, entry, &item, &values, names, usage));
    let around = Around { values: &values, present: names.present, doubtful: names.doubtful };
    let mut body = IndexMap::new();
    let mut inner = Usage::default();
    for raw in raw.body() {
        if let Some(step) = step::step(report, raw, world, around, &mut inner) {
            body.insert(StepId::new(raw.id), step);
        }
    }
    inner.values.remove(&item);
    // Of the loop itself nothing is to be waited for.
    inner.steps.shift_remove(raw.id);
    usage.absorb(inner);
    order::cycles(report, raw.body(), &body);
    constant::conditions(report, raw.body(), &body);
    Some(Action::ForEach(Box::new(ForEach {
        item,
        items: items?,
        key: key?,
        parallel: parallel.unwrap_or(PARALLEL),
        continue_on_failure: on_failure.is_some_and(|word| word == "continue"),
        steps: body,
    })))
}

fn missing(report: &mut Report, entry: &Entry, fields: &Fields<'_>) {
    for (key, message, example) in [
        ("item", "gives its item no name", "item: repo"),
        ("in", "does not say over which list it goes", "in: \"${{ inputs.repos }}\""),
        ("key", "does not say what tells its items apart", "key: \"${{ repo.name }}\""),
    ] {
        if fields.get(key).is_none() {
            report
                .add(code::MISSING_KEY, entry.key_span.clone(), format!("the loop {message}"))
                .help(format!("add `{example}`"));
        }
    }
}

fn item(report: &mut Report, entry: &Entry, world: &World<'_>) -> Option<String> {
    let name = shape::text(report, entry, "item: repo")?;
    let span = entry.value.span.clone();
    if !shape::named(report, name, span.clone(), "an item") {
        return None;
    }
    let taken = if TAKEN.contains(&name) || crate::workflow::cel::is_reserved(name) {
        Some("is a word of the language")
    } else if world.steps.contains_key(name) {
        Some("is the name of a step")
    } else {
        None
    };
    if let Some(taken) = taken {
        report
            .add(code::TAKEN_NAME, span, format!("the item cannot be called `{name}`, which {taken}"))
            .help("choose another name, such as `item`");
    }
    Some(name.to_owned())
}

/// The list that a loop goes over, and the type of its items.
fn list(
    report: &mut Report,
    entry: &Entry,
    names: &Names<'_>,
    usage: &mut Usage,
) -> Option<(Expression, Option<Type>)> {
    if let Kind::List(items) = &entry.value.kind {
        let mut texts = Vec::new();
        for item in items {
            match &item.kind {
                Kind::Scalar { text, .. } if !text.contains(['\'', '\\', '$']) => {
                    texts.push(format!("'{text}'"))
                }
                _ => texts.push("...".into()),
            }
        }
        report
            .add(code::WRONG_SHAPE, entry.value.span.clone(), "`in` must be an expression, not a list")
            .help(format!("write `in: \"${{{{ [{}] }}}}\"`", texts.join(", ")));
        return None;
    }
    let text = shape::text(report, entry, "in: \"${{ inputs.repos }}\"")?;
    let mut values = Values { report, names, usage, code: code::TYPE_MISMATCH };
    let (items, ty) = values.expression(&entry.value, text, Wanted::Items)?;
    if ty.as_ref().is_some_and(|ty| typing::parts(ty) > MAX_ITEM_TYPE) {
        report
            .add(
                code::TOO_LARGE,
                entry.value.span.clone(),
                format!("the items are of a type with more than {MAX_ITEM_TYPE} parts"),
            )
            .help("go over a list of what the steps need alone, such as `list.map(i, i.key)`");
        return None;
    }
    Some((items, ty))
}

fn key(
    report: &mut Report,
    entry: &Entry,
    item: &str,
    values: &[(String, Option<Type>)],
    names: &Names<'_>,
    usage: &mut Usage,
) -> Option<Expression> {
    let text = shape::text(report, entry, "key: \"${{ repo.name }}\"")?;
    let names = Names { place: "the key of a loop", values, ..*names };
    let mut own = Usage::default();
    let mut reader = Values { report, names: &names, usage: &mut own, code: code::TYPE_MISMATCH };
    let found = reader.expression(&entry.value, text, Wanted::Key);
    if found.is_some() && !own.values.remove(item) {
        report
            .add(code::SAME_KEY, entry.value.span.clone(), "every item has the same key")
            .help(format!("write what tells one `{item}` from another, such as `${{{{ {item}.name }}}}`"));
    }
    usage.absorb(own);
    found.map(|(key, _)| key)
}

/// Finds the outputs of every loop. They depend on the type of its items, which may come from other loops: those come
/// first. Loops in a cycle, which is reported elsewhere, stay without.
pub(super) fn outputs_of_loops<'n>(
    raw: &[RawStep<'n>],
    known: &mut KnownSteps<'n>,
    inputs: &IndexMap<String, Option<Type>>,
    secrets: &IndexSet<String>,
) {
    let loops: IndexMap<&str, &RawStep<'n>> =
        raw.iter().filter(|raw| matches!(raw.does, Does::ForEach { .. })).map(|raw| (raw.id, raw)).collect();
    let mut waits: Vec<usize> = vec![0; loops.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); loops.len()];
    for (at, raw) in loops.values().enumerate() {
        let (_, usage) = item_type(raw, known, inputs, secrets);
        for read in usage.steps.keys().filter_map(|step| loops.get_index_of(step.as_str())) {
            waits[at] += 1;
            readers[read].push(at);
        }
    }
    let mut ready: VecDeque<usize> = (0..loops.len()).filter(|at| waits[*at] == 0).collect();
    while let Some(at) = ready.pop_front() {
        if let Some((id, raw)) = loops.get_index(at) {
            let outputs = item_type(raw, known, inputs, secrets).0.and_then(|ty| outputs(ty, raw, known));
            if let Some(known) = known.get_mut(id) {
                known.outputs = outputs.map(Arc::new);
            }
        }
        for reader in std::mem::take(&mut readers[at]) {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push_back(reader);
            }
        }
    }
}

/// The name of a loop's item and where it stands, whether it is a good one or not.
pub(super) fn item_name(entry: &Entry) -> Option<(&str, Range<usize>)> {
    let Kind::Map(entries) = &entry.value.kind else { return None };
    let item = entries.iter().find(|entry| entry.key == "item")?;
    let Kind::Scalar { text, .. } = &item.value.kind else { return None };
    Some((text, item.value.span.clone()))
}

/// The type of the items of a loop as far as it can be known without reporting anything, and what it depends on.
pub(super) fn item_type(
    raw: &RawStep<'_>,
    known: &KnownSteps<'_>,
    inputs: &IndexMap<String, Option<Type>>,
    secrets: &IndexSet<String>,
) -> (Option<Type>, Usage) {
    let mut usage = Usage::default();
    let text = match &raw.does {
        Does::ForEach { entry: Entry { value, .. }, .. } => match &value.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == "in"),
            _ => None,
        },
        _ => None,
    };
    let Some(Kind::Scalar { text, .. }) = text.map(|entry| &entry.value.kind) else { return (None, usage) };
    let Some((expression, _)) = only_expression(text) else { return (None, usage) };
    let view = View::of_step(known, raw);
    let names = Names {
        inputs: Some(inputs),
        steps: Some(&view),
        finished: raw.finally,
        ..Names::new("a step", secrets)
    };
    let (ty, _) = typing::check(&expression, &names, Wanted::Items, &mut usage);
    (ty.filter(|ty| typing::parts(ty) <= MAX_ITEM_TYPE), usage)
}

/// What other steps read of a loop.
fn outputs(item: Type, raw: &RawStep<'_>, known: &KnownSteps<'_>) -> Option<Vec<Field>> {
    let field = |name: &str, ty: Type| Field { name: name.into(), ty, doc: None };
    let optional = |ty: Type| if let Type::Option(_) = ty { ty } else { Type::Option(Box::new(ty)) };
    let mut steps = Vec::new();
    for inner in raw.body() {
        let outputs = known.get(inner.id)?.outputs.as_ref()?;
        let mut fields: Vec<_> = outputs
            .iter()
            .map(|output| Field { ty: optional(output.ty.clone()), ..output.clone() })
            .collect();
        if fields.iter().all(|field| field.name != "state") {
            fields.push(field("state", state_type()));
        }
        steps.push(field(inner.id, Type::Record(fields)));
    }
    let error = ["step", "kind", "message"].map(|name| field(name, Type::String)).to_vec();
    let record = Type::Record(vec![
        field("key", Type::String),
        field("state", state_type()),
        field("item", item),
        field("error", optional(Type::Record(error))),
        field("steps", Type::Record(steps)),
    ]);
    let list = || Type::List(Box::new(record.clone()));
    Some(vec![
        field("total", Type::Int),
        field("items", list()),
        field("succeeded", list()),
        field("failed", list()),
    ])
}
