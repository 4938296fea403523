//! `harvest gc`: removes what the limits of the home say, and what nothing needs any more; lists all of it.

use super::journal::bytes;
use super::{Failure, Outcome, print_json, print_line};
use crate::app::App;
use crate::app::retention::{Because, Cleaned};
use serde_json::{Value, json};

/// What to remove.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Remove the files, too, that sandboxes of ended runs keep for `harvest retry`.
    #[arg(long)]
    kept: bool,
    /// One JSON object: `{dry_run, runs, busy, orphans, images_busy, sandboxes, freed}`.
    #[arg(long)]
    json: bool,
}

pub(super) async fn gc(app: &App, arguments: &Arguments) -> Outcome {
    let cleaned = app.clean(arguments.dry_run, arguments.kept).await?;
    if arguments.json {
        print_json(&as_json(arguments, &cleaned))?
    } else {
        print_text(arguments, &cleaned)?
    }
    Ok(0)
}

fn as_json(arguments: &Arguments, cleaned: &Cleaned) -> Value {
    let families = cleaned.families.iter().map(|family| {
        json!({
            "run": family.runs[0],
            "with": family.runs[1..],
            "ended_at": family.ended_at,
            "bytes": family.bytes,
            "because": family.because,
        })
    });
    let sandboxes = cleaned.sandboxes.iter().map(|kept| {
        json!({ "sandbox": kept.sandbox, "run": kept.run, "workflow": kept.workflow, "removed": arguments.kept && !arguments.dry_run })
    });
    json!({
        "dry_run": arguments.dry_run,
        "runs": families.collect::<Vec<_>>(),
        "busy": cleaned.busy,
        "orphans": cleaned.orphans,
        "images_busy": cleaned.images_busy,
        "sandboxes": sandboxes.collect::<Vec<_>>(),
        "freed": cleaned.bytes(),
    })
}

fn print_text(arguments: &Arguments, cleaned: &Cleaned) -> Result<(), Failure> {
    for family in &cleaned.families {
        let because = match family.because {
            Because::Age => "age",
            Because::Runs => "runs",
            Because::Size => "size",
        };
        let with = match family.runs.len() - 1 {
            0 => String::new(),
            below => format!("  with {below} below it"),
        };
        print_line(&format!(
            "run      {}  ended {}  {:>9}  beyond `{because}`{with}",
            family.runs[0],
            family.ended_at.strftime("%Y-%m-%d %H:%M:%S"),
            bytes(family.bytes)
        ))?;
    }
    for run in &cleaned.busy {
        print_line(&format!("stays    {run}  somebody works with it"))?;
    }
    for orphan in &cleaned.orphans {
        print_line(&format!("orphan   {}  {}  {}", orphan.of, orphan.kind, bytes(orphan.bytes)))?;
    }
    if cleaned.images_busy {
        print_line("stays    images and layers  somebody is making or opening one; try again later")?;
    }
    for kept in &cleaned.sandboxes {
        let keeps = if arguments.kept { "" } else { "  keeps its files for `harvest retry`" };
        print_line(&format!("sandbox  {}  {}{keeps}", kept.sandbox, kept.workflow))?;
    }
    let runs: usize = cleaned.families.iter().map(|family| family.runs.len()).sum();
    let sandboxes = if arguments.kept { cleaned.sandboxes.len() } else { 0 };
    eprintln!(
        "{} {}: {runs} runs, {} orphans, {sandboxes} sandboxes",
        if arguments.dry_run { "would free" } else { "freed" },
        bytes(cleaned.bytes()),
        cleaned.orphans.len()
    );
    if !arguments.kept && !cleaned.sandboxes.is_empty() {
        eprintln!(
            "{} sandboxes keep their files for `harvest retry`: --kept removes them",
            cleaned.sandboxes.len()
        );
    }
    Ok(())
}
