//! Connections that the network policy of a sandbox did not allow, told to whoever has the sandbox.

use std::sync::Arc;

/// A connection that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where it was to go, as `host:port`.
    pub to: String,
    /// The line of an allow-list that would let it through.
    pub line: String,
    /// The whole reason, for people.
    pub why: String,
}

/// Is told of connections as they are refused. Must not block.
pub type RefusalSink = Arc<dyn Fn(&Refused) + Send + Sync>;
