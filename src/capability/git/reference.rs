//! Names of branches and tags: which are well-formed, what a remote lists, and which are near one mistyped. Pure.

use super::bundle::is_sha;
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;

/// Longest name of a ref, in bytes.
const LONGEST: usize = 255;
/// Most near names shown.
const SHOWN: usize = 3;

/// Checks a branch, tag or full ref as git's own rules have it, so that it is never an option, a pattern or a refspec.
pub(super) fn check(name: &str) -> Result<()> {
    let parts_fit = name.split('/').all(|part| {
        !part.is_empty() && !part.starts_with('.') && !part.ends_with('.') && !part.ends_with(".lock")
    });
    let fits = (1..=LONGEST).contains(&name.len())
        && parts_fit
        && !name.starts_with('-')
        && name != "@"
        && !name.contains("..")
        && !name.contains("@{")
        && !name.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c));
    if fits {
        return Ok(());
    }
    Err(CapabilityError::new(
        ErrorKind::INVALID,
        format!("{name:?} is no name of a branch, tag or commit; write it as git branch --list prints it"),
    ))
}

/// What a remote has: names and commits in the order listed, and the branch its HEAD names.
#[derive(Debug, Default)]
pub(super) struct Listing {
    refs: Vec<(String, String)>,
    head: Option<String>,
}

impl Listing {
    /// Reads what `git ls-remote --symref` prints.
    pub(super) fn parse(text: &str) -> Self {
        let mut listing = Self::default();
        for (left, name) in text.lines().filter_map(|line| line.split_once('\t')) {
            if let Some(target) = left.strip_prefix("ref: ") {
                if name == "HEAD" {
                    listing.head = target.strip_prefix("refs/heads/").map(str::to_owned);
                }
            } else if is_sha(left) {
                listing.refs.push((name.to_owned(), left.to_owned()));
            }
        }
        listing
    }

    /// The branch that HEAD names.
    pub(super) fn head(&self) -> Option<&str> {
        self.head.as_deref()
    }

    /// The commit (or tag object) of a full ref.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.refs.iter().find(|(listed, _)| listed == name).map(|(_, sha)| sha.as_str())
    }

    /// The branches most like `name`, for a message.
    pub(super) fn nearest(&self, name: &str) -> Vec<&str> {
        let mut near: Vec<(usize, &str)> = self
            .refs
            .iter()
            .filter_map(|(listed, _)| listed.strip_prefix("refs/heads/"))
            .map(|branch| {
                let distance = distance(name, branch);
                let contained = branch.contains(name) || name.contains(branch);
                (if contained { distance.min(1) } else { distance }, branch)
            })
            .filter(|(distance, _)| *distance <= (name.len() / 3).max(2))
            .collect();
        near.sort_unstable();
        near.into_iter().take(SHOWN).map(|(_, branch)| branch).collect()
    }

    /// Some branches, for a message where none is near.
    pub(super) fn some(&self) -> Vec<&str> {
        self.refs.iter().filter_map(|(name, _)| name.strip_prefix("refs/heads/")).take(SHOWN).collect()
    }
}

/// Edit distance in bytes.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_gits_rules() {
        for good in ["main", "feature/x-1", "v1.0", "refs/heads/main", "é", "a@b"] {
            check(good).unwrap();
        }
        let bad = "-x|--upload-pack=id|a..b|a b|a:b|+a:b|*|a?|a[|a~1|a^|/a|a/|a//b|.a|a/.b|a.lock|a.|@|a@{1}|a\\b|a\nb";
        for bad in bad.split('|').chain([""]) {
            assert_eq!(check(bad).unwrap_err().kind, ErrorKind::INVALID, "{bad:?}");
        }
    }

    #[test]
    fn a_listing_is_read_and_near_names_are_found() {
        let sha = "0".repeat(40);
        let text = format!(
            "ref: refs/heads/main\tHEAD\n{sha}\tHEAD\n{sha}\trefs/heads/main\n{sha}\trefs/heads/develop\n{sha}\trefs/tags/devel\nnoise\n"
        );
        let listing = Listing::parse(&text);
        assert_eq!(listing.head(), Some("main"));
        assert_eq!(listing.get("refs/heads/develop"), Some(sha.as_str()));
        assert_eq!(listing.get("develop"), None);
        assert_eq!(listing.nearest("mian"), ["main"]);
        assert_eq!(listing.nearest("devel"), ["develop"]);
        assert!(listing.nearest("release-2024").is_empty());
    }
}
