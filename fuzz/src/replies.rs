//! An upstream's reply: read, cut by the CNAME rule, kept, and served to who asks next.
//!
//! Two resolvers take in the same octets, one by the way that most replies go and one by the long way: they must serve the
//! same. Whatever is served is about the question, and nothing in it is of a name that the policy sends elsewhere.

use std::sync::Arc;
use std::time::Instant;

use arbitrary::{Result, Unstructured};
use hickory_proto::op::Message as Proto;
use hickory_proto::rr::{Name, RecordType};
use sidegate::dns::upstream::Upstreams;
use sidegate::dns::{Cache, Message, Outcome, Question, ReplyLimit, Resolver, Sources, respond, rtype};
use sidegate::policy::{HostName, Route, Table, Upstream, route};
use tokio::sync::watch;

use crate::model::{Way, expected};
use crate::respond::is_own_corner;
use crate::world::{World, draw_name, to_wire};

const QTYPES: [u16; 8] =
    [rtype::A, rtype::AAAA, rtype::HTTPS, rtype::MX, rtype::TXT, rtype::CNAME, rtype::ANY, rtype::SRV];
const RTYPES: [u16; 16] = [
    rtype::A,
    rtype::AAAA,
    rtype::CNAME,
    rtype::CNAME,
    rtype::DNAME,
    rtype::NS,
    rtype::SOA,
    rtype::MX,
    rtype::SRV,
    rtype::HTTPS,
    rtype::RRSIG,
    rtype::NSEC,
    rtype::NSEC3,
    rtype::OPT,
    rtype::TXT,
    35,
];
/// What a cache of the target holds: more than one reply ever takes.
const ROOM: usize = 1 << 18;

/// Panics where a promise is broken.
pub fn run(data: &[u8]) {
    let _ = play(&mut Unstructured::new(data));
}

fn play(u: &mut Unstructured<'_>) -> Result<()> {
    let world = World::draw(u)?;
    let labels = draw_name(u)?;
    let wire = to_wire(&labels);
    let Ok(name) = HostName::from_wire(&wire) else { return Ok(()) };
    let table = Arc::new(world.table());
    let Route::Upstream(upstream) = route(&table, &name).route else { return Ok(()) };
    if is_own_corner(&labels) {
        return Ok(());
    }
    let qtype = *u.choose(&QTYPES)?;
    let reply = draw_reply(u, &name, qtype)?;

    let question = Question::new(name, qtype);
    let (short, long) = (resolver(&table), resolver(&table));
    let kept = short.take_in_reply(&reply, &question, upstream).is_some();
    let kept_again =
        Message::parse(&reply).ok().and_then(|message| long.take_in(message, &question, upstream)).is_some();
    assert_eq!(kept, kept_again, "the short way and the long way disagree");

    let query = question.to_wire(true);
    let (outcome, out) = ask_again(&short, &table, &query);
    let other = ask_again(&long, &table, &query);
    assert!((outcome, &out) == (other.0, &other.1), "the short way serves {out:02x?}, the long way {:02x?}", other.1);
    match outcome {
        Outcome::Ask(whom) => assert_eq!(whom, upstream),
        Outcome::Reply | Outcome::ReplyAndRefresh(_) => {
            assert!(kept, "an answer from nowhere");
            is_served_right(&world, &labels, qtype, upstream, &out);
        }
        Outcome::Drop => panic!("a query without a reply"),
    }
    Ok(())
}

fn resolver(table: &Arc<Table>) -> Resolver {
    let upstreams = Upstreams::new(&sidegate::dns::Upstreams::default(), &[], None).expect("the defaults");
    Resolver::new(watch::Sender::new(Arc::clone(table)).subscribe(), upstreams, ROOM, None)
}

fn ask_again(resolver: &Resolver, table: &Table, query: &[u8]) -> (Outcome, Vec<u8>) {
    let cache: &Cache = resolver.cache();
    let mut out = Vec::new();
    let sources = Sources { table, cache, forwarder: None };
    let responded = respond(query, sources, true, Instant::now(), ReplyLimit::Stream, &mut out);
    (responded.outcome, out)
}

/// Header and question as the caller has seen them; behind them records, or anything.
fn draw_reply(u: &mut Unstructured<'_>, name: &HostName, qtype: u16) -> Result<Vec<u8>> {
    let rcode = if u.ratio(3, 4)? { 0 } else { u.int_in_range(0..=15)? };
    let flags: u16 = 0x8080 | u.arbitrary::<u16>()? & 0x0730 | rcode;
    let mut reply = vec![0, 0];
    reply.extend(flags.to_be_bytes());
    let counts: [u8; 3] = [u.int_in_range(0..=5)?, u.int_in_range(0..=2)?, u.int_in_range(0..=2)?];
    reply.extend([0, 1, 0, counts[0], 0, counts[1], 0, counts[2]]);
    reply.extend(name.wire());
    reply.extend(qtype.to_be_bytes());
    reply.extend([0, 1]);
    if u.ratio(1, 8)? {
        reply.extend(u.bytes(u.len())?);
        return Ok(reply);
    }
    for _ in 0..counts.iter().sum::<u8>() {
        draw_record(u, &mut reply, qtype)?;
    }
    if u.ratio(1, 16)? {
        reply.truncate(12 + name.wire().len() + 4 + u.choose_index(reply.len())? % 200);
    }
    Ok(reply)
}

