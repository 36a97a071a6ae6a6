//! The heart of the DNS plane: a query's bytes in; a reply's bytes, an upstream group to ask, or nothing out.
//!
//! No I/O, no async, no clock of its own. Every transport calls it for every query; for private and cached names that is
//! all there is, and it allocates nothing.

use std::time::Instant;

use super::cache::{Cache, Hit};
use super::forwarder::{self, StandIn};
use super::query::{Query, Rejection};
use super::question::CacheKey;
use super::reply::{self, ReplyLimit};
use super::tally::{Found, Way};
use super::wire::{ExtendedError, rcode, rtype};
use crate::policy::{Addresses, Decision, HostName, Route, Table, Upstream, route};

/// What replies are made of.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    pub table: &'a Table,
    pub cache: &'a Cache,
    /// Where the HTTPS forwarder is, if the names of our zones resolve to it.
    pub forwarder: Option<&'a Addresses>,
}

/// What is to be done with a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Send the bytes.
    Reply,
    /// Send the bytes; then ask this group again, because the cached answer runs out soon.
    ReplyAndRefresh(Upstream),
    /// Ask this group, then send what comes of it.
    Ask(Upstream),
    /// Send nothing.
    Drop,
}

/// An outcome, and what is counted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Responded {
    pub outcome: Outcome,
    pub way: Way,
    /// Where the answer was found; of no use where there is none yet.
    pub found: Found,
    /// The response code of the reply, its upper bits included; of no use where there is none yet.
    pub rcode: u16,
}

/// The wire form of `health.sidegate.invalid`, the name that answers for the listener itself (RFC 6761 section 6.4: no
/// `.invalid` name exists elsewhere).
pub const HEALTH_NAME: &str = "health.sidegate.invalid";
const HEALTH_WIRE: &[u8] = b"\x06health\x08sidegate\x07invalid\x00";

/// Answers one query from its sources, or says whom to ask.
///
/// `permitted` says whether the client's address is in `clients`, or may ask this all the same; `out` is overwritten.
#[inline]
pub fn respond(
    packet: &[u8],
    sources: Sources<'_>,
    permitted: bool,
    now: Instant,
    limit: ReplyLimit,
    out: &mut Vec<u8>,
) -> Responded {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(Rejection::Silent) => {
            return Responded { outcome: Outcome::Drop, way: Way::Invalid, found: Found::Here, rcode: rcode::NOERROR };
        }
        Err(Rejection::Refused(refusal)) => {
            reply::refusal(&refusal, out);
            return Responded { outcome: Outcome::Reply, way: Way::Invalid, found: Found::Here, rcode: refusal.rcode };
        }
    };
    if !permitted {
        reply::error(&query, rcode::REFUSED, ExtendedError::Prohibited, "client not in `clients`", out);
        return Responded { outcome: Outcome::Reply, way: Way::Refused, found: Found::Here, rcode: rcode::REFUSED };
    }
    let decision = route(sources.table, &query.name);
    let stand_in = StandIn::of(sources.forwarder, &decision);
    let Some(upstream) = local(&query, &decision, stand_in, now, limit, out) else {
        let way = way_of(&decision, &query.name);
        return Responded { outcome: Outcome::Reply, way, found: Found::Here, rcode: reply::rcode_of(out) };
    };
    let way = Way::from(upstream);
    let Some(hit) = cached(&query, upstream, sources, now) else {
        let outcome = Outcome::Ask(upstream);
        return Responded { outcome, way, found: Found::Asked, rcode: rcode::NOERROR };
    };
    let outcome = if hit.refresh { Outcome::ReplyAndRefresh(upstream) } else { Outcome::Reply };
    let found = if hit.stale { Found::Stale } else { Found::Cached };
    let resolved = hit.into();
    forwarder::render(&resolved, stand_in, &query, limit, out);
    Responded { outcome, way, found, rcode: resolved.rcode_for(&query) }
}

/// Which way a query went that was answered here.
fn way_of(decision: &Decision<'_>, name: &HostName) -> Way {
    match decision.route {
        Route::Endpoint(_) => Way::Endpoint,
        Route::NoSuchName => Way::Nonexistent,
        Route::NotReady(_) => Way::NotReady,
        Route::Upstream(_) if is_health_zone(name) => Way::Health,
        Route::Upstream(upstream) => upstream.into(),
    }
}

/// Answers what the policy answers by itself; otherwise names the group to ask. `decision` is about the query's name.
#[inline]
pub fn local(
    query: &Query<'_>,
    decision: &Decision<'_>,
    stand_in: Option<StandIn<'_>>,
    now: Instant,
    limit: ReplyLimit,
    out: &mut Vec<u8>,
) -> Option<Upstream> {
    let apex = decision.zone.map(|zone| &zone.name);
    match decision.route {
        Route::Upstream(_) if query.name.wire() == HEALTH_WIRE && query.qtype == rtype::TXT => {
            reply::text(query, "ok", out);
        }
        Route::Upstream(_) if is_health_zone(&query.name) => reply::no_such_name(query, None, out),
        // No address hint leads past the forwarder.
        Route::Upstream(_) if stand_in.is_some() && matches!(query.qtype, rtype::HTTPS | rtype::SVCB) => {
            reply::no_data(query, apex, out);
        }
        Route::Upstream(upstream) => return Some(upstream),
        Route::Endpoint(endpoint) if endpoint.addresses.is_empty() => reply::no_usable_address(query, endpoint, out),
        Route::Endpoint(endpoint) => {
            let addresses = stand_in.map_or(&endpoint.addresses, |stand_in| stand_in.addresses());
            reply::addresses(query, addresses, reply::ttl_of(addresses, now), apex, limit, out);
        }
        Route::NoSuchName => reply::no_such_name(query, apex, out),
        Route::NotReady(not_ready) => {
            reply::error(query, rcode::SERVFAIL, ExtendedError::NotReady, &not_ready.to_string(), out);
        }
    }
    None
}

/// Whether a query is the one about the listener itself, which this host may always ask: `sidegate health` does.
pub fn asks_for_health(packet: &[u8]) -> bool {
    Query::parse(packet).is_ok_and(|query| query.name.wire() == HEALTH_WIRE && query.qtype == rtype::TXT)
}

/// Our own corner of `.invalid` never goes upstream.
fn is_health_zone(name: &HostName) -> bool {
    name.wire().ends_with(&HEALTH_WIRE[7..]) && name.suffixes().any(|suffix| suffix == &HEALTH_WIRE[7..])
}

fn cached(query: &Query<'_>, upstream: Upstream, sources: Sources<'_>, now: Instant) -> Option<Hit> {
    sources.cache.get(&CacheKey::of(query, upstream)?, now, sources.table.generation)
}

#[cfg(test)]
mod tests;
