//! `cargo xtask build`: the release binary.

use crate::{setup, workspace};
use std::fs;
use std::path::PathBuf;

/// Builds `target/release/harvest` and returns its path.
pub(crate) fn run() -> Result<PathBuf, String> {
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
