//! The TCP listener (RFC 7766): queries may be pipelined, answers leave as they are ready, and no client can hold more
//! than its share.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dns::frame::FrameReader;
use crate::dns::reply::ReplyLimit;
use crate::dns::service::{Counters, Pending, Service};
use crate::tcp_listener::{self, Bounds, Connections, Place};

/// A connection must bring a whole query within this, each time; RFC 7766 section 6.2.3 leaves the figure to us.
const IDLE: Duration = Duration::from_secs(10);
/// A client that does not read its answers for so long is gone.
const WRITE: Duration = Duration::from_secs(5);
/// When the listener ends, a connection is read until it has been silent for so long, so that what its client had sent by
/// then is answered.
const LAST_SILENCE: Duration = Duration::from_millis(50);
/// Times it is read at most after that: a client that goes on asking does not keep the listener.
const LAST_READS: usize = 1024;
/// Queries of one connection that may wait for an upstream; beyond that nothing more is read from it.
const MAX_WAITING: usize = 64;
/// Replies are gathered up to this size before they are written.
const WRITE_AT: usize = 16 * 1024;
/// Connections of one listener.
const BOUNDS: Bounds = Bounds { total: 1024, per_client: 64 };

/// Accepts until `stop`, then lets connections finish what they have asked.
pub(super) async fn serve(
    listener: TcpListener,
    service: watch::Receiver<Arc<Service>>,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    let acceptor = Acceptor { service, stop: stop.clone(), tracker, connections: Connections::new(BOUNDS) };
    acceptor.service.borrow().counters.connections.add(&acceptor.connections);
    let failed = || Counters::count(&acceptor.service.borrow().counters.accept_errors);
    tcp_listener::accept(listener, &stop, |stream, client| acceptor.admit(stream, client), failed).await;
}

/// What every connection of a listener shares.
struct Acceptor {
    service: watch::Receiver<Arc<Service>>,
    stop: CancellationToken,
    tracker: TaskTracker,
    connections: Arc<Connections>,
}

impl Acceptor {
    fn admit(&self, stream: TcpStream, client: SocketAddr) {
        let current = Arc::clone(&self.service.borrow());
        if !current.clients.contains(client.ip()) {
            Counters::count(&current.counters.foreign);
            return;
        }
        // Answers are whole when they are written; there is nothing to wait for.
        let _ = stream.set_nodelay(true);
        // All of a host's programs share loopback.
        let counted_as = Some(client.ip()).filter(|ip| !ip.is_loopback());
        let (place, evicted) = self.connections.admit(counted_as, Instant::now(), CancellationToken::new());
        if evicted {
            Counters::count(&current.counters.evicted);
        }
        let connection = Connection { service: self.service.clone(), client, place, stop: self.stop.clone() };
        self.tracker.spawn(async move {
            // How a connection ends concerns nobody but its client.
            let _ = connection.serve(stream).await;
        });
    }
}

struct Connection {
    service: watch::Receiver<Arc<Service>>,
    client: SocketAddr,
    place: Place,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        let (mut read, mut write) = tokio::io::split(stream);
        let mut frames = FrameReader::default();
        let mut waiting: FuturesUnordered<Waiting> = FuturesUnordered::new();
        let mut replies = Vec::new();
        let mut reply = Vec::new();
        let mut reading = true;
        let mut patience = IDLE;
        let mut reads_left = usize::MAX;
        let mut deadline = tokio::time::Instant::now() + patience;
        while reading || !waiting.is_empty() {
            let mut silent = false;
            tokio::select! {
                () = self.place.close.cancelled() => return Ok(()),
                () = self.stop.cancelled(), if reads_left > LAST_READS => {
                    (patience, reads_left) = (LAST_SILENCE, LAST_READS);
                    deadline = tokio::time::Instant::now() + patience;
                }
                Some(answer) = waiting.next() => {
                    put_frame(&mut replies, &answer);
                    deadline = tokio::time::Instant::now() + patience;
                }
                frame = timeout_at(deadline, frames.next(&mut read)), if reading && waiting.len() < MAX_WAITING => {
                    match frame {
                        Ok(Ok(Some(packet))) => {
                            self.handle(packet, &mut reply, &mut replies, &mut waiting);
                            while waiting.len() < MAX_WAITING && replies.len() < WRITE_AT {
                                let Some(packet) = frames.next_buffered() else { break };
                                self.handle(packet, &mut reply, &mut replies, &mut waiting);
                            }
                            self.place.has_asked(Instant::now());
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
                return Ok(());
            } else if silent {
                // The client waits for us, not we for it.
                deadline = tokio::time::Instant::now() + patience;
            }
            if !replies.is_empty() {
                tokio::select! {
                    () = self.place.close.cancelled() => return Ok(()),
                    written = timeout(WRITE, write.write_all(&replies)) => written??,
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
        reply: &mut Vec<u8>,
        replies: &mut Vec<u8>,
        waiting: &mut FuturesUnordered<Waiting>,
    ) {
        let service = Arc::clone(&self.service.borrow());
        let table = service.resolver.table();
        match service.handle(packet, self.client, &table, Instant::now(), ReplyLimit::Stream, reply) {
            None => put_frame(replies, reply),
            Some(pending) => waiting.push(Box::pin(wait(service, pending))),
        }
    }
}

/// A query that waits for an upstream, and becomes its reply.
type Waiting = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

async fn wait(service: Arc<Service>, pending: Pending) -> Vec<u8> {
    let mut reply = Vec::new();
    service.finish(&pending, &mut reply).await;
    reply
}

/// Appends a reply in its frame; an empty one is none.
fn put_frame(replies: &mut Vec<u8>, reply: &[u8]) {
    if !reply.is_empty() {
        replies.extend((reply.len() as u16).to_be_bytes());
        replies.extend_from_slice(reply);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::time::sleep;

    use super::*;
    use crate::dns::question::Question;
    use crate::dns::resolver::Resolver;
    use crate::dns::upstream::Upstreams;
    use crate::dns::wire::rtype;
    use crate::policy::{Networks, Table};

    /// A connection being served, its far end, and what ends its listener.
    fn connection(buffer: usize) -> (DuplexStream, CancellationToken) {
        let (_, tables) = watch::channel(Arc::new(Table::default()));
        let upstreams = Upstreams::new(&crate::dns::Upstreams::default(), &[], None).unwrap();
        let resolver = Arc::new(Resolver::new(tables, upstreams, 1 << 16, None));
        let service = Service { resolver, clients: Networks::private(), forwarder: None, counters: Arc::default() };
        let client = SocketAddr::from(([127, 0, 0, 1], 1));
        let (place, _) = Connections::new(BOUNDS).admit(None, Instant::now(), CancellationToken::new());
        let stop = CancellationToken::new();
        let connection = Connection {
            service: watch::Sender::new(Arc::new(service)).subscribe(),
            client,
            place,
            stop: stop.clone(),
        };
        let (near, far) = duplex(buffer);
        tokio::spawn(async move { connection.serve(near).await });
        (far, stop)
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
}
