//! Follows a run from its journal and streams, as any process of the home can: what the live views are made of.

use super::Failure;
use crate::app::App;
use crate::capability::stream::{Cursor, StreamEntry};
use crate::id::RunId;
use crate::run::Event;

/// Stream entries read at a time.
const CHUNK: usize = 500;

/// News of a run, in order within each source.
pub(super) enum News {
    /// Something was journalled: sequence number, milliseconds since 1970, event.
    Event(u64, i64, Box<Event>),
    /// A step said something.
    Said(Cursor, StreamEntry),
}

/// Where a follower stands.
pub(super) struct Follower<'a> {
    app: &'a App,
    run: RunId,
    seq: u64,
    cursor: Cursor,
    events: bool,
    streams: bool,
}

impl<'a> Follower<'a> {
    /// Follows a run from its beginning.
    pub(super) fn new(app: &'a App, run: RunId, events: bool, streams: bool) -> Self {
        Self { app, run, seq: 0, cursor: 0, events, streams }
    }

    /// What is new, waiting until there is something; empty once the run has ended and all was told.
    pub(super) async fn next(&mut self) -> Result<Vec<News>, Failure> {
        loop {
            // Asked before the events are read: a run that ends in between has an end that is still to be told.
            let over = self.has_ended().await?;
            // Streams are read after the journal: whatever a step said before an event is told before its end is.
            let events = self.app.engine().events(&self.run, self.seq).await?;
            let ended = matches!(events.last(), Some((_, _, Event::RunFinished { .. })));
            let mut news = Vec::new();
            if self.streams {
                self.read_streams(&mut news, ended).await?;
            }
            for (seq, at_ms, event) in events {
                self.seq = seq;
                if self.events {
                    news.push(News::Event(seq, at_ms, Box::new(event)));
                }
            }
            if ended || over || !news.is_empty() {
                return Ok(news);
            }
            let (journal, streams) = (self.app.journal(), self.app.streams());
            if self.streams {
                tokio::select! {
                    () = journal.changed(&self.run, self.seq) => {}
                    () = streams.changed(&self.run, self.cursor) => {}
                }
            } else {
                journal.changed(&self.run, self.seq).await;
            }
        }
    }

    async fn has_ended(&self) -> Result<bool, Failure> {
        Ok(self.app.journal().row(&self.run).await?.is_none_or(|row| row.finished_at.is_some()))
    }

    async fn read_streams(&mut self, news: &mut Vec<News>, all: bool) -> Result<(), Failure> {
        loop {
            let entries = self.app.streams().read(&self.run, self.cursor, CHUNK).await?;
            let full = entries.len() == CHUNK;
            for (cursor, entry) in entries {
                self.cursor = cursor;
                news.push(News::Said(cursor, entry));
            }
            if !(all && full) {
                return Ok(());
            }
        }
    }
}
