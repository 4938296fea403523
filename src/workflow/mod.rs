//! Workflow files and what they mean. Pure: no clock, no randomness, no I/O.

pub mod cel;
pub mod model;
pub mod template;
pub mod types;

pub use model::Workflow;
