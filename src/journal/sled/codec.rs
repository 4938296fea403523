//! How runs and events are spelled as keys and bytes. No I/O; nothing here panics, whatever bytes it is given.
//!
//! Values are cut into pieces of [`PIECE`] bytes, so that sled never moves one into a file of its own (`blobs/`), whose
//! writes are not in its log. The first piece begins with the length and the checksum of the whole value.

use crate::id::RunId;
use crate::journal::envelope::{End, nanoseconds, timestamp};
use crate::journal::{JournalError, MAX_PAYLOAD, Record, RunRow};

/// Bytes in one value of sled. A leaf has about 17 of them, and becomes a blob from 128 KiB on.
pub(super) const PIECE: usize = 4 * 1024;
/// Bytes before the first piece's own: length and checksum.
const HEAD: usize = 8;
/// Bytes that a value may have; a damaged length must not ask for gigabytes.
const MAX_VALUE: usize = MAX_PAYLOAD + 64 * 1024;

/// Bytes of a record's value before its payload: time and checksum.
const RECORD_HEAD: usize = 12;

/// The key of what the last commit was.
pub(super) const COMMIT: &[u8] = b"c";

/// What the keys of a row begin with.
pub(super) fn row_key(run: &RunId) -> Vec<u8> {
    key(b'r', run)
}

/// What the keys of all events of a run begin with.
pub(super) fn events_key(run: &RunId) -> Vec<u8> {
    key(b'e', run)
}

/// What the keys of an event begin with.
pub(super) fn event_key(run: &RunId, seq: u64) -> Vec<u8> {
    let mut key = events_key(run);
    key.extend(seq.to_be_bytes());
    key
}

/// A letter, the length of the id, the id: no run's keys begin with another's.
fn key(kind: u8, run: &RunId) -> Vec<u8> {
    let id = run.as_str().as_bytes();
    let mut key = vec![kind, id.len() as u8];
    key.extend(id);
    key
}

/// The run that a key belongs to.
pub(super) fn run_of(key: &[u8]) -> Option<RunId> {
    let (length, rest) = key.get(1..)?.split_first()?;
    let id = rest.get(..usize::from(*length))?;
    Some(RunId::new(std::str::from_utf8(id).ok()?))
}

/// The key of a piece.
pub(super) fn piece_key(prefix: &[u8], piece: u16) -> Vec<u8> {
    [prefix, &piece.to_be_bytes()].concat()
}

/// The pieces of a value with their keys. `value` is at most [`MAX_VALUE`], so that their number fits.
pub(super) fn pieces(prefix: &[u8], value: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut whole = Vec::with_capacity(HEAD + value.len());
    whole.extend((value.len() as u32).to_le_bytes());
    whole.extend(crc32c::crc32c(value).to_le_bytes());
    whole.extend(value);
    (0..).zip(whole.chunks(PIECE)).map(|(n, piece)| (piece_key(prefix, n), piece.to_vec())).collect()
}

/// How many pieces a value has, by its first. None where that cannot be its first piece.
pub(super) fn count(first: &[u8]) -> Option<u16> {
    let length = u32_at(first, 0)? as usize;
    u16::try_from((HEAD + length).div_ceil(PIECE)).ok().filter(|_| length <= MAX_VALUE)
}

