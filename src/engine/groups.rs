//! Places in groups: how many members of one group are at work at once, across the processes of a home. A place is a
//! lock that the kernel drops with its holder, so a dead holder never blocks anyone; who waits holds a locked ticket, and
//! places go to the oldest ticket whose holder lives.

use crate::id::{Digest, RunId};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pause between two looks at a full group. Groups guard work of seconds and more.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes that say who holds a place.
const HOLDER_MAX: u64 = 4096;

/// The groups of one home.
#[derive(Clone, Debug)]
pub struct Groups {
    directory: PathBuf,
}

/// What a group bounds. Runs and steps have groups of their own: a run must not wait for its own step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole runs.
    Runs,
    /// Steps.
    Steps,
}

/// A place in a group, until dropped.
#[derive(Debug)]
pub struct Place {
    _lock: Lock,
}

/// Who holds a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its run.
    pub run: RunId,
    /// When it got the place, in milliseconds since 1970.
    pub since_ms: i64,
}

/// A file locked and named; unlinked before the lock goes, so that whoever locks the old file can tell.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

impl Groups {
    /// Groups kept in `directory`, which is made when a group is first used.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Takes a place at once where one is free and nobody waits for it.
    ///
    /// # Errors
    /// Where the lock files cannot be made.
    pub fn try_take(
        &self,
        kind: Kind,
        group: &str,
        limit: u32,
        holder: &Holder,
    ) -> io::Result<Option<Place>> {
        let directory = self.group(kind, group)?;
        if first_ticket(&directory)?.is_some() { Ok(None) } else { place(&directory, limit, holder) }
    }

    /// Waits for a place: first come, first served. Cancel-safe: a dropped wait leaves the queue.
    ///
    /// # Errors
    /// Where the lock files cannot be made.
    pub async fn take(&self, kind: Kind, group: &str, limit: u32, holder: &Holder) -> io::Result<Place> {
        let directory = self.group(kind, group)?;
        let ticket = ticket(&directory)?;
        loop {
            if first_ticket(&directory)?.is_none_or(|first| first == ticket.path)
                && let Some(place) = place(&directory, limit, holder)?
            {
                return Ok(place);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Who holds places of a group now, oldest first.
    ///
    /// # Errors
    /// Where the lock files cannot be read.
    pub fn holders(&self, kind: Kind, group: &str) -> io::Result<Vec<Holder>> {
        let directory = self.group(kind, group)?.join("places");
        let mut holders = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let Ok(file) = File::open(&path) else { continue };
            // A free place is no longer held by whom it names.
            if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).is_ok() {
                continue;
            }
            let mut text = String::new();
            (&file).take(HOLDER_MAX).read_to_string(&mut text)?;
            holders.extend(serde_json::from_str::<Holder>(&text).ok());
        }
        holders.sort_by(|a, b| (a.since_ms, &a.run).cmp(&(b.since_ms, &b.run)));
        Ok(holders)
    }

    fn group(&self, kind: Kind, group: &str) -> io::Result<PathBuf> {
        let kind = match kind {
            Kind::Runs => "runs",
            Kind::Steps => "steps",
        };
        let directory = self.directory.join(kind).join(&Digest::of(group.as_bytes()).hex()[..32]);
        fs::create_dir_all(directory.join("places"))?;
        fs::create_dir_all(directory.join("queue"))?;
        Ok(directory)
    }
}

impl Lock {
    /// Locks the file at `path`, `None` where somebody else has.
    fn take(path: PathBuf) -> io::Result<Option<Self>> {
        loop {
            let file = File::options().create(true).truncate(false).read(true).write(true).open(&path)?;
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            if super::lease::is_same_file(&file, &path) {
                return Ok(Some(Self { path, file }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn place(directory: &Path, limit: u32, holder: &Holder) -> io::Result<Option<Place>> {
    for number in 0..limit {
        if let Some(mut lock) = Lock::take(directory.join("places").join(number.to_string()))? {
            lock.file.set_len(0)?;
            lock.file.rewind()?;
            lock.file.write_all(&serde_json::to_vec(holder)?)?;
            return Ok(Some(Place { _lock: lock }));
        }
    }
    Ok(None)
}

/// A place in the queue. Names sort by time of creation.
fn ticket(directory: &Path) -> io::Result<Lock> {
    let now = jiff::Timestamp::now().as_nanosecond();
    let path = directory.join("queue").join(format!("{now:024}-{}", RunId::generate()));
    loop {
        // Whoever looks for the first in the queue holds it for a moment.
        if let Some(lock) = Lock::take(path.clone())? {
            return Ok(lock);
        }
    }
}

/// The oldest ticket whose holder lives. Those of the dead are removed.
fn first_ticket(directory: &Path) -> io::Result<Option<PathBuf>> {
    let mut tickets: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory.join("queue"))? {
        tickets.push(entry?.path());
    }
    tickets.sort();
    for path in tickets {
        match File::open(&path) {
            Ok(file) => {
                if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).is_err() {
                    return Ok(Some(path));
                }
                let _ = fs::remove_file(&path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets it go as far as it can.
    fn waits(future: std::pin::Pin<&mut impl Future>) -> bool {
        future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending()
    }

    fn holder(since_ms: i64) -> Holder {
        Holder { run: RunId::generate(), since_ms }
    }

    #[tokio::test]
    async fn places_are_counted_and_go_to_the_first_who_came() {
        let home = tempfile::tempdir().unwrap();
        let groups = Groups::new(home.path());
        let take = |n| groups.try_take(Kind::Steps, "g", 2, &holder(n)).unwrap();
        let (one, two) = (take(1), take(2));
        assert!(one.is_some() && two.is_some() && take(3).is_none());
        assert!(groups.try_take(Kind::Runs, "g", 2, &holder(0)).unwrap().is_some(), "runs have their own");
        assert_eq!(
            groups.holders(Kind::Steps, "g").unwrap().iter().map(|h| h.since_ms).collect::<Vec<_>>(),
            [1, 2]
        );
        let wait = |n| {
            let groups = groups.clone();
            async move { groups.take(Kind::Steps, "g", 2, &holder(n)).await.unwrap() }
        };
        let mut third = std::pin::pin!(wait(3));
        assert!(waits(third.as_mut()));
        let mut fourth = std::pin::pin!(wait(4));
        assert!(waits(fourth.as_mut()));
        drop(one);
        assert!(take(5).is_none(), "nobody passes the queue");
        let third = third.await;
        assert!(waits(fourth.as_mut()));
        drop((third, two));
        fourth.await;
    }

    #[tokio::test]
    async fn a_dropped_wait_leaves_the_queue() {
        let home = tempfile::tempdir().unwrap();
        let groups = Groups::new(home.path());
        let one = groups.try_take(Kind::Steps, "g", 1, &holder(1)).unwrap();
        {
            let two = holder(2);
            let mut waiting = std::pin::pin!(groups.take(Kind::Steps, "g", 1, &two));
            assert!(waits(waiting.as_mut()));
        }
        drop(one);
        assert!(groups.try_take(Kind::Steps, "g", 1, &holder(3)).unwrap().is_some());
    }
}
