//! What one query costs from its bytes to the reply's bytes, without sockets, with 1,000 private ids. README.md beside
//! this file says how to read it.
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up stops at once")]

mod world;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use sidegate::demo::dns_server::DnsServer;
use sidegate::demo::zones::Zones;
use sidegate::dns::upstream::Upstreams;
use sidegate::dns::{Outcome, Question, ReplyLimit, Resolver, Sources, respond, rtype};
use sidegate::policy::{Table, Upstream};
use tokio::sync::watch;
use world::{OTHER_NAME, PRIVATE_NAME, UNKNOWN_NAME, table};

const IDS: usize = 1_000;
const CACHE_BYTES: usize = 1 << 20;

fn replies(criterion: &mut Criterion) {
    let table = Arc::new(table(IDS));
    let resolver = resolver_that_knows(OTHER_NAME, &table);
    let cache = resolver.cache();
    let now = Instant::now();
    let mut out = Vec::with_capacity(4096);
    let ask = Outcome::Ask(Upstream::Public);
    let mut group = criterion.benchmark_group("respond");
    for (case, name, qtype, expected, answers) in [
        ("private A", PRIVATE_NAME, rtype::A, Outcome::Reply, 2),
        ("private NODATA", PRIVATE_NAME, rtype::AAAA, Outcome::Reply, 0),
        ("cached A", OTHER_NAME, rtype::A, Outcome::Reply, 1),
        ("miss", UNKNOWN_NAME, rtype::A, ask, 0),
    ] {
        let query = Question::new(name.parse().unwrap(), qtype).to_wire(true);
        let mut answer = |query: &[u8]| {
            let sources = Sources { table: black_box(&table), cache: black_box(cache), forwarder: None };
            respond(query, sources, true, now, ReplyLimit::LoopbackUdp, &mut out).outcome
        };
        assert_eq!(answer(&query), expected, "{case}");
        group.bench_function(case, |bencher| bencher.iter(|| answer(black_box(&query))));
        if expected == Outcome::Reply {
            assert_eq!(out[6..8], [0, answers], "{case}");
        }
        out.clear();
    }
    group.finish();
}

/// A resolver that asked a server on loopback once and remembers the answer.
fn resolver_that_knows(name: &str, table: &Arc<Table>) -> Arc<Resolver> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut zones = Zones::default();
        zones.add_zone(".").unwrap();
        zones.add_a(name, 3600, &[Ipv4Addr::new(192, 0, 2, 1)]).unwrap();
        let server = DnsServer::start(IpAddr::from([127, 0, 0, 1]), zones).await.unwrap();
        let servers = sidegate::dns::Upstreams {
            public: vec![server.address().to_string().parse().unwrap()],
            ..sidegate::dns::Upstreams::default()
        };
        let upstreams = Upstreams::new(&servers, &[], None).unwrap();
        let resolver =
            Arc::new(Resolver::new(watch::Sender::new(Arc::clone(table)).subscribe(), upstreams, CACHE_BYTES, None));
        resolver.answer(Question::new(name.parse().unwrap(), rtype::A), Upstream::Public).await;
        resolver
    })
}

criterion_group!(benches, replies);
criterion_main!(benches);
