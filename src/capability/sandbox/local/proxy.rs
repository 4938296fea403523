//! The proxy through which sandboxes with an allow-list reach the network: CONNECT, and plain HTTP in absolute form.
//!
//! Names are resolved here, and the address that was checked is the one connected to, so an allowed name cannot be
//! pointed at this machine or its network later. What is refused is told to whoever has the sandbox, then to the program.

use super::gateway::{Body, Service, accept, strip, text};
use super::passage::{Closed, Destination, Passage, Passages};
use crate::capability::allow_list::{AllowList, WEB_PORTS};
use crate::capability::sandbox::{RefusalSink, Refused};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

/// Where the proxy listens on the loopback of each sandbox.
pub(super) const PORT: u16 = 3128;
/// How long resolving and connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Finds the addresses of a host.
type Resolver = Arc<
    dyn Fn(String, u16) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync,
>;

/// The proxy of one sandbox.
#[derive(Clone)]
pub(super) struct Proxy {
    passages: Arc<Passages>,
    resolve: Resolver,
    sink: Sink,
}

/// Who is told of refused connections.
pub(super) type Sink = Arc<Mutex<Option<RefusalSink>>>;

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

impl Proxy {
    pub(super) fn new(rules: AllowList, sink: Sink) -> Self {
        let resolve: Resolver = Arc::new(|host, port| {
            Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
        });
        Self { passages: Arc::new(Passages::new(rules)), resolve, sink }
    }

    /// This proxy on a listener.
    pub(super) fn service(&self) -> Service {
        let proxy = self.clone();
        let answer = move |request| {
            let proxy = proxy.clone();
            async move { Ok::<_, Infallible>(proxy.answer(request).await.unwrap_or_else(Refusal::response)) }
        };
        Arc::new(move |listener, ended| accept(listener, ended, answer.clone()))
    }

    /// What may be reached now.
    pub(super) fn rules(&self) -> Arc<AllowList> {
        self.passages.rules()
    }

    /// Sets what may be reached. Returns once connections that this does not allow are cut.
    pub(super) async fn set(&self, rules: AllowList) {
        self.passages.set(rules).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let (host, port) = destination(&request)?;
        let (mut stream, passage) = self.connect(&host, port).await?;
        if request.method() != Method::CONNECT {
            return forward(request, stream, passage, &host, port).await;
        }
        tokio::spawn(async move {
            let tunnel = async {
                if let Ok(upgraded) = hyper::upgrade::on(request).await {
                    // Either side may break the tunnel off at any time.
                    drop(tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut stream).await);
                }
            };
            tokio::select! {
                biased;
                () = passage.cut.cancelled() => {}
                () = tunnel => {}
            }
            // The passage is gone only when the connection is.
            drop(stream);
            drop(passage);
        });
        Ok(Response::new(text(String::new())))
    }

    /// Connects to an allowed destination, at an address that has been checked.
    async fn connect(&self, host: &str, port: u16) -> Result<(TcpStream, Passage), Refusal> {
        let rules = self.rules();
        let rule = rules.find(host, port).ok_or_else(|| self.not_listed(host, port))?;
        let unreachable = |why: &dyn std::fmt::Display| {
            Refusal(StatusCode::BAD_GATEWAY, format!("cannot reach {host}:{port}: {why}"))
        };
        let work = async {
            let addresses =
                (self.resolve)(host.to_owned(), port).await.map_err(|error| unreachable(&error))?;
            let allowed: Vec<_> =
                addresses.iter().copied().filter(|address| rule.admits(address.ip())).collect();
            if let (true, Some(address)) = (allowed.is_empty(), addresses.first()) {
                let why = format!(
                    "{host} leads to {}, an address of a private network; if that is meant, add the line `{address}`",
                    address.ip()
                );
                return Err(self.refuse(host, port, address.to_string(), why));
            }
            TcpStream::connect(&allowed[..]).await.map_err(|error| unreachable(&error))
        };
        let stream = tokio::time::timeout(CONNECT_LIMIT, work)
            .await
            .map_err(|_| unreachable(&"it does not answer"))??;
        let address = stream.peer_addr().map_err(|error| unreachable(&error))?.ip();
        match self.passages.open(Destination { host: host.to_owned(), port, address }) {
            Ok(passage) => Ok((stream, passage)),
            Err(Closed::Refused) => Err(self.not_listed(host, port)),
            Err(Closed::Full) => Err(Refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "this sandbox has too many connections open; close some".into(),
            )),
        }
    }

    fn not_listed(&self, host: &str, port: u16) -> Refusal {
        let line = line(host, port);
        let why = format!("{host}:{port} is not on the allow-list of this sandbox; add the line `{line}`");
        self.refuse(host, port, line, why)
    }

    /// Says that a connection is refused by the policy.
    fn refuse(&self, host: &str, port: u16, line: String, why: String) -> Refusal {
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Hosts that no list could name are the program's own mistake.
        if let Some(sink) = sink.filter(|_| AllowList::parse(std::slice::from_ref(&line)).is_ok()) {
            sink(&Refused { to: format!("{host}:{port}"), line, why: why.clone() });
        }
        Refusal(StatusCode::FORBIDDEN, why)
    }
}

