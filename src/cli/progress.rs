//! The live view of a run on stderr: one line a step on a terminal, plain lines elsewhere.

use super::Talk;
use super::lines::Lines;
use crate::capability::stream::{Content, StreamEntry};
use crate::engine::Ended;
use crate::id::{RunId, StepRef};
use crate::run::{Event, Outcome};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// Characters of a line shown beside a step.
const BESIDE_MAX: usize = 100;

pub(super) struct Progress {
    talk: Talk,
    silent: bool,
    bars: MultiProgress,
    run: RunId,
    running: HashMap<StepRef, (ProgressBar, i64)>,
    lines: Lines,
}

impl Progress {
    pub(super) fn new(run: RunId, talk: Talk, json: bool) -> Self {
        let silent = json || talk.quiet;
        let live = talk.terminal && !silent;
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        Self { talk, silent, bars, run, running: HashMap::new(), lines: Lines::default() }
    }

    pub(super) fn begin(&mut self) {
        self.say(&format!("run {}", self.run));
    }

    /// Shows what was journalled.
    pub(super) fn event(&mut self, at_ms: i64, event: &Event) {
        match event {
            Event::RunQueued { group } => self.say(&format!("  waits for its place in the group {group}")),
            Event::StepQueued { at, group, .. } => {
                self.line(at, "queued", &format!("for its place in the group {group}"));
            }
            Event::StepStarted { at, attempt, .. } => self.started(at, *attempt, at_ms),
            Event::StepSucceeded { at, .. } => self.ended(at, at_ms, "ok", ""),
            Event::StepReused { at, source, .. } => {
                self.line(at, "kept", &format!("outputs of run {source}"))
            }
            Event::StepFailed { at, error, .. } => self.ended(at, at_ms, "failed", &error.to_string()),
            Event::StepSkipped { at, reason } => self.line(at, "skipped", reason),
            Event::LoopStarted { step, items } => {
                self.running.remove(&step.clone().into());
                self.line(&step.clone().into(), "items", &items.len().to_string());
            }
            Event::ApprovalRequested { at, message } => {
                self.running.remove(at);
                self.line(at, "asks", message);
                let run = &self.run;
                self.say(&format!(
                    "  answer with `harvest approve {run} '{at}'` or `harvest reject {run} '{at}'`"
                ));
            }
            Event::ApprovalGiven { at, approved, note, .. } => {
                let how = if *approved { "approved" } else { "rejected" };
                self.line(at, how, note.as_deref().unwrap_or(""));
            }
            Event::RunRetried { .. } => self.say("  goes on with what has not succeeded"),
            Event::RunUpgraded(upgrade) => {
                let file = &upgrade.version.file;
                self.say(&format!("  upgraded: goes on with {file}"));
            }
            Event::CancelRequested { note } => {
                self.say(&format!("  cancelling: {}", note.as_deref().unwrap_or("on request")));
            }
            Event::HostLost => {
                self.running.clear();
                self.say("  resumed after the process that ran it ended");
            }
            Event::RunStarted(_)
            | Event::RunAdmitted
            | Event::StepSpent { .. }
            | Event::RunRefused { .. }
            | Event::TimerElapsed { .. }
            | Event::RunFinished { .. } => {}
        }
    }

    /// Shows what a step said: the last line beside it on a terminal, every line elsewhere.
    pub(super) fn said(&mut self, entry: &StreamEntry) {
        // Events without words are for programs; `harvest logs` has them.
        if let Content::Data(data) = &entry.content
            && words(data).is_none()
        {
            return;
        }
        if let (true, Some((bar, _))) = (self.talk.terminal, self.running.get(&entry.who)) {
            let last = match &entry.content {
                Content::Text(text) => Some(text.as_str()),
                Content::Data(data) => words(data),
            };
            if let Some(last) =
                last.into_iter().flat_map(|text| text.lines().rev()).find(|line| !line.trim().is_empty())
            {
                bar.set_message(printable(last).chars().take(BESIDE_MAX).collect::<String>());
            }
            if self.talk.verbose == 0 {
                return;
            }
        }
        for line in self.lines.take(entry) {
            self.speaks(&entry.who, &line);
        }
    }

    fn speaks(&self, who: &StepRef, line: &str) {
        self.say(&format!("  {:<16} | {line}", who.to_string()));
    }

    /// Shows what steps have said without an end of line.
    fn end_lines(&mut self, step: Option<&StepRef>) {
        for (who, line) in self.lines.end(step) {
            self.speaks(&who, &line);
        }
    }

    /// Takes the live lines away.
    pub(super) fn end(&mut self) {
        self.end_lines(None);
        self.running.clear();
        let _ = self.bars.clear();
    }

    /// The last words: how it ended, why, and how to get at what it made.
    pub(super) fn closing(&self, run: &RunId, ended: &Ended, fetch: &[String]) {
        if let Some(error) = &ended.error {
            let step = error.step.as_ref().map_or_else(String::new, |step| format!("step `{step}`: "));
            self.say(&format!("{} because {step}{}", ended.state.as_str().replace('_', " "), error.error));
        }
        for line in fetch {
            self.say(line);
        }
        if ended.state != Outcome::Succeeded {
            self.say(&format!("see `harvest show {run}` and `harvest logs {run}`"));
        }
    }

    fn started(&mut self, at: &StepRef, attempt: u32, at_ms: i64) {
        let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
        if !self.talk.terminal {
            self.line(at, &format!("started{again}"), "");
        }
        let bar = self.bars.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("  {prefix:<16} {spinner} {elapsed:>4}  {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(format!("{at}{again}"));
        if self.talk.terminal && !self.silent {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        self.running.insert(at.clone(), (bar, at_ms));
    }

    fn line(&self, at: &StepRef, how: &str, what: &str) {
        self.say(format!("  {:<16} {how:<8} {what}", at.to_string()).trim_end());
    }

    fn ended(&mut self, at: &StepRef, at_ms: i64, how: &str, why: &str) {
        self.end_lines(Some(at));
        let took = self.running.remove(at).map_or(0, |(bar, since)| {
            bar.finish_and_clear();
            at_ms - since
        });
        self.line(at, how, &format!("{:>7}  {why}", seconds(took)));
    }

    /// Says a line above the live ones.
    pub(super) fn say(&self, line: &str) {
        if !self.silent {
            let line = printable(line);
            self.bars.suspend(|| eprintln!("{line}"));
        }
    }
}

/// What an event has to say to people.
pub(super) fn words(data: &Value) -> Option<&str> {
    ["text", "message"].iter().find_map(|name| data.get(name)?.as_str())
}

/// Text without the control characters that could repaint the terminal of whoever looks.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

/// A duration in words that fit a column.
pub(super) fn seconds(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{} ms", ms.max(0)),
        1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{}m {:02}s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{}h {:02}m", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// A value as people read it: text as it is, the rest as JSON.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}
