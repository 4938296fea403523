//! Secrets of a run: values, which are never printed, serialised or compared in logs, and names of values that a provider
//! keeps, which never come to this machine.

use super::{CapabilityError, Result};
use crate::step::ErrorKind;
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

/// A secret that a provider keeps under a name. Commands of its sandboxes can have it as a variable; nobody else can have
/// it at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSecret {
    /// Its name with the provider.
    pub name: String,
    /// The provider's id of it; empty where it was not asked for.
    pub id: String,
    /// Which of its values is meant: the name of a variable.
    pub key: String,
    /// Names of all its values, as far as the provider told them.
    pub keys: Vec<String>,
}

/// What a run has of one of its secrets.
#[derive(Clone, Debug)]
pub enum RunSecret {
    /// Its value.
    Here(Secret),
    /// A name by which the provider of its sandboxes keeps one.
    Kept {
        /// The name in the workflow file.
        name: Arc<str>,
        /// By which name commands are given it.
        kept: KeptSecret,
        /// The value for what is done on this machine, where it has one too.
        here: Option<Secret>,
    },
}

impl RunSecret {
    /// The name in the workflow file; safe to print.
    pub fn name(&self) -> &str {
        match self {
            Self::Here(secret) => secret.name(),
            Self::Kept { name, .. } => name,
        }
    }

    /// By which name a command is given it, where that is not by its value.
    pub fn kept(&self) -> Option<&KeptSecret> {
        match self {
            Self::Here(_) => None,
            Self::Kept { kept, .. } => Some(kept),
        }
    }

    /// Its value, where this machine has one.
    pub fn here(&self) -> Option<&Secret> {
        match self {
            Self::Here(secret) => Some(secret),
            Self::Kept { here, .. } => here.as_ref(),
        }
    }

    /// Its value, for something that is done on this machine.
    ///
    /// # Errors
    /// `invalid`, with what to write, where it is kept elsewhere alone.
    pub fn value(&self) -> Result<&Secret> {
        match self {
            Self::Here(secret) | Self::Kept { here: Some(secret), .. } => Ok(secret),
            Self::Kept { name, kept: KeptSecret { name: kept, key, .. }, here: None } => {
                Err(CapabilityError::new(
                    ErrorKind::INVALID,
                    format!(
                        "secret `{name}` is kept by the provider as `{kept}/{key}` and is needed on this machine, which \
                         never has it: give it a value here too, from a source such as `env:{key}` in its `from`"
                    ),
                ))
            }
        }
    }
}

impl From<Secret> for RunSecret {
    fn from(secret: Secret) -> Self {
        Self::Here(secret)
    }
}