/// The line that allows a host at a port.
fn line(host: &str, port: u16) -> String {
    match (host.contains(':'), WEB_PORTS.contains(&port)) {
        (_, true) => host.to_owned(),
        (false, false) => format!("{host}:{port}"),
        (true, false) => format!("[{host}]:{port}"),
    }
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

/// Sends a plain HTTP request on, as from a client without a proxy.
async fn forward(
    mut request: Request<Incoming>,
    stream: TcpStream,
    passage: Passage,
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
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = passage.cut.cancelled() => {}
            // A connection that breaks is seen by whoever reads the answer.
            _ = connection => {}
        }
        drop(passage);
    });
    let mut response = sender.send_request(request).await.map_err(broken)?;
    strip(response.headers_mut());
    Ok(response.map(|body| body.map_err(Into::into).boxed()))
}

#[cfg(test)]
mod tests {
    use super::super::listener::Listener;
    use super::*;
    use std::collections::VecDeque;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::watch;

    /// A proxy whose resolver gives these answers, one after the other, and whose refusals are collected.
    struct World {
        port: u16,
        proxy: Proxy,
        answers: Arc<Mutex<VecDeque<Vec<SocketAddr>>>>,
        refused: Arc<Mutex<Vec<Refused>>>,
        _ended: watch::Sender<bool>,
    }

