//! Questions to sled. Hands out only what passed its checksum and agrees with what is kept outside; never writes.

use super::Shared;
use super::codec::{self, Reader};
use super::ends::{Changes, Kept};
use super::guard::Store;
use crate::id::RunId;
use crate::journal::envelope::{self, Chain, END_OF_NOTHING, End};
use crate::journal::{
    Damage, JournalError, MAX_LIMIT, MAX_READ, Record, RunFilter, RunRow, SizedRow, VerifyReport,
};
use jiff::Timestamp;

/// The value under `prefix`, joined and held against its checksum. None where there is none; whoever asks knows what a
/// broken one means.
pub(super) fn value(store: &Store, prefix: &[u8]) -> Result<Option<Option<Vec<u8>>>, JournalError> {
    let Some(first) = store.get(&codec::piece_key(prefix, 0))? else { return Ok(None) };
    let Some(count) = codec::count(&first) else { return Ok(Some(None)) };
    let mut whole = first.to_vec();
    for piece in 1..count {
        match store.get(&codec::piece_key(prefix, piece))? {
            Some(bytes) => whole.extend_from_slice(&bytes),
            None => return Ok(Some(None)),
        }
    }
    Ok(Some(codec::joined(&whole).map(<[u8]>::to_vec)))
}

/// A run as its row in sled says: all that is kept outside of it, but for its size.
#[derive(Debug, PartialEq)]
struct Stored {
    row: RunRow,
    end: End,
}

impl Stored {
    fn is(&self, kept: &Kept) -> bool {
        self.row == kept.row && self.end == kept.end
    }
}

/// Whether sled and what is kept outside agree about a run.
fn agree(stored: Option<&Stored>, kept: Option<&Kept>) -> bool {
    match (stored, kept) {
        (Some(stored), Some(kept)) => stored.is(kept),
        (None, None) => true,
        _ => false,
    }
}

/// What sled holds of a run, as far as its row says.
fn stored(store: &Store, run: &RunId) -> Result<Option<Stored>, JournalError> {
    let Some(value) = value(store, &codec::row_key(run)).map_err(|error| of(run, error))? else {
        return Ok(None);
    };
    let kept = value.and_then(|value| {
        let mut reader = Reader(&value);
        let (row, end) = reader.row()?;
        let [seal] = [u32::from_le_bytes(reader.array()?)];
        (row.run == *run && envelope::seal_row(&row, end).is_ok_and(|due| due == seal))
            .then_some(Stored { row, end })
    });
    kept.map(Some).ok_or_else(|| lost(run, "its row does not match its checksum"))
}

/// What is known of a run, where sled agrees.
pub(super) fn known(shared: &Shared, run: &RunId) -> Result<Option<Kept>, JournalError> {
    loop {
        let known = shared.known(run);
        let error = match stored(&shared.store, run) {
            Ok(stored) if agree(stored.as_ref(), known.as_ref()) => return Ok(known),
            // The commit under way, or one that broke off, may have written the row before it is acknowledged.
            Ok(stored)
                if shared.pending(run).is_some_and(|pending| agree(stored.as_ref(), pending.as_ref())) =>
            {
                return Ok(known);
            }
            Ok(None) => lost(run, "its row is missing"),
            Ok(Some(_)) if known.is_none() => lost(run, "its row is there, but no run should be"),
            Ok(Some(_)) => lost(run, "its row is not the last one the run had"),
            Err(error) => error,
        };
        // Unless a commit came between the two looks.
        if shared.known(run) == known {
            return Err(error);
        }
    }
}

/// The records after `after_seq`.
pub(super) fn records(
    shared: &Shared,
    run: &RunId,
    after_seq: u64,
    limit: usize,
) -> Result<Vec<Record>, JournalError> {
    loop {
        let Some(kept) = known(shared, run)? else { return Ok(Vec::new()) };
        let error = match records_of(&shared.store, run, kept.end, after_seq, limit) {
            Ok(records) => return Ok(records),
            Err(error) => error,
        };
        // A run that is being deleted has none; one that was deleted meanwhile is asked for again.
        if shared.pending(run).is_some_and(|pending| pending.is_none()) {
            return Ok(Vec::new());
        }
        if shared.known(run).is_some_and(|now| now.end.seal == kept.end.seal || now.end.seq > kept.end.seq) {
            return Err(error);
        }
    }
}

