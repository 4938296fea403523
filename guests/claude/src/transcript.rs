//! What the CLI prints with `--output-format stream-json`: one JSON object a line. Unknown types and fields are let
//! pass: the format gains some with every version.

use crate::pieces::Pieces;
use crate::told::{Told, cut, shortened};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Pictures of one session that are kept.
const PICTURES_MAX: u32 = 100;

/// What the session has shown so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// Whether `system/init` was seen.
    pub started: bool,
    /// Whether the model has answered.
    pub answered: bool,
    /// The session's id.
    pub session_id: Option<String>,
    /// MCP servers that were not connected at the start, with their state.
    pub unconnected: Vec<(String, String)>,
    /// HTTP status of the last API call that was retried.
    pub retried_status: Option<u64>,
    /// What the CLI calls the API's last error: `rate_limit`, `billing_error`.
    pub api_error: Option<String>,
    /// The last `result` line.
    pub result: Option<Value>,
    pictures: u32,
    text: Pieces,
    thinking: Pieces,
    /// Whether the block under way has come piece by piece, so that it is not told again when it comes whole.
    streamed: bool,
    /// What the message under way has said of its cost.
    usage: Usage,
}

/// Tokens of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    input: u64,
    cached: u64,
    output: u64,
}

impl Transcript {
    /// Takes in one line. Lines that are no JSON object are no part of the protocol and are ignored.
    pub fn read(&mut self, line: &[u8]) -> Vec<Told> {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return Vec::new() };
        match event["type"].as_str() {
            Some("system") => self.system(&event),
            Some("stream_event") => self.part(&event["event"]),
            Some("assistant") => self.assistant(&event),
            Some("user") if event["isReplay"] != Value::Bool(true) => {
                content(&event).flat_map(|block| self.tool_result(block)).collect()
            }
            Some("rate_limit_event") => rate_limit(&event["rate_limit_info"]).into_iter().collect(),
            Some("result") => {
                self.result = Some(event);
                self.rest()
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
                vec![Told::Init {
                    model: text(&event["model"]),
                    version: text(&event["claude_code_version"]),
                }]
            }
            Some("api_retry") => {
                self.retried_status = event["error_status"].as_u64();
                let number = |name: &str| event[name].as_u64().unwrap_or(0);
                let (attempt, most) = (number("attempt"), number("max_retries"));
                vec![Told::Retry { status: self.retried_status, attempt, most }]
            }
            _ => Vec::new(),
        }
    }

    /// A piece of a message, as the API streams it.
    fn part(&mut self, event: &Value) -> Vec<Told> {
        match event["type"].as_str() {
            Some("message_start") => {
                self.answered = true;
                self.usage = Usage::default();
                self.count(&event["message"]["usage"]);
                Vec::new()
            }
            Some("content_block_start") => {
                self.streamed = false;
                Vec::new()
            }
            Some("content_block_delta") => {
                let delta = &event["delta"];
                self.streamed = true;
                let said = delta["text"].as_str().and_then(|text| self.text.push(text)).map(Told::Text);
                let thought =
                    delta["thinking"].as_str().and_then(|text| self.thinking.push(text)).map(Told::Thinking);
                thought.into_iter().chain(said).collect()
            }
            Some("content_block_stop") => self.rest(),
            Some("message_delta") => {
                self.count(&event["usage"]);
                let Usage { input, cached, output } = self.usage;
                vec![Told::Usage { input, cached, output }]
            }
            _ => Vec::new(),
        }
    }

    fn count(&mut self, usage: &Value) {
        let set = |count: &mut u64, value: Option<u64>| *count = value.unwrap_or(*count);
        set(&mut self.usage.input, usage["input_tokens"].as_u64());
        set(&mut self.usage.output, usage["output_tokens"].as_u64());
        let read = usage["cache_read_input_tokens"].as_u64();
        let written = usage["cache_creation_input_tokens"].as_u64();
        if read.is_some() || written.is_some() {
            self.usage.cached = read.unwrap_or(0) + written.unwrap_or(0);
        }
    }

    /// What was held back of the block under way.
    fn rest(&mut self) -> Vec<Told> {
        let thought = self.thinking.finish().map(Told::Thinking);
        thought.into_iter().chain(self.text.finish().map(Told::Text)).collect()
    }

    fn tool_result(&mut self, block: &Value) -> Vec<Told> {
        if block["type"] != "tool_result" {
            return Vec::new();
        }
        let text = match &block["content"] {
            Value::String(text) => text.clone(),
            _ => parts(block).filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        };
        let id = block["tool_use_id"].as_str().unwrap_or_default().to_owned();
        let is_error = block["is_error"] == Value::Bool(true);
        let mut told = vec![Told::ToolResult { id, text: cut(&text), is_error }];
        for (end, media_type, content) in parts(block).filter_map(picture) {
            if self.pictures < PICTURES_MAX {
                self.pictures += 1;
                let session = self.session_id.as_deref().unwrap_or("session");
                let name = format!("picture-{session:.8}-{}.{end}", self.pictures);
                told.push(Told::Picture { name, media_type, content });
            }
        }
        told
    }

    /// A whole block. Each comes with a line of its own, before the API says that it is over.
    fn assistant(&mut self, event: &Value) -> Vec<Told> {
        self.answered = true;
        if let Some(error) = event["error"].as_str() {
            self.api_error = Some(error.to_owned());
        }
        let mut told = self.rest();
        for block in content(event) {
            match block["type"].as_str() {
                Some("text") if !self.streamed => told.push(Told::Text(text(&block["text"]))),
                Some("thinking") if !self.streamed => told.push(Told::Thinking(text(&block["thinking"]))),
                Some("tool_use" | "server_tool_use" | "mcp_tool_use") => told.push(Told::ToolUse {
                    id: text(&block["id"]),
                    name: text(&block["name"]),
                    input: shortened(&block["input"]),
                }),
                _ => {}
            }
        }
        told.retain(|told| !told.is_empty());
        told
    }
}

