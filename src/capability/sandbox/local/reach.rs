//! What a sandbox may reach, and how that changes while it lives. The host's network is a matter of namespaces and stays
//! as it is; all else is a matter of the proxy, which listens from the first allow-list on.

use super::gateway::Service;
use super::proxy::{self, Proxy, Sink};
use crate::capability::allow_list::AllowList;
use crate::capability::sandbox::{Network, RefusalSink};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

pub(super) struct Reach {
    network: Mutex<Network>,
    /// Held while the policy changes.
    proxy: tokio::sync::Mutex<Option<Proxy>>,
    sink: Sink,
}

impl Reach {
    /// What a sandbox may reach that is made with this policy, once [`Self::enforce`] has put it in force.
    pub(super) fn new(network: &Network) -> Self {
        Self {
            network: Mutex::new(network.clone()),
            proxy: tokio::sync::Mutex::default(),
            sink: Sink::default(),
        }
    }

    /// The policy as it is now.
    pub(super) fn now(&self) -> Network {
        self.network.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Fails with `invalid` where the way to another policy leads into the host's network, or out of it.
    pub(super) fn may_become(&self, id: &str, network: &Network) -> Result<()> {
        let now = self.now();
        if (now == Network::Host) == (*network == Network::Host) {
            return Ok(());
        }
        let message = format!(
            "sandbox {id} cannot go from the network {} to {}: the host's network is neither entered nor left while a \
             sandbox lives; use another sandbox",
            word(&now),
            word(network)
        );
        Err(CapabilityError::new(ErrorKind::INVALID, message))
    }

    /// Puts a policy in force. Returns once connections that it does not allow are cut. `offer` serves on a port of the
    /// sandbox for as long as it is open.
    pub(super) async fn enforce<F: Future<Output = Result<SocketAddr>>>(
        &self,
        network: &Network,
        offer: impl FnOnce(u16, Service) -> F,
    ) -> Result<()> {
        let rules = match network {
            Network::Allow(lines) => AllowList::parse(lines)?,
            Network::None | Network::Host => AllowList::default(),
        };
        let mut proxy = self.proxy.lock().await;
        match &*proxy {
            Some(proxy) => proxy.set(rules).await,
            None if matches!(network, Network::Allow(_)) => {
                let new = Proxy::new(rules, self.sink.clone());
                offer(proxy::PORT, new.service()).await?;
                *proxy = Some(new);
            }
            None => {}
        }
        *self.network.lock().unwrap_or_else(PoisonError::into_inner) = network.clone();
        Ok(())
    }

    /// The variables by which commands find the proxy, where there is one.
    pub(super) async fn environment(&self) -> Vec<(String, String)> {
        self.proxy.lock().await.as_ref().map(|proxy| proxy::environment(&proxy.rules())).unwrap_or_default()
    }

    /// Who is told of refused connections from now on.
    pub(super) fn tell(&self, sink: RefusalSink) {
        *self.sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    }
}

/// A policy as isolation reports have it.
pub(in crate::capability::sandbox) fn word(network: &Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Host => "host",
        Network::Allow(_) => "allow-list",
    }
}
