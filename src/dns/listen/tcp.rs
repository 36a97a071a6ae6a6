//! Messages on a stream (RFC 7766), in the clear or over TLS (RFC 7858): queries may be pipelined, answers leave as they are
//! ready, and no client can hold more than its share.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};

use super::accept::Connection;
use crate::dns::encrypted;
use crate::dns::frame::{FrameReader, put_frame};
use crate::dns::service::{Pending, Service};
use crate::dns::tally::Transport;
use crate::policy::Table;

/// A connection must bring a whole query within this, each time; RFC 7766 section 6.2.3 leaves the figure to us.
const IDLE: Duration = Duration::from_secs(10);
/// The same for one that took a handshake to make (RFC 7858 section 3.4).
const ENCRYPTED_IDLE: Duration = Duration::from_secs(30);
/// A client that does not read its answers for so long is gone.
pub(super) const WRITE: Duration = Duration::from_secs(5);
/// When the listener ends, a connection is read until it has been silent for so long, so that what its client had sent by
/// then is answered.
pub(super) const LAST_SILENCE: Duration = Duration::from_millis(50);
/// Times it is read at most after that: a client that goes on asking does not keep the listener.
const LAST_READS: usize = 1024;
/// Queries of one connection that may wait for an upstream; beyond that nothing more is read from it.
const MAX_WAITING: usize = 64;
/// Octets read at a time: a dozen queries.
const READ_AT_ONCE: usize = 1024;
/// Replies are gathered up to this size before they are written.
const WRITE_AT: usize = 16 * 1024;

/// Serves a connection until its client has no more to ask, is silent for too long, or has to go.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite,
    connection: Connection,
    transport: Transport,
) -> io::Result<()> {
    Stream { connection, transport }.serve(stream).await
}

struct Stream {
    connection: Connection,
    transport: Transport,
}

impl Stream {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        let Connection { place, stop, .. } = &self.connection;
        let (mut read, mut write) = tokio::io::split(stream);
        let mut frames = FrameReader::reading(READ_AT_ONCE);
        let mut waiting: FuturesUnordered<Waiting> = FuturesUnordered::new();
        let mut replies = Vec::new();
        let mut reply = Vec::new();
        let mut reading = true;
        let mut patience = if self.transport.is_encrypted() { ENCRYPTED_IDLE } else { IDLE };
        let mut reads_left = usize::MAX;
        let mut deadline = tokio::time::Instant::now() + patience;
        while reading || !waiting.is_empty() {
            let mut silent = false;
            tokio::select! {
                () = place.close.cancelled() => return Ok(()),
                () = stop.cancelled(), if reads_left > LAST_READS => {
                    (patience, reads_left) = (LAST_SILENCE, LAST_READS);
                    deadline = tokio::time::Instant::now() + patience;
                }
                Some(answer) = waiting.next() => {
                    put_reply(&mut replies, &answer);
                    deadline = tokio::time::Instant::now() + patience;
                }
                frame = timeout_at(deadline, frames.next(&mut read)), if reading && waiting.len() < MAX_WAITING => {
                    match frame {
                        Ok(Ok(Some(packet))) => {
                            let by = InForce::of(&self.connection);
                            self.handle(packet, &by, &mut reply, &mut replies, &mut waiting);
                            while waiting.len() < MAX_WAITING && replies.len() < WRITE_AT {
                                let Some(packet) = frames.next_buffered() else { break };
                                self.handle(packet, &by, &mut reply, &mut replies, &mut waiting);
                            }
                            place.has_asked(by.now);
                            deadline = tokio::time::Instant::now() + patience;
                            reads_left -= 1;
                            reading = reads_left > 0;
                        }
                        Ok(Ok(None)) => reading = false,
                        // What it asked before is still owed.
                        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => reading = false,
                        Ok(Err(error)) => return Err(error),
                        Err(_elapsed) => silent = true,
                    }
                }
            }
            if silent && reads_left <= LAST_READS {
                reading = false;
            } else if silent && (waiting.is_empty() || frames.is_amid()) {
                break;
            } else if silent {
                // The client waits for us, not we for it.
                deadline = tokio::time::Instant::now() + patience;
            }
            if !replies.is_empty() {
                tokio::select! {
                    () = place.close.cancelled() => return Ok(()),
                    written = timeout(WRITE, send(&mut write, &replies)) => written??,
                }
                replies.clear();
                replies.shrink_to(WRITE_AT);
            }
        }
        timeout(WRITE, write.shutdown()).await?
    }

    fn handle(
        &self,
        packet: &[u8],
        InForce { service, table, now }: &InForce,
        reply: &mut Vec<u8>,
        replies: &mut Vec<u8>,
        waiting: &mut FuturesUnordered<Waiting>,
    ) {
        match service.handle(packet, self.connection.client, table, *now, self.transport, reply) {
            None => {
                if self.transport.is_encrypted() {
                    encrypted::pad(packet, reply);
                }
                put_reply(replies, reply);
            }
            Some(pending) => {
                let all_waiting = Arc::clone(&self.connection.waiting);
                let service = Arc::clone(service);
                waiting.push(Box::pin(wait(service, pending, all_waiting, self.transport.is_encrypted())));
            }
        }
    }
}

