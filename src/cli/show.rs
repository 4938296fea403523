//! `harvest show`: one run, root cause first.

use super::{Failure, Outcome, print_json, print_line, run_id, timestamp};
use crate::app::App;
use crate::id::{RunId, StepId};
use crate::run::{Event, Item, LOCAL, Phase, Run, Spent, StepState};
use crate::workflow::model::Step;
use serde_json::{Map, Value, json};

/// Which run.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The run's id.
    run: String,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn show(app: &App, arguments: &Arguments) -> Outcome {
    let id = run_id(&arguments.run)?;
    let (run, _, last) = app.engine().replay(&id).await?;
    let finished_at = match &last {
        Event::RunFinished { .. } => app.journal().row(&id).await?.and_then(|row| row.finished_at),
        _ => None,
    };
    let value = as_json(&id, &run, &last, finished_at);
    if arguments.json {
        print_json(&value)?
    } else {
        print_text(&run, &value)?
    }
    Ok(0)
}

/// The run as machines read it.
pub(super) fn as_json(id: &RunId, run: &Run, last: &Event, finished_at: Option<jiff::Timestamp>) -> Value {
    let (outputs, error) = match last {
        Event::RunFinished { outputs, error, .. } => (outputs.clone(), error.as_ref()),
        _ => (Map::new(), run.error()),
    };
    let workflow = run.workflow();
    let steps: Map<String, Value> = workflow
        .steps
        .keys()
        .chain(workflow.finally.keys())
        .map(|step| (step.to_string(), step_json(run, step)))
        .collect();
    let mut value = json!({
        "run": id,
        "workflow": run.started().workflow,
        "state": run.state_word(),
        "started_at": timestamp(run.started_ms()),
        "finished_at": finished_at,
        "inputs": run.started().inputs,
        "outputs": outputs,
        "steps": steps,
    });
    // What makes the run differ from a plain one of its file.
    let started = run.started();
    if started.provider != LOCAL {
        value["provider"] = json!(started.provider);
    }
    if !started.mocks.is_empty() {
        value["mocked"] = started.mocks.keys().cloned().collect();
    }
    if !started.injected.is_empty() {
        let all = started.injected.iter();
        value["injected"] =
            all.flat_map(|(at, faults)| faults.iter().map(move |fault| format!("{at}={fault}"))).collect();
    }
    if let Some(error) = error {
        value["error"] = json!(error);
    }
    if let Some((usd, tokens)) = run.cost() {
        value["cost"] = json!({ "usd": usd, "tokens": tokens });
        if let Some(budget) = workflow.budget_micro_usd {
            value["cost"]["budget_usd"] = json!(budget as f64 / 1e6);
        }
    }
    value
}

fn step_json(run: &Run, id: &StepId) -> Value {
    let Some(state) = run.step(id) else { return Value::Null };
    let mut value = state_json(state);
    if let Some(outputs) = run.outputs_of(id) {
        value["outputs"] = json!(outputs);
    }
    if let Some(items) = run.items(id) {
        value["items"] = items.iter().map(item_json).collect();
    }
    if let Some(call) = run.definition(id).and_then(Step::call) {
        value["component"] = json!({ "name": call.component, "digest": call.digest });
    }
    value
}

fn item_json(item: &Item) -> Value {
    let steps: Map<String, Value> =
        item.steps.iter().map(|(id, state)| (id.to_string(), state_json(state))).collect();
    let mut value = json!({ "key": item.key, "state": item.state(), "steps": steps });
    if let Some(error) = &item.error {
        value["error"] = json!(error);
    }
    value
}

