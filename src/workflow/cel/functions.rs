//! The functions of the language, in one table for checker, evaluator and documentation. Pure and bounded: each charges
//! what it builds before it builds it. What binds a name (`map`, `filter`) or looks at how its argument was written
//! (`has`, `orValue`) is syntax and lives in the evaluator and the checker.

use super::evaluate::{Budget, text_of};
use crate::workflow::literal;
use crate::workflow::types::Type;
use serde_json::Value;

/// Largest regular expression, compiled, in bytes. Matching is linear in the text.
const MAX_REGEX: usize = 1 << 20;

/// One function. A call on a receiver, `text.lower()`, is a call with the receiver as first argument.
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// How it is written, for messages and documentation.
    pub form: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// Whether it is called on a receiver; else as `name(...)`.
    pub method: bool,
    pub(crate) ty: fn(&[Type]) -> Option<Type>,
    pub(crate) call: fn(&[Value], &mut Budget) -> Result<Value, String>,
}

impl Function {
    /// The function of this name and way of calling.
    pub(crate) fn find(name: &str, method: bool) -> Option<&'static Self> {
        FUNCTIONS
            .iter()
            .find(|function| function.name == name && (function.method == method || function.name == "size"))
    }

    /// Whether it can be called on a receiver of this type, whatever its further arguments are.
    pub(crate) fn suits(&self, receiver: &Type) -> bool {
        let text = || Type::String;
        let texts = || Type::List(Box::new(Type::String));
        let further = [vec![], vec![text()], vec![text(), text()], vec![texts()]];
        let takes = |further: Vec<Type>| {
            let args: Vec<_> = [receiver.clone()].into_iter().chain(further).collect();
            (self.ty)(&args).is_some()
        };
        (self.method || self.name == "size") && further.into_iter().any(takes)
    }
}

/// What is written like a function and is none: it binds a name, or looks at how its argument was written.
pub struct Form {
    /// Its name.
    pub name: &'static str,
    /// How it is written, for messages and documentation.
    pub form: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// What it is called on; `None` where it has no receiver.
    pub(crate) receiver: Option<fn(&Type) -> bool>,
}

/// Every such form, in the order of the documentation.
pub static FORMS: &[Form] = &[
    Form {
        name: "has",
        form: "has(steps.commit.sha)",
        doc: "Whether the value is there: of an optional input, an output of a skipped step, or a secret.",
        receiver: None,
    },
    Form {
        name: "orValue",
        form: "x.orValue(other)",
        doc: "The value, or the other one where it is absent.",
        receiver: Some(|ty| matches!(ty, Type::Option(_))),
    },
    Form {
        name: "hasValue",
        form: "x.hasValue()",
        doc: "Whether the value is there.",
        receiver: Some(|ty| matches!(ty, Type::Option(_))),
    },
    Form {
        name: "map",
        form: "list.map(x, x.name)",
        doc: "What the last argument is for each item; with a condition before it, for those that keep it.",
        receiver: Some(is_many),
    },
    Form {
        name: "filter",
        form: "list.filter(x, x.size() > 0)",
        doc: "The items for which the condition holds.",
        receiver: Some(is_many),
    },
    Form {
        name: "exists",
        form: "list.exists(x, x == 'a')",
        doc: "Whether the condition holds for some item.",
        receiver: Some(is_many),
    },
    Form {
        name: "exists_one",
        form: "list.exists_one(x, x == 'a')",
        doc: "Whether the condition holds for exactly one item.",
        receiver: Some(is_many),
    },
    Form {
        name: "all",
        form: "list.all(x, x != '')",
        doc: "Whether the condition holds for every item.",
        receiver: Some(is_many),
    },
];

fn is_many(ty: &Type) -> bool {
    matches!(ty, Type::List(_) | Type::Map(_) | Type::Any)
}

