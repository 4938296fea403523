//! What an expression is worth. Pure and deterministic: the same scope gives the same value, and no expression costs
//! more than [`MAX_COST`]. An absent value is JSON null; what CEL calls an optional is a value that may be null.

use super::functions::{Function, kind_of};
use super::{Parsed, parse};
use crate::id::{Digest, StepId};
use ::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators as op};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Largest value in bytes, as JSON and roughly: what may travel in an event of the journal.
pub const MAX_VALUE: usize = 1 << 20;

/// Most work one template may cost: a node visited and a byte built count one each. Tens of milliseconds.
pub const MAX_COST: usize = 16 << 20;

/// What an expression can see.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Inputs of the run.
    pub inputs: &'a Map<String, Value>,
    /// Step -> its outputs beside `state`, `error`, `attempts`. A step without outputs (skipped, failed, not yet run)
    /// has those three at most.
    pub steps: &'a Map<String, Value>,
    /// `id`, `workflow`, `trigger`, `author`, and `status` in `finally`.
    pub run: &'a Map<String, Value>,
    /// Names of the secrets that are present.
    pub secrets: &'a BTreeSet<String>,
    /// The item that a step of a loop is done for.
    pub item: Option<ItemScope<'a>>,
    /// What `hash()` of each name or pattern is, recorded when the run began.
    pub hashes: Option<&'a BTreeMap<String, String>>,
}

/// An item of a loop, as its steps see it.
#[derive(Clone, Copy, Debug)]
pub struct ItemScope<'a> {
    /// What the file calls it.
    pub name: &'a str,
    /// The item.
    pub value: &'a Value,
    /// The other steps of the item, looked up before those outside; none where only the item can be seen.
    pub steps: Option<&'a Map<String, Value>>,
}

impl<'a> Scope<'a> {
    /// What is seen of a step.
    fn step(&self, name: &str) -> Option<&'a Map<String, Value>> {
        let inner = self.item.and_then(|item| item.steps).and_then(|steps| steps.get(name));
        inner.or_else(|| self.steps.get(name)).and_then(Value::as_object)
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// It reads an output of this step, which has none: it was skipped, or failed.
    #[error("step `{0}` has no outputs, because it was skipped or failed")]
    Skipped(StepId),
    /// Anything else, as a sentence for the author.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for EvalError {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

/// What one template may still cost.
pub(crate) struct Budget {
    left: usize,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { left: MAX_COST }
    }

    /// Pays for work.
    pub(crate) fn spend(&mut self, cost: usize) -> Result<(), String> {
        self.left =
            self.left.checked_sub(cost).ok_or("the expression takes too much work; make it simpler")?;
        Ok(())
    }

    /// Pays for a value of `bytes` before it is built.
    pub(crate) fn build(&mut self, bytes: usize) -> Result<(), String> {
        if bytes > MAX_VALUE {
            return Err(too_large());
        }
        self.spend(bytes)
    }
}

/// The value of `text` in `scope`.
pub(crate) fn evaluate(text: &str, scope: &Scope<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
    let about = |message: String| {
        const SHOWN: usize = 120;
        let cut = if text.len() > SHOWN { "..." } else { "" };
        EvalError::Failed(format!("in `{}{cut}`: {message}", &text[..text.floor_char_boundary(SHOWN)]))
    };
    let parsed: Parsed = parse(text).map_err(|error| about(error.message))?;
    let mut evaluator = Evaluator { scope, locals: Vec::new(), budget };
    evaluator.value(&parsed.root).map_err(|error| match error {
        EvalError::Failed(message) => about(message),
        skipped => skipped,
    })
}

/// The one obvious text of a scalar.
pub(crate) fn text_of(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => int.to_string(),
            (None, Some(float)) => float.to_string(),
            (None, None) => number.to_string(),
        }),
        other => Err(format!("{} cannot stand inside text", kind_of(other))),
    }
}