fn state_json(state: &StepState) -> Value {
    let attempts: Vec<Value> = state
        .attempts
        .iter()
        .map(|attempt| {
            let mut value = json!({
                "n": attempt.n,
                "started_at": timestamp(attempt.started_ms),
                "finished_at": attempt.finished_ms.map(timestamp),
            });
            if let Some(error) = &attempt.error {
                value["error"] = json!(error);
            }
            bill(&mut value, attempt.spent);
            value
        })
        .collect();
    let mut value = json!({ "state": state.phase.as_str(), "attempts": attempts });
    match &state.phase {
        Phase::Skipped { reason } => value["skipped_because"] = json!(reason),
        Phase::Asking { message, .. } => value["asks"] = json!(message),
        _ => {}
    }
    bill(&mut value, state.spent());
    value
}

/// Adds what was metered, if anything was.
fn bill(value: &mut Value, spent: Spent) {
    if spent != Spent::default() {
        value["cost"] = json!({
            "usd": spent.usd(),
            "tokens": spent.tokens(),
            "input_tokens": spent.input_tokens,
            "output_tokens": spent.output_tokens,
        });
    }
}

fn print_text(run: &Run, value: &Value) -> Result<(), Failure> {
    let text = |key: &str| value[key].as_str().unwrap_or("-").to_owned();
    print_line(&format!("run       {}", text("run")))?;
    print_line(&format!("workflow  {}", text("workflow")))?;
    print_line(&format!("state     {}", text("state")))?;
    print_line(&format!("started   {}", text("started_at")))?;
    print_line(&format!("finished  {}", text("finished_at")))?;
    if let Some(provider) = value["provider"].as_str() {
        print_line(&format!("provider  {provider}"))?;
    }
    for what in ["mocked", "injected"] {
        if let Some(all) = value[what].as_array() {
            let all: Vec<&str> = all.iter().filter_map(Value::as_str).collect();
            print_line(&format!("{what:<10}{}", all.join(", ")))?;
        }
    }
    if let Some(error) = value.get("error") {
        let step = error["step"].as_str().map_or_else(|| "the run".to_owned(), |step| format!("step {step}"));
        print_line(&format!(
            "because   {step}: {} ({})",
            error["message"].as_str().unwrap_or(""),
            error["kind"].as_str().unwrap_or("")
        ))?;
    }
    if let Some(cost) = value.get("cost") {
        print_line(&format!(
            "cost      {:.4} USD, {} tokens",
            cost["usd"].as_f64().unwrap_or(0.0),
            cost["tokens"]
        ))?;
    }
    print_line("steps")?;
    let workflow = run.workflow();
    for id in workflow.steps.keys().chain(workflow.finally.keys()) {
        let Some(state) = run.step(id) else { continue };
        let spent: i64 = state.attempts.iter().filter_map(|a| Some(a.finished_ms? - a.started_ms)).sum();
        let detail = match &state.phase {
            Phase::Skipped { reason } => reason.clone(),
            Phase::Asking { message, .. } => message.clone(),
            Phase::Failed | Phase::Stopped => state
                .attempts
                .last()
                .and_then(|a| a.error.as_ref())
                .map_or_else(String::new, ToString::to_string),
            _ if state.attempts.is_empty() => String::new(),
            _ => super::progress::seconds(spent),
        };
        let again = if state.attempts.len() > 1 {
            format!("  ({} attempts)", state.attempts.len())
        } else {
            String::new()
        };
        let spent = state.spent();
        let cost = if spent == Spent::default() {
            String::new()
        } else {
            format!("  {:.4} USD, {} tokens", spent.usd(), spent.tokens())
        };
        print_line(&format!("  {:<16} {:<10} {detail}{again}{cost}", id.as_str(), state.phase.as_str()))?;
        for item in run.items(id).into_iter().flatten() {
            let why = item.error.as_ref().map_or_else(String::new, |error| error.error.to_string());
            print_line(format!("    [{}]{:<10} {why}", item.key, format!(" {}", item.state())).trim_end())?;
        }
    }
    if let Some(outputs) = value["outputs"].as_object().filter(|outputs| !outputs.is_empty()) {
        print_line("outputs")?;
        for (name, value) in outputs {
            print_line(&format!("  {name:<16} {}", super::progress::plain(value)))?;
        }
    }
    Ok(())
}
