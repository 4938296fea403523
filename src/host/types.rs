//! Reads the types of step functions out of a component. Knows nothing of running one.

use super::component::LoadError;
use crate::step::ErrorKind;
use crate::workflow::types::{Field, FunctionType, Slot, Type};
use serde::{Deserialize, Serialize};
use wit_parser::{
    Function, FunctionKind, Handle, Resolve, Type as Wit, TypeDefKind, TypeId, TypeOwner, WorldItem, WorldKey,
};

/// Interfaces that harvest offers, each with the permission it needs.
const OFFERED: [(&str, Option<&str>); 13] = [
    ("harvest:git/repositories", None),
    ("harvest:git/signing", None),
    ("harvest:http/outgoing", Some("http")),
    ("harvest:repos/registry", Some("repos")),
    ("harvest:run/ledger", None),
    ("harvest:run/run", None),
    ("harvest:sandbox/images", Some("images")),
    ("harvest:sandbox/reveal", Some("reveal")),
    ("harvest:sandbox/sandboxes", Some("sandboxes")),
    ("harvest:sandbox/store", None),
    ("harvest:sandbox/types", None),
    ("harvest:sandbox/volumes", Some("volumes")),
    ("harvest:streams/streams", None),
];

/// Packages of WASI 0.2 that are always linked. `sockets` and `http` refuse every call.
const WASI: [&str; 7] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// What a component says of itself, whatever name it goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Declared {
    /// Its step functions.
    pub(super) functions: Vec<FunctionType>,
    /// Interfaces it imports, sorted.
    pub(super) imports: Vec<String>,
    /// Permissions its imports need, sorted.
    pub(super) needs: Vec<String>,
}

/// Reads a component's world.
pub(super) fn read(bytes: &[u8]) -> Result<Declared, LoadError> {
    let decoded = wit_component::decode(bytes).map_err(|error| LoadError::Malformed(format!("{error:#}")))?;
    let wit_component::DecodedWasm::Component(resolve, world) = decoded else {
        return Err(LoadError::Malformed("it is a WIT package, which has no code".into()));
    };
    let world = &resolve.worlds[world];
    let (imports, needs) = imports(&resolve, world.imports.iter())?;
    let mut functions = Vec::new();
    for item in world.exports.values() {
        if let WorldItem::Function(function) = item
            && let Some(step) = step(&resolve, function)?
        {
            functions.push(step);
        }
    }
    if functions.is_empty() {
        return Err(LoadError::NoStep);
    }
    Ok(Declared { functions, imports, needs })
}

fn imports<'a>(
    resolve: &Resolve,
    items: impl Iterator<Item = (&'a WorldKey, &'a WorldItem)>,
) -> Result<(Vec<String>, Vec<String>), LoadError> {
    let (mut imports, mut needs, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for (key, item) in items {
        let name = resolve.name_world_key(key);
        match item {
            // A name for a type of an interface that is imported in its own right.
            WorldItem::Type { .. } => continue,
            WorldItem::Function(_) => unknown.push(name),
            WorldItem::Interface { .. } => match permission(&name) {
                Some(permission) => {
                    needs.extend(permission.map(str::to_owned));
                    imports.push(name);
                }
                None => unknown.push(name),
            },
        }
    }
    if !unknown.is_empty() {
        return Err(LoadError::UnknownImports(unknown));
    }
    imports.sort();
    needs.sort();
    needs.dedup();
    Ok((imports, needs))
}

/// The permission an interface needs, if any; `None` where harvest does not offer the interface in this version.
fn permission(import: &str) -> Option<Option<&'static str>> {
    let (name, version) = import.split_once('@')?;
    if WASI.iter().any(|package| name.starts_with(package)) {
        return version.starts_with("0.2.").then_some(None);
    }
    let (_, permission) = OFFERED.iter().find(|(offered, _)| *offered == name)?;
    version.starts_with("0.1.").then_some(*permission)
}

