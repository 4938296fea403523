//! One prompt, from the CLI's start to its end.

use crate::command::{self, Call, Way};
use crate::conversation::{self, Conversation};
use crate::harvest::run::ledger;
use crate::harvest::run::run::current;
use crate::harvest::sandbox::types::{
    Credential, Error as Trouble, ExecOptions, Exit, Output, Process, Sandbox, Secret,
};
use crate::harvest::streams::streams::{self, Level};
use crate::limits::{self, Limits};
use crate::machine::{Action, Machine, Stage, Stop};
use crate::mcp::Refusal;
use crate::outcome::{Ending, Kind, Outcome, decide};
use crate::told::Told;
use crate::transcript::Transcript;
use crate::{Error, Guest, Session, Steps, mcp, repository};
use std::time::Instant;

/// Milliseconds from the end of the CLI's output to its own.
const EXIT_MS: u64 = 30_000;
/// Bytes of one line; the CLI's longest hold a file that was read.
const LINE_MAX: usize = 16 << 20;
/// Bytes of standard error that are kept for messages.
const STDERR_MAX: usize = 16 << 10;
/// Bytes of AGENTS.md.
const AGENTS_MAX: u64 = 256 << 10;
/// The model API, as operators call it.
const UPSTREAM: &str = "anthropic";
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
        session_id: Option<String>,
    ) -> Result<Session, Error> {
        let bound = [
            ("github_token", github_token),
            ("gemini_api_key", gemini_api_key),
            ("sentry_access_token", sentry_access_token),
            ("linear_api_key", linear_api_key),
        ];
        let bound: Vec<(&str, &Secret)> =
            bound.into_iter().filter_map(|(slot, secret)| Some((slot, secret?))).collect();
        let slots: Vec<&str> = bound.iter().map(|(slot, _)| *slot).collect();
        let secret = |wanted: &str| bound.iter().find(|(slot, _)| *slot == wanted).map(|(_, secret)| *secret);
        let servers = mcp::choose(mcp.as_deref(), &slots, &installed(sandbox)?)?;
        let required = servers.required();
        let mut gateways = Vec::new();
        for (outside, slot) in servers.outside() {
            let key = slot.and_then(secret).map(|secret| Credential {
                header: outside.header.into(),
                prefix: outside.prefix.into(),
                secret,
            });
            let url = sandbox.forward(outside.upstream, key.as_slice())?;
            gateways.push((outside.upstream, url));
        }
        let address = |wanted: &str| {
            gateways.iter().find(|(upstream, _)| *upstream == wanted).map(|(_, url)| url.clone())
        };
        let configuration = servers.configuration(&address);

        if let Some(usd) = max_budget_usd {
            ledger::limit(usd);
        }
        let started = Instant::now();
        let remaining = current().remaining_ms;
        let bounds = sandbox.bounds();
        let limits = Limits {
            network: limits::network(&bounds),
            money: ledger::left(),
            time: remaining,
            turns: max_turns,
            memory: bounds.memory,
        };
        let told = [Some(limits.told()), append_system_prompt].into_iter().flatten();
        let append_system_prompt = Some(told.collect::<Vec<_>>().join("\n\n"));

        let before = repository::rev_parse(sandbox, &cwd, "HEAD")?;
        prepare(sandbox, &cwd, &configuration)?;
        if let Some(redirection) = servers.redirection(&address) {
            sandbox.write_file(mcp::REDIRECTION, redirection.as_bytes(), 0o600)?;
        }
        let Conversation { id: session, resumes } = conversation::find(sandbox, &cwd, resume, session_id)?;
        let call = Call {
            session: session.clone(),
            resumes,
            model,
            max_turns,
            max_budget_usd,
            append_system_prompt,
        };
        let (way, key) = way(sandbox, anthropic_api_key, claude_code_oauth_token)?;
        let process = sandbox.exec(&ExecOptions {
            command: command::arguments(&call),
            env: command::environment(&way),
            secrets: key.into_iter().collect(),
            workdir: Some(cwd.clone()),
            stdin: true,
            tee: false,
        })?;

        let mut followed = Followed::new(started, remaining);
        let ending = followed.follow(&process, &prompt, &required)?;
        conversation::keep(sandbox, &session);
        let stderr = String::from_utf8_lossy(&followed.stderr).into_owned();
        match decide(&followed.transcript, ending, &stderr, &required) {
            Outcome::Failed(kind, message) => Err(error(kind, message)),
            Outcome::Done(done) => {
                // What the host counted is what will be billed; the CLI's own sum is a guess at list prices.
                let spent = ledger::spent();
                let metered = spent.input_tokens > 0;
                let pick = |metered_count, own| if metered { metered_count } else { own };
                Ok(Session {
                    changed: repository::changed(sandbox, &cwd, before.as_deref())?,
                    summary: command::summary(&done.result, &prompt),
                    result: done.result,
                    session_id: done.session_id,
                    turns: done.turns,
                    cost_usd: if metered { spent.usd } else { done.cost_usd },
                    input_tokens: pick(spent.input_tokens, done.input_tokens),
                    output_tokens: pick(spent.output_tokens, done.output_tokens),
                })
            }
        }
    }
}

/// Programs of MCP servers that the image has.
fn installed(sandbox: &Sandbox) -> Result<Vec<String>, Trouble> {
    let script = "for name; do command -v \"$name\" >/dev/null && echo \"$name\"; done; true";
    let programs = mcp::SERVERS.iter().filter_map(mcp::Server::command);
    let command = ["sh", "-c", script, "sh"].into_iter().chain(programs).map(str::to_owned).collect();
    let options =
        ExecOptions { command, env: vec![], secrets: vec![], workdir: None, stdin: false, tee: false };
    let process = sandbox.exec(&options)?;
    let mut said = Vec::new();
    loop {
        match process.next(Some(PROBE_MS))? {
            Output::Stdout(bytes) => said.extend_from_slice(&bytes),
            Output::Stderr(_) => {}
            Output::Idle => return Err(Trouble::TimedOut("the sandbox takes too long to answer".into())),
            Output::End => break,
        }
    }
    Ok(String::from_utf8_lossy(&said).lines().map(str::to_owned).collect())
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

/// A variable of the CLI, with the secret that is its value.
type Variable<'a> = (String, &'a Secret);

