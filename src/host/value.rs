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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::LazyLock;
    use wasm_encoder::{
        ComponentImportSection, ComponentTypeRef, ComponentTypeSection, ComponentValType, InstanceType,
        PrimitiveValType, TypeBounds,
    };
    use wasmtime::component::Component;
    use wasmtime::component::types::ComponentItem;

    static ENGINE: LazyLock<wasmtime::Engine> = LazyLock::new(wasmtime::Engine::default);

    /// A type that a parameter can have.
    #[derive(Clone, Debug)]
    enum Shape {
        Plain(&'static str),
        List(Box<Shape>),
        Map(Box<Shape>),
        Option(Box<Shape>),
        Tuple(Vec<Shape>),
        Record(Vec<Shape>),
        Variant(Vec<Option<Shape>>),
        Result(Option<Box<Shape>>, Option<Box<Shape>>),
        Enum(usize),
        Flags(usize),
    }

    impl Shape {
        /// Declares the type inside an interface.
        fn declare(&self, interface: &mut InstanceType) -> ComponentValType {
            let parts = |shapes: &[Self], interface: &mut InstanceType| -> Vec<ComponentValType> {
                shapes.iter().map(|shape| shape.declare(interface)).collect()
            };
            let part = |shape: &Option<Box<Self>>, interface: &mut InstanceType| {
                shape.as_ref().map(|shape| shape.declare(interface))
            };
            match self {
                Self::Plain("bytes") => {
                    interface.ty().defined_type().list(PrimitiveValType::U8);
                }
                Self::Plain(name) => return ComponentValType::Primitive(primitive(name)),
                Self::List(item) => {
                    let item = item.declare(interface);
                    interface.ty().defined_type().list(item);
                }
                Self::Map(value) => {
                    let value = value.declare(interface);
                    interface.ty().defined_type().tuple([PrimitiveValType::String.into(), value]);
                    let pair = ComponentValType::Type(interface.type_count() - 1);
                    interface.ty().defined_type().list(pair);
                }
                Self::Option(inner) => {
                    let inner = inner.declare(interface);
                    interface.ty().defined_type().option(inner);
                }
                Self::Tuple(items) => {
                    let items = parts(items, interface);
                    interface.ty().defined_type().tuple(items);
                }
                Self::Result(ok, err) => {
                    let (ok, err) = (part(ok, interface), part(err, interface));
                    interface.ty().defined_type().result(ok, err);
                }
                Self::Record(fields) => {
                    let fields = parts(fields, interface);
                    let names: Vec<_> = (0..fields.len()).map(|i| format!("a-field-{}", letter(i))).collect();
                    interface.ty().defined_type().record(names.iter().map(String::as_str).zip(fields));
                    return named(interface);
                }
                Self::Variant(cases) => {
                    let cases: Vec<_> =
                        cases.iter().map(|case| case.as_ref().map(|case| case.declare(interface))).collect();
                    let names: Vec<_> = (0..cases.len()).map(|i| format!("a-case-{}", letter(i))).collect();
                    interface.ty().defined_type().variant(names.iter().map(String::as_str).zip(cases));
                    return named(interface);
                }
                Self::Enum(n) => {
                    let words = words(*n);
                    interface.ty().defined_type().enum_type(words.iter().map(String::as_str));
                    return named(interface);
                }
                Self::Flags(n) => {
                    let words = words(*n);
                    interface.ty().defined_type().flags(words.iter().map(String::as_str));
                    return named(interface);
                }
            }
            ComponentValType::Type(interface.type_count() - 1)
        }

        /// Values of the type, as files write them.
        fn values(&self) -> BoxedStrategy<Value> {
            match self {
                Self::Plain("bool") => any::<bool>().prop_map(Value::from).boxed(),
                Self::Plain("s8") => any::<i8>().prop_map(Value::from).boxed(),
                Self::Plain("u32") => any::<u32>().prop_map(Value::from).boxed(),
                Self::Plain("s64") => any::<i64>().prop_map(Value::from).boxed(),
                Self::Plain("u64") => any::<u64>().prop_map(Value::from).boxed(),
                Self::Plain("f64") => proptest::num::f64::NORMAL.prop_map(|number| json!(number)).boxed(),
                Self::Plain("char") => any::<char>().prop_map(|character| json!(character)).boxed(),
                Self::Plain("bytes") => {
                    any::<Vec<u8>>().prop_map(|bytes| Value::String(BASE64.encode(bytes))).boxed()
                }
                Self::Plain(_) => any::<String>().prop_map(Value::from).boxed(),
                Self::List(item) => {
                    proptest::collection::vec(item.values(), 0..4).prop_map(Value::from).boxed()
                }
                Self::Map(value) => proptest::collection::btree_map(".{0,4}", value.values(), 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect()))
                    .boxed(),
                Self::Option(inner) => prop_oneof![Just(Value::Null), inner.values()].boxed(),
                Self::Tuple(items) => {
                    items.iter().map(Self::values).collect::<Vec<_>>().prop_map(Value::from).boxed()
                }
                Self::Record(fields) => fields
                    .iter()
                    .map(Self::values)
                    .collect::<Vec<_>>()
                    .prop_map(|values| {
                        let named = values.into_iter().enumerate();
                        Value::Object(
                            named.map(|(i, value)| (format!("a_field_{}", letter(i)), value)).collect(),
                        )
                    })
                    .boxed(),
                Self::Variant(cases) => {
                    let cases = cases
                        .iter()
                        .enumerate()
                        .map(|(i, case)| written_case(&format!("a-case-{}", letter(i)), case.as_ref()));
                    proptest::strategy::Union::new(cases.collect::<Vec<_>>()).boxed()
                }
                Self::Result(ok, err) => {
                    prop_oneof![written_case("ok", ok.as_deref()), written_case("err", err.as_deref())]
                        .boxed()
                }
                Self::Enum(n) => (0..*n).prop_map(|i| json!(format!("w-{}", letter(i)))).boxed(),
                Self::Flags(n) => {
                    let all: Vec<_> = (0..*n).map(|i| json!(format!("w-{}", letter(i)))).collect();
                    let length = all.len();
                    proptest::sample::subsequence(all, 0..=length).prop_map(Value::from).boxed()
                }
            }
        }
    }

    fn letter(i: usize) -> char {
        char::from(b'a' + i as u8)
    }

    fn words(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("w-{}", letter(i))).collect()
    }

    fn primitive(name: &str) -> PrimitiveValType {
        match name {
            "bool" => PrimitiveValType::Bool,
            "s8" => PrimitiveValType::S8,
            "u32" => PrimitiveValType::U32,
            "s64" => PrimitiveValType::S64,
            "u64" => PrimitiveValType::U64,
            "f64" => PrimitiveValType::F64,
            "char" => PrimitiveValType::Char,
            _ => PrimitiveValType::String,
        }
    }

    /// Records and the like must have a name before a function can use them.
    fn named(interface: &mut InstanceType) -> ComponentValType {
        let index = interface.type_count() - 1;
        interface.export(format!("t{index}"), ComponentTypeRef::Type(TypeBounds::Eq(index)));
        ComponentValType::Type(interface.type_count() - 1)
    }

    fn written_case(name: &str, payload: Option<&Shape>) -> BoxedStrategy<Value> {
        let name = name.to_owned();
        match payload {
            None => Just(Value::String(name)).boxed(),
            Some(shape) => shape
                .values()
                .prop_map(move |value| Value::Object(Map::from_iter([(name.clone(), value)])))
                .boxed(),
        }
    }

    fn shapes() -> impl Strategy<Value = Shape> {
        let plain = proptest::sample::select(vec![
            "bool", "s8", "u32", "s64", "u64", "f64", "char", "string", "bytes",
        ]);
        let leaf = prop_oneof![
            6 => plain.prop_map(Shape::Plain),
            1 => (1usize..5).prop_map(Shape::Enum),
            1 => (1usize..5).prop_map(Shape::Flags),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let boxed = inner.clone().prop_map(Box::new);
            prop_oneof![
                // An absent option inside an option has no form of its own.
                inner.clone().prop_map(|inner| match inner {
                    Shape::Option(_) => inner,
                    inner => Shape::Option(Box::new(inner)),
                }),
                boxed.clone().prop_map(Shape::List),
                boxed.clone().prop_map(Shape::Map),
                proptest::collection::vec(inner.clone(), 1..4).prop_map(Shape::Record),
                // A pair that begins with a string would make a list of it a map.
                proptest::collection::vec(inner.clone(), 3..4).prop_map(Shape::Tuple),
                proptest::collection::vec(proptest::option::of(inner), 1..4).prop_map(Shape::Variant),
                (proptest::option::of(boxed.clone()), proptest::option::of(boxed))
                    .prop_map(|(ok, err)| Shape::Result(ok, err)),
            ]
        })
    }

    /// The type of a parameter of this shape, as a component declares it.
    fn declared(shape: &Shape) -> Type {
        let mut interface = InstanceType::new();
        let ty = shape.declare(&mut interface);
        interface.ty().function().params([("p", ty)]).result(None);
        interface.export("f", ComponentTypeRef::Func(interface.type_count() - 1));
        let mut types = ComponentTypeSection::new();
        types.instance(&interface);
        let mut imports = ComponentImportSection::new();
        imports.import("a:b/c", ComponentTypeRef::Instance(0));
        let mut component = wasm_encoder::Component::new();
        component.section(&types).section(&imports);
        let component = Component::new(&ENGINE, component.finish()).unwrap();
        let ty = component.component_type();
        let Some(ComponentItem::ComponentInstance(interface)) =
            ty.get_import(&ENGINE, "a:b/c").map(|item| item.ty)
        else {
            panic!("no import")
        };
        let Some(ComponentItem::ComponentFunc(function)) =
            interface.get_export(&ENGINE, "f").map(|item| item.ty)
        else {
            panic!("no function")
        };
        let (_, ty) = function.params().next().unwrap();
        ty
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn values_come_back_as_they_went((shape, value) in shapes().prop_flat_map(|shape| {
            let values = shape.values();
            (Just(shape), values)
        })) {
            let ty = declared(&shape);
            let there = to_component(&value, &ty, "p").unwrap();
            prop_assert_eq!(to_json(&there, &ty, "p").unwrap(), value);
        }
    }

    #[test]
    fn errors_lead_to_the_place() {
        let check = |shape: &Shape, value: Value, expected: &str| {
            let error = to_component(&value, &declared(shape), "with").unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        let record = Shape::Record(vec![Shape::Plain("s8"), Shape::Option(Box::new(Shape::Plain("string")))]);
        check(&record, json!({"a_field_a": 200}), "with.a_field_a: 200 is out of range");
        check(&record, json!({}), "with.a_field_a: is missing");
        check(&record, json!({"a_field_a": 1, "a_field_c": 1}), "with.a_field_c: there is no such field");
        check(&record, json!({"a-field-a": 1.5}), "with.a_field_a: expected a whole number, found 1.5");
        let list = Shape::List(Box::new(record));
        check(&list, json!([{"a_field_a": 1}, "x"]), "with[1]: expected an object, found a string");
        check(&Shape::Enum(2), json!("w-c"), "with: expected one of w-a, w-b");
        check(&Shape::Variant(vec![None]), json!({"a_case_a": 1}), "with.a_case_a: takes no value");
        check(&Shape::Plain("bytes"), json!("?"), "with: expected bytes as base64");
        check(&Shape::Plain("char"), json!("ab"), "with: expected a single character");
        check(&Shape::Tuple(vec![Shape::Plain("bool")]), json!([]), "with: expected 1 items, found 0");
    }
}
