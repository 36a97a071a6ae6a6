//! What a cached name costs when 1,000 to 1,000,000 are, and what a new answer costs that pushes an old one out. README.md
//! beside this file says how to read it.
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up stops at once")]
#![allow(clippy::print_stdout, reason = "what it takes in memory is printed")]

mod world;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sidegate::dns::upstream::Upstreams;
use sidegate::dns::{Message, Outcome, Question, Record, ReplyLimit, Resolver, Sources, respond, rtype};
use sidegate::policy::{HostName, Upstream};
use tokio::sync::watch;
use world::{name_of, table};

const IDS: usize = 1_000;
/// Names that are asked in turn, spread over all.
const ASKED: usize = 4096;
/// What `dns.cache_bytes` would have to be for a million.
const ROOM: usize = 1 << 30;
/// A cache that is full soon.
const SMALL: usize = 1 << 20;

fn resolver(bytes: usize) -> Arc<Resolver> {
    let upstreams = Upstreams::new(&sidegate::dns::Upstreams::default(), &[], None).unwrap();
    Arc::new(Resolver::new(watch::Sender::new(Arc::new(table(IDS))).subscribe(), upstreams, bytes, None))
}

fn name(number: usize) -> HostName {
    format!("host{number}.app{}.example.com", number % 37).parse().unwrap()
}

/// Takes in what a server would say of a name: two addresses.
fn learn(resolver: &Resolver, number: usize) {
    let question = Question::new(name(number), rtype::A);
    let owner: Box<[u8]> = question.name.wire().into();
    let record = |last| Record {
        owner: owner.clone(),
        rtype: rtype::A,
        class: 1,
        ttl: 3600,
        rdata: [198, 51, 100, last].into(),
    };
    let message = Message { answer: vec![record(7), record(8)], ..Message::default() };
    assert!(resolver.take_in(message, &question, Upstream::Public).is_some());
}

/// Whether this is `cargo bench` rather than a run that only shows that it works.
fn is_measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn cached(criterion: &mut Criterion) {
    let table = table(IDS);
    let mut group = criterion.benchmark_group("cache");
    let mut out = Vec::with_capacity(4096);
    let sizes: &[usize] = if is_measured() { &[1_000, 10_000, 100_000, 1_000_000] } else { &[ASKED] };
    for &names in sizes {
        let (resolver, before) = (resolver(ROOM), resident());
        (0..names).for_each(|number| learn(&resolver, number));
        let (held, bytes) = resolver.cache().usage();
        assert_eq!(held, names);
        println!(
            "{names} names: {} octets each by its own account, {} resident",
            bytes / names,
            resident().saturating_sub(before) / names
        );
        let queries: Vec<Vec<u8>> =
            (0..ASKED).map(|at| Question::new(name(at * names / ASKED), rtype::A).to_wire(true)).collect();
        let (mut next, now) = (queries.iter().cycle(), Instant::now());
        group.bench_function(BenchmarkId::new("names in turn", names), |bencher| {
            bencher.iter(|| {
                let sources = Sources { table: &table, cache: resolver.cache(), forwarder: None };
                let query = black_box(next.next().unwrap_or(&queries[0]));
                let outcome = respond(query, sources, true, now, ReplyLimit::LoopbackUdp, &mut out).outcome;
                assert_eq!(outcome, Outcome::Reply);
            });
        });
    }
    group.finish();
}

/// Octets of this process that are in memory, proc(5), in pages of 4 KiB.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// What one look-up takes while other threads look up too: a cached name and a private one in turns.
fn threads(criterion: &mut Criterion) {
    let (resolver, table) = (resolver(ROOM), table(IDS));
    (0..ASKED).for_each(|number| learn(&resolver, number));
    let queries: Vec<Vec<u8>> = (0..ASKED)
        .map(|number| {
            let name = if number % 2 == 0 { name(number) } else { name_of(number % IDS).parse().unwrap() };
            Question::new(name, rtype::A).to_wire(true)
        })
        .collect();
    let look_up = |times: u64, now: Instant| {
        let mut out = Vec::with_capacity(4096);
        for query in queries.iter().cycle().take(times as usize) {
            let sources = Sources { table: &table, cache: resolver.cache(), forwarder: None };
            black_box(respond(black_box(query), sources, true, now, ReplyLimit::LoopbackUdp, &mut out));
        }
    };
    let mut group = criterion.benchmark_group("cached and private names in turn");
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new("threads", threads), |bencher| {
            bencher.iter_custom(|times| {
                let start = Instant::now();
                std::thread::scope(|scope| {
                    (0..threads).for_each(|_| drop(scope.spawn(|| look_up(times, start))));
                });
                start.elapsed()
            });
        });
    }
    group.finish();
}

fn churn(criterion: &mut Criterion) {
    let resolver = resolver(SMALL);
    let mut number = 0;
    while resolver.counters().evicted.load(std::sync::atomic::Ordering::Relaxed) < 1_000 {
        learn(&resolver, number);
        number += 1;
    }
    criterion.bench_function("cache/a new answer where all is full", |bencher| {
        bencher.iter(|| {
            learn(&resolver, black_box(number));
            number += 1;
        });
    });
}

criterion_group!(benches, cached, threads, churn);
criterion_main!(benches);
