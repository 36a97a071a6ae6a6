//! Questions over one kept connection, TCP or TLS, many at once (RFC 7766, RFC 7858).
//!
//! A server has at most one connection. A task drives it: it gives each query an id of its own, hands each reply to
//! whoever asked, and closes what is idle.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::exchange::{AskError, OwnSocket, OwnSockets, Protocol, is_reply_to};
use crate::dns::frame::{FrameReader, put_frame};

/// An idle connection is closed after this, RFC 7766 section 6.2.3.
const IDLE: Duration = Duration::from_secs(10);
/// The longest a write may take, and the longest that queries wait without any reply: after that the server is gone.
const SILENCE: Duration = Duration::from_secs(4);
/// Queries under way on one connection; more wait.
const IN_FLIGHT: usize = 512;
/// Queries that nobody waits for any more count among them no longer than this, if any reply comes.
const TIDY: Duration = Duration::from_secs(1);
/// Octets of replies read at a time.
const AT_ONCE: usize = 16 * 1024;

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
        let (sender, exchanges) = mpsc::channel(IN_FLIGHT);
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

/// Drives a connection until it fails or is idle.
async fn drive(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    mut exchanges: mpsc::Receiver<Exchange>,
    _own: OwnSocket,
) {
    let mut waiting = Waiting::new();
    carry(&mut stream, &mut exchanges, &mut waiting).await;
    // Before those who wait are told: whoever asks by then asks by another connection.
    exchanges.close();
}

/// Carries queries and replies. What has come by then is written, and read, at once: a record of TLS and a system call for
/// many queries.
async fn carry(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    exchanges: &mut mpsc::Receiver<Exchange>,
    waiting: &mut Waiting,
) {
    let (mut new, mut queries) = (Vec::new(), Vec::new());
    let mut replies = FrameReader::reading(AT_ONCE);
    let mut progress = Instant::now();
    let alarm = sleep_until(progress + IDLE);
    tokio::pin!(alarm);
    loop {
        let room = IN_FLIGHT.saturating_sub(waiting.count());
        tokio::select! {
            // In this order: what has come by now is no silence.
            biased;
            count = exchanges.recv_many(&mut new, room), if room > 0 => {
                if count == 0 {
                    return;
                }
                if waiting.count() == 0 {
                    progress = Instant::now();
                    alarm.as_mut().reset(progress + SILENCE);
                }
                queries.clear();
                new.drain(..).for_each(|exchange| waiting.start(exchange, &mut queries));
                // Without the flush, a TLS session may keep what the socket did not take at once.
                let sent = timeout(SILENCE, async { stream.write_all(&queries).await?; stream.flush().await }).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
            reply = replies.next(stream) => {
                let Ok(Some(reply)) = reply else { return };
                waiting.deliver(reply);
                while let Some(reply) = replies.next_buffered() {
                    waiting.deliver(reply);
                }
                progress = Instant::now();
                waiting.tidy(progress);
            }
            // Moved seldom: only where it would ring too late, or has rung too soon.
            () = &mut alarm => {
                let patience = if waiting.count() == 0 { IDLE } else { SILENCE };
                if progress + patience <= Instant::now() {
                    return;
                }
                alarm.as_mut().reset(progress + patience);
            }
        }
    }
}

/// Queries on a connection without a reply so far, each under an id of its own.
struct Waiting {
    exchanges: HashMap<u16, Exchange>,
    next_id: u16,
    /// When those were last looked for that nobody waits for any more.
    tidied: Instant,
}

impl Waiting {
    fn new() -> Self {
        Self { exchanges: HashMap::new(), next_id: rand::random(), tidied: Instant::now() }
    }

    fn count(&self) -> usize {
        self.exchanges.len()
    }

    /// Gives a query its id and puts its frame behind those in `queries`.
    fn start(&mut self, mut exchange: Exchange, queries: &mut Vec<u8>) {
        while self.exchanges.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        exchange.query[..2].copy_from_slice(&self.next_id.to_be_bytes());
        put_frame(queries, &exchange.query);
        self.exchanges.insert(self.next_id, exchange);
        self.next_id = self.next_id.wrapping_add(1);
    }

    fn deliver(&mut self, reply: &[u8]) {
        let Some(id) = reply.first_chunk().map(|id| u16::from_be_bytes(*id)) else { return };
        if let Entry::Occupied(exchange) = self.exchanges.entry(id)
            && is_reply_to(&exchange.get().query, reply)
        {
            // Nobody waits any more: nothing to do.
            let _ = exchange.remove().reply.send(Ok(reply.to_vec()));
        }
    }

    /// Whoever has stopped waiting has dropped its end.
    fn tidy(&mut self, now: Instant) {
        if now.duration_since(self.tidied) >= TIDY {
            self.exchanges.retain(|_, exchange| !exchange.reply.is_closed());
            self.tidied = now;
        }
    }
}
