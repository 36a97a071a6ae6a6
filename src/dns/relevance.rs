//! Which records of an upstream's reply have to do with the question: nothing else is kept, cached or passed on.
//!
//! Called by `resolver` for every reply. Pure.

use std::collections::HashSet;

use super::message::{Field, Message, Record, layout};
use super::wire::rtype;

/// Drops records that have nothing to do with the question (RFC 2181 section 5.4.1), so that none can be served.
///
/// What stays: in the answer, records of the chain's names and the DNAMEs above them; in the authority section, what
/// belongs to a zone above the chain, and proofs of absence; additional records of the names these mention. However many
/// records a hostile server sends, each is looked at a few times.
pub fn keep_relevant(message: &mut Message, name: &[u8]) {
    let chain: Vec<Box<[u8]>> = message.chain(name).into_iter().map(Into::into).collect();
    let in_chain = |record: &Record| chain.iter().any(|link| record.is_of(link));
    // Which is usual, and soon seen: an answer of the chain's names alone.
    if message.authority.is_empty() && message.additional.is_empty() && message.answer.iter().all(in_chain) {
        return;
    }
    let above_chain = |record: &Record| chain.iter().any(|link| is_within(link, &record.owner));
    message.answer.retain(|record| in_chain(record) || is_dname_or_signature(record) && above_chain(record));
    message
        .authority
        .retain(|record| matches!(record.rtype, rtype::NSEC | rtype::NSEC3 | rtype::RRSIG) || above_chain(record));
    let mut mentioned = Names::default();
    mentioned.extend(message.answer.iter().chain(&message.authority));
    // A NAPTR record may mention SRV records, which mention hosts in turn (RFC 3403 section 4.2).
    let further: Vec<&Record> = message.additional.iter().filter(|record| mentioned.hold(&record.owner)).collect();
    mentioned.extend(further);
    message.additional.retain(|record| in_chain(record) || mentioned.hold(&record.owner));
}

/// The hosts that records send their reader to, without regard to case.
#[derive(Default)]
struct Names(HashSet<Vec<u8>>);

impl Names {
    fn extend<'r>(&mut self, records: impl IntoIterator<Item = &'r Record>) {
        self.0.extend(records.into_iter().filter_map(target).map(<[u8]>::to_ascii_lowercase));
    }

    fn hold(&self, name: &[u8]) -> bool {
        self.0.contains(&name.to_ascii_lowercase())
    }
}

fn is_dname_or_signature(record: &Record) -> bool {
    matches!(record.rtype, rtype::DNAME | rtype::RRSIG)
}

/// The host a record sends its reader to.
fn target(record: &Record) -> Option<&[u8]> {
    match record.rtype {
        rtype::NS => Some(&record.rdata),
        rtype::MX | rtype::SVCB | rtype::HTTPS => {
            let name = record.rdata.get(2..)?;
            // An SVCB target is followed by parameters; "." stands for the owner.
            let end = name_length(name)?;
            Some(if end == 1 { &record.owner } else { &name[..end] })
        }
        // AFSDB, RT, KX; SRV; NAPTR: the last field is the name.
        18 | 21 | 36 | rtype::SRV | 35 => last_name(record),
        _ => None,
    }
}

/// The name at the end of the data.
fn last_name(record: &Record) -> Option<&[u8]> {
    let mut rest = &*record.rdata;
    for field in layout(record.rtype) {
        let length = match field {
            Field::Octets(count) => *count,
            Field::Text => 1 + usize::from(*rest.first()?),
            Field::Name => return Some(rest),
        };
        rest = rest.get(length..)?;
    }
    None
}

fn name_length(name: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = usize::from(*name.get(at)?);
        at += 1 + length;
        if length == 0 {
            return (at <= name.len()).then_some(at);
        }
    }
}

/// Whether `name` is `zone` or below it; both uncompressed, case does not matter.
pub fn is_within(name: &[u8], zone: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() >= zone.len() {
        if rest.eq_ignore_ascii_case(zone) {
            return true;
        }
        let Some(next) = rest.get(1 + usize::from(rest[0])..) else { return false };
        if rest[0] == 0 {
            return false;
        }
        rest = next;
    }
    false
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RData;
    use hickory_proto::rr::rdata::{NAPTR, SRV};

    use super::*;
    use crate::dns::message::tests::{a, cname, name, ns, owners, reply, wire};

    #[test]
    fn records_that_have_nothing_to_do_with_the_question_are_dropped() {
        let bytes = reply(
            vec![
                ("www.example.com.", cname("edge.example.net.")),
                ("edge.example.net.", a("192.0.2.1")),
                ("bank.example.org.", a("192.0.2.66")),
            ],
            vec![("example.net.", ns("ns.example.net.")), ("example.org.", ns("ns.evil.example."))],
            vec![("ns.example.net.", a("192.0.2.2")), ("bank.example.org.", a("192.0.2.66"))],
        );
        let mut message = Message::parse(&bytes).unwrap();
        keep_relevant(&mut message, &wire("www.example.com."));
        assert_eq!(owners(&message.answer), ["www.example.com", "edge.example.net"]);
        assert_eq!(owners(&message.authority), ["example.net"]);
        assert_eq!(owners(&message.additional), ["ns.example.net"]);
    }

    #[test]
    fn additional_records_stay_as_far_as_the_answer_leads_to_them() {
        let naptr = NAPTR::new(
            1,
            2,
            b"s".as_slice().into(),
            b"SIP+D2U".as_slice().into(),
            [].into(),
            name("_sip.example.com."),
        );
        let bytes = reply(
            vec![("www.example.com.", RData::NAPTR(naptr))],
            vec![],
            vec![
                ("_sip.example.com.", RData::SRV(SRV::new(1, 2, 3, name("sip.example.net.")))),
                ("sip.example.net.", a("192.0.2.5")),
                ("bank.example.org.", a("192.0.2.66")),
            ],
        );
        let mut message = Message::parse(&bytes).unwrap();
        keep_relevant(&mut message, &wire("www.example.com."));
        assert_eq!(owners(&message.additional), ["_sip.example.com", "sip.example.net"]);
    }

    #[test]
    fn a_zone_holds_whole_labels_only() {
        assert!(is_within(&wire("a.Example.com."), &wire("example.COM.")));
        assert!(is_within(&wire("example.com."), &wire(".")));
        assert!(!is_within(&wire("xexample.com."), &wire("example.com.")));
        assert!(!is_within(&wire("com."), &wire("example.com.")));
    }
}
