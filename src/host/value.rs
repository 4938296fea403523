//! Values between workflow files (JSON) and components, led by the component's own types. Pure.

use super::types::snake;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value};
use wasmtime::component::{Type, Val};

/// Why a value does not fit, with the path to it: `env.PATH: expected string, found 3`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {what}")]
pub(super) struct Mismatch {
    path: String,
    what: String,
}

impl Mismatch {
    fn at(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), what: what.into() }
    }

    fn expected(path: &str, wanted: &str, found: &Value) -> Self {
        let found = match found {
            Value::Null => "null".into(),
            Value::Bool(_) => "a bool".into(),
            Value::Number(number) => number.to_string(),
            // The text may be a credential that somebody put in the wrong place.
            Value::String(_) => "a string".into(),
            Value::Array(_) => "a list".into(),
            Value::Object(_) => "an object".to_owned(),
        };
        Self::at(path, format!("expected {wanted}, found {found}"))
    }
}

type Result<T> = std::result::Result<T, Mismatch>;

/// A value for a parameter or a part of one; `path` names it in errors.
pub(super) fn to_component(json: &Value, ty: &Type, path: &str) -> Result<Val> {
    Ok(match ty {
        Type::Bool => Val::Bool(json.as_bool().ok_or_else(|| Mismatch::expected(path, "a bool", json))?),
        Type::S8 => Val::S8(whole(json, path)?),
        Type::U8 => Val::U8(whole(json, path)?),
        Type::S16 => Val::S16(whole(json, path)?),
        Type::U16 => Val::U16(whole(json, path)?),
        Type::S32 => Val::S32(whole(json, path)?),
        Type::U32 => Val::U32(whole(json, path)?),
        Type::S64 => Val::S64(whole(json, path)?),
        Type::U64 => Val::U64(whole(json, path)?),
        Type::Float32 => Val::Float32(number(json, path)? as f32),
        Type::Float64 => Val::Float64(number(json, path)?),
        Type::Char => Val::Char(character(json, path)?),
        Type::String => Val::String(text(json, path)?.to_owned()),
        Type::List(list) => to_list(json, &list.ty(), path)?,
        Type::Record(record) => {
            let object = json.as_object().ok_or_else(|| Mismatch::expected(path, "an object", json))?;
            let fields: Vec<_> = record.fields().collect();
            known_names(object, fields.iter().map(|field| field.name), path)?;
            let mut values = Vec::with_capacity(fields.len());
            for field in fields {
                let name = snake(field.name);
                let path = format!("{path}.{name}");
                let value = match (object.get(&name).or_else(|| object.get(field.name)), &field.ty) {
                    (Some(value), ty) => to_component(value, ty, &path)?,
                    (None, Type::Option(_)) => Val::Option(None),
                    (None, _) => return Err(Mismatch::at(&path, "is missing")),
                };
                values.push((field.name.to_owned(), value));
            }
            Val::Record(values)
        }
        Type::Tuple(tuple) => {
            let types: Vec<_> = tuple.types().collect();
            let items = json.as_array().ok_or_else(|| Mismatch::expected(path, "a list", json))?;
            if items.len() != types.len() {
                let what = format!("expected {} items, found {}", types.len(), items.len());
                return Err(Mismatch::at(path, what));
            }
            let values = items.iter().zip(&types).enumerate();
            Val::Tuple(
                values
                    .map(|(i, (item, ty))| to_component(item, ty, &format!("{path}[{i}]")))
                    .collect::<Result<_>>()?,
            )
        }
        Type::Variant(variant) => {
            let (word, payload) = case(json, path)?;
            let mut names = Vec::new();
            for case in variant.cases() {
                if !same_name(case.name, word) {
                    names.push(case.name);
                    continue;
                }
                return Ok(Val::Variant(
                    case.name.to_owned(),
                    to_payload(payload, case.ty, case.name, path)?,
                ));
            }
            return Err(Mismatch::at(path, format!("expected one of {}", names.join(", "))));
        }
        Type::Enum(words) => Val::Enum(word(text(json, path)?, words.names(), path)?),
        Type::Option(option) => Val::Option(match json {
            Value::Null => None,
            json => Some(Box::new(to_component(json, &option.ty(), path)?)),
        }),
        Type::Result(result) => {
            let (word, payload) = case(json, path)?;
            Val::Result(match word {
                "ok" => Ok(to_payload(payload, result.ok(), "ok", path)?),
                "err" => Err(to_payload(payload, result.err(), "err", path)?),
                _ => return Err(Mismatch::at(path, "expected ok or err")),
            })
        }
        Type::Flags(flags) => {
            let items = json.as_array().ok_or_else(|| Mismatch::expected(path, "a list", json))?;
            let words = items.iter().map(|item| word(text(item, path)?, flags.names(), path));
            Val::Flags(words.collect::<Result<_>>()?)
        }
        _ => return Err(Mismatch::at(path, "a handle cannot be written as a value")),
    })
}

