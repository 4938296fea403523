//! Limits of one call: guest CPU time and memory. Waiting costs neither.

use rustix::time::{ClockId, clock_gettime};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

/// What one call of a guest may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Linear memory over all its modules, in bytes.
    pub memory: usize,
    /// CPU time. Guests direct work that happens elsewhere; one that computes long is stuck.
    pub cpu: Duration,
    /// How long commands may take to stop once they were asked to, before they are killed.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 256 << 20, cpu: Duration::from_secs(30), grace: Duration::from_secs(10) }
    }
}

/// Elements of one table: every function of the largest interpreter fits ten times.
const TABLE_LIMIT: usize = 1_000_000;

/// Core instances, tables and memories of one step.
const COUNT_LIMIT: usize = 256;

/// The guest asked for more memory than it may have.
#[derive(Debug, thiserror::Error)]
#[error("the component asked for more than its {0}")]
pub(super) struct OutOfMemory(String);

/// The guest computed for longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("the component used up its CPU budget of {} ms", .0.as_millis())]
pub(super) struct OutOfTime(Duration);

/// Memory of one store.
#[derive(Debug)]
pub(super) struct Memory {
    used: usize,
    limit: usize,
}

impl Memory {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { used: 0, limit: limits.memory }
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used + desired.saturating_sub(current);
        if used > self.limit {
            // A trap and not a refusal: few guests handle a refusal, and their ways to fail differ.
            return Err(OutOfMemory(format!("{} MiB of memory", self.limit >> 20)).into());
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        match desired > TABLE_LIMIT {
            true => Err(OutOfMemory(format!("{TABLE_LIMIT} elements of a table")).into()),
            false => Ok(true),
        }
    }

    fn instances(&self) -> usize {
        COUNT_LIMIT
    }

    fn tables(&self) -> usize {
        COUNT_LIMIT
    }

    fn memories(&self) -> usize {
        COUNT_LIMIT
    }
}

/// Counts the CPU time of one call. The clock runs only while the call's future is being polled, and is that of the
/// polling thread: time in which the guest waits for the host, or the thread for a processor, does not count.
#[derive(Debug, Default)]
struct Meter {
    /// Nanoseconds of finished polls.
    used: AtomicU64,
    /// The thread's CPU clock when the current poll began, in nanoseconds.
    began: AtomicU64,
}

impl Meter {
    fn now(&self) -> Duration {
        let current = thread_time().saturating_sub(self.began.load(Ordering::Relaxed));
        Duration::from_nanos(self.used.load(Ordering::Relaxed) + current)
    }
}

/// A future whose polls are counted.
pub(super) struct Metered<F> {
    inner: Pin<Box<F>>,
    meter: Arc<Meter>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let began = thread_time();
        self.meter.began.store(began, Ordering::Relaxed);
        let poll = self.inner.as_mut().poll(context);
        self.meter.used.fetch_add(thread_time().saturating_sub(began), Ordering::Relaxed);
        poll
    }
}

/// Bounds the CPU time of what `call` does with the store. The guest gives its thread back every tick of the epoch.
pub(super) fn metered<T: 'static, F: Future>(
    mut store: Store<T>,
    limit: Duration,
    call: impl FnOnce(Store<T>) -> F,
) -> Metered<F> {
    let meter = Arc::new(Meter::default());
    let clock = meter.clone();
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| match clock.now() > limit {
        true => Err(OutOfTime(limit).into()),
        false => Ok(UpdateDeadline::Yield(1)),
    });
    Metered { inner: Box::pin(call(store)), meter }
}

fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
