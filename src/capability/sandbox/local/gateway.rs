//! Gateways: reverse proxies on a sandbox's loopback to the upstreams that the operator configured. The host adds the
//! credentials, so a sandbox uses a service without ever seeing its key, and counts what is spent. Bodies stream both ways
//! and are never stored.

use super::Upstream;
use super::listener::Listener;
use super::metered::{self, Metered};
use crate::capability::meter::{Account, Charge};
use crate::capability::sandbox::Credential;
use crate::capability::{CapabilityError, Result, http_client};
use crate::step::ErrorKind;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// How long connecting to an upstream may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Most connections of one sandbox to one gateway at a time.
const CONNECTION_LIMIT: usize = 256;
/// Bytes of randomness in the path of a gateway.
const TOKEN_BYTES: usize = 16;

/// Headers that concern one connection and are never passed on.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Headers in which a sandbox could send a credential of its own beside the one that is added.
const CREDENTIALS: [HeaderName; 3] =
    [header::AUTHORIZATION, HeaderName::from_static("x-api-key"), header::COOKIE];

pub(super) type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The upstreams of a provider, and the client that reaches them.
#[derive(Clone)]
pub(in crate::capability::sandbox) struct Gateways {
    upstreams: Arc<Vec<Upstream>>,
    client: reqwest::Client,
}

/// Where the requests of one gateway go, with what is added to them.
pub(super) struct Route {
    base: reqwest::Url,
    credentials: Vec<(HeaderName, HeaderValue)>,
    /// Whom it belongs to. It closes with the account.
    account: Option<Arc<Account>>,
    /// Whether what passes is charged to the account.
    metered: bool,
}

impl Gateways {
    pub(in crate::capability::sandbox) fn new(upstreams: Vec<Upstream>) -> Result<Self> {
        let client = http_client::build(http_client::builder().connect_timeout(CONNECT_LIMIT))?;
        Ok(Self { upstreams: Arc::new(upstreams), client })
    }

    /// The way to an upstream. The caller's credentials win over the operator's.
    pub(super) fn route(
        &self,
        name: &str,
        credentials: Vec<Credential>,
        account: Option<Arc<Account>>,
    ) -> Result<Route> {
        let upstream = self.upstreams.iter().find(|upstream| upstream.name == name).ok_or_else(|| {
            let known: Vec<_> = self.upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            CapabilityError::new(
                ErrorKind::NOT_FOUND,
                format!("there is no upstream `{name}`; the operator has configured: {known}"),
            )
        })?;
        let base = reqwest::Url::parse(&upstream.base_url)
            .ok()
            .filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| {
                CapabilityError::new(
                    ErrorKind::INVALID,
                    format!("upstream `{name}` needs a base URL such as https://api.example.com"),
                )
            })?;
        let credentials = if credentials.is_empty() { upstream.credentials.clone() } else { credentials };
        let credentials = credentials.iter().map(Credential::header).collect::<Result<_>>()?;
        Ok(Route { base, credentials, account, metered: upstream.metered })
    }

    /// A gateway, and the path at which it serves.
    pub(super) fn gateway(&self, route: Route) -> Result<(Service, String)> {
        let token = random_token().map_err(|error| CapabilityError::io("open a gateway", &error))?;
        let (client, route, prefix) = (self.client.clone(), Arc::new(route), format!("/{token}"));
        let answer = {
            let prefix = prefix.clone();
            move |request| {
                let (client, route, prefix) = (client.clone(), route.clone(), prefix.clone());
                async move { Ok::<_, Infallible>(pass_on(&client, &route, &prefix, request).await) }
            }
        };
        Ok((Arc::new(move |listener, ended| accept(listener, ended, answer.clone())), prefix))
    }
}

fn random_token() -> io::Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// Something that serves on a listener until the sandbox ends, and on another one when that is up again.
pub(super) type Service = Arc<dyn Fn(Listener, watch::Receiver<bool>) + Send + Sync>;

