//! A thin client of Modal: its control plane and the routers of its workers, over gRPC as Modal's own clients speak it.
//!
//! [`Client`] makes calls: headers, retries, throttling and deadlines are here and nowhere else. [`Router`] is the worker
//! that a sandbox runs on. Knows nothing of sandboxes as harvest has them; `capability/sandbox/modal` does.

mod blocks;
mod calls;
mod channel;
mod client;
mod clock;
mod ending;
mod fault;
mod key;
pub mod messages;
mod output;
mod retry;
mod router;
#[cfg(test)]
mod scripted;
mod settings;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use blocks::BLOCK;
pub use client::Client;
pub(crate) use client::Options;
pub use clock::Clock;
pub(crate) use ending::{Ended, Ending, poll};
pub(crate) use fault::Fault;
pub(crate) use key::Key;
pub(crate) use output::{Output, Source};
pub(crate) use router::Router;
pub use settings::{Identity, Settings};
