//! What an expression at some place of a file can name, and the types of what it says.

use super::cursor::Segment;
use crate::workflow::cel::typing::{self, Names, Usage, Wanted};
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
}

/// Which steps can be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section<'s> {
    None,
    /// Those of `steps`, but not this one.
    Steps(&'s str),
    /// All, but not this one; and how the run ended.
    Finally(&'s str),
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
        let section = match key(0) {
            "steps" => Section::Steps(key(1)),
            "finally" => Section::Finally(key(1)),
            "outputs" => Section::Outputs,
            _ => Section::None,
        };
        Self {
            survey,
            inputs: key(0) != "inputs",
            section,
            types: survey.inputs.iter().map(|(name, input)| (name.clone(), input.ty.clone())).collect(),
            secrets: survey.secrets.keys().cloned().collect(),
        }
    }

    /// The global names, each with what it holds.
    pub(super) fn globals(&self) -> Vec<(&'static str, &'static str)> {
        let mut globals = Vec::new();
        if self.inputs {
            globals.push(("inputs", "What the run was started with."));
        }
        if self.section != Section::None {
            globals.push(("steps", "What other steps returned, by name."));
        }
        globals.push(("run", "The run itself."));
        globals
    }

    /// The steps that can be read.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&'s str, &'s survey::Step)> {
        let section = self.section;
        let steps = self.survey.steps.iter().map(|(name, step)| (name.as_str(), step));
        steps.filter(move |(name, step)| match section {
            Section::None => false,
            Section::Steps(own) => !step.finally && *name != own,
            Section::Finally(own) => *name != own,
            Section::Outputs => !step.finally,
        })
    }

    /// The fields of `run`.
    pub(super) fn run(&self) -> Vec<Field> {
        match typing::run_type(matches!(self.section, Section::Finally(_))) {
            Type::Record(fields) => fields,
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
        let lookup = |name: &str| {
            let (_, step) = self.steps().find(|(known, _)| *known == name)?;
            Some(step.names())
        };
        let names = Names {
            place: "this",
            inputs: self.inputs.then_some(&self.types),
            steps: (self.section != Section::None).then_some(&lookup),
            step_names: &[],
            secrets: &self.secrets,
            finished: matches!(self.section, Section::Finally(_)),
        };
        let (ty, _) = typing::check(&whole, &names, Wanted::Anything, &mut Usage::default());
        locals.iter().try_fold(ty?, |ty, _| if let Type::List(item) = ty { Some(*item) } else { None })
    }
}
