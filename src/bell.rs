//! Wakes those who wait for a run to change, in this process. A leaf under the journal and the streams.
//!
//! A bell carries no news: whoever it wakes looks again. It never holds what it announces, and never blocks.

use crate::id::RunId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// One bell for many runs.
#[derive(Default)]
pub struct Bell {
    waiting: Mutex<HashMap<RunId, Waiting>>,
    /// How often it rang, for those who wait for any of them.
    rings: watch::Sender<u64>,
}

/// Those who wait for one run.
struct Waiting {
    listeners: usize,
    notify: Arc<Notify>,
}

impl Bell {
    /// Starts to listen for `run`: see [`Listener::next`].
    pub fn listen(&self, run: &RunId) -> Listener<'_> {
        let mut waiting = self.lock();
        let entry = waiting
            .entry(run.clone())
            .or_insert_with(|| Waiting { listeners: 0, notify: Arc::new(Notify::new()) });
        entry.listeners += 1;
        Listener { bell: self, run: run.clone(), notify: entry.notify.clone() }
    }

    /// Waits until the number of rings is another than `since`, and returns it. Cancel-safe.
    pub async fn stirred(&self, since: u64) -> u64 {
        let mut rings = self.rings.subscribe();
        // It ends only with the bell, and this borrows that.
        rings.wait_for(|rings| *rings != since).await.map_or(since, |rings| *rings)
    }

    /// Wakes all who listen for `run`.
    pub fn ring(&self, run: &RunId) {
        self.rings.send_modify(|rings| *rings += 1);
        if let Some(waiting) = self.lock().get(run) {
            waiting.notify.notify_waiters();
        }
    }

    /// Wakes all who listen for anything.
    pub fn ring_all(&self) {
        self.rings.send_modify(|rings| *rings += 1);
        for waiting in self.lock().values() {
            waiting.notify.notify_waiters();
        }
    }

    /// Whether anybody listens.
    pub fn has_listeners(&self) -> bool {
        self.rings.receiver_count() > 0 || !self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who listens for one run, until dropped.
pub struct Listener<'bell> {
    bell: &'bell Bell,
    run: RunId,
    notify: Arc<Notify>,
}

impl Listener<'_> {
    /// Ends with the next ring after this call, heard even where nobody awaits it yet. Take it first, look, then await
    /// it: so no ring between the look and the wait is missed. Cancel-safe.
    pub fn next(&self) -> impl Future<Output = ()> + Send {
        self.notify.notified()
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let mut waiting = self.bell.lock();
        if let Some(entry) = waiting.get_mut(&self.run) {
            entry.listeners -= 1;
            if entry.listeners == 0 {
                waiting.remove(&self.run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_ring_before_the_wait_is_heard() {
        let (bell, run) = (Bell::default(), RunId::new("a"));
        let listener = bell.listen(&run);
        let next = listener.next();
        bell.ring(&run);
        next.await;
        let next = listener.next();
        bell.ring_all();
        next.await;
    }

    #[tokio::test]
    async fn old_rings_and_those_for_other_runs_wake_nobody() {
        let (bell, run) = (Bell::default(), RunId::new("a"));
        let listener = bell.listen(&run);
        bell.ring(&run);
        let mut next = std::pin::pin!(listener.next());
        bell.ring(&RunId::new("b"));
        assert!(next.as_mut().now_or_never().is_none());
        bell.ring(&run);
        assert!(next.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn any_ring_ends_a_wait_for_all_of_them() {
        let (bell, run) = (Bell::default(), RunId::new("a"));
        let mut waiting = std::pin::pin!(bell.stirred(0));
        assert!(waiting.as_mut().now_or_never().is_none() && bell.has_listeners());
        bell.ring(&run);
        let first = waiting.await;
        bell.ring_all();
        assert_ne!(bell.stirred(first).await, first, "a ring before the wait is heard");
        assert!(!bell.has_listeners());
    }

    #[test]
    fn the_last_listener_leaves_nothing_behind() {
        let (bell, run) = (Bell::default(), RunId::new("a"));
        let (one, two) = (bell.listen(&run), bell.listen(&run));
        drop(one);
        assert!(bell.has_listeners());
        drop(two);
        assert!(!bell.has_listeners());
    }
}
