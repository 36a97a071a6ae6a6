//! A stream of HTTP/2 as one end of a tunnel (RFC 9113 section 8.5): DATA is its bytes, END_STREAM the end of a
//! direction, RST_STREAM the reset of TCP.
//!
//! `http2` makes one of each CONNECT that it answers with 200.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::forward::relay::Duplex;

/// Both directions of a stream. Dropped before both have ended, it is reset.
pub(super) struct Stream {
    from_client: RecvStream,
    to_client: SendStream<Bytes>,
    /// What has come and was not taken yet. The client may send as much more as has been taken.
    received: Bytes,
    /// The client has ended its direction.
    client_ended: bool,
    /// We have ended ours.
    shut: bool,
}

impl Stream {
    pub(super) fn new(from_client: RecvStream, to_client: SendStream<Bytes>) -> Self {
        Self { from_client, to_client, received: Bytes::new(), client_ended: false, shut: false }
    }

    /// As of TCP, where writing to who has ended and gone is EPIPE, and to who just broke off ECONNRESET.
    fn gone(&self) -> io::Error {
        if self.client_ended { io::ErrorKind::BrokenPipe.into() } else { io::ErrorKind::ConnectionReset.into() }
    }
}

impl Duplex for Stream {
    fn reset(&mut self) {
        self.to_client.send_reset(Reason::CONNECT_ERROR);
    }

    fn poll_failed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.to_client.poll_reset(context).map(|_reason| ())
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.received.is_empty() {
            match ready!(self.from_client.poll_data(context)) {
                Some(Ok(bytes)) => self.received = bytes,
                // Whatever its reason says, a reset is no end of what was sent.
                Some(Err(_)) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                // Trailers, which a tunnel has none of.
                None if !self.from_client.is_end_stream() => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                None => {
                    self.client_ended = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        let length = self.received.len().min(into.remaining());
        into.put_slice(&self.received.split_to(length));
        // It fails for a stream that is over: then nobody waits for it.
        let _ = self.from_client.flow_control().release_capacity(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.to_client.reserve_capacity(bytes.len());
        while self.to_client.capacity() == 0 {
            match ready!(self.to_client.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(self.gone())),
            }
        }
        let mut rest = bytes;
        let piece = rest.copy_to_bytes(self.to_client.capacity().min(bytes.len()));
        let length = piece.len();
        Poll::Ready(self.to_client.send_data(piece, false).map(|()| length).map_err(|_| self.gone()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        self.shut = true;
        Poll::Ready(self.to_client.send_data(Bytes::new(), true).map_err(|_| self.gone()))
    }
}
