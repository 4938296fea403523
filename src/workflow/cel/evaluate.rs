//! What an expression is worth. Pure and deterministic: the same scope gives the same value, and no expression costs
//! more than [`MAX_COST`]. An absent value is JSON null; what CEL calls an optional is a value that may be null.

mod comprehension;
mod operators;
#[cfg(test)]
mod tests;

use super::functions::{Function, kind_of};
use super::{Parsed, parse};
use crate::id::{Digest, StepId};
use ::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators as op};
use operators::{binary, finite, overflow};
use serde_json::{Map, Value};
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
                binary(self.budget, operator, left, right)
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

fn too_large() -> String {
    format!("the value would have more than {MAX_VALUE} bytes; write it to a file instead")
}

fn unsupported() -> Outcome {
    Err("this is not part of the workflow language".to_owned().into())
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
