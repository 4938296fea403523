//! The step `notify/send`: tells people something, by a webhook or in a channel of Slack.
#![allow(missing_docs)] // The bindings' own items have none.

wit_bindgen::generate!({
    path: ["../../wit/sandbox", "../../wit/http", "wit"],
    world: "harvest:notify-steps/notify",
    generate_all,
});

mod answer;
mod message;

use harvest::http::outgoing::{self, Request};
use harvest::sandbox::types::Credential;
use message::Target;

/// Where Slack takes messages for channels.
const SLACK: &str = "https://slack.com/api/chat.postMessage";

struct Steps;

impl Guest for Steps {
    fn send(credential: Option<&Secret>, to: String, text: String) -> Result<Sent, Error> {
        let target = Target::of(&to).map_err(Error::Invalid)?;
        if let (Target::Channel(_), None) = (&target, credential) {
            return Err(Error::Invalid(
                "Slack wants a bot token: bind one with `secrets: { credential: NAME }`".into(),
            ));
        }
        let url = match target {
            Target::Url(url) => url,
            Target::Channel(_) => SLACK,
        };
        let response = outgoing::post(&Request {
            url: url.to_owned(),
            content_type: "application/json; charset=utf-8".into(),
            body: target.body(&text),
            credential: credential.map(|secret| Credential {
                header: "authorization".into(),
                prefix: "Bearer ".into(),
                secret,
            }),
        })?;
        answer::status(response.status, &response.body)?;
        if let Target::Channel(channel) = target {
            answer::slack(channel, &response.body)?;
        }
        Ok(Sent { delivered: true })
    }
}

export!(Steps);
