//! The header of a bundle: what it holds and what it needs. The rest of the file is a pack. Pure.
//!
//! Harvest reads and writes headers itself, so that a bundle from a sandbox is never more to git than a pack on standard
//! input, and one for a sandbox needs no ref of the name it carries.

use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;

/// Longest header read, in bytes.
pub(super) const LONGEST_HEADER: usize = 1 << 20;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The commit of its one ref.
    pub(super) sha: String,
    /// Commits that whoever reads it must have.
    pub(super) needs: Vec<String>,
    /// Where the pack starts, in bytes.
    pub(super) length: usize,
}

/// Whether `text` is a whole SHA-1 object name, in lower case.
pub(super) fn is_sha(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Header {
    /// Reads the header at the start of `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| CapabilityError::new(ErrorKind::INVALID, format!("the bundle {what}"));
        let bytes = &bytes[..bytes.len().min(LONGEST_HEADER)];
        let end = bytes
            .windows(2)
            .position(|pair| pair == b"\n\n")
            .ok_or_else(|| bad("has no end of its header within 1 MiB; make it with git bundle create"))?;
        let text = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = text.lines();
        match lines.next() {
            Some("# v2 git bundle" | "# v3 git bundle") => {}
            _ => return Err(bad("is none; make it with git bundle create")),
        }
        let (mut sha, mut needs) = (None, Vec::new());
        for line in lines {
            if let Some(capability) = line.strip_prefix('@') {
                if capability != "object-format=sha1" {
                    return Err(bad("has a filter or an object format that harvest does not take"));
                }
            } else if let Some(need) = line.strip_prefix('-') {
                let need = need.split(' ').next().unwrap_or_default();
                needs.push(
                    Some(need).filter(|need| is_sha(need)).ok_or_else(|| bad("is malformed"))?.to_owned(),
                );
            } else {
                let (name, reference) = line.split_once(' ').ok_or_else(|| bad("is malformed"))?;
                if !is_sha(name) || reference.is_empty() {
                    return Err(bad("is malformed"));
                }
                if sha.replace(name.to_owned()).is_some() {
                    return Err(bad("holds several refs; it must hold one"));
                }
            }
        }
        let sha = sha.ok_or_else(|| bad("holds no ref; it must hold one"))?;
        Ok(Self { sha, needs, length: end + 2 })
    }

    /// The text of a header with one ref.
    pub(super) fn text(sha: &str, reference: &str, needs: &[String]) -> String {
        let mut text = "# v2 git bundle\n".to_owned();
        for need in needs {
            text.push_str(&format!("-{need} \n"));
        }
        text.push_str(&format!("{sha} {reference}\n\n"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "0123456789abcdef0123456789abcdef01234567";
    const B: &str = "89abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn what_is_written_is_read() {
        let text = Header::text(A, "refs/heads/x", &[B.to_owned()]);
        let header = Header::parse(format!("{text}PACK...").as_bytes()).unwrap();
        assert_eq!(header, Header { sha: A.into(), needs: vec![B.into()], length: text.len() });
    }

    #[test]
    fn one_ref_exactly() {
        for text in [
            "# v2 git bundle\n\n".to_owned(),
            format!("# v2 git bundle\n{A} refs/heads/a\n{B} refs/heads/b\n\n"),
            format!("# v3 git bundle\n@filter=blob:none\n{A} refs/heads/a\n\n"),
            format!("# v2 git bundle\n{A}\n\n"),
            format!("# v2 git bundle\n-../../x y\n{A} refs/heads/a\n\n"),
            format!("# v2 git bundle\n{A} refs/heads/a\nPACK"),
            "#!/bin/sh\n\n".to_owned(),
        ] {
            assert_eq!(Header::parse(text.as_bytes()).unwrap_err().kind, ErrorKind::INVALID, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_never_yields_a_name_that_is_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for prefix in ["", "# v2 git bundle\n"] {
                let mut text = prefix.as_bytes().to_vec();
                text.extend_from_slice(&bytes);
                if let Ok(header) = Header::parse(&text) {
                    prop_assert!(is_sha(&header.sha) && header.needs.iter().all(|need| is_sha(need)));
                }
            }
        }
    }
}
