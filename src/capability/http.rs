//! Single requests to services outside. The caller says which hosts are allowed; the address that was checked is the one
//! connected to. Follows no redirect, uses no proxy, keeps nothing.

use super::allow_list::{AllowList, WEB_PORTS};
use super::sandbox::Credential;
use super::{CapabilityError, Result, http_client};
use crate::step::ErrorKind;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long a whole request may take, its answer included.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a request's body.
const BODY_LIMIT: usize = 1 << 20;
/// Bytes kept of an answer's body: what was asked for has happened, however much is said about it.
const ANSWER_LIMIT: usize = 64 << 10;

/// A request to send something.
#[derive(Clone, Debug)]
pub struct Post {
    /// Where to, as `https://...` or `http://...`, without a credential.
    pub url: String,
    /// The media type of the body.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
    /// A header with a secret.
    pub credential: Option<Credential>,
}

/// What a service answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, redirects and errors included.
    pub status: u16,
    /// The beginning of the body, at most 64 KiB.
    pub body: Vec<u8>,
}

/// Sends it to a host that is allowed. `denied` names the line to add; every status is an answer and no error.
pub async fn post(post: Post, allowed: &AllowList) -> Result<Answer> {
    if post.body.len() > BODY_LIMIT {
        let message = format!("a request has at most {} MiB", BODY_LIMIT >> 20);
        return Err(CapabilityError::new(ErrorKind::TOO_LARGE, message));
    }
    let url = parse(&post.url)?;
    let (host, port) = destination(&url)?;
    let addresses =
        tokio::time::timeout(CONNECT_LIMIT, resolve(&host, port, allowed)).await.map_err(|_| {
            CapabilityError::new(ErrorKind::NETWORK, format!("the name {host} is not resolved"))
        })??;
    let credential = post.credential.as_ref().map(Credential::header).transpose()?;
    if credential.is_some()
        && url.scheme() == "http"
        && !addresses.iter().all(|address| address.ip().is_loopback())
    {
        let message = format!("a credential is not sent to {host} over plain http; use https");
        return Err(CapabilityError::new(ErrorKind::DENIED, message));
    }
    let content_type = HeaderValue::try_from(&post.content_type)
        .map_err(|_| CapabilityError::new(ErrorKind::INVALID, "the media type fits into no header"))?;
    let mut request = client(addresses)?.post(url).header(CONTENT_TYPE, content_type).body(post.body);
    if let Some((name, value)) = credential {
        request = request.header(name, value);
    }
    let failed = |error: reqwest::Error| failed(&host, error);
    let mut response = request.send().await.map_err(failed)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while body.len() < ANSWER_LIMIT
        // A broken end of the answer does not undo what the status says.
        && let Ok(Some(piece)) = response.chunk().await
    {
        body.extend_from_slice(&piece);
    }
    body.truncate(ANSWER_LIMIT);
    Ok(Answer { status, body })
}

fn parse(text: &str) -> Result<reqwest::Url> {
    let invalid = |message: &str| CapabilityError::new(ErrorKind::INVALID, message);
    let url =
        reqwest::Url::parse(text).map_err(|error| invalid(&format!("the URL is malformed: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("a URL begins with https:// or http://"));
    }
    if url.password().is_some() || !url.username().is_empty() {
        return Err(invalid("a URL must not hold a credential; bind it to a secret slot instead"));
    }
    Ok(url)
}

/// Host, in the form that allow-lists use, and port.
fn destination(url: &reqwest::Url) -> Result<(String, u16)> {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    match url.port_or_known_default() {
        Some(port) if !host.is_empty() => Ok((host, port)),
        _ => Err(CapabilityError::new(ErrorKind::INVALID, "the URL names no host")),
    }
}

/// The addresses of an allowed host that may be connected to.
async fn resolve(host: &str, port: u16, allowed: &AllowList) -> Result<Vec<SocketAddr>> {
    let denied = |message: String| CapabilityError::new(ErrorKind::DENIED, message);
    let rule = allowed.find(host, port).ok_or_else(|| {
        let name = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let line = if WEB_PORTS.contains(&port) { name } else { format!("{name}:{port}") };
        denied(format!(
            "{host}:{port} may not be reached: write `permissions: [{{ http: ['{line}'] }}]` in the step"
        ))
    })?;
    let found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| {
                CapabilityError::new(ErrorKind::NETWORK, format!("cannot resolve {host}: {error}"))
            })?
            .collect(),
    };
    let usable: Vec<SocketAddr> = found.iter().copied().filter(|address| rule.admits(address.ip())).collect();
    if usable.is_empty() {
        return Err(denied(format!(
            "{host} leads to an address of a private network; if that is meant, grant the address itself"
        )));
    }
    Ok(usable)
}

/// A client that connects to these addresses and no others, whatever name it is given.
fn client(addresses: Vec<SocketAddr>) -> Result<reqwest::Client> {
    http_client::build(
        http_client::builder()
            .no_proxy()
            .dns_resolver(Arc::new(Pinned(addresses)))
            .connect_timeout(CONNECT_LIMIT)
            .timeout(TIME_LIMIT),
    )
}

struct Pinned(Vec<SocketAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

/// Names the host alone: the rest of a URL may be what lets one in.
fn failed(host: &str, error: reqwest::Error) -> CapabilityError {
    let kind =
        if error.is_timeout() && !error.is_connect() { ErrorKind::TIMED_OUT } else { ErrorKind::NETWORK };
    let error = error.without_url();
    CapabilityError::new(kind, format!("cannot send to {host}: {}", http_client::cause(&error)))
}

#[cfg(test)]
mod tests;
