//! A run as a pure state machine: fold events in, read commands out. No I/O, no clock, no randomness, no async: time
//! is a field of an event.

mod command;
mod evaluate;
pub mod event;
pub mod exit_code;
mod loops;
mod phase;
mod plan;
pub(crate) mod planted;
mod retry;
#[cfg(test)]
mod simulation;
mod spending;
mod stand_in;
mod state;
mod transition;
mod upgrade;
mod verdict;
mod view;

pub use crate::step::Spent;
pub use evaluate::{Membership, Reuse};
pub use event::{
    Command, Event, Fate, Finish, LOCAL, LoopItem, Outcome, Parent, PartOf, RunError, RunStarted,
    RunUpgraded, Timer, Verdict, Version,
};
pub use loops::{ITEMS_MAX, Item};
pub use phase::{Attempt, Phase, StepState};
pub use plan::Expected;
pub use state::{Illegal, Run};
pub use upgrade::{Terms, Upgrade};
