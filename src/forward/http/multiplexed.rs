//! One connection in HTTP/2 to a server, and how many requests it takes at a time.
//!
//! `connect` starts it, `pool` keeps it and hands out places on it. No request waits on it for another one to end.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_rustls::client::TlsStream;

use super::message::Body;

/// Requests at a time on one connection; fewer where the server says so.
const STREAMS: usize = 100;
/// Bytes of an answer that a server may send ahead of its reader.
const STREAM_WINDOW: u32 = 64 * 1024;
/// As [`STREAM_WINDOW`], of all answers on a connection: readers that have stopped never take it from those that read.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;
/// Bytes of a request that wait to be sent.
const SEND_BUFFER: usize = 64 * 1024;
/// The largest head of an answer.
const HEADER_LIST: u32 = 64 * 1024;
/// With requests under way, a silent connection is asked this often whether it is still there.
const PING: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PONG: Duration = Duration::from_secs(10);
/// How long a server may take to say how many requests it takes.
const SETTINGS: Duration = Duration::from_secs(10);
/// How often that is looked at; there is nothing to wait for.
const LOOK: Duration = Duration::from_millis(1);

/// None once it has ended: its senders learn that from its absence.
type Driver = Arc<Mutex<Option<Connection<TokioIo<TlsStream<TcpStream>>, Body, TokioExecutor>>>>;

/// A connection.
pub(super) struct Multiplexed {
    sender: SendRequest<Body>,
    address: SocketAddr,
    user: Arc<()>,
    driver: Driver,
}

/// A place on a connection, for one request.
pub(super) struct Http2 {
    pub sender: SendRequest<Body>,
    pub address: SocketAddr,
    /// Whoever holds it counts as using the connection.
    pub user: Arc<()>,
}

impl Multiplexed {
    /// `held` is dropped when the connection has ended: by itself once nobody has a sender and no answer is under way.
    ///
    /// # Errors
    /// The server does not speak HTTP/2 after all; one line.
    pub(super) async fn start(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        held: impl Send + 'static,
    ) -> Result<Self, String> {
        let (sender, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            // Until the server has said how many it takes.
            .initial_max_send_streams(0)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEADER_LIST)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let driver = Arc::new(Mutex::new(Some(connection)));
        tokio::spawn(drive(Arc::clone(&driver), held));
        let settled = async {
            let mut looks = interval(LOOK);
            while streams(&driver).ok_or("it ended at once")? == 0 {
                looks.tick().await;
            }
            Ok(())
        };
        timeout(SETTINGS, settled).await.unwrap_or(Err("it takes no requests"))?;
        Ok(Self { sender, address, user: Arc::default(), driver })
    }

    /// A place on it, if there is one.
    pub(super) fn place(&self) -> Option<Http2> {
        let most = streams(&self.driver)?.min(STREAMS);
        let place = || Http2 { sender: self.sender.clone(), address: self.address, user: Arc::clone(&self.user) };
        (self.users() < most).then(place)
    }

    /// Requests that use it.
    pub(super) fn users(&self) -> usize {
        Arc::strong_count(&self.user).saturating_sub(1)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// How many requests the server takes at a time.
fn streams(driver: &Driver) -> Option<usize> {
    let driver = driver.lock().unwrap_or_else(PoisonError::into_inner);
    driver.as_ref().map(Connection::current_max_send_streams)
}

async fn drive<T>(driver: Driver, _held: T) {
    let (ended, outcome) = std::future::poll_fn(|cx| {
        let mut driver = driver.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match driver.as_mut() {
            Some(connection) => ready!(Pin::new(connection).poll(cx)),
            None => Ok(()),
        };
        Poll::Ready((driver.take(), outcome))
    })
    .await;
    drop(ended);
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection in HTTP/2 ended");
    }
}
