//! Turns what git says into an error of a kind. Git tells failures apart in words alone, so this is the one place that
//! reads them; it runs with `LC_ALL=C`.

use crate::capability::CapabilityError;
use crate::step::ErrorKind;

/// Longest part of git's own words in a message, in bytes.
const QUOTED: usize = 1024;

/// What git's words mean, first match first.
const MEANINGS: [(&str, ErrorKind); 36] = [
    ("returned error: 429", ErrorKind::RATE_LIMITED),
    ("Authentication failed", ErrorKind::DENIED),
    ("unable to get password from user", ErrorKind::DENIED),
    ("could not read Username", ErrorKind::DENIED),
    ("could not read Password", ErrorKind::DENIED),
    ("returned error: 401", ErrorKind::DENIED),
    ("returned error: 403", ErrorKind::DENIED),
    ("Permission denied", ErrorKind::DENIED),
    ("insufficient permission", ErrorKind::DENIED),
    ("Read-only file system", ErrorKind::DENIED),
    ("protected branch", ErrorKind::DENIED),
    ("returned error: 404", ErrorKind::NOT_FOUND),
    ("not found", ErrorKind::NOT_FOUND),
    ("couldn't find remote ref", ErrorKind::NOT_FOUND),
    ("not our ref", ErrorKind::NOT_FOUND),
    ("unadvertised object", ErrorKind::NOT_FOUND),
    ("does not appear to be a git repository", ErrorKind::NOT_FOUND),
    ("non-fast-forward", ErrorKind::CONFLICT),
    ("[rejected]", ErrorKind::CONFLICT),
    ("fetch first", ErrorKind::CONFLICT),
    ("cannot lock ref", ErrorKind::CONFLICT),
    ("failed to update ref", ErrorKind::CONFLICT),
    ("[remote rejected]", ErrorKind::DENIED),
    ("pack exceeds maximum", ErrorKind::TOO_LARGE),
    ("No space left", ErrorKind::QUOTA),
    ("Could not resolve", ErrorKind::NETWORK),
    ("Failed to connect", ErrorKind::NETWORK),
    ("Couldn't connect", ErrorKind::NETWORK),
    ("Connection", ErrorKind::NETWORK),
    ("timed out", ErrorKind::NETWORK),
    ("certificate", ErrorKind::NETWORK),
    ("SSL", ErrorKind::NETWORK),
    ("early EOF", ErrorKind::NETWORK),
    ("hung up", ErrorKind::NETWORK),
    ("returned error: 5", ErrorKind::NETWORK),
    ("unable to access", ErrorKind::NETWORK),
];

/// The error for git's words, where `doing` says what was tried: `fetch example.com/a/b`.
pub(super) fn explain(doing: &str, words: &str) -> CapabilityError {
    let kind = MEANINGS
        .iter()
        .find(|(sign, _)| words.contains(sign))
        .map_or(ErrorKind::OTHER, |(_, kind)| kind.clone());
    let hint = if kind == ErrorKind::DENIED {
        "; if the repository is private (or the name is mistyped, which servers report alike), bind a token with access to it: secrets: {token: NAME}"
    } else if kind == ErrorKind::NETWORK && words.contains("certificate") {
        "; if the server has a certificate authority of its own, name it in SSL_CERT_FILE or git's http.sslCAInfo"
    } else {
        ""
    };
    CapabilityError::new(kind, format!("cannot {doing}: {}{hint}", quote(words)))
}

/// Git's words as one printable line: what matters is at the end.
fn quote(words: &str) -> String {
    let lines: Vec<&str> =
        words.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("hint:")).collect();
    let mut text: String = lines.join("; ").chars().filter(|c| !c.is_control()).collect();
    if text.len() > QUOTED {
        let from = text.ceil_char_boundary(text.len() - QUOTED);
        text = format!("...{}", &text[from..]);
    }
    if text.is_empty() { "git said nothing".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(words: &str) -> ErrorKind {
        explain("fetch x", words).kind
    }

    #[test]
    fn real_words_have_their_kinds() {
        assert_eq!(kind("fatal: repository 'https://h/a/b/' not found"), ErrorKind::NOT_FOUND);
        assert_eq!(
            kind("fatal: could not read Username for 'https://github.com': terminal prompts disabled"),
            ErrorKind::DENIED
        );
        assert_eq!(
            kind("fatal: unable to access 'https://h/': Could not resolve host: h"),
            ErrorKind::NETWORK
        );
        assert_eq!(
            kind("fatal: unable to access 'https://h/': server certificate verification failed."),
            ErrorKind::NETWORK
        );
        assert_eq!(kind(" ! [rejected] x -> y (fetch first)"), ErrorKind::CONFLICT);
        assert_eq!(kind("fatal: something new"), ErrorKind::OTHER);
    }

    #[test]
    fn messages_are_one_bounded_printable_line() {
        let message =
            explain("fetch x", &format!("remote: \x1b[31m{}\nfatal: the end\n", "y".repeat(9000))).message;
        assert!(message.len() < 1200 && !message.contains('\x1b') && message.contains("fatal: the end"));
    }
}
