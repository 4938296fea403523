//! Blocks of volumes, which pass over HTTP to addresses that the control plane gives out.

use super::channel::is_loopback;
use super::clock::Clock;
use crate::capability::{CapabilityError, Result, http_client};
use crate::step::ErrorKind;
use bytes::Bytes;
use reqwest::{Response, Url};
use std::time::Duration;

/// Bytes of a block; the last of a file is shorter.
pub(crate) const BLOCK: usize = 8 << 20;
/// Attempts for one block, and the pause between them.
const ATTEMPTS: u32 = 11;
const PAUSE: Duration = Duration::from_millis(500);
/// How long one attempt may take: a block at 140 KB/s.
const LIMIT: Duration = Duration::from_secs(60);
/// Bytes that a server may answer to a block.
const RECEIPT_LIMIT: usize = 64 << 10;

/// Moves blocks.
pub(crate) struct Blocks {
    client: reqwest::Client,
    clock: Clock,
}

impl Blocks {
    pub(super) fn new(clock: Clock) -> Result<Self> {
        Ok(Self { client: http_client::build(http_client::builder().timeout(LIMIT))?, clock })
    }

    /// Hands a block over and returns the receipt.
    pub(crate) async fn put(&self, url: &str, block: Bytes) -> Result<Bytes> {
        let url = checked(url)?;
        self.attempts("hand a block of a volume over", RECEIPT_LIMIT, || {
            self.client.put(url.clone()).body(block.clone())
        })
        .await
    }

    /// Fetches a block of at most this many bytes.
    pub(crate) async fn get(&self, url: &str, limit: usize) -> Result<Bytes> {
        let url = checked(url)?;
        self.attempts("fetch a block of a volume", limit, || self.client.get(url.clone())).await
    }

    async fn attempts(
        &self,
        doing: &str,
        limit: usize,
        request: impl Fn() -> reqwest::RequestBuilder,
    ) -> Result<Bytes> {
        let mut attempt = 1;
        loop {
            let failed = match self.attempt(limit, request()).await {
                Ok(bytes) => return Ok(bytes),
                Err(failed) => failed,
            };
            if !failed.passing || attempt == ATTEMPTS {
                let message = format!("cannot {doing}: {}", failed.message);
                return Err(CapabilityError::new(ErrorKind::UNAVAILABLE, message));
            }
            attempt += 1;
            self.clock.pause(PAUSE).await;
        }
    }

    async fn attempt(&self, limit: usize, request: reqwest::RequestBuilder) -> Result<Bytes, Failed> {
        // An address is a right to the block: it must not be in the error.
        let broken =
            |error: reqwest::Error| Failed { message: error.without_url().to_string(), passing: true };
        let mut response: Response = request.send().await.map_err(broken)?;
        let status = response.status();
        if !status.is_success() {
            let passing = status.is_server_error() || status.as_u16() == 429 || status.as_u16() == 408;
            return Err(Failed { message: format!("the server answered {status}"), passing });
        }
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            if bytes.len() + piece.len() > limit {
                let message = format!("the server sent more than {limit} bytes");
                return Err(Failed { message, passing: false });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }
}

struct Failed {
    message: String,
    passing: bool,
}

fn checked(url: &str) -> Result<Url> {
    Url::parse(url).ok().filter(|parsed| parsed.scheme() == "https" || is_loopback(url)).ok_or_else(|| {
        let message = "Modal named an address for a block of a volume that is not https";
        CapabilityError::new(ErrorKind::OTHER, message)
    })
}
