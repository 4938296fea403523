//! What the driver does where an injected fault strikes. The fault is real as far as it goes: the process that is to
//! die dies as by `kill -9`, with nothing put in order.

use super::Clock;
use crate::id::StepRef;
use crate::step::{ErrorKind, StepError};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Ends this process as by `kill -9`. Says so first, for whoever would wonder.
pub(super) fn die(at: &StepRef, attempt: u32, when: &str) -> ! {
    tracing::warn!(
        "injected: this process dies {when} attempt {attempt} of step {at}; `harvest resume` carries the run on"
    );
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal has no handler and cannot be blocked.
    std::process::abort()
}

/// Makes an attempt longer: waits, or fails it once the first of its limits of time has run out. The wait is taken off
/// its `timeout`.
///
/// # Errors
/// What the host would have said of an attempt that took so long.
pub(super) async fn delay(
    clock: &dyn Clock,
    ms: u64,
    timeout: &mut Option<Duration>,
    silence: Option<Duration>,
    cancel: &CancellationToken,
) -> Result<(), StepError> {
    let delay = Duration::from_millis(ms);
    let limit = timeout.iter().copied().chain(silence).min().filter(|limit| *limit <= delay);
    tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(StepError::new(ErrorKind::CANCELLED, "the attempt was cancelled")),
        () = clock.wait_until(after(clock.now(), limit.unwrap_or(delay))) => {}
    }
    let Some(limit) = limit else {
        *timeout = timeout.map(|timeout| timeout - delay);
        return Ok(());
    };
    Err(if *timeout == Some(limit) {
        StepError::new(ErrorKind::TIMED_OUT, format!("the attempt took longer than {limit:?} (injected)"))
    } else {
        StepError::new(
            ErrorKind::IDLE_TIMED_OUT,
            format!("the attempt said nothing for {limit:?} (injected)"),
        )
    })
}

/// The last time there is, where the sum is later than that.
fn after(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}
