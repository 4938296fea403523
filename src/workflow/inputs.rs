//! The inputs that a run is started with: read by their types, completed by their defaults, held to their limits.

use super::cel::Scope;
use super::cel::typing::article;
use super::literal;
use super::model::{Input, Workflow};
use super::suggest;
use super::template;
use super::types::Type;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt;

/// Largest input in bytes; inputs travel in `RunStarted`.
pub const MAX_INPUT: usize = 1 << 20;

/// Largest compiled pattern in bytes. Matching is linear in the text.
const MAX_REGEX: usize = 1 << 20;

/// Why inputs do not fit a workflow. Repeats at most 60 characters of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputError {
    /// The input, or the path into it, as given.
    pub input: String,
    /// What is wrong, and what to write.
    pub message: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input `{}`: {}", self.input, self.message)
    }
}

impl std::error::Error for InputError {}

/// Reads what was given on the command line (dotted path, text; later ones win) over what was given as JSON, and
/// completes it with defaults, which may refer to `run`. All errors at once.
pub fn read_inputs(
    workflow: &Workflow,
    given: Vec<(String, String)>,
    json: Option<Map<String, Value>>,
    run: &Map<String, Value>,
) -> Result<Map<String, Value>, Vec<InputError>> {
    let mut errors = Vec::new();
    let mut raw: Map<String, Value> = Map::new();
    for (name, value) in json.unwrap_or_default() {
        match workflow.inputs.get(&name) {
            Some(input) => match typed(&value, &input.ty) {
                Ok(value) => _ = raw.insert(name, value),
                Err(message) => errors.push(InputError { input: name, message }),
            },
            None => errors.push(unknown(workflow, &name)),
        }
    }
    for (path, text) in given {
        let mut keys = path.split('.');
        let name = keys.next().unwrap_or_default();
        let Some(input) = workflow.inputs.get(name) else {
            errors.push(unknown(workflow, name));
            continue;
        };
        let keys: Vec<_> = keys.collect();
        let read = field_type(&input.ty, &keys).and_then(|ty| from_text(&text, ty));
        match read {
            Ok(value) => {
                // A field lands in what the object is so far: given before it, or its default.
                if !keys.is_empty() && !raw.contains_key(name) {
                    let base = input.default.as_ref().and_then(|default| evaluate(default, run).ok());
                    raw.insert(name.to_owned(), base.unwrap_or_else(|| Map::new().into()));
                }
                put(raw.entry(name).or_insert(Value::Null), &keys, value);
            }
            Err(message) => errors.push(InputError { input: path, message }),
        }
    }
    let mut inputs = Map::new();
    for (name, input) in &workflow.inputs {
        let failed = |error: &InputError| {
            // A misspelled name is one mistake, not a missing input as well.
            let given = error.input.split('.').next().unwrap_or_default();
            given == name
                || !workflow.inputs.contains_key(given) && suggest::nearest(given, [name.as_str()]).is_some()
        };
        let value = match (raw.remove(name), &input.default) {
            (Some(value), _) => complete(&value, &input.ty, name),
            (None, _) if errors.iter().any(failed) => continue,
            (None, Some(default)) => evaluate(default, run).map(|value| complete_absent(value, &input.ty)),
            (None, None) if matches!(input.ty, Type::Option(_)) => Ok(Value::Null),
            (None, None) => Err(format!("it is required; give it as `-i {name}={}`", example(&input.ty))),
        };
        let value = value.and_then(|value| keeps_limits(input, &value).map(|()| value));
        match value {
            Ok(value) => _ = inputs.insert(name.clone(), value),
            Err(message) => errors.push(InputError { input: name.clone(), message }),
        }
    }
    if errors.is_empty() { Ok(inputs) } else { Err(errors) }
}

