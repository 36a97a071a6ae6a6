//! Questions over HTTPS (RFC 8484) and QUIC (RFC 9250), carried by hickory.
//!
//! A server has one connection, kept until it fails. Only the transport is the library's: the bytes that come back are
//! checked and read like any other upstream's.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_net::NetError;
use hickory_net::h2::HttpsClientStream;
use hickory_net::quic::QuicClientStream;
use hickory_net::runtime::{RuntimeProvider, TokioRuntimeProvider};
use hickory_net::xfer::{DnsExchange, DnsHandle, FirstAnswer};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, Message};
use tokio::time::{Instant, timeout};

use super::bootstrap::{Addresses, Bootstrap};
use super::exchange::{AskError, is_reply_to};

/// Within this one address must let itself be connected to, if others are left to be tried.
const CONNECT: Duration = Duration::from_secs(2);
/// Within this a reply must come: less than a client waits, so that the connection is replaced while it does.
const REQUEST: Duration = Duration::from_secs(3);
/// A connection on which nothing came for so long, although somebody waited, is taken for dead.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection, and what is known of its state.
struct Connection {
    exchange: DnsExchange<TokioRuntimeProvider>,
    /// The latest reply.
    replied: Mutex<Option<Instant>>,
    broken: AtomicBool,
}

/// Somebody who waits for a reply, perhaps not to the end.
struct Waiting<'c> {
    connection: &'c Connection,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Whoever asks has a deadline and may leave before the connection fails: on a black hole that takes minutes.
        let silent = self.connection.replied().is_none_or(|at| at < self.since);
        if silent && self.since.elapsed() >= SILENCE {
            self.connection.broken.store(true, Ordering::Relaxed);
        }
    }
}

impl Connection {
    fn new(exchange: DnsExchange<TokioRuntimeProvider>) -> Self {
        Self { exchange, replied: Mutex::default(), broken: AtomicBool::default() }
    }

    fn replied(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.replied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, query: &[u8], message: &Message) -> Result<Vec<u8>, AskError> {
        let waiting = Waiting { connection: self, since: Instant::now() };
        let request = DnsRequest::new(message.clone(), DnsRequestOptions::default());
        match self.exchange.send(request).first_answer().await {
            Ok(response) => {
                *self.replied() = Some(Instant::now());
                drop(waiting);
                let mut reply = response.into_buffer();
                if let Some(id) = reply.get_mut(..2) {
                    id.fill(0);
                }
                if is_reply_to(query, &reply) { Ok(reply) } else { Err(AskError::Malformed) }
            }
            Err(NetError::Timeout) => Err(AskError::Timeout),
            Err(NetError::Proto(_) | NetError::Dns(_) | NetError::Decode(_) | NetError::ParseInt(_)) => {
                // No message, but something came.
                *self.replied() = Some(Instant::now());
                Err(AskError::Malformed)
            }
            Err(error) => {
                self.broken.store(true, Ordering::Relaxed);
                Err(net_error(error))
            }
        }
    }
}

/// What carries the questions.
#[derive(Debug, Clone)]
pub enum Carrier {
    Https { path: Arc<str> },
    Quic,
}

/// The connection to one server, made when needed.
pub struct Encrypted {
    carrier: Carrier,
    /// The name the certificate must carry.
    name: Arc<str>,
    config: Arc<rustls::ClientConfig>,
    /// Owns the tasks that drive the connections, and ends them when it goes.
    runtime: TokioRuntimeProvider,
    addresses: Addresses,
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
}

impl std::fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encrypted").field("carrier", &self.carrier).field("name", &self.name).finish_non_exhaustive()
    }
}

fn transport_error(error: impl std::fmt::Display) -> AskError {
    AskError::Transport(error.to_string())
}

/// What the system says is kept as it is: not all of it is the server's fault.
fn net_error(error: NetError) -> AskError {
    match &error {
        NetError::Io(io) => match io.raw_os_error() {
            Some(code) => std::io::Error::from_raw_os_error(code).into(),
            None => transport_error(error),
        },
        _ => transport_error(error),
    }
}

impl Encrypted {
    /// A connection to be made to a server whose certificate is for `name`.
    pub fn new(carrier: Carrier, name: Arc<str>, addresses: Addresses, config: Arc<rustls::ClientConfig>) -> Self {
        let connection = tokio::sync::Mutex::default();
        Self { carrier, name, config, runtime: TokioRuntimeProvider::new(), addresses, connection }
    }

