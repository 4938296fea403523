//! A Messages API on loopback that answers from a script, so that the real Claude Code CLI can be driven through its
//! real tools without a model. Test support and demo only: the harvest binary must never contain it.
//!
//! ```no_run
//! use scripted_api::{Block, Reply, Script, Server};
//! use serde_json::json;
//!
//! let server = Server::start(Script::turns([
//!     Reply::tool("Read", json!({ "file_path": "/workspace/app/sum.py" })),
//!     Reply::blocks([Block::text("Now the fix. "), Block::tool("Bash", json!({ "command": "make test" }))]),
//!     Reply::text("Done."),
//! ]))?;
//! let base_url = server.url(); // for ANTHROPIC_BASE_URL
//! assert!(server.requests().iter().all(|request| request.method == "POST"));
//! # std::io::Result::Ok(())
//! ```

mod record;
mod reply;
mod scenario;
mod script;
mod server;
mod wire;

pub use record::Recorded;
pub use reply::{Block, Reply, Stop, Usage};
pub use scenario::{SCENARIOS, scenario};
pub use script::{Script, Turn};
pub use server::Server;
