//! Messages on a pipe: `Content-Length`, an empty line, JSON. What cannot be read is said to be so and skipped; the next
//! message is read all the same.

use serde_json::Value;
use std::io::{self, BufRead, Read, Write};

/// Bytes of one message: an editor may send a whole text at once, with every character escaped.
pub(super) const MESSAGE_MAX: u64 = 64 << 20;

/// Bytes of one line of a header.
const HEADER_LINE_MAX: u64 = 4 << 10;

/// What came over the pipe.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    /// A message.
    Message(Value),
    /// Something that is none, and why.
    Malformed(String),
    /// Nothing more will come.
    End,
}

/// Reads the next message.
///
/// # Errors
/// Where the pipe fails.
pub(super) fn read(input: &mut impl BufRead) -> io::Result<Incoming> {
    let mut length = None;
    let mut started = false;
    loop {
        let mut line = Vec::new();
        input.by_ref().take(HEADER_LINE_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(Incoming::End);
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\n', '\r']);
        if !line.is_empty() {
            started = true;
            match line.split_once(':') {
                Some((name, value)) if name.trim().eq_ignore_ascii_case("content-length") => {
                    length = Some(value.trim().parse::<u64>().ok());
                }
                _ => {}
            }
            continue;
        }
        match length {
            Some(Some(length)) => return body(input, length),
            Some(None) => return Ok(Incoming::Malformed("the Content-Length is no number".into())),
            None if started => return Ok(Incoming::Malformed("the header has no Content-Length".into())),
            None => {}
        }
    }
}

fn body(input: &mut impl BufRead, length: u64) -> io::Result<Incoming> {
    let mut body = input.take(length);
    if length > MESSAGE_MAX {
        io::copy(&mut body, &mut io::sink())?;
        return Ok(Incoming::Malformed(format!(
            "the message has {length} bytes; at most {MESSAGE_MAX} are read"
        )));
    }
    let mut bytes = Vec::new();
    body.read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length {
        return Ok(Incoming::End);
    }
    Ok(match serde_json::from_slice(&bytes) {
        Ok(message) => Incoming::Message(message),
        Err(error) => Incoming::Malformed(format!("the message is no JSON: {error}")),
    })
}

/// Writes one message.
///
/// # Errors
/// Where the pipe fails.
pub(super) fn write(output: &mut impl Write, message: &Value) -> io::Result<()> {
    let text = message.to_string();
    write!(output, "Content-Length: {}\r\n\r\n{text}", text.len())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read_all(mut input: &[u8]) -> Vec<Incoming> {
        let mut all = Vec::new();
        loop {
            let incoming = read(&mut input).unwrap();
            if incoming == Incoming::End {
                return all;
            }
            all.push(incoming);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let messages = [json!({ "a": "ö😀" }), json!([1, null])];
        let mut pipe = Vec::new();
        messages.iter().for_each(|message| write(&mut pipe, message).unwrap());
        assert_eq!(read_all(&pipe), messages.map(Incoming::Message));
    }

    #[test]
    fn what_is_no_message_is_skipped() {
        let good = "content-length:2\r\nContent-Type: application/vscode-jsonrpc\r\n\r\n{}";
        for (bad, why) in [
            ("X: y\r\n\r\n", "the header has no Content-Length"),
            ("Content-Length: many\r\n\r\n", "the Content-Length is no number"),
            ("Content-Length: -1\r\n\r\n", "the Content-Length is no number"),
            (
                "Content-Length: 3\r\n\r\n{]}",
                "the message is no JSON: key must be a string at line 1 column 2",
            ),
        ] {
            let found = read_all(format!("{bad}{good}").as_bytes());
            assert_eq!(found, [Incoming::Malformed(why.into()), Incoming::Message(json!({}))], "{bad}");
        }
        let large = format!(
            "Content-Length: {}\r\n\r\n{}{good}",
            MESSAGE_MAX + 1,
            " ".repeat(MESSAGE_MAX as usize + 1)
        );
        assert!(matches!(&read_all(large.as_bytes())[..], [Incoming::Malformed(_), Incoming::Message(_)]));
        let never = format!("Content-Length: {}\r\n\r\n{{", u64::MAX);
        assert!(matches!(&read_all(never.as_bytes())[..], [Incoming::Malformed(_)]));
        assert_eq!(read_all(b"Content-Length: 9\r\n\r\n{}"), []);
        assert_eq!(read_all(format!("garbage\n{good}").as_bytes()), [Incoming::Message(json!({}))]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read_all(&bytes);
        }
    }
}
