//! A whole message taken apart into records: what upstreams send, before it is filtered, cut and encoded again.
//!
//! Names inside are uncompressed and keep their case; every other byte of a record stays as it came, so types unknown
//! here survive (RFC 3597). Used by `resolver` and `chain`.

use std::net::IpAddr;

use super::wire::{CLASS_IN, HEADER, Malformed, Reader, flag, option, rcode, rtype, u16_at};

/// CNAMEs followed in one answer: recursive resolvers give up after fewer, and it bounds the work a hostile one can cause.
const MAX_CHAIN: usize = 32;

/// One resource record, its names uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub owner: Box<[u8]>,
    pub rtype: u16,
    pub class: u16,
    /// Seconds; values above 2^31 count as 0 (RFC 2181 section 8).
    pub ttl: u32,
    pub rdata: Box<[u8]>,
}

/// A reply in parts, without its question and its OPT record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// With the extended bits of the OPT record.
    pub rcode: u16,
    pub truncated: bool,
    /// The AD bit.
    pub authentic: bool,
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
    /// EDNS options that belong to the answer rather than to the hop, encoded: extended errors and the client subnet.
    pub options: Vec<u8>,
    /// Whether there was an OPT record.
    pub edns: bool,
}

/// How the names lie in the data of a record.
pub enum Field {
    /// So many octets.
    Octets(usize),
    /// A length octet and as many more.
    Text,
    Name,
}

/// The fields of types whose data holds names that may come compressed: RFC 1035, and those of RFC 3597 section 4. What
/// is left behind the last field is taken as it is.
pub fn layout(rtype: u16) -> &'static [Field] {
    use Field::{Name, Octets, Text};
    match rtype {
        // NS, MD, MF, CNAME, MB, MG, MR, PTR, DNAME; NXT
        rtype::NS | 3 | 4 | rtype::CNAME | 7 | 8 | 9 | 12 | rtype::DNAME | 30 => &[Name],
        // SOA, MINFO, RP
        rtype::SOA | 14 | 17 => &[Name, Name],
        // MX, AFSDB, RT, KX
        rtype::MX | 18 | 21 | 36 => &[Octets(2), Name],
        // SIG
        24 => &[Octets(18), Name],
        // PX
        26 => &[Octets(2), Name, Name],
        rtype::SRV => &[Octets(6), Name],
        // NAPTR
        35 => &[Octets(4), Text, Text, Text, Name],
        _ => &[],
    }
}

impl Record {
    fn parse(reader: &mut Reader<'_>, message: &[u8], scratch: &mut Vec<u8>) -> Result<Self, Malformed> {
        scratch.clear();
        reader.name(scratch)?;
        let owner = Box::from(scratch.as_slice());
        let (rtype, class, ttl) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let length = usize::from(reader.u16()?);
        let end = reader.position() + length;
        // Names in the data may point anywhere before them, but their own bytes end with the data.
        let mut data = Reader::new(message.get(..end).ok_or(Malformed)?, reader.position());
        scratch.clear();
        for field in if class == CLASS_IN { layout(rtype) } else { &[] } {
            match field {
                Field::Octets(count) => scratch.extend_from_slice(data.slice(*count)?),
                Field::Text => {
                    let length = data.u8()?;
                    scratch.push(length);
                    scratch.extend_from_slice(data.slice(length.into())?);
                }
                Field::Name => data.name(scratch)?,
            }
        }
        scratch.extend_from_slice(data.slice(end.checked_sub(data.position()).ok_or(Malformed)?)?);
        let whole = match (class, rtype) {
            (CLASS_IN, rtype::A) => length == 4,
            (CLASS_IN, rtype::AAAA) => length == 16,
            _ => true,
        };
        reader.slice(length)?;
        // The TTL of an OPT record is no time but flags (RFC 6891 section 6.1.3).
        let ttl = if ttl > i32::MAX as u32 && rtype != rtype::OPT { 0 } else { ttl };
        if whole { Ok(Self { owner, rtype, class, ttl, rdata: scratch.as_slice().into() }) } else { Err(Malformed) }
    }

    /// Whether it belongs to this name; case does not matter.
    pub fn is_of(&self, name: &[u8]) -> bool {
        self.owner.eq_ignore_ascii_case(name)
    }

    /// The negative TTL an SOA record stands for, RFC 2308 section 5: the lesser of its TTL and its MINIMUM field.
    pub fn negative_ttl(&self) -> Option<u32> {
        let minimum = self.rdata.last_chunk::<4>()?;
        (self.rtype == rtype::SOA).then(|| self.ttl.min(u32::from_be_bytes(*minimum)))
    }
}

