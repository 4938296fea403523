//! What `git/commit`, `git/snapshot` and `git/push` promise: no commit of anyone is ever lost. The real component and
//! real git, in trees without walls, so that hundreds of steps take seconds.

#[path = "../harness/repository.rs"]
mod repository;
#[path = "../git/tree.rs"]
mod tree;

mod examples;
mod property;
mod session;
mod world;