    fn world(lines: &[&str], answers: Vec<Vec<SocketAddr>>) -> World {
        let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let resolver = answers.clone();
        let resolve: Resolver = Arc::new(move |_, _| {
            let answer = resolver.lock().unwrap().pop_front();
            Box::pin(async move { answer.ok_or_else(|| io::Error::other("asked once too often")) })
        });
        let refused = Arc::new(Mutex::new(Vec::new()));
        let told = refused.clone();
        let sink: RefusalSink = Arc::new(move |refused: &Refused| told.lock().unwrap().push(refused.clone()));
        let passages = Arc::new(Passages::new(AllowList::parse(&lines).unwrap()));
        let proxy = Proxy { passages, resolve, sink: Arc::new(Mutex::new(Some(sink))) };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, ended) = watch::channel(false);
        proxy.service()(Listener::handed(listener).unwrap(), ended);
        World { port, proxy, answers, refused, _ended: sender }
    }

    impl World {
        /// Asks for a tunnel; the connection with the first line of the answer.
        async fn connect(&self, to: &str) -> (TcpStream, String) {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
            stream.write_all(format!("CONNECT {to} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            (stream, String::from_utf8(head).unwrap().lines().next().unwrap().to_owned())
        }
    }

    /// A server that says its name to whoever comes.
    async fn server(name: &'static [u8; 1]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(name).await.unwrap();
                // Held open: who cuts it is not the server.
                tokio::spawn(async move { stream.read_u8().await });
            }
        });
        address
    }

    #[tokio::test]
    async fn a_name_that_turns_to_this_machine_is_refused_each_time() {
        let canary = server(b"!").await;
        let metadata = "169.254.169.254:80".parse().unwrap();
        let private = "10.0.0.7:80".parse().unwrap();
        let world = world(&["rebind.example"], vec![vec![canary], vec![metadata], vec![private, canary]]);
        for address in ["127.0.0.1", "169.254.169.254", "10.0.0.7"] {
            let (_, answer) = world.connect("rebind.example:80").await;
            assert_eq!(answer, "HTTP/1.1 403 Forbidden");
            let refused = world.refused.lock().unwrap().pop().unwrap();
            assert!(refused.why.contains(address) && refused.line.starts_with(address), "{refused:?}");
        }
        assert!(world.answers.lock().unwrap().is_empty(), "each connection asks once");
    }

    #[tokio::test]
    async fn the_address_that_was_checked_is_the_one_connected_to() {
        let (first, second) = (server(b"1").await, server(b"2").await);
        // Where an operator means this machine, the name may lead to it. Each answer is asked for once and used.
        let line = format!("localhost:{}", first.port());
        let world = world(&[&line], vec![vec![first], vec![second], vec![second, first]]);
        for expected in [b'1', b'2', b'2'] {
            let (mut stream, answer) = world.connect(&line).await;
            assert_eq!(answer, "HTTP/1.1 200 OK");
            assert_eq!(stream.read_u8().await.unwrap(), expected);
        }
        let (_, answer) = world.connect(&line).await;
        assert_eq!(answer, "HTTP/1.1 502 Bad Gateway", "nothing is remembered from before");
    }

    #[tokio::test]
    async fn of_several_addresses_only_the_public_ones_are_tried() {
        let canary = server(b"!").await;
        let public: SocketAddr = "[2606:4700::1111]:80".parse().unwrap();
        let mixed = [canary, public, canary];
        let rules = AllowList::parse(&["mixed.example".into()]).unwrap();
        let rule = rules.find("mixed.example", 80).unwrap();
        let tried: Vec<_> = mixed.iter().filter(|address| rule.admits(address.ip())).collect();
        assert_eq!(tried, [&public]);
    }

    #[tokio::test]
    async fn a_list_that_changes_while_a_connection_is_made_is_the_one_that_counts() {
        let address = server(b"1").await;
        let line = format!("localhost:{}", address.port());
        let world = world(&[&line], vec![vec![address]]);
        let lines = AllowList::parse(std::slice::from_ref(&line)).unwrap();
        // The connection stands, but has not been noted yet: here the two race in life.
        world.proxy.set(AllowList::default()).await;
        let to = Destination { host: "localhost".into(), port: address.port(), address: address.ip() };
        assert!(matches!(world.proxy.passages.open(to.clone()), Err(Closed::Refused)));
        world.proxy.set(lines).await;
        let passage = world.proxy.passages.open(to).ok().unwrap();
        let cut = passage.cut.clone();
        let holder = tokio::spawn(async move {
            passage.cut.cancelled().await;
            drop(passage);
        });
        world.proxy.set(AllowList::default()).await;
        assert!(cut.is_cancelled());
        holder.await.unwrap();
    }

    #[test]
    fn lines_are_those_that_lists_take() {
        for (host, port, expected) in [
            ("a.example", 443, "a.example"),
            ("a.example", 22, "a.example:22"),
            ("::1", 80, "::1"),
            ("::1", 8080, "[::1]:8080"),
            ("10.0.0.1", 5432, "10.0.0.1:5432"),
        ] {
            let line = line(host, port);
            assert_eq!(line, expected);
            assert!(AllowList::parse(&[line]).unwrap().find(host, port).is_some(), "{expected}");
        }
    }
}
