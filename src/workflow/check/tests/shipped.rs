//! The workflows that come with harvest, and those of the tests: clean, and without values of unknown type.

use super::{checked, good, rendered};
use crate::workflow::Workflow;
use crate::workflow::model::Action;
use crate::workflow::types::Type;
use std::path::Path;

fn has_any(ty: &Type) -> bool {
    match ty {
        Type::Any => true,
        Type::List(inner) | Type::Map(inner) | Type::Option(inner) => has_any(inner),
        Type::Record(fields) => fields.iter().any(|field| has_any(&field.ty)),
        Type::Tuple(items) => items.iter().any(has_any),
        Type::Variant(cases) => cases.iter().any(|(_, ty)| ty.as_ref().is_some_and(has_any)),
        _ => false,
    }
}

/// Every place where a value of type `any` comes from, but for webhooks' events. An expression has the type `any` only
/// where something in it has: nothing else makes one.
fn sources_of_any(workflow: &Workflow) -> Vec<String> {
    let mut found = Vec::new();
    for (name, input) in &workflow.inputs {
        found.extend(has_any(&input.ty).then(|| format!("inputs.{name}")));
    }
    for (name, output) in &workflow.outputs {
        found.extend(has_any(&output.ty).then(|| format!("outputs.{name}")));
    }
    for (id, step) in workflow.all_steps() {
        for output in &step.outputs {
            found.extend(has_any(&output.ty).then(|| format!("steps.{id}.{}", output.name)));
        }
        if let Action::Workflow(sub) = &step.action {
            found.extend(sources_of_any(&sub.definition));
        }
    }
    found
}

#[test]
fn no_value_is_of_unknown_type() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows");
    let mut texts = vec![good::AGENT_SESSION.to_owned(), good::REFRESH_IMAGES.to_owned()];
    for entry in std::fs::read_dir(directory).unwrap() {
        texts.push(std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    assert!(texts.len() >= 4);
    for text in texts {
        assert_eq!(rendered(&text), "");
        let workflow = checked(&text).workflow.unwrap();
        assert_eq!(sources_of_any(&workflow), Vec::<String>::new(), "{}", workflow.name);
    }
}

#[test]
fn values_of_unknown_type_are_found() {
    let text = r#"
harvest: 1
name: w
inputs: { data: json, names: { type: list, items: string } }
steps:
  build:
    for-each: { item: x, in: inputs.data.list, key: x.name }
    steps:
      a: { uses: exec/run, with: { command: [echo, "${{ inputs.names.join(' ') }}", "${{ x.name }}"] } }
outputs:
  first: "${{ inputs.data.first }}"
"#;
    assert_eq!(rendered(text), "");
    let workflow = checked(text).workflow.unwrap();
    assert_eq!(
        sources_of_any(&workflow),
        ["inputs.data", "outputs.first", "steps.build.items", "steps.build.succeeded", "steps.build.failed"]
    );
}
