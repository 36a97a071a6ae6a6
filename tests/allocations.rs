//! `respond` allocates nothing for private and for cached names: what every query costs must not depend on the allocator.
//!
//! In a binary of its own, because it counts every allocation of its thread.
#![allow(unsafe_code, reason = "a global allocator that counts cannot be written without")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking, its helpers too")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use sidegate::dns::upstream::{Server, Upstreams};
use sidegate::dns::{
    Cache, Found, Outcome, Question, ReplyLimit, Resolver, Service, Sources, Tally, Transport, Upstreams as Servers,
    Way, respond, rtype,
};
use sidegate::policy::{Addresses, Endpoint, Knowledge, Networks, Origin, PrivateIds, Table, Upstream};
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// The system's allocator, and how often this thread has asked it for memory.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator as it came; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ZONE: &str = "execute-api.us-east-1.amazonaws.com";

fn table() -> Table {
    let v4 = (1..=6).map(|last| [10, 0, 0, last].into()).collect();
    let addresses = Addresses { v4, near_v4: 2, ..Addresses::default() };
    let endpoint = Endpoint { region: "us-east-1".parse().unwrap(), vpce_id: None, addresses, port: 443 };
    let mut ids = PrivateIds::default();
    for number in 0..1000 {
        let knowledge = Knowledge::of(&Origin::Static);
        ids.add(&format!("priv{number}").parse().unwrap(), knowledge);
    }
    let mut table = Table::new(vec![endpoint], Arc::default(), None).unwrap();
    table.ids = Arc::new(ids);
    table
}

/// A query, with an OPT record or without.
fn query(name: &str, qtype: u16, edns: bool) -> Vec<u8> {
    Question::new(name.parse().unwrap(), qtype).to_wire(edns)
}

/// What comes of a query, and how many allocations it took once the reply's buffer has grown.
fn cost(packet: &[u8], table: &Table, cache: &Cache) -> (Outcome, usize) {
    cost_with(packet, Sources { table, cache, forwarder: None }).0
}

/// The same with any sources, and the number of answers in the reply.
fn cost_with(packet: &[u8], sources: Sources<'_>) -> ((Outcome, usize), u8) {
    let mut out = Vec::with_capacity(4096);
    let now = Instant::now();
    let before = COUNT.get();
    let outcome = respond(packet, sources, true, now, ReplyLimit::Udp, &mut out).outcome;
    ((outcome, COUNT.get() - before), out.get(7).copied().unwrap_or(0))
}

#[test]
fn private_names_are_answered_without_an_allocation() {
    let (table, cache) = (table(), Cache::new(1 << 20));
    let counts = COUNT.get();
    drop(Box::new(counts));
    assert!(COUNT.get() > counts, "allocations are counted");
    for name in [format!("priv7.{ZONE}"), ZONE.to_owned(), format!("x.priv7.{ZONE}")] {
        for qtype in [rtype::A, rtype::AAAA, rtype::HTTPS, rtype::TXT, rtype::ANY] {
            for edns in [false, true] {
                assert_eq!(cost(&query(&name, qtype, edns), &table, &cache), (Outcome::Reply, 0), "{name} {qtype}");
            }
        }
    }
}

#[test]
fn names_that_must_be_asked_for_cost_none_either_until_they_are() {
    let (table, cache) = (table(), Cache::new(1 << 20));
    for name in ["www.example.com".to_owned(), format!("unknown1.{ZONE}")] {
        let packet = query(&name, rtype::A, true);
        assert_eq!(cost(&packet, &table, &cache), (Outcome::Ask(Upstream::Public), 0), "{name}");
    }
}

#[test]
fn private_names_that_resolve_to_the_forwarder_cost_none_either() {
    let (table, cache, forwarder) = (table(), Cache::new(1 << 20), forwarder());
    let sources = Sources { table: &table, cache: &cache, forwarder: Some(&forwarder) };
    for (name, qtype, answers) in [("priv7", rtype::A, 2), ("priv7", rtype::HTTPS, 0), ("unknown1", rtype::HTTPS, 0)] {
        let packet = query(&format!("{name}.{ZONE}"), qtype, true);
        assert_eq!(cost_with(&packet, sources), ((Outcome::Reply, 0), answers), "{name} {qtype}");
    }
}

#[tokio::test]
async fn a_listener_allocates_nothing_whether_somebody_looks_at_its_decisions_or_not() {
    let resolver = resolver_that_knows("www.example.com").await;
    let (table, clients) = (resolver.table(), Networks::private());
    let (tls, shares) = (None, Some(Arc::default()));
    let service = Service { resolver, clients, forwarder: None, tls, shares, counters: Arc::default() };
    let mut out = Vec::with_capacity(4096);
    for look in [false, true] {
        if look {
            service.counters.decided.look(Instant::now());
        }
        for name in [&format!("priv7.{ZONE}"), "www.example.com"] {
            let packet = query(name, rtype::A, true);
            let before = COUNT.get();
            let client = ([127, 0, 0, 1], 5300).into();
            let pending = service.handle(&packet, client, &table, Instant::now(), Transport::Udp, &mut out);
            assert_eq!((pending.is_none(), COUNT.get() - before), (true, 0), "{name}, looked at: {look}");
        }
    }
    assert_eq!(service.counters.decided.look(Instant::now()).len(), 2, "those of the second round");
}

#[test]
fn counting_a_query_costs_none_once_its_thread_has_counted_one() {
    let tally = Tally::default();
    let count = || tally.count(Transport::Udp, Way::Endpoint, Found::Here, 0);
    count();
    let before = COUNT.get();
    (0..100).for_each(|_| count());
    assert_eq!(COUNT.get() - before, 0);
}

/// Two addresses.
fn forwarder() -> Addresses {
    Addresses { v4: vec![[10, 0, 9, 1].into(), [10, 0, 9, 2].into()], ..Addresses::default() }
}

#[tokio::test]
async fn cached_names_are_answered_without_an_allocation() {
    let resolver = resolver_that_knows("www.example.com").await;
    for edns in [false, true] {
        let packet = query("www.example.com", rtype::A, edns);
        assert_eq!(cost(&packet, &resolver.table(), resolver.cache()), (Outcome::Reply, 0));
    }
    let name = format!("unknown1.{ZONE}");
    let (resolver, forwarder) = (resolver_that_knows(&name).await, forwarder());
    let table = resolver.table();
    let sources = Sources { table: &table, cache: resolver.cache(), forwarder: Some(&forwarder) };
    assert_eq!(cost_with(&query(&name, rtype::A, true), sources), ((Outcome::Reply, 0), 2), "the forwarder's");
}

/// A resolver that asked public DNS for a name's address once.
async fn resolver_that_knows(name: &str) -> Arc<Resolver> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let servers = Servers { public: vec![Server::udp(socket.local_addr().unwrap())], ..Servers::default() };
    let (_sender, tables) = watch::channel(Arc::new(table()));
    let resolver = Arc::new(Resolver::new(tables, Upstreams::new(&servers, &[], None).unwrap(), 1 << 20, None));
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        // The question, without its OPT record, and one address for it.
        let mut reply = buffer[..length - 11].to_vec();
        reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 192, 0, 2, 1]);
        socket.send_to(&reply, from).await.unwrap();
    });
    resolver.answer(Question::new(name.parse().unwrap(), rtype::A), Upstream::Public).await;
    resolver
}
