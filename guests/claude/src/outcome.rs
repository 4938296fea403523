//! What became of a session. Neither the exit code nor `subtype` is enough: an API error exits 1 and says `success`,
//! a session whose every tool was denied exits 0.

use crate::machine::Stop;
use crate::transcript::Transcript;
use serde_json::Value;

/// How the CLI ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was stopped here by a timer.
    Stopped(Stop),
    /// It was killed here since the API refuses the credential.
    Unauthorised,
    /// It was killed here since a server it needs did not connect.
    Unconnected,
}

/// What the step will say.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The agent did what it could, and was allowed to.
    Done(Done),
    /// It failed: the kind, and a sentence.
    Failed(Kind, String),
}

/// A good end.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// The agent's last words.
    pub result: String,
    /// The session.
    pub session_id: String,
    /// Turns of the model.
    pub turns: u32,
    /// Dollars.
    pub cost_usd: f64,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
}

/// Error kinds of `claude/run` that it raises itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Refused,
    ToolDenied,
    ApiError,
    AuthError,
    RateLimited,
    NotFound,
    Quota,
    TimedOut,
    BudgetExceeded,
    MaxTurns,
    Interrupted,
    Crashed,
    StartupError,
}

/// Decides. `required` are MCP servers without which the session is not what was asked for.
pub fn decide(transcript: &Transcript, ending: Ending, stderr: &str, required: &[String]) -> Outcome {
    let last_words = || {
        stderr
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it said nothing")
            .trim()
            .to_owned()
    };
    let failed = |kind, message: String| Outcome::Failed(kind, message);
    if ending == Ending::Unauthorised {
        let status = transcript.retried_status.unwrap_or(401);
        return failed(
            Kind::AuthError,
            format!(
                "the model API refuses the credential (HTTP {status}): check that it is valid and not revoked"
            ),
        );
    }
    if let Some((kind, message)) = stopped(ending) {
        return failed(kind, message);
    }
    let missing: Vec<_> = transcript.unconnected.iter().filter(|(name, _)| required.contains(name)).collect();
    if let Some((name, state)) = missing.first() {
        return failed(
            Kind::StartupError,
            format!(
                "the MCP server `{name}` did not connect ({state}): is it in the image, and the key good that it needs?"
            ),
        );
    }
    let Some(result) = &transcript.result else {
        return match (ending, transcript.started) {
            (Ending::Code(code), false) => failed(
                Kind::StartupError,
                format!("claude did not start (exit code {code}): {}", last_words()),
            ),
            (Ending::Signal(2) | Ending::Code(0 | 130), true) => {
                failed(Kind::Interrupted, "claude was interrupted".into())
            }
            (Ending::Code(code), true) => failed(
                Kind::Crashed,
                format!("claude ended with exit code {code} and no result: {}", last_words()),
            ),
            (Ending::Signal(signal), _) => {
                failed(Kind::Crashed, format!("claude was ended by signal {signal}"))
            }
            _ => failed(Kind::Crashed, "claude ended without a result".into()),
        };
    };
    if let Some((kind, message)) = bad_result(transcript, result) {
        return failed(kind, message);
    }
    if let Ending::Code(code @ 1..) = ending {
        return failed(
            Kind::Crashed,
            format!("claude reported success but ended with exit code {code}: {}", last_words()),
        );
    }
    let (mut read, mut written) = (0, 0);
    for usage in result["modelUsage"].as_object().into_iter().flat_map(|models| models.values()) {
        let count = |name: &str| usage[name].as_u64().unwrap_or(0);
        read += count("inputTokens") + count("cacheReadInputTokens") + count("cacheCreationInputTokens");
        written += count("outputTokens");
    }
    let session = result["session_id"].as_str().or(transcript.session_id.as_deref()).unwrap_or_default();
    Outcome::Done(Done {
        result: result["result"].as_str().unwrap_or_default().to_owned(),
        session_id: session.to_owned(),
        turns: result["num_turns"].as_u64().and_then(|turns| u32::try_from(turns).ok()).unwrap_or(0),
        cost_usd: result["total_cost_usd"].as_f64().unwrap_or(0.0),
        input_tokens: read,
        output_tokens: written,
    })
}

/// What it means to have been stopped by a timer; one that did not end after its result may still have done its work.
fn stopped(ending: Ending) -> Option<(Kind, String)> {
    let Ending::Stopped(stop) = ending else { return None };
    match stop {
        Stop::NotStarted => {
            Some((Kind::StartupError, "claude did not start in time: is an MCP server of it stuck?".into()))
        }
        Stop::Silent => Some((Kind::TimedOut, "claude said nothing for 20 minutes and was stopped".into())),
        Stop::OutOfTime => {
            let message = "the session took all the time that its step has: raise `timeout` or ask for less";
            Some((Kind::TimedOut, message.into()))
        }
        Stop::Lingered => None,
    }
}

/// Why a `result` line is no success, if it is none.
fn bad_result(transcript: &Transcript, result: &Value) -> Option<(Kind, String)> {
    let listed: Vec<&str> =
        result["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let why = match listed.as_slice() {
        [] => result["result"].as_str().unwrap_or("no reason given").to_owned(),
        listed => listed.join("; "),
    };
    match result["subtype"].as_str() {
        Some("error_max_turns") => {
            return Some((Kind::MaxTurns, format!("{why}: raise `max_turns` or ask for less")));
        }
        Some("error_max_budget_usd") => {
            return Some((Kind::BudgetExceeded, format!("{why}: raise `max_budget_usd` or ask for less")));
        }
        Some("error_during_execution") if !transcript.started => {
            return Some((Kind::StartupError, format!("claude did not start: {why}")));
        }
        Some("error_during_execution") => {
            return Some((Kind::Interrupted, format!("claude was interrupted: {why}")));
        }
        _ => {}
    }
    if result["stop_reason"] == "refusal" {
        return Some((Kind::Refused, "the model declined the request".into()));
    }
    if result["is_error"] == Value::Bool(true) {
        let kind = api_error(transcript.api_error.as_deref(), result["api_error_status"].as_u64());
        return Some((kind, explained(kind, &why)));
    }
    let denied: Vec<&str> = result["permission_denials"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|denial| denial["tool_name"].as_str())
        .collect();
    (!denied.is_empty()).then(|| {
        (Kind::ToolDenied, format!("the agent was denied {}: its work is not complete", denied.join(", ")))
    })
}

