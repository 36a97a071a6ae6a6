//! CONNECT over HTTP/2 in the clear, with prior knowledge (RFC 9113 sections 3.3 and 8.5): one connection, a tunnel in
//! each stream.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::interval;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::forward::access::Record;
use crate::forward::connect::{not_connect, target};
use crate::forward::permit::Entrance;
use crate::forward::refusal::{Cause, Refusal};
use crate::forward::relay::End;
use crate::forward::service::Connection;
use crate::forward::tunnel;

/// Tunnels of one connection at a time.
const MAX_STREAMS: u32 = 256;
/// The most bytes of a request's fields.
const MAX_FIELDS: u32 = 16 * 1024;
/// A client is asked whether it is still there this often, and has as long to answer.
const PING: Duration = Duration::from_secs(30);
/// Without a tunnel a connection ends after this.
const IDLE: Duration = Duration::from_secs(75);

/// Serves one connection that began with the preface, which is in `early`.
pub(super) async fn serve(client: TcpStream, early: Bytes, connection: Connection) {
    let connection = Arc::new(connection);
    let tunnels = TaskTracker::new();
    let answer = service_fn(|request: Request<Incoming>| {
        let (connection, open) = (Arc::clone(&connection), tunnels.token());
        async move { Ok::<_, Infallible>(respond(request, connection, open).await) }
    });
    let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_FIELDS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .serve_connection(TokioIo::new(Early { early, stream: client }), answer);
    let mut served = pin!(served);
    let (mut tick, mut idle_since) = (interval(IDLE / 5), Instant::now());
    let mut ending = false;
    loop {
        tokio::select! {
            // How it ends concerns nobody but its client; each tunnel has a record of its own.
            _ = served.as_mut() => break,
            () = connection.drain.begun.cancelled(), if !ending => {
                ending = true;
                served.as_mut().graceful_shutdown();
            }
            () = connection.place.close.cancelled() => break,
            _ = tick.tick() => {
                if !tunnels.is_empty() {
                    idle_since = Instant::now();
                } else if idle_since.elapsed() >= IDLE && !ending {
                    ending = true;
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Opens a tunnel; it goes on after the answer, in a task of its own.
async fn respond(
    request: Request<Incoming>,
    connection: Arc<Connection>,
    open: TaskTrackerToken,
) -> Response<Full<Bytes>> {
    connection.place.has_asked(Instant::now());
    let mut record = Record::new(Entrance::Connect, connection.client);
    let service = connection.service();
    let opened = match destination(&request) {
        Ok(destination) => service.router.connect(Entrance::Connect, destination, &mut record).await,
        Err(refusal) => Err(refusal),
    };
    match opened {
        Ok(dialled) => {
            record.status = Some(200);
            let tracker = connection.drain.tracker.clone();
            tracker.spawn(async move {
                let _open = open;
                let stop = &connection.place.close;
                let (reason, words) = match hyper::upgrade::on(request).await {
                    Ok(client) => {
                        let (client, early) = (TokioIo::new(client), BytesMut::new());
                        tunnel::run(client, early, dialled, &service.router, &mut record, stop, End::other).await
                    }
                    Err(_) => ("client_reset", None),
                };
                service.journal.finish(&record, reason, words.as_deref());
            });
            Response::new(Full::default())
        }
        Err(refusal) => {
            record.status = Some(refusal.cause.status());
            service.journal.finish(&record, refusal.cause.label(), Some(&refusal.words));
            refuse(&refusal)
        }
    }
}

fn destination(request: &Request<Incoming>) -> Result<crate::forward::Destination, Refusal> {
    let authority = match (request.method(), request.uri().authority()) {
        (&Method::CONNECT, Some(authority)) => authority.as_str(),
        _ => return Err(not_connect(request.uri().to_string().as_bytes())),
    };
    let host = request.headers().get(hyper::header::HOST).map(|host| host.to_str());
    let host = host.transpose().map_err(|_| Refusal::new(Cause::BadRequest, "a host name is ASCII"))?;
    target(authority, host)
}

fn refuse(refusal: &Refusal) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{refusal}\n"))));
    *response.status_mut() = StatusCode::from_u16(refusal.cause.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let fields = [("content-type", "text/plain; charset=utf-8".to_owned()), ("proxy-status", refusal.proxy_status())];
    for (name, value) in fields {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A stream some bytes of which were read already.
#[derive(Debug)]
struct Early {
    early: Bytes,
    stream: TcpStream,
}

impl AsyncRead for Early {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early[..length]);
        self.early.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Early {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
