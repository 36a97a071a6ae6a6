//! A client's query, octet by octet: what [`respond`](sidegate::dns::respond()) makes of it.
//!
//! Drawn queries are judged exactly, by [`model`] for the way and by hickory-proto for the reply; spoiled ones by
//! what holds for all octets there are.

use std::net::IpAddr;
use std::time::Instant;

use arbitrary::{Result, Unstructured};
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType};
use sidegate::dns::{Cache, Outcome, ReplyLimit, Sources, rcode, respond, rtype};
use sidegate::policy::{Addresses, Table, Upstream};

use crate::model::{Way, expected};
use crate::world::{STAND_IN, World, draw_name, to_wire};

const HEADER: usize = 12;
/// Types worth asking for; any other is drawn as a number.
const TYPES: [u16; 14] = [
    rtype::A,
    rtype::AAAA,
    rtype::HTTPS,
    rtype::SVCB,
    rtype::CNAME,
    rtype::TXT,
    rtype::SOA,
    rtype::NS,
    rtype::ANY,
    rtype::AXFR,
    rtype::IXFR,
    rtype::OPT,
    rtype::TKEY,
    rtype::MAILA,
];

/// Panics where a promise is broken.
pub fn run(data: &[u8]) {
    // Octets that end too early draw nothing.
    let _ = play(&mut Unstructured::new(data));
}

/// A well-formed query, case by case.
struct Drawn {
    labels: Vec<Vec<u8>>,
    qtype: u16,
    qclass: u16,
    opcode: u16,
    edns: Option<Edns>,
}

struct Edns {
    udp_size: u16,
    version: u8,
}

fn play(u: &mut Unstructured<'_>) -> Result<()> {
    let world = World::draw(u)?;
    let (drawn, mut packet) = draw_query(u)?;
    let permitted = u.ratio(7, 8)?;
    let limit = *u.choose(&[ReplyLimit::Udp, ReplyLimit::LoopbackUdp, ReplyLimit::Stream])?;
    let spoiled = spoil(u, &mut packet)?;

    let (table, cache) = (world.table(), Cache::new(1 << 12));
    let forwarder = Addresses { v4: vec![STAND_IN], ..Addresses::default() };
    let sources = Sources { table: &table, cache: &cache, forwarder: world.stand_in.then_some(&forwarder) };
    let mut out = b"what was in it before".to_vec();
    let outcome = respond(&packet, sources, permitted, Instant::now(), limit, &mut out).outcome;

    always(&packet, outcome, &out, permitted, limit);
    if !spoiled && to_wire(&drawn.labels).len() <= 255 {
        exactly(&world, &table, &drawn, outcome, &out, permitted);
    }
    Ok(())
}

fn draw_query(u: &mut Unstructured<'_>) -> Result<(Drawn, Vec<u8>)> {
    let labels = draw_name(u)?;
    let qtype = if u.ratio(7, 8)? { *u.choose(&TYPES)? } else { u.arbitrary()? };
    let qclass: u16 = if u.ratio(15, 16)? { 1 } else { u.arbitrary()? };
    let opcode: u16 = if u.ratio(15, 16)? { 0 } else { u.int_in_range(0..=15)? };
    let kept_flags: u16 = u.arbitrary()?;
    let mut packet = u.arbitrary::<u16>()?.to_be_bytes().to_vec();
    // RD, AD, CD and what a query has no use for; QR and the opcode are drawn for themselves.
    packet.extend((kept_flags & 0x07ff | opcode << 11).to_be_bytes());
    packet.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    let mut name = to_wire(&labels);
    let shouted: u64 = u.arbitrary()?;
    for (at, byte) in name.iter_mut().enumerate() {
        // Length octets are below 64, so that no letter is one.
        if shouted >> (at % 64) & 1 > 0 {
            byte.make_ascii_uppercase();
        }
    }
    packet.extend(name);
    packet.extend(qtype.to_be_bytes());
    packet.extend(qclass.to_be_bytes());
    let edns = if u.arbitrary()? { Some(draw_opt(u, &mut packet)?) } else { None };
    Ok((Drawn { labels, qtype, qclass, opcode, edns }, packet))
}

