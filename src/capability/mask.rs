//! Keeps secrets out of everything that leaves a step. Pure: bytes in, bytes out.
//!
//! A secret is recognised whole, by each of its lines of [`LINE_LEAST`] bytes or more, as base64 of either alphabet at
//! any alignment, URL-escaped and JSON-escaped, also where line breaks were put into it (as `base64` does every 76
//! bytes) and where it arrives in pieces. What cannot be recognised: other encodings, encryption, a secret spelled out
//! letter by letter.

use super::secret::Secret;
use super::{CapabilityError, Result};
use crate::step::ErrorKind;
use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

/// Shorter secrets, in bytes, are refused: masking them would punch holes into ordinary text, and not masking them would
/// break the promise.
pub const SECRET_LEAST: usize = 6;

/// Longest secret, in bytes. Larger ones are files, and belong into a volume.
pub const SECRET_MOST: usize = 64 << 10;

/// Lines of a secret that are shorter than this, in bytes, are not masked on their own.
pub const LINE_LEAST: usize = 8;

/// Characters of which three stand for a secret. The first that no secret contains is used, so that a mask and the text
/// around it can never spell one.
const MASKS: [char; 6] = ['*', '#', 'x', '█', '·', '\u{fffd}'];

/// Every form of the secrets of a run.
#[derive(Clone)]
pub struct Masker {
    forms: Arc<Forms>,
}

struct Forms {
    /// Without line breaks, which the search skips.
    texts: Vec<Vec<u8>>,
    search: Option<AhoCorasick>,
    mask: String,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masker({} forms)", self.forms.texts.len())
    }
}

impl Masker {
    /// Masks these secrets. `invalid` where one is shorter than [`SECRET_LEAST`] or longer than [`SECRET_MOST`].
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Result<Self> {
        let mut texts = BTreeSet::new();
        for secret in secrets {
            let length = secret.expose().trim().len();
            if length < SECRET_LEAST || secret.expose().len() > SECRET_MOST {
                return Err(CapabilityError::new(
                    ErrorKind::INVALID,
                    format!(
                        "secret {} has {length} bytes; one that can be kept out of logs has {SECRET_LEAST} to {SECRET_MOST}",
                        secret.name()
                    ),
                ));
            }
            forms_of(secret.expose(), &mut texts);
            for line in secret.expose().lines().map(str::trim) {
                if line.len() >= LINE_LEAST {
                    forms_of(line, &mut texts);
                }
            }
            forms_of(secret.expose().trim(), &mut texts);
        }
        let texts: Vec<Vec<u8>> = texts.into_iter().collect();
        let mask = MASKS
            .iter()
            .find(|mask| {
                let mut bytes = [0; 4];
                let mask = mask.encode_utf8(&mut bytes).as_bytes();
                !texts.iter().any(|text| text.windows(mask.len()).any(|window| window == mask))
            })
            .unwrap_or(&MASKS[0])
            .to_string()
            .repeat(3);
        let search = match texts.is_empty() {
            true => None,
            false => Some(AhoCorasick::new(&texts).map_err(|error| {
                CapabilityError::new(ErrorKind::TOO_LARGE, format!("too many secrets: {error}"))
            })?),
        };
        Ok(Self { forms: Arc::new(Forms { texts, search, mask }) })
    }

    /// Masks a text that is whole.
    pub fn text(&self, text: &str) -> String {
        if self.forms.search.is_none() {
            return text.to_owned();
        }
        String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned()
    }

    /// Masks bytes that are whole.
    pub fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.stream();
        let mut masked = stream.feed(bytes);
        masked.extend(stream.finish());
        masked
    }

    /// Masks every text inside a value, names included.
    pub fn json(&self, value: Value) -> Value {
        if self.forms.search.is_none() {
            return value;
        }
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Value::Object(object) => {
                object.into_iter().map(|(name, value)| (self.text(&name), self.json(value))).collect()
            }
            // A secret of digits alone may leave as a number.
            Value::Number(number) => match self.text(&number.to_string()) {
                text if text == number.to_string() => Value::Number(number),
                text => Value::String(text),
            },
            other => other,
        }
    }

    /// Masks bytes that arrive in pieces.
    pub fn stream(&self) -> MaskedStream {
        MaskedStream { forms: self.forms.clone(), held: Vec::new(), covered: 0, in_mask: false }
    }
}