/// The way to the model API. The credential is added outside, unless it is one that nobody outside has: the CLI is handed
/// it as a variable then.
fn way<'a>(
    sandbox: &Sandbox,
    api_key: Option<&'a Secret>,
    oauth: Option<&'a Secret>,
) -> Result<(Way, Option<Variable<'a>>), Trouble> {
    let (variable, credentials) = match (api_key, oauth) {
        (Some(secret), _) => {
            let credential = Credential { header: "x-api-key".into(), prefix: String::new(), secret };
            (command::API_KEY, Some(credential))
        }
        (None, Some(secret)) => (command::OAUTH_TOKEN, Some(bearer(secret))),
        (None, None) => (command::API_KEY, None),
    };
    if let Some(Credential { secret, .. }) = credentials
        && let Some(url) = sandbox.direct(UPSTREAM, secret)?
    {
        return Ok((Way::Direct(url), Some((variable.to_owned(), secret))));
    }
    let url = sandbox.forward(UPSTREAM, credentials.as_slice())?;
    Ok((Way::Gateway { url, placeholder: variable }, None))
}

fn bearer(secret: &Secret) -> Credential<'_> {
    Credential { header: "authorization".into(), prefix: "Bearer ".into(), secret }
}

/// What was seen of the CLI.
struct Followed {
    started: Instant,
    machine: Machine,
    transcript: Transcript,
    line: Vec<u8>,
    stderr: Vec<u8>,
}

impl Followed {
    /// `remaining` is what was left of the step's time when the clock was `started`.
    fn new(started: Instant, remaining: Option<u64>) -> Self {
        let now = millis(started);
        let machine = Machine::new(now, remaining.map(|left| left.saturating_sub(now)));
        Self { started, machine, transcript: Transcript::default(), line: Vec::new(), stderr: Vec::new() }
    }

    /// Gives the prompt and follows the CLI to its end.
    fn follow(&mut self, process: &Process, prompt: &str, required: &[String]) -> Result<Ending, Trouble> {
        // A CLI that is gone already is told by its exit code, not by the pipe that broke.
        let _ = process.write(&command::message(prompt));
        while self.machine.stage() < Stage::Drained {
            match self.machine.due(millis(self.started)) {
                Some(Action::Interrupt) => {
                    streams::progress("stopping claude");
                    let _ = process.write(&command::interruption());
                }
                Some(Action::Kill) => {
                    process.kill()?;
                    return Ok(Ending::Stopped(self.machine.stopped().unwrap_or(Stop::Silent)));
                }
                None => {}
            }
            match process.next(Some(self.machine.patience(millis(self.started))))? {
                Output::Stdout(bytes) => self.read(&bytes)?,
                Output::Stderr(bytes) => self.keep_stderr(&bytes),
                Output::Idle => continue,
                Output::End => self.machine.reach(Stage::Drained, millis(self.started)),
            }
            self.machine.heard(millis(self.started));
            if let Some(ending) = self.advance(process, required)? {
                return Ok(ending);
            }
        }
        let exit = process.wait(Some(EXIT_MS))?;
        Ok(match (self.machine.stopped(), exit) {
            (Some(stop), _) => Ending::Stopped(stop),
            (None, Exit::Code(code)) => Ending::Code(code),
            (None, Exit::Signal(signal)) => Ending::Signal(signal),
        })
    }

    /// Moves on with what the transcript shows, and ends at once what cannot become good.
    fn advance(&mut self, process: &Process, required: &[String]) -> Result<Option<Ending>, Trouble> {
        let now = millis(self.started);
        if self.transcript.started {
            self.machine.reach(Stage::Init, now);
        }
        if self.transcript.answered {
            self.machine.reach(Stage::Turns, now);
        }
        if self.transcript.result.is_some() && self.machine.stage() < Stage::Result {
            self.machine.reach(Stage::Result, now);
            // The end of input is how the CLI is told that no further prompt comes.
            process.close_stdin();
        }
        let ending = if matches!(self.transcript.retried_status, Some(401 | 403)) {
            Ending::Unauthorised
        } else if self.transcript.unconnected.iter().any(|(name, _)| required.contains(name)) {
            Ending::Unconnected
        } else {
            return Ok(None);
        };
        process.kill()?;
        Ok(Some(ending))
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
                    if let Told::Picture { name, media_type, content } = &told
                        && let Err(why) = streams::artifact(name, media_type, content)
                    {
                        streams::log(Level::Warn, &format!("{name} was not kept: {why}"));
                        continue;
                    }
                    streams::event("agent", &told.event().to_string());
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
        Kind::NotFound => Error::NotFound(message),
        Kind::Quota => Error::Quota(message),
        Kind::TimedOut => Error::TimedOut(message),
        Kind::BudgetExceeded => Error::BudgetExceeded(message),
        Kind::MaxTurns => Error::MaxTurns(message),
        Kind::Interrupted => Error::Interrupted(message),
        Kind::Crashed => Error::Crashed(message),
        Kind::StartupError => Error::StartupError(message),
    }
}

/// Milliseconds since the session was begun.
fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(message) => Self::Invalid(message),
            Refusal::NotInstalled(message) => Self::StartupError(message),
        }
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
