//! Connections to servers: those that wait for their next request, and how many there may be.
//!
//! `connect` takes them from here and opens new ones; what ends a request gives its connection back. A connection
//! belongs to one name on one way: when the policy changes a name's way, nothing of the old one is used again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::multiplexed::{Http2, Multiplexed};
use super::source::{Source, Writer};
use super::tls::Protocols;
use crate::forward::permit::{Permit, Way};
use crate::forward::refusal::{Cause, Refusal};
use crate::policy::{HostName, Upstream};

/// Connections in use to one host at most: event streams last, and in HTTP/1.1 each has its own.
const PER_HOST: usize = 512;
/// The same to all hosts together.
const IN_ALL: usize = 1024;
/// How long a request waits for one of them, or for another request to open one.
pub(super) const WAIT: Duration = Duration::from_secs(10);
/// API Gateway closes after 310 s; a request must not meet that.
const IDLE: Duration = Duration::from_secs(240);
/// No connection is given a new request after this: addresses and certificates change.
const AGE: Duration = Duration::from_secs(600);
/// How often those that have waited too long are looked for; well within [`WAIT`].
const SWEEP: Duration = Duration::from_secs(5);

/// What connections are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    host: HostName,
    port: u16,
    way: WayKey,
    pub protocols: Protocols,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum WayKey {
    Endpoint(String),
    Upstream(Upstream),
}

impl Key {
    pub(super) fn new(permit: &Permit, protocols: Protocols) -> Self {
        let way = match &permit.way {
            Way::Endpoint(endpoint) => WayKey::Endpoint(endpoint.label()),
            Way::Upstream(upstream) => WayKey::Upstream(*upstream),
        };
        Self { host: permit.destination.host, port: permit.destination.port, way, protocols }
    }
}

/// All connections to servers. What is in use outlives it; what waits does not.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    _sweeper: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    hosts: Mutex<HashMap<Key, Host>>,
    in_use: Arc<Semaphore>,
}

struct Host {
    in_use: Arc<Semaphore>,
    /// Newest last.
    idle: Vec<Idle>,
    http2: Vec<Shareable>,
    opening: Arc<tokio::sync::Mutex<Opening>>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("idle", &self.idle.len()).field("http2", &self.http2.len()).finish_non_exhaustive()
    }
}

/// What is known from opening connections to a host. Held while one is opened that may turn out to serve many requests.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// It speaks HTTP/1.1 only: each request needs a connection of its own.
    pub http1: bool,
    /// When it last failed, and why: who waited for it need not try again.
    pub failure: Option<(Instant, Refusal)>,
}

/// A connection in HTTP/1.1, for one request at a time.
pub(super) struct Connection {
    pub source: Source,
    pub writer: Writer,
    pub ticket: Ticket,
}

/// The place of an HTTP/1.1 connection among all.
#[derive(Debug)]
pub(super) struct Ticket {
    pub key: Key,
    pub address: SocketAddr,
    born: Instant,
    shared: Weak<Shared>,
    _slot: Slot,
}

struct Idle {
    source: Source,
    writer: Writer,
    address: SocketAddr,
    born: Instant,
    since: Instant,
}

/// A connection in HTTP/2, while new requests may use it.
struct Shareable {
    connection: Multiplexed,
    born: Instant,
    since: Instant,
}

