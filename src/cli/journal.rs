//! `harvest journal`: what an operator does with the journal of a home. Needs nothing else of the home.

use super::{Failure, Outcome, Talk, print_json, print_line, run_id};
use crate::app::{AppError, journals, transfer};
use crate::config::Home;
use crate::engine::EngineError;
use crate::id::RunId;
use crate::journal::transfer::Came;
use crate::journal::{JournalError, VerifyReport};
use serde_json::json;
use std::path::PathBuf;

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Read everything and say what is wrong with it, and what is lost.
    Verify {
        /// One JSON object: `{whole, runs, records, bytes, damaged, findings}`.
        #[arg(long)]
        json: bool,
    },
    /// Write all runs to a file that any later version can import, into a journal of any kind.
    Export {
        /// The file; `-` is stdout.
        file: PathBuf,
        /// Only this run.
        #[arg(long)]
        run: Option<String>,
        /// Replace the file where it is there.
        #[arg(long)]
        force: bool,
    },
    /// Take the runs of an export into this home.
    Import {
        /// The file; `-` is stdin.
        file: PathBuf,
    },
    /// Give space that nothing uses back to the file system.
    Compact {
        /// One JSON object: `{before, after}`, in bytes.
        #[arg(long)]
        json: bool,
    },
    /// Copy the journal to a file while others write to it. To restore, put it into a home as `journal.db`.
    Backup {
        /// The file.
        file: PathBuf,
        /// Replace the file where it is there.
        #[arg(long)]
        force: bool,
    },
}

pub(super) async fn journal(home: &Home, command: Command, talk: Talk) -> Outcome {
    match command {
        Command::Verify { json } => verify(home, json).await,
        Command::Export { file, run, force } => export(home, file, run, force, talk).await,
        Command::Import { file } => import(home, file, talk).await,
        Command::Compact { json } => {
            let done = journals::open_configured(home)?.compact().await?;
            if json {
                print_json(&done)?;
            } else {
                print_line(&format!("{} before, {} after", bytes(done.before), bytes(done.after)))?;
            }
            Ok(0)
        }
        Command::Backup { file, force } => {
            let report = transfer::backup(&*journals::open_configured(home)?, &file, force).await?;
            if !talk.quiet {
                eprintln!("{}: {}, whole", file.display(), sizes(&report));
            }
            Ok(0)
        }
    }
}

async fn verify(home: &Home, as_json: bool) -> Outcome {
    let report = match journals::open_configured(home) {
        Ok(journal) => journal.verify().await,
        // Damage may be such that it does not even open.
        Err(AppError::Engine(EngineError::Journal(error))) => Err(error),
        Err(error) => return Err(error.into()),
    };
    let report = match report {
        Ok(report) => report,
        Err(error @ JournalError::Damaged(_)) => {
            VerifyReport { findings: vec![error.to_string()], damaged: 1, ..VerifyReport::default() }
        }
        Err(error) => return Err(error.into()),
    };
    if as_json {
        print_json(&json!({
            "whole": report.is_whole(),
            "runs": report.runs,
            "records": report.records,
            "bytes": report.bytes,
            "damaged": report.damaged,
            "findings": report.findings,
        }))?;
    } else if report.is_whole() {
        print_line(&format!("whole: {}", sizes(&report)))?;
    } else {
        report.findings.iter().try_for_each(|finding| print_line(finding))?;
        let more = report.damaged - report.findings.len() as u64;
        if more > 0 {
            print_line(&format!("and {more} more"))?;
        }
        eprintln!("damaged: {} findings; {} could be read", report.damaged, sizes(&report));
    }
    Ok(u8::from(!report.is_whole()))
}

async fn export(home: &Home, file: PathBuf, run: Option<String>, force: bool, talk: Talk) -> Outcome {
    let run = run.as_deref().map(run_id).transpose()?;
    let journal = journals::open_configured(home)?;
    let exported = transfer::export(&*journal, run.as_ref(), &file, force).await?;
    let Some(exported) = exported else {
        let run = run.map_or_else(String::new, |run| run.to_string());
        return Err(Failure::not_found(format!("there is no run `{run}`: `harvest runs` lists them")));
    };
    for run in &exported.left_out {
        eprintln!("left out {run}: its import was broken off, import its file again");
    }
    for damage in &exported.damaged {
        eprintln!("left out: {damage}");
    }
    if !talk.quiet {
        eprintln!("exported {} with {} events", count(exported.runs, "run"), exported.events);
        if exported.unfinished > 0 {
            eprintln!("{} of them unfinished, as they were at that moment", exported.unfinished);
        }
    }
    Ok(u8::from(!exported.left_out.is_empty() || !exported.damaged.is_empty()))
}

/// Unfinished runs that are named when they come in.
const NAMED_MAX: u64 = 10;

async fn import(home: &Home, file: PathBuf, talk: Talk) -> Outcome {
    let journal = journals::open_configured(home)?;
    let mut unfinished = 0;
    let mut tell = |run: &RunId, came| match came {
        Came::Differs => {
            eprintln!(
                "refused {run}: another run with this id is here, and stays; import into another home (--home DIR)"
            );
        }
        Came::Unfinished => {
            unfinished += 1;
            if !talk.quiet && unfinished <= NAMED_MAX {
                eprintln!("unfinished: {run}");
            }
        }
        _ => {}
    };
    let (counts, imported) = transfer::import(&*journal, home, &file, &mut tell).await?;
    if unfinished > 0 && !talk.quiet {
        let more = unfinished.saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        eprintln!("these{more} go on here with `harvest resume`; they must not go on in their old home too");
    }
    print_line(&format!(
        "imported {} with {} events, {} unfinished; {} here already, {} refused, of {}",
        count(imported.imported, "run"),
        imported.events,
        imported.unfinished,
        imported.same,
        imported.differ,
        counts.runs
    ))?;
    Ok(u8::from(imported.differ > 0))
}

fn sizes(report: &VerifyReport) -> String {
    format!("{}, {} events, {}", count(report.runs, "run"), report.records, bytes(report.bytes))
}

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Bytes as people read them.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
