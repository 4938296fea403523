//! The lines of an export: what each one says, written and read byte for byte. No I/O, no journal.
//!
//! ```text
//! {"harvest_journal":1,"harvest":"0.1.0"}                                  the first line
//! {"run":"01m8...","seq":1,"at":"2026-11-24T22:00:00Z","event":{...}}      a record; "bytes" where it is no JSON object
//! {"run":"01m8...","row":{"workflow":"all","state":"succeeded",...}}       the end of that run
//! {"end":{"runs":1,"events":1,"sha256":"..."}}                             the last line, over all before it
//! ```

use super::TransferError;
use crate::id::RunId;
use crate::journal::{MAX_PAYLOAD, Record, RunRow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the lines that this harvest writes, and the newest it reads.
pub const VERSION: u32 = 1;
/// Bytes of one line: a payload that is no JSON grows by a third, and names and times stand beside it.
pub(super) const MAX_LINE: usize = MAX_PAYLOAD / 3 * 4 + 64 * 1024;

/// What one line says.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    Header { version: u32 },
    Record(RunId, Record),
    Row(RunRow),
    End(End),
}

/// What the last line says of those before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) runs: u64,
    pub(super) events: u64,
    pub(super) sha256: String,
}

/// A line as it stands there. Which keys it has says what it is.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    harvest_journal: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    harvest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<WrittenRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<End>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRow {
    workflow: String,
    state: String,
    started_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    /// As text: readers of JSON numbers may be off by the last digit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usd: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
}

pub(super) fn header() -> Result<Vec<u8>, TransferError> {
    let harvest = Some(env!("CARGO_PKG_VERSION").to_owned());
    text(&Written { harvest_journal: Some(VERSION), harvest, ..Written::default() })
}

pub(super) fn record(run: &RunId, record: &Record) -> Result<Vec<u8>, TransferError> {
    let event = as_object(&record.payload);
    text(&Written {
        run: Some(run.clone()),
        seq: Some(record.seq),
        at: Some(record.at),
        bytes: event.is_none().then(|| BASE64.encode(&record.payload)),
        event,
        ..Written::default()
    })
}

pub(super) fn row(row: &RunRow) -> Result<Vec<u8>, TransferError> {
    let written = WrittenRow {
        workflow: row.workflow.clone(),
        state: row.state.clone(),
        started_at: row.started_at,
        finished_at: row.finished_at,
        // The sum of no costs is a negative zero, whose sign not every kind of journal keeps.
        usd: row.usd.map(|usd| (usd + 0.0).to_string()),
        tokens: row.tokens,
    };
    text(&Written { run: Some(row.run.clone()), row: Some(written), ..Written::default() })
}

pub(super) fn end(end: End) -> Result<Vec<u8>, TransferError> {
    text(&Written { end: Some(end), ..Written::default() })
}

fn text(line: &Written<'_>) -> Result<Vec<u8>, TransferError> {
    let mut text = serde_json::to_vec(line)
        .map_err(|error| TransferError::File(format!("a line cannot be written as JSON: {error}")))?;
    text.push(b'\n');
    Ok(text)
}

/// The payload where it can stand in a line as it is: a JSON object without line breaks. All events are.
fn as_object(payload: &[u8]) -> Option<&RawValue> {
    let one_line = payload.first() == Some(&b'{') && payload.last() == Some(&b'}');
    if !one_line || payload.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return None;
    }
    serde_json::from_slice(payload).ok()
}

/// Reads a line, without its end.
pub(super) fn read(text: &[u8]) -> Result<Line, String> {
    let written: Written<'_> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match written {
        Written { harvest_journal: Some(version), .. } => Ok(Line::Header { version }),
        Written { run: Some(run), row: Some(row), .. } => {
            let usd = row.usd.map(|usd| usd.parse::<f64>()).transpose().map_err(|error| error.to_string())?;
            Ok(Line::Row(RunRow {
                run,
                workflow: row.workflow,
                state: row.state,
                started_at: row.started_at,
                finished_at: row.finished_at,
                usd,
                tokens: row.tokens,
            }))
        }
        Written { run: Some(run), seq: Some(seq), at: Some(at), event, bytes, .. } => {
            let payload = match (event, bytes) {
                (Some(event), None) => event.get().as_bytes().to_vec(),
                (None, Some(bytes)) => BASE64.decode(bytes).map_err(|error| error.to_string())?,
                _ => return Err("it has neither `event` nor `bytes`, or both".into()),
            };
            Ok(Line::Record(run, Record { seq, at, payload }))
        }
        Written { end: Some(end), .. } => Ok(Line::End(end)),
        _ => Err("it is no line of an export".into()),
    }
}
