//! Names and numbers that must not be mistaken for one another. Holds no behaviour beyond parsing and printing.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps a text that the caller has checked.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id! {
    /// One run of a workflow: a ULID in lower case, so that names sort by time of creation.
    RunId
}

text_id! {
    /// A step of a workflow, by its key in the file.
    StepId
}

/// A step of a run: its key in the file, and the item where it is done once for each item of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StepRef {
    /// Which step.
    pub step: StepId,
    /// The key of the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
}

impl StepRef {
    /// A step of an item.
    pub fn of_item(step: StepId, item: impl Into<String>) -> Self {
        Self { step, item: Some(item.into()) }
    }

    /// Reads `step` or `step[item]` as a person typed it.
    pub fn parse(text: &str) -> Self {
        match text.split_once('[').and_then(|(step, rest)| Some((step, rest.strip_suffix(']')?))) {
            Some((step, item)) => Self::of_item(StepId::new(step), item),
            None => StepId::new(text).into(),
        }
    }
}

impl From<StepId> for StepRef {
    fn from(step: StepId) -> Self {
        Self { step, item: None }
    }
}

impl fmt::Display for StepRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.item {
            Some(item) => write!(f, "{}[{item}]", self.step),
            None => write!(f, "{}", self.step),
        }
    }
}

impl RunId {
    /// The id of a run that another one starts: the same whenever it is asked for, and beside its parent in order.
    pub fn child(&self, key: &str) -> Self {
        let parent = ulid::Ulid::from_string(&self.0.to_ascii_uppercase()).unwrap_or_default();
        let digest = Digest::of(format!("{self}/{key}").as_bytes());
        let mut random = [0; 16];
        random[6..].copy_from_slice(&digest.0[..10]);
        let child = ulid::Ulid::from_parts(parent.timestamp_ms(), u128::from_be_bytes(random));
        Self(child.to_string().to_ascii_lowercase())
    }

    /// A new id from the clock and the system's randomness.
    pub fn generate() -> Self {
        Self(ulid::Ulid::generate().to_string().to_ascii_lowercase())
    }

    /// Reads an id as a person typed it, or `None` where it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let id = ulid::Ulid::from_string(&text.to_ascii_uppercase()).ok()?;
        Some(Self(id.to_string().to_ascii_lowercase()))
    }
}

/// SHA-256 of some bytes: names components, layers and images by content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Sixty-four lower-case hex digits, without a prefix.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads `sha256:HEX` or bare `HEX`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.strip_prefix("sha256:").unwrap_or(text), &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl From<sha2::Sha256> for Digest {
    /// The digest of all that was fed to it.
    fn from(hash: sha2::Sha256) -> Self {
        use sha2::Digest as _;
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a SHA-256 digest"))
    }
}
