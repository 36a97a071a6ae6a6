//! `dns.answer = "forwarder"`: what stands in for which name, and what stays as it is.

use super::*;
use crate::dns::cache::Validity;
use crate::dns::question::{CacheKey, Question};

fn forwarder() -> Addresses {
    Addresses { v4: vec![[10, 0, 9, 1].into(), [10, 0, 9, 2].into()], ..Addresses::default() }
}

/// Answers with a cache in which public DNS has said this of the name, `age` seconds ago.
fn after(said: Option<&Message>, age: u64, table: &Table, name: &str, qtype: u16) -> (Outcome, Vec<u8>) {
    let (cache, start, forwarder) = (Cache::new(1 << 20), Instant::now(), forwarder());
    let host: HostName = name.parse().unwrap();
    if let Some(message) = said {
        let question = Question::new(host, qtype);
        let key = CacheKey::of_question(&question, Upstream::Public).unwrap();
        let answer = Answer::encode(host.wire(), qtype, message, 60);
        cache.insert(&key, answer, start, Validity::Always);
    }
    let sources = Sources { table, cache: &cache, forwarder: Some(&forwarder) };
    let mut out = Vec::new();
    let now = start + Duration::from_secs(age);
    (respond(&ask(name, qtype), sources, true, now, ReplyLimit::Udp, &mut out).outcome, out)
}

fn shown(name: &str, qtype: u16) -> Proto {
    let (outcome, out) = after(None, 0, &table(), name, qtype);
    assert_eq!(outcome, Outcome::Reply, "{name}");
    Proto::from_vec(&out).unwrap()
}

fn records(reply: &Proto) -> Vec<String> {
    reply.answers.iter().map(|record| format!("{} {}", record.ttl, record.data)).collect()
}

fn record(name: &str, rtype: u16, ttl: u32, rdata: &[u8]) -> Record {
    let owner = name.parse::<HostName>().unwrap().wire().into();
    Record { owner, rtype, class: 1, ttl, rdata: rdata.into() }
}

/// Public DNS: an alias and an address, signed.
fn alias(name: &str, ttls: [u32; 2]) -> Message {
    let target: HostName = "edge.example.net".parse().unwrap();
    let [alias, address] = ttls;
    let answer = vec![
        record(name, rtype::CNAME, alias, target.wire()),
        record("edge.example.net", rtype::A, address, &[198, 51, 100, 7]),
    ];
    Message { answer, authentic: true, ..Message::default() }
}

#[test]
fn private_names_resolve_to_the_forwarder_in_the_families_it_has() {
    for name in [US.to_owned(), format!("priv1.{US}"), format!("priv1.{EU}"), format!("any9-vpce-0aaaaa90.{US}")] {
        assert_eq!(records(&shown(&name, rtype::A)), ["60 10.0.9.1", "60 10.0.9.2"], "{name}");
        for qtype in [rtype::AAAA, rtype::HTTPS, rtype::TXT] {
            let none = shown(&name, qtype);
            assert_eq!((none.metadata.response_code, records(&none)), (ResponseCode::NoError, vec![]), "{name}");
            let apex = if name.ends_with(US) { US } else { EU };
            assert_eq!(none.authorities.iter().map(ToString::to_string).collect::<Vec<_>>(), [soa(apex)]);
        }
    }
}

#[test]
fn what_does_not_exist_or_cannot_be_reached_or_told_is_not_brought_to_life() {
    let code = |name: &str| shown(name, rtype::A).metadata.response_code;
    assert_eq!(code(&format!("x.priv1.{US}")), ResponseCode::NXDomain);
    assert_eq!(code(&format!("priv1.{AP}")), ResponseCode::ServFail, "no usable address");
    let mut table = table();
    table.not_ready = Some(NotReady { source: "file /ids".into(), last_error: None });
    for qtype in [rtype::A, rtype::HTTPS] {
        let (outcome, out) = after(None, 0, &table, &format!("unknown1.{US}"), qtype);
        let code = Proto::from_vec(&out).unwrap().metadata.response_code;
        assert_eq!((outcome, code), (Outcome::Reply, ResponseCode::ServFail));
    }
}

