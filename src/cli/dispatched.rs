//! What people and programs see of runs that are driven side by side: a line for what matters of each.

use super::{Failure, Talk, print_json};
use crate::app::{App, AppError};
use crate::engine::Ended;
use crate::engine::dispatcher::News;
use crate::id::{RunId, StepRef};
use crate::run::Event;
use jiff::Timestamp;

/// Files that this process may have open where the machine allows it: each run holds some, also one that waits.
const FILES_MAX: u64 = 1 << 18;

/// Shows news as they come.
pub(super) struct Report<'app> {
    app: &'app App,
    json: bool,
    talk: Talk,
    /// The worst exit code so far.
    pub(super) worst: u8,
}

impl<'app> Report<'app> {
    pub(super) fn new(app: &'app App, json: bool, talk: Talk) -> Self {
        Self { app, json, talk, worst: 0 }
    }

    /// Shows one, and does what is due after the end of a run.
    pub(super) async fn show(&mut self, news: News) -> Result<(), Failure> {
        match news {
            News::Begins { run, workflow, seq, questions } => {
                let how = if seq == 1 { "begins" } else { "goes on" };
                self.say(|| format!("run {run} ({workflow}) {how}"));
                if self.json {
                    for (number, at_ms, event) in self.app.engine().events(&run, 0).await? {
                        if number <= seq {
                            print_json(&super::events::as_json(&run, number, at_ms, &event))?;
                        }
                    }
                }
                for (at, message) in &questions {
                    self.ask(&run, at, message);
                }
            }
            News::Event { run, seq, at_ms, event } => {
                if self.json {
                    print_json(&super::events::as_json(&run, seq, at_ms, &event))?;
                } else if let Event::ApprovalRequested { at, message } = &*event {
                    self.ask(&run, at, message);
                }
            }
            News::Ended { run, ended, clean } => self.end(&run, &ended, clean).await,
            News::Stuck { run, error, again } => {
                let workflow = self.workflow(&run).await;
                let again = again.map(|at| format!("; tried again {}", hour(at))).unwrap_or_default();
                let error = AppError::from(error);
                eprintln!("run {run} ({workflow}) cannot go on: {error}{again}");
                self.worst = self.worst.max(error.exit_code());
            }
        }
        Ok(())
    }

    async fn end(&mut self, run: &RunId, ended: &Ended, clean: bool) {
        self.worst = self.worst.max(ended.exit_code);
        let workflow = self.workflow(run).await;
        self.say(|| {
            let why = ended.error.as_ref().map(|error| format!(": {}", error.error)).unwrap_or_default();
            format!("run {run} ({workflow}) {}{why}", ended.state.as_str().replace('_', " "))
        });
        if !clean && let Err(error) = self.app.prune_sandboxes().await {
            tracing::warn!("files of ended runs were not removed: {error}");
        }
        self.app.settle(run).await;
        self.app.retain(run).await;
    }

    /// The name of a run's workflow. Runs wait in thousands, so it is not kept for each.
    async fn workflow(&self, run: &RunId) -> String {
        let row = self.app.journal().row(run).await;
        row.ok().flatten().map(|row| row.workflow).unwrap_or_else(|| "unknown".into())
    }

    fn ask(&self, run: &RunId, at: &StepRef, message: &str) {
        self.say(|| format!("run {run} asks: {message}: `harvest approve {run} '{at}'`, or reject"));
    }

    fn say(&self, line: impl FnOnce() -> String) {
        if !self.json && !self.talk.quiet {
            eprintln!("{}", line());
        }
    }
}

/// A time of today, as the operator's clock shows it.
fn hour(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("at %H:%M:%S").to_string()
}

/// Gets this process ready for very many runs.
pub(super) fn make_room() {
    more_files();
    few_arenas();
}

/// Keeps threads to a few heaps between them. By default each gets its own, and none gives back what it needed once:
/// megabytes a thread in a process that mostly waits.
fn few_arenas() {
    #[cfg(target_env = "gnu")]
    {
        const ARENAS: libc::c_int = 2;
        // SAFETY: it sets a number of the allocator's, which is made for being set at any time.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
    }
}

/// Asks for as many open files as the machine allows this process, within reason.
fn more_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(FILES_MAX, |maximum| maximum.min(FILES_MAX));
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        // Without more, fewer runs go on at once; each says so itself.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
