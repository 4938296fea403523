//! Reads an export line by line and holds it to its own rules. Says where a file was cut or changed.

use super::line::{self, Line, MAX_LINE, VERSION};
use super::{Counts, TransferError};
use crate::id::RunId;
use crate::journal::{Record, RunRow};
use sha2::{Digest, Sha256};
use std::io::{BufRead, Read};

/// Reads all of an export, and returns what it holds where every line of it is as it was written.
///
/// # Errors
/// Where it cannot be read, is cut, was changed, or is of a newer version.
pub fn check(source: &mut (dyn BufRead + Send)) -> Result<Counts, TransferError> {
    let mut lines = Lines::new(source);
    while lines.next()?.is_some() {}
    Ok(lines.counts)
}

/// A part of a run.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    /// Its next record.
    Record(RunId, Record),
    /// Its end.
    Row(RunRow),
}

/// The lines of an export.
pub(super) struct Lines<'a> {
    source: &'a mut (dyn BufRead + Send),
    line: Vec<u8>,
    number: u64,
    sum: Sha256,
    counts: Counts,
    /// The run whose records are being read, and its last one.
    open: Option<(RunId, u64)>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(source: &'a mut (dyn BufRead + Send)) -> Self {
        let (line, sum, counts) = (Vec::new(), Sha256::new(), Counts::default());
        Self { source, line, number: 0, sum, counts, open: None }
    }

    /// The next part; `None` once the last line was read and is right.
    pub(super) fn next(&mut self) -> Result<Option<Part>, TransferError> {
        if self.number == 0 {
            match self.read_line()? {
                Line::Header { version } if version <= VERSION => self.sum.update(&self.line),
                Line::Header { version } => {
                    return Err(TransferError::File(format!(
                        "the export has version {version}, this harvest reads versions up to {VERSION}: use a newer harvest"
                    )));
                }
                _ => return Err(self.wrong("no export of a journal begins so")),
            }
        }
        let line = self.read_line()?;
        let part = match line {
            Line::Header { .. } => return Err(self.wrong("a second beginning")),
            Line::Record(run, record) => {
                let due = match &self.open {
                    Some((open, last)) if *open == run => last + 1,
                    Some((open, _)) => return Err(self.wrong(&format!("run {open} has no end"))),
                    None => 1,
                };
                if record.seq != due {
                    return Err(self.wrong(&format!("event {} of run {run} where {due} is due", record.seq)));
                }
                self.open = Some((run.clone(), record.seq));
                self.counts.events += 1;
                Part::Record(run, record)
            }
            Line::Row(row) => {
                if self.open.take().is_none_or(|(open, _)| open != row.run) {
                    return Err(self.wrong(&format!("the end of run {} without its events", row.run)));
                }
                self.counts.runs += 1;
                Part::Row(row)
            }
            Line::End(end) => {
                let sum = hex::encode(self.sum.clone().finalize());
                let found = line::End { runs: self.counts.runs, events: self.counts.events, sha256: sum };
                if self.open.is_some() || end != found {
                    return Err(self.wrong(&format!(
                        "the last line speaks of {} runs and {} events with checksum {}, {} runs and {} events with {} stand before it",
                        end.runs, end.events, short(&end.sha256), found.runs, found.events, short(&found.sha256)
                    )));
                }
                self.line.clear();
                if (&mut *self.source).take(1).read_to_end(&mut self.line)? > 0 {
                    return Err(self.wrong("something stands behind the last line"));
                }
                return Ok(None);
            }
        };
        self.sum.update(&self.line);
        Ok(Some(part))
    }

    fn read_line(&mut self) -> Result<Line, TransferError> {
        self.line.clear();
        self.number += 1;
        (&mut *self.source).take(MAX_LINE as u64).read_until(b'\n', &mut self.line)?;
        let Some(text) = self.line.strip_suffix(b"\n") else {
            return Err(if self.line.len() == MAX_LINE {
                self.wrong("a line that is too long")
            } else {
                TransferError::File(format!(
                    "the export is cut: it ends in line {} without its last line",
                    self.number
                ))
            });
        };
        line::read(text).map_err(|error| {
            self.wrong(if self.number == 1 { "no export of a journal begins so" } else { &error })
        })
    }

    fn wrong(&self, what: &str) -> TransferError {
        TransferError::File(format!("the export was changed, line {}: {what}", self.number))
    }
}

fn short(sum: &str) -> &str {
    sum.get(..8).unwrap_or(sum)
}
