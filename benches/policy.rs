//! What one decision of the policy costs, at 10, 1,000 and 100,000 known ids. README.md beside this file says how to
//! read it.
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up stops at once")]

mod world;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sidegate::policy::{HostName, Route, Upstream, route};
use world::{OTHER_NAME, PRIVATE_NAME, UNKNOWN_NAME, name_of, table};

/// How many names are asked in turn.
const NAMES: usize = 4096;

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for ids in [10, 1_000, 100_000] {
        let table = table(ids);
        for (case, name, private) in
            [("private id", PRIVATE_NAME, true), ("unknown id", UNKNOWN_NAME, false), ("other name", OTHER_NAME, false)]
        {
            let host: HostName = name.parse().unwrap();
            match route(&table, &host).route {
                Route::Endpoint(_) => assert!(private, "{name}"),
                other => assert_eq!((other, private), (Route::Upstream(Upstream::Public), false), "{name}"),
            }
            group.bench_with_input(BenchmarkId::new(case, ids), &host, |bencher, host| {
                bencher.iter(|| route(black_box(&table), black_box(host)));
            });
        }
        // One name stays in the processor's cache; many, spread over the whole table, do not.
        let spread: Vec<HostName> = (0..NAMES).map(|at| name_of(at * ids / NAMES).parse().unwrap()).collect();
        let mut next = spread.iter().cycle();
        group.bench_function(BenchmarkId::new("private ids in turn", ids), |bencher| {
            bencher.iter(|| route(black_box(&table), black_box(next.next().unwrap_or(&spread[0]))));
        });
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
