//! The step `claude/run`: one prompt to the Claude Code CLI in a sandbox, as a state machine over its event stream.
//!
//! [`session`] starts the CLI and follows it, [`command`] says how it is called, [`limits`] what the agent is told of its
//! limits, [`machine`] what is due when nothing happens, [`transcript`] reads what the CLI prints, [`told`] is what of it is
//! told, [`outcome`] decides what became of it, [`mcp`] knows the MCP servers, [`conversation`] keeps what was said. A new
//! version of the CLI that prints something else is met here, by a new component; the host knows nothing of it.
#![allow(missing_docs)] // The bindings' own items have none.

pub mod command;
mod conversation;
pub mod limits;
pub mod machine;
pub mod mcp;
pub mod outcome;
pub mod pieces;
mod repository;
mod session;
pub mod told;
pub mod transcript;

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/git", "../../wit/run", "../../wit/streams", "wit"],
    world: "harvest:claude-steps/claude",
    generate_all,
});

struct Steps;

export!(Steps);