impl Message {
    /// Takes a reply apart. Whether it answers the question that was asked is for the caller to see first.
    ///
    /// # Errors
    /// Records that do not end where they should, compression that does not lead back, two OPT records, anything but one
    /// question.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < HEADER || u16_at(bytes, 4) != 1 {
            return Err(Malformed);
        }
        let flags = u16_at(bytes, 2);
        let mut message = Self {
            rcode: flags & 0xf,
            truncated: flags & flag::TC != 0,
            authentic: flags & flag::AD != 0,
            ..Self::default()
        };
        let mut scratch = Vec::with_capacity(256);
        let mut reader = Reader::new(bytes, HEADER);
        reader.name(&mut scratch)?;
        reader.slice(4)?;
        if message.truncated {
            // What was cut off is asked for again over TCP; where the cut went through a record, the rest says nothing.
            return Ok(message);
        }
        for _ in 0..u16_at(bytes, 6) {
            message.answer.push(Record::parse(&mut reader, bytes, &mut scratch)?);
        }
        for _ in 0..u16_at(bytes, 8) {
            message.authority.push(Record::parse(&mut reader, bytes, &mut scratch)?);
        }
        for _ in 0..u16_at(bytes, 10) {
            let record = Record::parse(&mut reader, bytes, &mut scratch)?;
            if record.rtype == rtype::OPT {
                message.take_opt(&record)?;
            } else {
                message.additional.push(record);
            }
        }
        Ok(message)
    }

    fn take_opt(&mut self, record: &Record) -> Result<(), Malformed> {
        if std::mem::replace(&mut self.edns, true) || *record.owner != [0] {
            return Err(Malformed);
        }
        self.rcode |= u16::from(record.ttl.to_be_bytes()[0]) << 4;
        let mut reader = Reader::new(&record.rdata, 0);
        while !reader.at_end() {
            let (code, length) = (reader.u16()?, reader.u16()?);
            let value = reader.slice(length.into())?;
            if matches!(code, option::EXTENDED_ERROR | option::CLIENT_SUBNET) {
                self.options.extend(code.to_be_bytes());
                self.options.extend(length.to_be_bytes());
                self.options.extend_from_slice(value);
            }
        }
        Ok(())
    }

    /// The name of the response code, unless the reply speaks of the name: NOERROR or NXDOMAIN.
    pub fn failure(&self) -> Option<&'static str> {
        match self.rcode {
            rcode::NOERROR | rcode::NXDOMAIN => None,
            rcode::SERVFAIL => Some("SERVFAIL"),
            rcode::REFUSED => Some("REFUSED"),
            _ => Some("an error"),
        }
    }

    /// The addresses in the answer, in its order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.answer.iter().filter_map(|record| match record.rtype {
            rtype::A => <[u8; 4]>::try_from(&*record.rdata).ok().map(IpAddr::from),
            rtype::AAAA => <[u8; 16]>::try_from(&*record.rdata).ok().map(IpAddr::from),
            _ => None,
        })
    }

    /// Where the answer leads from `name`: the name itself, then each CNAME's target in turn. A loop ends it, and so does
    /// a length that no resolver follows.
    pub fn chain<'m>(&'m self, name: &'m [u8]) -> Vec<&'m [u8]> {
        let mut chain = vec![name];
        while let Some(target) = self.target_of(chain[chain.len() - 1]) {
            if chain.len() > MAX_CHAIN || chain.iter().any(|seen| seen.eq_ignore_ascii_case(target)) {
                break;
            }
            chain.push(target);
        }
        chain
    }

    fn target_of(&self, name: &[u8]) -> Option<&[u8]> {
        let cname = self.answer.iter().find(|record| record.rtype == rtype::CNAME && record.is_of(name))?;
        Some(&cname.rdata)
    }

    /// Drops records that have nothing to do with the question (RFC 2181 section 5.4.1), so that none can be served.
    ///
    /// What stays: in the answer, records of the chain's names and the DNAMEs above them; in the authority section, what
    /// belongs to a zone above the chain, and proofs of absence; additional records of the names these mention.
    pub fn keep_relevant(&mut self, name: &[u8]) {
        let chain: Vec<Box<[u8]>> = self.chain(name).into_iter().map(Into::into).collect();
        let in_chain = |record: &Record| chain.iter().any(|link| record.is_of(link));
        let above_chain = |record: &Record| chain.iter().any(|link| is_within(link, &record.owner));
        self.answer.retain(|record| in_chain(record) || is_dname_or_signature(record) && above_chain(record));
        self.authority
            .retain(|record| matches!(record.rtype, rtype::NSEC | rtype::NSEC3 | rtype::RRSIG) || above_chain(record));
        let mut mentioned: Vec<Box<[u8]>> =
            self.answer.iter().chain(&self.authority).filter_map(target).map(Into::into).collect();
        let is_mentioned = |record: &Record, mentioned: &[Box<[u8]>]| mentioned.iter().any(|name| record.is_of(name));
        // A NAPTR record may mention SRV records, which mention hosts in turn (RFC 3403 section 4.2).
        let further = self.additional.iter().filter(|record| is_mentioned(record, &mentioned)).filter_map(target);
        let further: Vec<Box<[u8]>> = further.map(Into::into).collect();
        mentioned.extend(further);
        self.additional.retain(|record| in_chain(record) || is_mentioned(record, &mentioned));
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
fn is_within(name: &[u8], zone: &[u8]) -> bool {
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
    use super::*;
    use hickory_proto::op::{Message as Proto, MessageType, OpCode, Query, ResponseCode};
    use hickory_proto::rr::rdata::{CNAME, MX, NAPTR, NS, SOA, SRV};
    use hickory_proto::rr::{Name, RData, Record as ProtoRecord, RecordType};
    use hickory_proto::serialize::binary::BinEncodable;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn wire(text: &str) -> Box<[u8]> {
        name(text).to_bytes().unwrap().into()
    }

    fn reply(answer: Vec<(&str, RData)>, authority: Vec<(&str, RData)>, additional: Vec<(&str, RData)>) -> Vec<u8> {
        let record = |(owner, data): (&str, RData)| ProtoRecord::from_rdata(name(owner), 300, data);
        let mut message = Proto::new(7, MessageType::Response, OpCode::Query);
        message.metadata.response_code = ResponseCode::NoError;
        message.add_query(Query::query(name("www.example.com."), RecordType::A));
        message.add_answers(answer.into_iter().map(record));
        message.add_authorities(authority.into_iter().map(record));
        message.add_additionals(additional.into_iter().map(record));
        message.to_vec().unwrap()
    }

    fn a(text: &str) -> RData {
        RData::A(text.parse().unwrap())
    }

    fn ns(text: &str) -> RData {
        RData::NS(NS(name(text)))
    }

    fn cname(text: &str) -> RData {
        RData::CNAME(CNAME(name(text)))
    }

    fn owners(records: &[Record]) -> Vec<String> {
        records.iter().map(|r| Name::from_vec_or_panic(&r.owner)).collect()
    }

    trait FromVec {
        fn from_vec_or_panic(bytes: &[u8]) -> String;
    }

    impl FromVec for Name {
        fn from_vec_or_panic(bytes: &[u8]) -> String {
            crate::policy::HostName::from_wire(bytes).unwrap().to_string()
        }
    }

    #[test]
    fn names_in_records_come_out_uncompressed() {
        let soa = SOA::new(name("ns.example.com."), name("host.example.com."), 1, 2, 3, 4, 77);
        let bytes = reply(
            vec![
                ("www.example.com.", cname("edge.example.com.")),
                ("edge.example.com.", RData::MX(MX::new(5, name("mx.example.com.")))),
            ],
            vec![("example.com.", RData::SOA(soa))],
            vec![("_x._tcp.example.com.", RData::SRV(SRV::new(1, 2, 3, name("srv.example.com."))))],
        );
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.answer[0].rdata, wire("edge.example.com."));
        assert_eq!(message.answer[1].rdata[2..], *wire("mx.example.com."));
        assert_eq!(message.authority[0].negative_ttl(), Some(77));
        assert_eq!(message.additional[0].rdata[6..], *wire("srv.example.com."));
        let chain = message.chain(&message.answer[0].owner);
        assert_eq!(chain, [&*wire("www.example.com."), &*wire("edge.example.com.")]);
    }

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
        message.keep_relevant(&wire("www.example.com."));
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
        message.keep_relevant(&wire("www.example.com."));
        assert_eq!(owners(&message.additional), ["_sip.example.com", "sip.example.net"]);
    }

    #[test]
    fn a_chain_that_loops_ends() {
        let bytes = reply(
            vec![("www.example.com.", cname("b.example.com.")), ("b.example.com.", cname("WWW.example.com."))],
            vec![],
            vec![],
        );
        assert_eq!(Message::parse(&bytes).unwrap().chain(&wire("www.example.com.")).len(), 2);
    }

    #[test]
    fn what_is_cut_off_anywhere_is_refused() {
        let bytes = reply(vec![("www.example.com.", cname("edge.example.net."))], vec![], vec![]);
        for end in 0..bytes.len() {
            assert_eq!(Message::parse(&bytes[..end]), Err(Malformed), "{end} bytes");
        }
    }

    #[test]
    fn an_address_of_the_wrong_size_is_refused() {
        let mut bytes = reply(vec![("www.example.com.", a("192.0.2.1"))], vec![], vec![]);
        let at = bytes.len() - 5;
        bytes[at] = 3;
        bytes.pop();
        assert_eq!(Message::parse(&bytes), Err(Malformed));
    }

    #[test]
    fn a_zone_holds_whole_labels_only() {
        assert!(is_within(&wire("a.Example.com."), &wire("example.COM.")));
        assert!(is_within(&wire("example.com."), &wire(".")));
        assert!(!is_within(&wire("xexample.com."), &wire("example.com.")));
        assert!(!is_within(&wire("com."), &wire("example.com.")));
    }
}
