//! Answers of a model API that are counted while they pass, and cut off where they go beyond what may be spent.
//!
//! The input of a message is known from its first event, its output only once it ends: until then it is estimated from
//! what has arrived.

use super::gateway::Body;
use crate::capability::meter::Charge;
use crate::capability::price::{self, Usage};
use crate::step::Spent;
use bytes::Bytes;
use hyper::Method;
use hyper::body::Frame;
use serde_json::{Value, json};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Bytes of an answer that is not streamed, or of one event; the API's own are far smaller. Beyond, nothing is counted
/// any more and the answer is cut off.
const BUFFER_MAX: usize = 32 << 20;

/// Bytes of text that stand for a token until the message says how many it has. English has more than four a token, code
/// fewer.
const TOKEN_BYTES: u64 = 4;

/// Whether a request makes a model work.
pub(super) fn costs(method: &Method, path: &str) -> bool {
    method == Method::POST && path.ends_with("/v1/messages")
}

/// Whether a request is known to cost nothing.
pub(super) fn is_free(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
        || path.ends_with("/v1/messages/count_tokens")
}

/// A body that is counted.
pub(super) struct Metered {
    /// `None` once it was cut off.
    body: Option<Body>,
    charge: Charge,
    count: Count,
    events: bool,
}

impl Metered {
    /// `events` where the body is a stream of them, else it is one JSON value.
    pub(super) fn new(body: Body, charge: Charge, events: bool) -> Self {
        Self { body: Some(body), charge, count: Count::default(), events }
    }

    /// Takes in a piece. The error says why the message must not go on.
    fn take(&mut self, piece: &[u8]) -> Result<(), String> {
        let counted = if self.events { self.count.events(piece) } else { self.count.hold(piece) };
        self.charge.update(self.count.spent());
        if !counted {
            return Err("the answer is too large to be counted".into());
        }
        // The whole message is there, and paid for: what it goes beyond the budget is for the next one to feel.
        if self.count.complete { Ok(()) } else { self.charge.check() }
    }

    fn end(&mut self) {
        if !self.events {
            self.count.whole();
            self.charge.update(self.count.spent());
        }
    }
}

impl hyper::body::Body for Metered {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(piece) = frame.data_ref()
                    && let Err(why) = this.take(piece)
                {
                    // The connection to the upstream goes with it: nothing more is written, and nothing more billed.
                    this.body = None;
                    let frame = if this.events { Ok(Frame::data(last_words(&why))) } else { Err(why.into()) };
                    return Poll::Ready(Some(frame));
                }
            }
            Poll::Ready(None) => this.end(),
            _ => {}
        }
        polled
    }
}

/// An event that ends a stream with an error.
fn last_words(why: &str) -> Bytes {
    let error = json!({ "type": "billing_error", "message": format!("harvest: {why}") });
    // The empty line ends an event that was cut in its middle.
    format!("\n\nevent: error\ndata: {}\n\n", json!({ "type": "error", "error": error })).into()
}

/// What has been seen of a message.
#[derive(Default)]
struct Count {
    /// Of a stream the line under way, else all of the body.
    held: Vec<u8>,
    model: String,
    usage: Usage,
    /// Bytes of what the model has written.
    written: u64,
    complete: bool,
}

impl Count {
    /// What it costs as far as is known.
    fn spent(&self) -> Spent {
        let estimate = if self.complete { 0 } else { self.written / TOKEN_BYTES };
        price::spent(&self.model, Usage { output: self.usage.output.max(estimate), ..self.usage })
    }

    /// Keeps a piece for later; false where that is too much.
    fn hold(&mut self, piece: &[u8]) -> bool {
        let fits = self.held.len() + piece.len() <= BUFFER_MAX;
        if fits {
            self.held.extend_from_slice(piece);
        }
        fits
    }

