//! What is told to whoever watches: an event for programs, with a line for people in it.

use serde_json::{Value, json};

/// Characters of one tool input or result that are told.
const DETAIL_MAX: usize = 2_000;
/// Items of a list in a tool's input that are told.
const ITEMS_MAX: usize = 20;

/// Something worth telling.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// The CLI has started.
    Init { model: String, version: String },
    /// A piece of what the agent says; the pieces joined are all of it.
    Text(String),
    /// A piece of what it thinks.
    Thinking(String),
    /// The agent uses a tool.
    ToolUse { id: String, name: String, input: Value },
    /// A tool answered.
    ToolResult { id: String, text: String, is_error: bool },
    /// A tool answered with a picture, kept as an artifact of this name.
    Picture { name: String, media_type: String, content: Vec<u8> },
    /// A message has ended, with what it took.
    Usage { input: u64, cached: u64, output: u64 },
    /// An API call failed and is tried again.
    Retry { status: Option<u64>, attempt: u64, most: u64 },
    /// The account is near or at a limit of its own.
    RateLimit { status: String },
}

impl Told {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Text(text) | Self::Thinking(text) if text.is_empty())
    }

    /// For people.
    pub fn line(&self) -> String {
        match self {
            Self::Init { model, version } => format!("claude {version} starts with model {model}"),
            Self::Text(text) => text.clone(),
            Self::Thinking(text) => format!("(thinks) {text}"),
            Self::ToolUse { name, input, .. } => format!("{name}: {}", gist(input)),
            Self::ToolResult { text, is_error, .. } => {
                let first = text.lines().next().unwrap_or_default();
                format!("{} {first}", if *is_error { "  ! " } else { "  ->" })
            }
            Self::Picture { name, .. } => format!("  -> a picture: artifact {name}"),
            Self::Usage { input, cached, output } => {
                format!("  = {} tokens read, {output} written", input + cached)
            }
            Self::Retry { status, attempt, most } => {
                let status = status.map_or_else(|| "no answer".to_owned(), |status| format!("HTTP {status}"));
                format!("the model API failed ({status}); retry {attempt} of {most}")
            }
            Self::RateLimit { status } => format!("the account's rate limit: {status}"),
        }
    }

    /// For programs. `text` is the line for people, except that what the agent says and thinks is there word for word.
    pub fn event(&self) -> Value {
        let mut event = match self {
            Self::Init { model, version } => json!({ "kind": "init", "model": model, "version": version }),
            Self::Text(_) => json!({ "kind": "text_delta" }),
            Self::Thinking(text) => json!({ "kind": "thinking", "thinking": text }),
            Self::ToolUse { id, name, input } => {
                json!({ "kind": "tool_use", "id": id, "name": name, "input": input })
            }
            Self::ToolResult { id, text, is_error } => {
                json!({ "kind": "tool_result", "id": id, "is_error": is_error, "content": text })
            }
            Self::Picture { name, media_type, content } => {
                let bytes = content.len();
                json!({ "kind": "picture", "artifact": name, "media_type": media_type, "bytes": bytes })
            }
            Self::Usage { input, cached, output } => json!({
                "kind": "usage",
                "input_tokens": input,
                "cached_input_tokens": cached,
                "output_tokens": output,
            }),
            Self::Retry { status, attempt, most } => {
                json!({ "kind": "retry", "status": status, "attempt": attempt, "max_retries": most })
            }
            Self::RateLimit { status } => json!({ "kind": "rate_limit", "status": status }),
        };
        event["text"] = self.line().into();
        event
    }
}

/// A tool input with its long texts cut.
pub fn shortened(input: &Value) -> Value {
    match input {
        Value::String(text) => cut(text).into(),
        Value::Array(items) => items.iter().take(ITEMS_MAX).map(shortened).collect(),
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

/// A text cut where it is long.
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(DETAIL_MAX) {
        Some((at, _)) => format!("{} [cut]", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_a_kind_and_a_line() {
        let told = Told::ToolResult { id: "t1".into(), text: "no such file\nx".into(), is_error: true };
        let expected = json!({
            "kind": "tool_result",
            "id": "t1",
            "is_error": true,
            "content": "no such file\nx",
            "text": "  !  no such file",
        });
        assert_eq!(told.event(), expected);
        assert_eq!(Told::Text("a".into()).event(), json!({ "kind": "text_delta", "text": "a" }));
    }
}
