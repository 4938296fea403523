//! `cargo xtask soak`: the random tests with as many cases as patience allows. By hand; never part of the tests.

use crate::{setup, workspace};

/// Runs them optimised, `cases` each.
pub(crate) fn run(cases: &str) -> Result<(), String> {
    if cases.parse::<u32>().is_err() {
        return Err(format!("`{cases}` is no number of cases: write `cargo xtask soak 100000`"));
    }
    setup::run()?;
    workspace::cargo()
        .args(["test", "--release", "--package", "harvest", "--lib", "--"])
        .args(["run::simulation", "workflow::check::tests::robust", "--nocapture"])
        .with("HARVEST_CASES", cases)
        .run()
}