/// Whether a value keeps the pattern, least and greatest that its input declares; the error ends a sentence that
/// starts with the input.
pub(crate) fn keeps_limits(input: &Input, value: &Value) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    if let (Some(pattern), Some(text)) = (&input.pattern, value.as_str())
        && !regex(pattern).is_ok_and(|regex| regex.is_match(text))
    {
        return Err(format!("must match `{pattern}`"));
    }
    let (measure, unit) = match value {
        Value::Number(number) => (
            number.as_f64(),
            match input.ty {
                Type::Duration => " ms",
                Type::Size => " bytes",
                _ => "",
            },
        ),
        Value::String(text) => (Some(text.chars().count() as f64), " characters"),
        Value::Array(items) => (Some(items.len() as f64), " items"),
        _ => (None, ""),
    };
    let Some(measure) = measure else { return Ok(()) };
    match (input.min, input.max) {
        (Some(min), _) if measure < min => {
            Err(format!("must be at least {min}{unit}, but is {measure}{unit}"))
        }
        (_, Some(max)) if measure > max => {
            Err(format!("must be at most {max}{unit}, but is {measure}{unit}"))
        }
        _ => Ok(()),
    }
}

/// A pattern, with a bound on what it may cost to compile.
pub(crate) fn regex(pattern: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(pattern).size_limit(MAX_REGEX).build().map_err(|error| {
        // The crate prints the pattern over several lines; its last line says what is wrong.
        let text = error.to_string();
        text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

fn unknown(workflow: &Workflow, name: &str) -> InputError {
    let help = suggest::help("its inputs are", name, workflow.inputs.keys().map(String::as_str));
    InputError { input: name.to_owned(), message: format!("the workflow has no such input; {help}") }
}

fn evaluate(default: &super::model::Template, run: &Map<String, Value>) -> Result<Value, String> {
    let (empty, secrets) = (Map::new(), BTreeSet::new());
    let scope = Scope { inputs: &empty, steps: &empty, run, secrets: &secrets, item: None, hashes: None };
    template::evaluate(default, &scope).map_err(|error| format!("its default has no value: {error}"))
}

/// The type at the end of a path into an object.
fn field_type<'t>(ty: &'t Type, keys: &[&str]) -> Result<&'t Type, String> {
    let Some((key, rest)) = keys.split_first() else { return Ok(ty) };
    match ty {
        Type::Option(inner) => field_type(inner, keys),
        Type::Map(value) => field_type(value, rest),
        Type::Record(fields) => match fields.iter().find(|field| field.name == *key) {
            Some(field) => field_type(&field.ty, rest),
            None => {
                let help =
                    suggest::help("its fields are", key, fields.iter().map(|field| field.name.as_str()));
                Err(format!("there is no field `{key}`; {help}"))
            }
        },
        other => Err(format!("{other} has no field `{key}`")),
    }
}

fn put(target: &mut Value, keys: &[&str], value: Value) {
    match keys.split_first() {
        None => *target = value,
        Some((key, rest)) => {
            if !target.is_object() {
                *target = Map::new().into();
            }
            put(&mut target[*key], rest, value);
        }
    }
}

/// A value from the command line: text by its type, lists and objects as JSON.
fn from_text(text: &str, ty: &Type) -> Result<Value, String> {
    if text.len() > MAX_INPUT {
        return Err(format!(
            "it has {} bytes; at most {MAX_INPUT} are taken: put it into a file of the repository",
            text.len()
        ));
    }
    match ty {
        Type::Option(inner) => from_text(text, inner),
        Type::Any => serde_json::from_str(text).map_err(|error| {
            format!("it is given as JSON, such as `{{\"n\": 1}}` or `\"text\"`, but this is none: {error}")
        }),
        Type::List(_) | Type::Map(_) | Type::Record(_) | Type::Tuple(_) => {
            let value = serde_json::from_str(text).map_err(|error| {
                format!("{ty} is given as JSON, such as `{}`, but this is none: {error}", example(ty))
            })?;
            typed(&value, ty)
        }
        ty => literal::scalar(text, ty),
    }
}

/// A JSON value as a value of the type. Durations and sizes may be numbers (ms, bytes) or text with a unit. Fields
/// that are missing are looked at once all of an object is there.
fn typed(value: &Value, ty: &Type) -> Result<Value, String> {
    let wrong = || {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "a bool",
            Value::Number(_) => "a number",
            Value::String(_) => "text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        format!("must be {}, not {found}", article(ty))
    };
    match (ty, value) {
        (Type::Any, value) => Ok(value.clone()),
        (Type::Option(_), Value::Null) => Ok(Value::Null),
        (Type::Option(inner), value) => typed(value, inner),
        (Type::Bool, Value::Bool(_)) => Ok(value.clone()),
        (Type::Int, Value::Number(number)) if number.as_i64().is_some() => Ok(value.clone()),
        (Type::Float, Value::Number(number)) => number.as_f64().map(Value::from).ok_or_else(wrong),
        (Type::Duration | Type::Size, Value::Number(number)) if number.as_i64().is_some_and(|n| n >= 0) => {
            Ok(value.clone())
        }
        (
            Type::String | Type::Enum(_) | Type::Bytes | Type::Duration | Type::Size | Type::Variant(_),
            Value::String(text),
        ) => literal::scalar(text, ty),
        (Type::List(item), Value::Array(items)) => {
            let read = |(at, value)| typed(value, item).map_err(|error| format!("item {at}: {error}"));
            items.iter().enumerate().map(read).collect()
        }
        (Type::Map(item), Value::Object(fields)) => {
            let read = |(key, value): (&String, &Value)| {
                typed(value, item)
                    .map(|value| (key.clone(), value))
                    .map_err(|error| format!("`{key}`: {error}"))
            };
            fields.iter().map(read).collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
        (Type::Record(types), Value::Object(fields)) => {
            let mut object = Map::new();
            for (key, value) in fields {
                let ty = field_type(ty, &[key.as_str()])?;
                object.insert(key.clone(), typed(value, ty).map_err(|error| format!("`{key}`: {error}"))?);
            }
            debug_assert!(object.len() <= types.len());
            Ok(Value::Object(object))
        }
        _ => Err(wrong()),
    }
}

/// Checks that every field is there, and writes absent optional ones as null.
fn complete(value: &Value, ty: &Type, path: &str) -> Result<Value, String> {
    match (ty, value) {
        (Type::Option(inner), value) if !value.is_null() => complete(value, inner, path),
        (Type::Record(types), Value::Object(fields)) => {
            let mut object = Map::new();
            for field in types {
                let path = format!("{path}.{}", field.name);
                let value = match (fields.get(&field.name), &field.ty) {
                    (Some(value), ty) => complete(value, ty, &path)?,
                    (None, Type::Option(_)) => Value::Null,
                    (None, ty) => {
                        return Err(format!(
                            "its field `{}` is missing; give it as `-i {path}={}`",
                            field.name,
                            example(ty)
                        ));
                    }
                };
                object.insert(field.name.clone(), value);
            }
            Ok(Value::Object(object))
        }
        (Type::List(item), Value::Array(items)) => {
            items.iter().map(|value| complete(value, item, path)).collect()
        }
        _ => Ok(value.clone()),
    }
}

fn complete_absent(value: Value, ty: &Type) -> Value {
    complete(&value, ty, "").unwrap_or(value)
}

/// A value of the type, for messages.
fn example(ty: &Type) -> String {
    match ty {
        Type::Bool => "true".into(),
        Type::Int => "1".into(),
        Type::Float => "0.5".into(),
        Type::Duration => "5m".into(),
        Type::Size => "1GiB".into(),
        Type::Enum(cases) => cases.first().cloned().unwrap_or_default(),
        Type::Option(inner) => example(inner),
        Type::List(item) => match example(item) {
            text if matches!(**item, Type::Int | Type::Float | Type::Bool) => format!("[{text}]"),
            text if text.starts_with(['[', '{']) => format!("[{text}]"),
            text => format!("[\"{text}\"]"),
        },
        Type::Record(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|field| match example(&field.ty) {
                    text if matches!(field.ty, Type::Int | Type::Float | Type::Bool)
                        || text.starts_with(['[', '{']) =>
                    {
                        format!("\"{}\": {text}", field.name)
                    }
                    text => format!("\"{}\": \"{text}\"", field.name),
                })
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        _ => "...".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::{check, fixture};
    use serde_json::json;

    fn read(given: &[(&str, &str)], json: Value) -> Result<Value, Vec<String>> {
        let text = r#"
harvest: 1
name: w
inputs:
  repo: { type: string, pattern: '^[a-z/]+$' }
  turns: { type: int, default: 40, min: 1, max: 400 }
  wait: { type: duration, default: 90s }
  room: { type: size, optional: true }
  ratio: { type: float, default: 0.5 }
  mode: { type: enum, values: [fast, slow], default: fast }
  tags: { type: list, items: string, default: [], max: 2 }
  author:
    type: object
    fields: { name: string, email: string, age: { type: int, optional: true } }
    default: { name: "${{ run.author.name }}", email: me@example.com }
steps:
  a: { uses: exec/run, with: { command: [echo, "${{ json(inputs) }}"] } }
"#;
        let workflow = check("w.yaml", text, &fixture::catalog()).workflow.unwrap();
        let given = given.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let run = json!({"author": {"name": "Ann"}}).as_object().cloned().unwrap();
        read_inputs(&workflow, given, json.as_object().cloned(), &run)
            .map(Value::Object)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn values_are_read_by_type_and_completed() {
        let read = read(
            &[
                ("repo", "a/b"),
                ("tags", "[\"x\"]"),
                ("author.email", "x@example.com"),
                ("room", "1GiB"),
                ("ratio", "2"),
            ],
            json!({"turns": 7, "wait": "2m"}),
        );
        assert_eq!(
            read,
            Ok(
                json!({"repo": "a/b", "turns": 7, "wait": 120_000, "room": 1 << 30, "ratio": 2.0, "mode": "fast",
                "tags": ["x"], "author": {"name": "Ann", "email": "x@example.com", "age": null}})
            )
        );
    }

    #[test]
    fn defaults_fill_the_rest() {
        let read = read(&[("repo", "a")], Value::Null).unwrap();
        assert_eq!(
            (&read["room"], &read["author"]["name"], &read["wait"]),
            (&Value::Null, &json!("Ann"), &json!(90_000))
        );
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let errors = read(
            &[
                ("rpo", "a"),
                ("turns", "many"),
                ("wait", "90"),
                ("mode", "fats"),
                ("tags", "x"),
                ("author.nme", "A"),
            ],
            json!({"ratio": "x", "author": {"name": 1}}),
        )
        .unwrap_err();
        insta::assert_snapshot!(errors.join("\n"), @r#"
        input `ratio`: must be a float, not text
        input `author`: `name`: must be a string, not a number
        input `rpo`: the workflow has no such input; did you mean `repo`?
        input `turns`: `many` is no int; write a whole number such as `42`
        input `wait`: `90` is no duration; write a number with its unit, such as `90s`, `5m` or `1h 30m`
        input `mode`: `fats` is none of its values; did you mean `fast`?
        input `tags`: list<string> is given as JSON, such as `["..."]`, but this is none: expected value at line 1 column 1
        input `author.nme`: there is no field `nme`; did you mean `name`?
        "#);
        let errors = read(
            &[("repo", "A B"), ("turns", "0"), ("tags", "[\"a\",\"b\",\"c\"]")],
            json!({"author": {"name": "x"}}),
        )
        .unwrap_err();
        insta::assert_snapshot!(errors.join("\n"), @r"
        input `repo`: must match `^[a-z/]+$`
        input `turns`: must be at least 1, but is 0
        input `tags`: must be at most 2 items, but is 3 items
        input `author`: its field `email` is missing; give it as `-i author.email=...`
        ");
    }
}
