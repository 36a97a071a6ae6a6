//! Answers encoded, kept and rendered: what came from an upstream leaves as it came, read back with hickory-proto.

use hickory_proto::op::{Message as Proto, MessageType, OpCode, Query as ProtoQuery, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::svcb::{IpHint, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{CNAME, HTTPS, MX, NAPTR, NS, NULL, SOA, SRV, SVCB, TXT};
use hickory_proto::rr::{Name, RData, Record as ProtoRecord, RecordType};
use proptest::prelude::*;

use super::*;
use crate::dns::question::Question;
use crate::policy::HostName;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn wire(text: &str) -> Box<[u8]> {
    text.parse::<HostName>().unwrap().wire().into()
}

/// Parses what an upstream sends as a reply to `www.example.com <qtype>`.
fn received(answers: Vec<(&str, RData)>, authorities: Vec<(&str, RData)>, additionals: Vec<(&str, RData)>) -> Proto {
    let record = |(owner, data): (&str, RData)| ProtoRecord::from_rdata(name(owner), 300, data);
    let mut message = Proto::new(7, MessageType::Response, OpCode::Query);
    message.add_query(ProtoQuery::query(name("www.example.com."), RecordType::A));
    message.add_answers(answers.into_iter().map(record));
    message.add_authorities(authorities.into_iter().map(record));
    message.add_additionals(additionals.into_iter().map(record));
    message
}

fn parsed(message: &Proto) -> Message {
    Message::parse(&message.to_vec().unwrap()).unwrap()
}

fn encoded(message: &Message) -> Answer {
    Answer::encode(&wire("www.example.com"), rtype::A, message, u32::MAX)
}

/// The query `WWW.example.com A` with these header flags, and an OPT record if `dnssec_ok` says anything.
fn query(flags: u16, dnssec_ok: Option<bool>) -> Vec<u8> {
    let mut packet = Question::new("www.example.com".parse().unwrap(), rtype::A).to_wire(dnssec_ok.is_some());
    packet[2..4].copy_from_slice(&flags.to_be_bytes());
    packet[13..16].copy_from_slice(b"WWW");
    if dnssec_ok == Some(true) {
        let at = packet.len() - 4;
        packet[at] = 0x80;
    }
    packet
}

fn rendered(answer: &Answer, packet: &[u8], age: u32) -> Vec<u8> {
    let mut out = b"left over".to_vec();
    answer.render(&Query::parse(packet).unwrap(), age, ReplyLimit::Stream, &mut out);
    out
}

fn sections(message: &Proto) -> [Vec<String>; 3] {
    [&message.answers, &message.authorities, &message.additionals]
        .map(|section| section.iter().map(ToString::to_string).collect())
}

/// Every kind of data with names in it, and kinds that nobody here knows.
fn kinds() -> Vec<(&'static str, RData)> {
    let hint = (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(vec!["192.0.2.7".parse().unwrap()])));
    let svcb = SVCB::new(1, name("svc.example.com."), vec![hint]);
    let (flags, services) = (Box::from(*b"S"), Box::from(*b"SIP+D2U"));
    let unknown =
        RData::Unknown { code: RecordType::Unknown(65_280), rdata: NULL::with(b"\x03www\xc0\x0c\xff".to_vec()) };
    vec![
        ("www.example.com.", RData::A("192.0.2.1".parse().unwrap())),
        ("www.example.com.", RData::AAAA("2001:db8::1".parse().unwrap())),
        ("www.example.com.", RData::CNAME(CNAME(name("edge.example.com.")))),
        ("example.com.", RData::NS(NS(name("ns.example.com.")))),
        ("www.example.com.", RData::MX(MX::new(10, name("mx.example.com.")))),
        ("example.com.", RData::SOA(SOA::new(name("ns.example.com."), name("root.example.com."), 1, 2, 3, 4, 5))),
        ("_x._tcp.example.com.", RData::SRV(SRV::new(1, 2, 443, name("srv.example.com.")))),
        ("4.4.e164.arpa.", RData::NAPTR(NAPTR::new(1, 2, flags, services, Box::from(*b""), name("sip.example.com.")))),
        ("www.example.com.", RData::SVCB(svcb.clone())),
        ("www.example.com.", RData::HTTPS(HTTPS(svcb))),
        ("www.example.com.", RData::TXT(TXT::new(vec!["some text".to_owned(), String::new()]))),
        ("www.example.com.", unknown),
    ]
}

#[test]
fn every_kind_of_record_leaves_in_its_section_as_it_came() {
    let came = received(kinds(), kinds(), kinds());
    let answer = encoded(&parsed(&came));
    for mut packet in [query(0x0100, None), query(0x0100, Some(false))] {
        packet[13..16].copy_from_slice(b"www");
        let left = Proto::from_vec(&rendered(&answer, &packet, 0)).unwrap();
        assert_eq!(sections(&left), sections(&came));
    }
    assert_eq!(answer.message(), Message { edns: false, ..parsed(&came) }, "and can be taken apart again");
}

#[test]
fn names_are_compressed_where_the_rfc_allows_it_and_nowhere_else() {
    let many = (0..50).map(|_| ("www.example.com.", RData::MX(MX::new(1, name("mx.mail.example.com."))))).collect();
    let out = rendered(&encoded(&parsed(&received(many, vec![], vec![]))), &query(0x0100, None), 0);
    assert!(out.len() < 33 + 50 * 16 + 25, "{} octets", out.len());
    assert_eq!(Proto::from_vec(&out).unwrap().answers[49].data.to_string(), "1 mx.mail.example.com.");
    let srv = vec![("www.example.com.", RData::SRV(SRV::new(1, 2, 3, name("www.example.com."))))];
    let out = rendered(&encoded(&parsed(&received(srv, vec![], vec![]))), &query(0x0100, None), 0);
    assert!(out.ends_with(&wire("www.example.com")), "RFC 3597 section 4: not in SRV");
}

#[test]
fn names_keep_the_case_they_came_in() {
    let mixed = RData::CNAME(CNAME(name("Edge.EXAMPLE.com.")));
    let came = received(vec![("www.example.com.", mixed), ("eDGE.example.COM.", kinds()[0].1.clone())], vec![], vec![]);
    let left = Proto::from_vec(&rendered(&encoded(&parsed(&came)), &query(0x0100, None), 0)).unwrap();
    assert_eq!(left.answers[0].data.to_string(), "Edge.EXAMPLE.com.");
    assert_eq!(left.answers[1].name.to_string(), "eDGE.example.COM.");
}

#[test]
fn ttls_age_and_never_wrap() {
    let mut message = parsed(&received(kinds(), kinds(), kinds()));
    message.additional[0].ttl = 20;
    let answer = encoded(&message);
    let left = Proto::from_vec(&rendered(&answer, &query(0x0100, None), 30)).unwrap();
    assert!(left.answers.iter().chain(&left.authorities).all(|record| record.ttl == 270));
    assert_eq!((left.additionals[0].ttl, left.additionals[1].ttl), (0, 270));
}

#[test]
fn authentic_data_is_said_only_to_those_who_asked() {
    let mut message = parsed(&received(kinds(), vec![], vec![]));
    for (authentic, flags, dnssec_ok, said) in [
        (true, 0x0100, None, false),
        (true, 0x0100, Some(false), false),
        (true, 0x0120, None, true),
        (true, 0x0100, Some(true), true),
        (false, 0x0120, Some(true), false),
    ] {
        message.authentic = authentic;
        let out = rendered(&encoded(&message), &query(flags, dnssec_ok), 0);
        assert_eq!(Proto::from_vec(&out).unwrap().metadata.authentic_data, said, "{flags:04x} {dnssec_ok:?}");
    }
}

fn options(reply: &Proto) -> Vec<(u16, Vec<u8>)> {
    let options = &reply.edns.as_ref().unwrap().options().options;
    let bytes = |option: &EdnsOption| Vec::try_from(option).unwrap();
    options.iter().map(|(code, option): &(EdnsCode, EdnsOption)| (u16::from(*code), bytes(option))).collect()
}

#[test]
fn a_stale_answer_has_short_ttls_and_says_that_it_is_stale_and_so_does_a_stale_nxdomain() {
    for (rcode, code) in [(rcode::NOERROR, 3), (rcode::NXDOMAIN, 19)] {
        let mut message = parsed(&received(kinds(), kinds(), vec![]));
        message.rcode = rcode;
        message.authority[0].ttl = 7;
        reply::put_extended_error(&mut message.options, ExtendedError::Other, "kept");
        let answer = encoded(&message);
        let mut out = Vec::new();
        let packet = query(0x0100, Some(false));
        answer.render_stale(&Query::parse(&packet).unwrap(), ReplyLimit::Stream, &mut out);
        let reply = Proto::from_vec(&out).unwrap();
        assert!(reply.answers.iter().all(|record| record.ttl == 30));
        assert_eq!(reply.authorities[0].ttl, 7);
        assert_eq!(options(&reply), [(15, b"\0\0kept".to_vec()), (15, vec![0, code])]);
        let plain = query(0x0100, None);
        answer.render_stale(&Query::parse(&plain).unwrap(), ReplyLimit::Stream, &mut out);
        assert!(Proto::from_vec(&out).unwrap().edns.is_none());
    }
}

#[test]
fn an_extended_code_needs_an_opt_record_and_is_a_failure_to_those_without() {
    let message = Message { rcode: 23, ..Message::default() };
    let code =
        |packet: &[u8]| Proto::from_vec(&rendered(&encoded(&message), packet, 0)).unwrap().metadata.response_code;
    assert_eq!(u16::from(code(&query(0x0100, Some(false)))), 23, "BADCOOKIE");
    assert_eq!(code(&query(0x0100, None)), ResponseCode::ServFail);
}

#[test]
fn records_beyond_the_longest_message_are_left_out_whole_and_the_reply_says_so() {
    let text = |length| Record {
        owner: wire("www.example.com"),
        rtype: 65_280,
        class: 1,
        ttl: 60,
        rdata: vec![7; length].into(),
    };
    for lengths in [vec![60_000, 10_000, 10], vec![65_535, 10], vec![10; 10_000]] {
        for section in 0..3 {
            let mut message = Message::default();
            let records: Vec<Record> = lengths.iter().map(|&length| text(length)).collect();
            *[&mut message.answer, &mut message.authority, &mut message.additional][section] = records.clone();
            message.additional.push(text(20));
            let answer = encoded(&message);
            let out = rendered(&answer, &query(0x0100, Some(false)), 1);
            let reply = Proto::from_vec(&out).unwrap();
            assert!(reply.metadata.truncation, "{} octets", out.len());
            let kept = reply.all_sections().count();
            assert!(kept < records.len() && reply.all_sections().all(|record| record.ttl == 59));
            let length = 12 + 17 + 4 + lengths[..kept].iter().map(|length| 12 + length).sum::<usize>() + 11;
            assert_eq!(out.len(), length, "nothing is left behind the last record");
        }
    }
}

proptest! {
    #[test]
    fn what_parses_is_the_same_after_encoding(bytes in prop::collection::vec(any::<u8>(), 0..200), counts: [u8; 3]) {
        let mut packet = vec![0, 0, 0x81, 0x80, 0, 1, 0, counts[0] % 4, 0, counts[1] % 4, 0, counts[2] % 4];
        packet.extend(b"\x03www\x07example\x03com\x00\x00\x01\x00\x01");
        packet.extend(bytes);
        if let Ok(message) = Message::parse(&packet) {
            prop_assert_eq!(encoded(&message).message(), Message { edns: false, ..message });
        }
    }
}
