//! `harvest check`: everything that is wrong with workflow files, at once.

use super::{Failure, Outcome, Talk, print_json};
use crate::app::App;
use crate::workflow::diagnostic::Severity;
use crate::workflow::sarif;
use std::path::PathBuf;

/// Which files.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Workflow files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// One JSON array of diagnostics.
    #[arg(long)]
    json: bool,
    /// One SARIF 2.1.0 log, for code scanning.
    #[arg(long, conflicts_with = "json")]
    sarif: bool,
}

pub(super) fn check(app: &App, arguments: &Arguments, talk: Talk) -> Outcome {
    let mut all = Vec::new();
    let mut bad = 0;
    for file in &arguments.files {
        let (_, checked) = app.check_file(file).map_err(Failure::from)?;
        bad += checked.diagnostics.iter().filter(|d| d.severity() == Severity::Error).count();
        if arguments.json || arguments.sarif {
            all.extend(checked.diagnostics);
        } else {
            for diagnostic in &checked.diagnostics {
                eprintln!("{}", diagnostic.render(talk.color));
            }
        }
    }
    if arguments.json {
        print_json(&all)?;
    } else if arguments.sarif {
        print_json(&sarif::log(&all))?;
    } else if bad == 0 && !talk.quiet {
        let files = arguments.files.len();
        eprintln!("{files} workflow{} checked, no errors", if files == 1 { "" } else { "s" });
    }
    Ok(if bad == 0 { 0 } else { 2 })
}
