//! Connections to Modal's servers.

use super::fault::{Fault, root};
use futures_util::future::select_ok;
use std::time::Duration;
use tonic::Code;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// How long one attempt to connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long after one address the next is tried as well.
const STAGGER: Duration = Duration::from_secs(3);
/// A connection without traffic is asked this often whether it is still there, and given up without an answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
/// Bytes that a peer may send ahead of what is read: what Modal's own clients allow.
const WINDOW: u32 = 64 << 20;

/// A connection to the first of these addresses that answers.
pub(super) async fn first(urls: &[String]) -> Result<Channel, Fault> {
    let attempts = (0..).zip(urls).map(|(place, url)| {
        Box::pin(async move {
            tokio::time::sleep(STAGGER * place).await;
            open(url).await
        })
    });
    match urls.is_empty() {
        true => Err(Fault::new(Code::InvalidArgument, "no server is named")),
        false => select_ok(attempts).await.map(|(channel, _)| channel),
    }
}

/// A connection to a server.
pub(super) async fn open(url: &str) -> Result<Channel, Fault> {
    let invalid = |what: &dyn std::fmt::Display| Fault::new(Code::InvalidArgument, format!("{url}: {what}"));
    let mut endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| invalid(&error))?
        .connect_timeout(CONNECT_LIMIT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    match endpoint.uri().scheme_str() {
        Some("https") => {
            let tls = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(tls).map_err(|error| invalid(&root(&error)))?;
        }
        Some("http") if is_loopback(url) => {}
        _ => return Err(invalid(&"write https://; credentials pass unencrypted to this machine alone")),
    }
    let connecting = tokio::time::timeout(CONNECT_LIMIT, endpoint.connect());
    let connected = connecting.await.map_err(|_| Fault::late(CONNECT_LIMIT))?;
    connected.map_err(|error| Fault::new(Code::Unavailable, format!("{url}: {}", root(&error))))
}

/// Whether an address is this machine's own.
pub(super) fn is_loopback(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn credentials_leave_the_machine_encrypted_or_not_at_all() {
        for url in ["http://api.example.com", "http://127.0.0.1.example.com", "ftp://localhost", "nonsense"] {
            let fault = open(url).await.expect_err(url);
            assert_eq!(fault.code, Code::InvalidArgument, "{url}: {fault:?}");
        }
        for url in ["http://127.0.0.1:80", "http://localhost", "http://[::1]:1"] {
            assert!(is_loopback(url), "{url}");
        }
    }
}
