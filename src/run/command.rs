//! What the state calls for: level-triggered, derived anew each time, so that a restart needs no path of its own.

use super::event::{Command, Finish, Outcome, RunError, Timer};
use super::state::{Phase, Run};
use crate::id::StepId;
use crate::step::{ErrorKind, StepError};
use crate::workflow::cel::{EvalError, Scope};
use crate::workflow::model::{Step, Template};
use crate::workflow::template::{condition, evaluate};
use serde_json::{Map, Value};

/// What became of the decision to run a step.
enum Verdict {
    /// Its dependencies are not settled.
    NotYet,
    /// It is to run.
    Start,
    /// It is not to run, and why.
    Skip(String),
}

impl Run {
    /// Everything that should be happening now. The caller compares it with what is in flight and starts what is missing.
    pub fn commands(&self) -> Vec<Command> {
        if self.finished().is_some() {
            return Vec::new();
        }
        if let Some(state) = self.ending() {
            return vec![Command::Finish(Box::new(self.finish(state)))];
        }
        let mut commands = Vec::new();
        let sections =
            [(&self.workflow().steps, !self.in_finally()), (&self.workflow().finally, self.in_finally())];
        for (id, definition) in
            sections.into_iter().filter(|(_, active)| *active).flat_map(|(steps, _)| steps)
        {
            match &self.steps[id].phase {
                Phase::Running { attempt } if self.is_stopping(id) => {
                    commands.push(Command::Stop { step: id.clone(), attempt: *attempt });
                }
                Phase::Waiting { attempt } if !self.is_stopping(id) => match self.verdict(id, definition) {
                    Verdict::NotYet => {}
                    Verdict::Start => commands.push(Command::Start { step: id.clone(), attempt: *attempt }),
                    Verdict::Skip(reason) => commands.push(Command::Skip { step: id.clone(), reason }),
                },
                _ => {}
            }
        }
        let wait = |(timer, until_ms)| Command::Wait { timer, until_ms };
        commands.extend(self.timers().into_iter().map(wait));
        commands
    }

    /// The arguments of a step that is to run now, by parameter name.
    ///
    /// # Errors
    /// Where an expression fails on the values of this run: the attempt fails with kind `invalid`.
    pub fn arguments(&self, step: &StepId) -> Result<Map<String, Value>, StepError> {
        let invalid = |what: &str, error: EvalError| {
            StepError::new(ErrorKind::INVALID, format!("step `{step}`, {what}: {}", explain(&error)))
        };
        let Some(definition) = self.definition(step) else { return Ok(Map::new()) };
        self.with_scope(|scope| {
            if let Some(expression) = &definition.condition {
                condition(expression, scope).map_err(|error| invalid("`if`", error))?;
            }
            let mut arguments = Map::new();
            for (name, template) in definition.call().into_iter().flat_map(|call| &call.with) {
                let value =
                    evaluate(template, scope).map_err(|error| invalid(&format!("`with.{name}`"), error))?;
                arguments.insert(name.clone(), value);
            }
            Ok(arguments)
        })
    }

