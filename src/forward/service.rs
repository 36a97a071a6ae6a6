//! What every connection of the plane shares: one configuration at work, replaced whole by a reload.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{Journal, Record};
use super::destination::Destination;
use super::dial::{Dialer, Dialled};
use super::http::Gateway;
use super::permit::{Destinations, Entrance, Permit, permit};
use super::refusal::{Cause, Refusal};
use crate::policy::{Networks, Table};
use crate::tcp_listener::Place;

/// One configuration of the plane at work.
#[derive(Debug)]
pub struct Service {
    pub table: watch::Receiver<Arc<Table>>,
    pub destinations: Destinations,
    pub dialer: Dialer,
    /// Who may use the listeners.
    pub clients: Networks,
    pub journal: Arc<Journal>,
    /// What `forward.http` needs beside that, where it listens.
    pub http: Option<Gateway>,
}

impl Service {
    /// Whether a destination may be dialled under the table in force, and which way.
    ///
    /// # Errors
    /// As [`permit`].
    pub fn permit(&self, entrance: Entrance, destination: Destination) -> Result<Permit, Refusal> {
        permit(&self.table.borrow(), &self.destinations, entrance, destination)
    }

    /// Connects to what is permitted. If that teaches the table that the name is private, goes there.
    ///
    /// # Errors
    /// As [`Dialer::dial`].
    pub async fn dial(&self, entrance: Entrance, asked: Permit) -> Result<Dialled, Refusal> {
        let (learnable, destination) = (asked.learnable, asked.destination);
        match self.dialer.dial(asked).await {
            Err(refusal) if learnable && refusal.cause == Cause::NoSuchName => {
                match self.permit(entrance, destination)? {
                    learned if learned.way.endpoint().is_some() => self.dialer.dial(learned).await,
                    _ => Err(refusal),
                }
            }
            outcome => outcome,
        }
    }

    /// Both in one, for entrances that connect once for each client.
    ///
    /// # Errors
    /// As [`permit`] and [`Dialer::dial`].
    pub async fn connect(
        &self,
        entrance: Entrance,
        destination: Destination,
        record: &mut Record,
    ) -> Result<Dialled, Refusal> {
        record.asked_for(destination);
        let permit = self.permit(entrance, destination)?;
        record.permitted(&permit);
        let dialled = self.dial(entrance, permit).await?;
        record.dialled(&dialled);
        Ok(dialled)
    }
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

/// How the plane ends.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// Cancelled when listeners close: nothing new is begun, what runs goes on.
    pub begun: CancellationToken,
    /// Cancelled when the grace is over: everything ends.
    pub over: CancellationToken,
    /// Counts what still runs.
    pub tracker: TaskTracker,
}