/// Leave to use a connection.
#[derive(Debug)]
pub(super) struct Slot {
    _of_host: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Pool {
    /// Empty; must be called within a runtime.
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared { hosts: Mutex::default(), in_use: Arc::new(Semaphore::new(IN_ALL)) });
        let sweeper = AbortOnDropHandle::new(tokio::spawn(sweep(Arc::downgrade(&shared))));
        Self { shared, _sweeper: sweeper }
    }

    /// A place on an HTTP/2 connection.
    pub(super) fn http2(&self, key: &Key) -> Option<Http2> {
        let now = Instant::now();
        let mut hosts = self.shared.hosts();
        let host = hosts.get_mut(key)?;
        host.http2.retain(|shareable| shareable.is_fresh(now));
        host.http2.iter_mut().find_map(|shareable| {
            let place = shareable.connection.place()?;
            shareable.since = now;
            Some(place)
        })
    }

    /// Leave to use a connection of this kind, once there are few enough.
    ///
    /// # Errors
    /// There are too many for too long.
    pub(super) async fn slot(&self, key: &Key) -> Result<Slot, Refusal> {
        // Whatever it speaks, it is one host.
        let host = Key { protocols: Protocols::Http1, ..key.clone() };
        let of_host = Arc::clone(&self.shared.hosts().entry(host).or_default().in_use);
        let of_all = Arc::clone(&self.shared.in_use);
        let both = async {
            if of_host.available_permits() == 0 || of_all.available_permits() == 0 {
                self.shared.end_unused();
            }
            let of_host = of_host.acquire_owned().await.ok()?;
            Some(Slot { _of_host: of_host, _of_all: of_all.acquire_owned().await.ok()? })
        };
        timeout(WAIT, both).await.ok().flatten().ok_or_else(|| {
            Refusal::new(Cause::Overloaded, format!("{}: too many requests are under way at once", key.host))
        })
    }

    /// The connection that waited least, if one does that the far side has not ended.
    ///
    /// # Errors
    /// There is none, and the slot is there for a new one.
    pub(super) fn idle(&self, key: &Key, slot: Slot) -> Result<Connection, Slot> {
        let now = Instant::now();
        loop {
            let next = self.shared.hosts().get_mut(key).and_then(|host| host.idle.pop());
            let Some(mut idle) = next else { return Err(slot) };
            if idle.is_fresh(now) && idle.source.is_quiet() {
                let Idle { source, writer, address, born, .. } = idle;
                let shared = Arc::downgrade(&self.shared);
                let ticket = Ticket { key: key.clone(), address, born, shared, _slot: slot };
                return Ok(Connection { source, writer, ticket });
            }
        }
    }

    /// What is known from opening connections like this.
    pub(super) fn opening(&self, key: &Key) -> Arc<tokio::sync::Mutex<Opening>> {
        Arc::clone(&self.shared.hosts().entry(key.clone()).or_default().opening)
    }

    /// The place of a new connection in HTTP/1.1.
    pub(super) fn ticket(&self, key: Key, address: SocketAddr, slot: Slot) -> Ticket {
        self.shared.make_room();
        Ticket { key, address, born: Instant::now(), shared: Arc::downgrade(&self.shared), _slot: slot }
    }

    /// Keeps a new connection in HTTP/2 for others; its task has the slot.
    pub(super) fn share(&self, key: Key, connection: Multiplexed) -> Option<Http2> {
        self.shared.make_room();
        let place = connection.place();
        let now = Instant::now();
        self.shared.hosts().entry(key).or_default().http2.push(Shareable { connection, born: now, since: now });
        place
    }
}

impl Ticket {
    /// Keeps the connection for the next request.
    pub(super) fn give_back(self, mut source: Source, writer: Writer) {
        let now = Instant::now();
        // What came without being asked for could be taken for the next answer.
        if let Some(shared) = self.shared.upgrade().filter(|_| source.buffer.is_empty() && source.is_quiet()) {
            let idle = Idle { source, writer, address: self.address, born: self.born, since: now };
            if idle.is_fresh(now) {
                shared.hosts().entry(self.key).or_default().idle.push(idle);
            }
        }
    }
}

impl Shared {
    fn hosts(&self) -> MutexGuard<'_, HashMap<Key, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends connections in HTTP/2 that serve no request.
    fn end_unused(&self) {
        self.hosts().values_mut().for_each(|host| host.http2.retain(|shareable| shareable.connection.users() > 0));
    }

    /// Ends the connection that has waited longest, if there are as many as may be.
    fn make_room(&self) {
        let in_use = IN_ALL - self.in_use.available_permits();
        let mut hosts = self.hosts();
        let idle: usize = hosts.values().map(|host| host.idle.len()).sum();
        if in_use + idle > IN_ALL {
            let oldest = hosts.values_mut().filter(|host| !host.idle.is_empty());
            if let Some(host) = oldest.min_by_key(|host| host.idle.first().map(|idle| idle.since)) {
                host.idle.remove(0);
            }
        }
    }
}

impl Default for Host {
    fn default() -> Self {
        let in_use = Arc::new(Semaphore::new(PER_HOST));
        Self { in_use, idle: Vec::new(), http2: Vec::new(), opening: Arc::default() }
    }
}

impl Host {
    /// Drops what has waited too long or was ended by the far side; says whether anything is left to know.
    fn sweep(&mut self, now: Instant) -> bool {
        self.idle.retain_mut(|idle| idle.is_fresh(now) && idle.source.is_quiet());
        self.http2.retain(|shareable| shareable.is_fresh(now));
        let asked_for = Arc::strong_count(&self.in_use) > 1 || Arc::strong_count(&self.opening) > 1;
        asked_for || !self.idle.is_empty() || !self.http2.is_empty()
    }
}

impl Idle {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.since) < IDLE && now.duration_since(self.born) < AGE
    }
}

impl Shareable {
    fn is_fresh(&self, now: Instant) -> bool {
        let waited = self.connection.users() == 0 && now.duration_since(self.since) >= IDLE;
        !self.connection.is_closed() && now.duration_since(self.born) < AGE && !waited
    }
}

async fn sweep(shared: Weak<Shared>) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let now = Instant::now();
        shared.hosts().retain(|_, host| host.sweep(now));
        if shared.in_use.available_permits() == 0 {
            shared.end_unused();
        }
    }
}

#[cfg(test)]
mod tests;