/// Masks one stream of bytes. Holds back what may be the beginning of a secret until it is known to be none.
pub struct MaskedStream {
    forms: Arc<Forms>,
    /// Bytes not yet given out.
    held: Vec<u8>,
    /// How many of the held bytes belong to a form that began before them.
    covered: usize,
    /// Whether the last thing given out was a mask that the held bytes may continue.
    in_mask: bool,
}

impl MaskedStream {
    /// Takes the next piece and returns what is now known to be harmless, masked.
    pub fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        self.advance(piece, false)
    }

    /// Returns what was held back, since nothing follows it.
    pub fn finish(&mut self) -> Vec<u8> {
        self.advance(&[], true)
    }

    fn advance(&mut self, piece: &[u8], last: bool) -> Vec<u8> {
        let Some(search) = &self.forms.search else { return piece.to_vec() };
        self.held.extend_from_slice(piece);
        // Line breaks are left out of the search; `places` leads back to the bytes that were searched.
        let (mut searched, mut places) =
            (Vec::with_capacity(self.held.len()), Vec::with_capacity(self.held.len()));
        for (place, byte) in self.held.iter().enumerate() {
            if !matches!(byte, b'\n' | b'\r') {
                searched.push(*byte);
                places.push(place);
            }
        }
        let keep_from = match last {
            true => self.held.len(),
            false => self.open_end(&searched).map_or(self.held.len(), |start| places[start]),
        };
        let mut secret = vec![false; self.held.len()];
        secret[..self.covered].fill(true);
        let mut reach = self.covered;
        for found in search.find_overlapping_iter(&searched) {
            let (start, end) = (places[found.start()], places[found.end() - 1] + 1);
            secret[start..end].fill(true);
            // What begins later lies in the held bytes whole, and is found again with them.
            if start < keep_from {
                reach = reach.max(end);
            }
        }
        let mut masked = Vec::with_capacity(keep_from);
        for (byte, is_secret) in self.held[..keep_from].iter().zip(&secret) {
            match (is_secret, self.in_mask) {
                (false, _) => masked.push(*byte),
                (true, false) => masked.extend_from_slice(self.forms.mask.as_bytes()),
                (true, true) => {}
            }
            self.in_mask = *is_secret;
        }
        self.covered = reach.saturating_sub(keep_from);
        self.held.drain(..keep_from);
        masked
    }

    /// Where the longest end of the text begins that may become a form.
    fn open_end(&self, searched: &[u8]) -> Option<usize> {
        let longest = self.forms.texts.iter().map(Vec::len).max().unwrap_or(0);
        let first = searched.len().saturating_sub(longest.saturating_sub(1));
        (first..searched.len()).find(|start| {
            let end = &searched[*start..];
            self.forms.texts.iter().any(|text| text.len() > end.len() && text.starts_with(end))
        })
    }
}

/// All forms of one text, without line breaks. Forms below [`SECRET_LEAST`] bytes are left out.
fn forms_of(text: &str, forms: &mut BTreeSet<Vec<u8>>) {
    let mut add = |form: &[u8]| {
        let form: Vec<u8> = form.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
        if form.len() >= SECRET_LEAST {
            forms.insert(form);
        }
    };
    add(text.as_bytes());
    for alphabet in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let mut shifted = vec![0; before];
            shifted.extend_from_slice(text.as_bytes());
            let encoded = alphabet.encode(&shifted);
            // Only digits made of this text's bits alone: neighbours decide the others.
            let (start, end) = ((before * 8).div_ceil(6), shifted.len() * 8 / 6);
            add(encoded.as_bytes().get(start..end).unwrap_or_default());
        }
    }
    for kept in ["-_.~", "-_.!~*'()", "-_.~/", "*-._"] {
        for upper in [true, false] {
            let escaped = url_escaped(text, kept, upper);
            add(escaped.as_bytes());
            add(escaped.replace("%20", "+").as_bytes());
        }
    }
    for ascii in [true, false] {
        let escaped = json_escaped(text, ascii);
        add(escaped.as_bytes());
        add(escaped.replace('/', "\\/").as_bytes());
    }
}

fn url_escaped(text: &str, kept: &str, upper: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        let character = char::from(byte);
        if byte.is_ascii_alphanumeric() || (byte.is_ascii() && kept.contains(character)) {
            escaped.push(character);
        } else {
            // Writing to a string cannot fail.
            let _ = if upper { write!(escaped, "%{byte:02X}") } else { write!(escaped, "%{byte:02x}") };
        }
    }
    escaped
}

