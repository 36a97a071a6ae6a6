//! Against messages that hickory-proto wrote; the helpers serve `relevance` too.

use super::*;
use crate::policy::HostName;
use hickory_proto::op::{Message as Proto, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{CNAME, MX, NS, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record as ProtoRecord, RecordType};
use hickory_proto::serialize::binary::BinEncodable;

pub(crate) fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

pub(crate) fn wire(text: &str) -> Box<[u8]> {
    name(text).to_bytes().unwrap().into()
}

pub(crate) fn reply(
    answer: Vec<(&str, RData)>,
    authority: Vec<(&str, RData)>,
    additional: Vec<(&str, RData)>,
) -> Vec<u8> {
    let record = |(owner, data): (&str, RData)| ProtoRecord::from_rdata(name(owner), 300, data);
    let mut message = Proto::new(7, MessageType::Response, OpCode::Query);
    message.metadata.response_code = ResponseCode::NoError;
    message.add_query(Query::query(name("www.example.com."), RecordType::A));
    message.add_answers(answer.into_iter().map(record));
    message.add_authorities(authority.into_iter().map(record));
    message.add_additionals(additional.into_iter().map(record));
    message.to_vec().unwrap()
}

pub(crate) fn a(text: &str) -> RData {
    RData::A(text.parse().unwrap())
}

pub(crate) fn ns(text: &str) -> RData {
    RData::NS(NS(name(text)))
}

pub(crate) fn cname(text: &str) -> RData {
    RData::CNAME(CNAME(name(text)))
}

pub(crate) fn owners(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| HostName::from_wire(&record.owner).unwrap().to_string()).collect()
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
