//! `harvest events`: the journal of a run, one event a line.

use super::{Outcome, print_json, print_line, run_id, timestamp};
use crate::app::App;
use crate::id::RunId;
use crate::run::Event;
use serde_json::{Value, json};

/// Which run.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The run's id.
    run: String,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn events(app: &App, arguments: &Arguments) -> Outcome {
    let id = run_id(&arguments.run)?;
    let events = app.engine().events(&id, 0).await?;
    if events.is_empty() {
        return Err(crate::engine::EngineError::NotFound(id).into());
    }
    for (seq, at_ms, event) in &events {
        let value = as_json(&id, *seq, *at_ms, event);
        if arguments.json {
            print_json(&value)?;
        } else {
            let step = match (value["step"].as_str(), value["item"].as_str()) {
                (Some(step), Some(item)) => format!("{step}[{item}]"),
                (step, _) => step.unwrap_or_default().to_owned(),
            };
            let detail = match event {
                Event::StepFailed { error, .. } => error.to_string(),
                Event::StepSkipped { reason, .. } => reason.clone(),
                Event::RunQueued { group } | Event::StepQueued { group, .. } => format!("group {group}"),
                Event::RunRefused { error } => error.to_string(),
                Event::StepReused { source, .. } => format!("from run {source}"),
                Event::LoopStarted { items, .. } => format!("{} items", items.len()),
                Event::ApprovalRequested { message, .. } => message.clone(),
                Event::ApprovalGiven { approved: true, .. } => "approved".to_owned(),
                Event::ApprovalGiven { approved: false, .. } => "rejected".to_owned(),
                Event::RunUpgraded(upgrade) => upgrade.version.file.clone(),
                Event::RunFinished { state, .. } => state.as_str().to_owned(),
                _ => String::new(),
            };
            let kind = value["type"].as_str().unwrap_or("");
            print_line(
                format!("{seq:>5}  {}  {kind:<16} {step:<16} {detail}", value["at"].as_str().unwrap_or(""))
                    .trim_end(),
            )?;
        }
    }
    Ok(0)
}

/// An event as machines read it: `{run, seq, at, type, ...}`. The definition of the workflow is left out for its size.
pub(super) fn as_json(run: &RunId, seq: u64, at_ms: i64, event: &Event) -> Value {
    let mut line = json!({ "run": run, "seq": seq, "at": timestamp(at_ms) });
    if let (Some(line), Ok(Value::Object(fields))) = (line.as_object_mut(), serde_json::to_value(event)) {
        let of_the_file = ["definition", "source"];
        line.extend(
            fields.into_iter().filter(|(name, _)| !of_the_file.contains(&name.as_str()) && name != "run"),
        );
    }
    line
}