fn draw_record(u: &mut Unstructured<'_>, reply: &mut Vec<u8>, qtype: u16) -> Result<()> {
    put_name(u, reply)?;
    let rtype = if u.arbitrary()? { qtype } else { *u.choose(&RTYPES)? };
    reply.extend(rtype.to_be_bytes());
    reply.extend([0, if u.ratio(31, 32)? { 1 } else { 3 }]);
    let ttl: u32 = if u.arbitrary()? { 300 } else { u.arbitrary()? };
    reply.extend(ttl.to_be_bytes());
    let length_at = reply.len();
    reply.extend([0, 0]);
    match rtype {
        rtype::A => reply.extend(u.bytes(4)?),
        rtype::AAAA => reply.extend(u.bytes(16)?),
        rtype::CNAME | rtype::DNAME | rtype::NS => put_name(u, reply)?,
        rtype::MX => {
            reply.extend([0, 10]);
            put_name(u, reply)?;
        }
        rtype::SRV => {
            reply.extend([0, 1, 0, 2, 1, 187]);
            put_name(u, reply)?;
        }
        rtype::SOA => {
            put_name(u, reply)?;
            put_name(u, reply)?;
            reply.extend(u.bytes(20)?);
        }
        rtype::HTTPS => {
            reply.extend([0, 1, 0]);
            // ipv4hint=192.0.2.1
            reply.extend([0, 4, 0, 4, 192, 0, 2, 1]);
        }
        _ => {
            let length = u.int_in_range(0..=40)?;
            reply.extend(u.bytes(length)?);
        }
    }
    let length = (reply.len() - length_at - 2) as u16;
    let length = if u.ratio(63, 64)? { length } else { u.arbitrary()? };
    reply[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// The question's name, an earlier place of the message, or a name of the vocabulary.
fn put_name(u: &mut Unstructured<'_>, reply: &mut Vec<u8>) -> Result<()> {
    match u.int_in_range(0..=7)? {
        0..=3 => reply.extend([0xc0, 12]),
        4 => {
            let at = u.choose_index(reply.len())? as u16;
            reply.extend((0xc000 | at).to_be_bytes());
        }
        _ => reply.extend(to_wire(&draw_name(u)?)),
    }
    Ok(())
}

/// What is promised of an answer that comes from the cache.
fn is_served_right(world: &World, labels: &[Vec<u8>], qtype: u16, upstream: Upstream, out: &[u8]) {
    assert_eq!(out[2] & 0x04, 0, "AA");
    assert!(matches!(out[3] & 0x0f, 0 | 3), "only answers about the name are kept");
    // The data of some types is passed on as it came, whether others can read it or not.
    let Ok(reply) = Proto::from_vec(out) else { return };
    let asked = Name::from_labels(labels.iter().map(Vec::as_slice)).expect("a name");
    let mut chain = vec![asked.to_lowercase()];
    for _ in 0..reply.answers.len() {
        let last = chain.last().expect("not empty").clone();
        for record in &reply.answers {
            if let hickory_proto::rr::RData::CNAME(target) = &record.data
                && record.name.to_lowercase() == last
            {
                chain.push(target.0.to_lowercase());
                break;
            }
        }
    }
    for record in reply.answers.iter().chain(&reply.authorities).chain(&reply.additionals) {
        assert!(record.ttl <= i32::MAX as u32, "a TTL with its highest bit set");
    }
    let sees_through = matches!(qtype, rtype::CNAME | rtype::ANY);
    for record in &reply.answers {
        let owner = record.name.to_lowercase();
        let above = matches!(record.record_type(), RecordType::DNAME | RecordType::RRSIG)
            && chain.iter().any(|link| owner.zone_of(link));
        assert!(chain.contains(&owner) || above, "{owner} has nothing to do with {asked}");
    }
    for record in reply.answers.iter().filter(|_| !sees_through).chain(&reply.additionals) {
        if record.record_type() == RecordType::OPT {
            continue;
        }
        let owner: Vec<Vec<u8>> = record.name.iter().map(<[u8]>::to_vec).collect();
        let (rule, way) = expected(world, &owner);
        let here = match way {
            Way::Public => upstream == Upstream::Public,
            Way::Vpc => upstream == Upstream::Vpc,
            Way::Zone(position) => upstream == Upstream::Zone(position),
            Way::Endpoint(_) | Way::NoSuchName | Way::NotReady => false,
        };
        assert!(rule > 5 || here, "{} is not for {upstream:?} to answer", record.name);
    }
}
