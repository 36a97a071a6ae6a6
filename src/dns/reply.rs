//! Replies this resolver writes itself: addresses of ours, names that do not exist, errors.
//!
//! Called by `respond` for every private name and by `answer` for the header flags and the OPT record. Everything is
//! written straight into the caller's buffer.

use std::time::Instant;

use super::query::{Query, Refusal};
use super::wire::{CLASS_IN, ExtendedError, HEADER, flag, option, put_u16, rcode, rtype};
use crate::policy::{Addresses, Endpoint, HostName};

/// TTL in seconds of static addresses, and the most that is given for any address of ours.
pub const MAX_TTL: u32 = 60;
/// The least TTL given for an endpoint address.
const MIN_TTL: u32 = 5;
/// TTL of "no such name" and "no such type" of ours.
const NEGATIVE_TTL: u32 = 10;
/// The UDP payload size we offer, and the most we send beyond loopback: what passes everywhere unfragmented.
pub const UDP_PAYLOAD: u16 = 1232;
/// What a client takes that says nothing, RFC 1035 section 4.2.1.
const PLAIN_UDP: usize = 512;

/// Octets of an extended error's text at most, so that an error always fits 512 octets.
const MAX_TEXT: usize = 200;

/// How large a reply may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyLimit {
    /// A client beyond loopback: what it offers, at most 1,232 octets.
    Udp,
    /// A client on loopback: what it offers.
    LoopbackUdp,
    /// TCP and everything above it: 65,535 octets.
    Stream,
}

impl ReplyLimit {
    fn octets(self, query: &Query<'_>) -> usize {
        let offered = query.edns.map_or(PLAIN_UDP, |edns| edns.udp_size.into());
        match self {
            ReplyLimit::Udp => offered.min(UDP_PAYLOAD.into()),
            ReplyLimit::LoopbackUdp => offered,
            ReplyLimit::Stream => u16::MAX.into(),
        }
    }
}

/// The flags of every reply: QR and RA set, AA clear, RD and CD as in the query.
pub fn flags(query_flags: u16) -> u16 {
    flag::QR | flag::RA | query_flags & (flag::RD | flag::CD)
}

/// The response code in the header of a reply.
pub fn rcode_of(reply: &[u8]) -> u16 {
    reply.get(3).map_or(rcode::NOERROR, |octet| u16::from(octet & 0xf))
}

/// Appends an extended error option, RFC 8914 section 2.
pub fn put_extended_error(options: &mut Vec<u8>, error: ExtendedError, text: &str) {
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    options.extend(option::EXTENDED_ERROR.to_be_bytes());
    options.extend((2 + text.len() as u16).to_be_bytes());
    options.extend((error as u16).to_be_bytes());
    options.extend_from_slice(text.as_bytes());
}

/// Appends the OPT record where the client sent one, and cuts the reply to its question if it is too large: TC is set,
/// and no record is left that could be taken for the whole.
pub fn finish(query: &Query<'_>, rcode: u16, options: &[u8], extra: &[u8], limit: ReplyLimit, out: &mut Vec<u8>) {
    let most = limit.octets(query);
    let opt = if query.edns.is_some() { 11 + options.len() + extra.len() } else { 0 };
    let (options, extra) = if out.len() + opt <= most {
        (options, extra)
    } else {
        out.truncate(HEADER + query.question.len());
        out[2] |= (flag::TC >> 8) as u8;
        out[6..12].fill(0);
        if out.len() + opt <= most { (options, extra) } else { (&[][..], &[][..]) }
    };
    if let Some(edns) = query.edns {
        put_opt(out, rcode, edns.dnssec_ok, options, extra);
    }
}

fn put_opt(out: &mut Vec<u8>, rcode: u16, dnssec_ok: bool, options: &[u8], extra: &[u8]) {
    let count = super::wire::u16_at(out, 10);
    put_u16(out, 10, count + 1);
    out.push(0);
    out.extend(rtype::OPT.to_be_bytes());
    out.extend(UDP_PAYLOAD.to_be_bytes());
    out.extend([(rcode >> 4) as u8, 0, if dnssec_ok { 0x80 } else { 0 }, 0]);
    out.extend(((options.len() + extra.len()) as u16).to_be_bytes());
    out.extend_from_slice(options);
    out.extend_from_slice(extra);
}

/// Begins a reply: header and question.
fn begin(query: &Query<'_>, rcode: u16, out: &mut Vec<u8>) {
    out.clear();
    out.extend(query.id.to_be_bytes());
    out.extend((flags(query.flags) | rcode & 0xf).to_be_bytes());
    out.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(query.question);
}

