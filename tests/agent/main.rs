//! Agent sessions from end to end: the real binary, the real sandbox, real git and the real Claude Code CLI, against a
//! scripted Messages API.

mod api;
mod doctor;
mod edited;
mod faults;
#[path = "../harness/mod.rs"]
mod harness;
mod killed;
mod money;
mod servers;
mod session;
mod sessions;
mod stops;
mod told;
mod workflows;
mod world;
