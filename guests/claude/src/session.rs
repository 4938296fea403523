//! One prompt: spawned -> init -> turns -> result -> drained -> exited.

use crate::command::{self, Call};
use crate::harvest::run::run::current;
use crate::harvest::sandbox::types::{
    Credential, Error as Trouble, ExecOptions, Exit, Output, Process, Sandbox, Secret,
};
use crate::harvest::streams::streams;
use crate::outcome::{Ending, Kind, Outcome, decide};
use crate::transcript::Transcript;
use crate::{Error, Guest, Session, Steps, mcp, repository};
use serde_json::json;

/// Milliseconds that the CLI may go on after its result before it is killed.
const LINGER_MS: u64 = 30_000;
/// Bytes of one line; the CLI's longest hold a file that was read.
const LINE_MAX: usize = 16 << 20;
/// Bytes of standard error that are kept for messages.
const STDERR_MAX: usize = 16 << 10;
/// Bytes of AGENTS.md.
const AGENTS_MAX: u64 = 256 << 10;
/// Milliseconds for small commands in the sandbox.
const PROBE_MS: u64 = 30_000;

impl Guest for Steps {
    fn run(
        sandbox: &Sandbox,
        anthropic_api_key: Option<&Secret>,
        claude_code_oauth_token: Option<&Secret>,
        github_token: Option<&Secret>,
        gemini_api_key: Option<&Secret>,
        sentry_access_token: Option<&Secret>,
        linear_api_key: Option<&Secret>,
        cwd: String,
        prompt: String,
        model: Option<String>,
        max_turns: Option<u32>,
        max_budget_usd: Option<f64>,
        mcp: Option<Vec<String>>,
        append_system_prompt: Option<String>,
        resume: Option<String>,
    ) -> Result<Session, Error> {
        let bound = [
            ("github_token", github_token),
            ("gemini_api_key", gemini_api_key),
            ("sentry_access_token", sentry_access_token),
            ("linear_api_key", linear_api_key),
        ];
        let bound: Vec<(&str, &Secret)> =
            bound.into_iter().filter_map(|(slot, secret)| Some((slot, secret?))).collect();
        let servers = mcp.unwrap_or_default();
        let slots: Vec<&str> = bound.iter().map(|(slot, _)| *slot).collect();
        let configuration = mcp::configuration(&servers, &slots).map_err(Error::Invalid)?;

        let before = repository::rev_parse(sandbox, &cwd, "HEAD")?;
        prepare(sandbox, &cwd, &configuration)?;
        let (session, resumes) = conversation(sandbox, resume)?;
        let call = Call { session, resumes, model, max_turns, max_budget_usd, append_system_prompt };
        let gateway = gateway(sandbox, anthropic_api_key, claude_code_oauth_token)?;
        let oauth = anthropic_api_key.is_none() && claude_code_oauth_token.is_some();
        let process = sandbox.exec(&ExecOptions {
            command: command::arguments(&call),
            env: command::environment(&gateway, oauth),
            secrets: bound.iter().map(|(slot, secret)| (slot.to_ascii_uppercase(), *secret)).collect(),
            workdir: Some(cwd.clone()),
            stdin: true,
            tee: false,
        })?;

        let mut followed = Followed::default();
        let ending = followed.follow(&process, &prompt, &servers)?;
        let stderr = String::from_utf8_lossy(&followed.stderr).into_owned();
        match decide(&followed.transcript, ending, &stderr, &servers) {
            Outcome::Failed(kind, message) => Err(error(kind, message)),
            Outcome::Done(done) => Ok(Session {
                changed: repository::changed(sandbox, &cwd, before.as_deref())?,
                summary: command::summary(&done.result, &prompt),
                result: done.result,
                session_id: done.session_id,
                turns: done.turns,
                cost_usd: done.cost_usd,
                input_tokens: done.input_tokens,
                output_tokens: done.output_tokens,
            }),
        }
    }
}

/// Writes what the CLI reads at its start.
fn prepare(sandbox: &Sandbox, cwd: &str, servers: &serde_json::Value) -> Result<(), Trouble> {
    let write = |path: &str, text: &str| sandbox.write_file(path, text.as_bytes(), 0o600);
    write(command::MCP_CONFIG, &servers.to_string())?;
    write(&format!("{}/.claude.json", command::CONFIG), &command::onboarding(cwd).to_string())?;
    match sandbox.read_file(command::AGENTS, AGENTS_MAX) {
        Ok(agents) => sandbox.write_file(&format!("{}/CLAUDE.md", command::CONFIG), &agents, 0o600),
        Err(Trouble::NotFound(_)) => Ok(()),
        Err(other) => Err(other),
    }
}