#[test]
fn public_names_are_asked_for_and_their_own_addresses_never_shown() {
    for name in [format!("unknown1.{US}"), format!("d-abc.{US}"), format!("any9-vpce-0fffff90.{US}")] {
        for qtype in [rtype::A, rtype::AAAA, rtype::TXT, rtype::ANY] {
            assert_eq!(after(None, 0, &table(), &name, qtype).0, Outcome::Ask(Upstream::Public), "{name} {qtype}");
        }
        for (ttls, age, left) in [([300, 40], 10, 30), ([5, 300], 1, 4), ([300, 300], 100, 60)] {
            let (outcome, out) = after(Some(&alias(&name, ttls)), age, &table(), &name, rtype::A);
            let reply = Proto::from_vec(&out).unwrap();
            assert_eq!(outcome, Outcome::Reply);
            assert_eq!(records(&reply), [format!("{left} 10.0.9.1"), format!("{left} 10.0.9.2")]);
            assert!(reply.answers.iter().all(|record| record.name.to_ascii() == format!("{name}.")));
            assert!(!reply.metadata.authentic_data, "nobody signed this");
        }
    }
}

#[test]
fn a_public_name_without_an_address_of_this_family_exists_and_one_that_does_not_exist_stays_away() {
    let name = format!("unknown1.{US}");
    let zone = US.parse::<HostName>().unwrap();
    let data = [zone.wire(), zone.wire(), &[0; 19], &[45]].concat();
    let none = Message { authority: vec![record(US, rtype::SOA, 900, &data)], ..Message::default() };
    let (_, out) = after(Some(&none), 5, &table(), &name, rtype::A);
    assert_eq!(records(&Proto::from_vec(&out).unwrap()), ["40 10.0.9.1", "40 10.0.9.2"]);
    let (_, out) = after(Some(&none), 5, &table(), &name, rtype::AAAA);
    assert_eq!(Proto::from_vec(&out).unwrap().authorities[0].to_string(), soa(US), "the forwarder has no IPv6 address");
    let missing = Message { rcode: rcode::NXDOMAIN, ..none };
    let (_, out) = after(Some(&missing), 5, &table(), &name, rtype::A);
    let reply = Proto::from_vec(&out).unwrap();
    assert_eq!((reply.metadata.response_code, records(&reply)), (ResponseCode::NXDomain, vec![]));
}

#[test]
fn no_hint_leads_past_the_forwarder_and_other_types_are_as_public_dns_has_them() {
    let name = format!("d-abc.{US}");
    for qtype in [rtype::HTTPS, rtype::SVCB] {
        let reply = shown(&name, qtype);
        assert_eq!((reply.metadata.response_code, records(&reply)), (ResponseCode::NoError, vec![]));
        assert_eq!(reply.authorities[0].to_string(), soa(US));
    }
    let text = Message { answer: vec![record(&name, rtype::TXT, 40, b"\x02hi")], ..Message::default() };
    let (_, out) = after(Some(&text), 0, &table(), &name, rtype::TXT);
    assert_eq!(records(&Proto::from_vec(&out).unwrap()), ["40 hi"]);
}

#[test]
fn names_that_are_listed_and_names_outside_our_zones_keep_their_own_addresses() {
    assert_eq!(records(&shown("orders.corp.example", rtype::AAAA)), ["60 fd00::7"]);
    for name in [format!("pub1.{US}"), "shop.corp.example".to_owned()] {
        let (_, out) = after(Some(&alias(&name, [300, 40])), 0, &table(), &name, rtype::A);
        assert_eq!(records(&Proto::from_vec(&out).unwrap()), ["300 edge.example.net.", "40 198.51.100.7"]);
        assert_eq!(after(None, 0, &table(), &name, rtype::HTTPS).0, Outcome::Ask(Upstream::Public));
    }
    assert_eq!(after(None, 0, &table(), "example.com", rtype::HTTPS).0, Outcome::Ask(Upstream::Vpc));
}
