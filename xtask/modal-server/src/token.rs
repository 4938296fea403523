//! The two short-lived tokens: one for calls that concern sandboxes, one for the router of a sandbox's worker. Both are
//! JWTs in form, because clients read when they expire.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Makes tokens and knows its own.
pub(crate) struct Tokens {
    key: String,
    /// Router tokens of earlier generations have expired, whatever they say.
    generation: AtomicU64,
}

/// Whose token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience<'a> {
    /// The control plane.
    Control,
    /// The router of this task.
    Router(&'a str),
}

impl Audience<'_> {
    fn word(self) -> String {
        match self {
            Self::Control => "control".into(),
            Self::Router(task) => format!("router:{task}"),
        }
    }
}

impl Tokens {
    /// With a key that nobody else has.
    pub(crate) fn new() -> Self {
        let key = format!("{}{}", ulid::Ulid::generate(), ulid::Ulid::generate());
        Self { key, generation: AtomicU64::new(0) }
    }

    /// A token for this long.
    pub(crate) fn issue(&self, audience: Audience<'_>, life: Duration) -> String {
        let expires = (SystemTime::now() + life).duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = json!({
            "aud": audience.word(),
            "exp": expires.as_secs_f64(),
            "gen": self.generation.load(Ordering::SeqCst),
            "jti": ulid::Ulid::generate().to_string(),
        });
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(json!({ "alg": "none", "typ": "JWT" })), encode(claims));
        let signature = self.sign(&signed);
        format!("{signed}.{signature}")
    }

    /// Lets the router tokens of now expire.
    pub(crate) fn expire_routers(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether a token is this server's, for this audience, and has not expired. The error says what is wrong.
    pub(crate) fn check(&self, token: &str, audience: Audience<'_>) -> Result<(), &'static str> {
        let (signed, signature) = token.rsplit_once('.').ok_or("it is no JWT")?;
        if self.sign(signed) != signature {
            return Err("its signature is wrong");
        }
        let claims = signed.split_once('.').and_then(|(_, claims)| URL_SAFE_NO_PAD.decode(claims).ok());
        let claims: Value =
            claims.and_then(|json| serde_json::from_slice(&json).ok()).ok_or("it is no JWT")?;
        if claims["aud"] != *audience.word() {
            return Err("it was made for something else");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let old = audience != Audience::Control && claims["gen"] != self.generation.load(Ordering::SeqCst);
        if old || claims["exp"].as_f64().is_none_or(|expires| expires <= now.as_secs_f64()) {
            return Err("it has expired");
        }
        Ok(())
    }

    fn sign(&self, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::new().chain_update(&self.key).chain_update(text).finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_one_thing_for_its_time() {
        let tokens = Tokens::new();
        let hour = Duration::from_secs(3600);
        let token = tokens.issue(Audience::Router("ta-1"), hour);
        assert_eq!(token.split('.').count(), 3);
        assert_eq!(tokens.check(&token, Audience::Router("ta-1")), Ok(()));
        assert_eq!(tokens.check(&token, Audience::Router("ta-2")), Err("it was made for something else"));
        assert_eq!(tokens.check(&token[1..], Audience::Router("ta-1")), Err("its signature is wrong"));
        let spent = tokens.issue(Audience::Control, Duration::ZERO);
        assert_eq!(tokens.check(&spent, Audience::Control), Err("it has expired"));
        tokens.expire_routers();
        assert_eq!(tokens.check(&token, Audience::Router("ta-1")), Err("it has expired"));
    }
}
