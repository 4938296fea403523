//! The steps `exec/run` and `exec/python`: one command in a sandbox.
#![allow(missing_docs)] // The bindings' own items have none.

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/run", "../../wit/streams", "wit"],
    world: "harvest:exec/exec",
    generate_all,
});

use harvest::sandbox::types::{self, ExecOptions, Exit, Output, Process};

/// Bytes of each output that are returned.
const TAIL: usize = 64 << 10;

/// Bytes of standard error that an error quotes.
const QUOTED: usize = 2 << 10;

/// Bytes written to standard input between two looks at the output.
const PIECE: usize = 16 << 10;

/// Longest program passed as an argument, in bytes; Linux allows an argument 128 KiB.
const CODE_ARGUMENT: usize = 100 << 10;

struct Steps;

impl Guest for Steps {
    fn run(
        sandbox: &Sandbox,
        secrets: Vec<(String, Secret)>,
        command: Vec<String>,
        env: Option<Vec<(String, String)>>,
        workdir: Option<String>,
        stdin: Option<String>,
        allow_failure: Option<bool>,
    ) -> Result<Outcome, Error> {
        if command.is_empty() {
            return Err(Error::Invalid("command is empty; write it as a list: [program, argument]".into()));
        }
        let options = ExecOptions {
            command,
            env: env.unwrap_or_default(),
            secrets: borrowed(&secrets),
            workdir,
            stdin: stdin.is_some(),
            tee: true,
        };
        execute(sandbox, &options, stdin.as_deref(), allow_failure.unwrap_or(false))
    }

    fn python(
        sandbox: &Sandbox,
        secrets: Vec<(String, Secret)>,
        code: String,
        args: Option<Vec<String>>,
        workdir: Option<String>,
    ) -> Result<Outcome, Error> {
        let by_argument = code.len() <= CODE_ARGUMENT;
        let mut command = vec!["python3".to_owned()];
        command.extend(if by_argument { vec!["-c".into(), code.clone()] } else { vec!["-".into()] });
        command.extend(args.unwrap_or_default());
        let options = ExecOptions {
            command,
            // So that output arrives while the program runs.
            env: vec![("PYTHONUNBUFFERED".into(), "1".into())],
            secrets: borrowed(&secrets),
            workdir,
            stdin: !by_argument,
            tee: true,
        };
        execute(sandbox, &options, (!by_argument).then_some(&code), false)
    }
}

fn borrowed(secrets: &[(String, Secret)]) -> Vec<(String, &Secret)> {
    secrets.iter().map(|(name, secret)| (name.clone(), secret)).collect()
}

/// Runs a command to its end.
fn execute(
    sandbox: &Sandbox,
    options: &ExecOptions,
    stdin: Option<&str>,
    allow_failure: bool,
) -> Result<Outcome, Error> {
    let process = sandbox.exec(options)?;
    let (mut stdout, mut stderr) = (Tail::default(), Tail::default());
    if let Some(text) = stdin {
        for piece in text.as_bytes().chunks(PIECE) {
            // A command that waits for its output to be read reads no input.
            while read(&process, Some(0), &mut stdout, &mut stderr)? == Read::Some {}
            if process.write(piece).is_err() {
                // It need not read all; how it ends says whether that was a mistake.
                break;
            }
        }
        process.close_stdin();
    }
    while read(&process, None, &mut stdout, &mut stderr)? != Read::End {}
    let exit = process.wait(None)?;
    let outcome = Outcome {
        exit_code: match exit {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        },
        stdout: stdout.text(TAIL),
        stderr: stderr.text(TAIL),
    };
    if outcome.exit_code == 0 || allow_failure {
        return Ok(outcome);
    }
    let how = match exit {
        Exit::Code(code) => format!("{} exited with code {code}", options.command[0]),
        Exit::Signal(signal) => format!("signal {signal} ended {}", options.command[0]),
    };
    let quoted = stderr.text(QUOTED);
    Err(Error::Exited(match quoted.trim() {
        "" => how,
        quoted => format!("{how}: {quoted}"),
    }))
}

#[derive(PartialEq, Eq)]
enum Read {
    Some,
    Nothing,
    End,
}

fn read(
    process: &Process,
    timeout_ms: Option<u64>,
    stdout: &mut Tail,
    stderr: &mut Tail,
) -> Result<Read, Error> {
    Ok(match process.next(timeout_ms)? {
        Output::Stdout(bytes) => stdout.add(bytes),
        Output::Stderr(bytes) => stderr.add(bytes),
        Output::Idle => Read::Nothing,
        Output::End => Read::End,
    })
}

/// The last bytes of an output.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn add(&mut self, bytes: Vec<u8>) -> Read {
        self.0.extend(bytes);
        // Cut at twice the size, so that most pieces move nothing.
        if self.0.len() > 2 * TAIL {
            self.0.drain(..self.0.len() - TAIL);
        }
        Read::Some
    }

    /// At most `limit` bytes from the end, from the start of a character.
    fn text(&self, limit: usize) -> String {
        let mut start = self.0.len().saturating_sub(limit);
        while self.0.get(start).is_some_and(|byte| byte & 0xc0 == 0x80) {
            start += 1;
        }
        String::from_utf8_lossy(&self.0[start..]).into_owned()
    }
}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::Denied(text) => Self::Denied(text),
            types::Error::NotFound(text) => Self::NotFound(text),
            types::Error::Invalid(text) => Self::Invalid(text),
            types::Error::Conflict(text) => Self::Conflict(text),
            types::Error::Network(text) => Self::Network(text),
            types::Error::Unavailable(text) => Self::Unavailable(text),
            types::Error::RateLimited(text) => Self::RateLimited(text),
            types::Error::TooLarge(text) => Self::TooLarge(text),
            types::Error::Quota(text) => Self::Quota(text),
            types::Error::TimedOut(text) => Self::TimedOut(text),
            types::Error::SandboxLost(text) => Self::SandboxLost(text),
            types::Error::Other(text) => Self::Other(text),
        }
    }
}

export!(Steps);