fn records_of(
    store: &Store,
    run: &RunId,
    end: End,
    after_seq: u64,
    limit: usize,
) -> Result<Vec<Record>, JournalError> {
    if after_seq >= end.seq || limit == 0 {
        return Ok(Vec::new());
    }
    let before = match after_seq {
        0 => END_OF_NOTHING,
        seq => End { seq, seal: event(store, run, seq)?.1 },
    };
    let mut chain = Chain::after(run, before);
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut stopped = false;
    walk(store, run, after_seq, end, |record, seal| {
        bytes += record.payload.len();
        stopped = !records.is_empty() && bytes > MAX_READ;
        if stopped {
            return Ok(false);
        }
        chain.check(&record, seal)?;
        records.push(record);
        stopped = records.len() >= limit.min(MAX_LIMIT);
        Ok(!stopped)
    })?;
    // Stopped by a limit: whoever asks for the rest comes to the end.
    if !stopped || chain.last().seq == end.seq {
        chain.finish(end)?;
    }
    Ok(records)
}

/// One event, unchecked but for its own checksum.
fn event(store: &Store, run: &RunId, seq: u64) -> Result<(Record, u32), JournalError> {
    let value = value(store, &codec::event_key(run, seq)).map_err(|error| of_event(run, seq, error))?;
    let value = value.ok_or_else(|| envelope::damaged(run, seq, "is missing"))?;
    value
        .and_then(|value| codec::read_record(seq, &value))
        .ok_or_else(|| envelope::damaged(run, seq, "does not match its checksum"))
}

/// Hands the events after `after_seq` up to `end` to `visit` until it says false.
fn walk(
    store: &Store,
    run: &RunId,
    after_seq: u64,
    end: End,
    mut visit: impl FnMut(Record, u32) -> Result<bool, JournalError>,
) -> Result<(), JournalError> {
    let from = codec::event_key(run, after_seq + 1);
    let behind = codec::event_key(run, end.seq + 1);
    let prefix = codec::events_key(run);
    // The pieces of the event that is being put together, how many it has, and its place.
    let (mut whole, mut due, mut place) = (Vec::new(), 0_u16, after_seq);
    let mut outcome = Ok(());
    store
        .walk(&prefix, &from, |key, piece| {
            if key >= &behind[..] {
                return Ok(false);
            }
            let Some((seq, number)) = place_of(&key[prefix.len()..]) else { return Ok(true) };
            if number == 0 {
                (whole, place) = (Vec::new(), seq);
                let Some(count) = codec::count(piece) else {
                    outcome = Err(envelope::damaged(run, seq, "does not match its checksum"));
                    return Ok(false);
                };
                due = count;
            }
            if seq != place || number >= due {
                // What is left of a longer event that this one replaced.
                return Ok(true);
            }
            whole.extend_from_slice(piece);
            if number + 1 < due {
                return Ok(true);
            }
            let event = codec::joined(&whole).and_then(|value| codec::read_record(seq, value));
            let Some((record, seal)) = event else {
                outcome = Err(envelope::damaged(run, seq, "does not match its checksum"));
                return Ok(false);
            };
            visit(record, seal).or_else(|error| {
                outcome = Err(error);
                Ok(false)
            })
        })
        .map_err(|error| of_event(run, place + 1, error))?;
    outcome
}

/// Sequence number and piece, as the end of a key has them.
fn place_of(rest: &[u8]) -> Option<(u64, u16)> {
    let (seq, piece) = rest.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*seq), u16::from_be_bytes(piece.try_into().ok()?)))
}

