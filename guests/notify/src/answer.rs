//! What a service's answer means: nothing where it took the message, else an error of a kind. Pure.

use crate::Error;

/// Most of an answer that an error quotes, in characters.
const QUOTED: usize = 300;

/// Judges by the status.
pub(crate) fn status(status: u16, body: &[u8]) -> Result<(), Error> {
    let said = || {
        let text = String::from_utf8_lossy(body);
        let text: String = text.trim().chars().filter(|c| !c.is_control()).take(QUOTED).collect();
        let what = if text.is_empty() { String::new() } else { format!(": {text}") };
        format!("the service answered with status {status}{what}")
    };
    Err(match status {
        200..=299 => return Ok(()),
        401 | 403 => Error::Denied(said()),
        404 | 410 => Error::NotFound(said()),
        413 => Error::TooLarge(said()),
        429 => Error::RateLimited(said()),
        300..=399 => Error::Invalid(format!("{}; redirects are not followed: write where it leads", said())),
        408 | 500..=599 => Error::Unavailable(said()),
        _ => Error::Invalid(said()),
    })
}

/// Judges by what Slack's API says; its status is 200 for nearly everything.
pub(crate) fn slack(channel: &str, body: &[u8]) -> Result<(), Error> {
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if answer["ok"] == true {
        return Ok(());
    }
    let Some(why) = answer["error"].as_str() else {
        return Err(Error::Other("Slack's answer is not the JSON that its API promises".into()));
    };
    let why: String = why.chars().filter(|c| !c.is_control()).take(QUOTED).collect();
    let said = format!("Slack did not take the message for {channel}: {why}");
    Err(match why.as_str() {
        "not_authed" | "invalid_auth" | "account_inactive" | "token_revoked" | "token_expired"
        | "missing_scope" | "not_in_channel" | "no_permission" | "restricted_action" | "access_denied" => {
            Error::Denied(said)
        }
        "channel_not_found" => Error::NotFound(said),
        "is_archived" => Error::Conflict(said),
        "msg_too_long" => Error::TooLarge(said),
        "ratelimited" | "rate_limited" | "message_limit_exceeded" => Error::RateLimited(said),
        "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" => {
            Error::Unavailable(said)
        }
        "invalid_arguments" | "no_text" => Error::Invalid(said),
        _ => Error::Other(said),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(result: Result<(), Error>) -> String {
        result
            .map_or_else(|error| format!("{error:?}").split('(').next().unwrap().to_owned(), |()| "-".into())
    }

    #[test]
    fn a_status_has_a_kind() {
        for (code, expected) in [
            (200, "-"),
            (204, "-"),
            (302, "Error::Invalid"),
            (400, "Error::Invalid"),
            (403, "Error::Denied"),
            (404, "Error::NotFound"),
            (413, "Error::TooLarge"),
            (429, "Error::RateLimited"),
            (503, "Error::Unavailable"),
        ] {
            assert_eq!(kind(status(code, b"no\x1b[31m")), expected, "{code}");
        }
    }

    #[test]
    fn slack_says_it_in_the_body() {
        for (body, expected) in [
            (r#"{"ok":true,"ts":"1"}"#, "-"),
            (r#"{"ok":false,"error":"invalid_auth"}"#, "Error::Denied"),
            (r#"{"ok":false,"error":"channel_not_found"}"#, "Error::NotFound"),
            (r#"{"ok":false,"error":"ratelimited"}"#, "Error::RateLimited"),
            (r#"{"ok":false,"error":"something_new"}"#, "Error::Other"),
            ("<html>", "Error::Other"),
        ] {
            assert_eq!(kind(slack("#a", body.as_bytes())), expected, "{body}");
        }
    }
}
