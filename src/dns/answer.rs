//! A whole answer in wire form, ready to be sent to any client that asked this question.
//!
//! `resolver` makes one per upstream answer, `cache` keeps it, `respond` and the listeners render it: copy the bytes, then
//! patch id, flags, the question's case and the TTLs, and add the client's own OPT record. Rendering allocates nothing
//! once the output buffer has grown.

mod addresses;

use std::sync::Arc;

use super::message::{Field, Message, Record, layout};
use super::query::Query;
use super::reply::{self, ReplyLimit};
use super::wire::{CLASS_IN, ExtendedError, HEADER, flag, put_u16, rcode, rtype, u16_at};

/// Longest time a positive answer is kept, RFC 8767 section 4: a day here.
const MAX_POSITIVE: u32 = 86_400;
/// Longest time a negative answer is kept: a name that was just created must not stay hidden for long (RFC 2308
/// section 5 allows up to three hours).
const MAX_NEGATIVE: u32 = 900;
/// TTL of records served after their time, RFC 8767 section 4.
pub const STALE_TTL: u32 = 30;
/// Octets that most answers fit in, and the TTLs of theirs.
const USUAL: usize = 256;
const USUAL_TTLS: usize = 8;
/// Suffixes remembered for compression, and the furthest a pointer reaches.
const MAX_SUFFIXES: usize = 128;
const POINTER_REACH: usize = 0x4000;

/// An encoded answer without id, client flags and OPT record; a clone shares its octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The message; behind it options of the OPT record, extended errors and the client subnet; behind these where the TTLs
    /// of the message are, two octets for each. All in one place, as memory that is far costs more than all else a cached name does.
    octets: Arc<[u8]>,
    /// Octets of the message.
    length: u16,
    /// Octets of the options.
    options: u16,
    rcode: u16,
    authentic: bool,
    /// Seconds it may be kept; 0 for not at all.
    lifetime: u32,
}

impl Answer {
    /// Encodes a message as the answer to `name` and `qtype`. `negative_cap` bounds in seconds how long a negative
    /// answer is kept, here and, by the TTL of its SOA record, at clients (RFC 2308 section 5).
    ///
    /// Records that would take it beyond 65,535 octets are left out and the reply is marked as truncated; no server can
    /// have sent that many over the wire.
    pub fn encode(name: &[u8], qtype: u16, message: &Message, negative_cap: u32) -> Self {
        let mut encoder = Encoder::new(name, qtype);
        let lifetime = lifetime(qtype, message, negative_cap);
        let negative = is_negative(qtype, message);
        let mut counts = [0u16; 3];
        let mut complete = true;
        let sections = [&message.answer, &message.authority, &message.additional];
        for (position, (section, count)) in sections.into_iter().zip(&mut counts).enumerate() {
            for record in section {
                let bounded = negative && position == 1 && record.rtype == rtype::SOA;
                let ttl = if bounded { record.ttl.min(lifetime) } else { record.ttl };
                // What is not counted must not be written either, so the first that does not fit ends it.
                complete = complete && encoder.record(record, ttl);
                *count += u16::from(complete);
            }
        }
        let Encoder { mut out, ttls, .. } = encoder;
        for (at, count) in [6, 8, 10].into_iter().zip(counts) {
            put_u16(&mut out, at, count);
        }
        if !complete {
            put_u16(&mut out, 2, flag::TC);
        }
        let answer = Self::of(out, &message.options, ttls);
        Self { rcode: message.rcode, authentic: message.authentic, lifetime, ..answer }
    }

    /// A message with these options, whose TTLs are at these places. Neither has more than 65,535 octets.
    fn of(mut message: Vec<u8>, options: &[u8], ttls: impl IntoIterator<Item = u16>) -> Self {
        let length = message.len() as u16;
        message.extend_from_slice(options);
        message.extend(ttls.into_iter().flat_map(u16::to_be_bytes));
        let options = options.len() as u16;
        Self { octets: message.into(), length, options, rcode: rcode::NOERROR, authentic: false, lifetime: 0 }
    }

