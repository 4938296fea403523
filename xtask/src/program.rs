//! Other programs: started, waited for, and their failures told in one line.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// A program to run.
pub(crate) struct Program(Command);

impl Program {
    pub(crate) fn new(name: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(name);
        command.stdin(Stdio::null());
        Self(command)
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.0.current_dir(directory);
        self
    }

    pub(crate) fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    pub(crate) fn without(mut self, name: impl AsRef<OsStr>) -> Self {
        self.0.env_remove(name);
        self
    }

    /// Runs it with its output on this terminal.
    pub(crate) fn run(mut self) -> Result<(), String> {
        let status = self.0.status().map_err(|error| self.not_started(&error))?;
        if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", self.line())) }
    }

    /// Runs it with its standard error on this terminal and returns its standard output.
    pub(crate) fn output(mut self) -> Result<String, String> {
        self.0.stderr(Stdio::inherit());
        self.capture()
    }

    /// Runs it unseen and returns its standard output; what it said is in the error.
    pub(crate) fn quiet(mut self) -> Result<String, String> {
        self.0.stderr(Stdio::piped());
        self.capture()
    }

    fn capture(mut self) -> Result<String, String> {
        let output = self.0.output().map_err(|error| self.not_started(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Err(format!("{} ended with {}: {}", self.line(), output.status, said.join("; ")))
    }

    fn not_started(&self, error: &std::io::Error) -> String {
        format!("cannot run {}: {error}", self.0.get_program().to_string_lossy())
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.0.get_program()).chain(self.0.get_args());
        format!("`{}`", words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" "))
    }
}
