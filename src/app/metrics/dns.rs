//! What the DNS plane has counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::family::{Family, counter, gauge, histogram};
use crate::dns::upstream::ServerRecord;
use crate::dns::{Counters, Found, Resolver, Service, Total, Transport, Way};

/// What is always told, so that its first increase is one: the codes that each route has in everyday life.
const USUAL: [(Way, &[&str]); 9] = [
    (Way::Endpoint, &["NOERROR", "SERVFAIL"]),
    (Way::Nonexistent, &["NXDOMAIN"]),
    (Way::NotReady, &["SERVFAIL"]),
    (Way::Public, &["NOERROR", "NXDOMAIN", "SERVFAIL"]),
    (Way::Vpc, &["NOERROR", "NXDOMAIN", "SERVFAIL"]),
    (Way::Zone, &["NOERROR", "NXDOMAIN", "SERVFAIL"]),
    (Way::Health, &["NOERROR"]),
    (Way::Refused, &["REFUSED"]),
    (Way::Invalid, &["FORMERR"]),
];
/// The routes of which the cache holds answers.
const CACHED: [Way; 3] = [Way::Public, Way::Vpc, Way::Zone];

pub(super) fn families(service: &Service) -> Vec<Family> {
    let (resolver, counters) = (&*service.resolver, &*service.counters);
    let totals = counters.answered.totals();
    let mut families = vec![queries(&totals, service.tls.is_some())];
    families.extend(cache(resolver, &totals));
    families.extend(under_way(resolver, counters));
    families.extend(servers(&resolver.upstreams().records()));
    families
}

fn queries(totals: &[Total], has_encrypted: bool) -> Family {
    let transports = Transport::ALL.into_iter().filter(|transport| has_encrypted || !transport.is_encrypted());
    let usual = transports.flat_map(|transport| {
        USUAL.into_iter().flat_map(move |(way, codes)| codes.iter().map(move |code| ((transport, way, *code), 0)))
    });
    let mut series: BTreeMap<_, u64> = usual.collect();
    for total in totals {
        *series.entry((total.transport, total.way, total.rcode)).or_default() += total.count;
    }
    let help = "DNS queries answered, by transport, route and response code.";
    series.into_iter().fold(counter("sidegate_dns_queries_total", help), |family, ((transport, way, rcode), count)| {
        family.with([("transport", transport.label()), ("route", way.label()), ("rcode", rcode)], count)
    })
}

fn cache(resolver: &Resolver, totals: &[Total]) -> [Family; 7] {
    let (entries, bytes) = resolver.cache().usage();
    let by_route = |name, help, found: Found| {
        CACHED.into_iter().fold(counter(name, help), |family, way| {
            let counts = totals.iter().filter(|total| total.way == way && total.found == found);
            family.with([("route", way.label())], counts.map(|total| total.count).sum::<u64>())
        })
    };
    [
        by_route("sidegate_dns_cache_hits_total", "Queries answered from the cache.", Found::Cached),
        by_route("sidegate_dns_cache_stale_total", "Queries answered from the cache after its time.", Found::Stale),
        by_route("sidegate_dns_cache_misses_total", "Queries that had to be asked upstream.", Found::Asked),
        gauge("sidegate_dns_cache_entries", "Answers in the cache.").with([], entries),
        gauge("sidegate_dns_cache_bytes", "Bytes the cache takes.").with([], bytes),
        gauge("sidegate_dns_cache_max_bytes", "Bytes the cache may take.").with([], resolver.cache().max_bytes()),
        counter("sidegate_dns_cache_evictions_total", "Answers that left the cache for want of room.")
            .with([], read(&resolver.counters().evicted)),
    ]
}

fn under_way(resolver: &Resolver, counters: &Counters) -> [Family; 5] {
    let beneath = resolver.counters();
    let waited = histogram(
        "sidegate_dns_answer_duration_seconds",
        "Time until the answer of queries that had to be asked upstream.",
    );
    let drops = [
        ("waiting", &counters.shed),
        ("waiting_of_client", &counters.greedy),
        ("questions", &beneath.at_bound),
        ("loop", &counters.looped),
        ("no_query", &counters.ignored),
        ("tcp_evicted", &counters.evicted),
        ("tls_handshake", &counters.handshakes_failed),
        ("https_taken_back", &counters.taken_back),
        ("tcp_not_permitted", &counters.foreign),
        ("tcp_accept", &counters.accept_errors),
    ];
    [
        counters
            .waited
            .iter()
            .fold(waited, |family, (way, waited)| family.with_durations([("group", way.label())], &waited.read())),
        gauge("sidegate_dns_questions_in_flight", "Questions that upstream servers are being asked.")
            .with([], resolver.in_flight()),
        counter("sidegate_dns_questions_coalesced_total", "Questions that joined an equal one in flight.")
            .with([], read(&beneath.coalesced)),
        gauge("sidegate_dns_tcp_connections", "TCP connections of clients.").with([], counters.connections.open()),
        drops.into_iter().fold(
            counter(
                "sidegate_dns_drops_total",
                "Queries and connections turned away or closed, by the bound they met.",
            ),
            |family, (reason, count)| family.with([("reason", reason)], read(count)),
        ),
    ]
}

fn servers(servers: &[ServerRecord]) -> [Family; 3] {
    let results = counter("sidegate_dns_upstream_results_total", "What came of questions to each upstream server.");
    let latency = gauge("sidegate_dns_upstream_latency_seconds", "Smoothed time to an answer of each upstream server.");
    let failures =
        gauge("sidegate_dns_upstream_failures_in_row", "Failures in a row of each upstream server, up to 16.");
    servers.iter().fold([results, latency, failures], |[mut results, mut latency, failures], record| {
        let labels = [("group", &*record.group), ("server", &*record.server)];
        let [group, server] = labels;
        for (result, count) in record.results {
            results = results.with([group, server, ("result", result)], count);
        }
        if let Some(smoothed) = record.smoothed {
            latency = latency.with(labels, smoothed.as_secs_f64());
        }
        [results, latency, failures.with(labels, record.failures)]
    })
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
