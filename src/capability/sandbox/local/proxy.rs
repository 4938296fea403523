//! The proxy through which sandboxes with an allow-list reach the network: CONNECT, and plain HTTP in absolute form.
//!
//! Names are resolved here, and the address that was checked is the one connected to, so an allowed name cannot be
//! pointed at this machine or its network later.

use super::gateway::{Body, accept, strip, text};
use crate::capability::allow_list::{AllowList, WEB_PORTS};
use crate::capability::{CapabilityError, Result};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Where the proxy listens on the loopback of each sandbox.
pub(super) const PORT: u16 = 3128;
/// How long resolving and connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// The variables by which programs in the sandbox find the proxy.
pub(super) fn environment(rules: &AllowList) -> Vec<(String, String)> {
    let proxy = format!("http://127.0.0.1:{PORT}");
    // The sandbox's own loopback is reached directly, unless the list means the host's.
    let direct: Vec<_> =
        ["127.0.0.1", "localhost", "::1"].into_iter().filter(|name| !rules.names(name)).collect();
    let direct = direct.join(",");
    let mut all = Vec::new();
    for (name, value) in [("HTTP_PROXY", &proxy), ("HTTPS_PROXY", &proxy), ("NO_PROXY", &direct)] {
        all.push((name.to_owned(), value.clone()));
        all.push((name.to_ascii_lowercase(), value.clone()));
    }
    all.push(("NODE_USE_ENV_PROXY".into(), "1".into()));
    all
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
        let allowed: Vec<_> = addresses.iter().copied().filter(|address| rule.admits(address.ip())).collect();
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