/// A value that a component gave, as JSON. `path` names it in errors.
pub(super) fn to_json(value: &Val, ty: &Type, path: &str) -> Result<Value> {
    Ok(match (value, ty) {
        (Val::Bool(value), _) => Value::Bool(*value),
        (Val::S8(value), _) => (*value).into(),
        (Val::U8(value), _) => (*value).into(),
        (Val::S16(value), _) => (*value).into(),
        (Val::U16(value), _) => (*value).into(),
        (Val::S32(value), _) => (*value).into(),
        (Val::U32(value), _) => (*value).into(),
        (Val::S64(value), _) => (*value).into(),
        (Val::U64(value), _) => (*value).into(),
        (Val::Float32(value), _) => finite(f64::from(*value), path)?,
        (Val::Float64(value), _) => finite(*value, path)?,
        (Val::Char(value), _) => Value::String(value.to_string()),
        (Val::String(value), _) => Value::String(value.clone()),
        (Val::List(items), Type::List(list)) => from_list(items, &list.ty(), path)?,
        (Val::Record(values), Type::Record(record)) => {
            let mut object = Map::new();
            for ((name, value), field) in values.iter().zip(record.fields()) {
                let name = snake(name);
                let value = to_json(value, &field.ty, &format!("{path}.{name}"))?;
                object.insert(name, value);
            }
            Value::Object(object)
        }
        (Val::Tuple(values), Type::Tuple(tuple)) => {
            let values = values.iter().zip(tuple.types()).enumerate();
            Value::Array(
                values
                    .map(|(i, (value, ty))| to_json(value, &ty, &format!("{path}[{i}]")))
                    .collect::<Result<_>>()?,
            )
        }
        (Val::Variant(name, payload), Type::Variant(variant)) => {
            let ty = variant.cases().find(|case| case.name == name).and_then(|case| case.ty);
            from_payload(name, payload.as_deref(), ty, path)?
        }
        (Val::Enum(name), _) => Value::String(name.clone()),
        (Val::Option(None), _) => Value::Null,
        (Val::Option(Some(value)), Type::Option(option)) => to_json(value, &option.ty(), path)?,
        (Val::Result(Ok(value)), Type::Result(result)) => {
            from_payload("ok", value.as_deref(), result.ok(), path)?
        }
        (Val::Result(Err(value)), Type::Result(result)) => {
            from_payload("err", value.as_deref(), result.err(), path)?
        }
        (Val::Flags(names), _) => names.iter().map(|name| Value::String(name.clone())).collect(),
        _ => return Err(Mismatch::at(path, "a handle cannot leave a step")),
    })
}

/// The type behind `list<tuple<string, T>>`, which is written as an object.
fn map_value(item: &Type) -> Option<Type> {
    let Type::Tuple(pair) = item else { return None };
    let mut types = pair.types();
    match (types.next(), types.next(), types.next()) {
        (Some(Type::String), Some(value), None) => Some(value),
        _ => None,
    }
}

fn to_list(json: &Value, item: &Type, path: &str) -> Result<Val> {
    if matches!(item, Type::U8) {
        let bytes =
            BASE64.decode(text(json, path)?).map_err(|_| Mismatch::at(path, "expected bytes as base64"))?;
        return Ok(Val::List(bytes.into_iter().map(Val::U8).collect()));
    }
    if let Some(ty) = map_value(item) {
        let object = json.as_object().ok_or_else(|| Mismatch::expected(path, "an object", json))?;
        let pairs = object.iter().map(|(name, value)| {
            let value = to_component(value, &ty, &format!("{path}.{name}"))?;
            Ok(Val::Tuple(vec![Val::String(name.clone()), value]))
        });
        return Ok(Val::List(pairs.collect::<Result<_>>()?));
    }
    let items = json.as_array().ok_or_else(|| Mismatch::expected(path, "a list", json))?;
    let values =
        items.iter().enumerate().map(|(i, value)| to_component(value, item, &format!("{path}[{i}]")));
    Ok(Val::List(values.collect::<Result<_>>()?))
}

