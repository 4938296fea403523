//! `harvest check --plan`: what a run would do, for people and programs.

use super::check::Arguments;
use super::{Failure, Outcome, Talk, print_json, print_line};
use crate::app::{App, StartRequest};
use serde_json::Value;

/// Characters of a value that are shown.
const VALUE_MAX: usize = 100;

pub(super) async fn plan(app: &App, arguments: &Arguments, talk: Talk) -> Outcome {
    let inputs: Vec<_> =
        arguments.input.iter().map(|input| super::run::read_input(input)).collect::<Result<_, _>>()?;
    for file in &arguments.files {
        let request = StartRequest {
            file: file.clone(),
            text: None,
            inputs: inputs.clone(),
            json: None,
            mocks: None,
            inject: Vec::new(),
            trigger: "cli".into(),
            provider: arguments.provider.clone(),
        };
        let plan = app.plan(&request).await.map_err(|error| super::run::refused(error, talk))?;
        if arguments.json { print_json(&plan)? } else { print_text(&plan)? }
    }
    Ok(0)
}

fn print_text(plan: &Value) -> Result<(), Failure> {
    print_line(&format!("plan of {}", text(&plan["workflow"])))?;
    for (name, sandbox) in fields(&plan["sandboxes"]) {
        print_line(&format!(
            "sandbox {name}: image {}, network {}",
            text(&sandbox["image"]),
            text(&sandbox["network"])
        ))?;
        for unmet in sandbox["unmet"].as_array().into_iter().flatten() {
            print_line(&format!("  a run would end with exit code 4: {}", text(unmet)))?;
        }
        for caveat in sandbox["caveats"].as_array().into_iter().flatten() {
            print_line(&format!("  {}", text(caveat)))?;
        }
        for (path, volume) in fields(&sandbox["volumes"]) {
            print_line(&format!("  volume {} at {path}", text(volume)))?;
        }
        for (what, key) in [("variables", "env"), ("secrets, while the step runs", "secrets_in_commands")] {
            if let Some(names) = names(&sandbox[key]) {
                print_line(&format!("  what runs there sees the {what}: {names}"))?;
            }
        }
        if let Some(names) = names(&sandbox["secrets_by_name"]) {
            print_line(&format!(
                "  kept by the provider, so that what runs there can see them while the step hands them on, and reach the \
                 services that they are for: {names}"
            ))?;
        }
    }
    for (name, secret) in fields(&plan["secrets"]) {
        let state = match (&secret["kept"], &secret["present"], &secret["optional"]) {
            (Value::String(_), Value::Bool(true), _) => {
                "kept by the provider, which was not asked, and present here for what is done on this machine"
            }
            (Value::String(_), ..) => "kept by the provider, which was not asked",
            (_, Value::Bool(true), _) => "present",
            (.., Value::Bool(true)) => "absent, and optional",
            _ => "not found: a run would end with exit code 3 (commands were not asked)",
        };
        print_line(&format!("secret {name}: {state} ({})", names(&secret["from"]).unwrap_or_default()))?;
    }
    for step in plan["steps"].as_array().into_iter().flatten() {
        let place = if step["finally"] == Value::Bool(true) { ", in finally" } else { "" };
        let why = step["why"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
        let would = match step["would"].as_str() {
            Some("depend") => "depends on what runs before it".to_owned(),
            Some(would) => format!("would {would}"),
            None => String::new(),
        };
        print_line(&format!("step {} ({}{place}) {would}{why}", text(&step["step"]), text(&step["uses"])))?;
        for (name, value) in fields(&step["with"]).filter(|(_, value)| !value.is_null()) {
            let shown: String = text(value).chars().take(VALUE_MAX).collect();
            print_line(&format!("  {name}: {}", shown.lines().next().unwrap_or_default()))?;
        }
        for (slot, name) in fields(&step["secrets"]) {
            print_line(&format!("  is handed the secret {} as {slot}", text(name)))?;
        }
        for (_, sandbox) in fields(&step["sandboxes"]) {
            print_line(&format!("  works in the sandbox {}", text(sandbox)))?;
        }
        if !step["network"].is_null() {
            print_line(&format!("  reaches meanwhile: network {}", text(&step["network"])))?;
        }
        if let Some(names) = names(&step["permissions"]) {
            print_line(&format!("  may use: {names}"))?;
        }
    }
    Ok(())
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text(value: &Value) -> String {
    super::progress::plain(value)
}

/// A list as one line; none where it is empty.
fn names(value: &Value) -> Option<String> {
    let names: Vec<String> = value.as_array()?.iter().map(text).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
