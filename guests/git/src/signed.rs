//! Signing the commits of a session. The host signs; the sandbox only ever sees signatures.

use crate::harvest::git::signing;
use crate::history::{ground, head};
use crate::record::Record;
use crate::tree::{git, line};
use crate::{Error, Sandbox, Secret};
use std::collections::HashMap;

/// Makes every commit between those of others and HEAD a signed one. Their trees, messages, authors and times stay.
pub(crate) fn sign(sandbox: &Sandbox, path: &str, record: &Record, key: &Secret) -> Result<(), Error> {
    let head = head(sandbox, path)?;
    // Commits of others are theirs to sign.
    let Some(ground) = ground(sandbox, path, record, &head)? else { return Ok(()) };
    let range = ["rev-list", "--reverse", "--topo-order", &head, &format!("^{ground}")];
    let listed = line(sandbox, path, &range, "list the session's commits")?;
    let mut signed: HashMap<String, String> = HashMap::new();
    for sha in listed.lines() {
        let raw = git(sandbox, path, &["cat-file", "commit", sha]).run()?.success("read a commit")?.bytes;
        let Some(payload) = payload(&raw, &signed) else { continue };
        let made = insert(&payload, &signing::sign(key, &payload)?);
        let made = git(sandbox, path, &["hash-object", "-t", "commit", "-w", "--stdin"])
            .input(made)
            .run()?
            .success("write a signed commit")?;
        signed.insert(sha.to_owned(), made.stdout.trim().to_owned());
    }
    if let Some(made) = signed.get(&head) {
        let words = ["update-ref", "-m", "harvest: sign", "HEAD", made, &head];
        line(sandbox, path, &words, "put the signed commits in place")?;
    }
    Ok(())
}

/// What is to be signed of a commit: itself without signatures, on the parents that took the place of its own. None where
/// it is signed already and stands on the same ones.
fn payload(raw: &[u8], replaced: &HashMap<String, String>) -> Option<Vec<u8>> {
    let (mut payload, mut rest) = (Vec::with_capacity(raw.len()), raw);
    let (mut signed, mut moved, mut skipping) = (false, false, false);
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n').filter(|end| *end > 0) {
        let (line, after) = rest.split_at(end + 1);
        rest = after;
        if line.starts_with(b" ") && skipping {
            continue;
        }
        skipping = line.starts_with(b"gpgsig");
        signed |= skipping;
        if skipping {
            continue;
        }
        let parent =
            line.strip_prefix(b"parent ").map(|sha| String::from_utf8_lossy(sha.trim_ascii()).into_owned());
        match parent.and_then(|sha| replaced.get(&sha)) {
            Some(sha) => {
                payload.extend_from_slice(format!("parent {sha}\n").as_bytes());
                moved = true;
            }
            None => payload.extend_from_slice(line),
        }
    }
    payload.extend_from_slice(rest);
    (!signed || moved).then_some(payload)
}

/// The commit with its signature, as the last of its headers.
fn insert(payload: &[u8], signature: &str) -> Vec<u8> {
    let end = payload.windows(2).position(|pair| pair == b"\n\n").map_or(payload.len(), |at| at + 1);
    let header = format!("gpgsig {}\n", signature.trim_end().replace('\n', "\n "));
    [&payload[..end], header.as_bytes(), &payload[end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"tree t\nparent p\nauthor a\ncommitter c\n\ngpgsig is\n no header here\n";
    const SIGNED: &[u8] =
        b"tree t\nparent p\nauthor a\ncommitter c\ngpgsig -----BEGIN\n x\n -----END\n\ngpgsig is\n no header here\n";

    #[test]
    fn a_signature_is_the_last_header_and_can_be_taken_off() {
        assert_eq!(payload(PLAIN, &HashMap::new()).unwrap(), PLAIN);
        assert_eq!(insert(PLAIN, "-----BEGIN\nx\n-----END\n"), SIGNED);
        assert_eq!(payload(SIGNED, &HashMap::new()), None);
        let moved = payload(SIGNED, &HashMap::from([("p".into(), "q".into())])).unwrap();
        assert_eq!(
            moved,
            PLAIN.strip_prefix(b"tree t\nparent p").map(|rest| [b"tree t\nparent q", rest].concat()).unwrap()
        );
    }
}
