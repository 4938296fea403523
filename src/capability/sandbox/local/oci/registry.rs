//! Fetches images from a registry (OCI distribution specification), without a daemon. The registry is hostile until
//! proven otherwise: digests and sizes are checked while bytes come in, and everything has a limit.

use super::document::{self, ACCEPTED, DOCUMENT_LIMIT, Descriptor, Document, ImageManifest, parse_digest};
use super::layout::check;
use super::login::{self, Challenge, Found, Token};
use super::reference::{Reference, is_loopback};
use super::{invalid, too_large};
use crate::capability::{CapabilityError, Result, http_client};
use crate::id::Digest;
use crate::step::ErrorKind;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Longest silence of a registry within an answer.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// How long a document may take, tries and tokens included.
const DOCUMENT_TIME: Duration = Duration::from_secs(5 * 60);
/// How long a layer may take, all tries together.
const LAYER_TIME: Duration = Duration::from_secs(2 * 60 * 60);
/// Bytes of one layer as it is sent. The largest that are in use have 15 GiB.
const LAYER_LIMIT: u64 = 32 << 30;
/// Bytes of a token with what is said of it.
const TOKEN_LIMIT: u64 = 1 << 20;
/// Indexes within indexes.
const NESTING_LIMIT: usize = 4;
/// Redirects of one request.
const REDIRECTS_LIMIT: usize = 5;
/// Failures of one document or layer that are tried again.
const RETRIES: u32 = 4;
/// Pause before the first try again; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest pause that a registry can ask for.
const PAUSE_LIMIT: Duration = Duration::from_secs(30);

/// One repository of a registry.
pub(super) struct Registry {
    client: reqwest::Client,
    reference: Reference,
    /// `SCHEME://HOST/v2/REPOSITORY`.
    base: String,
    plain_http: bool,
    found: Found,
    /// What requests carry, once the registry has asked for it.
    authorization: Mutex<Option<HeaderValue>>,
}

/// Why a request did not succeed: for good, or so that it is tried again, after the pause that was asked for.
enum Trouble {
    Final(CapabilityError),
    Passing(CapabilityError, Option<Duration>),
}

impl Registry {
    /// Plain http is spoken with this machine, and with others only where `plain_http` says so.
    pub(super) fn new(reference: Reference, found: Found, plain_http: bool) -> Result<Self> {
        let host = reference.host().to_owned();
        let name = host
            .rsplit_once(':')
            .filter(|(_, port)| port.parse::<u16>().is_ok())
            .map_or(&*host, |(name, _)| name);
        let here = is_loopback(name);
        let plain_http = plain_http || here;
        let scheme = if plain_http { "http" } else { "https" };
        let mut builder = http_client::builder()
            .user_agent(concat!("harvest/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(SILENCE_LIMIT)
            .redirect(redirects(plain_http))
            // A name of this machine is this machine, whatever a resolver says.
            .resolve_to_addrs(
                "localhost",
                &[SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))],
            );
        if here {
            builder = builder.no_proxy();
        }
        let client = http_client::build(builder)?;
        let base = format!("{scheme}://{host}/v2/{}", reference.repository);
        Ok(Self { client, reference, base, plain_http, found, authorization: Mutex::default() })
    }

    /// Configuration and layers, lowest first, of the image for this machine.
    pub(super) async fn image(&self) -> Result<(Vec<u8>, Vec<Descriptor>)> {
        let wanted = self.reference.wanted();
        let mut json = self.document(&format!("manifests/{wanted}")).await?;
        if let Some(digest) = &self.reference.digest {
            check(&json, digest, json.len() as u64)?;
        }
        for _ in 0..NESTING_LIMIT {
            let ImageManifest { config, layers } = match Document::parse(&json)? {
                Document::Index(entries) => {
                    json = self.named(document::choose(&entries)?, "manifests").await?;
                    continue;
                }
                Document::Manifest(manifest) => manifest,
            };
            return Ok((self.named(&config, "blobs").await?, layers));
        }
        Err(invalid(format!("the image has indexes within indexes, more than {NESTING_LIMIT} deep")))
    }

    /// A document that another one names, checked against it.
    async fn named(&self, descriptor: &Descriptor, kind: &str) -> Result<Vec<u8>> {
        let digest = descriptor.digest()?;
        let content = self.document(&format!("{kind}/{digest}")).await?;
        check(&content, &digest, descriptor.size)?;
        Ok(content)
    }

    async fn document(&self, path: &str) -> Result<Vec<u8>> {
        let fetched = async {
            let mut failures = 0;
            loop {
                match self.fetch(path).await {
                    Ok(content) => return Ok(content),
                    Err(trouble) => self.pause(trouble, &mut failures).await?,
                }
            }
        };
        tokio::time::timeout(DOCUMENT_TIME, fetched).await.map_err(|_| self.late(DOCUMENT_TIME))?
    }

