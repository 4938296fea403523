//! The proxy through which sandboxes with an allow-list reach the network: CONNECT, and plain HTTP in absolute form.
//!
//! Names are resolved here, and the address that was checked is the one connected to, so an allowed name cannot be
//! pointed at this machine or its network later.

use super::gateway::{Body, accept, strip, text};
use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Where the proxy listens on the loopback of each sandbox.
pub(super) const PORT: u16 = 3128;
/// How long resolving and connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Most lines of an allow-list.
const RULES_LIMIT: usize = 1000;
/// Ports that a rule without one allows.
const WEB_PORTS: [u16; 2] = [80, 443];

/// What a sandbox may reach.
#[derive(Clone, Debug)]
pub(super) struct AllowList(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// In lower case; without the `*.` of a wildcard.
    host: String,
    wildcard: bool,
    port: Option<u16>,
}

impl AllowList {
    pub(super) fn parse(lines: &[String]) -> Result<Self> {
        if lines.len() > RULES_LIMIT {
            return Err(CapabilityError::new(
                ErrorKind::INVALID,
                format!(
                    "an allow-list has at most {RULES_LIMIT} lines; use wildcards such as `*.example.com`"
                ),
            ));
        }
        lines.iter().map(|line| Rule::parse(line)).collect::<Result<_>>().map(Self)
    }

