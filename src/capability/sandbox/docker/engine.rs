//! The engine: where its socket is, and what its answers mean.

use crate::capability::{CapabilityError, Result};
use crate::step::ErrorKind;
use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};
use std::fmt::Display;
use std::path::PathBuf;

/// Longest time that the engine may take over one request, in seconds.
const REQUEST_LIMIT_S: u64 = 600;
/// What to do where there is no engine.
pub(super) const INSTALL: &str = "install and start an engine (`apt-get install docker.io` or `apt-get install podman && systemctl enable --now \
     podman.socket` on Debian and Ubuntu), or point DOCKER_HOST at the socket of one: unix:///path";

/// A client of the engine of this machine. `unavailable`, with what to do, where there is none.
pub async fn connect() -> Result<Docker> {
    let socket = socket()?;
    let shown = socket.display();
    let client = Docker::connect_with_unix(&socket.to_string_lossy(), REQUEST_LIMIT_S, API_DEFAULT_VERSION)
        .map_err(|error| unavailable(format!("the socket {shown}: {error}")))?;
    client
        .negotiate_version()
        .await
        .map_err(|error| unavailable(format!("no engine answers at {shown}: {error}; {INSTALL}")))
}

pub(super) fn unavailable(why: impl Display) -> CapabilityError {
    CapabilityError::new(ErrorKind::UNAVAILABLE, format!("the provider `docker` cannot be used: {why}"))
}

/// DOCKER_HOST, else the first of the usual places that is there.
fn socket() -> Result<PathBuf> {
    if let Some(host) = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()) {
        return match host.strip_prefix("unix://") {
            Some(path) => Ok(path.into()),
            None => Err(unavailable(format!(
                "DOCKER_HOST is {host}, and harvest hands its streams to containers over a socket of this machine: \
                 name an engine that runs here, as unix:///path"
            ))),
        };
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = own
        .iter()
        .flat_map(|directory| [directory.join("docker.sock"), directory.join("podman/podman.sock")]);
    let usual = ["/var/run/docker.sock", "/run/podman/podman.sock"].map(PathBuf::from);
    usual
        .into_iter()
        .chain(own)
        .find(|path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok())
        .ok_or_else(|| unavailable(format!("there is no socket of an engine that you may use; {INSTALL}")))
}

/// Whether the engine says that there is no such thing.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

/// An error of the engine, for the caller.
pub(super) fn failed(doing: impl Display, error: &Error) -> CapabilityError {
    let kind = match error {
        Error::DockerResponseServerError { status_code, .. } => match status_code {
            404 => ErrorKind::NOT_FOUND,
            400 => ErrorKind::INVALID,
            409 => ErrorKind::CONFLICT,
            _ => ErrorKind::OTHER,
        },
        _ => ErrorKind::UNAVAILABLE,
    };
    CapabilityError::new(kind, format!("cannot {doing}: the engine says: {error}"))
}
