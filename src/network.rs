//! What a sandbox may reach: written in workflow files, enforced by providers. A leaf.

use serde::{Deserialize, Serialize};

/// What a sandbox may reach over the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// Nothing but its own loopback.
    #[default]
    None,
    /// All that the host reaches.
    Host,
    /// These domains (`example.com`, `*.example.com`, `host:port`), through a proxy on the sandbox's loopback.
    Allow(Vec<String>),
}

impl Network {
    /// The same, and this line of an allow-list too.
    #[must_use]
    pub fn with(&self, line: &str) -> Self {
        let mut lines = match self {
            Self::Host => return Self::Host,
            Self::None => Vec::new(),
            Self::Allow(lines) => lines.clone(),
        };
        if !lines.iter().any(|known| known == line) {
            lines.push(line.to_owned());
        }
        Self::Allow(lines)
    }
}