    /// The variables by which programs find the proxy.
    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let proxy = format!("http://127.0.0.1:{PORT}");
        // The sandbox's own loopback is reached directly, unless the list means the host's.
        let direct: Vec<_> = ["127.0.0.1", "localhost", "::1"]
            .into_iter()
            .filter(|name| !self.0.iter().any(|rule| rule.host == *name))
            .collect();
        let direct = direct.join(",");
        let mut all = Vec::new();
        for (name, value) in [("HTTP_PROXY", &proxy), ("HTTPS_PROXY", &proxy), ("NO_PROXY", &direct)] {
            all.push((name.to_owned(), value.clone()));
            all.push((name.to_ascii_lowercase(), value.clone()));
        }
        all.push(("NODE_USE_ENV_PROXY".into(), "1".into()));
        all
    }

    fn find(&self, host: &str, port: u16) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.covers(host, port))
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Self> {
        let invalid = || {
            CapabilityError::new(
                ErrorKind::INVALID,
                format!(
                    "`{line}` is no line of an allow-list: write `example.com`, `*.example.com` or `host:port`"
                ),
            )
        };
        let text = line.trim().to_ascii_lowercase();
        let (host, port) = split_port(&text).ok_or_else(invalid)?;
        let (wildcard, host) = host.strip_prefix("*.").map_or((false, host), |rest| (true, rest));
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(known) || host.starts_with('.') {
            return Err(invalid());
        }
        Ok(Self { host: host.into(), wildcard, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let named = if self.wildcard {
            host.strip_suffix(&self.host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        named && self.port.map_or(WEB_PORTS.contains(&port), |allowed| allowed == port)
    }

    /// Whether the operator wrote down this very machine or address, and so means it.
    fn is_literal(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok()
    }
}

/// Host and port of `host`, `host:port`, `[v6]`, `[v6]:port` or a bare v6 address.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => after.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        None => Some((text, None)),
        Some((_, rest)) if rest.contains(':') => text.parse::<IpAddr>().ok().map(|_| (text, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
    }
}

/// Serves the proxy on `listener` until the sandbox ends.
pub(super) fn serve(
    rules: AllowList,
    listener: std::net::TcpListener,
    ended: watch::Receiver<bool>,
) -> Result<()> {
    let rules = Arc::new(rules);
    accept(listener, ended, move |request| {
        let rules = rules.clone();
        async move { Ok::<_, Infallible>(answer(&rules, request).await.unwrap_or_else(Refusal::response)) }
    })
    .map_err(|error| CapabilityError::io("serve the proxy of a sandbox", &error))
}

/// Why the proxy does not pass something on; one line for the person in the sandbox.
struct Refusal(StatusCode, String);

impl Refusal {
    fn response(self) -> Response<Body> {
        let mut response = Response::new(text(format!("harvest: {}\n", self.1)));
        *response.status_mut() = self.0;
        response
    }
}

async fn answer(rules: &AllowList, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let (host, port) = destination(&request)?;
    let stream = connect(rules, &host, port).await?;
    if request.method() == Method::CONNECT {
        tokio::spawn(async move {
            if let Ok(upgraded) = hyper::upgrade::on(request).await {
                let mut stream = stream;
                // Either side may break the tunnel off at any time.
                drop(tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut stream).await);
            }
        });
        return Ok(Response::new(text(String::new())));
    }
    forward(request, stream, &host, port).await
}

fn destination(request: &Request<Incoming>) -> Result<(String, u16), Refusal> {
    let unusable = |why: &str| Refusal(StatusCode::BAD_REQUEST, why.into());
    let uri = request.uri();
    let host = uri
        .host()
        .ok_or_else(|| unusable("this is a proxy: send CONNECT host:port or an absolute http URL"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    let port = match (request.method() == Method::CONNECT, uri.port_u16(), uri.scheme_str()) {
        (_, Some(port), _) => port,
        (false, None, Some("http")) => 80,
        _ => return Err(unusable("name a port with CONNECT, or use an http URL")),
    };
    Ok((host, port))
}

/// Connects to an allowed destination, at an address that has been checked.
async fn connect(rules: &AllowList, host: &str, port: u16) -> Result<TcpStream, Refusal> {
    let rule = rules.find(host, port).ok_or_else(|| {
        let line = if WEB_PORTS.contains(&port) { host.to_owned() } else { format!("{host}:{port}") };
        Refusal(
            StatusCode::FORBIDDEN,
            format!("{host}:{port} is not on the allow-list of this sandbox; add the line `{line}`"),
        )
    })?;
    let unreachable = |why: &dyn std::fmt::Display| {
        Refusal(StatusCode::BAD_GATEWAY, format!("cannot reach {host}:{port}: {why}"))
    };
    let work = async {
        let addresses: Vec<SocketAddr> =
            tokio::net::lookup_host((host, port)).await.map_err(|error| unreachable(&error))?.collect();
        let allowed: Vec<_> = addresses
            .iter()
            .copied()
            .filter(|address| rule.is_literal() || is_public(address.ip()))
            .collect();
        if let (true, Some(address)) = (allowed.is_empty(), addresses.first()) {
            return Err(Refusal(
                StatusCode::FORBIDDEN,
                format!(
                    "{host} leads to {}, an address of a private network; if that is meant, add the line `{address}`",
                    address.ip()
                ),
            ));
        }
        TcpStream::connect(&allowed[..]).await.map_err(|error| unreachable(&error))
    };
    tokio::time::timeout(CONNECT_LIMIT, work).await.map_err(|_| unreachable(&"it does not answer"))?
}

/// Sends a plain HTTP request on, as from a client without a proxy.
async fn forward(
    mut request: Request<Incoming>,
    stream: TcpStream,
    host: &str,
    port: u16,
) -> Result<Response<Body>, Refusal> {
    let broken = |error: hyper::Error| {
        Refusal(StatusCode::BAD_GATEWAY, format!("{host}:{port} broke the connection: {error}"))
    };
    let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    *request.uri_mut() = path
        .parse()
        .map_err(|_| Refusal(StatusCode::BAD_REQUEST, "the path of the URL is malformed".into()))?;
    strip(request.headers_mut());
    if let Ok(authority) = HeaderValue::try_from(authority) {
        request.headers_mut().insert(HOST, authority);
    }
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    let mut response = sender.send_request(request).await.map_err(broken)?;
    strip(response.headers_mut());
    Ok(response.map(|body| body.map_err(Into::into).boxed()))
}

/// Whether an address lies on the public internet: not this machine, not its network, not a metadata service.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (b == 18 || b == 19)))
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return is_public(v4.into());
            }
            // 64:ff9b::/96 and 2002::/16 carry an IPv4 address that a translator would reach.
            let segments = v6.segments();
            let carries_v4 = segments[0] == 0x2002 || (segments[0] == 0x64 && segments[1] == 0xff9b);
            (segments[0] & 0xe000) == 0x2000 && !carries_v4
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AllowList, is_public};

    fn allows(line: &str, host: &str, port: u16) -> bool {
        AllowList::parse(&[line.into()]).expect("a rule").find(host, port).is_some()
    }

    #[test]
    fn rules_cover_what_they_say_and_no_more() {
        assert!(allows("example.com", "example.com", 443));
        assert!(!allows("example.com", "example.com", 22));
        assert!(!allows("example.com", "www.example.com", 443));
        assert!(!allows("example.com", "example.com.evil.net", 443));
        assert!(allows("*.example.com", "a.b.example.com", 80));
        assert!(!allows("*.example.com", "example.com", 80));
        assert!(!allows("*.example.com", "evilexample.com", 80));
        assert!(allows("Example.com:8443", "example.com", 8443));
        assert!(!allows("example.com:8443", "example.com", 443));
        assert!(allows("[::1]:80", "::1", 80));
        for wrong in ["", "http://example.com", "a b", "example.com:port", "*.", "a/b"] {
            assert!(AllowList::parse(&[wrong.into()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn private_addresses_are_known_in_every_spelling() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
        ] {
            assert!(!is_public(private.parse().expect("an address")), "{private}");
        }
        for public in ["1.1.1.1", "140.82.112.3", "2606:4700::1111"] {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
    }
}