macro_rules! text_to_bool {
    ($name:literal, $form:literal, $doc:literal, $test:expr) => {
        Function {
            name: $name,
            form: $form,
            doc: $doc,
            method: true,
            ty: |args| (args.len() == 2 && args.iter().all(is_text)).then_some(Type::Bool),
            call: |args, budget| {
                let test: fn(&str, &str) -> Result<bool, String> = $test;
                budget.spend(text_arg(&args[0])?.len())?;
                test(text_arg(&args[0])?, text_arg(&args[1])?).map(Value::from)
            },
        }
    };
}

macro_rules! text_to_text {
    ($name:literal, $form:literal, $doc:literal, $map:expr) => {
        Function {
            name: $name,
            form: $form,
            doc: $doc,
            method: true,
            ty: |args| matches!(args, [text] if is_text(text)).then_some(Type::String),
            call: |args, budget| {
                let map: fn(&str) -> String = $map;
                // A letter may become three in the other case.
                budget.build(text_arg(&args[0])?.len().saturating_mul(3))?;
                Ok(map(text_arg(&args[0])?).into())
            },
        }
    };
}

/// Every function, in the order of the documentation.
pub static FUNCTIONS: &[Function] = &[
    Function {
        name: "size",
        form: "size(x) or x.size(), x a string, list or map",
        doc: "The number of characters, items or keys.",
        method: false,
        ty: |args| match args {
            [Type::String | Type::Enum(_) | Type::List(_) | Type::Map(_) | Type::Any] => Some(Type::Int),
            _ => None,
        },
        call: |args, _| {
            Ok(Value::from(match &args[0] {
                Value::String(text) => text.chars().count(),
                Value::Array(items) => items.len(),
                Value::Object(fields) => fields.len(),
                other => return Err(format!("{} has no size", kind_of(other))),
            }))
        },
    },
    text_to_bool!("contains", "text.contains(part)", "Whether the text contains the part.", |text, part| {
        Ok(text.contains(part))
    }),
    text_to_bool!(
        "startsWith",
        "text.startsWith(prefix)",
        "Whether the text starts with the prefix.",
        |text, part| { Ok(text.starts_with(part)) }
    ),
    text_to_bool!(
        "endsWith",
        "text.endsWith(suffix)",
        "Whether the text ends with the suffix.",
        |text, part| { Ok(text.ends_with(part)) }
    ),
    text_to_bool!(
        "matches",
        "text.matches(regex)",
        "Whether the regular expression matches in the text.",
        |text, regex| {
            let regex = regex::RegexBuilder::new(regex).size_limit(MAX_REGEX).build();
            Ok(regex.map_err(|error| format!("the regular expression is not valid: {error}"))?.is_match(text))
        }
    ),
    Function {
        name: "replace",
        form: "text.replace(from, to)",
        doc: "The text with every `from` replaced.",
        method: true,
        ty: |args| (args.len() == 3 && args.iter().all(is_text)).then_some(Type::String),
        call: |args, budget| {
            let (text, from, to) = (text_arg(&args[0])?, text_arg(&args[1])?, text_arg(&args[2])?);
            budget.spend(text.len())?;
            let found = if from.is_empty() { text.len() + 1 } else { text.matches(from).count() };
            budget.build(text.len().saturating_add(found.saturating_mul(to.len())))?;
            Ok(text.replace(from, to).into())
        },
    },
    Function {
        name: "split",
        form: "text.split(separator)",
        doc: "The parts of the text between separators.",
        method: true,
        ty: |args| (args.len() == 2 && args.iter().all(is_text)).then(|| Type::List(Box::new(Type::String))),
        call: |args, budget| {
            let (text, separator) = (text_arg(&args[0])?, text_arg(&args[1])?);
            budget.build(text.len().saturating_mul(4))?;
            Ok(match separator {
                "" => text.chars().map(|c| Value::from(c.to_string())).collect(),
                _ => text.split(separator).map(Value::from).collect(),
            })
        },
    },
    Function {
        name: "join",
        form: "list.join(separator)",
        doc: "The texts of the list with the separator between them.",
        method: true,
        ty: |args| match args {
            [Type::List(item)] if is_text(item) => Some(Type::String),
            [Type::List(item), separator] if is_text(item) && is_text(separator) => Some(Type::String),
            _ => None,
        },
        call: |args, budget| {
            let Value::Array(items) = &args[0] else {
                return Err(format!("{} is no list", kind_of(&args[0])));
            };
            let separator = args.get(1).map_or(Ok(""), text_arg)?;
            let texts = items.iter().map(text_arg).collect::<Result<Vec<_>, _>>()?;
            budget.build(texts.iter().map(|text| text.len() + separator.len()).sum())?;
            Ok(texts.join(separator).into())
        },
    },
    text_to_text!("lower", "text.lower()", "The text in lower case.", |text| text.to_lowercase()),
    text_to_text!("upper", "text.upper()", "The text in upper case.", |text| text.to_uppercase()),
    text_to_text!("trim", "text.trim()", "The text without white space around it.", |text| text
        .trim()
        .to_owned()),
    Function {
        name: "format",
        form: "'%s of %d'.format([x, y])",
        doc: "The text with `%s` (any scalar), `%d` (int), `%f` and `%.2f` (float) replaced in order; `%%` is a `%`.",
        method: true,
        ty: |args| match args {
            [text, Type::Tuple(items)] if is_text(text) && items.iter().all(is_scalar) => Some(Type::String),
            [text, Type::List(item)] if is_text(text) && is_scalar(item) => Some(Type::String),
            _ => None,
        },
        call: format,
    },
    Function {
        name: "first",
        form: "list.first()",
        doc: "The first item; absent where the list is empty.",
        method: true,
        ty: item_type,
        call: |args, _| {
            Ok(args[0].as_array().and_then(|items| items.first()).cloned().unwrap_or(Value::Null))
        },
    },
    Function {
        name: "last",
        form: "list.last()",
        doc: "The last item; absent where the list is empty.",
        method: true,
        ty: item_type,
        call: |args, _| Ok(args[0].as_array().and_then(|items| items.last()).cloned().unwrap_or(Value::Null)),
    },
    Function {
        name: "json",
        form: "json(x)",
        doc: "The value as JSON text.",
        method: false,
        ty: |args| (args.len() == 1).then_some(Type::String),
        call: |args, budget| {
            let text = args[0].to_string();
            budget.build(text.len())?;
            Ok(text.into())
        },
    },
    Function {
        name: "hash",
        form: "hash('images/*.lock') or hash(['a.lock', 'b.lock'])",
        doc: "A hash of the content of these files as it was when the run began; names and patterns are literals.",
        method: false,
        ty: |args| {
            let fine = match args {
                [Type::String] => true,
                [Type::List(item)] => **item == Type::String,
                _ => false,
            };
            fine.then_some(Type::String)
        },
        // The evaluator answers from what was recorded when the run began: the core reads no disk.
        call: |_, _| Err("there is no recorded hash of these files".into()),
    },
    Function {
        name: "int",
        form: "int(x), x a string, int, float, duration (milliseconds) or size (bytes)",
        doc: "The whole number that the text spells, or that the number is cut to.",
        method: false,
        ty: |args| match args {
            [Type::String | Type::Int | Type::Float | Type::Duration | Type::Size | Type::Any] => {
                Some(Type::Int)
            }
            _ => None,
        },
        call: |args, _| match &args[0] {
            Value::String(text) => text
                .parse::<i64>()
                .map(Value::from)
                .map_err(|_| format!("`{}` is no whole number", shown(text))),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(int), _) => Ok(int.into()),
                // 2^63 is the first float beyond the range; the last below it is representable.
                (None, Some(float)) if (-(2_f64.powi(63))..2_f64.powi(63)).contains(&float) => {
                    Ok((float.trunc() as i64).into())
                }
                _ => Err(format!("{number} does not fit into 64 bits")),
            },
            other => Err(format!("{} is no number", kind_of(other))),
        },
    },
    Function {
        name: "duration",
        form: "duration('1h 30m')",
        doc: "The duration that the text spells.",
        method: false,
        ty: |args| matches!(args, [Type::String]).then_some(Type::Duration),
        call: |args, _| literal::duration_ms(text_arg(&args[0])?).map(Value::from),
    },
    Function {
        name: "double",
        form: "double(x), x a string, int or float",
        doc: "The number that the text spells, as a float.",
        method: false,
        ty: |args| {
            matches!(args, [Type::String | Type::Int | Type::Float | Type::Any]).then_some(Type::Float)
        },
        call: |args, _| {
            let float = match &args[0] {
                Value::String(text) => text.parse::<f64>().ok(),
                Value::Number(number) => number.as_f64(),
                _ => None,
            };
            let float = float.filter(|float| float.is_finite());
            float.map(Value::from).ok_or_else(|| format!("`{}` is no number", shown(&args[0].to_string())))
        },
    },
    Function {
        name: "string",
        form: "string(x), x a string, bool, int, float or enum",
        doc: "The value as text.",
        method: false,
        ty: |args| matches!(args, [ty] if is_scalar(ty)).then_some(Type::String),
        call: |args, budget| {
            let text = text_of(&args[0])?;
            budget.build(text.len())?;
            Ok(text.into())
        },
    },
    Function {
        name: "bool",
        form: "bool(x), x a string (true or false) or bool",
        doc: "The truth that the text spells.",
        method: false,
        ty: |args| matches!(args, [Type::String | Type::Bool | Type::Any]).then_some(Type::Bool),
        call: |args, _| match &args[0] {
            Value::Bool(value) => Ok((*value).into()),
            Value::String(text) if text == "true" => Ok(true.into()),
            Value::String(text) if text == "false" => Ok(false.into()),
            other => Err(format!("{} is neither true nor false", shown(&other.to_string()))),
        },
    },
];

