//! Values that the file's expressions have in the state of a run: arguments, items, questions, names of groups, outputs.

use super::event::{LoopItem, Outcome, RunError};
use super::loops::ITEMS_MAX;
use super::state::{Run, run_error};
use crate::id::{Digest, StepRef};
use crate::step::{ErrorKind, StepError};
use crate::workflow::cel::{EvalError, ItemScope, Scope};
use crate::workflow::model::{Action, Concurrency, Expression, ForEach, OnConflict, Step, Template};
use crate::workflow::template::{condition, evaluate};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// A place in a group, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group's name.
    pub group: String,
    /// Members at work at once.
    pub limit: u32,
    /// What to do where it is full.
    pub on_conflict: OnConflict,
}

/// Where outputs of an equal call may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// Names the call: the component's content, the function, and the values of the file's key.
    pub key: Digest,
    /// How old kept outputs may be.
    pub ttl: Option<Duration>,
    /// Whether the call is to be made anyway.
    pub bypass: bool,
}

impl Run {
    /// The arguments of a step that is to run now, by parameter or input name.
    ///
    /// # Errors
    /// Where an expression fails on the values of this run: the attempt fails with kind `invalid`.
    pub fn arguments(&self, at: &StepRef) -> Result<Map<String, Value>, StepError> {
        let Some(definition) = self.definition(&at.step) else { return Ok(Map::new()) };
        self.with_scope(at, |scope| {
            if let Some(expression) = &definition.condition {
                condition(expression, scope).map_err(|error| invalid(at, "`if`", &error))?;
            }
            let with: Option<&IndexMap<String, Template>> = match &definition.action {
                Action::Call(call) => Some(&call.with),
                Action::Workflow(workflow) => Some(&workflow.with),
                Action::Approve(_) | Action::ForEach(_) => None,
            };
            let value = |(name, template): (&String, &Template)| {
                let value = evaluate(template, scope)
                    .map_err(|error| invalid(at, &format!("`with.{name}`"), &error))?;
                Ok((name.clone(), value))
            };
            with.into_iter().flatten().map(value).collect()
        })
    }

    /// The items of a loop that is to begin now.
    ///
    /// # Errors
    /// Where there is no list, there are too many items, or two have one key.
    pub fn loop_items(&self, at: &StepRef, each: &ForEach) -> Result<Vec<LoopItem>, StepError> {
        let value = self
            .with_scope(at, |scope| evaluate(&Template::Expression(each.items.clone()), scope))
            .map_err(|error| invalid(at, "`for-each.in`", &error))?;
        let refuse = |what: String| {
            Err(StepError::new(ErrorKind::INVALID, format!("step `{at}`, `for-each`: {what}")))
        };
        let Value::Array(values) = value else { return refuse(format!("`{}` is no list", each.items.0)) };
        if values.len() > ITEMS_MAX {
            return refuse(format!(
                "there are {} items; at most {ITEMS_MAX} are done in one run",
                values.len()
            ));
        }
        let mut keys = BTreeSet::new();
        let mut items = Vec::with_capacity(values.len());
        for value in values {
            let key = self
                .with_item(&each.item, &value, |scope| {
                    evaluate(&Template::Text(vec![part(&each.key)]), scope)
                })
                .map_err(|error| invalid(at, "`for-each.key`", &error))?;
            let key = key.as_str().unwrap_or_default().to_owned();
            if !keys.insert(key.clone()) {
                return refuse(format!("two items have the key `{key}`: choose one that tells them apart"));
            }
            items.push(LoopItem { key, value });
        }
        Ok(items)
    }

    /// What an `approve` asks.
    ///
    /// # Errors
    /// Where the message cannot be computed.
    pub fn question(&self, at: &StepRef, message: &Template) -> Result<String, StepError> {
        self.text(at, "`approve.message`", message)
    }

    /// The place that a step needs before it starts, if it is one of a group.
    ///
    /// # Errors
    /// Where the group's name cannot be computed.
    pub fn membership(&self, at: &StepRef) -> Result<Option<Membership>, StepError> {
        let group = self.definition(&at.step).and_then(Step::concurrency);
        group.map(|group| self.member(at, group)).transpose()
    }

    /// The place that the run needs before its steps start, if it is one of a group.
    ///
    /// # Errors
    /// Where the group's name cannot be computed.
    pub fn own_membership(&self) -> Result<Option<Membership>, StepError> {
        let Some(group) = &self.workflow().concurrency else { return Ok(None) };
        let name = self
            .setting(&group.group)
            .map_err(|what| StepError::new(ErrorKind::INVALID, format!("`concurrency.group`: {what}")))?;
        let name = name.as_str().unwrap_or_default().to_owned();
        Ok(Some(Membership { group: name, limit: group.limit, on_conflict: group.on_conflict }))
    }

    fn member(&self, at: &StepRef, group: &Concurrency) -> Result<Membership, StepError> {
        let name = self.text(at, "`concurrency.group`", &group.group)?;
        Ok(Membership { group: name, limit: group.limit, on_conflict: group.on_conflict })
    }

