//! A run that is a step of another: begun, or found begun by an attempt that was lost, and driven to its end.

use super::{Ended, Engine, EngineError};
use crate::id::RunId;
use crate::run::{Outcome, Parent, RunError, RunStarted};
use crate::step::{ErrorKind, StepError, StepResult};
use crate::workflow::Workflow;
use crate::workflow::inputs::read_inputs;
use crate::workflow::model::Mock;
use futures_util::future::BoxFuture;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What to run.
pub(super) struct Request {
    /// The same for every attempt that goes on with the same run.
    pub(super) id: RunId,
    pub(super) parent: Parent,
    pub(super) definition: Arc<Workflow>,
    /// As the parent's file names it.
    pub(super) file: String,
    /// The parent's file.
    pub(super) base: String,
    pub(super) inputs: Map<String, Value>,
    pub(super) author: Option<Value>,
    /// Answers that stand in for its steps.
    pub(super) mocks: BTreeMap<String, Vec<Mock>>,
    /// The parent's, and its own then.
    pub(super) provider: String,
    pub(super) timeout: Option<Duration>,
}

/// Runs it to its end. Boxed, since a sub-workflow may have sub-workflows.
pub(super) fn run(
    engine: Engine,
    request: Request,
    cancel: CancellationToken,
) -> BoxFuture<'static, StepResult> {
    Box::pin(async move {
        let (id, timeout) = (request.id.clone(), request.timeout);
        begin(&engine, request).await?;
        let mut driving = std::pin::pin!(engine.drive(&id));
        let expired = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let (stop, note) = tokio::select! {
            ended = &mut driving => return outcome(&id, ended),
            () = cancel.cancelled() => (ErrorKind::CANCELLED, "the run that it is a step of stops"),
            () = expired => (ErrorKind::TIMED_OUT, "it took longer than its timeout"),
        };
        engine.cancel(&id, Some(note.to_owned())).await.map_err(|error| failed(&error))?;
        match driving.await {
            Ok(ended) if ended.state == Outcome::Succeeded => outcome(&id, Ok(ended)),
            Ok(_) => Err(StepError::new(stop, format!("run {id}: {note}"))),
            Err(error) => Err(failed(&error)),
        }
    })
}

async fn begin(engine: &Engine, request: Request) -> Result<(), StepError> {
    let Request { id, parent, definition, file, base, inputs, author, mocks, provider, .. } = request;
    let file = Path::new(&base).parent().unwrap_or(Path::new("")).join(file);
    if let Ok((state, ..)) = engine.replay(&id).await {
        return engine.preparer.prepare(&id, state.started()).await.map(drop);
    }
    let about = json!({ "id": id, "workflow": definition.name, "trigger": "workflow", "author": author });
    let Value::Object(about) = about else { return Ok(()) };
    let inputs: Map<_, _> = inputs.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let inputs = read_inputs(&definition, Vec::new(), Some(inputs), &about).map_err(|errors| {
        let all: Vec<_> = errors.iter().map(ToString::to_string).collect();
        StepError::new(ErrorKind::INVALID, all.join("; "))
    })?;
    let mut started = RunStarted {
        workflow: definition.name.clone(),
        definition,
        source: String::new(),
        file: file.display().to_string(),
        inputs,
        run: about,
        secrets: BTreeSet::new(),
        hashes: BTreeMap::new(),
        mocks,
        injected: BTreeMap::new(),
        parent: Some(parent),
        provider,
        session: None,
    };
    let found = engine.preparer.prepare(&id, &started).await?;
    (started.secrets, started.hashes) = (found.secrets, found.hashes);
    engine.begin(&id, started).await.map_err(|error| failed(&error))
}

fn outcome(id: &RunId, ended: Result<Ended, EngineError>) -> StepResult {
    let ended = ended.map_err(|error| failed(&error))?;
    if ended.state == Outcome::Succeeded {
        return Ok(ended.outputs);
    }
    let Some(RunError { step, error, .. }) = ended.error else {
        return Err(StepError::new(ErrorKind::FAILED, format!("run {id} ended without success")));
    };
    let place = step.map(|step| format!("step `{step}`: ")).unwrap_or_default();
    // What only the other workflow's components can raise is, to this one, a failed run.
    let kind = match error.kind {
        kind if ErrorKind::HOST.contains(&kind) || kind == ErrorKind::REJECTED => kind,
        _ => ErrorKind::FAILED,
    };
    Err(StepError::new(kind, format!("run {id}: {place}{}", error.message)))
}

fn failed(error: &EngineError) -> StepError {
    StepError::new(ErrorKind::UNAVAILABLE, error.to_string())
}
