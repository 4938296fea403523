//! By what the pauses between attempts are taken: the machine's clock, or one of a test.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A clock.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's, since this moment.
    Machine(Instant),
    /// One on which a pause is over at once, and nothing else takes time: for tests of what takes minutes.
    Pauses(Arc<Mutex<Duration>>),
}

impl Default for Clock {
    fn default() -> Self {
        Self::Machine(Instant::now())
    }
}

impl Clock {
    /// A clock that goes on by pauses alone.
    pub fn of_pauses() -> Self {
        Self::Pauses(Arc::default())
    }

    /// The time since it began.
    pub fn now(&self) -> Duration {
        match self {
            Self::Machine(begun) => begun.elapsed(),
            Self::Pauses(passed) => *passed.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Lets this time pass.
    pub(crate) async fn pause(&self, time: Duration) {
        match self {
            Self::Machine(_) => tokio::time::sleep(time).await,
            Self::Pauses(passed) => {
                *passed.lock().unwrap_or_else(PoisonError::into_inner) += time;
                tokio::task::yield_now().await;
            }
        }
    }
}