    /// Evaluates a template over the inputs and `run` alone, as sandboxes and volumes are named.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn setting(&self, template: &Template) -> Result<Value, String> {
        self.with_scope(|scope| evaluate(template, scope)).map_err(|error| explain(&error))
    }

    pub(super) fn may_start(&self, id: &StepId, attempt: u32) -> bool {
        let due = self.steps.get(id).is_some_and(|state| state.phase == Phase::Waiting { attempt });
        due && self.is_active(id)
            && matches!(self.definition(id).map(|step| self.verdict(id, step)), Some(Verdict::Start))
    }

    pub(super) fn skip_reason(&self, id: &StepId) -> Option<String> {
        let waiting = matches!(self.steps.get(id)?.phase, Phase::Waiting { .. });
        match self.verdict(id, self.definition(id)?) {
            Verdict::Skip(reason) if waiting && self.is_active(id) => Some(reason),
            _ => None,
        }
    }

    /// Times that the run waits for, in milliseconds since 1970.
    pub(super) fn timers(&self) -> Vec<(Timer, i64)> {
        let mut timers = Vec::new();
        for (id, state) in &self.steps {
            if let Phase::Backoff { attempt, until_ms } = state.phase
                && self.is_active(id)
            {
                timers.push((Timer::Retry { step: id.clone(), attempt }, until_ms));
            }
        }
        let workflow = self.workflow();
        match self.finally_since_ms {
            None if self.stopping.is_none() => timers.extend(
                workflow.timeout_ms.map(|limit| (Timer::Run, self.started_ms.saturating_add_unsigned(limit))),
            ),
            Some(since_ms) if !self.finally_expired && !workflow.finally.is_empty() => {
                timers.push((Timer::Finally, since_ms.saturating_add_unsigned(workflow.finally_timeout_ms)));
            }
            _ => {}
        }
        timers
    }

    /// Whether the step belongs to the section that is running and may still begin something.
    fn is_active(&self, id: &StepId) -> bool {
        self.workflow().finally.contains_key(id) == self.in_finally() && !self.is_stopping(id)
    }

    fn verdict(&self, id: &StepId, definition: &Step) -> Verdict {
        let in_finally = self.workflow().finally.contains_key(id);
        for need in &definition.needs {
            match &self.steps[need].phase {
                Phase::Succeeded | Phase::Skipped { .. } => {}
                Phase::Failed | Phase::Stopped => {
                    return Verdict::Skip(format!("it needs `{need}`, which failed"));
                }
                _ => return Verdict::NotYet,
            }
        }
        for read in &definition.reads {
            // A finally step may read what never ran; within a section one waits for what is read.
            let over = in_finally && self.workflow().steps.contains_key(&read.step);
            match &self.steps[&read.step].phase {
                Phase::Succeeded => {}
                _ if read.tolerant && (over || self.steps[&read.step].phase.is_settled()) => {}
                Phase::Skipped { .. } => {
                    return Verdict::Skip(format!("it reads `{}`, which was skipped", read.step));
                }
                phase if over || phase.is_settled() => {
                    return Verdict::Skip(format!("it reads `{}`, which did not succeed", read.step));
                }
                _ => return Verdict::NotYet,
            }
        }
        let Some(expression) = &definition.condition else { return Verdict::Start };
        match self.with_scope(|scope| condition(expression, scope)) {
            Ok(true) => Verdict::Start,
            Ok(false) => Verdict::Skip(format!("its condition is false: {}", expression.0)),
            Err(EvalError::Skipped(step)) => {
                Verdict::Skip(format!("its condition reads `{step}`, which was skipped"))
            }
            // The attempt fails with the reason: see `arguments`.
            Err(EvalError::Failed(_)) => Verdict::Start,
        }
    }

    fn finish(&self, state: Outcome) -> Finish {
        let mut outputs = Map::new();
        let mut failed = None;
        self.with_scope(|scope| {
            for (name, output) in &self.workflow().outputs {
                let value = evaluate(&output.value, scope).unwrap_or_else(|error| {
                    if matches!(error, EvalError::Failed(_))
                        && state == Outcome::Succeeded
                        && failed.is_none()
                    {
                        let message = format!("output `{name}`: {}", explain(&error));
                        failed =
                            Some(RunError { step: None, error: StepError::new(ErrorKind::INVALID, message) });
                    }
                    Value::Null
                });
                outputs.insert(name.clone(), value);
            }
        });
        let state = if failed.is_some() { Outcome::Failed } else { state };
        Finish { state, outputs, error: self.error().cloned().or(failed) }
    }

    fn with_scope<T>(&self, use_it: impl FnOnce(&Scope<'_>) -> T) -> T {
        let mut run = self.started.run.clone();
        if self.in_finally() {
            let status = match (&self.stopping, self.ending()) {
                (_, Some(outcome)) => outcome.as_str(),
                (None, None) => Outcome::Succeeded.as_str(),
                (Some(RunError { error, .. }), None) if error.kind == ErrorKind::CANCELLED => "cancelled",
                (Some(RunError { error, .. }), None) if error.kind == ErrorKind::TIMED_OUT => "timed_out",
                (Some(_), None) => "failed",
            };
            run.insert("status".into(), status.into());
        }
        let started = &self.started;
        use_it(&Scope { inputs: &started.inputs, steps: &self.view, run: &run, secrets: &started.secrets })
    }
}

fn explain(error: &EvalError) -> String {
    match error {
        EvalError::Skipped(step) => format!("it reads `{step}`, which has no outputs"),
        EvalError::Failed(message) => message.clone(),
    }
}
