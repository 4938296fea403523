//! Scripts: which reply a request gets. A script sees the whole request, so it can follow what the tools really did.

use crate::record::Recorded;
use crate::reply::Reply;
use serde_json::Value;

/// One request for a message, as a script sees it.
#[derive(Debug)]
pub struct Turn<'a> {
    /// Tool-calling messages of the assistant since the last prompt: 0 for the first request after a prompt.
    pub number: usize,
    /// The request.
    pub request: &'a Recorded,
}

impl<'a> Turn<'a> {
    pub(crate) fn of(request: &'a Recorded) -> Self {
        let number = since_last_prompt(&request.body)
            .iter()
            .filter(|message| message["role"] == "assistant" && has_block(message, "tool_use"))
            .count();
        Self { number, request }
    }

    /// The text of the last prompt: all text of the last user message that carries no tool result.
    pub fn prompt(&self) -> String {
        let messages = messages(&self.request.body);
        messages.iter().rfind(|message| is_prompt(message)).map(text_of).unwrap_or_default()
    }

    /// The text of the results of the last tool calls, joined by line ends; empty before the first.
    pub fn tool_results(&self) -> String {
        let Some(last) =
            since_last_prompt(&self.request.body).iter().rfind(|message| message["role"] == "user")
        else {
            return String::new();
        };
        let results = last["content"].as_array().into_iter().flatten();
        let results = results.filter(|block| block["type"] == "tool_result");
        results.map(text_of).collect::<Vec<_>>().join("\n")
    }
}

/// Decides the reply to every request for a message.
pub struct Script(Box<dyn Fn(&Turn<'_>) -> Reply + Send + Sync>);

impl Script {
    /// A script that is a function of the request.
    pub fn new(reply: impl Fn(&Turn<'_>) -> Reply + Send + Sync + 'static) -> Self {
        Self(Box::new(reply))
    }

    /// Turn `n` after each prompt gets reply `n`. A turn past the last gets an error 400 that says so, which is not
    /// retried.
    pub fn turns(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies: Vec<Reply> = replies.into_iter().collect();
        Self::new(move |turn| match replies.get(turn.number) {
            Some(reply) => reply.clone(),
            None => Reply::error(
                400,
                "invalid_request_error",
                format!("the script ends after {} turns; this is turn {}", replies.len(), turn.number),
            ),
        })
    }

    /// The same reply to every request.
    pub fn always(reply: Reply) -> Self {
        Self::new(move |_| reply.clone())
    }

    pub(crate) fn reply(&self, turn: &Turn<'_>) -> Reply {
        (self.0)(turn)
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Script")
    }
}

fn messages(body: &Value) -> &[Value] {
    body["messages"].as_array().map_or(&[], Vec::as_slice)
}

/// The messages after the last prompt.
fn since_last_prompt(body: &Value) -> &[Value] {
    let messages = messages(body);
    let start = messages.iter().rposition(is_prompt).map_or(0, |at| at + 1);
    &messages[start..]
}

fn is_prompt(message: &Value) -> bool {
    message["role"] == "user" && !has_block(message, "tool_result")
}

fn has_block(message: &Value, kind: &str) -> bool {
    message["content"].as_array().is_some_and(|blocks| blocks.iter().any(|block| block["type"] == kind))
}

/// The text inside a message or block, whichever of the API's two spellings it has.
fn text_of(holder: &Value) -> String {
    match &holder["content"] {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(messages: Value) -> Recorded {
        Recorded { body: json!({ "messages": messages }), ..Recorded::default() }
    }

    #[test]
    fn turns_are_counted_from_the_last_prompt() {
        let request = request(json!([
            { "role": "user", "content": "first" },
            { "role": "assistant", "content": [{ "type": "tool_use" }] },
            { "role": "user", "content": [{ "type": "tool_result", "content": "old" }] },
            { "role": "assistant", "content": [{ "type": "text", "text": "done" }] },
            { "role": "user", "content": [{ "type": "text", "text": "second" }] },
            { "role": "assistant", "content": [{ "type": "text", "text": "x" }, { "type": "tool_use" }] },
            { "role": "user", "content": [
                { "type": "tool_result", "content": [{ "type": "text", "text": "a" }] },
                { "type": "tool_result", "content": "b" },
            ] },
        ]));
        let turn = Turn::of(&request);
        assert_eq!((turn.number, turn.prompt(), turn.tool_results()), (1, "second".into(), "a\nb".into()));
    }

    #[test]
    fn a_script_of_turns_says_where_it_ends() {
        let script = Script::turns([Reply::text("only")]);
        let first = request(json!([{ "role": "user", "content": "go" }]));
        assert_eq!(script.reply(&Turn::of(&first)), Reply::text("only"));
        let second = request(json!([
            { "role": "user", "content": "go" },
            { "role": "assistant", "content": [{ "type": "tool_use" }] },
        ]));
        let Reply::Error { status, message, .. } = script.reply(&Turn::of(&second)) else {
            panic!("no error")
        };
        assert_eq!((status, message.as_str()), (400, "the script ends after 1 turns; this is turn 1"));
    }
}