    /// The message, the options, the places of the TTLs.
    #[inline]
    fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let (message, rest) = self.octets.split_at(self.length.into());
        let (options, ttls) = rest.split_at(self.options.into());
        (message, options, ttls)
    }

    /// Whether it answers a question about this name, in lower-case wire form.
    #[inline]
    pub fn is_about(&self, name: &[u8]) -> bool {
        // A name says itself where it ends.
        self.octets.get(HEADER..HEADER + name.len()) == Some(name)
    }

    /// A SERVFAIL with the reason, kept for `lifetime` seconds (RFC 9520).
    pub fn failure(name: &[u8], qtype: u16, error: ExtendedError, text: &str, lifetime: u32) -> Self {
        let mut options = Vec::new();
        reply::put_extended_error(&mut options, error, text);
        let message = Message { rcode: rcode::SERVFAIL, options, ..Message::default() };
        Self::encode(name, qtype, &message, 0).kept_for(lifetime)
    }

    /// The same, kept for so many seconds.
    pub fn kept_for(self, lifetime: u32) -> Self {
        Self { lifetime, ..self }
    }

    pub fn rcode(&self) -> u16 {
        self.rcode
    }

    /// The code that the reply to a query has: without an OPT record there is no room for the upper bits of an extended one.
    #[inline]
    pub fn rcode_for(&self, query: &Query<'_>) -> u16 {
        if self.rcode > 15 && query.edns.is_none() { rcode::SERVFAIL } else { self.rcode }
    }

    /// Seconds it may be kept.
    pub fn lifetime(&self) -> u32 {
        self.lifetime
    }

    /// Whether it is a failure to get an answer rather than an answer.
    pub fn is_failure(&self) -> bool {
        self.rcode == rcode::SERVFAIL
    }

    /// The records again.
    pub fn message(&self) -> Message {
        let (message, options, _) = self.parts();
        let message = Message::parse(message).unwrap_or_default();
        Message { rcode: self.rcode, authentic: self.authentic, options: options.to_vec(), ..message }
    }

    /// Octets it takes in memory beside itself.
    pub fn size(&self) -> usize {
        self.octets.len()
    }

    /// Writes the reply to `query` into `out`: the answer at `age` seconds, TTLs reduced by as much.
    pub fn render(&self, query: &Query<'_>, age: u32, limit: ReplyLimit, out: &mut Vec<u8>) {
        self.render_with(query, limit, out, &[], |ttl| ttl.saturating_sub(age));
    }

    /// As [`Answer::render`], after its time: short TTLs and an extended error that says so (RFC 8767, RFC 8914).
    pub fn render_stale(&self, query: &Query<'_>, limit: ReplyLimit, out: &mut Vec<u8>) {
        let error =
            if self.rcode == rcode::NXDOMAIN { ExtendedError::StaleNxdomain } else { ExtendedError::StaleAnswer };
        let [high, low] = (error as u16).to_be_bytes();
        self.render_with(query, limit, out, &[0, 15, 0, 2, high, low], |ttl| ttl.min(STALE_TTL));
    }

    #[inline]
    fn render_with(
        &self,
        query: &Query<'_>,
        limit: ReplyLimit,
        out: &mut Vec<u8>,
        extra_options: &[u8],
        ttl: impl Fn(u32) -> u32,
    ) {
        let (message, options, places) = self.parts();
        out.clear();
        out.extend_from_slice(message);
        let mut flags = reply::flags(query.flags) | u16_at(out, 2);
        if self.authentic && (query.dnssec_ok() || query.flags & flag::AD != 0) {
            flags |= flag::AD;
        }
        let rcode = self.rcode_for(query);
        put_u16(out, 0, query.id);
        put_u16(out, 2, flags | rcode & 0xf);
        if let Some(question) = out.get_mut(HEADER..HEADER + query.question.len()) {
            question.copy_from_slice(query.question);
        }
        for place in places.chunks_exact(2) {
            let at = usize::from(u16_at(place, 0));
            if let Some(octets) = out.get_mut(at..at + 4) {
                let left = ttl(u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]]));
                octets.copy_from_slice(&left.to_be_bytes());
            }
        }
        reply::finish(query, rcode, options, extra_options, limit, out);
    }
}

/// How long an answer may be kept: the least TTL of its records, and for a negative one the SOA's word (RFC 2308). A
/// negative answer without an SOA is not kept.
fn lifetime(qtype: u16, message: &Message, negative_cap: u32) -> u32 {
    let least = message.answer.iter().map(|record| record.ttl).min();
    match message.rcode {
        rcode::NOERROR | rcode::NXDOMAIN if is_negative(qtype, message) => {
            let negative = message.authority.iter().find_map(Record::negative_ttl).unwrap_or(0);
            negative.min(least.unwrap_or(u32::MAX)).min(MAX_NEGATIVE).min(negative_cap)
        }
        rcode::NOERROR => least.unwrap_or(0).min(MAX_POSITIVE),
        _ => 0,
    }
}

/// Whether it says that there is no such name, or no record of this type.
fn is_negative(qtype: u16, message: &Message) -> bool {
    match message.rcode {
        rcode::NOERROR => !message.answer.iter().any(|record| record.rtype == qtype || qtype == rtype::ANY),
        code => code == rcode::NXDOMAIN,
    }
}