/// By what the queries are answered that have come together.
struct InForce {
    service: Arc<Service>,
    table: Arc<Table>,
    now: Instant,
}

impl InForce {
    fn of(connection: &Connection) -> Self {
        let service = Arc::clone(&connection.service.borrow());
        let table = service.resolver.table();
        Self { service, table, now: Instant::now() }
    }
}

/// A query that waits for an upstream, and becomes its reply.
type Waiting = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

async fn wait(service: Arc<Service>, mut pending: Pending, all_waiting: Arc<Semaphore>, is_encrypted: bool) -> Vec<u8> {
    let mut reply = service.finish_on_stream(&mut pending, &all_waiting).await;
    if is_encrypted {
        encrypted::pad(pending.packet(), &mut reply);
    }
    reply
}

/// Writes all, through whatever holds bytes back, as TLS does.
async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Appends a reply; an empty one is none.
fn put_reply(replies: &mut Vec<u8>, reply: &[u8]) {
    if !reply.is_empty() {
        put_frame(replies, reply);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::sync::watch;
    use tokio::task::yield_now;
    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    use super::super::accept::BOUNDS;
    use super::*;
    use crate::dns::question::Question;
    use crate::dns::resolver::Resolver;
    use crate::dns::shares::Shares;
    use crate::dns::upstream::{Server, Upstreams};
    use crate::dns::wire::rtype;
    use crate::policy::Networks;
    use crate::tcp_listener::Connections;

    fn service(public: Vec<Server>, shares: Option<Arc<Shares>>) -> Arc<Service> {
        let (_, tables) = watch::channel(Arc::new(Table::default()));
        let servers = crate::dns::Upstreams { public, ..crate::dns::Upstreams::default() };
        let upstreams = Upstreams::new(&servers, &[], None).unwrap();
        let resolver = Arc::new(Resolver::new(tables, upstreams, 1 << 16, None));
        let (clients, counters) = (Networks::private(), Arc::default());
        Arc::new(Service { resolver, clients, forwarder: None, tls: None, shares, counters })
    }

    /// A connection being served, its far end, and what ends its listener.
    fn connection(buffer: usize) -> (DuplexStream, CancellationToken) {
        let (far, stop, _) = connected(service(Vec::new(), None), "127.0.0.1", &Arc::new(Semaphore::new(1)), buffer);
        (far, stop)
    }

    /// The same, with what closes it at once.
    fn connected(
        service: Arc<Service>,
        client: &str,
        waiting: &Arc<Semaphore>,
        buffer: usize,
    ) -> (DuplexStream, CancellationToken, CancellationToken) {
        let client = SocketAddr::new(client.parse().unwrap(), 1);
        let (place, _) = Connections::new(BOUNDS).admit(None, Instant::now(), CancellationToken::new());
        let stop = CancellationToken::new();
        let connection = Connection {
            service: watch::Sender::new(service).subscribe(),
            client,
            place,
            waiting: Arc::clone(waiting),
            stop: stop.clone(),
        };
        let (close, (near, far)) = (connection.place.close.clone(), duplex(buffer));
        tokio::spawn(async move { serve(near, connection, Transport::Tcp).await });
        (far, stop, close)
    }

    fn query() -> Vec<u8> {
        let question = Question::new(crate::dns::HEALTH_NAME.parse().unwrap(), rtype::TXT);
        crate::dns::frame::frame(&question.to_wire(false))
    }

    /// Seconds until the other side has closed, and what it sent before.
    async fn until_closed(client: &mut DuplexStream) -> (u64, usize) {
        let (started, mut sent) = (tokio::time::Instant::now(), Vec::new());
        client.read_to_end(&mut sent).await.unwrap();
        (started.elapsed().as_secs(), sent.len())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_with_half_a_query_or_none() {
        for written in [0, 1, 2, 20] {
            let (mut client, _stop) = connection(4096);
            client.write_all(&query()[..written]).await.unwrap();
            assert_eq!(until_closed(&mut client).await, (10, 0), "{written} octets");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_prolongs_a_connection_and_single_octets_do_not() {
        let (mut client, _stop) = connection(4096);
        let mut reply = [0; 512];
        for _ in 0..3 {
            sleep(Duration::from_secs(8)).await;
            client.write_all(&query()).await.unwrap();
            assert!(client.read(&mut reply).await.unwrap() > 0);
        }
        let started = tokio::time::Instant::now();
        for octet in query() {
            if client.write_all(&[octet]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(started.elapsed().as_secs(), 11, "the write after the tenth second fails");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_gone_soon() {
        let (mut client, _stop) = connection(64);
        let started = tokio::time::Instant::now();
        while client.write_all(&query()).await.is_ok() {}
        assert_eq!(started.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_listener_ends_an_idle_connection_does_at_once_and_one_that_has_sent_is_answered() {
        for written in [0, query().len()] {
            let (mut client, stop) = connection(4096);
            client.write_all(&query()[..written]).await.unwrap();
            stop.cancel();
            let (seconds, sent) = until_closed(&mut client).await;
            assert_eq!((seconds, sent > 0), (0, written > 0));
        }
    }

    /// Lets everybody go as far as they can while the clock stands still.
    async fn settle() {
        for _ in 0..1000 {
            yield_now().await;
        }
    }

    /// A client could be rid of its share by closing its connection, so there its permits stay taken.
    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded_over_all_connections_and_goes_with_its_own_unless_it_counts_as_its_clients() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = Server::udp(silent.local_addr().unwrap());
        let question = Question::new("www.example.com".parse().unwrap(), rtype::A);
        let three = crate::dns::frame::frame(&question.to_wire(false)).repeat(3);
        for (client, shares, kept) in
            [("127.0.0.1", Some(Arc::default()), 0), ("10.0.0.9", None, 0), ("10.0.0.9", Some(Arc::default()), 3)]
        {
            let (service, waiting) = (service(vec![server.clone()], shares), Arc::new(Semaphore::new(5)));
            let counted = || service.counters.answered.totals().iter().map(|total| total.count).sum::<u64>();
            let mut connections = Vec::new();
            for (free, shed) in [(2, 0), (0, 1)] {
                let mut connection = connected(Arc::clone(&service), client, &waiting, 4096);
                connection.0.write_all(&three).await.unwrap();
                connections.push(connection);
                settle().await;
                assert_eq!((waiting.available_permits(), counted()), (free, shed), "{client}");
            }
            assert_eq!(service.counters.shed.load(std::sync::atomic::Ordering::Relaxed), 1);
            connections[0].2.cancel();
            settle().await;
            assert_eq!(waiting.available_permits(), 3 - kept, "{client}");
            sleep(Duration::from_secs(5)).await;
            assert_eq!(waiting.available_permits(), 5, "{client}");
            assert_eq!(counted(), 3, "{client}: what was sent, and no more");
        }
    }
}