/// The function as a step, or `None` where it is none: a step returns a `result`.
fn step(resolve: &Resolve, function: &Function) -> Result<Option<FunctionType>, LoadError> {
    if !matches!(function.kind, FunctionKind::Freestanding) {
        return Ok(None);
    }
    let Some(TypeDefKind::Result(result)) = function.result.and_then(|ty| kind(resolve, ty)) else {
        return Ok(None);
    };
    let mut step = FunctionType {
        name: snake(&function.name),
        doc: function.docs.contents.as_deref().map(|doc| doc.trim().to_owned()),
        parameters: Vec::new(),
        sandboxes: Vec::new(),
        secrets: Vec::new(),
        any_secrets: None,
        outputs: Vec::new(),
        errors: None,
    };
    let refuse =
        |place: String, what: String| LoadError::Type { function: snake(&function.name), place, what };
    for param in &function.params {
        let name = snake(&param.name);
        match handle(resolve, param.ty) {
            Some(Param::Sandbox) => step.sandboxes.push(name),
            Some(Param::Secret { optional }) => step.secrets.push(Slot { name, optional }),
            Some(Param::Secrets) if step.any_secrets.is_none() => step.any_secrets = Some(name),
            Some(Param::Secrets) => {
                return Err(refuse(
                    format!("parameter {name}"),
                    "only one list of secrets makes sense".into(),
                ));
            }
            None => {
                let ty =
                    convert(resolve, param.ty).map_err(|what| refuse(format!("parameter {name}"), what))?;
                step.parameters.push(Field { name, ty, doc: None });
            }
        }
    }
    if let Some(ok) = result.ok {
        step.outputs = outputs(resolve, ok).map_err(|what| refuse("result".into(), what))?;
    }
    step.errors = match result.err.map(|ty| (real(resolve, ty), kind(resolve, ty))) {
        None | Some((Wit::String, _)) => None,
        Some((_, Some(TypeDefKind::Variant(variant)))) => {
            Some(variant.cases.iter().map(|case| ErrorKind::new(case.name.clone())).collect())
        }
        Some((_, Some(TypeDefKind::Enum(words)))) => {
            Some(words.cases.iter().map(|case| ErrorKind::new(case.name.clone())).collect())
        }
        Some(_) => return Err(refuse("error".into(), "an error is a string, a variant or an enum".into())),
    };
    Ok(Some(step))
}

fn outputs(resolve: &Resolve, ok: Wit) -> Result<Vec<Field>, String> {
    if let Some(TypeDefKind::Record(record)) = kind(resolve, ok) {
        return fields(resolve, record);
    }
    Ok(vec![Field { name: "value".into(), ty: convert(resolve, ok)?, doc: None }])
}

fn fields(resolve: &Resolve, record: &wit_parser::Record) -> Result<Vec<Field>, String> {
    record
        .fields
        .iter()
        .map(|field| {
            Ok(Field {
                name: snake(&field.name),
                ty: convert(resolve, field.ty)?,
                doc: field.docs.contents.as_deref().map(|doc| doc.trim().to_owned()),
            })
        })
        .collect()
}

/// What a parameter made of handles receives.
enum Param {
    Sandbox,
    Secret { optional: bool },
    Secrets,
}

fn handle(resolve: &Resolve, ty: Wit) -> Option<Param> {
    match kind(resolve, ty)? {
        TypeDefKind::Handle(Handle::Borrow(id)) => match resource(resolve, *id)? {
            "sandbox" => Some(Param::Sandbox),
            "secret" => Some(Param::Secret { optional: false }),
            _ => None,
        },
        TypeDefKind::Option(inner) => match handle(resolve, *inner)? {
            Param::Secret { optional: false } => Some(Param::Secret { optional: true }),
            _ => None,
        },
        // Owned ones too: bindings for Rust cannot lift a list of borrowed handles.
        TypeDefKind::List(item) => match kind(resolve, named_value(resolve, *item)?)? {
            TypeDefKind::Handle(Handle::Borrow(id) | Handle::Own(id))
                if resource(resolve, *id)? == "secret" =>
            {
                Some(Param::Secrets)
            }
            _ => None,
        },
        _ => None,
    }
}

