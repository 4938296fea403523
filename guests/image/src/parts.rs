//! What an image is made of, as text: how parts are named, and how a set-up becomes a command. Pure.

use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Changes whenever equal parts make another ground than before.
const RECIPE: &str = "1";

/// The file of the store for the ground of these parts.
pub(crate) fn file(base: &str, identity: &str, sha: &str) -> String {
    let mut hash = Sha256::new();
    for part in [RECIPE, base, identity, sha] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut name = String::new();
    for byte in hash.finalize() {
        // Writing to a text cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// Whether this is the whole id of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The command that runs a set-up in a directory, until a line of it fails.
pub(crate) fn command(directory: Option<&str>, setup: &str) -> String {
    format!("set -e\ncd -- {}\n{setup}", quoted(directory.unwrap_or("/")))
}

/// A word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_parts_have_another_file() {
        let parts = [("a", "bc", "d"), ("ab", "c", "d"), ("a", "b", "cd"), ("", "abc", "d")];
        let mut names: Vec<String> = parts.iter().map(|(a, b, c)| file(a, b, c)).collect();
        assert!(names.iter().all(|name| name.len() == 64));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), parts.len());
        assert_eq!(file("a", "b", "c"), file("a", "b", "c"));
    }

    #[test]
    fn commits_are_told_from_branches() {
        assert!(is_commit(&"0f".repeat(20)) && is_commit(&"0f".repeat(32)));
        for reference in ["main", "", &"0F".repeat(20), &"0f".repeat(19), &"0g".repeat(20)] {
            assert!(!is_commit(reference), "{reference}");
        }
    }

    #[test]
    fn a_set_up_runs_where_the_clone_is() {
        assert_eq!(command(Some("/workspace/it's"), "make"), "set -e\ncd -- '/workspace/it'\\''s'\nmake");
        assert_eq!(command(None, "make"), "set -e\ncd -- '/'\nmake");
    }
}