/// The inside of a JSON string; with `ascii`, other characters become `\uXXXX`, as Python writes them.
fn json_escaped(text: &str, ascii: bool) -> String {
    let quoted = Value::String(text.to_owned()).to_string();
    let inside = &quoted[1..quoted.len() - 1];
    if !ascii {
        return inside.to_owned();
    }
    let mut escaped = String::with_capacity(inside.len());
    let mut units = [0; 2];
    for character in inside.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut units) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn masker(value: &str) -> Masker {
        Masker::new([&Secret::new("s", value)]).unwrap()
    }

    fn contains(haystack: &[u8], needle: &str) -> bool {
        haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
    }

    #[test]
    fn ordinary_text_passes_unchanged() {
        let masker = masker("hunter2hunter2");
        assert_eq!(masker.text("hunter and hunter2\nhunt"), "hunter and hunter2\nhunt");
        assert_eq!(masker.text("a hunter2hunter2 b"), "a *** b");
    }

    #[test]
    fn wrapped_base64_is_found() {
        let value = "sk-ant-oat01-0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz";
        let encoded = STANDARD.encode(format!("{value}\n"));
        let (first, second) = encoded.split_at(76);
        let masked = masker(value).text(&format!("{first}\n{second}"));
        // What is left encodes the line feed and at most two bits of the secret.
        assert!(masked.len() < 9 && masked.starts_with("***"), "{masked}");
    }

    #[test]
    fn lines_of_a_key_are_found_alone() {
        let masker = masker("-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nabc\n-----END KEY-----\n");
        assert_eq!(masker.text("leaked: MIIEpAIBAAKCAQEA!"), "leaked: ***!");
    }

    #[test]
    fn short_secrets_are_refused() {
        let error = Masker::new([&Secret::new("pin", "1234")]).unwrap_err();
        assert_eq!(error.message, "secret pin has 4 bytes; one that can be kept out of logs has 6 to 65536");
    }

    #[test]
    fn a_mask_never_spells_a_secret() {
        let masker = masker("a***bcd");
        assert!(!contains(&masker.bytes(b"aa***bcdbcd"), "a***bcd"));
    }

    #[test]
    fn numbers_and_names_are_masked_too() {
        let masker = masker("12345678");
        let value = serde_json::json!({"12345678": [12345678, 9]});
        assert_eq!(masker.json(value), serde_json::json!({"***": ["***", 9]}));
    }

    proptest! {
        #[test]
        fn no_form_survives_any_split(
            value in "[a-zA-Z0-9/+=_~. %\"\\\\é-]{6,40}",
            before in "[ -~\n]{0,12}",
            after in "[ -~\n]{0,12}",
            cuts in proptest::collection::vec(1usize..9, 0..60),
        ) {
            prop_assume!(value.trim().len() >= SECRET_LEAST);
            let masker = masker(&value);
            let forms = [
                value.clone(),
                STANDARD.encode(&value),
                STANDARD.encode(format!("{before}{value}{after}")),
                URL_SAFE_NO_PAD.encode(format!("{before}{value}")),
                url_escaped(&value, "-_.~", true),
                json_escaped(&value, true),
                json_escaped(&value, false),
            ];
            for form in &forms {
                let text = format!("{before}{form}{after}{form}{form}");
                let mut stream = masker.stream();
                let mut rest = text.as_bytes();
                let mut masked = Vec::new();
                for cut in &cuts {
                    let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                    masked.extend(stream.feed(piece));
                    rest = tail;
                }
                masked.extend(stream.feed(rest));
                masked.extend(stream.finish());
                prop_assert_eq!(&masked, &masker.bytes(text.as_bytes()), "splitting changed the outcome");
                for form in masker.forms.texts.iter() {
                    let flat: Vec<u8> = masked.iter().copied().filter(|b| !matches!(b, b'\n' | b'\r')).collect();
                    prop_assert!(!flat.windows(form.len()).any(|window| window == &form[..]));
                }
            }
        }

        #[test]
        fn without_secrets_nothing_changes(text in any::<Vec<u8>>()) {
            let masker = Masker::new([]).unwrap();
            prop_assert_eq!(masker.bytes(&text), text);
        }
    }
}
