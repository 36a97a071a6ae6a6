//! What every listener shares: the resolver, the access list, the certificate, and the bounds on what may be under way.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustls::ServerConfig;
use tokio::sync::Semaphore;

use super::decided::Decided;
use super::forwarder::{self, StandIn};
use super::query::Query;
use super::question::Question;
use super::reply::{self, ReplyLimit};
use super::resolver::{Resolved, Resolver};
use super::respond::{Outcome, Responded, Sources, asks_for_health, respond};
use super::shares::{Shares, Turn};
use super::tally::{Found, Tally, Transport, Way};
use super::wire::{ExtendedError, rcode};
use crate::histogram::Histogram;
use crate::policy::{Addresses, Networks, Table, Upstream, route};
use crate::recent::Recent;
use crate::server_tls::{Certificate, CertificateError};
use crate::tcp_listener::Roster;

/// One configuration of the plane at work; a reload replaces it whole.
#[derive(Debug)]
pub struct Service {
    pub resolver: Arc<Resolver>,
    pub clients: Networks,
    /// Where the HTTPS forwarder is, if the names of our zones resolve to it.
    pub forwarder: Option<Addresses>,
    /// What encrypted listeners show.
    pub tls: Option<Tls>,
    /// How many queries of one client may wait; `None` where few clients ask for many.
    pub shares: Option<Arc<Shares>>,
    pub counters: Arc<Counters>,
}

/// A certificate and the settings of the two kinds of encrypted listeners.
#[derive(Debug, Clone)]
pub struct Tls {
    pub certificate: Arc<Certificate>,
    pub dot: Arc<ServerConfig>,
    pub doh: Arc<ServerConfig>,
}

impl Tls {
    /// # Errors
    /// None that the provider we are built with can cause.
    pub fn new(certificate: Arc<Certificate>) -> Result<Self, CertificateError> {
        // RFC 7858 section 3.1 as registered with IANA, RFC 9113 section 3.2, RFC 7301.
        let (dot, doh) = (certificate.settings(&[b"dot"])?, certificate.settings(&[b"h2", b"http/1.1"])?);
        Ok(Self { certificate, dot, doh })
    }
}

/// What was answered and what happened at the bounds, counted since the start; reloads change nothing about it.
#[derive(Debug)]
pub struct Counters {
    /// Every query that was answered.
    pub answered: Tally,
    /// The last of them, noted only while somebody looks.
    pub decided: Recent<Decided>,
    /// Packets that are no query, and get no reply.
    pub ignored: AtomicU64,
    /// Queries that came while too many others waited for an upstream.
    pub shed: AtomicU64,
    /// Queries that were our own, come back.
    pub looped: AtomicU64,
    /// Queries of clients that had too many waiting already.
    pub greedy: AtomicU64,
    /// Encrypted connections on which something was sent, and no TLS agreed on.
    pub handshakes_failed: AtomicU64,
    /// HTTP/2 connections whose clients took back too many queries.
    pub taken_back: AtomicU64,
    /// TCP connections closed to make room for newer ones.
    pub evicted: AtomicU64,
    /// Failures to accept a TCP connection.
    pub accept_errors: AtomicU64,
    /// TCP connections from addresses outside `clients`.
    pub foreign: AtomicU64,
    /// TCP connections open now.
    pub connections: Roster,
    /// How long queries waited for the `public` group, the `vpc` group, and those of zones.
    pub waited: [(Way, Histogram); 3],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            answered: Tally::default(),
            decided: Recent::default(),
            ignored: AtomicU64::default(),
            shed: AtomicU64::default(),
            looped: AtomicU64::default(),
            greedy: AtomicU64::default(),
            handshakes_failed: AtomicU64::default(),
            taken_back: AtomicU64::default(),
            evicted: AtomicU64::default(),
            accept_errors: AtomicU64::default(),
            foreign: AtomicU64::default(),
            connections: Roster::default(),
            waited: [Way::Public, Way::Vpc, Way::Zone].map(|way| (way, Histogram::default())),
        }
    }
}

impl Counters {
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn waited(&self, way: Way, since: Instant) {
        if let Some((_, histogram)) = self.waited.iter().find(|(of, _)| *of == way) {
            histogram.observe(since.elapsed());
        }
    }
}

/// A query that waits for an upstream: its bytes, so that the reply can be rendered for it.
#[derive(Debug)]
pub struct Pending {
    packet: Box<[u8]>,
    upstream: Upstream,
    transport: Transport,
    limit: ReplyLimit,
    /// When it came.
    since: Instant,
    /// Among those of its client.
    turn: Turn,
}

impl Pending {
    /// The query as it came.
    pub fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// Whom to ask.
    pub fn upstream(&self) -> Upstream {
        self.upstream
    }
}

