//! Operators on two values: comparison, sums, and arithmetic that never overflows in silence.

use super::{Budget, Outcome, size_of, unsupported};
use crate::workflow::cel::functions::kind_of;
use ::cel::common::ast::operators as op;
use serde_json::Value;
use std::cmp::Ordering;

/// `left operator right`.
pub(super) fn binary(budget: &mut Budget, operator: &str, left: Value, right: Value) -> Outcome {
    budget.spend(size_of(&left).min(size_of(&right)))?;
    match operator {
        op::EQUALS => return Ok(equal(&left, &right).into()),
        op::NOT_EQUALS => return Ok((!equal(&left, &right)).into()),
        op::IN => {
            return Ok(match (&left, right) {
                (item, Value::Array(items)) => {
                    budget.spend(size_of(item).saturating_mul(items.len()))?;
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
            budget.build(left.len() + right.len())?;
            Ok((left + &right).into())
        }
        (op::ADD, Value::Array(mut left), Value::Array(right)) => {
            budget.build(left.iter().chain(&right).map(size_of).sum())?;
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

/// JSON has neither infinity nor NaN, and neither is ever what an author meant.
pub(super) fn finite(float: f64) -> Outcome {
    serde_json::Number::from_f64(float)
        .map(Value::Number)
        .ok_or_else(|| "the result is not a finite number".to_owned().into())
}

pub(super) fn overflow() -> String {
    "the number does not fit into 64 bits".to_owned()
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
