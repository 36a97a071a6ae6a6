//! A connection that changes its protocol: the 101, then bytes both ways until one side ends.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::forward::Client;
use super::outbound::Switched;
use super::record::Record;
use super::source::{Reader, Source, Writer};
use super::write::{put_field, put_fields, status_line, write};
use crate::forward::relay::{Duplex, End, relay as relay_bytes};

/// No byte in either direction for so long ends it: a little more than the ten minutes after which API Gateway ends an
/// idle WebSocket.
const IDLE: Duration = Duration::from_secs(11 * 60);

/// Tells the client, and relays. Bytes of the server's that came with its answer are not lost.
pub(super) async fn relay(source: Source, mut writer: Writer, switched: Switched, mut record: Record, client: &Client) {
    let Switched { response, protocol, source: from_server, writer: to_server } = switched;
    let mut head = status_line(response.status, &response.reason);
    put_fields(&mut head, &response.fields);
    put_field(&mut head, b"Connection", b"Upgrade");
    put_field(&mut head, b"Upgrade", &protocol);
    head.extend_from_slice(b"\r\n");
    if write(&mut writer, &mut head).await.is_err() {
        return;
    }
    let (near, far) = (Side::new(source, writer), Side::new(from_server, to_server));
    let ending = relay_bytes(End::other(near), End::other(far), IDLE, &client.connection.place).await;
    record.up.bytes.store(ending.up, Ordering::Relaxed);
    record.down.bytes.store(ending.down, Ordering::Relaxed);
    record.ended(ending.reason.as_str());
}

/// A connection whose halves are one again; dropped before its end, it does not look like one that ended.
struct Side {
    reader: Reader,
    writer: Option<Writer>,
    ended: bool,
}

impl Side {
    fn new(source: Source, writer: Writer) -> Self {
        Self { reader: source.into_reader(), writer: Some(writer), ended: false }
    }

    fn writer(&mut self) -> io::Result<Pin<&mut Writer>> {
        self.writer.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl Duplex for Side {
    fn reset(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.break_off();
        }
    }

    /// What is read or written tells, or the idle time.
    fn poll_failed(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if !self.ended {
            self.reset();
        }
    }
}

impl AsyncRead for Side {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, into)
    }
}

impl AsyncWrite for Side {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writer()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = ready!(self.writer()?.poll_shutdown(cx));
        self.ended = true;
        Poll::Ready(shut)
    }
}
