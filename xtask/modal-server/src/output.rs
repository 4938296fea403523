//! The output of a command: kept, so that a reader whose connection broke asks again from where it was.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Most bytes of one stream that stay readable; older ones are dropped. How many Modal keeps is not known: these are more
/// than a test writes faster than it reads.
pub(crate) const RETAINED: usize = 128 << 20;
/// Most bytes in one message.
const CHUNK: usize = 64 << 10;

/// One stream of output.
pub(crate) struct Output {
    kept: Mutex<Kept>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Kept {
    bytes: VecDeque<u8>,
    /// Offset of the first of them.
    start: u64,
    ended: bool,
}

/// Bytes of a stream. Never empty.
pub(crate) struct Piece {
    /// Offset of the first byte: beyond the one asked for where what was between is gone.
    pub(crate) offset: u64,
    pub(crate) data: Vec<u8>,
}

impl Default for Output {
    fn default() -> Self {
        Self { kept: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Output {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes.
    pub(crate) fn push(&self, data: &[u8]) {
        let mut kept = self.kept();
        kept.bytes.extend(data);
        let surplus = kept.bytes.len().saturating_sub(RETAINED);
        kept.bytes.drain(..surplus);
        kept.start += surplus as u64;
        drop(kept);
        self.changed.send_replace(());
    }

    /// No more will follow.
    pub(crate) fn end(&self) {
        self.kept().ended = true;
        self.changed.send_replace(());
    }

    /// The next bytes from an offset on, once there are some; `None` at the end. Cancel-safe.
    pub(crate) async fn read(&self, offset: u64) -> Option<Piece> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            {
                let kept = self.kept();
                let from = offset.max(kept.start);
                let skip = usize::try_from(from - kept.start).unwrap_or(usize::MAX);
                if skip < kept.bytes.len() {
                    let (front, back) = kept.bytes.as_slices();
                    let rest = front.get(skip..).filter(|rest| !rest.is_empty());
                    let rest = rest.unwrap_or_else(|| &back[skip - front.len()..]);
                    return Some(Piece { offset: from, data: rest[..rest.len().min(CHUNK)].to_vec() });
                }
                if kept.ended {
                    return None;
                }
            }
            changed.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_read_is_read_again_until_too_much_has_followed() {
        let output = Output::default();
        output.push(b"hello ");
        output.push(b"world");
        let piece = output.read(3).await.unwrap();
        assert_eq!((piece.offset, &*piece.data), (3, &b"lo world"[..]));
        output.push(&vec![0; RETAINED]);
        assert_eq!(output.read(3).await.unwrap().offset, 11);
        output.end();
        assert!(output.read(11 + RETAINED as u64).await.is_none());
    }
}