fn draw_opt(u: &mut Unstructured<'_>, packet: &mut Vec<u8>) -> Result<Edns> {
    let udp_size: u16 = u.arbitrary()?;
    let version = if u.ratio(15, 16)? { 0 } else { u.arbitrary()? };
    let mut options = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        match u.int_in_range(0..=2)? {
            // A client subnet, 192.0.2.0/24.
            0 => options.extend([0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2]),
            // A cookie, RFC 7873.
            1 => options.extend([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
            _ => {
                let (code, length): (u16, u8) = (u.int_in_range(11..=u16::MAX)?, u.int_in_range(0..=40)?);
                options.extend(code.to_be_bytes());
                options.extend([0, length]);
                options.extend(u.bytes(length.into())?);
            }
        }
    }
    packet[11] = 1;
    packet.extend([0, 0, 41]);
    packet.extend(udp_size.to_be_bytes());
    packet.extend([0, version, u8::from(u.arbitrary::<bool>()?) << 7, 0]);
    packet.extend((options.len() as u16).to_be_bytes());
    packet.extend(options);
    Ok(Edns { udp_size, version })
}

/// Makes some queries octets that only resemble one, and some no query at all.
fn spoil(u: &mut Unstructured<'_>, packet: &mut Vec<u8>) -> Result<bool> {
    match u.int_in_range(0..=7)? {
        0 => {
            for _ in 0..u.int_in_range(1..=6)? {
                let at = u.choose_index(packet.len())?;
                packet[at] = u.arbitrary()?;
            }
        }
        1 => packet.truncate(u.choose_index(packet.len())?),
        2 => packet.extend(u.bytes(u.len().min(5_000))?),
        3 => *packet = u.bytes(u.len())?.to_vec(),
        _ => return Ok(false),
    }
    Ok(true)
}

/// What holds whatever came.
fn always(packet: &[u8], outcome: Outcome, out: &[u8], permitted: bool, limit: ReplyLimit) {
    let is_query = packet.len() >= HEADER && packet[2] & 0x80 == 0;
    match outcome {
        Outcome::Drop => assert!(!is_query, "a query without a reply"),
        Outcome::ReplyAndRefresh(_) => panic!("nothing is cached"),
        Outcome::Ask(_) => {
            assert!(is_query && permitted, "asked for somebody who may not");
            assert_eq!(packet[2] & 0x78, 0, "an opcode went upstream");
            assert_eq!(packet[4..11], [0, 1, 0, 0, 0, 0, 0], "more than a question");
            assert!(packet.len() <= 4096, "{} octets of a query", packet.len());
        }
        Outcome::Reply => {
            assert!(is_query, "a reply to what is no query");
            assert_eq!((&out[..2], out[2] & 0xf8), (&packet[..2], packet[2] & 0x78 | 0x80), "id, QR, opcode");
            assert_eq!(out[2] & 0x04, 0, "AA");
            assert_eq!(out[3] & 0xe0, 0x80, "RA, Z and AD of our own");
            let most = match limit {
                ReplyLimit::Udp => 1232,
                ReplyLimit::LoopbackUdp | ReplyLimit::Stream => 65_535,
            };
            assert!(out.len() <= most, "{} octets of a reply", out.len());
            let reply = Message::from_vec(out).expect("a reply that others can read");
            let code = u16::from(reply.metadata.response_code);
            if !permitted {
                assert!(![rcode::NOERROR, rcode::NXDOMAIN].contains(&code), "an answer for somebody who may not ask");
            }
        }
    }
}

/// What is promised of a query that was drawn.
fn exactly(world: &World, table: &Table, drawn: &Drawn, outcome: Outcome, out: &[u8], permitted: bool) {
    let refused = match drawn {
        Drawn { opcode: 1.., .. } => Some(rcode::NOTIMP),
        Drawn { edns: Some(Edns { version: 1.., .. }), .. } => Some(rcode::BADVERS),
        Drawn { qclass, .. } if *qclass != 1 => Some(rcode::REFUSED),
        Drawn { qtype: 0 | rtype::OPT, .. } => Some(rcode::FORMERR),
        Drawn { qtype: rtype::AXFR | rtype::IXFR, .. } => Some(rcode::REFUSED),
        Drawn { qtype: rtype::TKEY | rtype::TSIG | rtype::MAILA | rtype::MAILB, .. } => Some(rcode::NOTIMP),
        _ if !permitted => Some(rcode::REFUSED),
        _ => None,
    };
    if let Some(code) = refused {
        assert_eq!(outcome, Outcome::Reply);
        let reply = Message::from_vec(out).expect("a reply");
        assert_eq!(u16::from(reply.metadata.response_code), code);
        assert_eq!((reply.answers.len(), reply.authorities.len()), (0, 0));
        return;
    }
    let (rule, way) = expected(world, &drawn.labels);
    let stands_in = world.stand_in && (1..=5).contains(&rule);
    let own = is_own_corner(&drawn.labels) && matches!(way, Way::Public | Way::Vpc | Way::Zone(_));
    let upstream = match way {
        Way::Public => Upstream::Public,
        Way::Vpc => Upstream::Vpc,
        Way::Zone(position) => Upstream::Zone(position),
        Way::Endpoint(_) | Way::NoSuchName | Way::NotReady => {
            let decision = sidegate::policy::route(
                table,
                &sidegate::policy::HostName::from_wire(&to_wire(&drawn.labels)).expect("a name"),
            );
            assert_eq!(decision.rule as u8, rule);
            return replied(world, drawn, way, stands_in, outcome, out);
        }
    };
    let hints = matches!(drawn.qtype, rtype::HTTPS | rtype::SVCB);
    match own || stands_in && hints {
        true => replied(world, drawn, way, stands_in, outcome, out),
        false => assert_eq!(outcome, Outcome::Ask(upstream), "rule {rule}"),
    }
}

/// What is promised of a reply of ours.
fn replied(world: &World, drawn: &Drawn, way: Way, stands_in: bool, outcome: Outcome, out: &[u8]) {
    assert_eq!(outcome, Outcome::Reply, "{way:?}");
    let reply = Message::from_vec(out).expect("a reply");
    let code = u16::from(reply.metadata.response_code);
    assert!(!reply.metadata.truncation, "three addresses fit");
    let given: Vec<IpAddr> = reply
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        })
        .collect();
    assert!(reply.answers.iter().all(|record| record.ttl <= 60), "a TTL of ours");
    let soa = reply.authorities.iter().any(|record| record.record_type() == RecordType::SOA);
    let (wanted, addresses) = match way {
        Way::Endpoint(at) if world.v4(at).is_empty() && world.v6(at).is_empty() => (rcode::SERVFAIL, vec![]),
        Way::Endpoint(at) => {
            let (v4, v6) = if stands_in { (vec![STAND_IN], vec![]) } else { (world.v4(at), world.v6(at)) };
            let all: Vec<IpAddr> = match drawn.qtype {
                rtype::A => v4.into_iter().map(IpAddr::V4).collect(),
                rtype::AAAA => v6.into_iter().map(IpAddr::V6).collect(),
                _ => vec![],
            };
            assert_eq!(soa, all.is_empty() && drawn.qtype != rtype::ANY, "NODATA has an SOA record");
            (rcode::NOERROR, all)
        }
        Way::NoSuchName => (rcode::NXDOMAIN, vec![]),
        Way::NotReady => (rcode::SERVFAIL, vec![]),
        Way::Public | Way::Vpc | Way::Zone(_) if !is_own_corner(&drawn.labels) => (rcode::NOERROR, vec![]),
        Way::Public | Way::Vpc | Way::Zone(_) => {
            let health = drawn.labels.len() == 3 && drawn.labels[0].eq_ignore_ascii_case(b"health");
            let says = health && drawn.qtype == rtype::TXT;
            assert_eq!(reply.answers.len(), usize::from(says), "health");
            (if says { rcode::NOERROR } else { rcode::NXDOMAIN }, vec![])
        }
    };
    assert_eq!(code, wanted, "{way:?}");
    assert_eq!(given.len(), addresses.len());
    assert!(given.iter().all(|address| addresses.contains(address)), "{given:?} of {addresses:?}");
    assert_eq!(reply.edns.is_some(), drawn.edns.is_some(), "an OPT record for an OPT record");
    let offered = drawn.edns.as_ref().map_or(512, |edns| edns.udp_size.max(512));
    assert!(out.len() <= usize::from(offered), "{} octets where {offered} were offered", out.len());
}

/// `health.sidegate.invalid` is ours, and whatever else is below it.
pub fn is_own_corner(labels: &[Vec<u8>]) -> bool {
    let is = |label: &[u8], text: &str| label.eq_ignore_ascii_case(text.as_bytes());
    matches!(labels, [.., own, top] if is(own, "sidegate") && is(top, "invalid"))
}