fn from_list(items: &[Val], item: &Type, path: &str) -> Result<Value> {
    if matches!(item, Type::U8) {
        let bytes: Vec<u8> =
            items.iter().filter_map(|item| if let Val::U8(b) = item { Some(*b) } else { None }).collect();
        return Ok(Value::String(BASE64.encode(bytes)));
    }
    if let Some(ty) = map_value(item) {
        let mut object = Map::new();
        for pair in items {
            if let Val::Tuple(pair) = pair
                && let [Val::String(name), value] = &pair[..]
            {
                object.insert(name.clone(), to_json(value, &ty, &format!("{path}.{name}"))?);
            }
        }
        return Ok(Value::Object(object));
    }
    let values = items.iter().enumerate().map(|(i, value)| to_json(value, item, &format!("{path}[{i}]")));
    Ok(Value::Array(values.collect::<Result<_>>()?))
}

/// `case` or `{case: payload}`.
fn case<'a>(json: &'a Value, path: &str) -> Result<(&'a str, Option<&'a Value>)> {
    match json {
        Value::String(word) => Ok((word, None)),
        Value::Object(object) if object.len() == 1 => {
            let (word, payload) = object.iter().next().ok_or_else(|| Mismatch::at(path, "is empty"))?;
            Ok((word, Some(payload)))
        }
        _ => Err(Mismatch::expected(path, "`case` or `{case: value}`", json)),
    }
}

fn to_payload(json: Option<&Value>, ty: Option<Type>, case: &str, path: &str) -> Result<Option<Box<Val>>> {
    let path = format!("{path}.{}", snake(case));
    match (json, ty) {
        (None, None) => Ok(None),
        (Some(json), Some(ty)) => Ok(Some(Box::new(to_component(json, &ty, &path)?))),
        (None, Some(_)) => Err(Mismatch::at(&path, "needs a value")),
        (Some(_), None) => Err(Mismatch::at(&path, "takes no value")),
    }
}

fn from_payload(case: &str, value: Option<&Val>, ty: Option<Type>, path: &str) -> Result<Value> {
    match (value, ty) {
        (Some(value), Some(ty)) => {
            let value = to_json(value, &ty, &format!("{path}.{}", snake(case)))?;
            Ok(Value::Object(Map::from_iter([(case.to_owned(), value)])))
        }
        _ => Ok(Value::String(case.to_owned())),
    }
}

fn known_names<'a>(
    object: &Map<String, Value>,
    fields: impl Iterator<Item = &'a str> + Clone,
    path: &str,
) -> Result<()> {
    match object.keys().find(|name| !fields.clone().any(|field| same_name(field, name))) {
        Some(name) => Err(Mismatch::at(&format!("{path}.{name}"), "there is no such field")),
        None => Ok(()),
    }
}

/// Whether a name in a file means this WIT name, in either spelling.
fn same_name(wit: &str, written: &str) -> bool {
    wit == written || snake(wit) == written
}

fn word<'a>(written: &str, mut words: impl Iterator<Item = &'a str>, path: &str) -> Result<String> {
    let mut seen = Vec::new();
    match words.find(|word| {
        seen.push(*word);
        same_name(word, written)
    }) {
        Some(word) => Ok(word.to_owned()),
        None => Err(Mismatch::at(path, format!("expected one of {}", seen.join(", ")))),
    }
}

fn text<'a>(json: &'a Value, path: &str) -> Result<&'a str> {
    json.as_str().ok_or_else(|| Mismatch::expected(path, "a string", json))
}

fn character(json: &Value, path: &str) -> Result<char> {
    let mut characters = text(json, path)?.chars();
    match (characters.next(), characters.next()) {
        (Some(character), None) => Ok(character),
        _ => Err(Mismatch::at(path, "expected a single character")),
    }
}

fn whole<T: TryFrom<i128>>(json: &Value, path: &str) -> Result<T> {
    let number = match json {
        Value::Number(number) => number,
        _ => return Err(Mismatch::expected(path, "a whole number", json)),
    };
    let wide = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let wide = wide.ok_or_else(|| Mismatch::expected(path, "a whole number", json))?;
    T::try_from(wide).map_err(|_| Mismatch::at(path, format!("{wide} is out of range")))
}

fn number(json: &Value, path: &str) -> Result<f64> {
    json.as_f64().ok_or_else(|| Mismatch::expected(path, "a number", json))
}

fn finite(value: f64, path: &str) -> Result<Value> {
    let number = Number::from_f64(value).ok_or_else(|| Mismatch::at(path, "is not a finite number"))?;
    Ok(Value::Number(number))
}
