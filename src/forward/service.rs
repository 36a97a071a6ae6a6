//! What every connection of the plane shares: one configuration at work, replaced whole by a reload.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
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

/// A client's connection, and what surrounds it.
#[derive(Debug)]
pub struct Connection {
    /// The configuration in force, whichever that is.
    pub service: watch::Receiver<Arc<Service>>,
    pub client: SocketAddr,
    /// The address it came in by.
    pub listener: SocketAddr,
    pub place: Place,
    pub drain: Drain,
}

impl Connection {
    /// The configuration in force now.
    pub fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service.borrow())
    }
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
