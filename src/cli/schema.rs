//! `harvest schema`: a JSON Schema of workflow files, for editors.

use super::{Outcome, Talk, print_line};
use crate::app::App;
use crate::workflow::schema::EDITOR_LINE;
use std::path::PathBuf;

/// Whose workflow files.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Directory of the workflow files; components beside them are part of the schema.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

pub(super) fn schema(app: &App, arguments: &Arguments, talk: Talk) -> Outcome {
    let written = app.write_schema(&arguments.dir)?;
    for reason in &written.left_out {
        eprintln!("warning: left out of the schema: {reason}");
    }
    let path = written.path.strip_prefix(".").unwrap_or(&written.path);
    print_line(&path.display().to_string())?;
    print_line(EDITOR_LINE)?;
    if !talk.quiet {
        eprintln!("put the second line at the top of each workflow file there");
    }
    Ok(0)
}
