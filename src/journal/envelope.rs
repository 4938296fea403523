//! What is kept around a record so that damage shows: a checksum chained to the record before. No I/O.

use super::{Damage, JournalError, Record, RunRow};
use crate::id::RunId;
use jiff::Timestamp;

/// The checksum of a record: CRC-32C over its run, place, time, the checksum before it, and its payload. A record that
/// was changed, or stands in another place, another run or behind another record, has another one.
pub(super) fn seal(run: &RunId, before: u32, record: &Record) -> Result<u32, JournalError> {
    let mut crc = crc32c::crc32c(run.as_str().as_bytes());
    crc = crc32c::crc32c_append(crc, &record.seq.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &nanoseconds(record.at)?.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &before.to_le_bytes());
    Ok(crc32c::crc32c_append(crc, &record.payload))
}

/// Where a run ends: kept in its row, so that a missing tail shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The last sequence number.
    pub(super) seq: u64,
    /// The checksum of that record.
    pub(super) seal: u32,
}

/// The end of a run that has no record yet.
pub(super) const END_OF_NOTHING: End = End { seq: 0, seal: 0 };

/// The checksum of a row and of where its run ends.
pub(super) fn seal_row(row: &RunRow, end: End) -> Result<u32, JournalError> {
    let mut crc = 0;
    // Each text is led by its length, so that no two rows give the same bytes.
    for text in [row.run.as_str(), &row.workflow, &row.state] {
        crc = crc32c::crc32c_append(crc, &(text.len() as u64).to_le_bytes());
        crc = crc32c::crc32c_append(crc, text.as_bytes());
    }
    // SQLite does not keep the sign of a zero, and the sum of no costs is -0.0.
    let usd = row.usd.map(|usd| usd + 0.0);
    let finished = row.finished_at.map(nanoseconds).transpose()?;
    let optional = [finished, usd.map(|usd| usd.to_bits().cast_signed()), row.tokens.map(u64::cast_signed)];
    crc = crc32c::crc32c_append(crc, &nanoseconds(row.started_at)?.to_le_bytes());
    for value in optional {
        crc = crc32c::crc32c_append(crc, &[u8::from(value.is_some())]);
        crc = crc32c::crc32c_append(crc, &value.unwrap_or(0).to_le_bytes());
    }
    crc = crc32c::crc32c_append(crc, &end.seq.to_le_bytes());
    Ok(crc32c::crc32c_append(crc, &end.seal.to_le_bytes()))
}

/// Goes on with the checksum of a row over the bytes of payload in its run, where a store keeps them in the row.
pub(super) fn seal_size(row: u32, bytes: u64) -> u32 {
    crc32c::crc32c_append(row, &bytes.to_le_bytes())
}

/// Follows the records of one run and stops at the first that is not what was written.
pub(super) struct Chain<'run> {
    run: &'run RunId,
    last: End,
}

impl<'run> Chain<'run> {
    /// Goes on behind `last`, which the caller trusts.
    pub(super) fn after(run: &'run RunId, last: End) -> Self {
        Self { run, last }
    }

    /// The last record that was whole.
    pub(super) fn last(&self) -> End {
        self.last
    }

    /// Holds the next record against the chain.
    pub(super) fn check(&mut self, record: &Record, stored: u32) -> Result<(), JournalError> {
        let due = self.last.seq + 1;
        if record.seq != due {
            return Err(damaged(self.run, due, format!("is missing (event {} follows)", record.seq)));
        }
        if seal(self.run, self.last.seal, record)? != stored {
            return Err(damaged(self.run, due, "does not match its checksum"));
        }
        self.last = End { seq: due, seal: stored };
        Ok(())
    }

    /// Holds the end of the records against what the row says.
    pub(super) fn finish(&self, end: End) -> Result<(), JournalError> {
        if self.last.seq < end.seq {
            let what = format!("is missing (the run had {} events)", end.seq);
            return Err(damaged(self.run, self.last.seq + 1, what));
        }
        if self.last != end {
            return Err(damaged(self.run, end.seq, format!("is not the last one the run had ({})", end.seq)));
        }
        Ok(())
    }
}

/// The damage of one record.
pub(super) fn damaged(run: &RunId, seq: u64, what: impl Into<String>) -> JournalError {
    JournalError::Damaged(Damage { run: Some(run.clone()), seq: Some(seq), what: what.into() })
}

/// Nanoseconds since 1970.
pub(super) fn nanoseconds(at: Timestamp) -> Result<i64, JournalError> {
    i64::try_from(at.as_nanosecond())
        .map_err(|_| JournalError::Refused(format!("the time {at} is not between the years 1678 and 2261")))
}

/// The time of a number that [`nanoseconds`] gave. Any number is one.
pub(super) fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(seq: u64, at: i64, payload: &[u8]) -> Record {
        Record { seq, at: timestamp(at), payload: payload.to_vec() }
    }

    proptest! {
        #[test]
        fn times_come_back(ns: i64) {
            prop_assert_eq!(nanoseconds(timestamp(ns)).unwrap(), ns);
        }

        #[test]
        fn one_flipped_bit_anywhere_shows(seq: u64, at: i64, before: u32, payload: Vec<u8>, bit in 0_usize..2048) {
            let run = RunId::new("01j00000000000000000000000");
            let whole = record(seq, at, &payload);
            let stored = seal(&run, before, &whole).unwrap();
            let mut other = whole.clone();
            match (bit % 4, payload.len()) {
                (0, _) => other.seq ^= 1 << (bit / 4 % 64),
                (1, _) => other.at = timestamp(at ^ 1 << (bit / 4 % 64)),
                (2, 1..) => other.payload[bit / 4 / 8 % payload.len()] ^= 1 << (bit / 4 % 8),
                _ => prop_assert_ne!(seal(&run, before ^ 1 << (bit / 4 % 32), &whole).unwrap(), stored),
            }
            if other != whole {
                prop_assert_ne!(seal(&run, before, &other).unwrap(), stored);
            }
            prop_assert_ne!(seal(&RunId::new("01j00000000000000000000001"), before, &whole).unwrap(), stored);
        }
    }
}