struct Evaluator<'e, 's> {
    scope: &'e Scope<'s>,
    /// Names bound by `map`, `filter` and the like, innermost last.
    locals: Vec<(String, Value)>,
    budget: &'e mut Budget,
}

type Outcome = Result<Value, EvalError>;

impl<'s> Evaluator<'_, 's> {
    fn value(&mut self, node: &IdedExpr) -> Outcome {
        self.budget.spend(1)?;
        match &node.expr {
            Expr::Literal(literal) => literal_value(literal),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select),
            Expr::List(list) => {
                let mut items = Vec::with_capacity(list.elements.len());
                for (at, element) in list.elements.iter().enumerate() {
                    let optional = list.optional_indices.contains(&at);
                    let value = if optional { self.tolerant(element)? } else { self.value(element)? };
                    if !(optional && value.is_null()) {
                        items.push(value);
                    }
                }
                Ok(Value::Array(items))
            }
            Expr::Map(map) => {
                let mut fields = Map::new();
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { return unsupported() };
                    let key = text_of(&self.value(&entry.key)?)?;
                    let value =
                        if entry.optional { self.tolerant(&entry.value)? } else { self.value(&entry.value)? };
                    if !(entry.optional && value.is_null()) && fields.insert(key.clone(), value).is_some() {
                        return Err(format!("the key `{key}` is there twice").into());
                    }
                }
                Ok(Value::Object(fields))
            }
            Expr::Call(call) => self.call(call),
            Expr::Struct(_) | Expr::Comprehension(_) | Expr::Unspecified => unsupported(),
        }
    }

    /// The value, or null where it needs a step that has no outputs.
    fn tolerant(&mut self, node: &IdedExpr) -> Outcome {
        match self.value(node) {
            Err(EvalError::Skipped(_)) => Ok(Value::Null),
            other => other,
        }
    }

    fn name(&mut self, name: &str) -> Outcome {
        if let Some((_, value)) = self.locals.iter().rev().find(|(local, _)| local == name) {
            self.budget.build(size_of(value))?;
            return Ok(value.clone());
        }
        if let Some(item) = self.scope.item.filter(|item| item.name == name) {
            self.budget.build(size_of(item.value))?;
            return Ok(item.value.clone());
        }
        let fields = match name {
            "inputs" => self.scope.inputs,
            "run" => self.scope.run,
            _ => return Err(format!("nothing is called `{name}`").into()),
        };
        let size = fields.iter().map(|(key, value)| key.len() + size_of(value)).sum();
        self.budget.build(size)?;
        Ok(Value::Object(fields.clone()))
    }

    fn is_global(&self, node: &IdedExpr, name: &str) -> bool {
        matches!(&node.expr, Expr::Ident(ident) if ident == name)
            && !self.locals.iter().any(|(local, _)| local == name)
    }

    fn select(&mut self, select: &SelectExpr) -> Outcome {
        self.field(&select.operand, &select.field)
    }

    fn field(&mut self, operand: &IdedExpr, field: &str) -> Outcome {
        // The outer objects are reached by reference: copying every input to read one would cost too much.
        for (name, fields) in [("inputs", self.scope.inputs), ("run", self.scope.run)] {
            if self.is_global(operand, name) {
                let value = fields.get(field).unwrap_or(&Value::Null);
                self.budget.build(size_of(value))?;
                return Ok(value.clone());
            }
        }
        if let Some(step) = self.step(operand) {
            return self.step_field(step, field);
        }
        match self.value(operand)? {
            Value::Object(mut fields) => Ok(fields.swap_remove(field).unwrap_or(Value::Null)),
            Value::Null => Ok(Value::Null),
            other => Err(format!("{} has no field `{field}`", kind_of(&other)).into()),
        }
    }

    /// The step that `steps.ID` names.
    fn step<'n>(&self, node: &'n IdedExpr) -> Option<&'n str> {
        match &node.expr {
            Expr::Select(select) if self.is_global(&select.operand, "steps") => Some(&select.field),
            _ => None,
        }
    }

    fn step_field(&mut self, step: &str, field: &str) -> Outcome {
        let view = self.scope.step(step);
        if let Some(value) = view.and_then(|view| view.get(field)) {
            self.budget.build(size_of(value))?;
            return Ok(value.clone());
        }
        let ended_well = view.and_then(|view| view.get("state")).is_some_and(|state| state == "succeeded");
        if ended_well || matches!(field, "state" | "error" | "attempts") {
            return Ok(Value::Null);
        }
        Err(EvalError::Skipped(StepId::new(step)))
    }

    /// What a plain path leads to, without a copy of it; none where it leads to nothing, or is no plain path.
    fn stored(&self, node: &IdedExpr) -> Option<&'s Value> {
        let Expr::Select(select) = &node.expr else { return None };
        let operand = &select.operand;
        if self.is_global(operand, "inputs") {
            return self.scope.inputs.get(&select.field);
        }
        match self.step(operand) {
            Some(step) => self.scope.step(step)?.get(&select.field),
            None => self.stored(operand)?.get(&select.field),
        }
    }

    fn call(&mut self, call: &CallExpr) -> Outcome {
        if let Some(target) = &call.target {
            return self.method(target, call);
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            (op::CONDITIONAL, [condition, yes, no]) => {
                if self.truth(condition)? {
                    self.value(yes)
                } else {
                    self.value(no)
                }
            }
            (op::LOGICAL_AND, [left, right]) => Ok((self.truth(left)? && self.truth(right)?).into()),
            (op::LOGICAL_OR, [left, right]) => Ok((self.truth(left)? || self.truth(right)?).into()),
            (op::LOGICAL_NOT, [operand]) => Ok((!self.truth(operand)?).into()),
            (op::NEGATE, [operand]) => self.negate(operand),
            (op::INDEX, [operand, key]) => self.index(operand, key, false),
            (op::OPT_INDEX, [operand, key]) => self.index(operand, key, true),
            (op::OPT_SELECT, [operand, key]) => match &key.expr {
                Expr::Literal(LiteralValue::String(field)) => {
                    let value = self.field(operand, field.inner());
                    if let Err(EvalError::Skipped(_)) = value { Ok(Value::Null) } else { value }
                }
                _ => unsupported(),
            },
            ("has", [operand]) => self.has(operand),
            (operator, [left, right]) if operator.contains('_') || operator == op::IN => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.binary(operator, left, right)
            }
            (name, args) => self.function(name, false, None, args),
        }
    }

    fn method(&mut self, target: &IdedExpr, call: &CallExpr) -> Outcome {
        if self.is_global(target, "optional") {
            return match (call.func_name.as_str(), call.args.as_slice()) {
                ("none", []) => Ok(Value::Null),
                ("of" | "ofNonZeroValue", [value]) => self.value(value),
                (name, _) => Err(format!("`optional` has no function `{name}`").into()),
            };
        }
        match (call.func_name.as_str(), call.args.as_slice()) {
            ("orValue" | "or", [other]) => match self.tolerant(target)? {
                Value::Null => self.value(other),
                value => Ok(value),
            },
            ("hasValue", []) => Ok((!self.tolerant(target)?.is_null()).into()),
            ("value", []) => match self.value(target)? {
                Value::Null => {
                    Err("the value is absent; write `.orValue(...)` instead of `.value()`".to_owned().into())
                }
                value => Ok(value),
            },
            (name @ ("map" | "filter" | "exists" | "exists_one" | "all"), [item, rest @ ..])
                if !rest.is_empty() =>
            {
                let Expr::Ident(item) = &item.expr else { return unsupported() };
                self.comprehension(name, target, item, rest)
            }
            (name, args) => self.function(name, true, Some(target), args),
        }
    }

    fn comprehension(&mut self, name: &str, target: &IdedExpr, item: &str, rest: &[IdedExpr]) -> Outcome {
        // The items of a loop may be more than a value may have; one at a time they are not.
        let items: Cow<'_, [Value]> = match self.stored(target) {
            Some(Value::Array(items)) => Cow::Borrowed(items),
            _ => match self.value(target)? {
                Value::Array(items) => items.into(),
                Value::Object(fields) => fields.into_iter().map(|(key, _)| Value::String(key)).collect(),
                other => return Err(format!("{} has no items", kind_of(&other)).into()),
            },
        };
        let (filter, body) = match (name, rest) {
            ("map", [filter, body]) => (Some(filter), body),
            (_, [body]) => (None, body),
            _ => return unsupported(),
        };
        let (mut built, mut size, mut found) = (Vec::new(), 0_usize, 0_usize);
        let total = items.len();
        for value in items.iter() {
            self.budget.build(1 + size_of(value))?;
            let value = value.clone();
            let kept = (name == "filter").then(|| value.clone());
            self.locals.push((item.to_owned(), value));
            let outcome = self.turn(name, filter, body);
            self.locals.pop();
            let Some(outcome) = outcome? else { continue };
            let outcome = match (kept, outcome) {
                // Where it is absent whether an item is meant, it is not.
                (_, Value::Null) if name != "map" => continue,
                (Some(kept), Value::Bool(true)) => kept,
                (None, Value::Bool(true)) if name != "map" => {
                    found += 1;
                    continue;
                }
                (_, Value::Bool(false)) if name != "map" => continue,
                (_, outcome) if name == "map" => outcome,
                (_, other) => return Err(format!("{name} needs a bool, not {}", kind_of(&other)).into()),
            };
            let grown = size_of(&outcome);
            size += grown;
            self.budget.spend(grown)?;
            if size > MAX_VALUE {
                return Err(too_large().into());
            }
            built.push(outcome);
        }
        Ok(match name {
            "exists" => (found > 0).into(),
            "exists_one" => (found == 1).into(),
            "all" => (found == total).into(),
            _ => Value::Array(built),
        })
    }

    /// One turn of a comprehension; `None` where the filter of a three-part `map` says no.
    fn turn(
        &mut self,
        name: &str,
        filter: Option<&IdedExpr>,
        body: &IdedExpr,
    ) -> Result<Option<Value>, EvalError> {
        debug_assert!(filter.is_none() || name == "map");
        if let Some(filter) = filter {
            match self.value(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) | Value::Null => return Ok(None),
                other => return Err(format!("{name} needs a bool, not {}", kind_of(&other)).into()),
            }
        }
        self.value(body).map(Some)
    }

    fn function(
        &mut self,
        name: &str,
        method: bool,
        target: Option<&IdedExpr>,
        args: &[IdedExpr],
    ) -> Outcome {
        let function =
            Function::find(name, method).ok_or_else(|| format!("no function is called `{name}`"))?;
        if let ("size", [counted]) = (name, target.into_iter().chain(args).collect::<Vec<_>>().as_slice())
            && let Some(Value::Array(items)) = self.stored(counted)
        {
            return Ok(items.len().into());
        }
        let values =
            target.into_iter().chain(args).map(|node| self.value(node)).collect::<Result<Vec<_>, _>>()?;
        let least = match name {
            "replace" => 3,
            "split" | "format" | "contains" | "startsWith" | "endsWith" | "matches" => 2,
            _ => 1,
        };
        if name == "hash" {
            return self.hash(&values);
        }
        if values.len() < least {
            return Err(format!("too few arguments; write {}", function.form).into());
        }
        Ok((function.call)(&values, self.budget)?)
    }

    fn hash(&self, arguments: &[Value]) -> Outcome {
        let recorded = |pattern: &Value| {
            let hash = self.scope.hashes.zip(pattern.as_str()).and_then(|(hashes, name)| hashes.get(name));
            hash.cloned().ok_or_else(|| EvalError::from(format!("there is no recorded hash of {pattern}")))
        };
        match arguments {
            [Value::Array(patterns)] => {
                let all: Vec<String> = patterns.iter().map(recorded).collect::<Result<_, _>>()?;
                Ok(Digest::of(all.join(" ").as_bytes()).hex().into())
            }
            [pattern] => Ok(recorded(pattern)?.into()),
            _ => unsupported(),
        }
    }

    fn has(&mut self, node: &IdedExpr) -> Outcome {
        if let Expr::Select(select) = &node.expr
            && self.is_global(&select.operand, "secrets")
        {
            return Ok(self.scope.secrets.contains(&select.field).into());
        }
        Ok((!self.tolerant(node)?.is_null()).into())
    }

    fn truth(&mut self, node: &IdedExpr) -> Result<bool, EvalError> {
        match self.value(node)? {
            Value::Bool(value) => Ok(value),
            other => Err(format!("expected a bool, found {}", kind_of(&other)).into()),
        }
    }

    fn negate(&mut self, operand: &IdedExpr) -> Outcome {
        match self.value(operand)? {
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(int), _) => Ok(int.checked_neg().ok_or_else(overflow)?.into()),
                (None, Some(float)) => finite(-float),
                (None, None) => Err(overflow().into()),
            },
            other => Err(format!("{} cannot be negated", kind_of(&other)).into()),
        }
    }

    fn index(&mut self, operand: &IdedExpr, key: &IdedExpr, optional: bool) -> Outcome {
        if let (Some(step), Expr::Literal(LiteralValue::String(field))) = (self.step(operand), &key.expr) {
            let value = self.step_field(step, field.inner());
            return if let (true, Err(EvalError::Skipped(_))) = (optional, &value) {
                Ok(Value::Null)
            } else {
                value
            };
        }
        let container = if optional { self.tolerant(operand)? } else { self.value(operand)? };
        let key = self.value(key)?;
        let found = match (container, &key) {
            (Value::Array(mut items), Value::Number(at)) => {
                let at = at.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at < items.len());
                at.map(|at| items.swap_remove(at))
            }
            (Value::Object(mut fields), Value::String(key)) => fields.swap_remove(key),
            (Value::Null, _) => None,
            (container, key) => {
                return Err(format!("{} cannot be indexed by {}", kind_of(&container), kind_of(key)).into());
            }
        };
        match found {
            Some(value) => Ok(value),
            None if optional => Ok(Value::Null),
            None => Err(format!("there is nothing at [{key}]; write [?{key}] where it may be absent").into()),
        }
    }

    fn binary(&mut self, operator: &str, left: Value, right: Value) -> Outcome {
        self.budget.spend(size_of(&left).min(size_of(&right)))?;
        match operator {
            op::EQUALS => return Ok(equal(&left, &right).into()),
            op::NOT_EQUALS => return Ok((!equal(&left, &right)).into()),
            op::IN => {
                return Ok(match (&left, right) {
                    (item, Value::Array(items)) => {
                        self.budget.spend(size_of(item).saturating_mul(items.len()))?;
                        items.iter().any(|other| equal(item, other)).into()
                    }
                    (Value::String(key), Value::Object(fields)) => fields.contains_key(key).into(),
                    (item, right) => {
                        return Err(
                            format!("`in` cannot look for {} in {}", kind_of(item), kind_of(&right)).into()
                        );
                    }
                });
            }
            op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS => {
                let order = compare(&left, &right)?;
                return Ok(match operator {
                    op::LESS => order.is_lt(),
                    op::LESS_EQUALS => order.is_le(),
                    op::GREATER => order.is_gt(),
                    _ => order.is_ge(),
                }
                .into());
            }
            _ => {}
        }
        match (operator, left, right) {
            (op::ADD, Value::String(left), Value::String(right)) => {
                self.budget.build(left.len() + right.len())?;
                Ok((left + &right).into())
            }
            (op::ADD, Value::Array(mut left), Value::Array(right)) => {
                self.budget.build(left.iter().chain(&right).map(size_of).sum())?;
                left.extend(right);
                Ok(Value::Array(left))
            }
            (_, Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
                (Some(left), Some(right)) => whole(operator, left, right),
                _ => {
                    let (Some(left), Some(right)) = (left.as_f64(), right.as_f64()) else {
                        return Err(overflow().into());
                    };
                    match operator {
                        op::ADD => finite(left + right),
                        op::SUBSTRACT => finite(left - right),
                        op::MULTIPLY => finite(left * right),
                        op::DIVIDE => finite(left / right),
                        _ => Err("% takes ints".to_owned().into()),
                    }
                }
            },
            (operator, left, right) => {
                let sign = operator.trim_matches('_');
                Err(format!("`{sign}` cannot join {} and {}", kind_of(&left), kind_of(&right)).into())
            }
        }
    }
}

