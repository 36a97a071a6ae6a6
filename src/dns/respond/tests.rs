//! Every row of the policy's table as a client sees it: query bytes in, reply bytes out, read back with hickory-proto.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message as Proto, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use proptest::prelude::*;

use super::*;
use crate::dns::answer::Answer;
use crate::dns::message::{Message, Record};
use crate::policy::{Addresses, Endpoint, EndpointIndex, Knowledge, Names, NotReady, Origin, PrivateIds};

const US: &str = "execute-api.us-east-1.amazonaws.com";
const EU: &str = "execute-api.eu-west-1.amazonaws.com";
const AP: &str = "execute-api.ap-south-1.amazonaws.com";

fn endpoint(region: &str, addresses: Addresses) -> Endpoint {
    Endpoint { region: region.parse().unwrap(), vpce_id: Some("vpce-0aaaaa90".parse().unwrap()), addresses, port: 443 }
}

/// us-east-1 has three IPv4 addresses, the first of them near; eu-west-1 has both families; ap-south-1 has none.
fn table() -> Table {
    let v4 = |last: [u8; 3]| last.map(|last| [10, 0, 0, last].into()).to_vec();
    let us = Addresses { v4: v4([1, 2, 3]), near_v4: 1, ..Addresses::default() };
    let eu = Addresses { v4: v4([7, 8, 9]), v6: vec!["fd00::7".parse().unwrap()], ..Addresses::default() };
    let ap = Addresses { problem: Some("the VPC resolver is silent".to_owned()), ..Addresses::default() };
    let name = |text: &str| text.parse::<HostName>().unwrap();
    let names = Names {
        always_public_ids: ["pub1".parse().unwrap()].into(),
        always_public_names: [name("shop.corp.example")].into(),
        private_names: [(name("orders.corp.example"), EndpointIndex(1))].into(),
        forward_zones: [(name("corp.internal"), 0)].into(),
        default_upstream: Upstream::Vpc,
        ..Names::default()
    };
    let endpoints = vec![endpoint("us-east-1", us), endpoint("eu-west-1", eu), endpoint("ap-south-1", ap)];
    let mut ids = PrivateIds::default();
    for id in ["priv1", "pub1"] {
        ids.add(&id.parse().unwrap(), Knowledge::of(&Origin::Static));
    }
    let mut table = Table::new(endpoints, Arc::new(names), None).unwrap();
    table.ids = Arc::new(ids);
    table
}

/// A query with RD set and without EDNS.
fn ask(name: &str, qtype: u16) -> Vec<u8> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(label.len() as u8);
        packet.extend(label.as_bytes());
    }
    packet.push(0);
    packet.extend(qtype.to_be_bytes());
    packet.extend([0, 1]);
    packet
}

fn with_opt(mut packet: Vec<u8>, size: u16, version: u8, dnssec_ok: bool) -> Vec<u8> {
    packet[11] = 1;
    let [high, low] = size.to_be_bytes();
    packet.extend([0, 0, 41, high, low, 0, version, u8::from(dnssec_ok) << 7, 0, 0, 0]);
    packet
}

fn sources<'a>(table: &'a Table, cache: &'a Cache) -> Sources<'a> {
    Sources { table, cache, forwarder: None }
}

fn outcome(table: &Table, packet: &[u8], limit: ReplyLimit) -> (Outcome, Vec<u8>) {
    let mut out = b"left over".to_vec();
    let cache = Cache::new(1 << 16);
    let responded = respond(packet, sources(table, &cache), true, Instant::now(), limit, &mut out);
    (responded.outcome, out)
}

fn reply(table: &Table, packet: &[u8]) -> Proto {
    let (outcome, out) = outcome(table, packet, ReplyLimit::Udp);
    assert_eq!(outcome, Outcome::Reply);
    assert!(!out.windows(9).any(|window| window == b"left over"));
    Proto::from_vec(&out).unwrap()
}

fn answers(table: &Table, name: &str, qtype: u16) -> Vec<String> {
    reply(table, &ask(name, qtype)).answers.iter().map(|record| record.data.to_string()).collect()
}

