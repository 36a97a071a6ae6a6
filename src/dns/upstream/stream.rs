//! Questions over one kept connection, TCP or TLS, many at once (RFC 7766, RFC 7858).
//!
//! A server has at most one connection. A task drives it: it gives each query an id of its own, hands each reply to
//! whoever asked, and closes what is idle.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::exchange::{AskError, OwnSocket, OwnSockets, Protocol, is_reply_to};
use crate::dns::frame::{FrameReader, frame};

/// An idle connection is closed after this, RFC 7766 section 6.2.3.
const IDLE: Duration = Duration::from_secs(10);
/// The longest a write may take, and the longest that queries wait without any reply: after that the server is gone.
const SILENCE: Duration = Duration::from_secs(4);
/// Queries under way on one connection; more wait.
const IN_FLIGHT: usize = 512;

type Reply = Result<Vec<u8>, AskError>;

struct Exchange {
    query: Vec<u8>,
    reply: oneshot::Sender<Reply>,
}

/// The connection to one server, made when needed.
#[derive(Debug)]
pub struct Stream {
    server: SocketAddr,
    tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    own: OwnSockets,
    connection: Mutex<Option<mpsc::Sender<Exchange>>>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl Stream {
    /// Plain TCP.
    pub fn tcp(server: SocketAddr, own: OwnSockets) -> Self {
        Self { server, tls: None, own, connection: Mutex::default() }
    }

    /// TLS; the certificate must be for `name`.
    pub fn tls(
        server: SocketAddr,
        name: ServerName<'static>,
        config: Arc<rustls::ClientConfig>,
        own: OwnSockets,
    ) -> Self {
        Self { server, tls: Some((config, name)), own, connection: Mutex::default() }
    }

    /// Sends the query and waits for its reply. Where the connection closes before that, the query is sent once more, over
    /// a connection of its own: some servers close after each reply, and would leave it unanswered on a shared one again.
    /// Has no deadline of its own.
    pub async fn ask(&self, query: &[u8]) -> Reply {
        match exchange(&self.shared().await?, query).await {
            Err(AskError::Closed) => exchange(&self.connect().await?, query).await,
            result => result,
        }
    }

    /// The connection that everybody uses, made if there is none.
    async fn shared(&self) -> Result<mpsc::Sender<Exchange>, AskError> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = self.connect().await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// A new connection, which lasts no longer than the result is kept.
    async fn connect(&self) -> Result<mpsc::Sender<Exchange>, AskError> {
        let stream = TcpStream::connect(self.server).await?;
        stream.set_nodelay(true)?;
        let own = self.own.add(Protocol::Tcp, stream.local_addr()?);
        let (sender, exchanges) = mpsc::channel(16);
        match &self.tls {
            None => tokio::spawn(drive(stream, exchanges, own)),
            Some((config, name)) => {
                let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await?;
                tokio::spawn(drive(stream, exchanges, own))
            }
        };
        Ok(sender)
    }
}

/// One query and its reply.
async fn exchange(connection: &mpsc::Sender<Exchange>, query: &[u8]) -> Reply {
    let (reply, answer) = oneshot::channel();
    let exchange = Exchange { query: query.to_vec(), reply };
    connection.send(exchange).await.map_err(|_| AskError::Closed)?;
    answer.await.unwrap_or(Err(AskError::Closed))
}

/// Carries queries and replies until the connection fails or is idle.
async fn drive(stream: impl AsyncRead + AsyncWrite, mut exchanges: mpsc::Receiver<Exchange>, _own: OwnSocket) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut replies = FrameReader::default();
    let mut waiting: HashMap<u16, Exchange> = HashMap::new();
    let mut next_id: u16 = rand::random();
    let mut progress = Instant::now();
    loop {
        let patience = if waiting.is_empty() { IDLE } else { SILENCE };
        tokio::select! {
            exchange = exchanges.recv(), if waiting.len() < IN_FLIGHT => {
                let Some(mut exchange) = exchange else { return };
                if waiting.is_empty() {
                    progress = Instant::now();
                }
                while waiting.contains_key(&next_id) {
                    next_id = next_id.wrapping_add(1);
                }
                exchange.query[..2].copy_from_slice(&next_id.to_be_bytes());
                let query = frame(&exchange.query);
                // Without the flush, a TLS session may keep what the socket did not take at once.
                let sent = timeout(SILENCE, async { write.write_all(&query).await?; write.flush().await }).await;
                waiting.insert(next_id, exchange);
                next_id = next_id.wrapping_add(1);
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
            reply = timeout_at(progress + patience, replies.next(&mut read)) => {
                let Ok(Ok(Some(reply))) = reply else { return };
                deliver(reply, &mut waiting);
                // Whoever has stopped waiting has dropped its end.
                waiting.retain(|_, exchange| !exchange.reply.is_closed());
                progress = Instant::now();
            }
        }
    }
}

fn deliver(reply: &[u8], waiting: &mut HashMap<u16, Exchange>) {
    let Some(id) = reply.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return };
    if waiting.get(&id).is_some_and(|exchange| is_reply_to(&exchange.query, reply))
        && let Some(exchange) = waiting.remove(&id)
    {
        // Nobody waits any more: nothing to do.
        let _ = exchange.reply.send(Ok(reply.to_vec()));
    }
}
