//! How the CLI is called: its arguments, environment and files. It runs as the sandbox's only tenant, so its own
//! permission prompts are off; the sandbox is the wall.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Where the CLI keeps its configuration and transcripts in the sandbox.
pub const CONFIG: &str = "/root/.claude";
/// Where the MCP configuration is written.
pub const MCP_CONFIG: &str = "/root/.claude/mcp.json";
/// What the image tells the agent.
pub const AGENTS: &str = "/app/AGENTS.md";
/// Variables in which the CLI looks for a credential.
pub const API_KEY: &str = "ANTHROPIC_API_KEY";
pub const OAUTH_TOKEN: &str = "CLAUDE_CODE_OAUTH_TOKEN";
/// Stands where a credential would: the gateway puts the real one in its place.
pub const PLACEHOLDER: &str = "held-by-the-gateway";
/// Milliseconds that an MCP server may take to start: one with a browser takes seconds, and the machine may be busy.
const MCP_START_MS: &str = "60000";
/// Times that the CLI repeats a failed API call.
const API_RETRIES: &str = "4";

/// What is asked of the CLI.
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub session: String,
    /// Whether the session has a transcript to go on from.
    pub resumes: bool,
    pub model: Option<String>,
    pub max_turns: Option<u32>,
    pub max_budget_usd: Option<f64>,
    pub append_system_prompt: Option<String>,
}

/// Program and arguments.
pub fn arguments(call: &Call) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "claude",
        "-p",
        "--output-format",
        "stream-json",
        "--verbose",
        "--input-format",
        "stream-json",
        "--include-partial-messages",
        "--replay-user-messages",
        "--permission-mode",
        "bypassPermissions",
        "--strict-mcp-config",
        "--mcp-config",
        MCP_CONFIG,
        "--setting-sources",
        "user,project",
    ]
    .map(str::to_owned)
    .into();
    let mut option = |name: &str, value: Option<String>| {
        // A workflow's input without a text means that nothing was asked for.
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            arguments.extend([name.to_owned(), value]);
        }
    };
    option(if call.resumes { "--resume" } else { "--session-id" }, Some(call.session.clone()));
    option("--model", call.model.clone());
    option("--max-turns", call.max_turns.map(|turns| turns.to_string()));
    option("--max-budget-usd", call.max_budget_usd.map(|usd| usd.to_string()));
    option("--append-system-prompt", call.append_system_prompt.clone());
    arguments
}

/// The way to the model API.
#[derive(Clone, Debug)]
pub enum Way {
    /// Through a gateway on the sandbox's own loopback, which replaces what stands in the variable `placeholder`.
    Gateway { url: String, placeholder: &'static str },
    /// To the API itself, with a key that the CLI is handed as a secret.
    Direct(String),
}

/// Variables of the CLI, all but secrets.
pub fn environment(way: &Way) -> Vec<(String, String)> {
    let mut all = match way {
        Way::Gateway { url, placeholder } => vec![
            ("ANTHROPIC_BASE_URL", url.as_str()),
            (placeholder, PLACEHOLDER),
            // Never behind the sandbox's proxy.
            ("NO_PROXY", "127.0.0.1,localhost"),
            ("no_proxy", "127.0.0.1,localhost"),
        ],
        Way::Direct(url) => vec![("ANTHROPIC_BASE_URL", url.as_str())],
    };
    all.extend([
        ("CLAUDE_CONFIG_DIR", CONFIG),
        ("CLAUDE_CODE_MAX_RETRIES", API_RETRIES),
        ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
        ("MCP_CONNECTION_NONBLOCKING", "0"),
        ("MCP_TIMEOUT", MCP_START_MS),
        ("DISABLE_AUTOUPDATER", "1"),
        ("DISABLE_TELEMETRY", "1"),
        ("DISABLE_ERROR_REPORTING", "1"),
        // The CLI refuses root without it; here root is nobody outside the sandbox.
        ("IS_SANDBOX", "1"),
    ]);
    all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Asks the CLI to stop what it does and to give a result, as a line of input.
pub fn interruption() -> Vec<u8> {
    let request = json!({ "subtype": "interrupt" });
    line(&json!({ "type": "control_request", "request_id": "harvest-stop", "request": request }))
}

/// What the CLI would otherwise ask a person about on its first start.
pub fn onboarding(cwd: &str) -> Value {
    json!({
        "hasCompletedOnboarding": true,
        "bypassPermissionsModeAccepted": true,
        "projects": { cwd: { "hasTrustDialogAccepted": true } },
    })
}

/// The prompt as a line of input.
pub fn message(prompt: &str) -> Vec<u8> {
    line(&json!({ "type": "user", "message": { "role": "user", "content": prompt } }))
}

fn line(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The session's id: the same for every attempt of a step, so that a retried one finds its conversation. A UUID.
pub fn session_id(key: &str) -> String {
    let mut bytes: [u8; 16] = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(key.as_bytes())[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// A line fit for a commit message: the first of the agent's last words, else of the prompt.
pub fn summary(result: &str, prompt: &str) -> String {
    const LENGTH_MAX: usize = 72;
    let line = |text: &str| {
        text.lines()
            .map(|line| line.trim_start_matches(['#', '*', '-', ' ']).trim().to_owned())
            .find(|line| !line.is_empty())
    };
    let whole = line(result).or_else(|| line(prompt)).unwrap_or_else(|| "Agent session".to_owned());
    if whole.chars().count() <= LENGTH_MAX {
        return whole;
    }
    let cut: String = whole.chars().take(LENGTH_MAX - 3).collect();
    format!("{}...", cut.rsplit_once(' ').map_or(cut.as_str(), |(words, _)| words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_are_uuids_and_stay_the_same() {
        let id = session_id("run/step");
        assert_eq!(id, session_id("run/step"));
        assert_ne!(id, session_id("run/other"));
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "8");
    }

    #[test]
    fn summaries_are_one_short_line() {
        assert_eq!(summary("## Fixed the parser\n\nmore", "fix"), "Fixed the parser");
        assert_eq!(summary("\n", "fix the parser\nplease"), "fix the parser");
        assert!(summary(&"word ".repeat(40), "").chars().count() <= 72);
    }
}
