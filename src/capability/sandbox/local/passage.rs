//! The connections that a sandbox's proxy holds open, under an allow-list that may change while they are. A list that no
//! longer admits one cuts it, and holds only once it is gone.

use crate::capability::allow_list::AllowList;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most connections that one sandbox has open at a time: each takes a descriptor of the host's process.
const OPEN_LIMIT: usize = 1024;

/// Where a connection leads.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    /// As it was asked for, in lower case.
    pub(super) host: String,
    pub(super) port: u16,
    /// What it resolved to.
    pub(super) address: IpAddr,
}

/// Why a connection cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The list does not admit it, or does no longer.
    Refused,
    /// There are too many.
    Full,
}

/// The open connections of one sandbox.
#[derive(Default)]
pub(super) struct Passages(Mutex<State>);

#[derive(Default)]
struct State {
    rules: Arc<AllowList>,
    open: BTreeMap<u64, Open>,
    next: u64,
}

struct Open {
    to: Destination,
    cut: CancellationToken,
    gone: CancellationToken,
}

/// One open connection: whoever holds it closes the connection, then drops this, as soon as `cut` fires.
pub(super) struct Passage {
    passages: Arc<Passages>,
    number: u64,
    pub(super) cut: CancellationToken,
    _gone: DropGuard,
}

impl Passages {
    pub(super) fn new(rules: AllowList) -> Self {
        Self(Mutex::new(State { rules: Arc::new(rules), ..State::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list as it is now.
    pub(super) fn rules(&self) -> Arc<AllowList> {
        self.lock().rules.clone()
    }

    /// Notes a connection that is about to be used, unless the list has changed meanwhile and says no.
    pub(super) fn open(self: &Arc<Self>, to: Destination) -> Result<Passage, Closed> {
        let mut state = self.lock();
        if !admits(&state.rules, &to) {
            return Err(Closed::Refused);
        }
        if state.open.len() >= OPEN_LIMIT {
            return Err(Closed::Full);
        }
        let (cut, gone) = (CancellationToken::new(), CancellationToken::new());
        let number = state.next;
        state.next += 1;
        state.open.insert(number, Open { to, cut: cut.clone(), gone: gone.clone() });
        Ok(Passage { passages: self.clone(), number, cut, _gone: gone.drop_guard() })
    }

    /// Replaces the list. Returns once the connections that it does not admit are closed.
    pub(super) async fn set(&self, rules: AllowList) {
        let mut going = Vec::new();
        {
            let mut state = self.lock();
            state.rules = Arc::new(rules);
            for open in state.open.values().filter(|open| !admits(&state.rules, &open.to)) {
                open.cut.cancel();
                going.push(open.gone.clone());
            }
        }
        for gone in going {
            gone.cancelled().await;
        }
    }
}

fn admits(rules: &AllowList, to: &Destination) -> bool {
    rules.find(&to.host, to.port).is_some_and(|rule| rule.admits(to.address))
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.passages.lock().open.remove(&self.number);
    }
}
