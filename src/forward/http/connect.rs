//! A connection for one request: one that waits, a place on one that serves several, or a new one.

use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::message::Body;
use super::pool::{Connection, Http2, Key, Pool, Slot};
use super::source::halves;
use super::tls::{Connector, Protocols, is_http2};
use crate::forward::dial::Dialled;
use crate::forward::permit::{Entrance, Permit, Way};
use crate::forward::refusal::{Cause, Refusal};
use crate::forward::service::Service;

/// Bytes of an answer that a server may send ahead of its reader.
const STREAM_WINDOW: u32 = 256 * 1024;
/// As [`STREAM_WINDOW`], of all answers on a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of a request that wait to be sent.
const SEND_BUFFER: usize = 64 * 1024;
/// The largest head of an answer.
const HEADER_LIST: u32 = 64 * 1024;
/// With requests under way, a silent connection is asked this often whether it is still there.
const PING: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PONG: Duration = Duration::from_secs(10);

/// A way to send one request.
pub(super) enum Route {
    Http1(Connection),
    Http2(Http2),
}

/// Opens connections and finds those that are open.
#[derive(Debug)]
pub(super) struct Connections {
    pool: Pool,
    connector: Connector,
}

impl Connections {
    pub(super) fn new(connector: Connector) -> Self {
        Self { pool: Pool::new(), connector }
    }

    /// The permit may be another one afterwards: dialling can teach which way a name goes.
    ///
    /// # Errors
    /// What keeps us from a connection to the server whose name it is.
    pub(super) async fn to(
        &self,
        service: &Service,
        permit: Permit,
        protocols: Protocols,
    ) -> Result<(Route, Permit), Refusal> {
        let key = Key::new(&permit, spoken_on(&permit, protocols));
        if let Some(connection) = self.pool.http2(&key) {
            return Ok((Route::Http2(connection), permit));
        }
        let slot = match self.pool.idle(&key, self.pool.slot(&key).await?) {
            Ok(connection) => return Ok((Route::Http1(connection), permit)),
            Err(slot) => slot,
        };
        if key.protocols == Protocols::Http1 {
            return self.open(service, permit, protocols, slot).await;
        }
        // Until it is known that the server speaks HTTP/1.1 only, one connection is opened at a time: it may do for all.
        let waiting_since = Instant::now();
        let opening = self.pool.opening(&key);
        let mut opening = opening.lock().await;
        if let Some(connection) = self.pool.http2(&key) {
            return Ok((Route::Http2(connection), permit));
        }
        if let Some((at, refusal)) = &opening.failure
            && *at > waiting_since
        {
            return Err(refusal.clone());
        }
        if opening.http1 {
            drop(opening);
            return self.open(service, permit, protocols, slot).await;
        }
        let opened = self.open(service, permit, protocols, slot).await;
        opening.http1 = matches!(opened, Ok((Route::Http1(_), _)));
        opening.failure = opened.as_ref().err().map(|refusal| (Instant::now(), refusal.clone()));
        opened
    }

    async fn open(
        &self,
        service: &Service,
        permit: Permit,
        protocols: Protocols,
        slot: Slot,
    ) -> Result<(Route, Permit), Refusal> {
        let Dialled { stream, address, permit } = service.router.dial(Entrance::Http, permit).await?;
        let key = Key::new(&permit, spoken_on(&permit, protocols));
        let stream = self.connector.connect(&permit.destination.host, key.protocols, stream).await?;
        if !is_http2(stream.get_ref().1) {
            let (source, writer) = halves(stream);
            let ticket = self.pool.ticket(key, address, slot);
            return Ok((Route::Http1(Connection { source, writer, ticket }), permit));
        }
        let sender = start_http2(stream, slot)
            .await
            .map_err(|error| Refusal::new(Cause::BadResponse, format!("{}: {error}", permit.destination.host)))?;
        Ok((Route::Http2(self.pool.share(&key, sender, address)), permit))
    }
}

/// Endpoints are spoken to in HTTP/1.1: AWS answers no other there.
fn spoken_on(permit: &Permit, protocols: Protocols) -> Protocols {
    if matches!(permit.way, Way::Endpoint(_)) { Protocols::Http1 } else { protocols }
}

async fn start_http2(stream: TlsStream<TcpStream>, slot: Slot) -> hyper::Result<http2::SendRequest<Body>> {
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .handshake(TokioIo::new(stream))
        .await?;
    // It ends by itself once nobody has a sender and no answer is under way.
    tokio::spawn(async move {
        let _slot = slot;
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection in HTTP/2 ended");
        }
    });
    Ok(sender)
}
