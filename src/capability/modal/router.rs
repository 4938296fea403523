//! Calls to the router of the worker that a sandbox runs on.

use super::calls::{Call, Streamed};
use super::channel;
use super::client::{Client, Options, PATIENCE, open_stream, secret, unary};
use super::clock::Clock;
use super::fault::Fault;
use super::messages::client as api;
use super::retry::ROUTER;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Pauses between attempts to connect: a sandbox may take long to start.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long one attempt of a call may take that names no other limit.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(60);

/// Calls that one connection carries. Servers allow 100 or more of them; a command that runs has three.
const CALLS: usize = 60;
/// Connections to one worker. Beyond them, calls wait for each other.
const CONNECTIONS: usize = 32;

/// The way to one sandbox. Where the worker refuses its token, a new one is fetched, and with it perhaps another worker.
pub(crate) struct Router {
    client: Client,
    sandbox: String,
    sandbox_token: Option<String>,
    place: tokio::sync::Mutex<Known>,
}

struct Known {
    /// What came with the sandbox; good for the first connection only.
    first: Option<api::CommandRouterAccess>,
    place: Option<Place>,
    count: u64,
}

/// Where the sandbox is, and the right to call there.
#[derive(Clone)]
struct Place {
    url: String,
    connections: Arc<tokio::sync::Mutex<Vec<Connection>>>,
    jwt: String,
    number: u64,
}

/// A connection, held by each call on it.
#[derive(Clone)]
pub(super) struct Connection {
    channel: Channel,
    calls: Arc<()>,
}

/// A stream of answers, which keeps its place on the connection.
pub(super) struct Answers<A> {
    stream: Streaming<A>,
    _connection: Connection,
}

impl<A> Answers<A> {
    /// The next one, `None` at the end.
    pub(super) async fn message(&mut self) -> Result<Option<A>, Status> {
        self.stream.message().await
    }
}

impl Router {
    /// The router of a sandbox, with what came with its creation.
    pub(crate) fn new(
        client: Client,
        sandbox: String,
        sandbox_token: Option<String>,
        first: Option<api::CommandRouterAccess>,
    ) -> Self {
        let first = first.filter(|access| !access.url.is_empty());
        let place = tokio::sync::Mutex::new(Known { first, place: None, count: 0 });
        Self { client, sandbox, sandbox_token, place }
    }

    /// By what pauses are taken.
    pub(super) fn clock(&self) -> &Clock {
        self.client.clock()
    }

    /// Makes a call until it is answered or nothing more is to be hoped for.
    pub(crate) async fn call<C: Call>(&self, request: &C, limit: Duration) -> Result<C::Answer, Fault> {
        let (mut attempt, mut stale) = (0, None);
        loop {
            let place = self.place(stale).await?;
            let answering = async {
                let connection = place.connection().await?;
                unary(connection.channel.clone(), request, place.headers()?).await
            };
            let fault = match tokio::time::timeout(limit, answering).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => Fault::from(status),
                Err(_) => Fault::late(limit),
            };
            if fault.code == Code::Unauthenticated && stale.is_none() {
                stale = Some(place.number);
                continue;
            }
            if !fault.is_passing() || attempt == ROUTER.retries {
                return Err(fault);
            }
            attempt += 1;
            self.clock().pause(ROUTER.pause(attempt)).await;
        }
    }

    /// The same within a time in all, after which nothing is tried again.
    pub(crate) async fn call_within<C: Call>(
        &self,
        request: &C,
        total: Duration,
    ) -> Result<C::Answer, Fault> {
        tokio::time::timeout(total, self.call(request, total))
            .await
            .unwrap_or_else(|_| Err(Fault::late(total)))
    }

    /// Opens a stream of answers, with a new token where the old one is refused. It is not opened again.
    pub(super) async fn stream<C: Streamed>(&self, request: &C) -> Result<Answers<C::Answer>, Fault> {
        let mut stale = None;
        loop {
            let place = self.place(stale).await?;
            let opening = async {
                let connection = place.connection().await?;
                let stream = open_stream(connection.channel.clone(), request, place.headers()?).await?;
                Ok::<_, Status>(Answers { stream, _connection: connection })
            };
            let fault = match tokio::time::timeout(CALL_LIMIT, opening).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(status)) => Fault::from(status),
                Err(_) => Fault::late(CALL_LIMIT),
            };
            if fault.code != Code::Unauthenticated || stale.is_some() {
                return Err(fault);
            }
            stale = Some(place.number);
        }
    }

    /// Forgets the token that was used last, where a stream was ended for it.
    pub(crate) async fn renew(&self) {
        self.place.lock().await.place = None;
    }

    /// Where the sandbox is; asked anew where `stale` was refused and nobody else has asked since.
    async fn place(&self, stale: Option<u64>) -> Result<Place, Fault> {
        let mut known = self.place.lock().await;
        if let Some(place) = known.place.as_ref().filter(|place| Some(place.number) != stale) {
            return Ok(place.clone());
        }
        let access = match known.first.take() {
            Some(access) => access,
            None => self.ask().await?,
        };
        let channel = self.connect(&access.url).await?;
        known.count += 1;
        let first = Connection { channel, calls: Arc::default() };
        let connections = Arc::new(tokio::sync::Mutex::new(vec![first]));
        let place = Place { url: access.url, connections, jwt: access.jwt, number: known.count };
        known.place = Some(place.clone());
        Ok(place)
    }

    async fn ask(&self) -> Result<api::CommandRouterAccess, Fault> {
        let target = api::sandbox_get_command_router_access_request::Target::SandboxId(self.sandbox.clone());
        let request = api::SandboxGetCommandRouterAccessRequest { target: Some(target) };
        let options = Options { sandbox_token: self.sandbox_token.clone(), ..Options::default() };
        match self.client.call(&request, options).await {
            Ok(access) => Ok(api::CommandRouterAccess { jwt: access.jwt, url: access.url }),
            // A sandbox that has ended has no router any more.
            Err(fault) if fault.code == Code::FailedPrecondition => {
                Err(Fault { code: Code::NotFound, ..fault })
            }
            Err(fault) => Err(fault),
        }
    }

    /// Connects, again and again while the worker may still be starting.
    async fn connect(&self, url: &str) -> Result<Channel, Fault> {
        let servers = &self.client.settings().servers;
        if channel::is_loopback(url) && !servers.iter().any(|server| channel::is_loopback(server)) {
            // A server elsewhere has no business on this machine.
            return Err(Fault::new(Code::PermissionDenied, format!("the router {url} is this machine")));
        }
        let clock = self.clock();
        let end = clock.now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            match channel::open(url).await {
                Err(fault) if fault.is_passing() && clock.now() + pause < end => {
                    clock.pause(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                connected => return connected,
            }
        }
    }
}

impl Place {
    /// A connection with room for a call; a further one where there is none.
    async fn connection(&self) -> Result<Connection, Status> {
        let mut all = self.connections.lock().await;
        // One is the list's own.
        let calls = |connection: &Connection| Arc::strong_count(&connection.calls) - 1;
        match all.iter().min_by_key(|connection| calls(connection)) {
            Some(least) if calls(least) < CALLS || all.len() == CONNECTIONS => Ok(least.clone()),
            _ => {
                let opened = channel::open(&self.url).await;
                let channel = opened.map_err(|fault| Status::new(fault.code, fault.message))?;
                let further = Connection { channel, calls: Arc::default() };
                all.push(further.clone());
                Ok(further)
            }
        }
    }

    fn headers(&self) -> Result<MetadataMap, Status> {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", secret(&format!("Bearer {}", self.jwt))?);
        Ok(metadata)
    }
}
