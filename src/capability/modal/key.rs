//! Idempotency keys: equal ones name the same call, however often it is sent.

use crate::id::Digest;
use std::fmt;

/// A key in the form of a UUID, which is what Modal's clients send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    /// The key of these parts, today and after any crash.
    pub(crate) fn of(parts: &[&str]) -> Self {
        // A length before each part: no two lists of parts are written alike.
        let text: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
        let mut hex: Vec<char> = Digest::of(text.as_bytes()).hex().chars().take(32).collect();
        // Version and variant of random UUIDs, for servers that look.
        hex[12] = '4';
        hex[16] = '8';
        let group = |from: usize, to: usize| hex[from..to].iter().collect::<String>();
        Self([group(0, 8), group(8, 12), group(12, 16), group(16, 20), group(20, 32)].join("-"))
    }

    /// A key that nobody has used.
    pub(crate) fn fresh() -> Self {
        Self::of(&[&ulid::Ulid::generate().to_string()])
    }

    /// As it is sent.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_uuid_and_follows_from_its_parts() {
        insta::assert_snapshot!(Key::of(&["home", "run-1", "1"]), @"58bb1a45-d41f-429e-8f03-c2beb31f8562");
        assert_eq!(Key::of(&["a", "b"]), Key::of(&["a", "b"]));
        assert_ne!(Key::of(&["a", "b"]), Key::of(&["ab", ""]));
        assert_ne!(Key::of(&["a1", ":b"]), Key::of(&["a", "1:b"]));
        assert_ne!(Key::fresh(), Key::fresh());
    }
}
