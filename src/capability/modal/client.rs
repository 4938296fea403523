//! Calls to the control plane.

use super::blocks::Blocks;
use super::calls::{Call, Streamed};
use super::channel;
use super::clock::Clock;
use super::fault::Fault;
use super::key::Key;
use super::messages::client as api;
use super::retry::{self, CONTROL};
use super::settings::Settings;
use super::token::Tokens;
use crate::capability::Result as CapabilityResult;
use futures_util::future::{BoxFuture, FutureExt};
use hyper::http::uri::PathAndQuery;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::OnceCell;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// How long one attempt of a call may take that names no other limit.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// The same for the short-lived token.
const TOKEN_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of one answer.
const MESSAGE_LIMIT: usize = 100 << 20;
/// How long servers may be out of reach before what runs on them counts as lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// A client of Modal. Cloning it is cheap; all clones share one connection.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    settings: Settings,
    clock: Clock,
    channel: OnceCell<Channel>,
    tokens: Tokens,
    blocks: Blocks,
    app: OnceCell<String>,
    builder: OnceCell<String>,
}

/// What a call is made with beyond its request.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The same for all attempts; a fresh one where none is given.
    pub(crate) key: Option<Key>,
    /// How long one attempt may take.
    pub(crate) limit: Duration,
    /// What the server gave for later calls about a sandbox.
    pub(crate) sandbox_token: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { key: None, limit: CALL_LIMIT, sandbox_token: None }
    }
}

impl Client {
    /// A client that connects at its first call.
    ///
    /// # Errors
    /// Where this machine's trusted certificates cannot be used.
    pub fn new(settings: Settings) -> CapabilityResult<Self> {
        Self::with_clock(settings, Clock::default())
    }