/// Whether a value of the type is text.
pub(crate) fn is_text(ty: &Type) -> bool {
    matches!(ty, Type::String | Type::Enum(_) | Type::Any)
}

/// Whether a value of the type has one obvious text, so that it may stand inside text.
pub(crate) fn is_scalar(ty: &Type) -> bool {
    matches!(ty, Type::String | Type::Enum(_) | Type::Bool | Type::Int | Type::Float | Type::Any)
}

/// What a JSON value is, for messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "an absent value",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn item_type(args: &[Type]) -> Option<Type> {
    match args {
        [Type::List(item)] => Some(Type::Option(item.clone())),
        [Type::Any] => Some(Type::Any),
        _ => None,
    }
}

fn text_arg(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("{} is no text", kind_of(value)))
}

/// A piece of a value short enough for a message.
fn shown(text: &str) -> &str {
    const LIMIT: usize = 40;
    &text[..text.floor_char_boundary(LIMIT)]
}

fn format(args: &[Value], budget: &mut Budget) -> Result<Value, String> {
    /// Most digits after the point; a float has no more.
    const MAX_PLACES: usize = 17;
    let pattern = text_arg(&args[0])?;
    let Value::Array(values) = &args[1] else { return Err("format takes a list of values".into()) };
    let mut values = values.iter();
    let mut text = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let places = rest.strip_prefix('.').map(|after| after.split('f').next().unwrap_or(""));
        let verb = match places {
            Some(places) => {
                places.parse().ok().filter(|n| *n <= MAX_PLACES).map(|n| ('f', n, places.len() + 2))
            }
            None => rest.chars().next().map(|verb| (verb, 6, verb.len_utf8())),
        };
        let Some((verb @ ('s' | 'd' | 'f'), places, length)) = verb else {
            return Err("after `%` write s, d, f, .2f or another %".into());
        };
        let value = values.next().ok_or("format has more holes than values")?;
        match (verb, value.as_i64(), value.as_f64()) {
            ('d', Some(int), _) => text.push_str(&int.to_string()),
            ('d', None, _) => return Err(format!("%d takes an int, not {}", kind_of(value))),
            ('f', _, Some(float)) => text.push_str(&format!("{float:.places$}")),
            ('f', _, None) => return Err(format!("%f takes a number, not {}", kind_of(value))),
            _ => text.push_str(&text_of(value)?),
        }
        budget.build(text.len())?;
        rest = &rest[length..];
    }
    if values.next().is_some() {
        return Err("format has more values than holes".into());
    }
    text.push_str(rest);
    Ok(text.into())
}