impl Service {
    /// Answers a query at once, or gives back what has to be waited for. An empty `out` means: send nothing.
    #[inline]
    pub fn handle(
        &self,
        packet: &[u8],
        client: SocketAddr,
        table: &Table,
        now: Instant,
        transport: Transport,
        out: &mut Vec<u8>,
    ) -> Option<Pending> {
        out.clear();
        let limit = limit_of(transport, client);
        let permitted =
            self.clients.contains(client.ip()) || client.ip().to_canonical().is_loopback() && asks_for_health(packet);
        let sources = Sources { table, cache: self.resolver.cache(), forwarder: self.forwarder.as_ref() };
        let Responded { outcome, way, found, rcode } = respond(packet, sources, permitted, now, limit, out);
        if !matches!(outcome, Outcome::Ask(_)) {
            self.counters.decided.note(now, || Decided::of(packet, table, way, found, rcode));
        }
        match outcome {
            Outcome::Drop => {
                Counters::count(&self.counters.ignored);
                None
            }
            Outcome::Reply => {
                self.counters.answered.count(transport, way, found, rcode);
                None
            }
            Outcome::ReplyAndRefresh(upstream) => {
                self.counters.answered.count(transport, way, found, rcode);
                if let Ok(query) = Query::parse(packet) {
                    self.resolver.refresh(&Question::of(&query), upstream);
                }
                None
            }
            Outcome::Ask(_) if self.resolver.own_sockets().contains(transport.protocol(), client) => {
                Counters::count(&self.counters.looped);
                self.fail(packet, transport, way, "this resolver is among its own upstream servers", out);
                None
            }
            Outcome::Ask(upstream) => {
                let turn = self.shares.as_ref().map_or_else(|| Some(Turn::uncounted()), |all| all.take(client.ip()));
                if let Some(turn) = turn {
                    return Some(Pending { packet: packet.into(), upstream, transport, limit, since: now, turn });
                }
                Counters::count(&self.counters.greedy);
                self.fail(packet, transport, way, "too many queries of this client wait for an upstream", out);
                None
            }
        }
    }

    /// Waits for the answer and writes the reply; at most four seconds from when the query came.
    pub async fn finish(&self, pending: &Pending, out: &mut Vec<u8>) {
        out.clear();
        let Ok(query) = Query::parse(&pending.packet) else { return };
        let (question, upstream) = (Question::of(&query), pending.upstream);
        let resolved = self.resolver.answer_since(question, upstream, pending.since.into()).await;
        self.write(pending, &query, &resolved, out);
    }

    /// Writes the reply for what somebody has waited for elsewhere.
    pub fn reply(&self, pending: &Pending, resolved: &Resolved, out: &mut Vec<u8>) {
        if let Ok(query) = Query::parse(&pending.packet) {
            self.write(pending, &query, resolved, out);
        }
    }

    /// As [`Service::finish`], for a query on a stream: it ends with its connection, and is shed where too many wait already.
    ///
    /// A client could close its connection to be rid of what counts against its share, and ask anew. So where queries count,
    /// what was asked for this one keeps its turn and its permit until it is over; the query itself is let go of.
    pub async fn finish_on_stream(&self, pending: &mut Pending, waiting: &Arc<Semaphore>) -> Vec<u8> {
        let mut reply = Vec::new();
        let Ok(permit) = Arc::clone(waiting).try_acquire_owned() else {
            self.shed(pending, &mut reply);
            return reply;
        };
        let turn = mem::replace(&mut pending.turn, Turn::uncounted());
        let Ok(query) = Query::parse(&pending.packet) else { return reply };
        let (resolver, question, upstream) = (Arc::clone(&self.resolver), Question::of(&query), pending.upstream);
        let outlives = turn.is_counted();
        let asking = async move {
            let resolved = resolver.answer(question, upstream).await;
            drop((turn, permit));
            resolved
        };
        // A task of its own fails only where the runtime ends.
        let resolved = if outlives { tokio::spawn(asking).await.ok() } else { Some(asking.await) };
        if let Some(resolved) = resolved {
            self.write(pending, &query, &resolved, &mut reply);
        }
        reply
    }

    /// Writes the reply and counts it.
    fn write(&self, pending: &Pending, query: &Query<'_>, resolved: &Resolved, out: &mut Vec<u8>) {
        let table = self.resolver.table();
        let stand_in = StandIn::of(self.forwarder.as_ref(), &route(&table, &query.name));
        forwarder::render(resolved, stand_in, query, pending.limit, out);
        let found = if matches!(resolved, Resolved::Stale(_)) { Found::Stale } else { Found::Asked };
        let (transport, rcode) = (pending.transport, resolved.rcode_for(query));
        let way = pending.upstream.into();
        self.counters.answered.count(transport, way, found, rcode);
        self.counters.waited(way, pending.since);
        self.counters.decided.note(Instant::now(), || Decided::of(&pending.packet, &table, way, found, rcode));
    }

    /// Refuses a query because too many wait already.
    pub fn shed(&self, pending: &Pending, out: &mut Vec<u8>) {
        Counters::count(&self.counters.shed);
        let (transport, way) = (pending.transport, pending.upstream.into());
        self.fail(&pending.packet, transport, way, "too many queries wait for an upstream", out);
    }

    fn fail(&self, packet: &[u8], transport: Transport, way: Way, text: &str, out: &mut Vec<u8>) {
        out.clear();
        if let Ok(query) = Query::parse(packet) {
            reply::error(&query, rcode::SERVFAIL, ExtendedError::Other, text, out);
            self.counters.answered.count(transport, way, Found::Asked, rcode::SERVFAIL);
            let decided = || Decided::of(packet, &self.resolver.table(), way, Found::Asked, rcode::SERVFAIL);
            self.counters.decided.note(Instant::now(), decided);
        }
    }
}

fn limit_of(transport: Transport, client: SocketAddr) -> ReplyLimit {
    match transport {
        Transport::Udp if client.ip().is_loopback() => ReplyLimit::LoopbackUdp,
        Transport::Udp => ReplyLimit::Udp,
        Transport::Tcp | Transport::Tls | Transport::Https => ReplyLimit::Stream,
    }
}
