//! Bugs that tests plant into the run core and the engine, to see that the simulation and the tests of leases find
//! them. Outside tests no bug is ever planted, and asking costs nothing.

/// A bug, by what it does. Each has one place in the code, and one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    /// Skip: a step runs though its condition is false.
    ConditionIgnored,
    /// Order: a step starts though what it needs has failed.
    FailedNeedIgnored,
    /// Order: a step starts before what it reads is there.
    ReadTooEarly,
    /// Retry: one attempt more than the file allows.
    RetryTooOften,
    /// Retry: an attempt lost with its host counts against `retry`.
    LostAttemptCounts,
    /// Retry: the delay between two attempts does not grow.
    BackoffStandsStill,
    /// Cancel: steps go on after it.
    CancelIgnored,
    /// Cancel: the run ends without waiting for what it stops.
    EndsBesideAttempt,
    /// For-each: one item more at once than the file allows.
    LoopTooWide,
    /// For-each: the last item is never done.
    LoopDropsItem,
    /// For-each: a failed item does not stop the others.
    LoopGoesOn,
    /// Finally: it does not run where the run has failed.
    FinallyLeftOut,
    /// Finally: it begins beside steps at work.
    FinallyTooEarly,
    /// Replay: of several attempts lost with their host, only one is noticed.
    LostAttemptForgotten,
    /// Replay: skipped steps are due again.
    ReplayForgetsSkips,
    /// Cache: outputs that are taken over get lost.
    ReusedOutputsLost,
    /// Approval: a no counts as a yes.
    RejectionIgnored,
    /// Approval: a question stays open when the run stops.
    QuestionLeftOpen,
    /// Groups: steps start before the run has its place.
    StartsUnadmitted,
    /// Groups: a step that has waited for too long starts after all.
    QueueTimeoutStarts,
    /// Groups: a step that waits is forgotten.
    QueuedForgotten,
    /// Time-outs: the run's own has no effect.
    RunTimeoutIgnored,
    /// Run-retry: what had succeeded is done again.
    RetryRepeatsSteps,
    /// Run-retry: items that had succeeded are done again.
    RetryRepeatsItems,
    /// Ledger: what further attempts spend is not counted.
    RetrySpendsNothing,
    /// Lease: a second process gets one that is held.
    LeaseShared,
    /// Lease: whoever locks a file that its holder has unlinked takes it for the lease.
    LeaseOfNoFile,
    /// Cache: kept outputs never grow too old.
    KeptForEver,
}

/// Whether this bug is planted: never.
#[cfg(not(test))]
pub(crate) const fn planted(_: Planted) -> bool {
    false
}

#[cfg(test)]
pub(crate) use for_tests::{plant, planted};

#[cfg(test)]
mod for_tests {
    use super::Planted;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    pub(crate) fn planted(bug: Planted) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Plants a bug in this thread while `test` runs.
    pub(crate) fn plant<T>(bug: Planted, test: impl FnOnce() -> T) -> T {
        struct Uproot;
        impl Drop for Uproot {
            fn drop(&mut self) {
                PLANTED.set(None);
            }
        }
        let _uproot = Uproot;
        PLANTED.set(Some(bug));
        test()
    }
}
