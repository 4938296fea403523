//! Runs steps: loads components, reads their types, hands them their handles, calls them. The only module that names
//! wasmtime. It never decides what runs when, and never writes the journal.

mod attempt;
mod bindings;
mod budget;
mod cache;
mod catalog;
mod component;
mod context;
mod engine;
mod executor;
mod git;
mod handle;
mod http;
mod images;
mod instance;
mod ledger;
mod output;
mod process;
mod refusals;
mod registry;
mod reveal;
mod run;
mod sandbox_types;
mod sandboxes;
mod stdio;
mod store;
mod streams;
mod types;
mod value;
mod visits;
mod volumes;

pub use budget::Limits;
pub use catalog::Components;
pub use component::{COMPONENT_LIMIT, Library, LoadError};
pub use context::{Providers, RunSetup, Tier};
pub use executor::HostExecutor;
