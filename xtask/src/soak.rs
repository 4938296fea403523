//! `cargo xtask soak`: random tests with as many cases as patience allows. By hand; never part of the tests.

use crate::{setup, workspace};

/// Runs the random tests of run core and checker optimised, `cases` each. Histories of runs are carried out on all
/// cores; how far they are is printed meanwhile, and at the end what they were like.
pub(crate) fn run(cases: &str) -> Result<(), String> {
    number(cases, "cases")?;
    setup::run()?;
    workspace::cargo()
        .args(["test", "--release", "--package", "harvest", "--lib", "--"])
        .args(["run::simulation", "workflow::check::tests::robust", "--nocapture"])
        // Their numbers are fixed, and told by `cargo test`.
        .args(["--skip", "planted"])
        .with("HARVEST_CASES", cases)
        .run()
}

/// Kills the real binary so many times at random moments, and once at every record of a run.
pub(crate) fn kills(kills: &str) -> Result<(), String> {
    number(kills, "kills")?;
    setup::run()?;
    workspace::cargo()
        .args(["test", "--release", "--package", "harvest", "--test", "kills", "--"])
        .args(["--nocapture", "--test-threads", "1"])
        .with("HARVEST_KILLS", kills)
        .run()
}

/// Kills hosts, launchers and init processes of sandboxes in so many rounds, at random moments and in random order.
pub(crate) fn sandboxes(rounds: &str) -> Result<(), String> {
    number(rounds, "rounds")?;
    setup::run()?;
    workspace::cargo()
        .args(["test", "--release", "--package", "harvest", "--test", "sandbox", "--"])
        .args(["--exact", "survives::nothing_is_left_by_kills_at_any_moment", "--nocapture"])
        .with("HARVEST_SANDBOX_KILLS", rounds)
        .run()
}

fn number(text: &str, what: &str) -> Result<(), String> {
    match text.parse::<u32>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("`{text}` is no number of {what}: write one such as 1000")),
    }
}
