//! What is asked of an upstream group, as a value: the key of the cache and of questions in flight.

use std::hash::{Hash, Hasher};

use super::query::Query;
use super::reply::UDP_PAYLOAD;
use super::wire::{CLASS_IN, flag, option, rtype};
use crate::policy::{Family, HostName, Upstream};

/// A question with everything that can change its answer. Two equal questions to one group have one answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    pub name: HostName,
    pub qtype: u16,
    /// RD, AD and CD as the client set them.
    flags: u16,
    dnssec_ok: bool,
    /// The payload of the client's subnet option, RFC 7871.
    client_subnet: Option<Box<[u8]>>,
}

impl Question {
    /// A question of our own: recursion desired, nothing else.
    pub fn new(name: HostName, qtype: u16) -> Self {
        Self { name, qtype, flags: flag::RD, dnssec_ok: false, client_subnet: None }
    }

    /// Asks for the addresses of one family.
    pub fn for_addresses(name: HostName, family: Family) -> Self {
        Self::new(name, if family == Family::V4 { rtype::A } else { rtype::AAAA })
    }

    /// What a client asks.
    pub fn of(query: &Query<'_>) -> Self {
        Self {
            name: query.name,
            qtype: query.qtype,
            flags: query.flags & (flag::RD | flag::AD | flag::CD),
            dnssec_ok: query.dnssec_ok(),
            client_subnet: query.edns.and_then(|edns| edns.client_subnet).map(Into::into),
        }
    }

    /// The same question about another name.
    pub fn about(&self, name: HostName) -> Self {
        Self { name, ..self.clone() }
    }

    /// Whether an answer may serve others: one that was made for a subnet may not.
    pub fn is_cacheable(&self) -> bool {
        self.client_subnet.is_none()
    }

    /// The query to send, with id 0. `edns` adds an OPT record of our own: nothing of the client's hop is in it but DO
    /// and the subnet.
    pub fn to_wire(&self, edns: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.name.wire().len() + 48);
        out.extend([0, 0]);
        out.extend(self.flags.to_be_bytes());
        out.extend([0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
        out.extend_from_slice(self.name.wire());
        out.extend(self.qtype.to_be_bytes());
        out.extend(CLASS_IN.to_be_bytes());
        if edns {
            let subnet = self.client_subnet.as_deref();
            out.push(0);
            out.extend(rtype::OPT.to_be_bytes());
            out.extend(UDP_PAYLOAD.to_be_bytes());
            out.extend([0, 0, if self.dnssec_ok { 0x80 } else { 0 }, 0]);
            out.extend((subnet.map_or(0, |subnet| 4 + subnet.len()) as u16).to_be_bytes());
            if let Some(subnet) = subnet {
                out.extend(option::CLIENT_SUBNET.to_be_bytes());
                out.extend((subnet.len() as u16).to_be_bytes());
                out.extend_from_slice(subnet);
            }
        }
        out
    }
}

/// The key of a cached answer. It borrows the name, so that a look-up copies nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheKey<'n> {
    /// Everything but the name.
    pub head: KeyHead,
    /// In lower-case wire form.
    pub name: &'n [u8],
}

/// Group, flags and type of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHead([u8; 6]);

impl Hash for CacheKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.head.0);
        state.write(self.name);
    }
}

impl<'n> CacheKey<'n> {
    /// The key of a client's query; `None` if its answer must not be shared.
    #[inline]
    pub fn of(query: &'n Query<'_>, upstream: Upstream) -> Option<Self> {
        let shared = query.edns.is_none_or(|edns| edns.client_subnet.is_none());
        shared.then(|| Self::new(&query.name, query.qtype, query.flags, query.dnssec_ok(), upstream))
    }

    /// The key of a question; `None` if its answer must not be shared.
    pub fn of_question(question: &'n Question, upstream: Upstream) -> Option<Self> {
        let Question { name, qtype, flags, dnssec_ok, .. } = question;
        question.is_cacheable().then(|| Self::new(name, *qtype, *flags, *dnssec_ok, upstream))
    }

    #[inline]
    fn new(name: &'n HostName, qtype: u16, flags: u16, dnssec_ok: bool, upstream: Upstream) -> Self {
        let group = match upstream {
            Upstream::Public => 0,
            Upstream::Vpc => 1,
            Upstream::Zone(position) => position as u16 + 2,
        };
        // DO, CD and AD change what an answer holds, RD whether it is one: none may serve for another.
        let bits = (flags & (flag::RD | flag::AD | flag::CD)) >> 4;
        let ([g0, g1], [t0, t1]) = (u16::to_be_bytes(group), qtype.to_be_bytes());
        Self { head: KeyHead([g0, g1, bits as u8, u8::from(dnssec_ok), t0, t1]), name: name.wire() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(flags: u16, dnssec_ok: bool, qtype: u16, upstream: Upstream) -> KeyHead {
        let name = "example.com".parse().unwrap();
        CacheKey::new(&name, qtype, flags, dnssec_ok, upstream).head
    }

    #[test]
    fn whatever_can_change_an_answer_changes_the_key() {
        let plain = key(flag::RD, false, 1, Upstream::Public);
        for other in [
            key(0, false, 1, Upstream::Public),
            key(flag::RD | flag::AD, false, 1, Upstream::Public),
            key(flag::RD | flag::CD, false, 1, Upstream::Public),
            key(flag::RD, true, 1, Upstream::Public),
            key(flag::RD, false, 28, Upstream::Public),
            key(flag::RD, false, 1, Upstream::Vpc),
            key(flag::RD, false, 1, Upstream::Zone(0)),
        ] {
            assert_ne!(plain, other);
        }
    }

    #[test]
    fn only_what_belongs_to_the_question_goes_to_the_next_hop() {
        let mut packet = Question::new("Example.com".parse().unwrap(), 1).to_wire(false);
        packet[3] |= 0x30;
        packet[11] = 1;
        // DO, a cookie, NSID, padding and a subnet.
        packet.extend([0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 35]);
        packet
            .extend([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 3, 0, 0, 0, 12, 0, 0, 0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2]);
        let at = packet.len() - 33;
        packet[at + 1] = 31;
        let query = Query::parse(&packet).unwrap();
        let question = Question::of(&query);
        assert!(!question.is_cacheable());
        let sent = question.to_wire(true);
        assert_eq!(sent[2..4], packet[2..4], "RD, AD and CD go on");
        let opt = &sent[12 + query.question.len()..];
        assert_eq!(opt, [0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2]);
    }
}
