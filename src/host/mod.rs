//! Runs steps: loads components, reads their types, hands them their handles, calls them. The only module that names
//! wasmtime. It never decides what runs when, and never writes the journal.

mod cache;
mod catalog;
mod component;
mod engine;
mod types;
mod value;

pub use catalog::Components;
pub use component::{COMPONENT_LIMIT, Library, LoadError};
