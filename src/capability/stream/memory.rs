//! Streams in memory, for tests of what stands on streams. The same lines as on disk, without the disk.

use super::{Cursor, MAX_ENTRIES, MAX_STREAM, StreamEntry, StreamStore, line};
use crate::bell::Bell;
use crate::capability::Result;
use crate::id::RunId;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The streams of one test.
pub struct MemoryStreams {
    runs: Mutex<HashMap<RunId, Vec<u8>>>,
    bell: Bell,
    most: u64,
}

impl Default for MemoryStreams {
    fn default() -> Self {
        Self::bounded(MAX_STREAM)
    }
}

impl MemoryStreams {
    /// A store with another limit than [`MAX_STREAM`], in bytes.
    pub fn bounded(most: u64) -> Self {
        Self { runs: Mutex::default(), bell: Bell::default(), most }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Vec<u8>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StreamStore for MemoryStreams {
    async fn append(&self, run: &RunId, entry: StreamEntry) -> Result<()> {
        let written = line::write(&entry)?;
        {
            let mut runs = self.lock();
            let bytes = runs.entry(run.clone()).or_default();
            if let Some(mut line) = line::fit(bytes.len() as u64, written, &entry, self.most) {
                bytes.append(&mut line);
            }
        }
        self.bell.ring(run);
        Ok(())
    }

    async fn read(&self, run: &RunId, cursor: Cursor, limit: usize) -> Result<Vec<(Cursor, StreamEntry)>> {
        let runs = self.lock();
        let bytes = runs.get(run).map_or(&[][..], Vec::as_slice);
        let mut from = usize::try_from(cursor).map_or(bytes.len(), |cursor| cursor.min(bytes.len()));
        while from > 0 && from < bytes.len() && bytes[from - 1] != b'\n' {
            from += 1;
        }
        Ok(line::read(&bytes[from..], from as u64, limit.min(MAX_ENTRIES)).0)
    }

    async fn changed(&self, run: &RunId, cursor: Cursor) {
        let listener = self.bell.listen(run);
        loop {
            let next = listener.next();
            if self.lock().get(run).is_some_and(|bytes| bytes.len() as u64 > cursor) {
                return;
            }
            next.await;
        }
    }

    async fn runs(&self) -> Result<Vec<(RunId, u64)>> {
        Ok(self.lock().iter().map(|(run, bytes)| (run.clone(), bytes.len() as u64)).collect())
    }

    async fn remove(&self, run: &RunId) -> Result<()> {
        self.lock().remove(run);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::stream::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        contract::run(async |most| Box::new(MemoryStreams::bounded(most)) as Box<dyn StreamStore>).await;
    }
}
