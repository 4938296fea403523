//! A connection that can be cut at will, as a network would.

use futures_util::task::AtomicWaker;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// To be cut once what is written next is on its way.
const ARMED: u8 = 1;
/// That was written.
const WRITTEN: u8 = 2;
const CUT: u8 = 3;
// 0 is a connection that is left alone.

/// Cuts one connection.
#[derive(Clone, Default)]
pub(crate) struct Cut(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: AtomicU8,
    reader: AtomicWaker,
}

impl Cut {
    /// Cuts it now.
    pub(crate) fn now(&self) {
        self.0.state.store(CUT, Ordering::SeqCst);
        self.0.reader.wake();
    }

    /// Cuts it once the next bytes have been written.
    pub(crate) fn after_write(&self) {
        self.0.state.store(ARMED, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        match self.0.state.load(Ordering::SeqCst) {
            CUT => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Ok(()),
        }
    }
}

/// A connection of a client.
pub(crate) struct Connection {
    stream: TcpStream,
    cut: Cut,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, cut: Cut) -> Self {
        Self { stream, cut }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.cut.0.reader.register(context.waker());
        self.cut.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.cut.check()?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, data))?;
        let state = &self.cut.0.state;
        // Whatever else it is, it stays.
        let _ = state.compare_exchange(ARMED, WRITTEN, Ordering::SeqCst, Ordering::SeqCst);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.cut.0.state.load(Ordering::SeqCst) == WRITTEN {
            self.cut.now();
        }
        Poll::Ready(self.cut.check())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
