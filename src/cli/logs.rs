//! `harvest logs`: what steps said.

use super::follow::{Follower, News};
use super::lines::Lines;
use super::{Failure, Outcome, print_json, print_line, run_id};
use crate::app::App;
use crate::capability::stream::{Content, Cursor, REPORTS, StreamEntry};
use crate::id::{RunId, StepRef};
use serde_json::{Value, json};

/// Which run, and what of it.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The run's id.
    run: String,
    /// Only this step.
    step: Option<String>,
    /// Go on until the run ends.
    #[arg(short, long)]
    follow: bool,
    /// In place of what the steps said: how well each sandbox was held in when it was opened for a step.
    #[arg(long)]
    isolation: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn logs(app: &App, arguments: &Arguments) -> Outcome {
    let id = run_id(&arguments.run)?;
    let (run, ..) = app.engine().replay(&id).await?;
    if let Some(step) = &arguments.step
        && run.definition(&StepRef::parse(step).step).is_none()
    {
        return Err(Failure::not_found(format!("run {id} has no step `{step}`")));
    }
    let wanted = |entry: &StreamEntry| {
        let asked = (entry.stream == REPORTS) == arguments.isolation;
        let step = arguments
            .step
            .as_deref()
            .is_none_or(|step| step == entry.who.step.as_str() || step == entry.who.to_string());
        asked && step
    };
    let mut lines = Lines::default();
    if !arguments.follow {
        let mut cursor = 0;
        loop {
            let entries = app.streams().read(&id, cursor, 1_000).await?;
            let Some((last, _)) = entries.last() else { return end(&mut lines) };
            cursor = *last;
            for (cursor, entry) in entries.iter().filter(|(_, entry)| wanted(entry)) {
                print(&id, *cursor, entry, &mut lines, arguments.json)?;
            }
        }
    }
    let mut follower = Follower::new(app, id.clone(), false, true);
    loop {
        let news = follower.next().await?;
        if news.is_empty() {
            return end(&mut lines);
        }
        for said in news {
            if let News::Said(cursor, entry) = said
                && wanted(&entry)
            {
                print(&id, cursor, &entry, &mut lines, arguments.json)?;
            }
        }
    }
}

fn print(
    run: &RunId,
    cursor: Cursor,
    entry: &StreamEntry,
    lines: &mut Lines,
    json: bool,
) -> Result<(), Failure> {
    if json {
        return print_json(&as_json(run, cursor, entry));
    }
    lines.take(entry).iter().try_for_each(|line| print_line(&format!("{} | {line}", entry.who)))
}

/// Prints the lines that have no end.
fn end(lines: &mut Lines) -> Outcome {
    for (who, line) in lines.end(None) {
        print_line(&format!("{who} | {line}"))?;
    }
    Ok(0)
}

/// An entry as machines read it.
pub(super) fn as_json(run: &RunId, cursor: Cursor, entry: &StreamEntry) -> Value {
    let mut value = json!({
        "run": run,
        "step": entry.who.step,
        "attempt": entry.attempt,
        "cursor": cursor,
        "stream": entry.stream,
        "at": entry.at,
    });
    if let Some(item) = &entry.who.item {
        value["item"] = item.clone().into();
    }
    match &entry.content {
        Content::Text(text) => value["text"] = text.clone().into(),
        Content::Data(data) => value["data"] = data.clone(),
    }
    value
}