fn whole(operator: &str, left: i64, right: i64) -> Outcome {
    let result = match operator {
        op::ADD => left.checked_add(right),
        op::SUBSTRACT => left.checked_sub(right),
        op::MULTIPLY => left.checked_mul(right),
        op::DIVIDE | op::MODULO if right == 0 => return Err("division by zero".to_owned().into()),
        op::DIVIDE => left.checked_div(right),
        op::MODULO => left.checked_rem(right),
        _ => return unsupported(),
    };
    Ok(result.ok_or_else(overflow)?.into())
}

fn literal_value(literal: &LiteralValue) -> Outcome {
    Ok(match literal {
        LiteralValue::Boolean(value) => (*value.inner()).into(),
        LiteralValue::Double(value) => return finite(*value.inner()),
        LiteralValue::Int(value) => (*value.inner()).into(),
        LiteralValue::String(value) => value.inner().into(),
        LiteralValue::Null => Value::Null,
        LiteralValue::UInt(_) | LiteralValue::Bytes(_) => return unsupported(),
    })
}

/// JSON has neither infinity nor NaN, and neither is ever what an author meant.
fn finite(float: f64) -> Outcome {
    serde_json::Number::from_f64(float)
        .map(Value::Number)
        .ok_or_else(|| "the result is not a finite number".to_owned().into())
}

