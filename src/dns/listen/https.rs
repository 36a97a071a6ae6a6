//! DNS over HTTPS (RFC 8484), HTTP/2 and HTTP/1.1: hyper carries it, `Service` answers it, and both are bounded here.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio::time;
use tokio_rustls::server::TlsStream;

use super::accept::Connection;
use super::activity::Activity;
use super::exchange::{self, NoMessage};
use super::tcp::{LAST_SILENCE, WRITE};
use crate::dns::encrypted;
use crate::dns::query::MAX_QUERY;
use crate::dns::service::Counters;
use crate::dns::tally::Transport;

/// Requests at a time on one connection, no fewer than clients assume (RFC 9113 section 6.5.2).
const STREAMS: u32 = 100;
/// A connection on which nothing is asked for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// A request head must be there within this; in HTTP/1.1 also a next one.
const HEAD: Duration = Duration::from_secs(10);
/// A request head is no larger, in octets; a GET has its message there.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes that a client may send ahead, of one request and of all on a connection. hyper holds them in the pieces they came
/// in until we read them, and the second cannot be less (RFC 9113 section 6.9.2).
const WINDOWS: (u32, u32) = (MAX_QUERY as u32, u16::MAX as u32);
/// Bytes of answers that wait for the client.
const SEND_BUFFER: usize = 64 * 1024;
/// Requests that are taken back before hyper has shown them to us.
const RESETS: usize = 20;

/// Serves a connection until its client has no more to ask, is silent for too long, or has to go.
pub(super) async fn serve(stream: TlsStream<TcpStream>, connection: Connection) {
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let served = Arc::new(Served { connection, activity: Activity::new() });
    let answering = Arc::clone(&served);
    let service = service_fn(move |request| {
        let served = Arc::clone(&answering);
        async move { Ok::<_, Infallible>(served.answer(request).await) }
    });
    let stream = TokioIo::new(stream);
    if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(MAX_HEAD as u32)
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .max_send_buf_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(RESETS)
            .serve_connection(stream, service);
        served.drive(connection, is_http2).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MAX_HEAD)
            .serve_connection(stream, service);
        served.drive(connection, is_http2).await;
    }
}

/// One connection and what goes on in it.
struct Served {
    connection: Connection,
    activity: Activity,
}

impl Served {
    /// Keeps a connection going. Once the listener ends it is told so at once over HTTP/2, which says what was still taken;
    /// over HTTP/1.1, that has no way to, once it has been silent for a moment.
    ///
    /// So is a client that takes back too much: most have an impatient program behind them, and what else that has asked is
    /// answered. It has [`WRITE`] for it, longer than any answer takes, even if it does not want to know.
    async fn drive(&self, connection: impl GracefulConnection, is_http2: bool) {
        let mut connection = pin!(connection);
        let Connection { place, stop, .. } = &self.connection;
        let (mut stopped, mut ending, mut flooded) = (false, false, false);
        let mut since = time::Instant::now();
        let mut patience = IDLE;
        let mut look = since + patience;
        let mut end = look;
        loop {
            tokio::select! {
                _ = connection.as_mut() => return,
                () = place.close.cancelled() => return,
                () = self.activity.flooded.notified() => {
                    if flooded {
                        // It was told to go, and goes on.
                        return;
                    }
                    flooded = true;
                    Counters::count(&self.connection.service.borrow().counters.taken_back);
                    if !ending {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    end = time::Instant::now() + WRITE;
                }
                () = time::sleep_until(end), if flooded => return,
                () = stop.cancelled(), if !stopped => {
                    stopped = true;
                    if is_http2 && !ending {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    since = time::Instant::now();
                    patience = if ending { WRITE } else { LAST_SILENCE };
                    look = since + patience;
                }
                () = time::sleep_until(look) => {
                    let now = time::Instant::now();
                    let idle_since = self.activity.idle_since().map_or(now, |last| last.max(since));
                    if now < idle_since + patience {
                        look = idle_since + patience;
                    } else if ending {
                        // Its client neither asks nor takes its answers.
                        return;
                    } else {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                        (since, patience, look) = (now, WRITE, now + WRITE);
                    }
                }
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mut under_way = self.activity.begin();
        let (version, is_head) = (request.version(), request.method() == Method::HEAD);
        let mut response = match exchange::message(request).await {
            Ok(query) => {
                // A head alone is no request: its client could send nothing but heads.
                self.connection.place.has_asked(Instant::now());
                match self.reply(&query).await {
                    reply if reply.is_empty() => exchange::refusal(NoMessage::NoQuery),
                    reply => exchange::response(reply),
                }
            }
            Err(why) => exchange::refusal(why),
        };
        if is_head {
            // hyper would send it over HTTP/2, which breaks the stream (RFC 9110 section 9.3.2).
            *response.body_mut() = Full::default();
        }
        if self.connection.stop.is_cancelled() && version < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        under_way.answered = true;
        response
    }

    async fn reply(&self, query: &[u8]) -> Vec<u8> {
        let service = Arc::clone(&self.connection.service.borrow());
        let table = service.resolver.table();
        let (client, now) = (self.connection.client, Instant::now());
        let mut reply = Vec::new();
        if let Some(mut pending) = service.handle(query, client, &table, now, Transport::Https, &mut reply) {
            drop(table);
            reply = service.finish_on_stream(&mut pending, &self.connection.waiting).await;
        }
        encrypted::pad(query, &mut reply);
        reply
    }
}
