//! Replies as the API writes them: JSON bodies and server-sent events.

use crate::reply::{Block, Reply, Stop, Usage};
use serde_json::{Value, json};

/// Characters of text in one delta: small, so that clients have to join them.
const TEXT_DELTA_CHARS: usize = 12;
/// Characters of a tool's arguments in one delta.
const INPUT_DELTA_CHARS: usize = 40;
/// Output tokens that the start of a message reports; clients must not take them for the total.
const OUTPUT_AT_START: u64 = 1;

/// Signs thoughts; nobody checks it.
const SIGNATURE: &str = "c2NyaXB0ZWQ=";

/// How a stream of events ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The body is complete.
    Clean,
    /// The connection breaks inside the body.
    Broken,
    /// Nothing more comes, and nothing ends.
    Open,
    /// The last event is repeated for ever.
    Repeating,
}

/// A message with its number, which makes its ids unique.
pub(crate) struct Message<'a> {
    pub(crate) number: usize,
    pub(crate) model: &'a Value,
    pub(crate) blocks: &'a [Block],
    pub(crate) stop: Option<Stop>,
    pub(crate) usage: Usage,
}

impl Message<'_> {
    /// The body of an answer that is not streamed.
    pub(crate) fn whole(&self) -> Value {
        let blocks = self.blocks.iter().enumerate().map(|(at, block)| self.block(at, block)).collect();
        self.envelope(Value::Array(blocks), json!(self.stop_reason().name()), self.usage.output)
    }

    /// The events of a streamed answer.
    pub(crate) fn events(&self) -> Vec<Value> {
        let mut events = vec![self.start()];
        for (index, block) in self.blocks.iter().enumerate() {
            let mut opening = self.block(index, block);
            let deltas: Vec<Value> = match block {
                Block::Text(text) => {
                    opening["text"] = json!("");
                    pieces(text, TEXT_DELTA_CHARS)
                        .into_iter()
                        .map(|piece| json!({ "type": "text_delta", "text": piece }))
                        .collect()
                }
                Block::Thinking(text) => {
                    opening["thinking"] = json!("");
                    let texts = pieces(text, TEXT_DELTA_CHARS).into_iter();
                    let texts = texts.map(|piece| json!({ "type": "thinking_delta", "thinking": piece }));
                    texts.chain([json!({ "type": "signature_delta", "signature": SIGNATURE })]).collect()
                }
                Block::Tool { input, .. } => {
                    opening["input"] = json!({});
                    pieces(&input.to_string(), INPUT_DELTA_CHARS)
                        .into_iter()
                        .map(|piece| json!({ "type": "input_json_delta", "partial_json": piece }))
                        .collect()
                }
            };
            events.push(json!({ "type": "content_block_start", "index": index, "content_block": opening }));
            for delta in deltas {
                events.push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
            }
            events.push(json!({ "type": "content_block_stop", "index": index }));
        }
        events.push(json!({
            "type": "message_delta",
            "delta": { "stop_reason": self.stop_reason().name(), "stop_sequence": null },
            "usage": { "output_tokens": self.usage.output },
        }));
        events.push(json!({ "type": "message_stop" }));
        events
    }

    fn start(&self) -> Value {
        json!({ "type": "message_start", "message": self.envelope(json!([]), Value::Null, OUTPUT_AT_START) })
    }

    fn envelope(&self, content: Value, stop_reason: Value, output_tokens: u64) -> Value {
        json!({
            "id": format!("msg_scripted_{}", self.number),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": null,
            "usage": {
                "input_tokens": self.usage.input,
                "cache_creation_input_tokens": self.usage.cache_creation,
                "cache_read_input_tokens": self.usage.cache_read,
                "output_tokens": output_tokens,
            },
        })
    }

    fn block(&self, at: usize, block: &Block) -> Value {
        match block {
            Block::Text(text) => json!({ "type": "text", "text": text }),
            Block::Thinking(text) => {
                json!({ "type": "thinking", "thinking": text, "signature": SIGNATURE })
            }
            Block::Tool { name, input } => json!({
                "type": "tool_use",
                "id": format!("toolu_scripted_{}_{at}", self.number),
                "name": name,
                "input": input,
            }),
        }
    }

    fn stop_reason(&self) -> Stop {
        let calls_a_tool = self.blocks.iter().any(|block| matches!(block, Block::Tool { .. }));
        self.stop.unwrap_or(if calls_a_tool { Stop::ToolUse } else { Stop::EndTurn })
    }
}

/// The events and end of a stream that goes wrong, `None` for the other replies.
pub(crate) fn faulty_stream(reply: &Reply, number: usize, model: &Value) -> Option<(Vec<Value>, End)> {
    let end = match reply {
        Reply::MidStream | Reply::Cut => End::Clean,
        Reply::Broken => End::Broken,
        Reply::Stall => End::Open,
        Reply::Endless => End::Repeating,
        _ => return None,
    };
    let message = Message { number, model, blocks: &[], stop: None, usage: Usage::default() };
    let mut events = vec![
        message.start(),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({
            "type": "content_block_delta",
            "index": 0,
            "delta": { "type": "text_delta", "text": "partial " },
        }),
    ];
    if *reply == Reply::MidStream {
        events.push(json!({
            "type": "error",
            "error": { "type": "overloaded_error", "message": "Overloaded" },
        }));
    }
    Some((events, end))
}

/// An event as server-sent events spell it.
pub(crate) fn sse(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("message"))
}

/// Cuts a text into pieces of that many characters; an empty text is one empty piece.
fn pieces(text: &str, chars: usize) -> Vec<String> {
    let all: Vec<char> = text.chars().collect();
    if all.is_empty() {
        return vec![String::new()];
    }
    all.chunks(chars).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_join_to_what_was_meant() {
        let blocks = [
            Block::text("A text that is longer than twelve characters, with an é."),
            Block::tool(
                "Bash",
                json!({ "command": "printf '%s' \"a rather long command line, cut in pieces\"" }),
            ),
        ];
        let message =
            Message { number: 7, model: &json!("m"), blocks: &blocks, stop: None, usage: Usage::default() };
        let events = message.events();
        let join = |index: u64, field: &str| -> String {
            events
                .iter()
                .filter(|event| event["index"] == index)
                .filter_map(|event| event["delta"][field].as_str())
                .collect()
        };
        let whole = message.whole();
        assert_eq!(whole["content"][0]["text"], join(0, "text"));
        let input: Value = serde_json::from_str(&join(1, "partial_json")).unwrap();
        assert_eq!(whole["content"][1]["input"], input);
        assert_eq!(whole["stop_reason"], "tool_use");
        assert_eq!(events[0]["message"]["usage"]["output_tokens"], 1);
        assert_eq!(events.last().unwrap()["type"], "message_stop");
    }
}