fn extended_error(reply: &Proto) -> (u16, String) {
    match reply.edns.as_ref().unwrap().option(EdnsCode::Unknown(15)) {
        Some(EdnsOption::Unknown(15, bytes)) => {
            (u16::from_be_bytes([bytes[0], bytes[1]]), String::from_utf8(bytes[2..].to_vec()).unwrap())
        }
        other => panic!("no extended error but {other:?}"),
    }
}

fn soa(owner: &str) -> String {
    format!("{owner}. 10 IN SOA {owner}. hostmaster.{owner}. 1 3600 600 86400 10")
}

#[test]
fn a_private_name_answers_with_its_endpoints_addresses() {
    let table = table();
    for name in [US.to_owned(), format!("priv1.{US}"), format!("any9-vpce-0aaaaa90.{US}")] {
        assert_eq!(answers(&table, &name, rtype::A), ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "{name}");
    }
    for name in [EU.to_owned(), format!("priv1.{EU}"), "orders.corp.example".to_owned()] {
        assert_eq!(answers(&table, &name, rtype::A), ["10.0.0.7", "10.0.0.8", "10.0.0.9"], "{name}");
        assert_eq!(answers(&table, &name, rtype::AAAA), ["fd00::7"], "{name}");
    }
}

#[test]
fn a_missing_family_and_every_other_type_is_no_data_with_the_soa_of_the_zone() {
    let table = table();
    let others = [rtype::HTTPS, rtype::SVCB, rtype::TXT, rtype::MX, rtype::CNAME, rtype::NS, rtype::SOA, 65_280];
    for name in [US.to_owned(), format!("priv1.{US}")] {
        for qtype in others.into_iter().chain([rtype::AAAA]) {
            let reply = reply(&table, &ask(&name, qtype));
            assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 0), "{qtype}");
            assert_eq!(reply.authorities.iter().map(ToString::to_string).collect::<Vec<_>>(), [soa(US)], "{qtype}");
        }
    }
    let outside = reply(&table, &ask("orders.corp.example", rtype::HTTPS));
    assert_eq!(outside.authorities[0].to_string(), soa("orders.corp.example"));
}

#[test]
fn any_gets_one_small_record() {
    let reply = reply(&table(), &ask(&format!("priv1.{US}"), rtype::ANY));
    let answers: Vec<String> = reply.answers.iter().map(ToString::to_string).collect();
    assert_eq!(answers, [format!("priv1.{US}. 60 IN HINFO RFC8482 ")]);
}