    /// Sends the query and waits for its reply. Where a kept connection fails, the query is sent once more over another.
    /// Has no deadline of its own.
    pub async fn ask(&self, query: &mut [u8], bootstrap: Bootstrap<'_>) -> Result<Vec<u8>, AskError> {
        // RFC 8484 section 4.1 and RFC 9250 section 4.2.1 want id 0; the connection tells replies apart.
        query[..2].fill(0);
        let message = Message::from_vec(query).map_err(|_| AskError::Malformed)?;
        let (connection, reused) = self.connection(bootstrap).await?;
        match connection.ask(query, &message).await {
            Err(AskError::Io(_) | AskError::Transport(_)) if reused => {
                self.connection(bootstrap).await?.0.ask(query, &message).await
            }
            result => result,
        }
    }

    /// The connection, and whether it was there before.
    async fn connection(&self, bootstrap: Bootstrap<'_>) -> Result<(Arc<Connection>, bool), AskError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.broken.load(Ordering::Relaxed)) {
            return Ok((Arc::clone(connection), true));
        }
        let addresses = self.addresses.get(bootstrap).await?;
        let mut outcome = Err(AskError::Timeout);
        for (left, address) in (0..addresses.len()).rev().zip(addresses) {
            outcome = if left == 0 {
                self.connect(address).await
            } else {
                timeout(CONNECT, self.connect(address)).await.unwrap_or(Err(AskError::Timeout))
            };
            if outcome.is_ok() {
                break;
            }
        }
        let connection = Arc::new(Connection::new(outcome?));
        *slot = Some(Arc::clone(&connection));
        Ok((connection, false))
    }

    async fn connect(&self, address: SocketAddr) -> Result<DnsExchange<TokioRuntimeProvider>, AskError> {
        let provider = self.runtime.clone();
        match &self.carrier {
            Carrier::Https { path } => {
                let mut builder = HttpsClientStream::builder(Arc::clone(&self.config), provider);
                builder.request_timeout(REQUEST);
                builder.exchange(address, Arc::clone(&self.name), Arc::clone(path)).await
            }
            Carrier::Quic => {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let local = any.parse().map_err(transport_error)?;
                let binder = provider.quic_binder().ok_or_else(|| transport_error("QUIC is not available"))?;
                let socket = binder.bind_quic(local, address)?;
                QuicClientStream::builder()
                    .crypto_config((*self.config).clone())
                    .request_timeout(REQUEST)
                    .exchange(socket, address, Arc::clone(&self.name), provider)
                    .await
            }
        }
        .map_err(net_error)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hickory_net::xfer::{DnsRequestSender, DnsResponseStream};

    use super::*;
    use crate::dns::question::Question;

    /// Fails each request with this, or is silent.
    struct Scripted(Option<NetError>);

    impl futures_util::Stream for Scripted {
        type Item = Result<(), NetError>;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(Some(Ok(())))
        }
    }

    impl DnsRequestSender for Scripted {
        fn send_message(&mut self, _: DnsRequest) -> DnsResponseStream {
            let error = self.0.clone();
            let reply = async move { if let Some(error) = error { Err(error) } else { std::future::pending().await } };
            Box::pin(reply).into()
        }

        fn shutdown(&mut self) {}
        fn is_shutdown(&self) -> bool {
            false
        }
    }

    /// Asks, and stops waiting after so long; whether the connection is kept.
    async fn is_kept(error: Option<NetError>, wait: Duration, replied: bool) -> bool {
        let (exchange, background) = DnsExchange::from_stream(Scripted(error));
        let driver: tokio::task::JoinHandle<()> = tokio::spawn(background);
        let connection = Connection::new(exchange);
        let query = Question::new("www.example.com".parse().unwrap(), 1).to_wire(true);
        let message = Message::from_vec(&query).unwrap();
        let another = async {
            tokio::time::sleep(wait / 2).await;
            *connection.replied() = replied.then(Instant::now);
        };
        let _ = tokio::join!(timeout(wait, connection.ask(&query, &message)), another);
        driver.abort();
        !connection.broken.load(Ordering::Relaxed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_unless_it_fails_or_is_silent_while_somebody_waits() {
        let parse_error = NetError::ParseInt("x".parse::<u8>().unwrap_err());
        assert!(is_kept(Some(parse_error), SILENCE, false).await, "a reply that is none");
        assert!(!is_kept(Some(NetError::NoConnections), SILENCE, false).await, "an error");
        assert!(is_kept(None, SILENCE / 2, false).await, "silent for a moment");
        assert!(!is_kept(None, SILENCE, false).await, "silent for long");
        assert!(is_kept(None, SILENCE, true).await, "silent to one only");
    }
}
