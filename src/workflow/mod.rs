//! Workflow files and what they mean. Pure: no clock, no randomness, no I/O.

pub mod cel;
pub mod check;
pub mod code;
pub mod data;
pub mod diagnostic;
pub(crate) mod doc;
pub mod explain;
pub mod fault;
pub(crate) mod file;
pub mod fix;
#[cfg(test)]
pub(crate) mod fixture;
pub mod graph;
pub mod inputs;
pub(crate) mod literal;
pub mod model;
pub mod sarif;
pub mod schema;
pub(crate) mod sketch;
pub(crate) mod suggest;
pub mod template;
pub mod types;

pub use check::{Checked, check};
pub use inputs::read_inputs;
pub use model::Workflow;
pub use template::{condition, evaluate};