#[test]
fn below_a_private_name_nothing_exists() {
    let table = table();
    for (name, apex) in [(format!("x.priv1.{US}"), US), (format!("x.y.priv1.{EU}"), EU)] {
        for qtype in [rtype::A, rtype::AAAA, rtype::HTTPS, rtype::ANY] {
            let reply = reply(&table, &ask(&name, qtype));
            assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NXDomain, 0), "{name}");
            assert_eq!(reply.authorities[0].to_string(), soa(apex));
        }
    }
    let below_listed = reply(&table, &ask("x.orders.corp.example", rtype::A));
    assert_eq!(below_listed.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn every_other_name_is_for_the_group_that_the_table_says() {
    let table = table();
    for (name, group) in [
        (format!("pub1.{US}"), Upstream::Public),
        ("shop.corp.example".to_owned(), Upstream::Public),
        (format!("unknown1.{US}"), Upstream::Public),
        (format!("d-abc.{US}"), Upstream::Public),
        ("a.corp.internal".to_owned(), Upstream::Zone(0)),
        ("example.com".to_owned(), Upstream::Vpc),
        (String::new(), Upstream::Vpc),
    ] {
        for qtype in [rtype::A, rtype::HTTPS, rtype::ANY, 65_280] {
            assert_eq!(outcome(&table, &ask(&name, qtype), ReplyLimit::Udp).0, Outcome::Ask(group), "{name}");
        }
    }
}

#[test]
fn without_a_list_an_unknown_id_is_a_failure_that_names_the_source() {
    let mut table = table();
    table.not_ready = Some(NotReady { source: "file /ids".into(), last_error: Some("no such file".to_owned()) });
    let packet = ask(&format!("unknown1.{US}"), rtype::A);
    assert_eq!(reply(&table, &packet).metadata.response_code, ResponseCode::ServFail);
    let reply = reply(&table, &with_opt(packet, 1232, 0, false));
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(extended_error(&reply), (14, "no list yet from file /ids: no such file".to_owned()));
}

#[test]
fn an_endpoint_without_addresses_is_a_failure_that_says_why_and_never_public() {
    for name in [AP.to_owned(), format!("priv1.{AP}")] {
        for qtype in [rtype::A, rtype::AAAA, rtype::HTTPS] {
            let reply = reply(&table(), &with_opt(ask(&name, qtype), 1232, 0, false));
            assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
            let (code, text) = extended_error(&reply);
            assert_eq!(code, 0);
            assert!(text.ends_with("has no usable address: the VPC resolver is silent"), "{text}");
        }
    }
}

#[test]
fn an_endpoint_that_is_being_looked_up_is_not_ready() {
    let mut table = table();
    let position = table.endpoints().iter().position(|endpoint| endpoint.addresses.is_empty()).unwrap();
    table.set_addresses(EndpointIndex(position), Addresses::default());
    let reply = reply(&table, &with_opt(ask(AP, rtype::A), 1232, 0, false));
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(extended_error(&reply).0, 14);
}

#[test]
fn the_ttl_is_what_remains_of_the_endpoints_own_between_5_and_60_seconds() {
    let now = Instant::now();
    for (left, ttl) in [(None, 60), (Some(0), 5), (Some(3), 5), (Some(17), 17), (Some(60), 60), (Some(3600), 60)] {
        let mut table = table();
        let fresh_until = left.map(|left| now + Duration::from_secs(left));
        let v4 = vec![[10, 0, 0, 1].into()];
        table.set_addresses(EndpointIndex(0), Addresses { v4, fresh_until, ..Addresses::default() });
        let mut out = Vec::new();
        let packet = ask(&format!("priv1.{US}"), rtype::A);
        respond(&packet, sources(&table, &Cache::new(0)), true, now, ReplyLimit::Udp, &mut out);
        assert_eq!(Proto::from_vec(&out).unwrap().answers[0].ttl, ttl, "{left:?} left");
    }
    let mut late = Vec::new();
    let mut table = table();
    let addresses = Addresses { v4: vec![[10, 0, 0, 1].into()], fresh_until: Some(now), ..Addresses::default() };
    table.set_addresses(EndpointIndex(0), addresses);
    let later = now + Duration::from_secs(600);
    respond(&ask(US, rtype::A), sources(&table, &Cache::new(0)), true, later, ReplyLimit::Udp, &mut late);
    assert_eq!(Proto::from_vec(&late).unwrap().answers[0].ttl, 5, "long run out");
}

#[test]
fn the_order_of_addresses_turns_with_the_queries_and_near_ones_stay_in_front() {
    let mut table = table();
    let v4: Vec<_> = (1..=5).map(|last| [10, 0, 0, last].into()).collect();
    table.set_addresses(EndpointIndex(0), Addresses { v4, near_v4: 2, ..Addresses::default() });
    let mut orders = std::collections::HashSet::new();
    for id in 0..12u8 {
        let mut packet = ask(US, rtype::A);
        packet[1] = id;
        let order: Vec<String> = reply(&table, &packet).answers.iter().map(|record| record.data.to_string()).collect();
        let mut near = order[..2].to_vec();
        near.sort();
        assert_eq!(near, ["10.0.0.1", "10.0.0.2"], "id {id}");
        assert_eq!(order.iter().collect::<std::collections::HashSet<_>>().len(), 5, "none twice, none missing");
        orders.insert(order);
    }
    assert_eq!(orders.len(), 6, "two near ones times three others");
}

mod forwarder;
mod wire;