fn parts(block: &Value) -> impl Iterator<Item = &Value> {
    block["content"].as_array().into_iter().flatten()
}

fn content(event: &Value) -> impl Iterator<Item = &Value> {
    event["message"]["content"].as_array().into_iter().flatten()
}

/// A picture in a tool's result, and how its file ends.
fn picture(part: &Value) -> Option<(&'static str, String, Vec<u8>)> {
    let source =
        Some(&part["source"]).filter(|source| part["type"] == "image" && source["type"] == "base64")?;
    let media_type = source["media_type"].as_str()?;
    let end = match media_type {
        "image/png" => "png",
        "image/jpeg" => "jpeg",
        "image/webp" => "webp",
        "image/gif" => "gif",
        _ => return None,
    };
    let content = STANDARD.decode(source["data"].as_str()?).ok()?;
    Some((end, media_type.to_owned(), content))
}

/// Said with every answer to a subscription; worth telling only where it is more than fine.
fn rate_limit(info: &Value) -> Option<Told> {
    let status = info["status"].as_str().filter(|status| *status != "allowed")?;
    Some(Told::RateLimit { status: status.to_owned() })
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
            r#"{"type":"system","subtype":"init","session_id":"s1","model":"m","claude_code_version":"9","mcp_servers":[{"name":"memory","status":"pending"}]}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I look."}]}}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"command":"ls\npwd"}}]}}"#,
            r#"{"type":"user","message":{"content":[{"type":"tool_result","content":"a.txt\nb.txt"}]}}"#,
            r#"{"type":"user","isReplay":true,"message":{"role":"user","content":"again"}}"#,
            r#"{"type":"of_the_future","x":1}"#,
            r#"{"type":"stream_event","event":{"type":"of_the_future"}}"#,
            r#"{"type":"system","subtype":"of_the_future"}"#,
            "not json",
        ]);
        assert_eq!(told, ["claude 9 starts with model m", "I look.", "Bash: ls", "  -> a.txt"]);
        assert_eq!(transcript.session_id.as_deref(), Some("s1"));
        assert_eq!(transcript.unconnected, [("memory".to_owned(), "pending".to_owned())]);
        assert!(transcript.result.is_none());
    }

    #[test]
    fn pictures_are_kept() {
        let mut transcript = Transcript { session_id: Some("0123456789".into()), ..Transcript::default() };
        let source = r#"{"type":"base64","media_type":"image/png","data":"iVBORw=="}"#;
        let line = format!(
            r#"{{"type":"user","message":{{"content":[{{"type":"tool_result","content":[{{"type":"text","text":"shot"}},{{"type":"image","source":{source}}}]}}]}}}}"#
        );
        let told = transcript.read(line.as_bytes());
        let content = b"\x89PNG".to_vec();
        let name = "picture-01234567-1.png".to_owned();
        assert_eq!(told[1], Told::Picture { name, media_type: "image/png".into(), content });
        assert_eq!(told[0].line(), "  -> shot");
    }

    #[test]
    fn what_came_in_pieces_is_told_once() {
        let (_, told) = read(&[
            r#"{"type":"stream_event","event":{"type":"message_start","message":{"usage":{"input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":1}}}}"#,
            r#"{"type":"stream_event","event":{"type":"content_block_start","content_block":{"type":"thinking"}}}"#,
            r#"{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"Hm."}}}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"thinking","thinking":"Hm."}]}}"#,
            r#"{"type":"stream_event","event":{"type":"content_block_stop"}}"#,
            r#"{"type":"stream_event","event":{"type":"content_block_start","content_block":{"type":"text"}}}"#,
            r#"{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"I lo"}}}"#,
            r#"{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"ok.\nNow"}}}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"text","text":"I look.\nNow"}]}}"#,
            r#"{"type":"stream_event","event":{"type":"content_block_stop"}}"#,
            r#"{"type":"stream_event","event":{"type":"message_delta","usage":{"output_tokens":50}}}"#,
        ]);
        assert_eq!(told, ["(thinks) Hm.", "I look.\n", "Now", "  = 1100 tokens read, 50 written"]);
    }
}
