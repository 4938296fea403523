//! What the steps of a file are known by, and what each place of the file sees of them.

use super::raw::{Does, RawStep, RawSteps};
use super::{approve, for_each, shape};
use crate::step::Permission;
use crate::workflow::cel::typing::{Hidden, StepLookup, StepNames};
use crate::workflow::code;
use crate::workflow::model::SandboxTemplate;
use crate::workflow::types::{Field, Type};
use indexmap::{IndexMap, IndexSet};
use std::sync::Arc;

/// What a step of the file is known by.
pub(super) struct KnownStep<'n> {
    /// Whether it runs in `finally`.
    pub(super) finally: bool,
    /// The loop that it is a step of.
    pub(super) group: Option<&'n str>,
    /// What it uses, for messages.
    uses: &'n str,
    /// Whether another step has its name, which is reported: it cannot be said which of them is meant.
    pub(super) twice: bool,
    /// Its outputs; `None` where they are not known, for a reason that is reported elsewhere.
    pub(super) outputs: Option<Arc<Vec<Field>>>,
}

/// Steps by name, those of loops included.
pub(super) type KnownSteps<'n> = IndexMap<&'n str, KnownStep<'n>>;

/// What steps refer to.
pub(super) struct World<'w> {
    /// Inputs with their types; `None` where the type is wrong, which is reported.
    pub(super) inputs: &'w IndexMap<String, Option<Type>>,
    pub(super) secrets: &'w IndexSet<String>,
    pub(super) sandboxes: &'w IndexMap<String, SandboxTemplate>,
    pub(super) permissions: &'w [Permission],
    pub(super) steps: &'w KnownSteps<'w>,
}

/// The steps as one place sees them.
pub(super) struct View<'w> {
    steps: &'w KnownSteps<'w>,
    /// The step that looks; `None` for an output of the workflow.
    viewer: Option<&'w str>,
    finally: bool,
    group: Option<&'w str>,
}

/// Learns what every step is known by. The outputs of loops follow from what the others are.
pub(super) fn known<'n>(
    raw: &RawSteps<'n>,
    inputs: &IndexMap<String, Option<Type>>,
    secrets: &IndexSet<String>,
) -> KnownSteps<'n> {
    let mut steps = KnownSteps::new();
    for step in &raw.steps {
        steps.insert(step.id, step.known());
        for inner in step.body() {
            steps.insert(inner.id, inner.known());
        }
    }
    for name in &raw.twice {
        if let Some(step) = steps.get_mut(name) {
            step.twice = true;
        }
    }
    for_each::outputs_of_loops(&raw.steps, &mut steps, inputs, secrets);
    steps
}

/// The step that would have this name, were its own a data name; that it is none is reported.
pub(super) fn misnamed<'w, 'n>(steps: &'w KnownSteps<'n>, name: &str) -> Option<&'w KnownStep<'n>> {
    let found = steps.iter().find(|(key, _)| **key != name && shape::corrected(key).as_deref() == Some(name));
    found.map(|(_, step)| step)
}

impl<'n> RawStep<'n> {
    fn known(&self) -> KnownStep<'n> {
        let (uses, outputs) = match &self.does {
            Does::Call { uses, called } => {
                (*uses, called.as_ref().map(|called| called.function.outputs.clone()))
            }
            Does::Workflow { uses, file } => (*uses, file.as_ref().map(|file| file.outputs.clone())),
            Does::Approve(_) => ("approve", Some(approve::outputs())),
            Does::ForEach { .. } => ("for-each", None),
        };
        KnownStep {
            finally: self.finally,
            group: self.group,
            uses,
            twice: false,
            outputs: outputs.map(Arc::new),
        }
    }
}

impl<'w> View<'w> {
    /// What a step sees.
    pub(super) fn of_step(steps: &'w KnownSteps<'w>, raw: &RawStep<'w>) -> Self {
        Self { steps, viewer: Some(raw.id), finally: raw.finally, group: raw.group }
    }

    /// What the outputs of the workflow see.
    pub(super) fn of_outputs(steps: &'w KnownSteps<'w>) -> Self {
        Self { steps, viewer: None, finally: false, group: None }
    }

    fn hidden(&self, name: &str, step: &KnownStep<'_>) -> Option<Hidden> {
        if self.viewer == Some(name) {
            return Some(Hidden {
                code: code::ORDER,
                why: "which is itself".into(),
                help: "remove the reference; a step's own arguments come from other steps".into(),
            });
        }
        if self.group == Some(name) {
            return Some(Hidden {
                code: code::ORDER,
                why: "the loop that it is part of".into(),
                help: "read the other steps of the loop, or the item".into(),
            });
        }
        if let Some(group) = step.group
            && self.group != Some(group)
        {
            return Some(Hidden {
                code: code::INSIDE_LOOP,
                why: format!("which runs once for each item of `{group}`"),
                help: format!(
                    "read it of each item, as in `steps.{group}.succeeded.map(i, i.steps.{name}.OUTPUT)`"
                ),
            });
        }
        (step.finally && !self.finally).then(|| Hidden {
            code: code::ORDER,
            why: if self.viewer.is_some() {
                "which runs in `finally`, after it".into()
            } else {
                "which runs in `finally`".into()
            },
            help: "move the step out of `finally`".into(),
        })
    }
}

impl StepLookup for View<'_> {
    fn find(&self, name: &str) -> Option<StepNames> {
        let Some(step) = self.steps.get(name) else {
            let found = misnamed(self.steps, name)?;
            return Some(StepNames { uses: found.uses.to_owned(), outputs: None, hidden: None });
        };
        if step.twice {
            return Some(StepNames { uses: step.uses.to_owned(), outputs: None, hidden: None });
        }
        let hidden = self.hidden(name, step);
        Some(StepNames { uses: step.uses.to_owned(), outputs: step.outputs.clone(), hidden })
    }

    fn names(&self) -> Vec<&str> {
        let readable = |step: &KnownStep<'_>| {
            step.finally <= self.finally && (step.group.is_none() || step.group == self.group)
        };
        self.steps.iter().filter(|(_, step)| readable(step)).map(|(name, _)| *name).collect()
    }
}
