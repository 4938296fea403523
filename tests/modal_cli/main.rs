//! `--provider modal` at the edge: the real binary, and a server that speaks Modal's API over this machine's own sandboxes.

mod doctor;
#[path = "../harness/mod.rs"]
mod harness;
mod image;
mod nobody;
mod refused;
mod secrets;
mod served;
mod session;
mod volumes;
