//! An entry as a line of JSON: how it is bounded, written and read. No I/O.

use super::{Content, Cursor, MAX_DATA, MAX_STREAM, MAX_TEXT, StreamEntry};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;

/// Bytes of the longest line: a text may grow sixfold as JSON, and the rest is names. Longer ones are refused.
pub(super) const MAX_LINE: usize = 512 * 1024;
/// Bytes kept free for the last entry of a stream that is full.
const RESERVE: u64 = 4 * 1024;

/// The line of an entry, with its end.
pub(super) fn write(entry: &StreamEntry) -> Result<Vec<u8>> {
    let too_large = |what: &str, bytes: usize, most: usize| {
        CapabilityError::new(
            ErrorKind::TOO_LARGE,
            format!(
                "{what} of {bytes} bytes is more than the {} KiB of one entry: send it in parts",
                most / 1024
            ),
        )
    };
    if let Content::Text(text) = &entry.content
        && text.len() > MAX_TEXT
    {
        return Err(too_large("a text", text.len(), MAX_TEXT));
    }
    let mut line = serde_json::to_vec(entry).map_err(|error| {
        CapabilityError::new(ErrorKind::OTHER, format!("an entry cannot be written: {error}"))
    })?;
    // What surrounds an event is far smaller than the event may be, so this is no second, different limit.
    if matches!(entry.content, Content::Data(_)) && line.len() > MAX_DATA + RESERVE as usize {
        return Err(too_large("an event", line.len(), MAX_DATA));
    }
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(too_large("an entry", line.len(), MAX_LINE));
    }
    Ok(line)
}

/// What a stream of `length` bytes does with the line of `entry`.
pub(super) fn fit(length: u64, line: Vec<u8>, entry: &StreamEntry, most: u64) -> Option<Vec<u8>> {
    if length + line.len() as u64 + RESERVE <= most {
        return Some(line);
    }
    if length >= most {
        return None;
    }
    // The last entry fills the stream to its limit with spaces, so that its length alone says that it is full.
    let last = StreamEntry {
        stream: "log".into(),
        content: Content::Text(format!(
            "harvest: this run's streams reached their limit of {} MiB; what follows is not kept\n",
            MAX_STREAM >> 20
        )),
        ..entry.clone()
    };
    let mut line = serde_json::to_vec(&last).ok()?;
    line.resize(usize::try_from(most - length).ok()?.max(line.len() + 1), b' ');
    *line.last_mut()? = b'\n';
    Some(line)
}

/// The whole lines of `bytes`, which begins at `start`, at most `limit`; and the cursor behind the last one looked at.
/// A line that is no entry is what a crash left of one: it is passed over.
pub(super) fn read(bytes: &[u8], start: Cursor, limit: usize) -> (Vec<(Cursor, StreamEntry)>, Cursor) {
    let mut entries = Vec::new();
    let mut cursor = start;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if entries.len() == limit || !line.ends_with(b"\n") {
            break;
        }
        cursor += line.len() as u64;
        match serde_json::from_slice(line) {
            Ok(entry) => entries.push((cursor, entry)),
            Err(error) => tracing::debug!(%error, cursor, "a line of a stream is not an entry"),
        }
    }
    (entries, cursor)
}