/// Serves HTTP/1.1 on a listener until the sandbox ends.
pub(super) fn accept<S, F>(listener: Listener, mut ended: watch::Receiver<bool>, service: S)
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let free = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    tokio::spawn(async move {
        loop {
            let permit = free.clone().acquire_owned().await;
            let stream = tokio::select! {
                stream = listener.accept() => stream,
                _ = ended.wait_for(|ended| *ended) => return,
            };
            let stream = match stream {
                Ok(Some(stream)) => stream,
                Ok(None) => return,
                Err(_) => {
                    // Out of descriptors: a moment later there may be some again.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (service, mut ended) = (service.clone(), ended.clone());
            tokio::spawn(async move {
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), hyper::service::service_fn(service))
                    .with_upgrades();
                tokio::select! {
                    // A broken connection is the sandbox's own business.
                    _ = connection => {}
                    _ = ended.wait_for(|ended| *ended) => {}
                }
                drop(permit);
            });
        }
    });
}

async fn pass_on(
    client: &reqwest::Client,
    route: &Route,
    prefix: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let Some(url) = target(route, prefix, request.uri()) else {
        return refuse(StatusCode::NOT_FOUND, "not_found_error", "no such gateway");
    };
    let charge = match charge(route, request.method(), url.path()) {
        Ok(charge) => charge,
        Err(refusal) => return *refusal,
    };
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    strip(&mut headers);
    headers.remove(header::HOST);
    if charge.is_some() {
        // What is compressed cannot be counted.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    if !route.credentials.is_empty() {
        for name in &CREDENTIALS {
            headers.remove(name);
        }
    }
    for (name, value) in &route.credentials {
        headers.insert(name, value.clone());
    }
    let sent =
        client.request(parts.method, url).headers(headers).body(reqwest::Body::wrap(body)).send().await;
    match sent {
        Ok(response) => {
            let mut response = Response::from(response);
            strip(response.headers_mut());
            let response = response.map(|body| body.map_err(Into::into).boxed());
            match charge {
                Some(charge) if response.status().is_success() => count(response, charge),
                _ => response,
            }
        }
        Err(error) => {
            let why = if error.is_timeout() {
                "it did not answer in time"
            } else if error.is_connect() {
                "it cannot be reached; look at the host's network, proxy settings and certificates"
            } else {
                "the connection broke"
            };
            tracing::debug!(error = %error.without_url(), "a gateway could not pass on a request");
            refuse(
                StatusCode::BAD_GATEWAY,
                "api_error",
                &format!("harvest could not pass the request to the upstream: {why}"),
            )
        }
    }
}

/// Opens a charge for a request that costs something, `None` for the others. The error is the answer to one that is not
/// to be sent.
fn charge(
    route: &Route,
    method: &Method,
    path: &str,
) -> std::result::Result<Option<Charge>, Box<Response<Body>>> {
    let Some(account) = &route.account else { return Ok(None) };
    let refused = |why: &str| {
        Err(Box::new(refuse(StatusCode::PAYMENT_REQUIRED, "billing_error", &format!("harvest: {why}"))))
    };
    if account.is_closed() {
        return refused("the step that opened this gateway has ended");
    }
    if !route.metered {
        return Ok(None);
    }
    if metered::costs(method, path) {
        return account.begin().map(Some).or_else(|why| refused(&why));
    }
    // A budget that something can be spent beside is none.
    if account.left().is_some() && !metered::is_free(method, path) {
        return refused("what this request costs cannot be counted, and there is a budget to keep");
    }
    Ok(None)
}

/// Counts what an answer costs while it passes.
fn count(response: Response<Body>, charge: Charge) -> Response<Body> {
    let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
    if header(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        let why = "harvest: the upstream compresses its answers, so that what they cost cannot be counted";
        return refuse(StatusCode::BAD_GATEWAY, "api_error", why);
    }
    let events = header(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream"));
    response.map(|body| Metered::new(body, charge, events).boxed())
}

/// The URL at the upstream, `None` for a request without the token or one that would climb out of the base path.
fn target(route: &Route, prefix: &str, asked: &hyper::Uri) -> Option<reqwest::Url> {
    let rest = asked.path().strip_prefix(prefix)?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let base = route.base.path().trim_end_matches('/');
    let mut url = route.base.clone();
    url.set_path(&format!("{base}{rest}"));
    url.set_query(asked.query());
    // Setting the path has resolved `..`, also percent-encoded.
    let below = url.path().strip_prefix(base)?;
    (below.is_empty() || below.starts_with('/')).then_some(url)
}

/// Removes the headers that concern one connection, also those that `Connection` names.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

/// An error in the form that clients of model APIs understand.
fn refuse(status: StatusCode, kind: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({"type": "error", "error": {"type": kind, "message": message}}).to_string();
    let mut response = Response::new(text(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn text(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed()
}
