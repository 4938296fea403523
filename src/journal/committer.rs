//! The one thread of a journal that writes. Takes what is waiting, has the store write it in one commit, then
//! acknowledges. Knows no store; a store knows no thread.
//!
//! The first write that fails ends all writing: after a failed sync nobody knows what is on the disk, and a second sync
//! would claim success (the kernel forgets the error). Reading goes on, and other processes' changes are still noticed.

use super::{JournalError, Record, RunRow, check_append};
use crate::bell::Bell;
use crate::id::RunId;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Appends in one commit.
const MAX_BATCH: usize = 1024;
/// Memory that appends which wait for their commit may take, in KiB.
pub(super) const WAITING_KIB: usize = 64 * 1024;
/// Runs dropped in one commit, so that appends do not wait long behind it.
const DELETE_CHUNK: usize = 500;
/// How often changes by other processes are looked for while somebody waits for one.
const POLL: Duration = Duration::from_millis(100);

/// What a store does on the thread. An outer error of the kind [`JournalError::Stopped`] is the last that is asked of it;
/// with any other one nothing was written.
pub(super) trait Store: Send + 'static {
    /// Appends what can be appended, synced on return. The inner results say which could not, because of their own
    /// request or run.
    fn append(&mut self, batch: &[Append]) -> Result<Vec<Result<(), JournalError>>, JournalError>;

    /// Drops finished runs, all or none.
    fn delete(&mut self, runs: &[RunId]) -> Result<(), JournalError>;

    /// Gives some free space back to the file system; answers how much more could be, in units of its own.
    fn reclaim(&mut self) -> Result<u64, JournalError>;

    /// Copies what lies in a log into its place and cuts the log, as far as readers allow. Nothing, where there is none.
    fn checkpoint(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    /// A number that is another one when another process wrote. None where it cannot be told.
    fn foreign_version(&mut self) -> Option<i64>;
}

/// An append that passed [`check_append`].
pub(super) struct Append {
    pub(super) run: RunId,
    pub(super) expected_seq: u64,
    pub(super) records: Vec<Record>,
    pub(super) row: RunRow,
}

/// What the thread is asked to do.
enum Request {
    /// Append to a run.
    Append(Waiting),
    /// Drop finished runs in one transaction.
    Delete(Vec<RunId>, Answer<()>),
    /// Give some free space back; answers how much is left.
    Reclaim(Answer<u64>),
    /// Copy the log into its place, and cut it.
    Checkpoint(Answer<()>),
    /// Somebody began to wait for changes.
    Listen,
}

/// Where the outcome goes. Nobody may be there to hear it any more.
type Answer<T> = oneshot::Sender<Result<T, JournalError>>;

struct Waiting {
    append: Append,
    answer: Answer<()>,
    /// Its share of the memory that waiting appends may take.
    room: OwnedSemaphorePermit,
}

/// The way to the thread. Dropping it waits for the commit under way.
pub(super) struct Committer {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    pub(super) room: Arc<Semaphore>,
}

impl Committer {
    /// Starts the thread. `bell` is rung for what it wrote, and for what others did.
    pub(super) fn start(store: impl Store, bell: Arc<Bell>) -> Result<Self, JournalError> {
        let (requests, receiver) = std::sync::mpsc::channel();
        let thread = Thread { store, bell, stopped: None };
        let thread =
            std::thread::Builder::new().name("journal".into()).spawn(move || thread.run(&receiver)).map_err(
                |error| JournalError::Unavailable(format!("cannot start the journal's thread: {error}")),
            )?;
        let room = Arc::new(Semaphore::new(WAITING_KIB));
        Ok(Self { requests: Some(requests), thread: Some(thread), room })
    }

    /// [`super::Journal::append`].
    pub(super) async fn append(&self, append: Append) -> Result<(), JournalError> {
        check_append(&append.run, append.expected_seq, &append.records, &append.row)?;
        let bytes: usize = append.records.iter().map(|record| record.payload.len()).sum();
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(kib).await.map_err(|_| gone())?;
        self.ask(|answer| Request::Append(Waiting { append, answer, room })).await
    }

    /// [`super::Journal::delete`].
    pub(super) async fn delete(&self, runs: &[RunId]) -> Result<(), JournalError> {
        for chunk in runs.chunks(DELETE_CHUNK) {
            self.ask(|answer| Request::Delete(chunk.to_vec(), answer)).await?;
        }
        if runs.is_empty() { Ok(()) } else { self.reclaim().await }
    }

