//! What a run would do, as far as its inputs decide it: for trying a workflow out before anything runs.

use super::evaluate::Reuse;
use super::state::Run;
use crate::id::{StepId, StepRef};
use crate::workflow::cel::EvalError;
use crate::workflow::model::{Action, Expression, Step, Template};
use crate::workflow::template::{condition, evaluate};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What is known of a step before the run.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// It runs, unless one before it fails.
    Runs,
    /// It is skipped, and why.
    Skipped(String),
    /// What runs before it decides: its condition, or that of a step it reads.
    Depends(String),
}

impl Run {
    /// What is expected of every step of a run that has not begun, those of loops included, in the order of the file.
    pub fn expected(&self) -> IndexMap<StepId, Expected> {
        let workflow = self.workflow();
        let mut known: BTreeMap<StepId, Expected> = BTreeMap::new();
        // A step settles once those it waits for have; the file has no cycles, so each pass settles one at least.
        let all: Vec<(&StepId, &Step)> = workflow.all_steps().collect();
        while known.len() < all.len() {
            let before = known.len();
            for (id, step) in &all {
                if !known.contains_key(*id)
                    && let Some(expected) = self.expected_of(id, step, &known)
                {
                    known.insert((*id).clone(), expected);
                }
            }
            if known.len() == before {
                break;
            }
        }
        all.into_iter().filter_map(|(id, _)| Some((id.clone(), known.get(id)?.clone()))).collect()
    }

    fn expected_of(&self, id: &StepId, step: &Step, known: &BTreeMap<StepId, Expected>) -> Option<Expected> {
        let finally = self.is_of_finally(id);
        if let Some(each) = self.loop_of.get(id) {
            match known.get(each)? {
                Expected::Runs => {}
                Expected::Skipped(_) => {
                    return Some(Expected::Skipped(format!("its loop `{each}` is skipped")));
                }
                Expected::Depends(why) => return Some(Expected::Depends(why.clone())),
            }
        }
        for need in &step.needs {
            known.get(need)?;
        }
        let mut open = None;
        for read in &step.reads {
            match known.get(&read.step)? {
                Expected::Skipped(_) if !read.tolerant => {
                    return Some(Expected::Skipped(format!("it reads `{}`, which is skipped", read.step)));
                }
                Expected::Depends(why) if !read.tolerant => open = Some(why.clone()),
                _ => {}
            }
        }
        let Some(expression) = &step.condition else {
            return Some(open.map_or(Expected::Runs, Expected::Depends));
        };
        let told = format!("if: {}", expression.0);
        let seen_later = expression.0.contains("steps.") || expression.0.contains("run.status");
        let in_loop = self.loop_of.contains_key(id);
        if finally && expression.0.contains("run.status") || seen_later || in_loop {
            return Some(Expected::Depends(told));
        }
        Some(match self.with_scope(&id.clone().into(), |scope| condition(expression, scope)) {
            Ok(true) => open.map_or(Expected::Runs, Expected::Depends),
            Ok(false) => Expected::Skipped(format!("its condition is false: {}", expression.0)),
            Err(_) => Expected::Depends(told),
        })
    }

    /// What a step is handed by name: values that the inputs decide, and the text of the expressions for the others.
    pub fn handed(&self, id: &StepId) -> Map<String, Value> {
        let with = match self.definition(id).map(|step| &step.action) {
            Some(Action::Call(call)) => &call.with,
            Some(Action::Workflow(workflow)) => &workflow.with,
            _ => return Map::new(),
        };
        let at = StepRef::from(id.clone());
        with.iter().map(|(name, template)| (name.clone(), self.foreseen(&at, template))).collect()
    }

    /// The value of a template where the inputs decide it, else the template as its author wrote it.
    fn foreseen(&self, at: &StepRef, template: &Template) -> Value {
        let later =
            |expression: &Expression| expression.0.contains("steps.") || self.loop_of.contains_key(&at.step);
        let hole = |expression: &Expression| format!("${{{{ {} }}}}", expression.0);
        match template {
            Template::Literal(value) => value.clone(),
            Template::Expression(expression) if later(expression) => hole(expression).into(),
            Template::Text(parts) => {
                use crate::workflow::model::Part;
                let text = parts.iter().map(|part| match part {
                    Part::Text(text) => text.clone(),
                    Part::Expression(expression) => {
                        match self.foreseen(at, &Template::Expression(expression.clone())) {
                            Value::String(text) => text,
                            other => other.to_string(),
                        }
                    }
                });
                text.collect::<String>().into()
            }
            Template::List(items) => items.iter().map(|item| self.foreseen(at, item)).collect(),
            Template::Object(fields) => {
                json!(
                    fields
                        .iter()
                        .map(|(name, field)| (name.clone(), self.foreseen(at, field)))
                        .collect::<Map<_, _>>()
                )
            }
            Template::Expression(expression) => {
                let value: Result<Value, EvalError> = self.with_scope(at, |scope| evaluate(template, scope));
                value.unwrap_or_else(|_| hole(expression).into())
            }
        }
    }

    /// Where kept outputs would be looked for, where the inputs decide it.
    pub fn foreseen_reuse(&self, id: &StepId) -> Option<Reuse> {
        let cache = self.definition(id)?.call()?.cache.as_ref()?;
        let decided =
            cache.key.iter().chain(&cache.bypass).all(|expression| !expression.0.contains("steps."));
        if !decided || self.loop_of.contains_key(id) {
            return None;
        }
        self.reuse(&id.clone().into()).ok().flatten()
    }
}
