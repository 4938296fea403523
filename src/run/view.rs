//! What expressions see of a step: its outputs beside `state`, `attempts` and `error`. Derived, and kept so that it need
//! not be rebuilt for each expression.

use super::phase::{Phase, StepState};
use crate::id::StepId;
use serde_json::{Map, Value, json};

/// Brings the view of one step up to date. Outputs are those it has now, where they are new; a step that succeeded
/// keeps its own.
pub(super) fn show(
    view: &mut Map<String, Value>,
    id: &StepId,
    state: &StepState,
    outputs: Option<&Map<String, Value>>,
) {
    let known = match (outputs, &state.phase) {
        (Some(outputs), _) => outputs.clone(),
        (None, Phase::Succeeded) => {
            view.get(id.as_str()).and_then(Value::as_object).cloned().unwrap_or_default()
        }
        (None, _) => Map::new(),
    };
    let mut fields = known;
    fields.insert("state".into(), state.phase.as_str().into());
    fields.insert("attempts".into(), state.attempts.len().into());
    if let Some(error) = state.attempts.last().and_then(|attempt| attempt.error.as_ref()) {
        fields.insert("error".into(), json!({ "kind": error.kind, "message": error.message }));
    }
    view.insert(id.as_str().to_owned(), Value::Object(fields));
}
