//! `harvest explain`: what a diagnostic means, with a bad and a good example. Needs no home.

use super::{Failure, Outcome, print_line};
use crate::workflow::code::{self, Code};
use crate::workflow::explain::Explanation;

/// Which code.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A code that `harvest check` printed, such as E0312; all codes are listed without one.
    code: Option<String>,
}

pub(super) fn explain(arguments: &Arguments) -> Outcome {
    let Some(id) = &arguments.code else {
        for code in code::ALL {
            print_line(&format!("{}  {}", code.id, code.title))?;
        }
        return Ok(0);
    };
    let code = Code::find(id).ok_or_else(|| unknown(id))?;
    match Explanation::of(code) {
        Some(explanation) => print_line(explanation.to_string().trim_end())?,
        None => print_line(&format!("{}: {}", code.id, code.title))?,
    }
    Ok(0)
}

fn unknown(id: &str) -> Failure {
    let help = match Code::near(id) {
        Some(near) => format!("did you mean {near}, {}?", near.title),
        None => "`harvest explain` lists them".to_owned(),
    };
    Failure::usage(format!("there is no diagnostic `{id}`: {help}"))
}
