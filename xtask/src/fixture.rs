//! `cargo xtask fixture NAME [BINARY]`: a journal with a run of every kind, made by the real binary, for the test that
//! replays journals of earlier versions (`tests/journals.rs`).
//!
//! Made once at each release, and never again: what is there is what people have on their disks.

use crate::{build, workspace};
use serde_json::{Map, Value};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// Writes `tests/fixtures/journals/NAME`: the journal, and what `harvest show --json` says of each of its runs.
pub(crate) fn run(name: &str, binary: Option<&str>) -> Result<(), String> {
    let binary = match binary {
        Some(binary) => std::path::absolute(binary).map_err(|error| format!("{binary}: {error}"))?,
        None => build::binary()?,
    };
    let fixtures = workspace::root().join("tests/fixtures/journals");
    let target = fixtures.join(name);
    if target.exists() {
        return Err(format!("{} is there already: a fixture is never made again", target.display()));
    }
    // A place of its own: its path stands in the journal.
    let place = std::env::temp_dir().join("harvest-fixture");
    let io = |error: std::io::Error| format!("cannot make the fixture: {error}");
    if place.exists() {
        fs::remove_dir_all(&place).map_err(io)?;
    }
    fs::create_dir_all(&place).map_err(io)?;
    for file in fs::read_dir(fixtures.join("workflows")).map_err(io)? {
        let file = file.map_err(io)?;
        fs::copy(file.path(), place.join(file.file_name())).map_err(io)?;
    }
    let maker = Maker { binary, home: place.join("home"), place: place.clone() };
    maker.runs()?;
    let shown = maker.shown()?;
    fs::create_dir_all(&target).map_err(io)?;
    fs::copy(maker.home.join("journal.db"), target.join("journal.db")).map_err(io)?;
    let text = serde_json::to_string_pretty(&shown).map_err(|error| error.to_string())? + "\n";
    fs::write(target.join("show.json"), text).map_err(io)?;
    fs::remove_dir_all(&place).map_err(io)?;
    eprintln!("{} runs in {}", shown.len(), target.display());
    Ok(())
}

struct Maker {
    binary: PathBuf,
    home: PathBuf,
    place: PathBuf,
}

impl Maker {
    /// One run after the other; each adds kinds of events that those before it do not have.
    fn runs(&self) -> Result<(), String> {
        // A loop, sub-workflows, a failure that does not matter, an approval, outputs kept.
        let mut asking = self.start(&["all.yaml"])?;
        let asked = asking.until("approval_requested")?;
        self.harvest(&["approve", &run_of(&asked), "review", "--note", "looked at it"])?;
        asking.until("run_finished")?;
        // The same outputs again, and a step that is skipped.
        self.start(&["all.yaml", "-i", "ask=false"])?.until("run_finished")?;
        // A rejected approval.
        let mut asking = self.start(&["all.yaml"])?;
        let asked = asking.until("approval_requested")?;
        self.harvest(&["reject", &run_of(&asked), "review", "--note", "not yet"])?;
        asking.until("run_finished")?;
        // Attempts, a failure, and a run that is retried.
        let failed = self.start(&["retry.yaml"])?.until("run_finished")?;
        self.harvest(&["retry", &run_of(&failed), "--note", "once more"])?;
        // One that stays failed, and one with answers in place of steps.
        self.start(&["retry.yaml"])?.until("run_finished")?;
        self.start(&["retry.yaml", "--mock", "answers.yaml"])?.until("run_finished")?;
        // A run and a step that take too long.
        self.start(&["slow.yaml"])?.until("run_finished")?;
        let mut running = self.start(&["wait.yaml"])?;
        let event = running.until("step_failed")?;
        self.harvest(&["cancel", &run_of(&event), "--note", "not today"])?;
        running.until("run_finished")?;
        // A host that was killed.
        let mut running = self.start(&["wait.yaml"])?;
        running.until("step_failed")?;
        drop(running);
        self.harvest(&["resume"])?;
        // Groups: one that holds its places, one that waits, one that is refused, a step that waits for too long.
        let mut first = self.start(&["hold.yaml"])?;
        let held = first.until("step_started")?;
        let mut second = self.start(&["queued.yaml"])?;
        second.until("run_queued")?;
        self.start(&["refused.yaml"])?.until("run_finished")?;
        self.start(&["place.yaml"])?.until("run_finished")?;
        self.harvest(&["cancel", &run_of(&held)])?;
        first.until("run_finished")?;
        second.until("run_finished")?;
        // A time-out that answers, and a question that nobody has answered: this run is unfinished.
        let mut asking = self.start(&["ask.yaml"])?;
        asking.until("approval_requested")?;
        asking.until("approval_requested")?;
        Ok(())
    }

    /// What every run looks like, oldest first.
    fn shown(&self) -> Result<Map<String, Value>, String> {
        let read = |text: String| {
            serde_json::from_str::<Value>(&text).map_err(|error| format!("no JSON ({error}): {text}"))
        };
        let rows = read(self.harvest(&["runs", "--json"])?)?;
        let mut shown = Map::new();
        for row in rows.as_array().into_iter().flatten().rev() {
            let run = run_of(row);
            shown.insert(run.clone(), read(self.harvest(&["show", &run, "--json"])?)?);
        }
        Ok(shown)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.place).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        // Nobody's name goes into the fixture.
        command.env("HARVEST_HOME", &self.home).env("HOME", &self.place).env("GIT_CONFIG_NOSYSTEM", "1");
        command
    }

    /// Runs it to its end and returns what it printed, whatever it exits with.
    fn harvest(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output();
        let output = output.map_err(|error| format!("cannot run {}: {error}", self.binary.display()))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn start(&self, arguments: &[&str]) -> Result<Running, String> {
        let mut child = self
            .command(&["run", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", self.binary.display()))?;
        let lines = child.stdout.take().ok_or("a pipe is missing")?;
        Ok(Running { child, lines: BufReader::new(lines), what: arguments.join(" ") })
    }
}

/// A run in the foreground of another process, which ends with this.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    what: String,
}

impl Running {
    /// Reads events up to the first of this type.
    fn until(&mut self, kind: &str) -> Result<Value, String> {
        let mut line = String::new();
        while self.lines.read_line(&mut line).is_ok_and(|read| read > 0) {
            let event: Value = serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))?;
            if event["type"] == kind {
                if kind == "run_finished" {
                    // The process still has its lease and its sandboxes to put away.
                    self.child.wait().map_err(|error| error.to_string())?;
                }
                return Ok(event);
            }
            line.clear();
        }
        Err(format!("`{}` ended without {kind}", self.what))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run_of(value: &Value) -> String {
    value["run"].as_str().unwrap_or_default().to_owned()
}