    /// The same, with pauses by another clock than the machine's.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn with_clock(settings: Settings, clock: Clock) -> CapabilityResult<Self> {
        Ok(Self(Arc::new(Inner {
            settings,
            channel: OnceCell::new(),
            tokens: Tokens::default(),
            blocks: Blocks::new(clock.clone())?,
            clock,
            app: OnceCell::new(),
            builder: OnceCell::new(),
        })))
    }

    /// Who calls and where.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Moves blocks of volumes.
    pub(crate) fn blocks(&self) -> &Blocks {
        &self.0.blocks
    }

    /// By what pauses are taken.
    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Checks credentials and reach; returns the version of the server's image builder.
    ///
    /// # Errors
    /// `auth-error` where the credentials are refused, `unavailable` where nobody answers.
    pub async fn hello(&self) -> CapabilityResult<String> {
        let answer = self.call(&(), Options::default()).await;
        let answer = answer.map_err(|fault| fault.explain("reach Modal"))?;
        for warning in &answer.server_warnings {
            tracing::warn!("Modal says: {}", warning.message);
        }
        Ok(answer.image_builder_version)
    }

    /// The application that sandboxes and images belong to, made where it is missing.
    pub(crate) async fn app(&self) -> CapabilityResult<&str> {
        let making = self.0.app.get_or_try_init(async || {
            let request = api::AppGetOrCreateRequest {
                app_name: self.settings().app.clone(),
                environment_name: self.settings().environment.clone(),
                object_creation_type: api::ObjectCreationType::CreateIfMissing.into(),
            };
            Ok(self.call(&request, Options::default()).await?.app_id)
        });
        let doing = || format!("use the app {}", self.settings().app);
        making.await.map(String::as_str).map_err(|fault: Fault| fault.explain(doing()))
    }

    /// The version of the image builder that the environment has chosen.
    ///
    /// # Errors
    /// As for any call; `not-found` where there is no such environment.
    pub async fn builder_version(&self) -> CapabilityResult<&str> {
        let asking = self.0.builder.get_or_try_init(async || {
            if let Some(version) = &self.settings().builder_version {
                return Ok(version.clone());
            }
            let request = api::EnvironmentGetOrCreateRequest {
                deployment_name: self.settings().environment.clone(),
                object_creation_type: api::ObjectCreationType::Unspecified.into(),
            };
            let answer = self.call(&request, Options::default()).await?;
            let settings = answer.metadata.and_then(|metadata| metadata.settings);
            Ok(settings.unwrap_or_default().image_builder_version)
        });
        let doing = || format!("look up the environment `{}`", self.settings().environment);
        asking.await.map(String::as_str).map_err(|fault: Fault| fault.explain(doing()))
    }

    /// Makes a call until it is answered or nothing more is to be hoped for.
    pub(crate) async fn call<C: Call>(&self, request: &C, options: Options) -> Result<C::Answer, Fault> {
        let key = options.key.clone().unwrap_or_else(Key::fresh);
        let mut tries = Tries::begin(key);
        loop {
            let token = match C::TOKEN {
                true => Some(self.0.tokens.get(async || self.fetch_token().await).await?),
                false => None,
            };
            let status = match self.attempt(request, &options, &tries, token.as_deref()).await {
                Ok(answer) => {
                    warn_of(answer.metadata());
                    return Ok(answer.into_inner());
                }
                Err(status) => status,
            };
            if let Some(token) = token.filter(|_| status.code() == Code::Unauthenticated && !tries.renewed) {
                self.0.tokens.forget(&token);
                tries.renewed = true;
                continue;
            }
            match tries.pause_after(&status, self.settings().throttle_limit) {
                Ok(pause) => self.clock().pause(pause).await,
                Err(throttled) => return Err(Fault { throttled, ..self.fault(status) }),
            }
        }
    }

    /// Opens a stream of answers. It is not opened again; whoever reads it knows from where on.
    pub(crate) async fn stream<C: Streamed>(&self, request: &C) -> Result<Streaming<C::Answer>, Fault> {
        let opening = async { open_stream(self.channel().await?, request, self.headers()).await };
        let opened = tokio::time::timeout(CALL_LIMIT, opening).await;
        opened.map_err(|_| Fault::late(CALL_LIMIT))?.map_err(|status| self.fault(status))
    }

    async fn attempt<C: Call>(
        &self,
        request: &C,
        options: &Options,
        tries: &Tries,
        token: Option<&str>,
    ) -> Result<Response<C::Answer>, Status> {
        let mut metadata = self.headers();
        tries.add_to(&mut metadata);
        for (name, value) in
            [("x-modal-auth-token", token), ("x-modal-sandbox-token", options.sandbox_token.as_deref())]
        {
            if let Some(value) = value {
                metadata.insert(name, secret(value)?);
            }
        }
        let answering = async { unary(self.channel().await?, request, metadata).await };
        match tokio::time::timeout(options.limit, answering).await {
            Ok(answered) => answered,
            Err(_) => Err(Status::deadline_exceeded(Fault::late(options.limit).message)),
        }
    }

    fn fetch_token(&self) -> BoxFuture<'_, Result<String, Fault>> {
        let options = Options { limit: TOKEN_LIMIT, ..Options::default() };
        async { Ok(self.call(&api::AuthTokenGetRequest {}, options).await?.token) }.boxed()
    }

    async fn channel(&self) -> Result<Channel, Status> {
        let servers = &self.settings().servers;
        let connected = self.0.channel.get_or_try_init(|| channel::first(servers)).await;
        connected.cloned().map_err(|fault| Status::new(fault.code, fault.message))
    }

    /// The headers of every call.
    fn headers(&self) -> MetadataMap {
        let settings = self.settings();
        let mut metadata = MetadataMap::new();
        let kind = settings.identity.kind.to_string();
        let own = [
            ("x-modal-client-type", kind.as_str()),
            ("x-modal-client-version", settings.identity.version.as_str()),
            ("x-modal-token-id", settings.token_id.as_str()),
        ];
        let more = settings.identity.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.into_iter().chain(more) {
            // Settings that fit into no header are refused by the server, which misses them.
            if let (Ok(name), Ok(value)) = (MetadataKey::<Ascii>::from_bytes(name.as_bytes()), value.parse())
            {
                metadata.insert(name, value);
            }
        }
        if let Ok(value) = secret(settings.token_secret.expose()) {
            metadata.insert("x-modal-token-secret", value);
        }
        metadata
    }

    fn fault(&self, status: Status) -> Fault {
        let source = (status.code() == Code::Unauthenticated).then(|| self.settings().source.clone());
        Fault { source, ..Fault::from(status) }
    }
}

