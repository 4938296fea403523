//! The type of an expression, found without running it: the `cel` crate has no checker. Reports every mistake of an
//! expression once; what follows from a reported mistake is silent. Also learns what the expression reads.

mod calls;
mod checker;
mod found;
mod operators;
mod relation;
mod wanted;
mod wording;

pub(crate) use relation::{about_step, null, parts, run_type, state_type};
pub(crate) use wording::{article, brief};

use super::parse;
use crate::workflow::code::{self, Code};
use crate::workflow::types::{Field, Type};
use checker::Checker;
use indexmap::{IndexMap, IndexSet};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// A step as an expression sees it.
#[derive(Clone, Debug)]
pub(crate) struct StepNames {
    /// What it calls, for messages.
    pub(crate) uses: String,
    /// Its outputs; `None` where its component is unknown, which is reported elsewhere.
    pub(crate) outputs: Option<Arc<Vec<Field>>>,
    /// Why it cannot be read from here; `None` where it can.
    pub(crate) hidden: Option<Hidden>,
}

/// Why a step cannot be read from some place.
#[derive(Clone, Debug)]
pub(crate) struct Hidden {
    /// The kind of mistake it is to read it.
    pub(crate) code: Code,
    /// The end of a sentence that has named the step.
    pub(crate) why: String,
    /// What to write instead.
    pub(crate) help: String,
}

/// The steps as one place of the file sees them.
pub(crate) trait StepLookup {
    /// The step of this name.
    fn find(&self, name: &str) -> Option<StepNames>;
    /// Names of the steps that can be read, for suggestions.
    fn names(&self) -> Vec<&str>;
}

/// The names that an expression may use.
pub(crate) struct Names<'a> {
    /// Where the expression stands, for messages: `a step`, `the default of an input`.
    pub(crate) place: &'a str,
    /// Inputs with their types; `None` where they cannot be seen.
    pub(crate) inputs: Option<&'a IndexMap<String, Option<Type>>>,
    /// Steps; `None` where they cannot be seen.
    pub(crate) steps: Option<&'a dyn StepLookup>,
    /// Names of the secrets.
    pub(crate) secrets: &'a IndexSet<String>,
    /// Whether there is a run: what starts one can ask neither for it nor for its secrets.
    pub(crate) run: bool,
    /// Whether `run.status` is known here.
    pub(crate) finished: bool,
    /// Whether hashes of files are recorded by the time this is asked.
    pub(crate) hashes: bool,
    /// What else has a name: the item of a loop, the `event` of a webhook. The type is `None` where it is not known for
    /// a reason that is reported elsewhere.
    pub(crate) values: &'a [(String, Option<Type>)],
    /// Paths that are present, since the step would not run otherwise: `if: has(steps.commit.sha)`.
    pub(crate) present: &'a [String],
    /// Whether a condition with mistakes would say what is present: what may be absent is then not reported.
    pub(crate) doubtful: bool,
}

impl<'a> Names<'a> {
    /// A place that sees `run`, and whether secrets are there, but neither inputs nor steps.
    pub(crate) fn new(place: &'a str, secrets: &'a IndexSet<String>) -> Self {
        Self {
            place,
            inputs: None,
            steps: None,
            secrets,
            run: true,
            finished: false,
            hashes: true,
            values: &[],
            present: &[],
            doubtful: false,
        }
    }
}

/// What expressions read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Step -> whether every read of it copes with its having been skipped.
    pub(crate) steps: IndexMap<String, bool>,
    pub(crate) inputs: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
    /// Names of loop items and the like.
    pub(crate) values: BTreeSet<String>,
    /// What `hash` is asked for.
    pub(crate) hashes: BTreeSet<String>,
    /// Paths that are present where a condition holds.
    pub(crate) present: Vec<String>,
    /// Whether anything but literals was read.
    pub(crate) reads: bool,
}

impl Usage {
    /// Adds what another place reads.
    pub(crate) fn absorb(&mut self, other: Self) {
        for (step, tolerant) in other.steps {
            *self.steps.entry(step).or_insert(true) &= tolerant;
        }
        self.inputs.extend(other.inputs);
        self.secrets.extend(other.secrets);
        self.values.extend(other.values);
        self.hashes.extend(other.hashes);
        self.present.extend(other.present);
        self.reads |= other.reads;
    }
}

/// One mistake in an expression.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    /// Bytes of the expression.
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) label: Option<String>,
    pub(crate) help: Option<String>,
    pub(crate) fix: Option<String>,
}

/// What is wanted of an expression's value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'t> {
    /// Anything.
    Anything,
    /// A scalar that stands inside text.
    Text,
    /// `true` or `false`, for an `if`.
    Condition,
    /// A list, for a loop; its type is that of an item.
    Items,
    /// Text or a whole number, which names an item.
    Key,
    /// A value of this type.
    Type(&'t Type),
}

/// Checks one expression; the type is `None` where it could not be found, for a reason that is among the problems or
/// was reported elsewhere.
pub(crate) fn check(
    text: &str,
    names: &Names<'_>,
    wanted: Wanted<'_>,
    usage: &mut Usage,
) -> (Option<Type>, Vec<Problem>) {
    let parsed = match parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let end = text.len();
            let start = error.offset.min(end);
            let stop = text[start..].chars().next().map_or(end, |c| start + c.len_utf8());
            let problem = Problem {
                code: code::EXPRESSION_SYNTAX,
                span: start..stop,
                message: format!("not an expression: {}", error.message),
                label: None,
                help: Some(syntax_help(text).to_owned()),
                fix: None,
            };
            return (None, vec![problem]);
        }
    };
    let mut checker = Checker::new(text, &parsed, names, usage);
    let root = &parsed.root;
    let ty = match wanted {
        Wanted::Anything => checker.infer(root),
        Wanted::Type(ty) => checker.expect(root, ty),
        Wanted::Condition => checker.condition(root),
        Wanted::Text => checker.scalar(root),
        Wanted::Items => checker.items(root),
        Wanted::Key => checker.key(root),
    };
    let mut problems = checker.problems;
    if names.doubtful {
        problems.retain(|problem| problem.code != code::MAY_BE_ABSENT);
    }
    (ty, problems)
}

/// Mistakes that people bring from other languages.
fn syntax_help(text: &str) -> &'static str {
    let has = |part: &str| text.contains(part);
    if has("${{") {
        "write the expression without `${{ }}` here"
    } else if has(" and ") || has(" or ") || text.starts_with("not ") {
        "write `&&`, `||` and `!`"
    } else if has("|") && !has("||") {
        "there are no pipes; call functions as `x.trim()`"
    } else if has("=") && !has("==") && !has("!=") && !has("<=") && !has(">=") {
        "write `==` to compare"
    } else {
        "expressions are CEL, such as `steps.clone.path`, `inputs.n > 3` or `'a' + inputs.name`"
    }
}
