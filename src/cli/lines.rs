//! What steps say, in lines: a program may write a line in many pieces.

use super::progress::{printable, words};
use crate::capability::stream::{Content, StreamEntry};
use crate::id::StepRef;

/// Most bytes of a line that has no end yet. A longer one is shown in several.
const OPEN_MAX: usize = 64 << 10;

/// Streams that come as programs write them. What a component says in any other is whole.
const PIECEMEAL: [&str; 2] = ["stdout", "stderr"];

/// Beginnings of lines whose ends have not come.
#[derive(Default)]
pub(super) struct Lines(Vec<Open>);

struct Open {
    who: StepRef,
    attempt: u32,
    stream: String,
    text: String,
}

impl Lines {
    /// The lines that an entry completes.
    pub(super) fn take(&mut self, entry: &StreamEntry) -> Vec<String> {
        let piece = match &entry.content {
            Content::Text(piece) if PIECEMEAL.contains(&entry.stream.as_str()) => piece,
            Content::Text(text) => return text.lines().map(printable).collect(),
            Content::Data(data) => {
                let text = words(data).map_or_else(|| data.to_string(), ToOwned::to_owned);
                return text.lines().map(printable).collect();
            }
        };
        let place = self.0.iter().position(|open| {
            (&open.who, open.attempt, &open.stream) == (&entry.who, entry.attempt, &entry.stream)
        });
        let mut text = place.map_or_else(String::new, |place| self.0.remove(place).text);
        text.push_str(piece);
        let end = if text.len() > OPEN_MAX { text.len() } else { text.rfind('\n').map_or(0, |end| end + 1) };
        let rest = text.split_off(end);
        if !rest.is_empty() {
            let (who, stream) = (entry.who.clone(), entry.stream.clone());
            self.0.push(Open { who, attempt: entry.attempt, stream, text: rest });
        }
        text.lines().map(printable).collect()
    }

    /// Ends the lines of a step, or of all where none is named.
    pub(super) fn end(&mut self, step: Option<&StepRef>) -> Vec<(StepRef, String)> {
        let ended = self.0.extract_if(.., |open| step.is_none_or(|step| open.who == *step));
        ended.map(|open| (open.who, printable(&open.text))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(step: &str, stream: &str, content: Content) -> StreamEntry {
        let who = StepRef::parse(step);
        StreamEntry { who, attempt: 1, stream: stream.into(), at: jiff::Timestamp::UNIX_EPOCH, content }
    }

    fn text(step: &str, stream: &str, text: &str) -> StreamEntry {
        entry(step, stream, Content::Text(text.into()))
    }

    #[test]
    fn pieces_are_put_together() {
        let mut lines = Lines::default();
        assert!(lines.take(&text("a", "stderr", "cat: ")).is_empty());
        assert!(lines.take(&text("b", "stderr", "not this")).is_empty());
        assert_eq!(lines.take(&text("a", "stdout", "out\n")), ["out"]);
        assert_eq!(lines.take(&text("a", "stderr", "no file\nsecond\nth")), ["cat: no file", "second"]);
        assert_eq!(lines.take(&text("a", "progress", "fetching")), ["fetching"]);
        assert_eq!(lines.take(&entry("a", "log", Content::Data(json!({ "message": "m" })))), ["m"]);
        assert_eq!(lines.end(Some(&StepRef::parse("a"))), [(StepRef::parse("a"), "th".into())]);
        assert_eq!(lines.end(None), [(StepRef::parse("b"), "not this".into())]);
        assert!(lines.end(None).is_empty());
    }

    #[test]
    fn a_line_without_an_end_is_not_kept_for_ever() {
        let mut lines = Lines::default();
        let long = "x".repeat(OPEN_MAX);
        assert!(lines.take(&text("a", "stdout", &long)).is_empty());
        assert_eq!(lines.take(&text("a", "stdout", "y")), [format!("{long}y")]);
        assert!(lines.end(None).is_empty());
    }
}
