//! What an expression at some place of a file can name, and the types of what it says.

use super::cursor::Segment;
use crate::workflow::cel::typing::{self, Names, StepLookup, StepNames, Usage, Wanted};
use crate::workflow::check::{Survey, survey};
use crate::workflow::types::{Field, Type};
use indexmap::{IndexMap, IndexSet};

/// The names that can be used at a place.
pub(super) struct Scope<'s> {
    pub(super) survey: &'s Survey,
    /// Whether `inputs` can be seen.
    pub(super) inputs: bool,
    section: Section<'s>,
    types: IndexMap<String, Option<Type>>,
    secrets: IndexSet<String>,
    /// The item of the loop around the place, or the event of the webhook.
    values: Vec<(String, Option<Type>)>,
}

/// Which steps can be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section<'s> {
    /// What starts runs: there are neither steps nor a run.
    Trigger,
    None,
    /// Those of `steps`, but not this one, and of loops only those of this one.
    Steps(&'s str, Option<&'s str>),
    /// The same of all steps; and how the run ended.
    Finally(&'s str, Option<&'s str>),
    /// Those of `steps`.
    Outputs,
}

impl<'s> Scope<'s> {
    /// What can be named at the end of a path.
    pub(super) fn of(path: &'s [Segment], survey: &'s Survey) -> Self {
        let key = |at: usize| match path.get(at) {
            Some(Segment::Key(key)) => key.as_str(),
            _ => "",
        };
        let (own, group) = match key(2) {
            "steps" => (key(3), Some(key(1))),
            _ => (key(1), None),
        };
        let section = match key(0) {
            "steps" => Section::Steps(own, group),
            "finally" => Section::Finally(own, group),
            "outputs" => Section::Outputs,
            "on" => Section::Trigger,
            _ => Section::None,
        };
        let in_loop = group.is_some() || (key(2), key(3)) == ("for-each", "key");
        let each = survey.steps.get(key(1)).filter(|_| in_loop && section.is_of_steps());
        let item = each.and_then(survey::Step::item).map(|item| (item.name.clone(), item.ty.clone()));
        let event = (section == Section::Trigger && key(1) == "webhook")
            .then(|| ("event".to_owned(), Some(Type::Any)));
        Self {
            survey,
            inputs: !["inputs", "on"].contains(&key(0)),
            section,
            types: survey.inputs.iter().map(|(name, input)| (name.clone(), input.ty.clone())).collect(),
            secrets: survey.secrets.keys().cloned().collect(),
            values: item.into_iter().chain(event).collect(),
        }
    }

    /// The global names, each with what it holds.
    pub(super) fn globals(&self) -> Vec<(&str, &'static str)> {
        let value = |(name, _): &'_ (String, _)| name == "event";
        let mut globals: Vec<_> = self
            .values
            .iter()
            .map(|named| {
                let doc = if value(named) {
                    "What the webhook received."
                } else {
                    "The item of the loop around it."
                };
                (named.0.as_str(), doc)
            })
            .collect();
        if self.inputs {
            globals.push(("inputs", "What the run was started with."));
        }
        if self.sees_steps() {
            globals.push(("steps", "What other steps returned, by name."));
        }
        if self.section != Section::Trigger {
            globals.push(("run", "The run itself."));
        }
        globals
    }

    /// The loop's item or the webhook's event of this name: its type, if that is known.
    pub(super) fn value(&self, name: &str) -> Option<Option<&Type>> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, ty)| ty.as_ref())
    }

    /// The steps that can be read.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&'s str, &'s survey::Step)> {
        let section = self.section;
        let steps = self.survey.steps.iter().map(|(name, step)| (name.as_str(), step));
        let near = |step: &survey::Step, own: Option<&str>| match step.group.as_deref() {
            None => true,
            group => group == own,
        };
        steps.filter(move |(name, step)| match section {
            Section::Trigger | Section::None => false,
            Section::Steps(own, group) => {
                !step.finally && *name != own && group != Some(*name) && near(step, group)
            }
            Section::Finally(own, group) => *name != own && group != Some(*name) && near(step, group),
            Section::Outputs => !step.finally && step.group.is_none(),
        })
    }

    fn sees_steps(&self) -> bool {
        !matches!(self.section, Section::Trigger | Section::None)
    }

    /// The fields of `run`.
    pub(super) fn run(&self) -> Vec<Field> {
        match typing::run_type(matches!(self.section, Section::Finally(..))) {
            Type::Record(fields) if self.section != Section::Trigger => fields,
            _ => Vec::new(),
        }
    }

    /// The type of an expression in which functions around it bind these names, outermost first.
    pub(super) fn type_of(&self, expression: &str, locals: &[(&str, &str)]) -> Option<Type> {
        // What an item is follows from the list: `list.map(x, E)` is a list of E.
        let whole = locals
            .iter()
            .rev()
            .fold(expression.to_owned(), |inner, (name, list)| format!("{list}.map({name}, {inner})"));
        let names = Names {
            inputs: self.inputs.then_some(&self.types),
            steps: self.sees_steps().then_some(self),
            run: self.section != Section::Trigger,
            finished: matches!(self.section, Section::Finally(..)),
            values: &self.values,
            ..Names::new("this", &self.secrets)
        };
        let (ty, _) = typing::check(&whole, &names, Wanted::Anything, &mut Usage::default());
        locals.iter().try_fold(ty?, |ty, _| if let Type::List(item) = ty { Some(*item) } else { None })
    }
}

impl Section<'_> {
    fn is_of_steps(self) -> bool {
        matches!(self, Self::Steps(..) | Self::Finally(..))
    }
}

impl StepLookup for Scope<'_> {
    fn find(&self, name: &str) -> Option<StepNames> {
        let (_, step) = self.steps().find(|(known, _)| *known == name)?;
        Some(StepNames { uses: step.uses().to_owned(), outputs: step.outputs.clone(), hidden: None })
    }

    fn names(&self) -> Vec<&str> {
        self.steps().map(|(name, _)| name).collect()
    }
}
