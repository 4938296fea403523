//! A server that speaks Modal's API on loopback and does what it is asked, with this machine's own sandboxes: commands
//! run, images are root file systems, volumes are mounted. For tests alone, and judged by Modal's own Python client
//! (`tests/modal`): it is no Modal, and must never listen anywhere but on loopback.
//!
//! # What it does not do
//! - Sandboxes of the first generation, GPUs, snapshots of directories, blocks of more than one address, encrypted tunnels, pulls from registries,
//!   files of the context of an image beyond those that come with its definition.
//! - A sandbox with an open network has this machine's own, loopback included.
//! - Writes to a volume are committed by a command line that says `sync`; what a script of its own syncs is not seen.
//! - A command has ended once its streams have: a daemon that goes on writing to them hides its end.
//! - Output is kept up to 128 MiB a stream. Where older bytes are asked for, OUT_OF_RANGE is the answer for commands.
//!
//! What Modal answers to a command that cannot be started is not known; here it is what the provider says: NOT_FOUND,
//! PERMISSION_DENIED or INVALID_ARGUMENT.
//!
//! ```no_run
//! use modal_server::Server;
//!
//! let server = Server::builder("/tmp/modal", "target/debug/harvest")
//!     .token("ak-test", "as-test")
//!     .image("debian:bookworm-slim", "host")
//!     .secret("github", [("GITHUB_TOKEN", "t0ps3cret")])
//!     .start()?;
//! let url = server.url(); // for MODAL_SERVER_URL
//! server.faults().throttle("SandboxCreateV2", 3, 0.1);
//! assert!(server.requests().iter().all(|request| request.rpc != "SandboxCreate"));
//! # std::io::Result::Ok(())
//! ```

mod account;
mod cloud;
mod connection;
mod control;
mod edge;
mod error;
mod exec;
mod fault;
mod fs_tools;
mod image;
mod output;
mod record;
mod router;
mod sandbox;
mod sandboxes;
mod server;
mod token;
mod volume;

pub use fault::Faults;
pub use record::Recorded;
pub use server::{Builder, Server};
pub use tonic::Code;

/// Messages and services of Modal's API.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]
pub(crate) mod proto {
    pub(crate) mod client {
        tonic::include_proto!("modal.client");
    }
    pub(crate) mod task_command_router {
        tonic::include_proto!("modal.task_command_router");
    }
    /// All of them, described.
    pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
