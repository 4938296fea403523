//! Build, demo and test commands of the project: `cargo xtask <command>`.

fn main() {}
