//! `harvest runs`: the listing.

use super::{Failure, Outcome, print_json, print_line};
use crate::app::App;
use crate::journal::{Listed, RunFilter, RunRow};
use serde_json::json;

/// What to list.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only runs of this workflow.
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only runs in this state.
    #[arg(long, value_parser = ["queued", "running", "waiting", "succeeded", "failed", "cancelled", "timed_out"])]
    state: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Show what each cost.
    #[arg(long)]
    cost: bool,
    /// One JSON array.
    #[arg(long)]
    json: bool,
}

pub(super) async fn runs(app: &App, arguments: &Arguments) -> Outcome {
    let filter = RunFilter {
        workflow: arguments.workflow.clone(),
        state: arguments.state.clone(),
        ..RunFilter::default()
    };
    let Listed { rows, damaged } = app.journal().list_whole(filter, arguments.limit as usize).await?;
    if arguments.json {
        print_json(&rows.iter().map(as_json).collect::<Vec<_>>())?;
    } else if rows.is_empty() && damaged.is_empty() {
        eprintln!("no runs yet: start one with `harvest run FILE`");
    }
    if !arguments.json {
        rows.iter().try_for_each(|row| print_row(row, arguments.cost))?;
    }
    damaged.iter().for_each(|damage| eprintln!("not listed: {damage}"));
    Ok(u8::from(!damaged.is_empty()))
}

fn print_row(row: &RunRow, cost: bool) -> Result<(), Failure> {
    let took = row.finished_at.map_or_else(
        || "-".to_owned(),
        |end| super::progress::seconds(end.as_millisecond() - row.started_at.as_millisecond()),
    );
    let mut line = format!(
        "{}  {:<9}  {}  {:>8}  {}",
        row.run,
        row.state,
        row.started_at.strftime("%Y-%m-%d %H:%M:%S"),
        took,
        row.workflow
    );
    if cost && let Some(usd) = row.usd {
        line.push_str(&format!("  {usd:.4} USD, {} tokens", row.tokens.unwrap_or(0)));
    }
    print_line(&line)
}

/// The row as machines read it.
fn as_json(row: &RunRow) -> serde_json::Value {
    let cost = row.usd.map(|usd| json!({ "usd": usd, "tokens": row.tokens }));
    let mut value = json!({
        "run": row.run,
        "workflow": row.workflow,
        "state": row.state,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    });
    if let Some(cost) = cost {
        value["cost"] = cost;
    }
    value
}