fn too_large() -> String {
    format!("the value would have more than {MAX_VALUE} bytes; write it to a file instead")
}

fn overflow() -> String {
    "the number does not fit into 64 bits".to_owned()
}

fn unsupported() -> Outcome {
    Err("this is not part of the workflow language".to_owned().into())
}

/// Equality by value: 1 and 1.0 are equal where a value of type `any` brings both.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => compare(left, right).is_ok_and(Ordering::is_eq),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|other| equal(value, other)))
        }
        _ => left == right,
    }
}

fn compare(left: &Value, right: &Value) -> Result<Ordering, String> {
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64().zip(right.as_f64()).and_then(|(left, right)| left.partial_cmp(&right)),
        },
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    };
    order.ok_or_else(|| format!("{} and {} cannot be compared", kind_of(left), kind_of(right)))
}

/// About how many bytes a value takes as JSON.
pub(crate) fn size_of(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size_of(item) + 1).sum::<usize>() + 2,
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| key.len() + size_of(value) + 4).sum::<usize>() + 2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn eval(text: &str) -> Result<Value, EvalError> {
        let object = |value: Value| value.as_object().cloned().unwrap();
        let inputs =
            object(json!({"repo": "acme/tools", "n": 3, "ratio": 0.5, "tags": ["a", "b"], "none": null,
            "author": {"name": "Ann", "email": "ann@example.com"}, "env": {"A": "1"}}));
        let steps = object(json!({
            "clone": {"state": "succeeded", "attempts": 1, "path": "/workspace/tools"},
            "commit": {"state": "succeeded", "attempts": 1, "changed": false},
            "review": {"state": "skipped"},
            "agent": {"state": "failed", "attempts": 2, "error": {"kind": "exited", "message": "1"}},
        }));
        let run = object(json!({"id": "01", "workflow": "w", "trigger": "manual", "status": "failed"}));
        let secrets = BTreeSet::from(["github".to_owned()]);
        evaluate(
            text,
            &Scope { inputs: &inputs, steps: &steps, run: &run, secrets: &secrets, item: None, hashes: None },
            &mut Budget::new(),
        )
    }

    #[test]
    fn lists_larger_than_a_value_may_be_are_read_item_by_item() {
        let items: Vec<Value> =
            (0..20_000).map(|n| json!({ "key": format!("item {n:060}"), "n": n })).collect();
        let steps = json!({ "each": { "state": "succeeded", "items": items } });
        let (empty, secrets) = (Map::new(), BTreeSet::new());
        let scope = Scope {
            inputs: &empty,
            steps: steps.as_object().unwrap(),
            run: &empty,
            secrets: &secrets,
            item: None,
            hashes: None,
        };
        let value = |text: &str| evaluate(text, &scope, &mut Budget::new());
        assert_eq!(value("steps.each.items.size()"), Ok(json!(20_000)));
        assert_eq!(value("steps.each.items.filter(i, i.n > 19997).map(i, i.n)"), Ok(json!([19_998, 19_999])));
        assert_eq!(value("steps.each.items.exists(i, i.n == 7)"), Ok(json!(true)));
        assert!(value("steps.each.items").is_err(), "as a whole it is too large");
        assert!(value("steps.none.items.size()").is_err());
    }

    #[test]
    fn values() {
        for (text, expected) in [
            ("1 + 2 * 3", json!(7)),
            ("-7 / 2", json!(-3)),
            ("7 % 4", json!(3)),
            ("inputs.ratio * 2.0", json!(1.0)),
            ("'a' + \"b\"", json!("ab")),
            ("[1] + [2]", json!([1, 2])),
            ("inputs.repo.split('/').last().orValue('')", json!("tools")),
            ("inputs.repo.replace('/', '-')", json!("acme-tools")),
            ("inputs.tags.join(', ')", json!("a, b")),
            ("'  Ab '.trim().lower() + 'x'.upper()", json!("abX")),
            (
                "'%s has %d, %.2f%%'.format([inputs.repo, inputs.n, 12.345])",
                json!("acme/tools has 3, 12.35%"),
            ),
            ("[].first().orValue('none')", json!("none")),
            ("json({'a': [1, true, null]})", json!(r#"{"a":[1,true,null]}"#)),
            ("size('aö') + [1, 2].size()", json!(4)),
            ("'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c')", json!(true)),
            ("'v1.2'.matches('^v[0-9]+')", json!(true)),
            ("int('42') + int(1.9) + int(inputs.n)", json!(46)),
            ("double(1) / 2.0", json!(0.5)),
            ("string(1) + string(true) + string(2.5)", json!("1true2.5")),
            ("bool('true')", json!(true)),
            ("inputs.tags.map(t, t + '!')", json!(["a!", "b!"])),
            ("[1, 2, 3].map(x, x > 1, x * 10)", json!([20, 30])),
            ("[1, 2, 3].filter(x, x != 2)", json!([1, 3])),
            ("[1, 2].exists(x, x == 2) && [1, 2].all(x, x > 0) && [1, 2].exists_one(x, x > 1)", json!(true)),
            ("inputs.env.map(k, k)", json!(["A"])),
            ("[{'a': true}, {'a': inputs.none}, {'a': false}].filter(x, x.a).size()", json!(1)),
            ("[{'a': inputs.none}].exists(x, x.a) || [{'a': inputs.none}].all(x, x.a)", json!(false)),
            ("[{'a': true}, {'a': inputs.none}].exists_one(x, x.a)", json!(true)),
            ("[{'a': true, 'b': 1}, {'a': inputs.none, 'b': 2}].map(x, x.a, x.b)", json!([1])),
            ("inputs.n in [1, 3] && 'A' in inputs.env", json!(true)),
            ("has(secrets.github) && !has(secrets.gemini)", json!(true)),
            ("['memory'] + (has(secrets.gemini) ? ['gemini'] : [])", json!(["memory"])),
            ("steps.clone.path", json!("/workspace/tools")),
            ("steps.commit.?sha", json!(null)),
            ("steps.commit.sha.orValue('none')", json!("none")),
            ("steps.review.?approved", json!(null)),
            ("steps.review.approved.orValue(false)", json!(false)),
            ("has(steps.review.approved) || has(steps.clone.path)", json!(true)),
            ("steps.review.state == 'skipped' && steps.agent.error.kind == 'exited'", json!(true)),
            ("steps.agent.attempts", json!(2)),
            ("inputs.tags[0] + inputs.env['A']", json!("a1")),
            ("inputs.tags[?7].orValue('z')", json!("z")),
            ("optional.of(1).hasValue() && !optional.none().hasValue()", json!(true)),
            ("[1, ?inputs.none]", json!([1])),
            ("{'a': 1, ?'b': inputs.none}", json!({"a": 1})),
            ("run.status != 'succeeded' ? 'wip' : 'done'", json!("wip")),
            ("false && steps.review.approved", json!(false)),
            ("{'b': 1, 'a': 2}.map(k, k)", json!(["b", "a"])),
        ] {
            assert_eq!(eval(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_step_without_outputs_is_named() {
        for (text, step) in [
            ("steps.review.approved", "review"),
            ("steps.agent.summary + 'x'", "agent"),
            ("[1].map(x, steps.review.approved)", "review"),
            ("steps.later.path", "later"),
        ] {
            assert_eq!(eval(text), Err(EvalError::Skipped(StepId::new(step))), "{text}");
        }
    }

    #[test]
    fn failures_say_why() {
        for (text, reason) in [
            ("1 / 0", "division by zero"),
            ("9223372036854775807 + 1", "does not fit into 64 bits"),
            ("1.0 / 0.0", "not a finite number"),
            ("int('x')", "`x` is no whole number"),
            ("[1][4]", "there is nothing at [4]"),
            ("'x'.matches('(')", "the regular expression is not valid"),
            ("inputs.none.value()", "the value is absent"),
            ("nope", "nothing is called `nope`"),
            ("'a'.nope()", "no function is called `nope`"),
            ("'%d'.format(['a'])", "%d takes an int"),
            ("'%s'.format([])", "more holes than values"),
            ("b'abc'", "not part of the workflow language"),
            ("{'a': 1, 'a': 2}", "the key `a` is there twice"),
            ("1 +", "the expression ends too early"),
        ] {
            match eval(text) {
                Err(EvalError::Failed(message)) => assert!(message.contains(reason), "{text}: {message}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn no_expression_costs_without_end() {
        let list = format!("[{}]", vec!["1"; 60].join(","));
        let nested = (0..6).fold("x0".to_owned(), |body, n| format!("{list}.map(x{n}, {body})"));
        let doubling =
            (0..40).fold("'aaaaaaaaaaaaaaaa'".to_owned(), |text, _| format!("{text}.replace('a', 'aaaa')"));
        let exponential =
            (0..20).fold("'a'".to_owned(), |text, n| format!("[{text}].map(y{n}, y{n} + y{n})[0]"));
        for text in [nested, doubling, exponential] {
            assert!(matches!(eval(&text), Err(EvalError::Failed(_))), "{text}");
        }
    }
}