/// Rows of runs, newest first.
pub(super) fn list(shared: &Shared, filter: &RunFilter, limit: usize) -> Result<Vec<RunRow>, JournalError> {
    let mut rows = Vec::new();
    for row in shared.list(filter, limit.min(MAX_LIMIT)) {
        // A run that was deleted meanwhile is left out; one that changed is shown as it was.
        if known(shared, &row.run)?.is_some() {
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Runs that have ended, those first that ended first, with their sizes.
pub(super) fn ended(
    shared: &Shared,
    after: Option<&(Timestamp, RunId)>,
    limit: usize,
) -> Result<Vec<SizedRow>, JournalError> {
    let mut rows = Vec::new();
    for (run, bytes) in shared.ended(after, limit.min(MAX_LIMIT)) {
        // One that was deleted or retried meanwhile is left out.
        if let Some(kept) = known(shared, &run)?.filter(|kept| kept.row.finished_at.is_some()) {
            rows.push(SizedRow { row: kept.row, bytes });
        }
    }
    Ok(rows)
}

/// Bytes of payload in the events of a run, as far as sled has them: what it lost is found when it is read.
pub(super) fn size(store: &Store, run: &RunId) -> Result<u64, JournalError> {
    let prefix = codec::events_key(run);
    let mut bytes = 0;
    store.walk(&prefix, &prefix, |key, value| {
        let first = key.get(prefix.len()..).and_then(place_of).is_some_and(|(_, piece)| piece == 0);
        bytes += if first { codec::payload_size(value).unwrap_or(0) } else { 0 };
        Ok(true)
    })?;
    Ok(bytes)
}

/// Reads everything, and looks for what no run accounts for.
pub(super) fn verify(shared: &Shared) -> VerifyReport {
    let mut report = VerifyReport::default();
    for run in shared.runs() {
        report.runs += 1;
        let Err(error) = verify_run(shared, &run, &mut report) else { continue };
        report.find(error.to_string());
    }
    for letter in [b"r", b"e"] {
        if let Err(error) = strangers(shared, letter, &mut report) {
            report.find(error.to_string());
        }
    }
    report
}

fn verify_run(shared: &Shared, run: &RunId, report: &mut VerifyReport) -> Result<(), JournalError> {
    let mut after = 0;
    loop {
        let page = records(shared, run, after, MAX_LIMIT)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.seq;
        report.records += page.len() as u64;
        report.bytes += page.iter().map(|record| record.payload.len() as u64).sum::<u64>();
    }
}

/// Runs that sled holds keys of and that no commit accounts for.
fn strangers(shared: &Shared, letter: &[u8], report: &mut VerifyReport) -> Result<(), JournalError> {
    let mut from = letter.to_vec();
    while let Some((key, _)) = shared.store.first(letter, &from)? {
        let Some(run) = codec::run_of(&key) else {
            report.find("the journal is damaged: it holds a key that is none of harvest's".into());
            return Ok(());
        };
        if shared.known(&run).is_none() && shared.pending(&run).is_none() {
            let what = "something of it is there, but no run should be";
            report.find(lost(&run, what).to_string());
        }
        from = if letter == b"r" { codec::row_key(&run) } else { codec::events_key(&run) };
        // Behind every key that begins so: places and pieces are ten bytes at most.
        from.extend([0xFF; 11]);
    }
    Ok(())
}

/// What the last commit was, by sled's account: its number and the runs it changed. None where that cannot be read.
pub(super) fn last_commit(store: &Store) -> Result<Option<(u64, Changes)>, JournalError> {
    let Some(Some(value)) = value(store, codec::COMMIT)? else { return Ok(None) };
    let mut reader = Reader(&value);
    let Some(number) = reader.array().map(u64::from_le_bytes) else { return Ok(None) };
    let mut changes = Changes::new();
    while !reader.0.is_empty() {
        let Some(run) = reader.text().map(RunId::new) else { return Ok(None) };
        let kept = match stored(store, &run)? {
            Some(Stored { row, end }) => Some(Kept { row, end, bytes: size(store, &run)? }),
            None => None,
        };
        changes.insert(run, kept);
    }
    Ok(Some((number, changes)))
}

fn lost(run: &RunId, what: &str) -> JournalError {
    JournalError::Damaged(Damage { run: Some(run.clone()), seq: None, what: what.into() })
}

/// Names the run in damage that sled reported without one.
fn of(run: &RunId, error: JournalError) -> JournalError {
    match error {
        JournalError::Damaged(Damage { run: None, seq, what }) => {
            JournalError::Damaged(Damage { run: Some(run.clone()), seq, what })
        }
        other => other,
    }
}

fn of_event(run: &RunId, seq: u64, error: JournalError) -> JournalError {
    match of(run, error) {
        JournalError::Damaged(damage) => JournalError::Damaged(Damage { seq: Some(seq), ..damage }),
        other => other,
    }
}