/// The kind of an error of the API: by the name that the CLI gives it, else by its status.
fn api_error(name: Option<&str>, status: Option<u64>) -> Kind {
    match (name, status) {
        (_, Some(401 | 403)) | (Some("authentication_failed" | "oauth_org_not_allowed"), _) => {
            Kind::AuthError
        }
        (_, Some(429 | 529)) | (Some("rate_limit" | "overloaded"), _) => Kind::RateLimited,
        (Some("billing_error"), _) => Kind::Quota,
        (Some("model_not_found"), _) => Kind::NotFound,
        _ => Kind::ApiError,
    }
}

/// The CLI's sentence, with what to do about it where that is known.
fn explained(kind: Kind, why: &str) -> String {
    let why = why.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given").trim();
    let advice = match kind {
        Kind::AuthError => "check the credential",
        Kind::RateLimited => "try again later, or write `retry: { on: [rate-limited] }`",
        Kind::Quota => "add credit to the account",
        Kind::NotFound => "check `model`",
        _ => return format!("the model API failed: {why}"),
    };
    format!("the model API refused: {why}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(lines: &[&str], ending: Ending) -> Result<Done, (Kind, String)> {
        let mut transcript = Transcript::default();
        for line in lines {
            transcript.read(line.as_bytes());
        }
        match decide(&transcript, ending, "Error: first\nlast words\n", &["memory".to_owned()]) {
            Outcome::Done(done) => Ok(done),
            Outcome::Failed(kind, message) => Err((kind, message)),
        }
    }

    const INIT: &str = r#"{"type":"system","subtype":"init","session_id":"s","mcp_servers":[{"name":"memory","status":"connected"}]}"#;

    #[test]
    fn a_good_session() {
        let result = r#"{"type":"result","subtype":"success","is_error":false,"result":"Done.","num_turns":3,"session_id":"s","total_cost_usd":0.5,"permission_denials":[],"modelUsage":{"a":{"inputTokens":10,"cacheReadInputTokens":5,"outputTokens":7}}}"#;
        let done = decided(&[INIT, result], Ending::Code(0)).unwrap();
        assert_eq!((done.turns, done.input_tokens, done.output_tokens), (3, 15, 7));
    }

    #[test]
    fn what_looks_good_and_is_not() {
        let denied = r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","permission_denials":[{"tool_name":"Write"}]}"#;
        assert_eq!(decided(&[INIT, denied], Ending::Code(0)).unwrap_err().0, Kind::ToolDenied);
        let error = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":529,"result":"Overloaded"}"#;
        assert_eq!(decided(&[INIT, error], Ending::Code(1)).unwrap_err().0, Kind::RateLimited);
        let lingered = decided(&[INIT, error], Ending::Stopped(Stop::Lingered)).unwrap_err();
        assert_eq!(lingered.0, Kind::RateLimited);
        let pending = INIT.replace("\"connected\"", "\"pending\"");
        let fine =
            r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","permission_denials":[]}"#;
        assert_eq!(decided(&[&pending, fine], Ending::Code(0)).unwrap_err().0, Kind::StartupError);
    }

    #[test]
    fn errors_of_the_api_are_told_apart_by_their_names() {
        for (name, status, kind) in [
            ("billing_error", "400", Kind::Quota),
            ("model_not_found", "404", Kind::NotFound),
            ("authentication_failed", "null", Kind::AuthError),
            ("unknown", "400", Kind::ApiError),
            ("server_error", "500", Kind::ApiError),
        ] {
            let said = format!(r#"{{"type":"assistant","error":"{name}","message":{{"content":[]}}}}"#);
            let result = format!(
                r#"{{"type":"result","subtype":"success","is_error":true,"api_error_status":{status},"result":"It failed\nfor a reason"}}"#
            );
            let (found, message) = decided(&[INIT, &said, &result], Ending::Code(1)).unwrap_err();
            assert_eq!(found, kind, "{name}");
            assert!(message.contains("It failed") && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn timers_are_told_apart() {
        let stopped = |stop| decided(&[INIT], Ending::Stopped(stop)).unwrap_err().0;
        assert_eq!(stopped(Stop::NotStarted), Kind::StartupError);
        assert_eq!((stopped(Stop::Silent), stopped(Stop::OutOfTime)), (Kind::TimedOut, Kind::TimedOut));
        let fine =
            r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","permission_denials":[]}"#;
        assert!(decided(&[INIT, fine], Ending::Stopped(Stop::Lingered)).is_ok());
    }

    #[test]
    fn ends_without_a_result() {
        assert_eq!(
            decided(&[], Ending::Code(1)).unwrap_err(),
            (Kind::StartupError, "claude did not start (exit code 1): last words".to_owned())
        );
        assert_eq!(decided(&[INIT], Ending::Code(1)).unwrap_err().0, Kind::Crashed);
        assert_eq!(decided(&[INIT], Ending::Signal(9)).unwrap_err().0, Kind::Crashed);
        assert_eq!(decided(&[INIT], Ending::Code(0)).unwrap_err().0, Kind::Interrupted);
    }
}
