//! Where things are in this clone.

use crate::program::Program;
use std::env;
use std::path::PathBuf;

/// The root of the clone.
pub(crate) fn root() -> PathBuf {
    // `cargo run` sets the variable; the constant serves a binary that is started by hand.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(manifest);
    root.pop();
    root
}

/// Cargo's target directory, wherever environment or configuration put it.
pub(crate) fn target_directory() -> Result<PathBuf, String> {
    let metadata = cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output()?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)
        .map_err(|error| format!("cannot read the output of cargo metadata: {error}"))?;
    let directory = metadata["target_directory"].as_str();
    directory.map(PathBuf::from).ok_or_else(|| "cargo metadata names no target directory".to_owned())
}

/// Cargo, started at the root.
pub(crate) fn cargo() -> Program {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // What `cargo run` told this program about itself is not meant for the next cargo.
    let mut program = Program::new(cargo).directory(root());
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            program = program.without(&name);
        }
    }
    program
}