    async fn fetch(&self, path: &str) -> Result<Vec<u8>, Trouble> {
        let response = self.get(path, 0).await?;
        let said = response.headers().get("docker-content-digest").and_then(|said| said.to_str().ok());
        let said = said.and_then(|said| parse_digest(said).ok());
        let content = self.body(response, DOCUMENT_LIMIT).await?;
        if let Some(digest) = said {
            check(&content, &digest, content.len() as u64).map_err(Trouble::Final)?;
        }
        Ok(content)
    }

    /// Writes a layer into an empty file. What was received stays where a try breaks off, and the next goes on there.
    pub(super) async fn layer(&self, descriptor: &Descriptor, file: File) -> Result<File> {
        let digest = descriptor.digest()?;
        if descriptor.size > LAYER_LIMIT {
            return Err(too_large(format!("layer {digest} has more than {} GiB", LAYER_LIMIT >> 30)));
        }
        let mut download = Download {
            file: tokio::fs::File::from_std(file),
            hash: Sha256::new(),
            count: 0,
            size: descriptor.size,
        };
        let received = async {
            let (mut failures, path) = (0, format!("blobs/{digest}"));
            loop {
                match self.receive(&path, &mut download).await {
                    Ok(()) => return Ok(()),
                    Err(trouble) => self.pause(trouble, &mut failures).await?,
                }
            }
        };
        tokio::time::timeout(LAYER_TIME, received).await.map_err(|_| self.late(LAYER_TIME))??;
        if Digest::from(download.hash) != digest {
            return Err(invalid(format!(
                "layer {digest} is not what its digest says: it is damaged or forged"
            )));
        }
        download.file.flush().await.map_err(|error| CapabilityError::io("keep a layer", &error))?;
        Ok(download.file.into_std().await)
    }

