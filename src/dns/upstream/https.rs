//! Questions over HTTPS (RFC 8484): one HTTP/2 connection to a server, many questions on it at once.
//!
//! Where `upstream.via_parent` says so, the connection goes through an egress proxy, which sees TLS only.
//!
//! The replies' bytes come out as they were sent, like those of every other transport.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::exchange::{AskError, OwnSocket, OwnSockets, Protocol, is_reply_to};
use super::server::Server;
use crate::egress_proxy::{EgressError, EgressProxy, Host};

/// A question without an answer for so long tells that the connection is dead, whatever the kernel still believes.
const SILENCE: Duration = Duration::from_secs(3);
/// The longest a connection to one address may take before the next is tried.
const CONNECT: Duration = Duration::from_millis(1500);
/// A DNS message is no longer.
const MAX_REPLY: usize = 65_535;
const DNS_MESSAGE: header::HeaderValue = header::HeaderValue::from_static("application/dns-message");

/// The connection to one server, made when needed.
#[derive(Debug)]
pub struct Https {
    uri: String,
    name: ServerName<'static>,
    host: Host,
    port: u16,
    egress: Option<EgressProxy>,
    config: Arc<rustls::ClientConfig>,
    own: OwnSockets,
    current: Mutex<Option<Arc<Connection>>>,
    /// Which address is tried next.
    turn: AtomicUsize,
    /// Held while a connection is made, so that only one is.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Connection {
    requests: http2::SendRequest<Full<Bytes>>,
    /// When it last brought an answer, to any question.
    answered_at: Mutex<Instant>,
    task: AbortHandle,
    _own: OwnSocket,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn failed(error: impl std::fmt::Display) -> AskError {
    AskError::Transport(error.to_string())
}

impl Https {
    /// A server whose certificate is for the host in its URL, reached through `egress` if there is one. `None` if no
    /// certificate can carry that host.
    pub fn new(
        server: &Server,
        config: &rustls::ClientConfig,
        egress: Option<EgressProxy>,
        own: OwnSockets,
    ) -> Option<Self> {
        let Server { host, port, path, .. } = server;
        let mut config = config.clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Some(Self {
            uri: format!("https://{host}:{port}{path}"),
            name: match host {
                Host::Address(ip) => ServerName::IpAddress((*ip).into()),
                Host::Name(name) => ServerName::try_from(name.to_string()).ok()?,
            },
            host: host.clone(),
            port: *port,
            egress,
            config: Arc::new(config),
            own,
            current: Mutex::default(),
            turn: AtomicUsize::new(0),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Whether there is a connection to ask over.
    pub fn is_connected(&self) -> bool {
        self.kept().is_some()
    }

    /// Sends the query and waits for its reply; without a connection, the addresses of the server, or of the proxy before
    /// it, are tried in turn. A connection that
    /// was kept and fails is replaced once.
    ///
    /// # Errors
    /// No connection, no answer within three seconds, an HTTP status other than 200.
    pub async fn ask(&self, query: &mut [u8], addresses: &[IpAddr]) -> Result<Vec<u8>, AskError> {
        // RFC 8484 section 4.1 wants id 0; the stream tells replies apart.
        query[..2].fill(0);
        let body = Bytes::copy_from_slice(query);
        let reply = match self.kept() {
            None => self.request(self.connect(addresses).await?, body).await?,
            Some(kept) => match self.request(kept, body.clone()).await {
                Err(AskError::Transport(_)) => self.request(self.connect(addresses).await?, body).await?,
                reply => reply?,
            },
        };
        if is_reply_to(query, &reply) { Ok(reply) } else { Err(AskError::Malformed) }
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Connection>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> Option<Arc<Connection>> {
        self.current().clone().filter(|connection| !connection.requests.is_closed())
    }

    /// Lets a connection go that has failed, unless another has taken its place.
    fn discard(&self, connection: &Arc<Connection>) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            *current = None;
        }
    }

    async fn request(&self, connection: Arc<Connection>, body: Bytes) -> Result<Vec<u8>, AskError> {
        let _waiting = Waiting { https: self, connection: &connection, since: Instant::now() };
        let request = Request::post(&self.uri)
            .header(header::CONTENT_TYPE, DNS_MESSAGE)
            .header(header::ACCEPT, DNS_MESSAGE)
            .body(Full::new(body))
            .map_err(failed)?;
        let mut requests = connection.requests.clone();
        let answer = timeout(SILENCE, async {
            let response = requests.send_request(request).await.map_err(failed)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_REPLY).collect().await.map_err(failed)?;
            Ok((status, body.to_bytes()))
        });
        let (status, reply) = match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                self.discard(&connection);
                return Err(error);
            }
            Err(_elapsed) => return Err(AskError::Timeout),
        };
        *connection.answered_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if status == StatusCode::OK { Ok(reply.to_vec()) } else { Err(AskError::Status(status)) }
    }

    async fn connect(&self, addresses: &[IpAddr]) -> Result<Arc<Connection>, AskError> {
        let _alone = self.connecting.lock().await;
        if let Some(connection) = self.kept() {
            return Ok(connection);
        }
        let mut last = AskError::NoServer;
        // Whoever waits may give up before all were tried; the next one goes on where this one stopped.
        for _ in addresses {
            let turn = self.turn.load(Ordering::Relaxed) % addresses.len();
            let address = addresses[turn];
            self.turn.store(turn + 1, Ordering::Relaxed);
            let deadline = Instant::now() + CONNECT;
            match timeout_at(deadline, self.connect_to(address, deadline)).await {
                Ok(Ok(connection)) => {
                    let connection = Arc::new(connection);
                    self.turn.store(turn, Ordering::Relaxed);
                    *self.current() = Some(Arc::clone(&connection));
                    return Ok(connection);
                }
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = AskError::Timeout,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: IpAddr, deadline: Instant) -> Result<Connection, AskError> {
        let stream = match &self.egress {
            None => connected(address, self.port).await?,
            Some(proxy) => {
                let stream = connected(address, proxy.port()).await.map_err(EgressError::Io)?;
                proxy.connect(stream, &self.host, self.port, deadline).await?
            }
        };
        let own = self.own.add(Protocol::Tcp, stream.local_addr()?);
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(self.name.clone(), stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(failed("the server does not speak HTTP/2"));
        }
        let (requests, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
        // How it ends, those who wait on it are told.
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Connection { requests, answered_at: Mutex::new(Instant::now()), task, _own: own })
    }
}

async fn connected(address: IpAddr, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((address, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A question under way. Whoever asked may give up before [`SILENCE`] is over; if the connection has brought nothing to
/// anybody for a good while then, it goes. A name whose own servers are slow is no fault of the connection.
struct Waiting<'a> {
    https: &'a Https,
    connection: &'a Arc<Connection>,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let answered_at = *self.connection.answered_at.lock().unwrap_or_else(PoisonError::into_inner);
        if answered_at < self.since && self.since.elapsed() >= SILENCE / 2 {
            self.https.discard(self.connection);
        }
    }
}