/// The name of a resource of `harvest:sandbox/types`.
fn resource(resolve: &Resolve, mut id: TypeId) -> Option<&str> {
    while let TypeDefKind::Type(Wit::Id(target)) = resolve.types[id].kind {
        id = target;
    }
    let definition = &resolve.types[id];
    let TypeOwner::Interface(interface) = definition.owner else { return None };
    resolve.id_of(interface)?.starts_with("harvest:sandbox/types@").then_some(definition.name.as_deref()?)
}

fn convert(resolve: &Resolve, ty: Wit) -> Result<Type, String> {
    let definition = match real(resolve, ty) {
        Wit::Bool => return Ok(Type::Bool),
        Wit::U8 | Wit::U16 | Wit::U32 | Wit::U64 | Wit::S8 | Wit::S16 | Wit::S32 | Wit::S64 => {
            return Ok(Type::Int);
        }
        Wit::F32 | Wit::F64 => return Ok(Type::Float),
        Wit::Char | Wit::String => return Ok(Type::String),
        Wit::ErrorContext => return Err("`error-context` has no form in a workflow file".into()),
        Wit::Id(id) => &resolve.types[id].kind,
    };
    Ok(match definition {
        TypeDefKind::Record(record) => Type::Record(fields(resolve, record)?),
        TypeDefKind::Tuple(tuple) => {
            Type::Tuple(tuple.types.iter().map(|ty| convert(resolve, *ty)).collect::<Result<_, _>>()?)
        }
        TypeDefKind::Enum(words) => Type::Enum(words.cases.iter().map(|case| case.name.clone()).collect()),
        TypeDefKind::Flags(flags) => {
            Type::List(Box::new(Type::Enum(flags.flags.iter().map(|flag| flag.name.clone()).collect())))
        }
        TypeDefKind::Variant(variant) => Type::Variant(
            variant
                .cases
                .iter()
                .map(|case| Ok((case.name.clone(), case.ty.map(|ty| convert(resolve, ty)).transpose()?)))
                .collect::<Result<_, String>>()?,
        ),
        TypeDefKind::Option(inner) => Type::Option(Box::new(convert(resolve, *inner)?)),
        TypeDefKind::Result(result) => Type::Variant(vec![
            ("ok".into(), result.ok.map(|ty| convert(resolve, ty)).transpose()?),
            ("err".into(), result.err.map(|ty| convert(resolve, ty)).transpose()?),
        ]),
        TypeDefKind::List(item) if real(resolve, *item) == Wit::U8 => Type::Bytes,
        TypeDefKind::List(item) => match named_value(resolve, *item) {
            Some(value) => Type::Map(Box::new(convert(resolve, value)?)),
            None => Type::List(Box::new(convert(resolve, *item)?)),
        },
        TypeDefKind::Handle(_) => {
            return Err(
                "a handle is passed as `borrow<sandbox>`, `borrow<secret>`, `option<borrow<secret>>` or \
                        `list<tuple<string, secret>>`, borrowed or not, and as nothing else"
                    .into(),
            );
        }
        other => return Err(format!("`{}` has no form in a workflow file", other.as_str())),
    })
}

/// The type behind any `use` and `type` names.
fn real(resolve: &Resolve, mut ty: Wit) -> Wit {
    while let Wit::Id(id) = ty
        && let TypeDefKind::Type(target) = resolve.types[id].kind
    {
        ty = target;
    }
    ty
}

/// The definition of a type; `None` for a primitive.
fn kind(resolve: &Resolve, ty: Wit) -> Option<&TypeDefKind> {
    match real(resolve, ty) {
        Wit::Id(id) => Some(&resolve.types[id].kind),
        _ => None,
    }
}

/// The second of a pair whose first is a string.
fn named_value(resolve: &Resolve, ty: Wit) -> Option<Wit> {
    match kind(resolve, ty)? {
        TypeDefKind::Tuple(tuple) => match tuple.types[..] {
            [name, value] if real(resolve, name) == Wit::String => Some(value),
            _ => None,
        },
        _ => None,
    }
}

/// A WIT name as workflow files spell it.
pub(super) fn snake(name: &str) -> String {
    name.replace('-', "_")
}
