//! Clients of HTTP: what all of them have in common.

use super::{CapabilityError, Result};
use crate::step::ErrorKind;
use std::error::Error;

/// A client to be. It follows no redirect: where one leads is for the caller to judge.
pub(super) fn builder() -> reqwest::ClientBuilder {
    // Fails where someone has installed one already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none())
}

/// Makes the client.
pub(super) fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client> {
    builder
        .build()
        .map_err(|error| CapabilityError::new(ErrorKind::UNAVAILABLE, format!("cannot prepare TLS: {error}")))
}

/// What began an error: of a connection that broke, the outer ones say nothing. Never the URL, which may be what lets one in,
/// as long as that was taken out of `error`.
pub(super) fn cause(error: &(dyn Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
