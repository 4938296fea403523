//! What the CLI prints with `--output-format stream-json`: one JSON object a line. Unknown types and fields are let
//! pass: the format gains some with every version.

use serde_json::Value;

/// Characters of one tool input or result that are told.
const DETAIL_MAX: usize = 2_000;

/// What the session has shown so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// Whether `system/init` was seen.
    pub started: bool,
    /// The session's id.
    pub session_id: Option<String>,
    /// MCP servers that were not connected at the start, with their state.
    pub unconnected: Vec<(String, String)>,
    /// HTTP status of the last API call that was retried.
    pub retried_status: Option<u64>,
    /// The last `result` line.
    pub result: Option<Value>,
}

/// Something worth telling whoever watches.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The agent said something.
    Text(String),
    /// The agent uses a tool.
    ToolUse { name: String, input: Value },
    /// A tool answered.
    ToolResult { text: String, is_error: bool },
    /// An API call failed and is tried again.
    Retry(String),
}

impl Told {
    /// One line for people.
    pub fn line(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::ToolUse { name, input } => format!("{name}: {}", gist(input)),
            Self::ToolResult { text, is_error } => {
                let first = text.lines().next().unwrap_or_default();
                format!("{} {first}", if *is_error { "  ! " } else { "  ->" })
            }
            Self::Retry(text) => text.clone(),
        }
    }

    /// The kind in the event stream.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::ToolUse { .. } => "tool_use",
            Self::ToolResult { .. } => "tool_result",
            Self::Retry(_) => "retry",
        }
    }
}

impl Transcript {
    /// Takes in one line. Lines that are no JSON object are no part of the protocol and are ignored.
    pub fn read(&mut self, line: &[u8]) -> Vec<Told> {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return Vec::new() };
        match event["type"].as_str() {
            Some("system") => self.system(&event),
            Some("assistant") => content(&event).filter_map(assistant).collect(),
            Some("user") if event["isReplay"] != Value::Bool(true) => {
                content(&event).filter_map(tool_result).collect()
            }
            Some("result") => {
                self.result = Some(event);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn system(&mut self, event: &Value) -> Vec<Told> {
        match event["subtype"].as_str() {
            Some("init") => {
                self.started = true;
                self.session_id = event["session_id"].as_str().map(str::to_owned);
                let servers = event["mcp_servers"].as_array().into_iter().flatten();
                self.unconnected = servers
                    .filter(|server| server["status"] != "connected")
                    .map(|server| (text(&server["name"]), text(&server["status"])))
                    .collect();
                Vec::new()
            }
            Some("api_retry") => {
                self.retried_status = event["error_status"].as_u64();
                let status =
                    self.retried_status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
                let (attempt, most) = (&event["attempt"], &event["max_retries"]);
                vec![Told::Retry(format!("the model API failed ({status}); retry {attempt} of {most}"))]
            }
            _ => Vec::new(),
        }
    }
}

fn content(event: &Value) -> impl Iterator<Item = &Value> {
    event["message"]["content"].as_array().into_iter().flatten()
}

fn assistant(block: &Value) -> Option<Told> {
    match block["type"].as_str()? {
        "text" => Some(Told::Text(text(&block["text"]))).filter(|told| *told != Told::Text(String::new())),
        "tool_use" => Some(Told::ToolUse { name: text(&block["name"]), input: shortened(&block["input"]) }),
        _ => None,
    }
}

fn tool_result(block: &Value) -> Option<Told> {
    if block["type"] != "tool_result" {
        return None;
    }
    let text = match &block["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    Some(Told::ToolResult { text: cut(&text), is_error: block["is_error"] == Value::Bool(true) })
}

/// A tool input with its long texts cut.
fn shortened(input: &Value) -> Value {
    match input {
        Value::String(text) => cut(text).into(),
        Value::Array(items) => items.iter().take(20).map(shortened).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shortened(value))).collect()
        }
        other => other.clone(),
    }
}

/// What a tool is used on, in a few words.
fn gist(input: &Value) -> String {
    let known = ["command", "file_path", "path", "pattern", "url", "description"];
    let found = known.iter().find_map(|name| input[*name].as_str());
    let line = found.map_or_else(|| input.to_string(), str::to_owned);
    line.lines().next().unwrap_or_default().chars().take(120).collect()
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(DETAIL_MAX) {
        Some((at, _)) => format!("{} [cut]", &text[..at]),
        None => text.to_owned(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> (Transcript, Vec<String>) {
        let mut transcript = Transcript::default();
        let told =
            lines.iter().flat_map(|line| transcript.read(line.as_bytes())).map(|told| told.line()).collect();
        (transcript, told)
    }

    #[test]
    fn tells_text_tools_and_results() {
        let (transcript, told) = read(&[
            r#"{"type":"system","subtype":"init","session_id":"s1","mcp_servers":[{"name":"memory","status":"pending"}]}"#,
            r#"{"type":"stream_event","event":{"type":"content_block_delta"}}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I look."}]}}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"command":"ls\npwd"}}]}}"#,
            r#"{"type":"user","message":{"content":[{"type":"tool_result","content":"a.txt\nb.txt"}]}}"#,
            r#"{"type":"user","isReplay":true,"message":{"role":"user","content":"again"}}"#,
            r#"{"type":"of_the_future","x":1}"#,
            "not json",
        ]);
        assert_eq!(told, ["I look.", "Bash: ls", "  -> a.txt"]);
        assert_eq!(transcript.session_id.as_deref(), Some("s1"));
        assert_eq!(transcript.unconnected, [("memory".to_owned(), "pending".to_owned())]);
        assert!(transcript.result.is_none());
    }
}
