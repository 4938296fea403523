//! Commands in the sandbox, run on one tree.

use crate::Error;
use crate::Sandbox;
use crate::harvest::sandbox::types::{ExecOptions, Exit, Output};

/// Most output kept of a command, in bytes.
const KEPT: usize = 8 << 20;
/// Most of a complaint quoted in an error, in bytes.
const QUOTED: usize = 2 << 10;

/// How many words a git command begins with before its own.
const GIT: usize = 7;

/// What a command said and how it ended.
pub(crate) struct Finished {
    /// Its exit code, 128 + n for a signal.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) stdout: String,
    /// The same, byte by byte.
    pub(crate) bytes: Vec<u8>,
    /// The end of its standard error.
    pub(crate) stderr: String,
}

impl Finished {
    /// Itself where it exited with 0.
    pub(crate) fn success(self, doing: &str) -> Result<Self, Error> {
        if self.code == 0 { Ok(self) } else { Err(Error::Other(self.complaint(doing))) }
    }

    /// What went wrong, for people.
    pub(crate) fn complaint(&self, doing: &str) -> String {
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        let said = said.trim();
        let start = said.ceil_char_boundary(said.len().saturating_sub(QUOTED));
        format!("cannot {doing} (exit code {}): {}", self.code, &said[start..])
    }
}

/// A command in a sandbox being put together.
pub(crate) struct Command<'a> {
    sandbox: &'a Sandbox,
    words: Vec<String>,
    env: Vec<(String, String)>,
    input: Option<Vec<u8>>,
    tee: bool,
}

/// Any command.
pub(crate) fn command<'a>(sandbox: &'a Sandbox, words: &[&str]) -> Command<'a> {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    // A front end of the image's for the agent lets steps through.
    let env =
        [("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0"), ("GIT_EDITOR", "true"), ("HARVEST_STEP", "git")];
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Command { sandbox, words, env, input: None, tee: false }
}

/// Git on the tree at `path`.
pub(crate) fn git<'a>(sandbox: &'a Sandbox, path: &str, words: &[&str]) -> Command<'a> {
    // The image's user may differ from the owner of a restored tree; inside the sandbox that protects nobody.
    let mut all = vec!["git", "-c", "safe.directory=*", "-c", "submodule.recurse=false", "-C", path];
    debug_assert_eq!(all.len(), GIT);
    all.extend(words);
    command(sandbox, &all)
}

impl Command<'_> {
    /// Adds a variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets git commit in harvest's own name where nobody has said who commits.
    pub(crate) fn by_someone(mut self) -> Result<Self, Error> {
        let mut words: Vec<&str> = self.words.iter().take(GIT).map(String::as_str).collect();
        words.extend(["config", "user.email"]);
        if command(self.sandbox, &words).run()?.code != 0 {
            for role in ["AUTHOR", "COMMITTER"] {
                self = self.env(&format!("GIT_{role}_NAME"), "Harvest");
                self = self.env(&format!("GIT_{role}_EMAIL"), "harvest@localhost");
            }
        }
        Ok(self)
    }

    /// Writes this to its standard input.
    pub(crate) fn input(mut self, input: impl AsRef<[u8]>) -> Self {
        self.input = Some(input.as_ref().to_vec());
        self
    }

    /// Shows its output in the step's streams.
    pub(crate) fn shown(mut self) -> Self {
        self.tee = true;
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Result<Finished, Error> {
        let process = self.sandbox.exec(&ExecOptions {
            command: self.words,
            env: self.env,
            secrets: Vec::new(),
            workdir: None,
            stdin: self.input.is_some(),
            tee: self.tee,
        })?;
        if let Some(input) = self.input {
            process.write(&input)?;
            process.close_stdin();
        }
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match process.next(None)? {
                Output::Stdout(bytes) => {
                    if stdout.len() + bytes.len() > KEPT {
                        return Err(Error::TooLarge("git in the sandbox printed more than 8 MiB".into()));
                    }
                    stdout.extend(bytes);
                }
                Output::Stderr(bytes) => {
                    stderr.extend(bytes);
                    if stderr.len() > 4 * QUOTED {
                        stderr.drain(..stderr.len() - 2 * QUOTED);
                    }
                }
                Output::Idle => {}
                Output::End => break,
            }
        }
        let code = match process.wait(None)? {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Finished { code, stdout: text(&stdout), bytes: stdout, stderr: text(&stderr) })
    }
}

/// One line that a git command prints.
pub(crate) fn line(sandbox: &Sandbox, path: &str, words: &[&str], doing: &str) -> Result<String, Error> {
    Ok(git(sandbox, path, words).run()?.success(doing)?.stdout.trim().to_owned())
}