/// The value of these pieces, one behind the other. None where it is not what was written.
pub(super) fn joined(pieces: &[u8]) -> Option<&[u8]> {
    let value = pieces.get(HEAD..)?;
    let whole = u32_at(pieces, 0)? as usize == value.len() && u32_at(pieces, 4)? == crc32c::crc32c(value);
    whole.then_some(value)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A record with its checksum. Its run and place are in its key.
pub(super) fn record(record: &Record, seal: u32) -> Result<Vec<u8>, JournalError> {
    let mut value = Vec::with_capacity(RECORD_HEAD + record.payload.len());
    value.extend(nanoseconds(record.at)?.to_le_bytes());
    value.extend(seal.to_le_bytes());
    value.extend(&record.payload);
    Ok(value)
}

/// Bytes of payload in the record whose value begins with this piece.
pub(super) fn payload_size(first: &[u8]) -> Option<u64> {
    u64::from(u32_at(first, 0)?).checked_sub(RECORD_HEAD as u64)
}

/// The record in a value, and the checksum that was kept with it.
pub(super) fn read_record(seq: u64, value: &[u8]) -> Option<(Record, u32)> {
    let mut reader = Reader(value);
    let at = timestamp(i64::from_le_bytes(reader.array()?));
    let seal = u32::from_le_bytes(reader.array()?);
    Some((Record { seq, at, payload: reader.0.to_vec() }, seal))
}

/// Appends a row and where its run ends to `into`.
pub(super) fn put_row(into: &mut Vec<u8>, row: &RunRow, end: End) -> Result<(), JournalError> {
    for text in [row.run.as_str(), &row.workflow, &row.state] {
        put_text(into, text);
    }
    into.extend(nanoseconds(row.started_at)?.to_le_bytes());
    let finished = row.finished_at.map(nanoseconds).transpose()?.map(i64::cast_unsigned);
    for value in [finished, row.usd.map(f64::to_bits), row.tokens] {
        into.push(u8::from(value.is_some()));
        into.extend(value.unwrap_or(0).to_le_bytes());
    }
    into.extend(end.seq.to_le_bytes());
    into.extend(end.seal.to_le_bytes());
    Ok(())
}

/// Appends a text to `into`.
pub(super) fn put_text(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as u32).to_le_bytes());
    into.extend(text.as_bytes());
}

/// Takes values off the front of bytes; None once they do not hold what is asked for.
pub(super) struct Reader<'bytes>(pub(super) &'bytes [u8]);

impl<'bytes> Reader<'bytes> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(super) fn text(&mut self) -> Option<&'bytes str> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    pub(super) fn row(&mut self) -> Option<(RunRow, End)> {
        let (run, workflow, state) = (RunId::new(self.text()?), self.text()?.into(), self.text()?.into());
        let started_at = timestamp(i64::from_le_bytes(self.array()?));
        let mut optional = || {
            let [there] = self.array()?;
            let value = u64::from_le_bytes(self.array()?);
            Some((there == 1).then_some(value))
        };
        let (finished, usd, tokens) = (optional()?, optional()?, optional()?);
        let finished_at = finished.map(|ns| timestamp(ns.cast_signed()));
        let usd = usd.map(f64::from_bits);
        let end = End { seq: u64::from_le_bytes(self.array()?), seal: u32::from_le_bytes(self.array()?) };
        Some((RunRow { run, workflow, state, started_at, finished_at, usd, tokens }, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_come_back_and_flips_show(value in prop::collection::vec(any::<u8>(), 0..20_000), bit: usize) {
            let pieces = pieces(b"e", &value);
            prop_assert_eq!(usize::from(count(&pieces[0].1).unwrap()), pieces.len());
            let mut whole: Vec<u8> = pieces.into_iter().flat_map(|(_, piece)| piece).collect();
            prop_assert_eq!(joined(&whole), Some(&value[..]));
            let bit = bit % (whole.len() * 8);
            whole[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(joined(&whole), None);
        }

        #[test]
        fn rows_come_back(texts: [String; 3], times: [i64; 2], usd: Option<u32>, tokens: Option<u64>, seq: u64, seal: u32) {
            let [run, workflow, state] = texts;
            let row = RunRow {
                run: RunId::new(run),
                workflow,
                state,
                started_at: timestamp(times[0]),
                finished_at: (times[1] % 2 == 0).then_some(timestamp(times[1])),
                usd: usd.map(|usd| f64::from(usd) / 7.0),
                tokens,
            };
            let mut bytes = Vec::new();
            put_row(&mut bytes, &row, End { seq, seal }).unwrap();
            prop_assert_eq!(Reader(&bytes).row(), Some((row, End { seq, seal })));
            prop_assert_eq!(Reader(&bytes[..bytes.len() - 1]).row(), None);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = (Reader(&bytes).row(), read_record(1, &bytes), joined(&bytes), count(&bytes), run_of(&bytes));
        }
    }

    #[test]
    fn keys_sort_by_place_and_name_their_run() {
        let run = RunId::new("a");
        assert!(event_key(&run, 255) < event_key(&run, 256));
        assert_eq!(run_of(&event_key(&run, 7)), Some(run.clone()));
        assert!(!event_key(&RunId::new("ab"), 1).starts_with(&events_key(&run)));
    }
}
