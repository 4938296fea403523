//! Connections from inside a sandbox to a port of its loopback, as the host accepts them.

use super::channel::Channel;
use super::plan::Reply;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::either::Either;

/// A connection, whichever way it comes.
pub(super) type Connection = Either<TcpStream, UnixStream>;

/// Who accepts.
pub(in crate::capability::sandbox) enum Listener {
    /// The host, on a socket that it was handed out of the sandbox.
    Handed(TcpListener, SocketAddr),
    /// A process inside, which passes the bytes on.
    Relayed(Channel, SocketAddr),
}

impl Listener {
    /// From a socket of the kernel that the host shares with the sandbox. Needs a tokio runtime.
    pub(super) fn handed(listener: std::net::TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        Ok(Self::Handed(TcpListener::from_std(listener)?, address))
    }

    /// Where the sandbox connects to.
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Handed(_, address) | Self::Relayed(_, address) => *address,
        }
    }

    /// The next connection, `None` where there will be no more.
    pub(super) async fn accept(&self) -> io::Result<Option<Connection>> {
        match self {
            Self::Handed(listener, _) => {
                let (stream, _) = listener.accept().await?;
                // Events must leave at once, not when a packet is full.
                drop(stream.set_nodelay(true));
                Ok(Some(Either::Left(stream)))
            }
            Self::Relayed(channel, _) => {
                let Some((Reply::Connection, _)) = channel.receive::<Reply>().await? else { return Ok(None) };
                let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
                channel.send(&(), &[theirs.as_fd()]).await?;
                ours.set_nonblocking(true)?;
                Ok(Some(Either::Right(UnixStream::from_std(ours)?)))
            }
        }
    }
}