/// The attempts of one call.
struct Tries {
    key: Key,
    begun: Instant,
    attempt: u32,
    throttled: u32,
    waited: Duration,
    /// Whether the short-lived token was fetched anew.
    renewed: bool,
}

impl Tries {
    fn begin(key: Key) -> Self {
        let begun = Instant::now();
        Self { key, begun, attempt: 0, throttled: 0, waited: Duration::ZERO, renewed: false }
    }

    /// How long to wait before the next attempt; where there is none, for how long the server kept us away.
    fn pause_after(&mut self, status: &Status, limit: Duration) -> Result<Duration, Option<Duration>> {
        if let Some(pause) = retry::throttle(status) {
            self.throttled += 1;
            self.waited += pause;
            return if self.waited > limit { Err(Some(limit)) } else { Ok(pause) };
        }
        if !retry::is_passing(status.code()) || self.attempt == CONTROL.retries {
            return Err(None);
        }
        self.attempt += 1;
        Ok(CONTROL.pause(self.attempt))
    }

    fn add_to(&self, metadata: &mut MetadataMap) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut add = |name: &'static str, value: String| {
            if let Ok(value) = value.parse() {
                metadata.insert(name, value);
            }
        };
        add("x-idempotency-key", self.key.to_string());
        add("x-retry-attempt", self.attempt.to_string());
        add("x-throttle-retry-attempt", self.throttled.to_string());
        add("x-modal-timestamp", format!("{:.6}", now.as_secs_f64()));
        if self.attempt > 0 {
            add("x-retry-delay", format!("{:.3}", self.begun.elapsed().as_secs_f64()));
        }
        if self.throttled > 0 {
            add("x-throttle-retry-delay", format!("{:.3}", self.waited.as_secs_f64()));
        }
    }
}

/// One attempt of a call with one answer.
pub(super) async fn unary<C: Call>(
    channel: Channel,
    request: &C,
    metadata: MetadataMap,
) -> Result<Response<C::Answer>, Status> {
    let mut grpc = grpc(channel).await?;
    let codec = ProstCodec::<C, C::Answer>::default();
    grpc.unary(with(request, metadata), PathAndQuery::from_static(C::PATH), codec).await
}

/// One attempt to open a stream of answers.
pub(super) async fn open_stream<C: Streamed>(
    channel: Channel,
    request: &C,
    metadata: MetadataMap,
) -> Result<Streaming<C::Answer>, Status> {
    let mut grpc = grpc(channel).await?;
    let codec = ProstCodec::<C, C::Answer>::default();
    let path = PathAndQuery::from_static(C::PATH);
    Ok(grpc.server_streaming(with(request, metadata), path, codec).await?.into_inner())
}

async fn grpc(channel: Channel) -> Result<tonic::client::Grpc<Channel>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    grpc.ready().await.map_err(|error| Status::unavailable(super::fault::root(&error)))?;
    Ok(grpc)
}

fn with<M: Clone>(message: &M, metadata: MetadataMap) -> Request<M> {
    let mut request = Request::new(message.clone());
    *request.metadata_mut() = metadata;
    request
}

/// The value of a header that no log shows.
pub(super) fn secret(text: &str) -> Result<MetadataValue<Ascii>, Status> {
    let mut value: MetadataValue<Ascii> =
        text.parse().map_err(|_| Status::invalid_argument("a credential does not fit into a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Repeats what the server warns of.
fn warn_of(metadata: &MetadataMap) {
    for warning in metadata.get_all("x-modal-warning") {
        if let Ok(text) = warning.to_str() {
            tracing::warn!("Modal warns: {}", percent_decoded(text));
        }
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
