//! `harvest check`: everything that is wrong with workflow files, at once.

use super::{Failure, Outcome, Talk, print_json, print_line};
use crate::app::App;
use crate::workflow::check::Checked;
use crate::workflow::diagnostic::Severity;
use crate::workflow::sarif;
use std::path::{Path, PathBuf};

/// Which files.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Workflow files.
    #[arg(required = true)]
    pub(super) files: Vec<PathBuf>,
    /// One JSON array of diagnostics.
    #[arg(long)]
    pub(super) json: bool,
    /// One SARIF 2.1.0 log, for code scanning.
    #[arg(long, conflicts_with = "json")]
    sarif: bool,
    /// Change the files where a diagnostic says exactly what to write, then print what remains.
    #[arg(long)]
    fix: bool,
    /// Show what a run would do: what would run, be skipped or taken from earlier outputs, what each step is handed and
    /// may do, and what can be seen in each sandbox.
    #[arg(long, conflicts_with_all = ["sarif", "fix"])]
    plan: bool,
    /// An input of the planned run, as for `harvest run`.
    #[arg(short, long = "input", value_name = "NAME=VALUE", requires = "plan")]
    pub(super) input: Vec<String>,
    /// What would make the sandboxes of the planned run, as for `harvest run`.
    #[arg(long, default_value = "local", value_name = "NAME", requires = "plan")]
    pub(super) provider: String,
}

pub(super) async fn check(app: &App, arguments: &Arguments, talk: Talk) -> Outcome {
    if arguments.plan {
        return super::plan::plan(app, arguments, talk).await;
    }
    let for_programs = arguments.json || arguments.sarif;
    let mut all = Vec::new();
    let mut bad = 0;
    let mut unreadable: Option<Failure> = None;
    for file in &arguments.files {
        let checked = match arguments.fix {
            true => fix(app, file, for_programs),
            false => app.check_file(file).map(|(_, checked)| checked).map_err(Failure::from),
        };
        let checked = match checked {
            Ok(checked) => checked,
            // The other files are looked at all the same.
            Err(failure) => {
                match &mut unreadable {
                    Some(first) => first.message = format!("{}\n{}", first.message, failure.message),
                    None => unreadable = Some(failure),
                }
                continue;
            }
        };
        bad += checked.diagnostics.iter().filter(|d| d.severity() == Severity::Error).count();
        if for_programs {
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
    }
    if let Some(failure) = unreadable {
        return Err(failure);
    }
    if !for_programs && bad == 0 && !talk.quiet {
        let files = arguments.files.len();
        eprintln!("{files} workflow{} checked, no errors", if files == 1 { "" } else { "s" });
    }
    Ok(if bad == 0 { 0 } else { 2 })
}

/// Corrects a file and says what was changed; where stdout is for a program, on stderr.
fn fix(app: &App, file: &Path, for_programs: bool) -> Result<Checked, Failure> {
    let fixed = app.fix_file(file)?;
    for change in &fixed.changes {
        let line = format!("{}:{}: {} -> {}", file.display(), change.line, change.old, change.new);
        if for_programs {
            eprintln!("{line}");
        } else {
            print_line(&line)?;
        }
    }
    if fixed.refused > 0 {
        let (them, they) = match fixed.refused {
            1 => ("1 proposed change was".to_owned(), "it would"),
            n => (format!("{n} proposed changes were"), "each would"),
        };
        eprintln!("{}: {them} not made: {they} make the file worse", file.display());
    }
    Ok(fixed.checked)
}
