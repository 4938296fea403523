//! Everything one attempt says, on its way to the stream store: masked, bounded, in order. Nothing may reach the store
//! by another way.

use crate::capability::mask::{MaskedStream, Masker};
use crate::capability::stream::{Content, StreamEntry, StreamStore};
use crate::id::{RunId, StepRef};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes that one attempt may say; the rest is dropped with a note.
pub(super) const OUTPUT_LIMIT: usize = 16 << 20;

/// Bytes of one text entry.
const ENTRY_LIMIT: usize = 64 << 10;

/// Bytes that may wait for the store before guests have to wait.
const QUEUE_LIMIT: usize = 1 << 20;

/// Streams that one attempt may name.
const STREAM_LIMIT: usize = 32;

/// The voice of one attempt.
pub(super) struct Output {
    run: RunId,
    at: StepRef,
    attempt: u32,
    masker: Masker,
    state: Mutex<State>,
    /// There is something to store.
    work: Notify,
    /// There is room again.
    room: Notify,
}

struct State {
    queue: VecDeque<StreamEntry>,
    queued: usize,
    said: usize,
    texts: BTreeMap<String, Text>,
    last: Instant,
    closed: bool,
}

/// A stream of text that arrives in pieces.
struct Text {
    masked: MaskedStream,
    /// The beginning of a character whose other bytes have not arrived.
    partial: Vec<u8>,
}

impl Output {
    pub(super) fn new(run: RunId, at: StepRef, attempt: u32, masker: Masker) -> Self {
        let state = State {
            queue: VecDeque::new(),
            queued: 0,
            said: 0,
            texts: BTreeMap::new(),
            last: Instant::now(),
            closed: false,
        };
        Self { run, at, attempt, masker, state: Mutex::new(state), work: Notify::new(), room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a sign of life.
    pub(super) fn touch(&self) {
        self.lock().last = Instant::now();
    }

    /// When the attempt last gave a sign of life.
    pub(super) fn last(&self) -> Instant {
        self.lock().last
    }

    /// Adds bytes to a stream of text.
    pub(super) fn text(&self, stream: &str, bytes: &[u8]) {
        let mut state = self.lock();
        state.last = Instant::now();
        if !state.texts.contains_key(stream) {
            if state.texts.len() == STREAM_LIMIT {
                return;
            }
            let text = Text { masked: self.masker.stream(), partial: Vec::new() };
            state.texts.insert(stream.to_owned(), text);
        }
        let Some(text) = state.texts.get_mut(stream) else { return };
        let masked = text.masked.feed(bytes);
        let whole = text.characters(&masked, false);
        self.push_text(&mut state, stream, &whole);
    }

    /// Adds a typed entry. Text inside is masked as it is, not across entries.
    pub(super) fn entry(&self, stream: &str, content: Content) {
        let (content, size) = match content {
            Content::Text(text) => {
                let text = self.masker.text(&text);
                let size = text.len();
                (Content::Text(text), size)
            }
            Content::Data(value) => {
                let value = self.masker.json(value);
                let size = value.to_string().len();
                (Content::Data(value), size)
            }
        };
        let mut state = self.lock();
        state.last = Instant::now();
        self.push(&mut state, stream, content, size);
    }

    fn push_text(&self, state: &mut State, stream: &str, mut text: &str) {
        while !text.is_empty() {
            let (entry, rest) = text.split_at(text.floor_char_boundary(ENTRY_LIMIT));
            self.push(state, stream, Content::Text(entry.to_owned()), entry.len());
            text = rest;
        }
    }

    fn push(&self, state: &mut State, stream: &str, content: Content, size: usize) {
        if state.said > OUTPUT_LIMIT {
            return;
        }
        state.said += size;
        let (stream, content, size) = match state.said > OUTPUT_LIMIT {
            false => (stream, content, size),
            true => {
                let note =
                    format!("[the step said more than {} MiB; the rest is dropped]", OUTPUT_LIMIT >> 20);
                ("log", Content::Data(serde_json::json!({"level": "warn", "message": note})), note.len())
            }
        };
        state.queued += size;
        state.queue.push_back(StreamEntry {
            who: self.at.clone(),
            attempt: self.attempt,
            stream: stream.to_owned(),
            at: jiff::Timestamp::now(),
            content,
        });
        self.work.notify_one();
    }

    /// Masks a text that leaves the step another way.
    pub(super) fn mask(&self, text: &str) -> String {
        self.masker.text(text)
    }

    /// Masks a value that leaves the step another way.
    pub(super) fn mask_json(&self, value: Value) -> Value {
        self.masker.json(value)
    }

    /// Masks bytes that leave the step another way.
    pub(super) fn mask_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        self.masker.bytes(bytes)
    }

    /// Whether more may be said without waiting.
    pub(super) fn has_room(&self) -> bool {
        self.lock().queued < QUEUE_LIMIT
    }

    /// Waits until more may be said.
    pub(super) async fn room(&self) {
        loop {
            let notified = self.room.notified();
            if self.has_room() {
                return;
            }
            notified.await;
        }
    }

    /// Gives out what was held back and lets [`Self::store`] return.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        for (stream, mut text) in std::mem::take(&mut state.texts) {
            let masked = text.masked.finish();
            let whole = text.characters(&masked, true);
            self.push_text(&mut state, &stream, &whole);
        }
        state.closed = true;
        self.work.notify_one();
    }

    /// Carries entries to the store until the output is closed and empty.
    pub(super) async fn store(self: Arc<Self>, streams: Arc<dyn StreamStore>) {
        let mut failed = false;
        loop {
            let (entries, closed) = {
                let mut state = self.lock();
                state.queued = 0;
                (std::mem::take(&mut state.queue), state.closed)
            };
            self.room.notify_waiters();
            let idle = entries.is_empty();
            for entry in entries {
                if let Err(error) = streams.append(&self.run, entry).await
                    && !std::mem::replace(&mut failed, true)
                {
                    tracing::warn!("output of run {} step {} is not kept: {error}", self.run, self.at);
                }
            }
            match (idle, closed) {
                (true, true) => return,
                (true, false) => self.work.notified().await,
                (false, _) => {}
            }
        }
    }
}

impl Text {
    /// Turns bytes into text, keeping the beginning of an unfinished character unless nothing follows.
    fn characters(&mut self, bytes: &[u8], last: bool) -> String {
        self.partial.extend_from_slice(bytes);
        let mut bytes = std::mem::take(&mut self.partial);
        if !last {
            let unfinished = unfinished(&bytes);
            self.partial = bytes.split_off(bytes.len() - unfinished);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// How many bytes at the end are the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    for (behind, byte) in bytes.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        return if length > behind + 1 { behind + 1 } else { 0 };
    }
    0
}