/// The session to begin, or to go on with: the one asked for, else the step's own where an earlier attempt began it.
fn conversation(sandbox: &Sandbox, resume: Option<String>) -> Result<(String, bool), Trouble> {
    if let Some(session) = resume {
        return Ok((session, true));
    }
    let session = command::session_id(&current().idempotency_key);
    let script = "ls \"$1\"/projects/*/\"$2\".jsonl".to_owned();
    let command = ["sh", "-c", &script, "sh", command::CONFIG, &session].map(str::to_owned).into();
    let options =
        ExecOptions { command, env: vec![], secrets: vec![], workdir: None, stdin: false, tee: false };
    let found = matches!(sandbox.exec(&options)?.wait(Some(PROBE_MS))?, Exit::Code(0));
    Ok((session, found))
}

/// The way to the model API. The credential is added outside.
fn gateway(sandbox: &Sandbox, api_key: Option<&Secret>, oauth: Option<&Secret>) -> Result<String, Trouble> {
    let credential = |header: &str, prefix: &str, secret| Credential {
        header: header.into(),
        prefix: prefix.into(),
        secret,
    };
    let credentials = match (api_key, oauth) {
        (Some(secret), _) => vec![credential("x-api-key", "", secret)],
        (None, Some(secret)) => vec![credential("authorization", "Bearer ", secret)],
        (None, None) => vec![],
    };
    sandbox.forward("anthropic", &credentials)
}

/// What was seen of the CLI.
#[derive(Default)]
struct Followed {
    transcript: Transcript,
    line: Vec<u8>,
    stderr: Vec<u8>,
}

impl Followed {
    /// Gives the prompt and follows the CLI to its end.
    fn follow(&mut self, process: &Process, prompt: &str, required: &[String]) -> Result<Ending, Trouble> {
        // A CLI that is gone already is told by its exit code, not by the pipe that broke.
        let _ = process.write(&command::message(prompt));
        let mut open = true;
        loop {
            let patience = self.transcript.result.is_some().then_some(LINGER_MS);
            match process.next(patience)? {
                Output::Stdout(bytes) => self.read(&bytes)?,
                Output::Stderr(bytes) => self.keep_stderr(&bytes),
                Output::Idle => {
                    process.kill()?;
                    return Ok(Ending::Lingered);
                }
                Output::End => break,
            }
            if open && self.transcript.result.is_some() {
                // The end of input is how the CLI is told that no further prompt comes.
                process.close_stdin();
                open = false;
            }
            if matches!(self.transcript.retried_status, Some(401 | 403)) {
                process.kill()?;
                return Ok(Ending::Unauthorised);
            }
            if self.transcript.unconnected.iter().any(|(name, _)| required.contains(name)) {
                process.kill()?;
                return Ok(Ending::Unconnected);
            }
        }
        Ok(match process.wait(Some(LINGER_MS))? {
            Exit::Code(code) => Ending::Code(code),
            Exit::Signal(signal) => Ending::Signal(signal),
        })
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len() > LINE_MAX {
                return Err(Trouble::TooLarge(format!(
                    "claude printed a line of more than {} MiB",
                    LINE_MAX >> 20
                )));
            }
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                for told in self.transcript.read(&line) {
                    let text = told.line();
                    streams::event("agent", &json!({ "kind": told.kind(), "text": text }).to_string());
                }
            }
        }
        Ok(())
    }

    fn keep_stderr(&mut self, bytes: &[u8]) {
        streams::text("stderr", &String::from_utf8_lossy(bytes));
        self.stderr.extend_from_slice(bytes);
        let excess = self.stderr.len().saturating_sub(STDERR_MAX);
        self.stderr.drain(..excess);
    }
}

fn error(kind: Kind, message: String) -> Error {
    match kind {
        Kind::Refused => Error::Refused(message),
        Kind::ToolDenied => Error::ToolDenied(message),
        Kind::ApiError => Error::ApiError(message),
        Kind::AuthError => Error::AuthError(message),
        Kind::RateLimited => Error::RateLimited(message),
        Kind::BudgetExceeded => Error::BudgetExceeded(message),
        Kind::MaxTurns => Error::MaxTurns(message),
        Kind::Interrupted => Error::Interrupted(message),
        Kind::Crashed => Error::Crashed(message),
        Kind::StartupError => Error::StartupError(message),
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Denied(text) => Self::Denied(text),
            Trouble::NotFound(text) => Self::NotFound(text),
            Trouble::Invalid(text) => Self::Invalid(text),
            Trouble::Conflict(text) => Self::Conflict(text),
            Trouble::Network(text) => Self::Network(text),
            Trouble::Unavailable(text) => Self::Unavailable(text),
            Trouble::RateLimited(text) => Self::RateLimited(text),
            Trouble::TooLarge(text) => Self::TooLarge(text),
            Trouble::Quota(text) => Self::Quota(text),
            Trouble::TimedOut(text) => Self::TimedOut(text),
            Trouble::SandboxLost(text) => Self::SandboxLost(text),
            Trouble::Other(text) => Self::Other(text),
        }
    }
}