/// Writes a message with name compression (RFC 1035 section 4.1.4).
struct Encoder {
    out: Vec<u8>,
    ttls: Vec<u16>,
    /// Where names begin that later ones can point to.
    suffixes: Vec<u16>,
}

impl Encoder {
    fn new(name: &[u8], qtype: u16) -> Self {
        let (mut out, ttls, suffixes) =
            (Vec::with_capacity(USUAL), Vec::with_capacity(USUAL_TTLS), Vec::with_capacity(USUAL_TTLS));
        out.resize(HEADER, 0);
        let mut encoder = Self { out, ttls, suffixes };
        put_u16(&mut encoder.out, 4, 1);
        encoder.name(name);
        // The question is overwritten in the client's case. Only a name that is the question may point to it: see `name`.
        encoder.suffixes.truncate(1);
        encoder.out.extend(qtype.to_be_bytes());
        encoder.out.extend(CLASS_IN.to_be_bytes());
        encoder
    }

    /// Appends a record, unless the message would grow beyond what a message may be.
    fn record(&mut self, record: &Record, ttl: u32) -> bool {
        let start = self.out.len();
        self.name(&record.owner);
        self.out.extend(record.rtype.to_be_bytes());
        self.out.extend(record.class.to_be_bytes());
        let ttl_at = self.out.len();
        self.out.extend(ttl.to_be_bytes());
        self.out.extend([0, 0]);
        let data_at = self.out.len();
        self.data(record);
        // The OPT record and a client's larger question case need no room of their own: 512 octets are kept free.
        if self.out.len() > usize::from(u16::MAX) - 512 {
            self.out.truncate(start);
            self.suffixes.retain(|&at| usize::from(at) < start);
            return false;
        }
        let length = self.out.len() - data_at;
        put_u16(&mut self.out, data_at - 2, length as u16);
        self.ttls.push(ttl_at as u16);
        true
    }

    /// Compresses names in the types of RFC 1035 only: later types must not be (RFC 3597 section 4).
    fn data(&mut self, record: &Record) {
        let compressible = matches!(record.rtype, rtype::NS | rtype::CNAME | rtype::SOA | rtype::MX | 12);
        let fields = if compressible && record.class == CLASS_IN { layout(record.rtype) } else { &[] };
        let mut rest = &*record.rdata;
        for field in fields {
            let split = match field {
                Field::Octets(count) => *count,
                Field::Text => usize::from(rest.first().copied().unwrap_or(0)) + 1,
                Field::Name => {
                    let taken = self.name(rest);
                    rest = rest.get(taken..).unwrap_or_default();
                    continue;
                }
            };
            let (own, after) = rest.split_at(split.min(rest.len()));
            self.out.extend_from_slice(own);
            rest = after;
        }
        self.out.extend_from_slice(rest);
    }

    /// Writes the name at the start of `name`, compressed where it can be; returns its uncompressed length.
    fn name(&mut self, name: &[u8]) -> usize {
        let mut at = 0;
        let mut pointed = false;
        while let Some(&length) = name.get(at) {
            let rest = &name[at..];
            let end = at + 1 + usize::from(length);
            if length == 0 {
                if !pointed {
                    self.out.push(0);
                }
                return end;
            }
            if !pointed {
                // In a message this long only the name that was asked for is worth a search.
                let searched = if self.out.len() < POINTER_REACH { self.suffixes.len() } else { 1 };
                let usable = |target: usize| (target != HEADER || at == 0) && self.is_at(target, rest);
                if let Some(&target) = self.suffixes.iter().take(searched).find(|&&target| usable(target.into())) {
                    self.out.extend((0xc000 | target).to_be_bytes());
                    pointed = true;
                } else {
                    if self.out.len() < POINTER_REACH && self.suffixes.len() < MAX_SUFFIXES {
                        self.suffixes.push(self.out.len() as u16);
                    }
                    self.out.extend_from_slice(name.get(at..end).unwrap_or_default());
                }
            }
            at = end;
        }
        at
    }

    /// Whether the name written at `at` is the one at the start of `name`, case included.
    fn is_at(&self, mut at: usize, name: &[u8]) -> bool {
        let mut rest = name;
        loop {
            let Some(&length) = self.out.get(at) else { return false };
            if length >= 0xc0 {
                at = usize::from(u16_at(&self.out, at) & 0x3fff);
                continue;
            }
            let end = 1 + usize::from(length);
            match (self.out.get(at..at + end), rest.get(..end)) {
                (Some(written), Some(wanted)) if written == wanted => {}
                _ => return false,
            }
            if length == 0 {
                return true;
            }
            at += end;
            rest = &rest[end..];
        }
    }
}

#[cfg(test)]
mod tests;
