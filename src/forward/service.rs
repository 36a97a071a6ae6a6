//! What every connection of the plane shares: one configuration at work, replaced whole by a reload.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Journal;
use super::http::Gateway;
use super::router::Router;
use crate::policy::Networks;
use crate::tcp_listener::Place;

/// One configuration of the plane at work.
#[derive(Debug)]
pub struct Service {
    pub router: Router,
    /// Who may use the listeners.
    pub clients: Networks,
    pub journal: Arc<Journal>,
    /// What `forward.http` needs beside that, where it listens.
    pub http: Option<Gateway>,
}

/// What all connections of one listener share.
#[derive(Debug)]
pub struct Listening {
    /// The configuration in force, whichever that is.
    pub service: watch::Receiver<Arc<Service>>,
    pub address: SocketAddr,
    pub bounds: Arc<AtBounds>,
    pub drain: Drain,
}

/// A client's connection, and where it came in.
#[derive(Debug)]
pub struct Connection {
    pub client: SocketAddr,
    pub place: Place,
    pub listening: Arc<Listening>,
}

impl Connection {
    /// The configuration in force now.
    pub fn service(&self) -> Arc<Service> {
        Arc::clone(&self.listening.service.borrow())
    }

    /// Whether its client is still one of `clients`, which a reload may have changed.
    pub fn may_stay(&self) -> bool {
        self.listening.service.borrow().clients.contains(self.client.ip())
    }

    /// A place for a stream within this connection, which is as good as a connection of its own. Its request has come.
    pub fn place_for_stream(&self) -> Place {
        let now = Instant::now().into_std();
        let (place, evicted) = self.place.beside(now);
        if evicted {
            self.listening.bounds.evicted.fetch_add(1, Ordering::Relaxed);
        }
        place.has_asked(now);
        place
    }
}

/// What happened at the bounds, counted since the start.
#[derive(Debug, Default)]
pub struct AtBounds {
    /// Connections closed to make room for newer ones.
    pub evicted: AtomicU64,
    /// Failures to accept.
    pub accept_errors: AtomicU64,
    /// Connections from addresses outside `clients`.
    pub foreign: AtomicU64,
}

/// How a listener and the plane end.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// Cancelled when the listener closes: nothing new is begun, what runs goes on.
    pub begun: CancellationToken,
    /// Cancelled when the grace is over: everything ends.
    pub over: CancellationToken,
    /// Counts what still runs.
    pub tracker: TaskTracker,
}
