//! What a script can answer. Data only; `wire` puts it into bytes.

use serde_json::Value;

/// A content block of an assistant's message.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// Text for the reader.
    Text(String),
    /// What the model thinks before it speaks.
    Thinking(String),
    /// A tool that the client is asked to run.
    Tool {
        /// Its name as the client knows it: `Read`, `Bash`, `mcp__memory__create_entities`.
        name: String,
        /// Its arguments, a JSON object.
        input: Value,
    },
}

impl Block {
    /// A block of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A block of thoughts.
    pub fn thinking(text: impl Into<String>) -> Self {
        Self::Thinking(text.into())
    }

    /// A call of a tool.
    pub fn tool(name: impl Into<String>, input: Value) -> Self {
        Self::Tool { name: name.into(), input }
    }
}

/// Why the model stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It had no more to say.
    EndTurn,
    /// It waits for the results of tools.
    ToolUse,
    /// It reached its limit of output tokens.
    MaxTokens,
    /// It declined to answer.
    Refusal,
}

impl Stop {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::EndTurn => "end_turn",
            Self::ToolUse => "tool_use",
            Self::MaxTokens => "max_tokens",
            Self::Refusal => "refusal",
        }
    }
}

/// Tokens that a message is said to have cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Input read outside the cache.
    pub input: u64,
    /// Input written to the cache.
    pub cache_creation: u64,
    /// Input read from the cache.
    pub cache_read: u64,
    /// Output, as the end of the message reports it.
    pub output: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { input: 100, cache_creation: 10, cache_read: 1000, output: 50 }
    }
}

/// One answer to `POST /v1/messages`.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// A whole message, streamed where the request asks for it.
    Message {
        /// Its content.
        blocks: Vec<Block>,
        /// Why it ends; `None` is [`Stop::ToolUse`] where a tool is called, else [`Stop::EndTurn`].
        stop: Option<Stop>,
        /// What it cost.
        usage: Usage,
    },
    /// An HTTP error with the API's JSON body.
    Error {
        /// HTTP status.
        status: u16,
        /// Such as `invalid_request_error`.
        kind: String,
        /// For people.
        message: String,
        /// Further headers: `retry-after`, `x-should-retry`.
        headers: Vec<(String, String)>,
    },
    /// A stream that starts a text and then carries an `overloaded_error` event.
    MidStream,
    /// A stream that starts a text and then ends, as if it were whole.
    Cut,
    /// A stream that starts a text; then the connection breaks.
    Broken,
    /// A stream that starts a text and then says nothing more, until the client gives up or the server is dropped.
    Stall,
    /// A stream of text without an end, until the client leaves.
    Endless,
    /// Nothing, until the client gives up or the server is dropped.
    Hang,
}

impl Reply {
    /// A message of one text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::blocks([Block::text(text)])
    }

    /// A message that calls one tool.
    pub fn tool(name: impl Into<String>, input: Value) -> Self {
        Self::blocks([Block::tool(name, input)])
    }

    /// A message of these blocks.
    pub fn blocks(blocks: impl IntoIterator<Item = Block>) -> Self {
        Self::Message { blocks: blocks.into_iter().collect(), stop: None, usage: Usage::default() }
    }

    /// An HTTP error.
    pub fn error(status: u16, kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Error { status, kind: kind.into(), message: message.into(), headers: Vec::new() }
    }

    /// Ends a message for this reason; other replies stay as they are.
    pub fn stopping(mut self, reason: Stop) -> Self {
        if let Self::Message { stop, .. } = &mut self {
            *stop = Some(reason);
        }
        self
    }

    /// Gives a message this cost; other replies stay as they are.
    pub fn costing(mut self, tokens: Usage) -> Self {
        if let Self::Message { usage, .. } = &mut self {
            *usage = tokens;
        }
        self
    }

    /// Adds a header to an error; other replies stay as they are.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let Self::Error { headers, .. } = &mut self {
            headers.push((name.into(), value.into()));
        }
        self
    }
}
