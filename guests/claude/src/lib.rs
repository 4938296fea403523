//! The step `claude/run`: one prompt to the Claude Code CLI in a sandbox, as a state machine over its event stream.
//!
//! [`session`] starts the CLI and follows it, [`command`] says how it is called, [`transcript`] reads what it prints,
//! [`outcome`] decides what became of it, [`mcp`] knows the MCP servers. A new version of the CLI that prints something
//! else is met here, by a new component; the host knows nothing of it.
#![allow(missing_docs)] // The bindings' own items have none.

pub mod command;
pub mod mcp;
pub mod outcome;
mod repository;
mod session;
pub mod transcript;

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/git", "../../wit/run", "../../wit/streams", "wit"],
    world: "harvest:claude-steps/claude",
    generate_all,
});

struct Steps;

export!(Steps);
