//! harvest: a WebAssembly-hosted workflow engine.
//!
//! # Reading order
//! [`workflow`] (a file, checked) -> [`run`] (events to state, state to commands) -> [`journal`] (events on disk) ->
//! [`engine`] (carries commands out) -> [`step`] (what the engine asks for) -> [`host`] (calls a component) ->
//! [`capability`] (what a component can reach). [`app`] puts them together; [`cli`] is the edge, [`server`] what
//! it answers over HTTP, [`lsp`] what editors talk to.
//!
//! # The path of one run
//! `harvest run FILE` checks the file against the types inside its components, appends `RunStarted`, and then only
//! follows [`run::Run::commands`]: start a step, journal what became of it, look again. Nothing changes a run but an
//! event, so a restart reads the journal, appends `HostLost`, and goes on along the same path.
//!
//! # What does not happen here
//! `workflow` and `run` read no clock, draw no randomness and do no I/O. Only `host` names wasmtime. Only `app` knows
//! both the engine and the host. `tests/layers.rs` holds this.

pub mod app;
pub mod bell;
pub mod capability;
pub mod cli;
pub mod config;
pub mod engine;
pub mod host;
pub mod id;
pub mod isolation;
pub mod journal;
pub mod lsp;
pub mod network;
pub mod run;
pub mod server;
pub mod step;
pub mod workflow;
