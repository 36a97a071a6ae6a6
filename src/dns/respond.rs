//! The heart of the DNS plane: a query's bytes in; a reply's bytes, an upstream group to ask, or nothing out.
//!
//! No I/O, no async, no clock of its own. Every transport calls it for every query; for private and cached names that is
//! all there is, and it allocates nothing.

use std::time::Instant;

use super::cache::Cache;
use super::query::{Query, Rejection};
use super::question::CacheKey;
use super::reply::{self, ReplyLimit};
use super::wire::{ExtendedError, rcode, rtype};
use crate::policy::{HostName, Route, Table, Upstream, route};

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

/// The wire form of `health.sidegate.invalid`, the name that answers for the listener itself (RFC 6761 section 6.4: no
/// `.invalid` name exists elsewhere).
pub const HEALTH_NAME: &str = "health.sidegate.invalid";
const HEALTH_WIRE: &[u8] = b"\x06health\x08sidegate\x07invalid\x00";

/// Answers one query from the table and the cache, or says whom to ask.
///
/// `permitted` says whether the client's address is in `clients`; `out` is overwritten.
#[inline]
pub fn respond(
    packet: &[u8],
    table: &Table,
    cache: &Cache,
    permitted: bool,
    now: Instant,
    limit: ReplyLimit,
    out: &mut Vec<u8>,
) -> Outcome {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(Rejection::Silent) => return Outcome::Drop,
        Err(Rejection::Refused(refusal)) => {
            reply::refusal(&refusal, out);
            return Outcome::Reply;
        }
    };
    if !permitted {
        reply::error(&query, rcode::REFUSED, ExtendedError::Prohibited, "client not in `clients`", out);
        return Outcome::Reply;
    }
    match local(&query, table, now, limit, out) {
        None => Outcome::Reply,
        Some(upstream) => match cached(&query, upstream, table, cache, now, limit, out) {
            Some(true) => Outcome::ReplyAndRefresh(upstream),
            Some(false) => Outcome::Reply,
            None => Outcome::Ask(upstream),
        },
    }
}

/// Answers what the policy answers by itself; otherwise names the group to ask.
pub fn local(query: &Query<'_>, table: &Table, now: Instant, limit: ReplyLimit, out: &mut Vec<u8>) -> Option<Upstream> {
    let decision = route(table, &query.name);
    let apex = decision.zone.map(|zone| &zone.name);
    match decision.route {
        Route::Upstream(_) if query.name.wire() == HEALTH_WIRE && query.qtype == rtype::TXT => {
            reply::text(query, "ok", out);
        }
        Route::Upstream(_) if is_health_zone(&query.name) => reply::no_such_name(query, None, out),
        Route::Upstream(upstream) => return Some(upstream),
        Route::Endpoint(endpoint) => reply::endpoint(query, endpoint, apex, now, limit, out),
        Route::NoSuchName => reply::no_such_name(query, apex, out),
        Route::NotReady(not_ready) => {
            reply::error(query, rcode::SERVFAIL, ExtendedError::NotReady, &not_ready.to_string(), out);
        }
    }
    None
}

/// Our own corner of `.invalid` never goes upstream.
fn is_health_zone(name: &HostName) -> bool {
    name.wire().ends_with(&HEALTH_WIRE[7..]) && name.suffixes().any(|suffix| suffix == &HEALTH_WIRE[7..])
}

/// Answers from the cache; says whether the answer should be refreshed.
fn cached(
    query: &Query<'_>,
    upstream: Upstream,
    table: &Table,
    cache: &Cache,
    now: Instant,
    limit: ReplyLimit,
    out: &mut Vec<u8>,
) -> Option<bool> {
    let hit = cache.get(&CacheKey::of(query, upstream)?, now, table.generation)?;
    if hit.stale {
        hit.answer.render_stale(query, limit, out);
    } else {
        hit.answer.render(query, hit.age, limit, out);
    }
    Some(hit.refresh)
}

#[cfg(test)]
mod tests;