    async fn receive(&self, path: &str, download: &mut Download) -> Result<(), Trouble> {
        let mut response = self.get(path, download.count).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            download.restart().await.map_err(Trouble::Final)?;
        }
        while let Some(piece) = response.chunk().await.map_err(|error| self.broken(error))? {
            download.take(&piece).await.map_err(Trouble::Final)?;
        }
        if download.count < download.size {
            return Err(Trouble::Passing(
                self.error(ErrorKind::NETWORK, "sent less than it had announced"),
                None,
            ));
        }
        Ok(())
    }

    /// Waits before another try, or says that there is no point.
    async fn pause(&self, trouble: Trouble, failures: &mut u32) -> Result<()> {
        let (error, asked) = match trouble {
            Trouble::Final(error) => return Err(error),
            Trouble::Passing(error, asked) => (error, asked),
        };
        if *failures >= RETRIES {
            return Err(error);
        }
        tokio::time::sleep(asked.unwrap_or(PAUSE * 2_u32.pow(*failures)).min(PAUSE_LIMIT)).await;
        *failures += 1;
        Ok(())
    }

    /// Asks for a path of the repository, from this byte on; authenticates where the registry wants it.
    async fn get(&self, path: &str, from: u64) -> Result<Response, Trouble> {
        let mut authenticated = false;
        loop {
            let mut request =
                self.client.get(format!("{}/{path}", self.base)).header(ACCEPT, ACCEPTED.join(", "));
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let authorization = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(value) = authorization {
                request = request.header(AUTHORIZATION, value);
            }
            let response = request.send().await.map_err(|error| self.broken(error))?;
            if response.status() == StatusCode::UNAUTHORIZED && !authenticated {
                self.authenticate(response.headers()).await?;
                authenticated = true;
                continue;
            }
            return self.judge(response);
        }
    }

    fn judge(&self, response: Response) -> Result<Response, Trouble> {
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        match status {
            _ if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Trouble::Final(self.denied())),
            StatusCode::NOT_FOUND => {
                Err(Trouble::Final(self.error(ErrorKind::NOT_FOUND, "does not have it (status 404)")))
            }
            StatusCode::TOO_MANY_REQUESTS => Err(Trouble::Passing(
                self.error(
                    ErrorKind::RATE_LIMITED,
                    "has been asked too often (status 429); wait, or use credentials",
                ),
                asked.map(Duration::from_secs),
            )),
            _ if status.is_server_error() => Err(Trouble::Passing(
                self.error(ErrorKind::NETWORK, &format!("answers with status {}", status.as_u16())),
                asked.map(Duration::from_secs),
            )),
            _ => {
                let message = format!("answers with status {}", status.as_u16());
                Err(Trouble::Final(self.error(ErrorKind::OTHER, &message)))
            }
        }
    }

    /// Gets what the registry wants to see: a token, or the credentials themselves.
    async fn authenticate(&self, headers: &HeaderMap) -> Result<(), Trouble> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).into_iter();
        let challenge = challenges.filter_map(|value| login::challenge(value.to_str().ok()?)).next();
        let basic = self.found.login.as_ref().map(|login| format!("Basic {}", login.0.expose()));
        let text = match (challenge, basic) {
            (Some(Challenge::Basic), Some(basic)) => basic,
            (Some(Challenge::Bearer { realm, service }), basic) => {
                format!("Bearer {}", self.token(&realm, service, basic).await?)
            }
            (Some(Challenge::Basic) | None, _) => return Err(Trouble::Final(self.denied())),
        };
        let value = secret_header(&text).map_err(Trouble::Final)?;
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<String>,
        basic: Option<String>,
    ) -> Result<String, Trouble> {
        let wrong = |what: &str| Trouble::Final(self.error(ErrorKind::INVALID, what));
        let mut url = Url::parse(realm).map_err(|_| wrong("wants a token from what is no URL"))?;
        // The credentials go there.
        if !(url.scheme() == "https" || (url.scheme() == "http" && self.plain_http)) {
            return Err(wrong("wants a token over an insecure connection"));
        }
        let scope = format!("repository:{}:pull", self.reference.repository);
        url.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("scope", &scope);
        let mut request = self.client.get(url);
        if let Some(basic) = basic {
            request = request.header(AUTHORIZATION, secret_header(&basic).map_err(Trouble::Final)?);
        }
        let response = self.judge(request.send().await.map_err(|error| self.broken(error))?)?;
        let json = self.body(response, TOKEN_LIMIT).await?;
        let token = serde_json::from_slice::<Token>(&json).ok().and_then(Token::text);
        token.ok_or_else(|| wrong("hands out something that is no token"))
    }

    async fn body(&self, mut response: Response, limit: u64) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.broken(error))? {
            body.extend_from_slice(&piece);
            if body.len() as u64 > limit {
                let message = format!("sends a document of more than {} MiB", limit >> 20);
                return Err(Trouble::Final(self.error(ErrorKind::TOO_LARGE, &message)));
            }
        }
        Ok(body)
    }

    fn denied(&self) -> CapabilityError {
        let registry = &self.reference.registry;
        self.error(
            ErrorKind::DENIED,
            &match (&self.found.login, self.found.elsewhere) {
                (Some(_), _) => "does not have it, or denies it to the credentials that are given".to_owned(),
                (None, true) => format!(
                    "does not have it, or wants credentials; those for {registry} are kept by a program of Docker's, which is \
                     not run: pass `--auth-file` with a config.json that has them in `auths`"
                ),
                (None, false) => format!(
                    "does not have it, or wants credentials: put them for {registry} into `auths` of ~/.docker/config.json, \
                     or pass `--auth-file`"
                ),
            },
        )
    }

    fn late(&self, limit: Duration) -> CapabilityError {
        self.error(
            ErrorKind::TIMED_OUT,
            &format!("is too slow: not done in {} minutes", limit.as_secs() / 60),
        )
    }

    /// An error of the connection, without the URL: a redirect's may be what lets one in.
    fn broken(&self, error: reqwest::Error) -> Trouble {
        let error = error.without_url();
        let cause = http_client::cause(&error);
        if error.is_redirect() {
            return Trouble::Final(
                self.error(ErrorKind::INVALID, &format!("redirects where it must not: {cause}")),
            );
        }
        Trouble::Passing(self.error(ErrorKind::NETWORK, &format!("is not reached: {cause}")), None)
    }

    fn error(&self, kind: ErrorKind, what: &str) -> CapabilityError {
        let Reference { registry, repository, .. } = &self.reference;
        CapabilityError::new(
            kind,
            format!("cannot pull {repository}:{} - {registry} {what}", self.reference.wanted()),
        )
    }
}

/// Follows a registry to where its layers lie, never from https to http. Credentials do not go along to other hosts.
fn redirects(plain_http: bool) -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_LIMIT {
            return attempt.error("too many redirects");
        }
        match attempt.url().scheme() {
            "https" => attempt.follow(),
            "http" if plain_http => attempt.follow(),
            _ => attempt.error("from https to an insecure connection"),
        }
    })
}

fn secret_header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| invalid("the registry's token does not fit into a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A layer as far as it has come in.
struct Download {
    file: tokio::fs::File,
    hash: Sha256,
    count: u64,
    size: u64,
}

impl Download {
    async fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.count += piece.len() as u64;
        if self.count > self.size {
            return Err(invalid(format!("the registry sends more of a layer than its {} bytes", self.size)));
        }
        self.hash.update(piece);
        self.file.write_all(piece).await.map_err(|error| CapabilityError::io("keep a layer", &error))
    }

    /// Begins anew, for a registry that sends all of it again.
    async fn restart(&mut self) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let failed = |error: std::io::Error| CapabilityError::io("keep a layer", &error);
        self.file.set_len(0).await.map_err(failed)?;
        self.file.rewind().await.map_err(failed)?;
        (self.hash, self.count) = (Sha256::new(), 0);
        Ok(())
    }
}
