//! The short-lived token that goes with calls about sandboxes: fetched once for all who wait, and renewed before it ends.

use super::fault::Fault;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tonic::Code;

/// How long a token is taken to live that does not say.
const LIFE: Duration = Duration::from_secs(20 * 60);
/// Percent of a token's life after which it is renewed.
const RENEW_AT: u32 = 50;
/// Pauses after a renewal that failed while the old token is still good.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Keeps the token of a client.
#[derive(Default)]
pub(super) struct Tokens {
    held: Mutex<Held>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Held {
    token: Option<String>,
    expires: Option<SystemTime>,
    renew: Option<SystemTime>,
    pause: Duration,
}

impl Held {
    fn good(&self, now: SystemTime) -> Option<String> {
        self.token.clone().filter(|_| self.expires.is_some_and(|expires| now < expires))
    }

    fn fresh(&self, now: SystemTime) -> Option<String> {
        self.good(now).filter(|_| self.renew.is_some_and(|renew| now < renew))
    }
}

impl Tokens {
    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that is good now, by `fetch` where there is none. A failed renewal is no fault while the old one is good,
    /// unless the credentials were refused.
    pub(super) async fn get(
        &self,
        fetch: impl AsyncFnOnce() -> Result<String, Fault>,
    ) -> Result<String, Fault> {
        let now = SystemTime::now();
        let held = self.held().clone();
        if let Some(token) = held.fresh(now) {
            return Ok(token);
        }
        let _turn = match (self.turn.try_lock(), held.good(now)) {
            (Ok(turn), _) => turn,
            // Somebody renews it, and the old one is still good.
            (Err(_), Some(token)) => return Ok(token),
            (Err(_), None) => self.turn.lock().await,
        };
        // Whoever had the turn before may have fetched one.
        if let Some(token) = self.held().fresh(now) {
            return Ok(token);
        }
        match fetch().await {
            Ok(token) => Ok(self.keep(token)),
            Err(fault) if matches!(fault.code, Code::Unauthenticated | Code::PermissionDenied) => Err(fault),
            Err(fault) => self.put_off().ok_or(fault),
        }
    }

    /// Forgets a token that the server refuses.
    pub(super) fn forget(&self, refused: &str) {
        let mut held = self.held();
        if held.token.as_deref() == Some(refused) {
            *held = Held::default();
        }
    }

    fn keep(&self, token: String) -> String {
        let now = SystemTime::now();
        let expires = expiry(&token).unwrap_or(now + LIFE);
        let life = expires.duration_since(now).unwrap_or_default();
        let renew = now + life * RENEW_AT / 100;
        let kept = Held {
            token: Some(token.clone()),
            expires: Some(expires),
            renew: Some(renew),
            pause: Duration::ZERO,
        };
        *self.held() = kept;
        token
    }

    /// The old token, where it is still good, with a pause before the next renewal.
    fn put_off(&self) -> Option<String> {
        let now = SystemTime::now();
        let mut held = self.held();
        let token = held.good(now)?;
        held.pause = (held.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        held.renew = Some(now + held.pause);
        Some(token)
    }
}

/// When a JWT ends, as it says itself; its signature is the server's affair.
fn expiry(token: &str) -> Option<SystemTime> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?.trim_end_matches('=')).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let seconds = Duration::try_from_secs_f64(claims.get("exp")?.as_f64()?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn jwt(lives: i64) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        let claims = URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{}}}", now + lives));
        format!("head.{claims}.signature")
    }

    #[tokio::test]
    async fn all_who_wait_share_one_token_until_it_is_refused() {
        let (tokens, count) = (Tokens::default(), AtomicU32::new(0));
        let fetch = async || {
            tokio::task::yield_now().await;
            Ok(format!("{}{}", jwt(1000), count.fetch_add(1, Ordering::SeqCst)))
        };
        let (a, b) = tokio::join!(tokens.get(fetch), tokens.get(fetch));
        assert_eq!(a, b);
        assert_eq!(tokens.get(fetch).await, a);
        assert_eq!(count.load(Ordering::SeqCst), 1);
        tokens.forget("another");
        assert_eq!(tokens.get(fetch).await, a);
        tokens.forget(&a.clone().unwrap());
        assert_ne!(tokens.get(fetch).await, a);
    }

    #[tokio::test]
    async fn one_that_ends_is_renewed_and_kept_where_that_fails() {
        let tokens = Tokens::default();
        let fault = || Fault::new(Code::Unavailable, "away");
        assert_eq!(tokens.get(async || Err(fault())).await, Err(fault()));
        tokens.get(async || Ok(jwt(-1))).await.unwrap();
        let second = tokens.get(async || Ok(jwt(1000))).await.unwrap();
        tokens.held().renew = Some(SystemTime::UNIX_EPOCH);
        assert_eq!(tokens.get(async || Err(fault())).await, Ok(second.clone()), "it is still good");
        assert_eq!(tokens.get(async || panic!("too early")).await, Ok(second));
        tokens.held().renew = Some(SystemTime::UNIX_EPOCH);
        let refused = Fault::new(Code::Unauthenticated, "revoked");
        assert_eq!(tokens.get(async || Err(refused.clone())).await, Err(refused));
    }

    #[test]
    fn a_token_without_an_end_lives_for_a_while() {
        assert_eq!(expiry("opaque"), None);
        assert_eq!(expiry("a.b.c"), None);
        let tokens = Tokens::default();
        tokens.keep("opaque".into());
        assert_eq!(tokens.held().fresh(SystemTime::now()), Some("opaque".into()));
    }
}