/// Appends a record whose owner is written at `owner` in the message.
fn put_record(out: &mut Vec<u8>, owner: usize, rtype: u16, ttl: u32, data: &[u8]) {
    out.extend((0xc000 | owner as u16).to_be_bytes());
    out.extend(rtype.to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend_from_slice(data);
}

/// The reply to a packet that is no query we serve.
pub fn refusal(refusal: &Refusal<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.extend(refusal.id.to_be_bytes());
    let flags = flags(refusal.flags) & !flag::CD | refusal.flags & flag::OPCODE;
    out.extend((flags | refusal.rcode & 0xf).to_be_bytes());
    out.extend([0, u8::from(!refusal.question.is_empty()), 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(refusal.question);
    if let Some(edns) = refusal.edns {
        let mut options = Vec::new();
        if let Some((error, text)) = refusal.extended {
            put_extended_error(&mut options, error, text);
        }
        put_opt(out, refusal.rcode, edns.dnssec_ok, &options, &[]);
    }
}

/// An error with its reason.
pub fn error(query: &Query<'_>, rcode: u16, error: ExtendedError, text: &str, out: &mut Vec<u8>) {
    begin(query, rcode, out);
    let mut options = Vec::new();
    if query.edns.is_some() {
        put_extended_error(&mut options, error, text);
    }
    finish(query, rcode, &options, &[], ReplyLimit::Stream, out);
}

/// A private name whose endpoint cannot be reached, or has not been looked up yet: a failure, never the public address.
pub fn no_usable_address(query: &Query<'_>, endpoint: &Endpoint, out: &mut Vec<u8>) {
    let (code, reason) = match endpoint.addresses.problem.as_deref() {
        Some(problem) => (ExtendedError::Other, problem),
        None => (ExtendedError::NotReady, "it is being looked up"),
    };
    let text = format!("{} has no usable address: {reason}", endpoint.label());
    error(query, rcode::SERVFAIL, code, &text, out);
}

/// The TTL in seconds of addresses of ours: what remains of their own.
pub fn ttl_of(addresses: &Addresses, now: Instant) -> u32 {
    let left = addresses.fresh_until.map(|until| until.saturating_duration_since(now).as_secs());
    let left = left.map_or(MAX_TTL, |left| u32::try_from(left).unwrap_or(MAX_TTL));
    left.clamp(MIN_TTL, MAX_TTL)
}

/// A name of ours: these addresses for A and AAAA; for every other type, and for a family without one, NODATA, so that
/// no address hint leads past the policy. ANY gets a HINFO record (RFC 8482 section 4.2).
///
/// The order rotates with the query's id; addresses in a subnet of this host stay in front. `apex` is the zone for the
/// SOA record: the name itself if `None`.
pub fn addresses(
    query: &Query<'_>,
    addresses: &Addresses,
    ttl: u32,
    apex: Option<&HostName>,
    limit: ReplyLimit,
    out: &mut Vec<u8>,
) {
    let turn = usize::from(query.id);
    begin(query, rcode::NOERROR, out);
    let count = match query.qtype {
        rtype::A => {
            rotated(&addresses.v4, addresses.near_v4, turn, |a| put_record(out, HEADER, rtype::A, ttl, &a.octets()))
        }
        rtype::AAAA => {
            rotated(&addresses.v6, addresses.near_v6, turn, |a| put_record(out, HEADER, rtype::AAAA, ttl, &a.octets()))
        }
        rtype::ANY => {
            put_record(out, HEADER, rtype::HINFO, ttl, b"\x07RFC8482\x00");
            1
        }
        _ => 0,
    };
    put_u16(out, 6, count);
    if count == 0 {
        put_soa(query, apex, out);
    }
    finish(query, rcode::NOERROR, &[], &[], limit, out);
}

/// Visits `near` addresses from the front in turn, then the rest in turn.
fn rotated<A>(addresses: &[A], near: usize, turn: usize, mut put: impl FnMut(&A)) -> u16 {
    let (near, far) = addresses.split_at(near.min(addresses.len()));
    for group in [near, far] {
        let split = turn.checked_rem(group.len()).unwrap_or(0);
        group[split..].iter().chain(&group[..split]).for_each(&mut put);
    }
    addresses.len() as u16
}

/// A name that does not exist, with the SOA record that lets the client remember it (RFC 2308).
pub fn no_such_name(query: &Query<'_>, apex: Option<&HostName>, out: &mut Vec<u8>) {
    begin(query, rcode::NXDOMAIN, out);
    put_soa(query, apex, out);
    finish(query, rcode::NXDOMAIN, &[], &[], ReplyLimit::Stream, out);
}

/// A name that exists and has nothing of the type asked for.
pub fn no_data(query: &Query<'_>, apex: Option<&HostName>, out: &mut Vec<u8>) {
    begin(query, rcode::NOERROR, out);
    put_soa(query, apex, out);
    finish(query, rcode::NOERROR, &[], &[], ReplyLimit::Stream, out);
}

/// A TXT record that says `text`.
pub fn text(query: &Query<'_>, text: &str, out: &mut Vec<u8>) {
    begin(query, rcode::NOERROR, out);
    let mut data = vec![text.len() as u8];
    data.extend_from_slice(text.as_bytes());
    put_record(out, HEADER, rtype::TXT, 0, &data);
    put_u16(out, 6, 1);
    finish(query, rcode::NOERROR, &[], &[], ReplyLimit::Stream, out);
}

/// Appends the SOA record of the zone: MNAME is the apex itself, RNAME `hostmaster` below it.
fn put_soa(query: &Query<'_>, apex: Option<&HostName>, out: &mut Vec<u8>) {
    let below = apex.map_or(0, |apex| query.name.wire().len().saturating_sub(apex.wire().len()));
    let owner = HEADER + below;
    let [high, low] = (0xc000 | owner as u16).to_be_bytes();
    let mut data = [0; 35];
    data[..2].copy_from_slice(&[high, low]);
    data[2..13].copy_from_slice(b"\x0ahostmaster");
    data[13..15].copy_from_slice(&[high, low]);
    // Serial, refresh, retry, expire, minimum: only the last means anything to a stub resolver.
    for (at, value) in [(15, 1), (19, 3600), (23, 600), (27, 86_400), (31, NEGATIVE_TTL)] {
        data[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    put_record(out, owner, rtype::SOA, NEGATIVE_TTL, &data);
    put_u16(out, 8, 1);
}
