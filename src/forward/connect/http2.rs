//! CONNECT over HTTP/2 in the clear, with prior knowledge (RFC 9113 sections 3.3 and 8.5): one connection, a tunnel in
//! each stream. The connection ends here; what becomes of a stream is in `http2_tunnel`.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::server::Builder;
use h2::{Ping, PingPong, Reason};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, sleep, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::http2_tunnel;
use crate::forward::service::Connection;

/// Tunnels of one connection at a time.
const MAX_STREAMS: u32 = 256;
/// The most bytes of a request's fields.
const MAX_FIELDS: u32 = 16 * 1024;
/// Bytes that a client may send ahead of who takes them, in one tunnel.
const STREAM_WINDOW: u32 = 64 * 1024;
/// As [`STREAM_WINDOW`], in all tunnels of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of one tunnel that wait for the client's TCP; the relay holds as many.
const SEND_BUFFER: usize = 32 * 1024;
/// Streams that we have reset and the client may not know of yet.
const RESETS: usize = 64;
/// Streams that the client takes back before we have seen them (CVE-2023-44487).
const UNSEEN_RESETS: usize = 20;
/// Streams that we had to reset because of what the client did.
const ERRORS: usize = 128;
/// A silent client is asked this often whether it is still there, and has as long to answer.
const PING: Duration = Duration::from_secs(30);
/// Without a tunnel a connection ends after this.
const IDLE: Duration = Duration::from_secs(75);
/// A client that was asked to end has so long to do it.
const ENDING: Duration = Duration::from_secs(10);
/// As [`ENDING`], where everything must go.
const CLOSING: Duration = Duration::from_millis(500);
/// How often that is looked at.
const TICK: Duration = Duration::from_secs(5);

/// Serves one connection that began with the preface, which is in `early`. By `deadline` it must have asked for
/// something.
pub(super) async fn serve(client: TcpStream, early: Bytes, connection: Connection, deadline: Instant) {
    let connection = Arc::new(connection);
    let stream = Early { early, stream: client, connection: Arc::clone(&connection) };
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_FIELDS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(RESETS)
        .max_pending_accept_reset_streams(UNSEEN_RESETS)
        .max_local_error_reset_streams(Some(ERRORS));
    let shaken = tokio::select! {
        shaken = timeout_at(deadline, builder.handshake(stream)) => shaken,
        () = connection.place.close.cancelled() => return,
    };
    let Ok(Ok(mut client)) = shaken else { return };
    let tunnels = TaskTracker::new();
    let mut silent = pin!(silent(client.ping_pong(), &connection));
    let mut must_go = pin!(must_go(&connection));
    let mut ticks = interval(TICK);
    let (mut quiet_since, mut patience) = (Instant::now(), deadline.duration_since(Instant::now()));
    let mut ending = false;
    loop {
        let end = tokio::select! {
            asked = client.accept() => {
                // How it ends concerns nobody but its client; each tunnel has a record of its own.
                let Some(Ok((request, respond))) = asked else { return };
                connection.place.has_asked(Instant::now().into_std());
                if !ending {
                    patience = IDLE;
                }
                let (tunnel, open) = (http2_tunnel::serve(request, respond, Arc::clone(&connection)), tunnels.token());
                connection.listening.drain.tracker.spawn(async move {
                    let _open = open;
                    tunnel.await;
                });
                !connection.may_stay()
            }
            () = connection.listening.drain.begun.cancelled(), if !ending => true,
            // Tunnels have been told as well; they say so to the client meanwhile.
            () = connection.place.close.cancelled(), if !ending => true,
            () = must_go.as_mut() => break,
            () = silent.as_mut() => break,
            _ = ticks.tick() => {
                if !tunnels.is_empty() {
                    quiet_since = Instant::now();
                }
                let over = quiet_since.elapsed() >= patience;
                // A client that holds its window shut could keep an answer, and with it the connection, for ever.
                if over && ending {
                    break;
                }
                over
            }
        };
        if end && !ending {
            (ending, quiet_since, patience) = (true, Instant::now(), ENDING);
            client.graceful_shutdown();
        }
    }
    client.abrupt_shutdown(Reason::NO_ERROR);
    let _ = timeout(CLOSING, poll_fn(|context| client.poll_closed(context))).await;
}

/// Returns once everything had to go, and had time to say so.
async fn must_go(connection: &Connection) {
    connection.place.close.cancelled().await;
    sleep(CLOSING).await;
}

/// Returns once the client has been silent although it was asked something. Whatever it sends is a sign of life, so that
/// one which reads slowly may find the question late.
async fn silent(pings: Option<PingPong>, connection: &Connection) {
    let Some(mut pings) = pings else { return };
    loop {
        sleep(PING).await;
        let mut pong = pin!(pings.ping(Ping::opaque()));
        loop {
            let before = connection.place.last_moved();
            match timeout(PING, pong.as_mut()).await {
                Ok(Ok(_)) => break,
                Err(_) if connection.place.last_moved() != before => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// A stream some bytes of which were read already. What comes shows at the connection's place.
struct Early {
    early: Bytes,
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl AsyncRead for Early {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            let read = Pin::new(&mut self.stream).poll_read(context, into);
            if read.is_ready() {
                self.connection.place.moved(Instant::now().into_std());
            }
            return read;
        }
        let length = self.early.len().min(into.remaining());
        into.put_slice(&self.early[..length]);
        self.early.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Early {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
