//! The only clock that runs are measured by.

use async_trait::async_trait;
use jiff::Timestamp;
use std::time::Duration;

/// Tells the time and waits for it.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
    /// Returns once `now` has reached this time. Cancel-safe.
    async fn wait_until(&self, time: Timestamp);
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn wait_until(&self, time: Timestamp) {
        // In slices, so that a machine that slept or whose clock was set does not oversleep by as much.
        const SLICE: Duration = Duration::from_secs(30);
        loop {
            let left = time.as_millisecond() - Timestamp::now().as_millisecond();
            let Ok(left) = u64::try_from(left) else { return };
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(left).min(SLICE)).await;
        }
    }
}
