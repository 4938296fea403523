//! A run as a pure state machine: fold events in, read commands out. No I/O, no clock, no randomness, no async: time
//! is a field of an event.

mod command;
pub mod event;
pub mod exit_code;
mod retry;
#[cfg(test)]
mod simulation;
mod state;

pub use event::{Command, Event, Finish, Outcome, RunError, RunStarted, Timer};
pub use state::{Attempt, Illegal, Phase, Run, StepState};
