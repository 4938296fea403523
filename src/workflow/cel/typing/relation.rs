//! How types relate: what fits into what, what two have in common, and the types that the language itself brings.

use crate::workflow::types::{Field, Type};

/// The type without values: of an empty list's items.
pub(super) fn never() -> Type {
    Type::Variant(Vec::new())
}

/// The type of null alone.
pub(crate) fn null() -> Type {
    optional(never())
}

pub(super) fn is_never(ty: &Type) -> bool {
    matches!(ty, Type::Variant(cases) if cases.is_empty())
}

pub(super) fn optional(ty: Type) -> Type {
    if matches!(ty, Type::Option(_) | Type::Any) { ty } else { Type::Option(Box::new(ty)) }
}

pub(super) fn present(ty: &Type) -> &Type {
    if let Type::Option(inner) = ty { present(inner) } else { ty }
}

/// The list type without the absence of items.
pub(super) fn present_items(ty: &Type) -> Type {
    match ty {
        Type::List(item) => Type::List(Box::new(present(item).clone())),
        other => other.clone(),
    }
}

/// The least type that both fit into.
pub(super) fn unify(left: &Type, right: &Type) -> Option<Type> {
    Some(match (left, right) {
        (left, right) if left == right => left.clone(),
        (never, other) | (other, never) if is_never(never) => other.clone(),
        (Type::Any, _) | (_, Type::Any) => Type::Any,
        (Type::Option(left), right) | (right, Type::Option(left)) => optional(unify(left, present(right))?),
        (Type::String | Type::Enum(_), Type::String | Type::Enum(_)) => Type::String,
        (Type::List(left), Type::List(right)) => Type::List(Box::new(unify(left, right)?)),
        (Type::Map(left), Type::Map(right)) => Type::Map(Box::new(unify(left, right)?)),
        (Type::Record(left), Type::Record(right)) => {
            let mut fields = Vec::new();
            for field in left {
                let ty = match right.iter().find(|other| other.name == field.name) {
                    Some(other) => unify(&field.ty, &other.ty)?,
                    None => optional(field.ty.clone()),
                };
                fields.push(Field { ty, ..field.clone() });
            }
            for field in right.iter().filter(|field| !left.iter().any(|other| other.name == field.name)) {
                fields.push(Field { ty: optional(field.ty.clone()), ..field.clone() });
            }
            Type::Record(fields)
        }
        _ => return None,
    })
}

/// Whether every value of `from` is one of `to`.
pub(crate) fn fits(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (_, Type::Any) | (Type::Any, _) => true,
        (from, _) if is_never(from) => true,
        (Type::Option(from), Type::Option(to)) => fits(from, to),
        (Type::Option(_), _) => false,
        (from, Type::Option(to)) => fits(from, to),
        (Type::Enum(_), Type::String) => true,
        (Type::Enum(from), Type::Enum(to)) => from.iter().all(|case| to.contains(case)),
        (Type::List(from), Type::List(to)) | (Type::Map(from), Type::Map(to)) => fits(from, to),
        (Type::Tuple(from), Type::Tuple(to)) => {
            from.len() == to.len() && from.iter().zip(to).all(|(from, to)| fits(from, to))
        }
        (Type::Record(from), Type::Map(to)) => from.iter().all(|field| fits(&field.ty, to)),
        (Type::Record(from), Type::Record(to)) => {
            to.iter().all(|field| match from.iter().find(|other| other.name == field.name) {
                Some(other) => fits(&other.ty, &field.ty),
                None => matches!(field.ty, Type::Option(_)),
            }) && from.iter().all(|field| to.iter().any(|other| other.name == field.name))
        }
        (from, to) => from == to,
    }
}

/// The type of `run`.
pub(crate) fn run_type(finished: bool) -> Type {
    let text = |name: &str| Field { name: name.into(), ty: Type::String, doc: None };
    let author = Type::Record(vec![text("name"), text("email")]);
    let mut fields = vec![
        text("id"),
        text("workflow"),
        text("trigger"),
        Field { name: "author".into(), ty: author, doc: None },
    ];
    if finished {
        let states = ["succeeded", "failed", "cancelled", "timed_out"].map(str::to_owned).to_vec();
        fields.push(Field { name: "status".into(), ty: Type::Enum(states), doc: None });
    }
    Type::Record(fields)
}

/// The states of a step, as `steps.ID.state` has them.
pub(crate) fn state_type() -> Type {
    let states = ["pending", "queued", "running", "waiting", "succeeded", "failed", "skipped", "cancelled"];
    Type::Enum(states.map(str::to_owned).to_vec())
}

/// Names of what every step has besides its outputs.
pub(super) const ABOUT_STEP: [&str; 3] = ["state", "error", "attempts"];

/// What every step has besides its outputs.
pub(crate) fn about_step() -> [Field; 3] {
    let [state, error, attempts] = ABOUT_STEP;
    let field = |name: &str, ty: Type, doc: &str| Field { name: name.into(), ty, doc: Some(doc.into()) };
    let text = |name: &str| Field { name: name.into(), ty: Type::String, doc: None };
    [
        field(state, state_type(), "How it ended, or where it stands."),
        field(
            error,
            optional(Type::Record(vec![text("kind"), text("message")])),
            "Why its last attempt failed, where it did.",
        ),
        field(attempts, Type::Int, "How many attempts there were."),
    ]
}

/// How many types a type is built of, itself included.
pub(crate) fn parts(ty: &Type) -> usize {
    1 + match ty {
        Type::List(inner) | Type::Map(inner) | Type::Option(inner) => parts(inner),
        Type::Record(fields) => fields.iter().map(|field| parts(&field.ty)).sum(),
        Type::Tuple(items) => items.iter().map(parts).sum(),
        Type::Variant(cases) => cases.iter().filter_map(|(_, ty)| ty.as_ref()).map(parts).sum(),
        _ => 0,
    }
}
