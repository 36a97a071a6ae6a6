//! The reading half of a connection, with what has been read and not been used yet.
//!
//! `inbound` and `outbound` read heads from it, `body` reads bodies; what follows a body stays for the next head.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::coop::unconstrained;

use crate::forward::head::{Head, HeadReader, ResponseHead};
use crate::forward::refusal::Refusal;

/// Bytes that are read at a time: a TLS record.
const READ: usize = 16 * 1024;

pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// The writing half of a connection.
pub(super) enum Writer {
    Plain(OwnedWriteHalf),
    Other(Box<dyn AsyncWrite + Send + Unpin>),
}

/// The two halves of a connection in the clear.
pub(super) fn plain_halves(stream: TcpStream) -> (Source, Writer) {
    let (reader, writer) = stream.into_split();
    (Source::new(Box::new(reader)), Writer::Plain(writer))
}

/// The two halves of any connection.
pub(super) fn halves(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> (Source, Writer) {
    let (reader, writer) = tokio::io::split(stream);
    (Source::new(Box::new(reader)), Writer::Other(Box::new(writer)))
}

impl Writer {
    /// Makes the end of the connection look like no end of what was sent. In TLS a missing farewell does that.
    pub(super) fn break_off(self) {
        if let Self::Plain(half) = self {
            let _ = half.as_ref().set_zero_linger();
            // It would say a proper end first.
            half.forget();
        }
    }

    fn inner(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match self {
            Self::Plain(half) => Pin::new(half),
            Self::Other(other) => Pin::new(&mut **other),
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}

pub(super) struct Source {
    reader: Reader,
    /// What has been read.
    pub buffer: BytesMut,
    heads: HeadReader,
    ended: bool,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("read", &self.buffer.len()).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Source {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, buffer: BytesMut::new(), heads: HeadReader::default(), ended: false }
    }

    /// Reads more; says whether there was any, or the far side has ended.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        if self.buffer.capacity() - self.buffer.len() < READ / 4 {
            self.buffer.reserve(READ);
        }
        let read = pin!(self.reader.read_buf(&mut self.buffer)).poll(cx);
        read.map_ok(|read| {
            self.ended = read == 0;
            !self.ended
        })
    }

    /// As [`Source::poll_fill`]; nothing is lost if it is dropped.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// The head of a request, if it has come.
    pub(super) fn take_head(&mut self) -> Result<Option<Head>, Refusal> {
        self.heads.take(&mut self.buffer)
    }

    /// The head of an answer, if it has come.
    pub(super) fn take_response_head(&mut self) -> Result<Option<ResponseHead>, Refusal> {
        self.heads.take_response(&mut self.buffer)
    }

    /// Whether the far side is there and silent, as it must be while nobody has asked it anything.
    pub(super) fn is_quiet(&mut self) -> bool {
        // A task that has done much already would be told that nothing has come, whatever has.
        let pending = unconstrained(self.fill()).now_or_never().is_none();
        // Nothing is kept for a connection that waits.
        self.buffer = BytesMut::new();
        pending
    }

    /// What is read and what will be, as one stream of bytes.
    pub(super) fn into_reader(self) -> Reader {
        let read = io::Cursor::new(self.buffer.freeze());
        Box::new(AsyncReadExt::chain(read, self.reader))
    }

    /// Reads and drops what the far side sends until it ends.
    pub(super) async fn drain(&mut self) {
        loop {
            self.buffer.clear();
            if !matches!(self.fill().await, Ok(true)) {
                return;
            }
        }
    }
}
