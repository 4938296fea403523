//! The workflows that sessions consist of. They are part of harvest, and lie in `workflows/` for people to read.

use super::record::Session;
use crate::app::{App, AppError, Prepared, StartRequest};
use crate::id::RunId;
use crate::run::PartOf;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// A workflow that is part of harvest.
pub(super) struct Shipped {
    /// Its name.
    pub(super) name: &'static str,
    text: &'static str,
}

macro_rules! shipped {
    ($name:literal) => {
        Shipped { name: $name, text: include_str!(concat!("../../../workflows/", $name, ".yaml")) }
    };
}

/// Clones the repository and mounts its memory.
pub(super) static START: Shipped = shipped!("session-start");
/// Gives one prompt and commits what came of it.
pub(super) static PROMPT: Shipped = shipped!("session-prompt");
/// Saves what is not kept yet.
pub(super) static STOP: Shipped = shipped!("session-stop");

/// The sandbox of these workflows.
pub(super) const SANDBOX: &str = "box";

/// The group of a session's runs, as the workflows write it.
pub(super) fn group(session: &str) -> String {
    format!("session/{session}")
}

impl App {
    /// A run of a session that is good to begin. The first one gives the session its name among git's refs.
    pub(super) async fn prepare_part(
        &self,
        workflow: &'static Shipped,
        session: &Session,
        more: &[(&str, Value)],
    ) -> Result<Prepared, AppError> {
        let mut inputs = Map::new();
        inputs.insert("session".into(), json!(session.id));
        inputs.insert("image".into(), json!(session.wishes.image));
        inputs.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut prepared = self.prepare_shipped(workflow, inputs).await?;
        prepared.started.session = Some(PartOf { id: session.id.clone(), first: session.first.clone() });
        Ok(prepared)
    }

    /// The first run of a session that has no other yet; the session is named after it.
    pub(super) async fn prepare_first(
        &self,
        id: &str,
        inputs: Map<String, Value>,
    ) -> Result<(Prepared, RunId), AppError> {
        let mut prepared = self.prepare_shipped(&START, inputs).await?;
        let first = prepared.run.clone();
        prepared.started.session = Some(PartOf { id: id.to_owned(), first: first.clone() });
        Ok((prepared, first))
    }

    async fn prepare_shipped(
        &self,
        workflow: &'static Shipped,
        inputs: Map<String, Value>,
    ) -> Result<Prepared, AppError> {
        let request = StartRequest {
            file: PathBuf::from(format!("{}.yaml", workflow.name)),
            text: Some(workflow.text),
            inputs: Vec::new(),
            json: Some(inputs),
            mocks: None,
            inject: Vec::new(),
            trigger: "session".into(),
            provider: crate::run::LOCAL.into(),
        };
        self.prepare(&request).await
    }
}
