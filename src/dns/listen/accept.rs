//! Stream connections of every kind: who may have one, how many there are, what is spoken on it. Called by `Bound::serve`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{MAX_WAITING, Over, https, tcp};
use crate::dns::service::{Counters, Service};
use crate::dns::tally::Transport;
use crate::server_tls;
use crate::tcp_listener::{self, Bounds, Connections, Place};

/// Connections of one listener.
pub(super) const BOUNDS: Bounds = Bounds { total: 1024, per_client: 64 };
/// A listener that a reload has begun has its certificate sooner than this.
const CERTIFICATE: Duration = Duration::from_secs(10);

/// Accepts until `stop`, then lets connections finish what they have asked. Who waits in the queue of an inherited socket
/// is the next process's.
pub(super) async fn serve(
    over: Over,
    listener: TcpListener,
    inherited: bool,
    service: watch::Receiver<Arc<Service>>,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    // Answers are whole when they are written; there is nothing to wait for.
    tcp_listener::send_at_once(&listener);
    let (connections, waiting) = (Connections::new(BOUNDS), Arc::new(Semaphore::new(MAX_WAITING)));
    let acceptor = Acceptor { over, service, stop: stop.clone(), tracker, connections, waiting };
    acceptor.service.borrow().counters.connections.add(&acceptor.connections);
    let failed = || acceptor.failed();
    let admit = |stream, client| acceptor.admit(stream, client);
    if inherited {
        tcp_listener::accept_until(&listener, &stop, admit, failed).await;
    } else {
        tcp_listener::accept(listener, &stop, admit, failed).await;
    }
}

/// What every connection of a listener shares.
struct Acceptor {
    over: Over,
    service: watch::Receiver<Arc<Service>>,
    stop: CancellationToken,
    tracker: TaskTracker,
    connections: Arc<Connections>,
    waiting: Arc<Semaphore>,
}

impl Acceptor {
    /// The system lacks something that one of our connections can give back.
    fn failed(&self) {
        let counters = &self.service.borrow().counters;
        Counters::count(&counters.accept_errors);
        if self.connections.give_way() {
            Counters::count(&counters.evicted);
        }
    }

    fn admit(&self, stream: TcpStream, client: SocketAddr) {
        let current = Arc::clone(&self.service.borrow());
        if !current.clients.contains(client.ip()) {
            Counters::count(&current.counters.foreign);
            return;
        }
        // All of a host's programs share loopback, and where there are no shares a client asks for many.
        let counted_as = Some(client.ip()).filter(|ip| !ip.is_loopback() && current.shares.is_some());
        let (place, evicted) = self.connections.admit(counted_as, Instant::now(), CancellationToken::new());
        if evicted {
            Counters::count(&current.counters.evicted);
        }
        let (waiting, stop) = (Arc::clone(&self.waiting), self.stop.clone());
        let connection = Connection { service: self.service.clone(), client, place, waiting, stop };
        let over = self.over;
        self.tracker.spawn(async move {
            // How a connection ends concerns nobody but its client.
            match over {
                Over::Plain => drop(tcp::serve(stream, connection, Transport::Tcp).await),
                Over::Tls => {
                    if let Some(stream) = connection.secure(stream, over).await {
                        drop(tcp::serve(stream, connection, Transport::Tls).await);
                    }
                }
                Over::Https => {
                    if let Some(stream) = connection.secure(stream, over).await {
                        https::serve(stream, connection).await;
                    }
                }
            }
        });
    }
}

/// One connection, whatever is spoken on it.
pub(super) struct Connection {
    pub service: watch::Receiver<Arc<Service>>,
    pub client: SocketAddr,
    pub place: Place,
    /// Permits to wait for an upstream, those of all its listener's connections.
    pub waiting: Arc<Semaphore>,
    /// The listener has ended: what was asked is answered, and no more.
    pub stop: CancellationToken,
}

impl Connection {
    /// Takes the client's handshake; `None` if there is none, or somebody else needs the place. Who leaves without a word
    /// has failed at nothing.
    async fn secure(&self, stream: TcpStream, over: Over) -> Option<TlsStream<TcpStream>> {
        let secured = async {
            let settings = self.settings(over).await?;
            server_tls::accept(&settings, stream).await.ok()
        };
        let outcome = tokio::select! {
            outcome = secured => outcome,
            () = self.place.close.cancelled() => None,
        };
        if outcome.is_none() {
            Counters::count(&self.service.borrow().counters.handshakes_failed);
        }
        outcome.flatten()
    }

    async fn settings(&self, over: Over) -> Option<Arc<ServerConfig>> {
        let mut service = self.service.clone();
        let ready = timeout(CERTIFICATE, service.wait_for(|service| service.tls.is_some())).await.ok()?.ok()?;
        let tls = ready.tls.as_ref()?;
        Some(Arc::clone(if over == Over::Https { &tls.doh } else { &tls.dot }))
    }
}