    /// Gives back all free space.
    pub(super) async fn compact(&self) -> Result<(), JournalError> {
        self.reclaim().await?;
        // A file shrinks when the log is copied into it, and the log is cut at the same time.
        self.ask(Request::Checkpoint).await
    }

    /// Gives free space back, some at a time.
    async fn reclaim(&self) -> Result<(), JournalError> {
        // Another process may free space at the same time: without progress, the next call goes on.
        let mut left = u64::MAX;
        while left > 0 {
            let before = std::mem::replace(&mut left, self.ask(Request::Reclaim).await?);
            if left >= before {
                break;
            }
        }
        Ok(())
    }

    /// Has the thread look for changes of other processes from now on, while somebody listens to the bell.
    pub(super) fn listen(&self) -> Result<(), JournalError> {
        self.send(Request::Listen)
    }

    /// Asks the thread and waits for its answer.
    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, JournalError> {
        let (answer, outcome) = oneshot::channel();
        self.send(request(answer))?;
        outcome.await.unwrap_or_else(|_| Err(gone()))
    }

    fn send(&self, request: Request) -> Result<(), JournalError> {
        self.requests.as_ref().and_then(|requests| requests.send(request).ok()).ok_or_else(gone)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was already reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// The answer of a journal whose thread is not there.
pub(super) fn gone() -> JournalError {
    JournalError::Stopped("its thread has ended, which is a bug in harvest; start harvest again".into())
}

/// The thread's own state.
struct Thread<S> {
    store: S,
    bell: Arc<Bell>,
    /// Why nothing is written any more.
    stopped: Option<JournalError>,
}

impl<S: Store> Thread<S> {
    /// Serves until every sender is gone.
    fn run(mut self, requests: &Receiver<Request>) {
        let mut version = self.store.foreign_version();
        let mut looked = Instant::now();
        let mut next = None;
        loop {
            let request = match next.take() {
                Some(request) => request,
                None if self.bell.has_listeners() => match requests.recv_timeout(POLL) {
                    Ok(request) => request,
                    Err(RecvTimeoutError::Timeout) => Request::Listen,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
                None => match requests.recv() {
                    Ok(request) => request,
                    Err(_) => return,
                },
            };
            match request {
                Request::Append(append) => next = self.gather(append, requests),
                Request::Delete(runs, answer) => drop(answer.send(self.delete(&runs))),
                Request::Reclaim(answer) => drop(answer.send(self.write(S::reclaim))),
                Request::Checkpoint(answer) => drop(answer.send(self.write(S::checkpoint))),
                Request::Listen => {}
            }
            if looked.elapsed() >= POLL {
                looked = Instant::now();
                let now = self.store.foreign_version();
                // A question that fails is answered by those who wait: they look, and see the error themselves.
                if now.is_none() || now != version {
                    version = now;
                    self.bell.ring_all();
                }
            }
        }
    }

    /// Commits `first` and the appends that wait behind it. Returns a request that is none.
    fn gather(&mut self, first: Waiting, requests: &Receiver<Request>) -> Option<Request> {
        let mut batch = vec![first.append];
        let mut waiting = vec![(first.answer, first.room)];
        let mut other = None;
        while batch.len() < MAX_BATCH && other.is_none() {
            match requests.try_recv() {
                Ok(Request::Append(Waiting { append, answer, room })) => {
                    batch.push(append);
                    waiting.push((answer, room));
                }
                Ok(Request::Listen) => {}
                Ok(request) => other = Some(request),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        match self.write(|store| store.append(&batch)) {
            Ok(outcomes) => {
                for ((append, (answer, room)), outcome) in batch.into_iter().zip(waiting).zip(outcomes) {
                    let appended = outcome.is_ok();
                    drop(room);
                    // Nobody may wait for the answer any more: the event is there all the same.
                    let _ = answer.send(outcome);
                    if appended {
                        self.bell.ring(&append.run);
                    }
                }
            }
            Err(error) => {
                for (answer, _room) in waiting {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
        other
    }

    fn delete(&mut self, runs: &[RunId]) -> Result<(), JournalError> {
        self.write(|store| store.delete(runs))?;
        runs.iter().for_each(|run| self.bell.ring(run));
        Ok(())
    }

    /// Has the store write. What stops it once stops it for good.
    fn write<T>(&mut self, write: impl FnOnce(&mut S) -> Result<T, JournalError>) -> Result<T, JournalError> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        let outcome = write(&mut self.store);
        if let Err(error @ JournalError::Stopped(_)) = &outcome {
            tracing::error!(%error);
            self.stopped = Some(error.clone());
        }
        outcome
    }
}
