//! The git capability with real git: local repositories and https, hostile ones, bundles, credentials.

mod bundles;
#[path = "../harness/mod.rs"]
mod harness;
mod hostile;
mod https;
mod local;
mod tree;
mod world;