    /// Reads the events of a piece; false where one is too large.
    fn events(&mut self, piece: &[u8]) -> bool {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if !self.hold(part) {
                return false;
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.held);
                if let Some(data) = line.strip_prefix(b"data:")
                    && let Ok(event) = serde_json::from_slice(data)
                {
                    self.event(&event);
                }
            }
        }
        true
    }

    fn event(&mut self, event: &Value) {
        match event["type"].as_str() {
            Some("message_start") => self.message(&event["message"]),
            Some("content_block_delta") => {
                let delta = event["delta"].as_object().into_iter().flatten();
                let texts = delta.filter(|(name, _)| *name != "type").filter_map(|(_, value)| value.as_str());
                self.written += texts.map(|text| text.len() as u64).sum::<u64>();
            }
            Some("message_delta") => {
                self.read(&event["usage"]);
                self.complete = true;
            }
            _ => {}
        }
    }

    /// Reads a body that is one message.
    fn whole(&mut self) {
        if let Ok(message) = serde_json::from_slice::<Value>(&self.held) {
            self.message(&message);
            self.complete = true;
        }
    }

    fn message(&mut self, message: &Value) {
        message["model"].as_str().unwrap_or_default().clone_into(&mut self.model);
        self.read(&message["usage"]);
    }

    /// Takes over what a usage says; what it does not say stays.
    fn read(&mut self, usage: &Value) {
        let set = |count: &mut u64, value: &Value| {
            if let Some(value) = value.as_u64() {
                *count = value;
            }
        };
        set(&mut self.usage.input, &usage["input_tokens"]);
        set(&mut self.usage.cache_read, &usage["cache_read_input_tokens"]);
        set(&mut self.usage.output, &usage["output_tokens"]);
        set(&mut self.usage.searches, &usage["server_tool_use"]["web_search_requests"]);
        let long = &usage["cache_creation"]["ephemeral_1h_input_tokens"];
        set(&mut self.usage.cache_write_long, long);
        if let Some(written) = usage["cache_creation_input_tokens"].as_u64() {
            self.usage.cache_write = written.saturating_sub(self.usage.cache_write_long);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"model":"claude-opus-4-8","usage":{"input_tokens":1000,"cache_creation_input_tokens":200,"cache_creation":{"ephemeral_1h_input_tokens":50},"cache_read_input_tokens":3000,"output_tokens":1}}}"#,
        "\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"four score and seven years ago"}}"#,
        "\n\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":400,"server_tool_use":{"web_search_requests":2}}}"#,
        "\n\ndata: {\"type\":\"message_stop\"}\n\n",
    );

    #[test]
    fn a_message_costs_its_input_at_once_and_its_output_as_it_comes() {
        let mut count = Count::default();
        let at = |end: &str| STREAM.find(end).unwrap();
        count.events(&STREAM.as_bytes()[..at("event: ping")]);
        // 1000 at 5, 150 at 6.25, 50 at 10, 3000 at 0.5, 1 at 25 millionths.
        assert_eq!(count.spent(), Spent { micro_usd: 7_963, input_tokens: 4_200, output_tokens: 1 });
        count.events(&STREAM.as_bytes()[at("event: ping")..at(r#"data: {"type":"message_delta""#)]);
        assert_eq!(count.spent().output_tokens, 30 / TOKEN_BYTES);
        count.events(&STREAM.as_bytes()[at(r#"data: {"type":"message_delta""#)..]);
        assert_eq!(count.spent(), Spent { micro_usd: 37_938, input_tokens: 4_200, output_tokens: 400 });
    }

    #[test]
    fn a_body_that_is_no_stream_is_counted_at_its_end() {
        let mut count = Count::default();
        count.hold(br#"{"model":"claude-haiku-4-5","#);
        count.hold(br#""usage":{"input_tokens":10,"output_tokens":20}}"#);
        count.whole();
        assert_eq!(count.spent(), Spent { micro_usd: 110, input_tokens: 10, output_tokens: 20 });
    }

    proptest! {
        /// Pieces are cut anywhere.
        #[test]
        fn it_does_not_matter_where_a_stream_is_cut(cuts in prop::collection::vec(0..STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let mut count = Count::default();
            for pair in cuts.windows(2) {
                prop_assert!(count.events(&STREAM.as_bytes()[pair[0]..pair[1]]));
            }
            prop_assert_eq!(count.spent().micro_usd, 37_938);
        }
    }
}
