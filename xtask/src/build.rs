//! `cargo xtask build`: the release binary, and what the agent image is made of.

use crate::{setup, workspace};
use std::fs;
use std::path::PathBuf;

/// Builds `target/release/harvest` and returns its path. The agent's CLI is brought in too, where npm can.
pub(crate) fn run() -> Result<PathBuf, String> {
    let binary = binary()?;
    if let Err(error) = agent() {
        eprintln!("note: images/agent.yaml cannot be built yet: {error}");
    }
    Ok(binary)
}

/// Puts the agent's CLI at `target/agent-cli`, where `images/agent.yaml` looks for it.
pub(crate) fn agent() -> Result<(), String> {
    agent_cli::agent_cli()?.link(&workspace::root().join("target").join("agent-cli"))
}

/// Builds `target/release/harvest` and returns its path.
pub(crate) fn binary() -> Result<PathBuf, String> {
    setup::run()?;
    workspace::cargo().args(["build", "--release", "--package", "harvest", "--bin", "harvest"]).run()?;
    let built = workspace::target_directory()?.join("release").join("harvest");
    let promised = workspace::root().join("target").join("release").join("harvest");
    if built != promised {
        // The target directory is elsewhere, but the promise about the binary's place holds.
        let copy = || -> std::io::Result<()> {
            fs::create_dir_all(promised.with_file_name(""))?;
            // A running binary cannot be written to, but it can be replaced.
            let fresh = promised.with_extension("new");
            fs::copy(&built, &fresh)?;
            fs::rename(&fresh, &promised)
        };
        copy()
            .map_err(|error| format!("cannot copy {} to {}: {error}", built.display(), promised.display()))?;
    }
    Ok(promised)
}
