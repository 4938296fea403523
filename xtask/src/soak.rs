//! `cargo xtask soak`: random tests with as many cases as patience allows. By hand; never part of the tests.

use crate::{setup, workspace};

/// Runs the job that the first word names, else that of run core and checker, as often as the last word says.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let named = JOBS.iter().find(|job| job.name.is_some() && job.name == words.first().copied());
    let (job, words) = named.map_or((&JOBS[0], words), |job| (job, &words[1..]));
    match words {
        [] => job.run(job.usual),
        [number] => number
            .parse()
            .map_err(|_| {
                format!("`{number}` is no number of {}: write one such as {}", job.counts, job.usual)
            })
            .and_then(|number| job.run(number)),
        _ => Err("`soak` takes one number".into()),
    }
}

/// A test that takes a number.
struct Job {
    /// The word behind `soak`; the job without one is that of the run core.
    name: Option<&'static str>,
    /// How many, where nobody says.
    usual: u32,
    /// What is counted.
    counts: &'static str,
    /// Which tests of the package they are.
    target: &'static [&'static str],
    /// Arguments of the tests themselves.
    arguments: &'static [&'static str],
    /// The variable that takes the number to the tests.
    variable: &'static str,
}

/// All of them.
const JOBS: [Job; 3] = [
    // Histories of runs are carried out on all cores; how far they are is printed meanwhile, and at the end what they were
    // like. The numbers of the planted bugs are fixed, and told by `cargo test`.
    Job {
        name: None,
        usual: 1_000_000,
        counts: "cases",
        target: &["--lib"],
        arguments: &["run::simulation", "workflow::check::tests::robust", "--skip", "planted"],
        variable: "HARVEST_CASES",
    },
    // The real binary at random moments, and once at every record of a run.
    Job {
        name: Some("kills"),
        usual: 200,
        counts: "kills",
        target: &["--test", "kills"],
        arguments: &["--test-threads", "1"],
        variable: "HARVEST_KILLS",
    },
    // Hosts, fork servers, launchers and init processes of sandboxes, at random moments and in random order.
    Job {
        name: Some("sandboxes"),
        usual: 500,
        counts: "rounds",
        target: &["--test", "sandbox"],
        arguments: &["--exact", "survives::nothing_is_left_by_kills_at_any_moment"],
        variable: "HARVEST_SANDBOX_KILLS",
    },
];

impl Job {
    /// Runs its tests optimised, so many times.
    fn run(&self, number: u32) -> Result<(), String> {
        setup::run()?;
        workspace::cargo()
            .args(["test", "--release", "--package", "harvest"])
            .args(self.target)
            .args(["--", "--nocapture"])
            .args(self.arguments)
            .with(self.variable, number.to_string())
            .run()
    }
}