    /// How outputs of an equal call could be taken in place of this one. A step that an answer stands in for takes none
    /// and leaves none: what somebody made up must never reach a run that is meant.
    ///
    /// # Errors
    /// Where the key cannot be computed.
    pub fn reuse(&self, at: &StepRef) -> Result<Option<Reuse>, StepError> {
        let Some(call) = self.definition(&at.step).and_then(Step::call) else { return Ok(None) };
        let Some(cache) = &call.cache else { return Ok(None) };
        if self.mock(at).is_some() {
            return Ok(None);
        }
        self.with_scope(at, |scope| {
            let value = |expression: &Expression| evaluate(&Template::Expression(expression.clone()), scope);
            let values: Vec<Value> = cache
                .key
                .iter()
                .map(value)
                .collect::<Result<_, _>>()
                .map_err(|error| invalid(at, "`cache.key`", &error))?;
            let bypass = match &cache.bypass {
                Some(bypass) => {
                    condition(bypass, scope).map_err(|error| invalid(at, "`cache.bypass`", &error))?
                }
                None => false,
            };
            let named = json!([call.digest, call.function, values]);
            Ok(Some(Reuse {
                key: Digest::of(named.to_string().as_bytes()),
                ttl: cache.ttl_ms.map(Duration::from_millis),
                bypass,
            }))
        })
    }

    /// The name of the side effect that the file gives a step, if it does.
    ///
    /// # Errors
    /// Where it cannot be computed.
    pub fn idempotency_key(&self, at: &StepRef) -> Result<Option<String>, StepError> {
        let call = self.definition(&at.step).and_then(Step::call);
        let key = call.and_then(|call| call.idempotency_key.as_ref());
        key.map(|key| self.text(at, "`idempotency-key`", key)).transpose()
    }

    /// Evaluates a template over the inputs and `run` alone, as sandboxes and volumes are named.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn setting(&self, template: &Template) -> Result<Value, String> {
        self.in_scope(None, |scope| evaluate(template, scope)).map_err(|error| explain(&error))
    }

    /// The workflow's outputs as far as they can be computed, and what makes a success of the run a failure.
    pub(super) fn computed_outputs(&self, state: Outcome) -> (Map<String, Value>, Option<RunError>) {
        let mut outputs = Map::new();
        let mut failed = None;
        self.in_scope(None, |scope| {
            for (name, output) in &self.workflow().outputs {
                let value = evaluate(&output.value, scope).unwrap_or_else(|error| {
                    let matters = matches!(error, EvalError::Failed(_)) && state == Outcome::Succeeded;
                    if matters && failed.is_none() {
                        let message = format!("output `{name}`: {}", explain(&error));
                        failed = Some(run_error(&StepError::new(ErrorKind::INVALID, message)));
                    }
                    Value::Null
                });
                outputs.insert(name.clone(), value);
            }
        });
        (outputs, failed)
    }

    fn text(&self, at: &StepRef, what: &str, template: &Template) -> Result<String, StepError> {
        let value = self
            .with_scope(at, |scope| evaluate(template, scope))
            .map_err(|error| invalid(at, what, &error))?;
        match value {
            Value::String(text) => Ok(text),
            other => Err(StepError::new(
                ErrorKind::INVALID,
                format!("step `{at}`, {what} is {other}, and must be text"),
            )),
        }
    }

    /// What the expressions of a step see.
    pub(super) fn with_scope<T>(&self, at: &StepRef, use_it: impl FnOnce(&Scope<'_>) -> T) -> T {
        let item = at.item.as_ref().and_then(|key| self.item(&at.step, key));
        let name = self.loop_of.get(&at.step).and_then(|each| self.definition(each)).and_then(|step| {
            if let Action::ForEach(each) = &step.action { Some(each.item.as_str()) } else { None }
        });
        let item = item.zip(name).map(|(item, name)| ItemScope {
            name,
            value: &item.value,
            steps: Some(&item.view),
        });
        self.in_scope(item, use_it)
    }

    fn with_item<T>(&self, name: &str, value: &Value, use_it: impl FnOnce(&Scope<'_>) -> T) -> T {
        self.in_scope(Some(ItemScope { name, value, steps: None }), use_it)
    }

    fn in_scope<T>(&self, item: Option<ItemScope<'_>>, use_it: impl FnOnce(&Scope<'_>) -> T) -> T {
        let started = &self.started;
        let mut run = std::borrow::Cow::Borrowed(&started.run);
        if self.in_finally() {
            run.to_mut().insert("status".into(), self.outcome_so_far().as_str().into());
        }
        use_it(&Scope {
            inputs: &started.inputs,
            steps: &self.view,
            run: &run,
            secrets: &started.secrets,
            item,
            hashes: Some(&started.hashes),
        })
    }
}

fn part(expression: &Expression) -> crate::workflow::model::Part {
    crate::workflow::model::Part::Expression(expression.clone())
}

fn invalid(at: &StepRef, what: &str, error: &EvalError) -> StepError {
    StepError::new(ErrorKind::INVALID, format!("step `{at}`, {what}: {}", explain(error)))
}

fn explain(error: &EvalError) -> String {
    match error {
        EvalError::Skipped(step) => format!("it reads `{step}`, which has no outputs"),
        EvalError::Failed(message) => message.clone(),
    }
}
