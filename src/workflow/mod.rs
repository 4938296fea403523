//! Workflow files and what they mean. Pure: no clock, no randomness, no I/O.

pub mod model;
pub mod types;

pub use model::Workflow;
