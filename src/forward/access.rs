//! What became of each connection and request: the access log, and the totals that metrics are made of.
//!
//! Every entrance fills a [`Record`] as it goes and hands it to [`Journal::finish`] at the end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::destination::Destination;
use super::dial::Dialled;
use super::permit::{Entrance, Permit};
use crate::histogram::{Durations, Histogram};
use crate::recent::Recent;

/// The target of the access log's events. `logging` lets them through where `log.access` is set, and at debug.
pub const TARGET: &str = "access";

/// What is known of one connection, tunnel or request so far.
#[derive(Debug, Clone)]
pub struct Record {
    entrance: Entrance,
    client: SocketAddr,
    started: Instant,
    destination: Option<Destination>,
    /// Label of the way and number of the rule.
    route: Option<(&'static str, u8)>,
    address: Option<SocketAddr>,
    /// From the start to a connection.
    connected: Option<Duration>,
    /// HTTP status, where this plane speaks HTTP.
    pub status: Option<u16>,
    /// Bytes from the client.
    pub up: u64,
    /// Bytes to the client.
    pub down: u64,
}

impl Record {
    /// Begins now.
    pub fn new(entrance: Entrance, client: SocketAddr) -> Self {
        let (destination, route, address, connected, status) = (None, None, None, None, None);
        let started = Instant::now();
        Self { entrance, client, started, destination, route, address, connected, status, up: 0, down: 0 }
    }

    pub fn asked_for(&mut self, destination: Destination) {
        self.destination = Some(destination);
    }

    pub fn permitted(&mut self, permit: &Permit) {
        self.route = Some((permit.way.label(), permit.rule as u8));
    }

    pub fn dialled(&mut self, dialled: &Dialled) {
        self.permitted(&dialled.permit);
        self.went_to(dialled.address);
    }

    /// Goes over a connection to this peer.
    pub fn went_to(&mut self, address: SocketAddr) {
        self.address = Some(address);
        self.connected = Some(self.started.elapsed());
    }
}

/// How often something ended in one way, and what it had carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    pub count: u64,
    pub up: u64,
    pub down: u64,
}

/// What was decided about one connection, tunnel or request, and what became of it.
#[derive(Debug, Clone, Copy)]
pub struct Decided {
    pub entrance: Entrance,
    pub destination: Option<Destination>,
    /// Label of the way and number of the rule.
    pub route: Option<(&'static str, u8)>,
    pub reason: &'static str,
}

/// Where records end up.
#[derive(Debug, Default)]
pub struct Journal {
    /// Noted only while somebody looks.
    pub decided: Recent<Decided>,
    /// By entrance and by how it ended; both sets are bounded.
    totals: Mutex<BTreeMap<(Entrance, &'static str), Total>>,
    /// From a request to a connection, by entrance and by the label of the way.
    connected: Mutex<BTreeMap<(Entrance, &'static str), Histogram>>,
}

impl Journal {
    /// Closes a record. `reason` is one of a bounded set of labels; `words` say more where there is more to say.
    pub fn finish(&self, record: &Record, reason: &'static str, words: Option<&str>) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let total = totals.entry((record.entrance, reason)).or_default();
        *total = Total { count: total.count + 1, up: total.up + record.up, down: total.down + record.down };
        drop(totals);
        let Record { entrance, destination, route, .. } = *record;
        self.decided.note(Instant::now().into_std(), || Some(Decided { entrance, destination, route, reason }));
        if let (Some((way, _)), Some(took)) = (record.route, record.connected) {
            let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
            connected.entry((record.entrance, way)).or_default().observe(took);
        }
        tracing::info!(
            target: TARGET,
            entrance = record.entrance.label(),
            client = %record.client,
            host = record.destination.map(display),
            route = record.route.map(|(way, _)| way),
            rule = record.route.map(|(_, rule)| rule),
            address = record.address.map(display),
            status = record.status,
            reason,
            words,
            up = record.up,
            down = record.down,
            connect_ms = record.connected.map(milliseconds),
            total_ms = milliseconds(record.started.elapsed()),
        );
    }

    /// Everything that ended so far, by entrance and by how.
    pub fn totals(&self) -> BTreeMap<(Entrance, &'static str), Total> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long it took to connect, by entrance and by the label of the way.
    pub fn connected(&self) -> BTreeMap<(Entrance, &'static str), Durations> {
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        connected.iter().map(|(kind, histogram)| (*kind, histogram.read())).collect()
    }
}

/// Thousandths of a second, to three places.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
