//! The GitHub API of a repository: where it is, and single requests to it. The token goes into a header here and nowhere
//! else; no redirect is followed, so it goes to no other place.

use super::address::{Address, Location};
use super::settings::Settings;
use super::{Answer, Method};
use crate::capability::secret::Secret;
use crate::capability::{CapabilityError, Result, http_client};
use crate::step::ErrorKind;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The form of requests and answers.
const VERSION: &str = "2022-11-28";
/// How long a whole request may take, its answer included.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a request's body: GitHub takes 65,536 characters of a description.
const BODY_LIMIT: usize = 1 << 20;
/// Bytes of an answer: a page of pull requests has about one MiB.
const ANSWER_LIMIT: usize = 8 << 20;
/// Longest path, in bytes.
const PATH_LIMIT: usize = 2048;

/// Where the API of one repository is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Api {
    /// `https://api.github.com/repos/OWNER/NAME`.
    base: String,
    host: String,
}

fn invalid(message: impl Into<String>) -> CapabilityError {
    CapabilityError::new(ErrorKind::INVALID, message)
}

impl Api {
    /// The API of a repository that lies on GitHub or on an Enterprise server.
    pub(super) fn of(address: &Address) -> Result<Self> {
        let nowhere = || {
            invalid(format!(
                "{} lies on no GitHub server; write owner/name, or https://HOST/owner/name",
                address.identity
            ))
        };
        let Location::Remote { url, origin } = &address.location else { return Err(nowhere()) };
        let path = url.strip_prefix(origin.as_str()).ok_or_else(nowhere)?.trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path);
        match path.split('/').collect::<Vec<_>>()[..] {
            [owner, name] if !owner.is_empty() && !name.is_empty() => {}
            _ => return Err(nowhere()),
        }
        let (scheme, host) = origin.split_once("://").ok_or_else(nowhere)?;
        let root = if host == "github.com" || host.ends_with(".ghe.com") {
            format!("{scheme}://api.{host}")
        } else {
            format!("{origin}/api/v3")
        };
        Ok(Self { base: format!("{root}/repos/{path}"), host: host.to_owned() })
    }

    /// Sends one request.
    pub(super) async fn ask(
        &self,
        settings: &Settings,
        credential: &Secret,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer> {
        let url = self.url(path)?;
        let client = client(settings)?;
        let mut request = match method {
            Method::Get => client.get(url),
            Method::Post => client.post(url),
        };
        request = request
            .headers(headers(credential)?)
            .header(ACCEPT, "application/vnd.github+json")
            .header("x-github-api-version", VERSION);
        if let Some(body) = body {
            if body.len() > BODY_LIMIT {
                let message = format!("a request has at most {} MiB", BODY_LIMIT >> 20);
                return Err(CapabilityError::new(ErrorKind::TOO_LARGE, message));
            }
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let mut response = request.send().await.map_err(|error| self.failed(error))?;
        let status = response.status().as_u16();
        if let Some(message) = limited(status, response.headers()) {
            let message = format!("{} answers too many requests with status {status}; {message}", self.host);
            return Err(CapabilityError::new(ErrorKind::RATE_LIMITED, message));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + piece.len() > ANSWER_LIMIT {
                let message = format!("{} answered with more than {} MiB", self.host, ANSWER_LIMIT >> 20);
                return Err(CapabilityError::new(ErrorKind::TOO_LARGE, message));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Answer { status, body })
    }

    /// The URL of a path below the repository, which it never leaves.
    fn url(&self, path: &str) -> Result<reqwest::Url> {
        let plain = path.split(['?', '#']).next().unwrap_or_default();
        let fits = path.len() <= PATH_LIMIT
            && (path.is_empty() || path.starts_with(['/', '?']))
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#')
            && !plain.contains('%')
            && plain.split('/').all(|part| part != "." && part != "..");
        if !fits {
            return Err(invalid(format!("{path:?} is no path below a repository of the API")));
        }
        reqwest::Url::parse(&format!("{}{path}", self.base))
            .map_err(|error| invalid(format!("the API's URL is malformed: {error}")))
    }

    fn failed(&self, error: reqwest::Error) -> CapabilityError {
        let slow = error.is_timeout() && !error.is_connect();
        let kind = if slow { ErrorKind::TIMED_OUT } else { ErrorKind::NETWORK };
        let error = error.without_url();
        let cause = http_client::cause(&error);
        CapabilityError::new(kind, format!("cannot ask the API of {}: {cause}", self.host))
    }
}

/// A client that trusts what git trusts.
fn client(settings: &Settings) -> Result<reqwest::Client> {
    let mut builder = http_client::builder()
        .user_agent(concat!("harvest/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_LIMIT)
        .timeout(TIME_LIMIT);
    if let Some(file) = settings.authorities() {
        let read = |file: &str| {
            let pem = std::fs::read(file).map_err(|error| error.to_string())?;
            reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string())
        };
        let certificates = read(file).map_err(|error| {
            CapabilityError::new(
                ErrorKind::UNAVAILABLE,
                format!("cannot read certificates of {file}: {error}"),
            )
        })?;
        builder = builder.tls_certs_merge(certificates);
    }
    http_client::build(builder)
}

/// The header with the token, marked so that no log shows it.
fn headers(credential: &Secret) -> Result<HeaderMap> {
    // A credential for git may name a user too; tokens hold no colon.
    let token = credential.expose();
    let token = token.split_once(':').map_or(token, |(_, token)| token);
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| invalid(format!("secret {} does not fit into a header", credential.name())))?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// Whether an answer means that one asked too often, and when to ask again.
fn limited(status: u16, headers: &HeaderMap) -> Option<String> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let after = number("retry-after");
    let spent = number("x-ratelimit-remaining") == Some(0);
    if status != 429 && !(status == 403 && (after.is_some() || spent)) {
        return None;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let reset = number("x-ratelimit-reset").filter(|_| spent).map(|reset| reset.saturating_sub(now));
    Some(match after.or(reset) {
        Some(seconds) => format!("ask again in {seconds} s"),
        None => "ask again in a minute".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::git::address::GITHUB;

    fn base(repo: &str) -> Result<String> {
        Ok(Api::of(&Address::parse(repo, GITHUB).unwrap())?.base)
    }

    #[test]
    fn each_server_has_its_api() {
        assert_eq!(base("Ann/harvest").unwrap(), "https://api.github.com/repos/Ann/harvest");
        assert_eq!(base("https://github.com/a/b.git").unwrap(), "https://api.github.com/repos/a/b");
        assert_eq!(base("https://team.ghe.com/a/b").unwrap(), "https://api.team.ghe.com/repos/a/b");
        assert_eq!(
            base("https://git.example:8443/a/b").unwrap(),
            "https://git.example:8443/api/v3/repos/a/b"
        );
        for nowhere in ["https://git.example/group/sub/b", "https://git.example/b", "/"] {
            assert_eq!(base(nowhere).unwrap_err().kind, ErrorKind::INVALID, "{nowhere}");
        }
    }

    #[test]
    fn a_path_stays_below_the_repository() {
        let api = Api::of(&Address::parse("a/b", GITHUB).unwrap()).unwrap();
        let url = |path: &str| api.url(path).map(|url| url.to_string());
        assert_eq!(url("").unwrap(), "https://api.github.com/repos/a/b");
        assert_eq!(
            url("/pulls?head=a:x%2F..%2F").unwrap(),
            "https://api.github.com/repos/a/b/pulls?head=a:x%2F..%2F"
        );
        for bad in
            ["pulls", "/../c", "/pulls/%2e%2e/c", "/./x", "/a b", "/a#b", "@evil.example", "/é", "/\\.."]
        {
            assert_eq!(url(bad).unwrap_err().kind, ErrorKind::INVALID, "{bad}");
        }
    }

    #[test]
    fn limits_are_told_from_refusals() {
        let told = |status: u16, pairs: &[(&'static str, &str)]| {
            let header =
                |(name, value): &(&'static str, &str)| ((*name).try_into().unwrap(), value.parse().unwrap());
            limited(status, &pairs.iter().map(header).collect::<HeaderMap>())
        };
        assert_eq!(told(429, &[]).as_deref(), Some("ask again in a minute"));
        assert_eq!(told(403, &[("retry-after", "30")]).as_deref(), Some("ask again in 30 s"));
        let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")];
        assert_eq!(told(403, &spent).as_deref(), Some("ask again in 0 s"));
        assert_eq!(told(403, &[("x-ratelimit-remaining", "5")]), None);
        assert_eq!(told(200, &spent), None);
    }
}
