//! Secret values and their masking. A value is never printed, serialised or compared in logs.

use std::fmt;
use std::sync::Arc;

/// The text of a credential. `Debug` and `Display` never show it.
#[derive(Clone)]
pub struct Secret {
    name: Arc<str>,
    value: Arc<str>,
}

impl Secret {
    /// A secret of the run, by the name it has in the workflow file.
    pub fn new(name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), value: value.into() }
    }

    /// The name in the workflow file; safe to print.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text itself. Hand it to an environment or a header, never to a message.
    pub fn expose(&self) -> &str {
        &self.value
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.name)
    }
}
