//! `map`, `filter`, `exists`, `exists_one` and `all`: an expression for each item of a list or key of a map.

use super::{EvalError, Evaluator, MAX_VALUE, Outcome, size_of, too_large, unsupported};
use crate::workflow::cel::functions::kind_of;
use ::cel::common::ast::IdedExpr;
use serde_json::Value;
use std::borrow::Cow;

impl Evaluator<'_, '_> {
    pub(super) fn comprehension(
        &mut self,
        name: &str,
        target: &IdedExpr,
        item: &str,
        rest: &[IdedExpr],
    ) -> Outcome {
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
}
