//! The host's end of a sequenced-packet socket, for async code. Dropping it tells the other end to stop.

use super::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(in crate::capability::sandbox) struct Channel(AsyncFd<OwnedFd>);

impl Channel {
    /// Takes a socket of [`wire::pair`]. Needs a tokio runtime.
    pub(in crate::capability::sandbox) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        // SAFETY: an owned descriptor stays open and the same until it is dropped, with the registration.
        Ok(Self(unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE | Interest::WRITABLE) }?))
    }

    /// Sends one message. Cancel-safe: it is sent whole or not at all.
    pub(in crate::capability::sandbox) async fn send(
        &self,
        message: &impl Serialize,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.0.async_io(Interest::WRITABLE, |socket| wire::send(socket.as_fd(), message, fds)).await
    }

    /// Receives one message, `None` once the other end is closed. Cancel-safe.
    pub(in crate::capability::sandbox) async fn receive<T: DeserializeOwned>(
        &self,
    ) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        self.0.async_io(Interest::READABLE, |socket| wire::receive(socket.as_fd())).await
    }

    /// Tells the other end that nothing more will come, while this value lives on.
    pub(in crate::capability::sandbox) fn shut_down(&self) {
        let _ = rustix::net::shutdown(self.0.get_ref(), rustix::net::Shutdown::Both);
    }
}
