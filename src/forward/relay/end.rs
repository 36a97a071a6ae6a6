//! The two ends of a relay: TCP, or a stream of any other kind.
//!
//! `relay` reads and writes an end from both directions at once, so everything here works on a shared reference.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// One side of a relay.
pub struct End(pub(super) Kind);

pub(super) enum Kind {
    Tcp(TcpStream),
    /// Locked by one task only, each time for as long as a poll takes.
    Other(Mutex<Box<dyn Duplex>>),
}

/// A stream that is not just TCP: TLS, or one within HTTP/2.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {
    /// Ends it in such a way that what was sent so far does not look whole. It is dropped soon after; where it is dropped
    /// without this, it must not look whole either, unless it was shut down.
    fn reset(&mut self);

    /// Ready once the peer has given the stream up, whether or not all it sent has been read.
    fn poll_failed(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

impl End {
    pub fn other(stream: impl Duplex + 'static) -> Self {
        Self(Kind::Other(Mutex::new(Box::new(stream))))
    }

    /// Closes without the end of stream that would make what was sent so far look complete.
    pub(in crate::forward) fn reset(self) {
        match self.0 {
            Kind::Tcp(stream) => reset(&stream),
            Kind::Other(stream) => lock(&stream).reset(),
        }
    }

    pub(super) fn is_tcp(&self) -> bool {
        matches!(self.0, Kind::Tcp(_))
    }

    /// Waits until the connection has failed. Of TCP, bytes that came before may still be unread.
    pub(super) async fn failed(&self) {
        match &self.0 {
            Kind::Tcp(stream) => failed(stream).await,
            Kind::Other(stream) => poll_fn(|context| lock(stream).poll_failed(context)).await,
        }
    }
}

fn lock(stream: &Mutex<Box<dyn Duplex>>) -> MutexGuard<'_, Box<dyn Duplex>> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the connection has failed. Bytes that came before may still be unread.
pub(super) async fn failed(stream: &TcpStream) {
    // It is an error, too, if the runtime will not say.
    let _ = stream.ready(Interest::ERROR).await;
}

/// Makes the kernel send a reset, not an end of stream, when the socket is dropped.
pub(super) fn reset(stream: &TcpStream) {
    // A socket that refuses this is not connected any more.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl From<TcpStream> for End {
    fn from(stream: TcpStream) -> Self {
        Self(Kind::Tcp(stream))
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp(stream) => stream.fmt(f),
            Kind::Other(_) => f.write_str("End"),
        }
    }
}

impl AsyncRead for &End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = match &self.0 {
            Kind::Tcp(stream) => stream,
            Kind::Other(stream) => return Pin::new(&mut **lock(stream)).poll_read(context, into),
        };
        loop {
            ready!(stream.poll_read_ready(context))?;
            match stream.try_read(into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|read| into.advance(read))),
            }
        }
    }
}

impl AsyncWrite for &End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = match &self.0 {
            Kind::Tcp(stream) => stream,
            Kind::Other(stream) => return Pin::new(&mut **lock(stream)).poll_write(context, bytes),
        };
        loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Kind::Tcp(_) => Poll::Ready(Ok(())),
            Kind::Other(stream) => Pin::new(&mut **lock(stream)).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Kind::Tcp(stream) => Poll::Ready(SockRef::from(stream).shutdown(Shutdown::Write)),
            Kind::Other(stream) => Pin::new(&mut **lock(stream)).poll_shutdown(context),
        }
    }
}
