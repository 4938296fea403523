//! Who works in a sandbox of a run. All of them reach the same: the checker lets no two steps with different policies into
//! one sandbox at once, and here the later one is refused.

use super::refusals::Refusals;
use crate::capability::sandbox::{Isolation, Network, Refused};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The attempts at work in one sandbox.
#[derive(Default)]
pub(super) struct Visits(Mutex<State>);

#[derive(Default)]
struct State {
    /// The policy of all of them.
    network: Network,
    /// Hosts that they reach beyond it.
    more: BTreeSet<String>,
    visitors: BTreeMap<u64, Arc<Refusals>>,
    next: u64,
}

/// An attempt is at work there, until this is dropped.
pub(super) struct Visit {
    visits: Arc<Visits>,
    number: u64,
}

impl Visits {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an attempt in. `conflict` where others are there under another policy.
    pub(super) fn enter(self: &Arc<Self>, network: &Network, refusals: Arc<Refusals>) -> Result<Visit> {
        let mut state = self.lock();
        if !state.visitors.is_empty() && state.network != *network {
            return Err(CapabilityError::new(
                ErrorKind::CONFLICT,
                "another step with another `network` is at work in the same sandbox: write `needs` between the two",
            ));
        }
        if state.visitors.is_empty() {
            state.more.clear();
        }
        state.network = network.clone();
        let number = state.next;
        state.next += 1;
        state.visitors.insert(number, refusals);
        Ok(Visit { visits: self.clone(), number })
    }

    /// The policy of those who are there, with what they reach beyond it.
    pub(super) fn network(&self) -> Option<Network> {
        let state = self.lock();
        let all = || state.more.iter().fold(state.network.clone(), |network, host| network.with(host));
        (!state.visitors.is_empty()).then(all)
    }

    /// Adds a host to what they reach, until none of them is there any more.
    pub(super) fn reach(&self, host: &str) {
        self.lock().more.insert(host.to_owned());
    }

    /// Tells all of them of a refused connection: which of them made it cannot be told.
    pub(super) fn refused(&self, sandbox: &str, refused: &Refused) {
        let (network, visitors) = {
            let state = self.lock();
            (state.network.clone(), state.visitors.values().cloned().collect::<Vec<_>>())
        };
        for visitor in visitors {
            visitor.note(sandbox, Some(&network), refused);
        }
    }

    /// Notes in their logs how well the sandbox that was opened for them is held in.
    pub(super) fn log(&self, sandbox: &str, isolation: &Isolation) {
        let visitors: Vec<_> = self.lock().visitors.values().cloned().collect();
        for visitor in visitors {
            visitor.opened(sandbox, isolation);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.visits.lock().visitors.remove(&self.number);
    }
}
