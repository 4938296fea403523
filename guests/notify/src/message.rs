//! Where a message goes and what it looks like there. Pure.

/// Longest text, in characters; Slack takes 40,000 with their markup.
const TEXT_LIMIT: usize = 30_000;
/// What takes the place of the rest.
const CUT: &str = "\n[cut]";
/// Longest name of a channel, in bytes.
const CHANNEL_LIMIT: usize = 100;

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// A URL that takes JSON.
    Url(&'a str),
    /// A channel of Slack: `#name` or an id.
    Channel(&'a str),
}

impl<'a> Target<'a> {
    /// Reads `to`, or says what it must be. A URL is not repeated: those of webhooks are secrets of a kind.
    pub(crate) fn of(to: &'a str) -> Result<Self, String> {
        if let Some(channel) = to.strip_prefix("slack:") {
            let name = channel.strip_prefix('#').unwrap_or(channel);
            let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '#';
            return match !name.is_empty() && channel.len() <= CHANNEL_LIMIT && name.chars().all(plain) {
                true => Ok(Self::Channel(channel)),
                false => Err("a channel is written `slack:#name` or `slack:ID`".into()),
            };
        }
        let lower = to.get(..8).unwrap_or(to).to_ascii_lowercase();
        match lower.starts_with("https://") || lower.starts_with("http://") {
            true => Ok(Self::Url(to)),
            false => Err("`to` is a URL that begins with https:// or http://, or `slack:#channel`".into()),
        }
    }

    /// The message as JSON.
    pub(crate) fn body(&self, text: &str) -> Vec<u8> {
        let text = match text.char_indices().nth(TEXT_LIMIT) {
            Some((end, _)) => format!("{}{CUT}", &text[..end]),
            None => text.to_owned(),
        };
        let message = match self {
            Self::Url(_) => serde_json::json!({ "text": text }),
            Self::Channel(channel) => serde_json::json!({ "channel": channel, "text": text }),
        };
        message.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_urls_and_channels() {
        assert_eq!(Target::of("https://example.com/x"), Ok(Target::Url("https://example.com/x")));
        assert_eq!(Target::of("HTTP://localhost"), Ok(Target::Url("HTTP://localhost")));
        assert_eq!(Target::of("slack:#ops"), Ok(Target::Channel("#ops")));
        assert_eq!(Target::of("slack:C024BE91L"), Ok(Target::Channel("C024BE91L")));
        for wrong in
            ["", "#ops", "ftp://example.com", "slack:", "slack:#", "slack:#a b", "slack:##a", "mailto:é"]
        {
            assert!(Target::of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn messages_are_json_and_no_longer_than_slack_takes() {
        assert_eq!(Target::Url("x").body("say \"hi\"\n"), br#"{"text":"say \"hi\"\n"}"#);
        assert_eq!(Target::Channel("#a").body("hi"), br##"{"channel":"#a","text":"hi"}"##);
        let whole = "é".repeat(TEXT_LIMIT);
        let text = |body: Vec<u8>| {
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()["text"].as_str().unwrap().to_owned()
        };
        assert_eq!(text(Target::Url("x").body(&whole)), whole);
        assert_eq!(text(Target::Url("x").body(&format!("{whole}é"))), format!("{whole}\n[cut]"));
    }
}
